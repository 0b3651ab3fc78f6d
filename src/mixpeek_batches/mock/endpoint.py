"""The endpoint of the mock, with its limits and faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from urllib.parse import unquote

import attrs
from starlette.types import Receive, Scope, Send

from .faults import Fault
from .requests import RecordedRequest
from .responses import MockResponse, error_response, send_response
from .state import MockState

_PATH = re.compile(r"/v1/buckets/([^/]+)/batches/([^/]+)/cancel")


async def serve(state: MockState, path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request to the API, whose body has been read and whose path is percent-encoded."""
    request, authorization = _recorded(path, scope)
    request_id = state.record(request)
    limits = state.limits
    if retry_after := limits.admit(time.monotonic()):
        state.complete(request, 429)
        await send_response(send, error_response(429, retry_after=retry_after), request_id)
        return
    try:
        fault = state.take_fault()
        response = _response(state, request, authorization) if fault is None or fault.acts else None
        if fault is not None:
            response = await _spoiled(response, fault, receive)
        state.complete(request, None if response is None else response.status_code)
        if response is not None:
            await send_response(send, response, request_id, truncated=fault is not None and fault.kind == "truncated")
        if fault is not None and fault.kind in {"reset", "truncated"}:
            await _end_connection(receive, send, reset=fault.kind == "reset")
    finally:
        limits.release()


def _recorded(path: str, scope: Scope) -> tuple[RecordedRequest, bytes | None]:
    """Return the record of a request, and its Authorization header, which is not part of the record."""
    authorization = namespace = None
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value  # RFC 9110, section 5.3
    if "authorization" in headers:
        authorization = headers["authorization"].encode("latin-1")
        headers["authorization"] = ""
    if "x-namespace" in headers:
        namespace = headers["x-namespace"].encode("latin-1").decode("utf-8", "surrogateescape")
    match = _PATH.fullmatch(path)
    request = RecordedRequest(
        method=scope["method"],
        path=path,
        bucket_identifier=match and decoded(match[1]),
        batch_id=match and decoded(match[2]),
        namespace=namespace,
        headers=headers,
    )
    return request, authorization


def decoded(segment: str) -> str:
    """Return a segment of a path, percent-decoded."""
    # Bytes that are not UTF-8 become lone surrogates, which no identifier contains that can be added.
    return unquote(segment, errors="surrogateescape") if "%" in segment else segment


def _response(state: MockState, request: RecordedRequest, authorization: bytes | None) -> MockResponse:
    if request.bucket_identifier is None or request.batch_id is None:
        return error_response(404)
    if request.method != "POST":
        return error_response(405)
    return state.cancel(authorization, request.namespace, request.bucket_identifier, request.batch_id)


async def _spoiled(response: MockResponse | None, fault: Fault, receive: Receive) -> MockResponse | None:
    """Return what a fault makes of a response, or None if nothing is to be sent."""
    if fault.status_code is not None:
        spoiled = error_response(fault.status_code, retry_after=fault.retry_after)
        if fault.body is None:
            return spoiled
        text = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
        return attrs.evolve(spoiled, body=text.encode("utf-8", "surrogatepass"))
    if response is None or fault.kind == "reset":
        return None
    if fault.kind == "latency":
        return response if await _wait(fault.seconds or 0.0, receive) else None
    if fault.kind == "malformed":
        return attrs.evolve(response, body=response.body.replace(b'"', b"'"))
    return response


async def _wait(seconds: float, receive: Receive) -> bool:
    """Wait, and return whether the client is still there."""
    try:
        async with asyncio.timeout(seconds):
            await _disconnected(receive)
    except TimeoutError:
        return True
    return False


async def _end_connection(receive: Receive, send: Send, *, reset: bool) -> None:
    # ASGI cannot end a connection. uvicorn's `send` is a method of an object that holds the transport.
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionResetError("This fault ends the connection, which the mock can do only under uvicorn.")
    if reset:
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)  # a close now sends RST, not FIN
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()  # once everything that was sent before has left
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
