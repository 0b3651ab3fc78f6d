"""The mock as a server on a port of this machine."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from mixpeek_batches.errors import ConfigurationError

from .app import create_app
from .checks import checked_text, is_whole
from .state import DEFAULT_KEY, MockState

_LOGGER = logging.getLogger(__name__)
_START_OR_STOP_TIMEOUT = 10.0  # seconds


class MockServer(MockState):
    """A mock of the API, in a thread of its own. Runs inside a `with` block, or from start() to stop().

    Args:
        port: The port, or 0 for a free one.
        host: The address to listen on; `0.0.0.0` lets other machines and containers in, all of whom can then use the
            mock and its admin API without a key. A host that is not loopback is logged as a warning.
        api_key: The key that may use every namespace.
        batches: Batches to start with, each as the arguments of `add_batch` by name; `reset` comes back to them.

    Raises:
        ConfigurationError: An argument may not be used.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        api_key: str = DEFAULT_KEY,
        batches: Iterable[object] = (),
    ) -> None:
        super().__init__(api_key=api_key, batches=batches)
        if not is_whole(port, 0, 65535):
            raise ConfigurationError(f"port must be a whole number from 0 to 65535, not {port!r}.")
        self._port = port
        self._host = checked_text(host, "host")
        self._url = ""
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def url(self) -> str:
        """The base URL to give to a client on this machine.

        Raises:
            ConfigurationError: The server is not running.
        """
        if self._server is None:
            raise ConfigurationError("The mock is not running: use it in a `with` block, or call start().")
        return self._url

    def app(self) -> ASGIApp:
        """Give the app that is served; a subclass may wrap it."""
        return create_app(self)

    def start(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: The host or port may not be used, or the server runs already.
        """
        if self._server is not None:
            raise ConfigurationError("The mock is running already.")
        listener = self._listen()
        address, port = listener.getsockname()[:2]
        ip = ipaddress.ip_address(address)
        if not ip.is_loopback:
            _LOGGER.warning(
                "The mock listens on %s, port %d: whoever reaches it there can use it and its admin API without a key.",
                *(self._host, port),
            )
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - what may be bound
        self._url = f"http://[{here}]:{port}" if ip.version == 6 else f"http://{here}:{port}"
        # The same parts everywhere: under uvloop and httptools, faults and odd requests would behave otherwise.
        config = uvicorn.Config(
            self.app(),
            http="h11",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws="none",
        )
        server = self._server = uvicorn.Server(config)
        thread = self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="mixpeek-mock", daemon=True
        )
        thread.start()
        give_up = time.monotonic() + _START_OR_STOP_TIMEOUT
        while not server.started:
            if not thread.is_alive() or time.monotonic() > give_up:
                self.stop()
                raise ConfigurationError("The mock did not start: see the log of uvicorn.")
            time.sleep(0.001)
        return self

    def _listen(self) -> socket.socket:
        listener = None
        try:
            family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
            # With the protocol named, asyncio sets TCP_NODELAY; without, an answer in two writes waits 40 ms for an
            # ACK.
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except (OSError, UnicodeError) as error:
            if listener is not None:
                listener.close()
            reason = getattr(error, "strerror", None) or error
            if listener is None or (isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL):
                raise ConfigurationError(f"{self._host} is no address of this machine ({reason}).") from None
            raise ConfigurationError(
                f"Port {self._port} on {self._host} cannot be used ({reason}): take another, or 0 for a free one."
            ) from None
        return listener

    def stop(self) -> None:
        """Stop listening and end every connection. A second time does nothing."""
        if self._server is None or self._thread is None:
            return
        # From Python 3.12 on, a server that closes waits for its connections, and one may have an hour to go.
        connections: set[Any] = self._server.server_state.connections
        for connection in connections.copy():
            connection.loop.call_soon_threadsafe(connection.transport.abort)
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(_START_OR_STOP_TIMEOUT)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
