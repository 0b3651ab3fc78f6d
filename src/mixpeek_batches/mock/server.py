"""The mock as a server on a port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import threading
from collections.abc import Iterable
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from mixpeek_batches.errors import ConfigurationError

from .app import create_app
from .checks import check_number, check_text
from .state import DEFAULT_KEY, MockState

_LOGGER = logging.getLogger(__name__)
_START_OR_STOP_TIMEOUT = 10.0  # seconds


class _Server(uvicorn.Server):
    """uvicorn's server, which ends at once: uvicorn's own looks every 0.1 s whether to, and then waits 0.1 s more."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.started_or_failed = threading.Event()
        self._stopping = asyncio.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.started_or_failed.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_or_failed.set()

    def stop(self) -> None:
        """Begin to end; from any thread, if the server has started."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed already
            self.servers[0].get_loop().call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        while not self._stopping.is_set():
            await self.on_tick(0)  # sets the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        listeners = [listener for server in self.servers for listener in server.sockets]
        with contextlib.suppress(NotImplementedError):  # on Windows
            for listener in listeners:
                asyncio.get_running_loop().remove_reader(listener)
        for _ in range(2):  # asyncio would lose connections that it has accepted, but not set up yet
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        # What is in flight may have an hour to go: it ends as if its client had gone.
        for connection in self.server_state.connections.copy():
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_START_OR_STOP_TIMEOUT / 2)


class MockServer(MockState):
    """A mock of the API that runs in a thread, inside a `with` block or from start() to stop().

    Args:
        port: The port, or 0 for a free one.
        host: The address to listen on; `0.0.0.0` lets other machines and containers in, all of which can then use the
            mock and its admin API without a key. A host that is not loopback is logged as a warning.
        api_key: The key that may use every namespace.
        batches: Batches to start with, each as the arguments of `add_batch` by name; `reset` returns to them.

    Raises:
        ConfigurationError: If an argument is invalid.
    """

    def __init__(
        self, *, port: int = 0, host: str = "127.0.0.1", api_key: str = DEFAULT_KEY, batches: Iterable[object] = ()
    ) -> None:
        super().__init__(api_key=api_key, batches=batches)
        check_number(port, "port", 0, 65535, whole=True)
        self._port = port
        self._host = check_text(host, "host")
        self._url = ""
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the mock is listening."""
        return self._server is not None

    @property
    def url(self) -> str:
        """The base URL for clients on this machine.

        Raises:
            ConfigurationError: If the mock is not running.
        """
        if not self.running:
            raise ConfigurationError("The mock is not running: use it in a `with` block, or call start().")
        return self._url

    def app(self) -> ASGIApp:
        """Return the app that is served; a subclass may wrap it."""
        return create_app(self)

    def start(self) -> Self:
        """Start listening.

        Raises:
            ConfigurationError: If the host or port cannot be used, or the mock is running already.
        """
        if self.running:
            raise ConfigurationError("The mock is running already: stop it first.")
        listener = self._listen()
        address, port = listener.getsockname()[:2]
        ip = ipaddress.ip_address(address)
        if not ip.is_loopback:
            _LOGGER.warning(
                "The mock listens on %s, port %d: whoever reaches it there can use it and its admin API without a key.",
                *(self._host, port),
            )
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - what may be bound
        self._url = f"http://[{local}]:{port}" if ip.version == 6 else f"http://{local}:{port}"
        config = uvicorn.Config(
            self.app(),
            # The same everywhere: under uvloop and httptools, faults and malformed requests would behave differently.
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        server = self._server = _Server(config)
        thread = self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="mixpeek-mock", daemon=True
        )
        thread.start()
        server.started_or_failed.wait(_START_OR_STOP_TIMEOUT)
        if not server.started:
            self.stop()
            raise ConfigurationError("The mock did not start: see the log of uvicorn.")
        return self

    def _listen(self) -> socket.socket:
        listener = None
        try:
            family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
            # With the protocol named, asyncio sets TCP_NODELAY. Without it, the body waits 40 ms for the headers' ACK.
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except (OSError, UnicodeError) as error:
            if listener is not None:
                listener.close()
            reason = getattr(error, "strerror", None) or error
            if listener is None or (isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL):
                raise ConfigurationError(f"{self._host} is not an address of this machine ({reason}).") from None
            raise ConfigurationError(
                f"Port {self._port} on {self._host} cannot be used ({reason}): take another, or 0 for a free one."
            ) from None
        return listener

    def stop(self) -> None:
        """Stop listening and close every connection; does nothing if the mock is not running."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        if server.started:
            server.stop()
        else:  # after which uvicorn would leave out the shutdown of a server that has just started
            server.should_exit = True
        thread.join(_START_OR_STOP_TIMEOUT)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
