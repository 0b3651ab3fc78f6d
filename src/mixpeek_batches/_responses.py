"""Turns a response into a task or an error, whatever the server sent."""

from __future__ import annotations

import json
import zlib
from http import HTTPStatus
from typing import Any

import httpx
from mixpeek_batches_api.models import TaskResponse

from . import _retries
from ._secrets import Secret
from .errors import APIResponseValidationError, APIStatusError, MixpeekError, status_error_class

MAX_BODY = 10 * 1024 * 1024
"""The largest body that is read, in bytes, before and after decompression."""


class Body:
    """Collects the raw chunks of a body up to `MAX_BODY`. Its repr shows none of them."""

    def __init__(self, headers: httpx.Headers) -> None:
        known = {name.lower(): value for name, value in headers.raw}
        length = known.get(b"content-length", b"")
        self._too_large = length.isdigit() and (len(length) > 19 or int(length) > MAX_BODY)
        self._encoding = known.get(b"content-encoding", b"identity").strip().lower()
        self._chunks: list[bytes] = []
        self._size = 0

    @classmethod
    def of_read(cls, response: httpx.Response) -> Body:
        """Use the body of a response that a hook or a transport has read already."""
        body = cls(httpx.Headers())
        body.add(response.content)
        return body

    def add(self, chunk: bytes) -> bool:
        """Add a chunk, and return whether another one fits."""
        self._size += len(chunk)
        self._too_large = self._too_large or self._size > MAX_BODY
        if self._too_large:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)
        return not self._too_large

    def decoded(self) -> bytes | None:
        """Return the decoded body, or the raw one if it cannot be decoded; None if it is too large."""
        if self._too_large:
            return None
        raw = b"".join(self._chunks)
        if self._encoding not in {b"gzip", b"x-gzip"}:
            return raw
        try:
            unpacked = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(raw, MAX_BODY + 1)
        except zlib.error:
            return raw
        return unpacked if len(unpacked) <= MAX_BODY else None


def interpret(
    request: httpx.Request, response: httpx.Response, body: Body, secret: Secret
) -> TaskResponse | MixpeekError:
    """Turn a response into a task or an error.

    The error is returned, not raised, because a traceback may be printed with the values of local variables, and
    those here hold the body, in which a server may have repeated the key.

    Args:
        request: The request.
        response: The status and headers; its own body is not looked at.
        body: What was read of its body.
        secret: The key, which no error may repeat.
    """
    content = body.decoded()
    if not response.is_success:
        return _status_error(request, response, content, secret)
    try:
        return _task(content)
    except ValueError as error:
        reason = secret.redact(str(error))
    return APIResponseValidationError(
        f"The server responded {response.status_code}, but its body is not a task: {reason}.",
        response=_keyless(request, response, content, secret),
    )


def _task(body: bytes | None) -> TaskResponse:
    if body is None:
        raise ValueError(f"it is larger than {MAX_BODY:,} bytes")
    if not body.strip():
        raise ValueError("it is empty")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it is not valid JSON, or was cut short") from None
    if not isinstance(data, dict):
        raise ValueError(f"it is valid JSON, but {_name(data)} rather than an object")
    try:
        task = TaskResponse.from_dict(data)
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(task.task_id, str):
        raise ValueError(f"its task_id is {_name(task.task_id)} rather than a string")
    return task


def _name(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _status_error(
    request: httpx.Request, response: httpx.Response, body: bytes | None, secret: Secret
) -> APIStatusError:
    try:
        data: Any = secret.redact(json.loads(body or b""))
    except (ValueError, RecursionError):
        data = None
    message, type_, details = _explanation(data)
    return status_error_class(response.status_code)(
        message or _phrase(response),
        response=_keyless(request, response, body, secret),
        type=type_,
        details=details,
        retry_after=_retries.retry_after(response.headers),
    )


def _explanation(data: Any) -> tuple[str | None, str | None, dict[str, Any] | None]:
    """Return message, type and details of the error envelope, or the message of other frameworks' error bodies."""
    if not isinstance(data, dict):
        return None, None, None
    error = data.get("error")
    if isinstance(error, dict):
        message, type_, details = (error.get(name) for name in ("message", "type", "details"))
        return (
            message if isinstance(message, str) and message.strip() else None,
            type_ if isinstance(type_, str) else None,
            details if isinstance(details, dict) else None,
        )
    detail = data.get("detail")
    if isinstance(detail, list):  # FastAPI's HTTPValidationError, which the vendor publishes for 422
        places = [item for item in detail if isinstance(item, dict) and isinstance(item.get("msg"), str)]
        lines = [f"{'.'.join(map(str, _list(item.get('loc'))))}: {item['msg']}" for item in places]
        return "; ".join(lines) or None, None, {"detail": detail}
    for text in (error, detail, data.get("message")):
        if isinstance(text, str) and text.strip():
            return text, None, None
    return None, None, None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _phrase(response: httpx.Response) -> str:
    if response.has_redirect_location:
        return "The server redirects, and redirects are not followed: check the base URL."
    try:
        return f"The server responded {HTTPStatus(response.status_code).phrase} without a reason."
    except ValueError:
        return "The server responded with a status that HTTP does not define, without a reason."


def _keyless(request: httpx.Request, response: httpx.Response, body: bytes | None, secret: Secret) -> httpx.Response:
    """Copy a response for an error to hold, without the key, the connection and its transfer and content encodings."""
    undone = {b"content-encoding", b"content-length", b"transfer-encoding"}
    content = secret.redact(body or b"")
    try:
        data = json.loads(body or b"")
        clean = secret.redact(data)
        if clean != data:  # JSON can spell the key in more ways than one
            content = json.dumps(clean).encode()
    except (ValueError, RecursionError):
        pass
    headers = [(name, secret.redact(value)) for name, value in response.headers.raw if name.lower() not in undone]
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=content,
        request=httpx.Request(
            request.method,
            request.url,
            headers=[(name, value) for name, value in request.headers.raw if name.lower() != b"authorization"],
        ),
    )
