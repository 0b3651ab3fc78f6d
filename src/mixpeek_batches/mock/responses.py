"""The responses of the mock, and the error envelope."""

from __future__ import annotations

import json
from typing import Any

import attrs
from starlette.types import Send

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("BadRequestError", "The request cannot be carried out."),
    401: ("UnauthorizedError", "The API key is missing or unknown."),
    403: ("ForbiddenError", "This API key may not use the namespace."),
    404: ("NotFoundError", "Not found."),
    405: ("MethodNotAllowedError", "Only POST is allowed here."),
    422: ("ValidationError", "The request is not valid."),
    429: ("RateLimitError", "Too many requests."),
    500: ("InternalServerError", "Internal server error."),
    503: ("ServiceUnavailableError", "Service unavailable."),
}
"""The type in the error envelope and the default message, by HTTP status code."""

_WITHOUT_BODY = frozenset({204, 205, 304})


@attrs.frozen
class MockResponse:
    """A response: an HTTP status code, a body, and headers besides those of every response."""

    status_code: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def envelope(status_code: int, message: str | None = None, details: dict[str, Any] | None = None) -> bytes:
    """Return the error envelope."""
    type_, default = _ERRORS.get(status_code, ("HTTPError", f"HTTP status {status_code}."))
    error = {"message": message or default, "type": type_, "details": details}
    return json.dumps({"success": False, "status": status_code, "error": error}).encode()


def error_response(
    status_code: int,
    message: str | None = None,
    *,
    details: dict[str, Any] | None = None,
    retry_after: float | str | None = None,
) -> MockResponse:
    """Return a response with the error envelope, and the headers that the contract demands for its status code."""
    headers = []
    if status_code == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status_code == 405:
        headers.append((b"allow", b"POST"))
    if retry_after is None and status_code in {429, 503}:
        retry_after = 1
    if retry_after is not None:
        if isinstance(retry_after, float) and retry_after.is_integer():
            retry_after = int(retry_after)
        headers.append((b"retry-after", str(retry_after).encode()))
    return MockResponse(status_code, envelope(status_code, message, details), tuple(headers))


async def send_response(
    send: Send, response: MockResponse, request_id: str | None = None, *, truncated: bool = False
) -> None:
    """Send a response; if it is truncated, with the Content-Length of its whole body and half of that body."""
    status_code, body, headers = response.status_code, response.body, [*response.headers]
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode()))
    if status_code in _WITHOUT_BODY:
        body = b""
    if status_code != 204:
        headers += ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status_code, "headers": headers})
    if truncated:
        body = body[: len(body) // 2]
    await send({"type": "http.response.body", "body": body, "more_body": truncated})
