"""The mock as an ASGI app: the endpoint, and the admin API."""

from __future__ import annotations

import functools
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from . import endpoint
from .responses import error_response, send_response
from .state import MockState

ADMIN_PREFIX = "/_mock/"
_MAX_BODY = 64 * 1024 * 1024  # bytes


def create_app(state: MockState | None = None) -> MockApp:
    """Create the mock as an ASGI app, to run under a server of your choice.

    Faults that cut a connection need uvicorn, which `MockServer` uses; under another server they raise an exception,
    which that server handles.

    Args:
        state: What the mock knows; by default, a new and empty MockState. It is the `state` of the app.
    """
    return MockApp(MockState() if state is None else state)


class MockApp:
    """The ASGI app. Its `state` adds batches, plans faults and holds the requests."""

    def __init__(self, state: MockState) -> None:
        self.state = state

    @functools.cached_property
    def _admin(self) -> ASGIApp:
        from .admin import AdminAPI  # noqa: PLC0415 - slow to load, and tests in Python have no use for it

        return AdminAPI(self.state).app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; see ASGI."""
        if scope["type"] != "http":
            await self._admin(scope, receive, send)
            return
        # Decoded, as in scope["path"], an encoded slash inside an identifier looks like the end of a segment.
        raw_path = scope.get("raw_path")
        path = raw_path.decode("ascii", "replace") if raw_path else quote(scope["path"])
        # An unread body stops the other requests of an HTTP/2 connection.
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = bytearray(body)
            while message.get("more_body") and len(body) <= _MAX_BODY:
                message = await receive()
                body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        if len(body) > _MAX_BODY:
            too_large = f"The body is larger than {_MAX_BODY:,} bytes: send it in parts."
            await send_response(send, error_response(413, too_large))
        elif f"{path}/".startswith(ADMIN_PREFIX):
            await self._admin({**scope, "path": path, "root_path": "", "body": bytes(body)}, receive, send)
        else:
            await endpoint.serve(self.state, path, scope, receive, send)
