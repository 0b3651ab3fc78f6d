"""The ways by which many batches are cancelled, each called as if it were the same."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import trio

from mixpeek_batches import AsyncClient, CancelResult, Client

KINDS = ["threads", "given", "async", "async-given"]
OWN_KINDS = ["threads", "async"]


class Bulk:
    """Cancels many batches in one of the ways.

    Args:
        kind: The way: a Client, or an AsyncClient (in asyncio or in trio), over transports of their own or with an
            httpx client of the user's.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_trio = kind == "trio"
        self.is_async = kind.startswith("async") or self.is_trio
        self.is_given = kind.endswith("given")

    def run(
        self,
        url: str,
        pairs: Any,
        consume: Callable[[CancelResult], object] = lambda _: None,
        *,
        concurrency: int = 16,
        namespace: str | None = None,
        http_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[CancelResult]:
        """Cancel batches, hand each result to `consume` until that says that it is enough, and give the results."""
        options = {"api_key": "sk_test", "base_url": url, **options}
        seen: list[CancelResult] = []
        if not self.is_async:
            if self.is_given:
                options["http_client"] = http = httpx.Client(**http_options or {})
            with contextlib.ExitStack() as stack:
                if self.is_given:
                    stack.enter_context(http)
                client = stack.enter_context(Client(**options))
                results = client.cancel_batches(pairs, concurrency=concurrency, namespace=namespace)
                for result in stack.enter_context(contextlib.closing(results)):
                    seen.append(result)
                    if consume(result):
                        break
            return seen

        async def run() -> None:
            async with contextlib.AsyncExitStack() as stack:
                if self.is_given:
                    http = await stack.enter_async_context(httpx.AsyncClient(**http_options or {}))
                    options["http_client"] = http
                client = await stack.enter_async_context(AsyncClient(**options))
                results = client.cancel_batches(pairs, concurrency=concurrency, namespace=namespace)
                async for result in await stack.enter_async_context(contextlib.aclosing(results)):
                    seen.append(result)
                    if consume(result):
                        break
            if self.is_trio:
                return  # which looks after its tasks by itself
            for _ in range(100):  # the loop closes generators that were left by tasks of its own
                if asyncio.all_tasks() == {asyncio.current_task()}:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError(asyncio.all_tasks())

        trio.run(run) if self.is_trio else asyncio.run(run())
        return seen

    def one(self, url: str, **options: Any) -> CancelResult:
        """Cancel one batch in one attempt."""
        (result,) = self.run(url, [("bkt_1", "btch_1")], concurrency=1, **{"max_retries": 0, **options})
        return result

    def error(self, url: str, **options: Any) -> Any:
        """Give the error that cancelling one batch in one attempt ends in."""
        error = self.one(url, **options).error
        assert error is not None
        return error


def our_threads() -> list[str]:
    """Name the threads of cancel_batches that are running."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mixpeek-batches")]


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is true."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, f"it did not become true in {seconds:g} s"
        time.sleep(0.01)
