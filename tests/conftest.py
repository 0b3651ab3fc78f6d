"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from bulk import Caller
from hypothesis import HealthCheck, settings

from mixpeek_batches import AsyncClient, Client, MixpeekError, TaskResponse

# Fixtures of a function are fine for properties here: an example leaves nothing behind that the next one would meet.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("tests")

# A shell without job control starts its background jobs with SIGINT ignored, and every child process inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings and the proxy of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("MIXPEEK_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> type[Client | AsyncClient]:
    """Run the test with each client."""
    client: type[Client | AsyncClient] = request.param
    return client


@pytest.fixture(scope="session")
def one_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a certificate file with a single authority, which loads a hundred times faster than the system's."""
    path = tmp_path_factory.mktemp("tls") / "root.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def connect(kind: type[Client | AsyncClient], one_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Caller]:
    """Return a function that makes a Caller from a base URL and options, for use in a `with` block."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_root))

    def connect(base_url: str | None = None, **options: Any) -> Caller:
        return Caller(kind, base_url=base_url, **{"api_key": "sk_test", **options})

    return connect


@pytest.fixture
def cancel(connect: Callable[..., Caller]) -> Callable[..., TaskResponse]:
    """Return a function that makes a client, cancels one batch with it, and closes it."""

    def cancel(base_url: str | None = None, **options: Any) -> TaskResponse:
        with connect(base_url, **{"max_retries": 0, **options}) as client:
            return client.cancel_batch("bkt_1", "btch_1")

    return cancel


@pytest.fixture
def failure(cancel: Callable[..., TaskResponse]) -> Callable[..., Any]:
    """Return a function that does what `cancel` does, and returns the error that this raises."""

    def failure(base_url: str | None = None, **options: Any) -> MixpeekError:
        with pytest.raises(MixpeekError) as caught:
            cancel(base_url, **options)
        return caught.value

    return failure


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Keep single calls from waiting before a retry; return the list of how long they would have waited."""
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
