"""The scheduler's two drivers, threads and the tasks of an event loop: they send, wait and yield results."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import math
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from ._scheduler import Job, Scheduler, Step
from ._settings import CLOSED
from ._transports import InFlight
from .errors import APIConnectionError, ConfigurationError, MixpeekError
from .results import CancelResult

if TYPE_CHECKING:
    import anyio
    import anyio.abc
    import httpx
    from mixpeek_batches_api.models import TaskResponse


Outcome = tuple["TaskResponse | MixpeekError", int]
"""How an attempt ended, and how many requests it sent."""

_END = object()
# Seconds to wait for threads; one that is blocked in the user's httpx client ends later, and is a daemon.
_JOIN_TIMEOUT = 1.0


class _Run:
    """Behaviour shared by both drivers.

    Args:
        namespace: The namespace of pairs that name none.
        scheduler: Decides what to do next.
        make_request: Makes the request that cancels a batch, given its bucket, identifier and namespace.
        runs: The active runs of the client, which closes them; the run adds and removes itself.
    """

    def __init__(
        self,
        namespace: str | None,
        scheduler: Scheduler,
        make_request: Callable[[str, str, str | None], httpx.Request],
        runs: set[Any],
    ) -> None:
        self.scheduler = scheduler
        self._namespace = namespace
        self._make_request = make_request
        self._runs = runs
        self._failure: BaseException | None = None  # of `pairs`
        self._closed = False
        self._stop_at = math.inf
        self._pid = 0  # of the process in which it runs, once it does

    @property
    def _forked(self) -> bool:
        """Whether this is a forked child's copy, which has none of the threads and must not touch the sockets."""
        return self._pid not in {0, os.getpid()}

    def stop(self, seconds: float) -> None:
        """Send nothing more, and allow what is in flight some seconds to finish.

        Safe to call from any thread and from a signal handler. Whatever is unfinished by then gets a result whose error
        says that its outcome is unknown.
        """
        self._stop_at = time.monotonic() + seconds
        self.scheduler.stop()

    def _fetched(self, pair: Any) -> None:
        if pair is _END:
            self.scheduler.exhausted()
            return
        if not isinstance(pair, tuple | list) or len(pair) not in {2, 3}:
            error = ConfigurationError(f"A pair of bucket_identifier and batch_id is needed, not {pair!r:.100}.")
            self.scheduler.refuse(Job("", ""), error)
            return
        namespace = pair[2] if len(pair) == 3 and pair[2] is not None else self._namespace
        job = Job(pair[0], pair[1], namespace)
        try:
            job.request = self._make_request(job.bucket_identifier, job.batch_id, namespace)
        except ConfigurationError as error:
            self.scheduler.refuse(job, error)
        else:
            self.scheduler.add(job)

    def _ended(self, job: Job, outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, BaseException):
            raise outcome
        job.attempts += outcome[1] - 1
        if self._closed and isinstance(outcome[0], APIConnectionError):
            return  # it was the closing that ended it
        self.scheduler.finished(job, outcome[0], time.monotonic())

    def _next_step(self) -> CancelResult | Job | Step:
        if self._forked:
            raise ConfigurationError("This generator belongs to the process that was forked: make a new one.")
        step = self.scheduler.next_step(time.monotonic())
        if isinstance(step, CancelResult):
            return step
        if self._closed:
            raise ConfigurationError(CLOSED)
        if step is Step.WAIT and time.monotonic() >= self._stop_at:
            return self.scheduler.abandon(
                APIConnectionError("Interrupted before the server responded: the batch may or may not be cancelled.")
            )
        if step is Step.DONE and self._failure is not None:
            raise self._failure
        return step

    def _wait_until(self) -> float:
        return min(self.scheduler.wake_at, self._stop_at)


_thread_runs: weakref.WeakSet[ThreadRun] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End abandoned runs before the interpreter stops their threads, which gevent's threads do not survive."""
    for run in list(_thread_runs):
        run.end()


class ThreadRun(_Run):
    """A run in threads: as many as requests have been in flight at once.

    Args:
        pairs: The batches to cancel.
        namespace: See _Run.
        scheduler: See _Run.
        make_request: See _Run.
        send: Sends a request and waits for the outcome.
        runs: See _Run.
    """

    def __init__(
        self,
        pairs: Iterable[Any],
        namespace: str | None,
        scheduler: Scheduler,
        make_request: Callable[[str, str, str | None], httpx.Request],
        send: Callable[[httpx.Request], Outcome],
        runs: set[ThreadRun],
    ) -> None:
        super().__init__(namespace, scheduler, make_request, runs)
        self._pairs = pairs
        self._send = send
        self.in_flight = InFlight()
        self._todo: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # None wakes the waiting thread. SimpleQueue is reentrant, so a signal handler may use it.
        self._outcomes: queue.SimpleQueue[tuple[Job, Outcome | BaseException] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._over = False

    def stop(self, seconds: float) -> None:
        """See _Run."""
        super().stop(seconds)
        self._outcomes.put(None)

    def close(self) -> None:
        """End the run because its client was closed."""
        self._closed = True
        self.end()

    def end(self) -> bool:
        """Send nothing more, abort what is in flight and let the threads end; return whether the run was active."""
        if self._over or self._forked:
            return False
        self._over = True
        self._todo.put(None)
        self.in_flight.abort()
        self._outcomes.put(None)
        return True

    def results(self) -> Generator[CancelResult]:
        """Send, and yield results as they arrive."""
        if self._closed:
            raise ConfigurationError(CLOSED)
        pairs = iter(self._pairs)
        self._pid = os.getpid()
        self._runs.add(self)
        _thread_runs.add(self)
        try:
            while True:
                while not self._outcomes.empty():
                    self._receive(0)
                step = self._next_step()
                if isinstance(step, CancelResult):
                    yield step
                elif isinstance(step, Job):
                    self._start(step)
                elif step is Step.FETCH:
                    try:
                        pair = next(pairs, _END)
                    except Exception as error:  # raised once all that came before has ended
                        self._failure, pair = error, _END
                    self._fetched(pair)
                elif step is Step.WAIT:
                    self._receive(self._wait_until() - time.monotonic())
                else:
                    return
        finally:
            self._runs.discard(self)
            if self.end():
                give_up = time.monotonic() + _JOIN_TIMEOUT
                for thread in self._threads:
                    if thread.ident != threading.get_ident():
                        thread.join(max(0.0, give_up - time.monotonic()))

    def _start(self, job: Job) -> None:
        if self.scheduler.in_flight > len(self._threads):
            # Each in a copy of the context, for those who keep a trace or a tenant in it.
            work = contextvars.copy_context().run
            thread = threading.Thread(target=work, args=(self._work,), name="mixpeek-batches", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
            except RuntimeError:  # the system has no more threads
                if not self._threads:
                    raise
        self._todo.put(job)

    def _work(self) -> None:
        while (job := self._todo.get()) is not None and not self._over:
            assert job.request is not None
            try:
                outcome: Outcome | BaseException = self._send(job.request)
            except BaseException as error:  # a bug in a hook of the user's; raised where the results are read
                outcome = error
            self._outcomes.put((job, outcome))
        self._todo.put(None)  # for the next one

    def _receive(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            # In steps of a second, since Ctrl-C does not end the wait for a lock everywhere.
            item = self._outcomes.get(timeout=min(max(seconds, 0.0), 1.0))
            if item is not None:
                self._ended(*item)


class Attempt:
    """The attempt that one task of a run is making, if any.

    Attributes:
        deadline: When it is to end, on the clock of the event loop.
        sent: How many requests it has sent.
    """

    deadline = math.inf
    sent = 1


class AsyncRun(_Run):
    """A run in the tasks of an event loop.

    The tasks belong to one of their own, and not to the generator: cancel scopes must not be open across a `yield`,
    since whoever uses the generator may close it in another task, or leave its own scopes in another order.

    Args:
        pairs: The batches to cancel.
        namespace: See _Run.
        scheduler: See _Run.
        make_request: See _Run.
        send: Sends a request and waits for the outcome.
        runs: See _Run.
        timeout: Seconds until an attempt is ended.
        timed_out: Makes the error of an attempt that the deadline ended.
    """

    def __init__(
        self,
        pairs: Iterable[Any] | AsyncIterable[Any],
        namespace: str | None,
        scheduler: Scheduler,
        make_request: Callable[[str, str, str | None], httpx.Request],
        send: Callable[[httpx.Request, Attempt], Awaitable[Outcome]],
        runs: set[AsyncRun],
        timeout: float,
        timed_out: Callable[[httpx.Request], MixpeekError],
    ) -> None:
        super().__init__(namespace, scheduler, make_request, runs)
        self._pairs = pairs
        self._send = send
        self._timeout = timeout
        self._timed_out = timed_out
        self._attempts: dict[Attempt, anyio.CancelScope] = {}
        self._todo: deque[Job] = deque()
        self._idle: list[anyio.Event] = []  # of the tasks that wait for a job
        self._outcomes: deque[tuple[Job, Outcome | BaseException]] = deque()
        self._pairs_fetched: deque[Any] = deque()
        self._wake: anyio.Event
        self._wanted: anyio.Event
        self._tasks: anyio.abc.TaskGroup | None = None
        self._over = False

    def close(self) -> None:
        """End the run because its client was closed."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        self._over = True
        if self._tasks is not None and not self._forked:
            self._tasks.cancel_scope.cancel()
            self._wake.set()

    async def results(self) -> AsyncGenerator[CancelResult]:
        """Send, and yield results as they arrive."""
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        if self._closed:
            raise ConfigurationError(CLOSED)
        pairs = None if isinstance(self._pairs, AsyncIterable) else iter(self._pairs)
        self._new_event = type(anyio.Event())  # the kind of this event loop, which anyio would look up each time
        self._wake, self._wanted = anyio.Event(), anyio.Event()
        started, ended = anyio.Event(), anyio.Event()
        supervisor = await _start_task(self._supervise, started, ended)
        self._pid = os.getpid()
        self._runs.add(self)
        try:
            await started.wait()
            assert self._tasks is not None
            if isinstance(self._pairs, AsyncIterable) and not self._over:
                self._tasks.start_soon(self._feed, aiter(self._pairs))
            while True:
                while self._outcomes:
                    self._ended(*self._outcomes.popleft())
                while self._pairs_fetched:
                    self._fetched(self._pairs_fetched.popleft())
                step = self._next_step()
                if isinstance(step, CancelResult):
                    yield step
                elif isinstance(step, Job):
                    self._start(step)
                elif step is Step.FETCH:
                    if pairs is None:
                        self._wanted.set()
                        continue
                    try:
                        pair = next(pairs, _END)
                    except Exception as error:  # raised once all that came before has ended
                        self._failure, pair = error, _END
                    self._fetched(pair)
                elif step is Step.WAIT:
                    await self._receive()
                else:
                    return
        finally:
            self._end()
            self._runs.discard(self)
            if not self._forked:
                with anyio.CancelScope(shield=True):
                    await ended.wait()
            del supervisor

    async def _supervise(self, started: anyio.Event, ended: anyio.Event) -> None:
        """Hold the tasks, and end attempts at their deadlines: a scope and a timer for each would cost a lot."""
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        try:
            async with anyio.create_task_group() as self._tasks:
                started.set()
                while not self._over:
                    now = anyio.current_time()
                    for attempt, scope in self._attempts.items():
                        if attempt.deadline <= now:
                            attempt.deadline = math.inf
                            scope.cancel()
                    soonest = min((attempt.deadline for attempt in self._attempts), default=math.inf)
                    await anyio.sleep(min(self._timeout, soonest - now))
        finally:
            ended.set()

    def _start(self, job: Job) -> None:
        assert self._tasks is not None
        self._todo.append(job)
        if self._idle:
            self._idle.pop().set()
        else:
            self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        """Send one job after another, in a cancel scope that lasts until the deadline of one of them ends it."""
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        while True:
            attempt, job = Attempt(), None
            failure: BaseException | None = None
            try:
                with anyio.CancelScope() as scope:
                    self._attempts[attempt] = scope
                    while not scope.cancel_called:  # else it would end the next attempt as well
                        while not self._todo:
                            wake = self._new_event()
                            self._idle.append(wake)
                            await wake.wait()
                        job = self._todo.popleft()
                        assert job.request is not None
                        attempt.deadline, attempt.sent = anyio.current_time() + self._timeout, 1
                        outcome = await self._send(job.request, attempt)
                        attempt.deadline = math.inf
                        self._finish(job, outcome)
                        job = None
            except BaseException as error:  # a bug in a hook of the user's, or a task of theirs was cancelled
                if self._over:
                    return
                if job is None:
                    raise
                failure = error  # raised where the results are read
            del self._attempts[attempt]
            if job is not None:
                assert job.request is not None
                self._finish(job, failure or (self._timed_out(job.request), attempt.sent))

    def _finish(self, job: Job, outcome: Outcome | BaseException) -> None:
        self._outcomes.append((job, outcome))
        self._wake.set()

    async def _feed(self, pairs: AsyncIterator[Any]) -> None:
        """Advance asynchronous pairs, always in this task, because they may hold cancel scopes of their own."""
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        pair = None
        while pair is not _END:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            try:
                pair = await anext(pairs, _END)
            except BaseException as error:  # raised once all that came before has ended
                self._failure, pair = error, _END
            self._pairs_fetched.append(pair)
            self._wake.set()

    async def _receive(self) -> None:
        """Wait for an outcome or a pair, or until the scheduler wants to be asked again."""
        if not (self._outcomes or self._pairs_fetched or self._closed):
            self._wake = self._new_event()
            until = self._wait_until()
            if until == math.inf:
                await self._wake.wait()
            else:
                import anyio  # noqa: PLC0415 - a program without an event loop need not load it

                with anyio.move_on_after(max(0.0, until - time.monotonic())):
                    await self._wake.wait()


async def _start_task(run: Callable[..., Any], *args: Any) -> object:
    """Start a task outside any task group, and return an object that keeps it alive."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.spawn_system_task(run, *args, context=contextvars.copy_context())
    import asyncio  # noqa: PLC0415 - not under trio

    return asyncio.get_running_loop().create_task(run(*args))
