"""Fixtures that several test files share."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import httpx
import pytest
import trustme

from mixpeek_batches import AsyncClient, Client, MixpeekError, TaskResponse


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings, or the proxy, of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("MIXPEEK_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Caller:
    """Makes either client, and calls it as if it were the synchronous one.

    Args:
        kind: The class to make.
        http_options: What to make a httpx client with, for the client to send with. It is closed with the block.
        options: What to make the client with.
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
        task: TaskResponse = self.finished(self.client.cancel_batch(*args, **options))
        return task

    def close(self) -> None:
        self.finished(self.client.close())

    def close_http(self) -> None:
        if self.http is not None:
            self.finished((self.http.close if isinstance(self.http, httpx.Client) else self.http.aclose)())

    def finished(self, result: Any) -> Any:
        """Run what a method gave, if it has yet to be run."""
        return self._runner.run(result) if inspect.iscoroutine(result) else result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.close_http()
        self._runner.close()


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> type[Client | AsyncClient]:
    """Run the test with the one client and with the other."""
    client: type[Client | AsyncClient] = request.param
    return client


@pytest.fixture(scope="session")
def one_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of trusted authorities with only one in it, which takes a hundredth of the time to load."""
    path = tmp_path_factory.mktemp("tls") / "root.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def connect(kind: type[Client | AsyncClient], one_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Caller]:
    """Give a function that makes a client, for use in a `with` block, from a base URL and options."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_root))

    def connect(base_url: str | None = None, **options: Any) -> Caller:
        return Caller(kind, base_url=base_url, **{"api_key": "sk_test", **options})

    return connect


@pytest.fixture
def cancel(connect: Callable[..., Caller]) -> Callable[..., TaskResponse]:
    """Give a function that makes a client, cancels one batch with it, and closes it."""

    def cancel(base_url: str | None = None, **options: Any) -> TaskResponse:
        with connect(base_url, **{"max_retries": 0, **options}) as client:
            return client.cancel_batch("bkt_1", "btch_1")

    return cancel


@pytest.fixture
def failure(cancel: Callable[..., TaskResponse]) -> Callable[..., Any]:
    """Give a function that does what `cancel` does, and gives the error that this raises."""

    def failure(base_url: str | None = None, **options: Any) -> MixpeekError:
        with pytest.raises(MixpeekError) as caught:
            cancel(base_url, **options)
        return caught.value

    return failure


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make no single call wait before a retry, and give the list of how long it would have waited."""
    seconds: list[float] = []

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            seconds.append(timeout)
            return self.is_set()

    async def closing(self: AsyncClient, wait: float) -> bool:
        seconds.append(wait)
        return self._pool.closed

    monkeypatch.setattr("mixpeek_batches.client.threading", SimpleNamespace(Event=Closing))
    monkeypatch.setattr(AsyncClient, "_closing", closing)
    return seconds
