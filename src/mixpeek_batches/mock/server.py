"""The mock as a server on a port of this machine."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from mixpeek_batches.errors import ConfigurationError

from .app import create_app
from .state import DEFAULT_KEY, MockState

_HOST = "127.0.0.1"
_PATIENCE = 10.0  # seconds to start or to stop


class MockServer(MockState):
    """A mock of the API on loopback, in a thread of its own. Runs inside a `with` block, or from start() to stop().

    Args:
        port: The port, or 0 for a free one.
        api_key: The key that may use every namespace.
    """

    def __init__(self, *, port: int = 0, api_key: str = DEFAULT_KEY) -> None:
        super().__init__(api_key=api_key)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
            raise ConfigurationError(f"port must be a whole number from 0 to 65535, not {port!r}.")
        self._port = self._bound = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def url(self) -> str:
        """The base URL to give to a client.

        Raises:
            ConfigurationError: The server is not running.
        """
        if self._server is None:
            raise ConfigurationError("The mock is not running: use it in a `with` block, or call start().")
        return f"http://{_HOST}:{self._bound}"

    def app(self) -> ASGIApp:
        """Give the app that is served; a subclass may wrap it."""
        return create_app(self)

    def start(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: The port is taken, or may not be used, or the server runs already.
        """
        if self._server is not None:
            raise ConfigurationError("The mock is running already.")
        # With the protocol named, asyncio sets TCP_NODELAY; without, an answer in two writes waits 40 ms for an ACK.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, self._port))
            listener.listen(2048)
        except OSError as error:
            listener.close()
            reason = error.strerror or error
            raise ConfigurationError(
                f"Port {self._port} on {_HOST} cannot be used ({reason}): take another, or 0 for a free one."
            ) from None
        self._bound = listener.getsockname()[1]
        # The same parts everywhere: under uvloop and httptools, faults and odd requests would behave otherwise.
        config = uvicorn.Config(
            self.app(),
            http="h11",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
        )
        server = self._server = uvicorn.Server(config)
        thread = self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="mixpeek-mock", daemon=True
        )
        thread.start()
        give_up = time.monotonic() + _PATIENCE
        while not server.started:
            if not thread.is_alive() or time.monotonic() > give_up:
                self.stop()
                raise ConfigurationError("The mock did not start: see the log of uvicorn.")
            time.sleep(0.001)
        return self

    def stop(self) -> None:
        """Stop listening and end every connection. A second time does nothing."""
        if self._server is None or self._thread is None:
            return
        # From Python 3.12 on, a server that closes waits for its connections, and one may have an hour to go.
        connections: set[Any] = self._server.server_state.connections
        for connection in connections.copy():
            connection.loop.call_soon_threadsafe(connection.transport.abort)
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(_PATIENCE)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
