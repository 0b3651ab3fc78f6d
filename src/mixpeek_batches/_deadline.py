"""One deadline over all the network operations of a synchronous attempt.

httpx bounds each single read or write, so that a peer that sends a byte now and then keeps a call open for ever. Here
every operation gets no more than what is left of the attempt's time.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_deadline: ContextVar[float] = ContextVar("mixpeek_batches_deadline", default=math.inf)
_stop: ContextVar[threading.Event | None] = ContextVar("mixpeek_batches_stop", default=None)


@contextmanager
def time_limit(seconds: float, stop: threading.Event | None = None) -> Iterator[None]:
    """Bound the operations in this block, taken together.

    Args:
        seconds: How long they may take.
        stop: Ends them early, from another thread.
    """
    tokens = _deadline.set(time.monotonic() + seconds), _stop.set(stop)
    try:
        yield
    finally:
        _deadline.reset(tokens[0])
        _stop.reset(tokens[1])


_GLANCE = 0.2  # seconds between looks at whether to stop


def check() -> None:
    """Raise httpx.ReadTimeout if the time of the block is over."""
    if time.monotonic() >= _deadline.get():
        raise httpx.ReadTimeout("The answer was not complete in time.")


def _left(timeout: float | None, error: type[httpcore.TimeoutException]) -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise error("timed out")
    return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        stop = _stop.get()
        if stop is None:
            return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))
        while not stop.is_set():
            try:
                return self._stream.read(max_bytes, min(_left(timeout, httpcore.ReadTimeout), _GLANCE))
            except httpcore.ReadTimeout:
                _left(timeout, httpcore.ReadTimeout)
        raise httpcore.ReadError("not wanted any more")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_tcp(host, port, left, local_address, socket_options))


def install(client: httpx.Client) -> None:
    """Make a client that nobody else holds keep to `time_limit`, through proxies too."""
    # httpx has no public way to hand its pool another network backend, which is public in httpcore.
    for transport in {client._transport, *client._mounts.values()}:
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = _Backend(transport._pool._network_backend)
