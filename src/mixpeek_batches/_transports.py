"""How requests are sent: by httpx's own transports, one connection each.

A `Transport` sends one request at a time, so that its httpx pool holds one connection: a pool of httpx gets slower with
each connection in it. `Pool` hands out as many as are in flight.

httpx bounds each single read or write, so that a peer that sends a byte now and then keeps a call open for ever. Here
every operation of a synchronous attempt gets no more than what is left of the attempt's time.

Imported where a client is made: it imports httpcore, which httpx does not before it needs it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ._settings import CLOSED
from .errors import ConfigurationError

_T = TypeVar("_T", bound="Transport | AsyncTransport")


class Pool(Generic[_T]):
    """Idle transports, the one used last on top. Safe to use from any thread.

    Args:
        make: Makes another transport.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self.make = make
        self._free: list[_T] = []
        self._forgotten: list[_T] = []
        self._owner: object = None
        self.closed = False

    def take(self, loop: object = None) -> _T:
        """Return an idle transport, or a new one.

        Args:
            loop: The event loop that is running.
        """
        self._belong_to(loop)
        if self.closed:
            raise ConfigurationError(CLOSED)
        try:
            return self._free.pop()
        except IndexError:
            return self.make()

    def give_back(self, transport: _T) -> None:
        """Return a transport to the pool, after an attempt that ended well."""
        self._free.append(transport)

    def drain(self, loop: object = None) -> list[_T]:
        """Close the pool, and return the idle transports, for the caller to close."""
        self._belong_to(loop)
        self.closed = True
        free, self._free = self._free, []
        return free

    def _belong_to(self, loop: object) -> None:
        """Drop connections that belong to another process or event loop."""
        owner = os.getpid(), loop
        if self._owner not in {None, owner}:
            self._forgotten, self._free = self._free, []
            for transport in self._forgotten:
                transport.forget()
        self._owner = owner


def options(base_url: httpx.URL, *, local: bool) -> dict[str, Any]:
    """Return the certificates and the proxy that the environment names.

    Args:
        base_url: Where requests go.
        local: Whether that is this machine: then no proxy is used, which would see the key, and over http no
            certificate is loaded.

    Returns:
        Arguments for httpx's transports.

    Raises:
        ConfigurationError: They cannot be used.
    """
    proxy = None
    if not local and not proxy_bypass(base_url.host):
        proxies = getproxies()
        proxy = proxies.get(base_url.scheme) or proxies.get("all")
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
    with usable_environment():
        verify = base_url.scheme == "https" or proxy is not None
        # One context for all transports, since each takes a quarter of a millisecond, or 20 with certificates.
        return {"verify": httpx.create_ssl_context(verify=verify), "proxy": proxy or None}


@contextlib.contextmanager
def usable_environment() -> Any:
    """Raise a ConfigurationError if the proxies or certificates of the environment cannot be used."""
    try:
        yield
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ConfigurationError(
            f"The proxy or certificate settings of the environment cannot be used: {reason}."
        ) from None


class _Attempt:
    """The attempt in flight, as shared by a connection's network backend and its transport."""

    deadline = 0.0
    opened = False  # there has been a connection; what takes the place of the network, as test tools do, opens none
    kept = False  # the connection was there before it
    responded = False  # a byte of the response has arrived
    aborted = False
    socket: socket.socket | None = None

    def left(self, timeout: float | None, error: type[httpcore.TimeoutException]) -> float:
        if self.aborted:
            raise httpcore.ReadError("the client was closed")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise error("timed out")
        return left if timeout is None else min(left, timeout)


class Transport:
    """Sends one request at a time through httpx's transport: no cookies, redirects or hooks."""

    def __init__(self, **options: Any) -> None:
        with usable_environment():
            self._transport = httpx.HTTPTransport(**options)
        self._attempt = _Attempt()
        # httpx has no public way to give its pool another network backend, which is public in httpcore.
        self._transport._pool._network_backend = _Backend(self._attempt)
        self._pid = os.getpid()

    def send(self, request: httpx.Request, timeout: float) -> httpx.Response:
        """Send a request, and return the response before its body is read."""
        attempt = self._attempt
        attempt.kept, attempt.responded = attempt.opened, False
        attempt.deadline = time.monotonic() + timeout
        return self._transport.handle_request(request)

    @property
    def was_stale(self) -> bool:
        """Whether the attempt used a kept connection that ended before the first byte of a response."""
        return self._attempt.kept and not self._attempt.responded

    def abort(self) -> None:
        """Abort the attempt in flight, from another thread."""
        if self._pid != os.getpid():
            self.forget()
            return
        self._attempt.aborted = True
        sock = self._attempt.socket  # which its own thread may take away
        if sock is not None:
            # Not SSLSocket's own, which takes the TLS state from under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def forget(self) -> None:
        """Drop a connection that the parent process goes on using."""
        if self._attempt.socket is not None:
            self._attempt.socket.close()  # only here, and without a word to the server

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class InFlight:
    """Transports that are sending, for `abort` to end. Safe to use from any thread."""

    def __init__(self) -> None:
        self._transports: set[Transport] = set()
        self.aborted = False

    def add(self, transport: Transport) -> None:
        """Add a transport that is about to send; after `abort`, it sends nothing."""
        self._transports.add(transport)
        if self.aborted:
            transport.abort()

    def discard(self, transport: Transport) -> None:
        """Remove a transport."""
        self._transports.discard(transport)

    def abort(self) -> None:
        """Abort what is in flight, and everything added later."""
        self.aborted = True
        for transport in list(self._transports):
            transport.abort()


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, attempt: _Attempt) -> None:
        self._stream = stream
        self._attempt = attempt
        attempt.socket = stream.get_extra_info("socket")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._attempt.left(timeout, httpcore.ReadTimeout))
        self._attempt.responded = self._attempt.responded or bool(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._attempt.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._attempt.socket = None
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._attempt.left(timeout, httpcore.ConnectTimeout)
        # Wrapping a socket leaves the old object without it, so that `abort` gets another for the handshake.
        with socket.socket(fileno=os.dup(self._stream.get_extra_info("socket").fileno())) as self._attempt.socket:
            stream = self._stream.start_tls(ssl_context, server_hostname, left)
        return _Stream(stream, self._attempt)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        self._attempt.opened, self._attempt.kept = True, False
        failure: Exception | None = None
        # Given a name, httpcore would give each of its addresses all the time.
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            left = self._attempt.left(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._backend.connect_tcp(str(address[0]), port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._attempt)
        raise failure or httpcore.ConnectError(f"{host} has no address")


class AsyncTransport:
    """Sends one request at a time, see Transport. The caller bounds the time."""

    def __init__(self, **options: Any) -> None:
        with usable_environment():
            self._transport = httpx.AsyncHTTPTransport(**options)
        self._attempt = _Attempt()
        self._transport._pool._network_backend = _AsyncBackend(self._attempt, self._transport._pool._network_backend)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the response before its body is read."""
        self._attempt.kept, self._attempt.responded = self._attempt.opened, False
        return await self._transport.handle_async_request(request)

    @property
    def was_stale(self) -> bool:
        """Whether the attempt used a kept connection that ended before the first byte of a response."""
        return self._attempt.kept and not self._attempt.responded

    def forget(self) -> None:
        """Drop a connection of another process, or of an event loop that has ended and cannot close it."""

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.aclose()


class _AsyncStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, attempt: _Attempt) -> None:
        self._stream = stream
        self._attempt = attempt
        self.write = stream.write  # type: ignore[method-assign]
        self.aclose = stream.aclose  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        self._attempt.responded = self._attempt.responded or bool(data)
        return data

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        try:
            return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._attempt)
        except BaseException:  # httpcore leaves the connection open where the handshake is cancelled
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, attempt: _Attempt, backend: httpcore.AsyncNetworkBackend) -> None:
        self._attempt = attempt
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._attempt.opened, self._attempt.kept = True, False
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _AsyncStream(stream, self._attempt)
