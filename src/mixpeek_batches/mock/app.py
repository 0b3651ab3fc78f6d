"""The mock as an ASGI app: the API's side and the admin API."""

from __future__ import annotations

from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from .admin import PREFIX, AdminAPI
from .endpoint import Endpoint
from .responses import error_response, send_response
from .state import MockState

_LARGEST_BODY = 64 * 1024 * 1024  # bytes


def create_app(state: MockState | None = None) -> MockApp:
    """Make the mock as an ASGI app, to run under a server of your choice.

    Faults that cut a connection need uvicorn, which `MockServer` is; under another server they raise an exception,
    which is left to that server.

    Args:
        state: What the mock knows; without it, a new and empty MockState. It is the app's `state`.
    """
    return MockApp(MockState() if state is None else state)


class MockApp:
    """The ASGI app. Its `state` adds batches, plans faults and shows requests."""

    def __init__(self, state: MockState) -> None:
        self.state = state
        self._endpoint = Endpoint(state)
        self._admin = AdminAPI(state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, as ASGI asks."""
        if scope["type"] != "http":
            await self._admin.asgi(scope, receive, send)
            return
        # The decoded path takes %2F in an identifier for the end of a segment, so nothing here looks at it.
        path = scope["raw_path"].decode("ascii", "replace") if scope.get("raw_path") else quote(scope["path"])
        # A body that nobody reads stops the other requests of an HTTP/2 connection.
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = bytearray(body)
            while message.get("more_body") and len(body) <= _LARGEST_BODY:
                message = await receive()
                body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        if len(body) > _LARGEST_BODY:
            too_large = f"The body is larger than {_LARGEST_BODY:,} bytes: send it in parts."
            await send_response(send, error_response(413, too_large))
        elif f"{path}/".startswith(PREFIX):
            await self._admin.serve(path, bytes(body), scope, receive, send)
        else:
            await self._endpoint.serve(path, scope, receive, send)
