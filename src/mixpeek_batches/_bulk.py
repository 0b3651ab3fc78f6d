"""Many batches at once: a stream of pairs in, a stream of results out, and no more in memory than is under way."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from ._results import CancelResult, Gate, Halt, Pair, StoppedError
from .errors import ConfigurationError, MixpeekError

if TYPE_CHECKING:
    from mixpeek_batches_api.models import TaskResponse

_READ_AHEAD = 256  # pairs that a feeding thread may be ahead
_PATIENCE = 1.0  # seconds for threads to end; one that a source or somebody else's httpx client blocks ends later


def read(pair: Any) -> tuple[str, str, str | None]:
    """Take a pair apart.

    Raises:
        ConfigurationError: It is no pair.
    """
    if not isinstance(pair, tuple | list) or len(pair) not in {2, 3}:
        raise ConfigurationError(f"A pair of bucket_identifier and batch_id is needed, not {pair!r:.100}.")
    return pair[0], pair[1], pair[2] if len(pair) == 3 else None


def _malformed(error: ConfigurationError) -> CancelResult:
    return CancelResult(bucket_identifier="", batch_id="", error=error)


AsyncCancel = Callable[[str, str, str | None], Awaitable["TaskResponse"]]
Cancel = Callable[[str, str, str | None], "TaskResponse"]


async def each(
    pairs: Iterable[Pair] | AsyncIterable[Pair],
    cancels: list[AsyncCancel],
    late: Callable[[CancelResult], None] | None = None,
) -> AsyncGenerator[CancelResult]:
    """Cancel each batch of a stream, as many at a time as there are functions to do it, and give results as they end.

    Args:
        pairs: The batches. An iterable that is no list or tuple is advanced in a thread of its own, since it may block.
        cancels: A function for each worker.
        late: Gets what had ended when nobody wanted more results.

    Raises:
        Exception: What `pairs` raised, after all that came before it has ended.
    """
    source: AsyncIterator[Pair] = aiter(pairs) if isinstance(pairs, AsyncIterable) else _fed(pairs)
    results: asyncio.Queue[CancelResult | None] = asyncio.Queue()
    slots = asyncio.Semaphore(2 * len(cancels))  # no worker runs ahead of a slow reader, nor holds back what is done
    turn = asyncio.Lock()
    ended = False

    async def work(cancel: AsyncCancel) -> None:
        nonlocal ended
        while True:
            await slots.acquire()
            async with turn:
                if ended:
                    return
                try:
                    pair = await anext(source)
                except BaseException as error:
                    ended = True
                    if isinstance(error, StopAsyncIteration):
                        return
                    raise
            results.put_nowait(await _result(cancel, pair))

    async def finish() -> None:
        try:
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
        finally:
            results.put_nowait(None)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    workers = [asyncio.create_task(work(cancel)) for cancel in cancels]
    finisher = asyncio.create_task(finish())
    try:
        while (result := await results.get()) is not None:
            slots.release()
            yield result
        await finisher
    finally:
        for task in (finisher, *workers):
            task.cancel()
        await asyncio.gather(finisher, *workers, return_exceptions=True)
        if isinstance(source, AsyncGenerator):
            await source.aclose()
        while late is not None and not results.empty():
            result = results.get_nowait()
            if result is not None:
                late(result)


async def _result(cancel: AsyncCancel, pair: Pair) -> CancelResult:
    try:
        bucket, batch, namespace = read(pair)
    except ConfigurationError as error:
        return _malformed(error)
    try:
        task = await cancel(bucket, batch, namespace)
    except MixpeekError as error:
        return CancelResult(bucket_identifier=bucket, batch_id=batch, namespace=namespace, error=error)
    return CancelResult(bucket_identifier=bucket, batch_id=batch, namespace=namespace, task=task)


async def _fed(pairs: Iterable[Pair]) -> AsyncGenerator[Pair]:
    """Advance an iterable without keeping the event loop waiting for it."""
    if isinstance(pairs, list | tuple):
        for pair in pairs:
            yield pair
        return
    loop = asyncio.get_running_loop()
    buffer: deque[Any] = deque()
    room, wake, end = threading.Semaphore(_READ_AHEAD), asyncio.Event(), object()
    stopped = waiting = False

    def put(item: Any) -> None:
        buffer.append(item)
        if waiting:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(wake.set)

    def feed() -> None:
        failure: BaseException | None = None
        try:
            for pair in pairs:
                room.acquire()
                if stopped:
                    return
                put((pair, None))
        except BaseException as error:  # it is raised where the pairs are used
            failure = error
        put((end, failure))

    threading.Thread(target=feed, name="mixpeek-batches-feed", daemon=True).start()
    try:
        while True:
            while not buffer:
                wake.clear()
                waiting = True
                if not buffer:
                    await wake.wait()
                waiting = False
            pair, failure = buffer.popleft()
            if failure is not None:
                raise failure
            if pair is end:
                return
            room.release()
            yield pair
    finally:
        stopped = True
        room.release()


def each_in_threads(
    pairs: Iterable[Pair], cancels: list[Cancel], gate: Gate, halt: Halt | None = None
) -> Generator[CancelResult]:
    """Cancel each batch of a stream in threads, one for each function, and give results as they end.

    Args:
        pairs: The batches. They are advanced in one more thread, since they may block.
        cancels: A function for each thread.
        gate: What the functions wait at; it is closed for good when nobody wants more results.
        halt: Ends the work early.

    Raises:
        Exception: What `pairs` raised, after all that came before it has ended.
    """
    # No locks but those of these queues, which a signal's handler may use while this thread does too.
    todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room: queue.SimpleQueue[None] = queue.SimpleQueue()  # the source does not run ahead of a slow reader
    end, halted = object(), object()
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            for pair in pairs:
                room.get()
                if gate.stop.is_set():
                    return
                todo.put(pair)
        except BaseException as error:  # it is raised where the results are read
            failures.append(error)
        for _ in cancels:
            todo.put(end)

    def work(cancel: Cancel) -> None:
        try:
            while (pair := todo.get()) is not end and not gate.stop.is_set():
                results.put(_result_here(cancel, pair, gate))
        except StoppedError:
            pass
        except BaseException as error:
            failures.append(error)
        results.put(end)

    def stop() -> None:
        gate.stop.set()
        room.put(None)
        for _ in cancels:
            todo.put(end)

    if halt is not None:
        halt.add(lambda: results.put(halted))
    for _ in range(2 * len(cancels)):
        room.put(None)
    threads = [
        threading.Thread(target=feed, name="mixpeek-batches-feed", daemon=True),
        *(threading.Thread(target=work, args=(cancel,), name="mixpeek-batches", daemon=True) for cancel in cancels),
    ]
    for thread in threads:
        thread.start()
    working = len(cancels)
    try:
        while working:
            item = results.get()
            if item is end:
                working -= 1
            elif item is halted:
                stop()
            else:
                room.put(None)
                yield item
    finally:
        stop()
        _join(threads)
    if failures:
        raise failures[0]


def _join(threads: list[threading.Thread]) -> None:
    give_up = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))


def _result_here(cancel: Cancel, pair: Pair, gate: Gate) -> CancelResult:
    try:
        bucket, batch, namespace = read(pair)
    except ConfigurationError as error:
        return _malformed(error)
    try:
        task = cancel(bucket, batch, namespace)
    except MixpeekError as error:
        if gate.stop.is_set():
            raise StoppedError from None  # it may have failed because it was stopped
        return CancelResult(bucket_identifier=bucket, batch_id=batch, namespace=namespace, error=error)
    return CancelResult(bucket_identifier=bucket, batch_id=batch, namespace=namespace, task=task)


def each_in_loop(
    start: Callable[[Callable[[CancelResult], None]], AsyncGenerator[CancelResult]],
    limit: int,
    halt: Halt | None = None,
) -> Generator[CancelResult]:
    """Give the results of an asynchronous generator that runs in a thread with an event loop of its own.

    Args:
        start: Makes the generator; it is handed what to call with results that are there when it is cancelled.
        limit: How many results may wait to be read.
        halt: Ends the work early.
    """
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    end = object()
    ending = Halt()
    if halt is not None:
        halt.add(ending.set)

    async def run() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(lambda: task and task.cancel())

        generator = start(results.put)
        try:
            ending.add(cancel)
            async for result in generator:
                results.put(result)
                while results.qsize() >= limit:  # noqa: ASYNC110 - what empties it is another thread
                    await asyncio.sleep(0.002)
        finally:
            await generator.aclose()

    def work() -> None:
        failure: BaseException | None = None
        try:
            asyncio.run(run())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # it is raised where the results are read
            failure = error
        results.put((end, failure))

    thread = threading.Thread(target=work, name="mixpeek-batches")
    thread.start()
    try:
        while not isinstance(item := results.get(), tuple):
            yield item
    finally:
        ending.set()
        thread.join()
    if item[1] is not None:
        raise item[1]
