"""What tests use to call both clients in one way, and to wait for what threads do."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Self

import anyio
import httpx
import pytest
import trio

from mixpeek_batches import AsyncClient, CancelResult, Client, TaskResponse

PAIRS = [("bkt_1", str(number)) for number in range(5)]
each_driver = pytest.mark.parametrize("driver", ["threads", "asyncio", "trio"])
each_loop = pytest.mark.parametrize("driver", ["asyncio", "trio"])


class Caller:
    """Makes a Client or an AsyncClient, and calls either as if it were the synchronous one.

    Leaving its block closes everything, and fails if a thread or a task of the client is left.

    Args:
        kind: The class to make.
        http_options: Arguments for an httpx client that the client is to send with.
        options: Arguments for the client.
    """

    def __init__(
        self, kind: type[Client | AsyncClient], *, http_options: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.http: httpx.Client | httpx.AsyncClient | None = None
        if http_options is not None:
            self.http = (httpx.Client if kind is Client else httpx.AsyncClient)(**http_options)
            options["http_client"] = self.http
        self.client = kind(**options)
        self._runner = asyncio.Runner()

    def cancel_batch(self, *args: Any, **options: Any) -> TaskResponse:
        task: TaskResponse = self.finish(self.client.cancel_batch(*args, **options))
        return task

    def cancel_batches(self, pairs: Iterable[Any], **options: Any) -> Generator[CancelResult]:
        results = self.client.cancel_batches(pairs, **options)
        return results if isinstance(results, Generator) else self._iterate(results)

    def _iterate(self, results: Any) -> Generator[CancelResult]:
        try:
            while (result := self.finish(anext(results, None))) is not None:
                yield result
        finally:
            self.finish(results.aclose())

    def sleep(self, seconds: float) -> None:
        """Sleep, in the event loop if there is one."""
        time.sleep(seconds) if isinstance(self.client, Client) else self.finish(asyncio.sleep(seconds))

    def close(self) -> None:
        self.finish(self.client.close())

    def close_http(self) -> None:
        if self.http is not None:
            self.finish((self.http.close if isinstance(self.http, httpx.Client) else self.http.aclose)())

    def use_new_loop(self) -> None:
        """Leave the event loop alone, which a forked child shares with its parent, and use another."""
        self._loop_of_parent, self._runner = self._runner, asyncio.Runner()

    def finish(self, result: Any) -> Any:
        """Await what can be awaited, in the event loop; return anything else as it is."""

        async def wait() -> Any:
            return await result

        return self._runner.run(wait()) if inspect.isawaitable(result) else result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.close_http()
        if isinstance(self.client, Client):
            wait_until(lambda: not our_threads())
        else:  # the loop closes generators that are left in tasks of its own
            self.finish(wait_in_loop_until(lambda: len(asyncio.all_tasks()) == 1))
        self._runner.close()


def run(driver: str, call: Callable[[Any], Any], *, http: dict[str, Any] | None = None, **options: Any) -> Any:
    """Call a function with a Client, or with an AsyncClient in an event loop of asyncio or trio; return the result.

    Args:
        driver: "threads", "asyncio" or "trio".
        call: The function; with an AsyncClient it returns an awaitable.
        http: Arguments for an httpx client that the client is to send with.
        options: Arguments for the client.
    """
    options = {"api_key": "sk_test", **options}
    if driver == "threads":
        with contextlib.ExitStack() as stack:
            if http is not None:
                options["http_client"] = stack.enter_context(httpx.Client(**http))
            return call(stack.enter_context(Client(**options)))

    async def main() -> Any:
        async with contextlib.AsyncExitStack() as stack:
            if http is not None:
                options["http_client"] = await stack.enter_async_context(httpx.AsyncClient(**http))
            return await call(await stack.enter_async_context(AsyncClient(**options)))

    return trio.run(main) if driver == "trio" else asyncio.run(main())


def single(client: Any) -> Any:
    """Cancel one batch."""
    return client.cancel_batch("bkt_1", "0")


def many(client: Any, pairs: Iterable[Any] = PAIRS) -> Any:
    """Cancel many batches, and return the tasks or raise the first error."""
    if isinstance(client, Client):
        return [result.unwrap() for result in client.cancel_batches(pairs)]

    async def iterate() -> list[TaskResponse]:
        async with contextlib.aclosing(client.cancel_batches(pairs)) as results:
            return [result.unwrap() async for result in results]

    return iterate()


def our_threads() -> list[str]:
    """Return the names of the running threads of cancel_batches."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mixpeek-batches")]


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition is true."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, f"it did not become true in {seconds:g} s"
        time.sleep(0.01)


async def wait_in_loop_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition is true, while other tasks go on."""
    with anyio.fail_after(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for happens in threads
            await anyio.sleep(0.01)


@contextlib.contextmanager
def when(ready: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Within the block, act in another thread as soon as a condition is true."""

    def wait_and_act() -> None:
        wait_until(ready)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def call_while(client: Any, call: Callable[[Any], Any], ready: Callable[[], bool], act: Callable[[], Any]) -> Any:
    """Call a function with a client; act in another thread or task as soon as a condition is true."""
    if isinstance(client, Client):
        with when(ready, act):
            return call(client)

    async def wait_and_act() -> None:
        await wait_in_loop_until(ready)
        await act()

    async def both() -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_and_act)
            try:
                return await call(client)
            except Exception as error:
                outcome = error
        raise outcome  # out here, where no task group puts it into an ExceptionGroup

    return both()
