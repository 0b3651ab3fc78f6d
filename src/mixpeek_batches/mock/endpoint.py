"""The API's side of the mock: the endpoint, its limits and its faults, as ASGI."""

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
from .responses import MockResponse, error_response, send_response
from .state import MockState, RecordedRequest

_PATH = re.compile(r"/v1/buckets/([^/]+)/batches/([^/]+)/cancel")


class Endpoint:
    """Answers what is no part of the admin API."""

    def __init__(self, state: MockState) -> None:
        self._state = state

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose body has been read.

        Args:
            path: The path as it was sent, percent-encoded.
            scope: As ASGI has it.
            receive: Likewise.
            send: Likewise.
        """
        request, authorization = _recorded(path, scope)
        request_id = self._state.record(request)
        limits = self._state.limits
        if retry_after := limits.admit(time.monotonic()):
            self._state.answered(request, 429)
            await send_response(send, error_response(429, retry_after=retry_after), request_id)
            return
        try:
            await self._serve_admitted(request, authorization, request_id, receive, send)
        finally:
            limits.release()

    async def _serve_admitted(
        self, request: RecordedRequest, authorization: bytes | None, request_id: str, receive: Receive, send: Send
    ) -> None:
        fault = self._state.next_fault()
        carried_out = fault is None or fault.acts
        response = self._response(request, authorization) if carried_out else error_response(404)
        if fault is None:
            self._state.answered(request, response.status_code)
            await send_response(send, response, request_id)
            return
        if fault.kind == "status":
            response = _response_of(fault)
        if fault.kind == "malformed":
            response = attrs.evolve(response, body=response.body.replace(b'"', b"'"))
        if fault.kind == "latency" and not await _wait(fault.seconds, receive, send):
            self._state.answered(request, None)
            return
        self._state.answered(request, None if fault.kind == "reset" else response.status_code)
        if fault.kind == "reset":
            await _reset(receive, send)
        elif fault.kind == "truncated":
            await send_response(send, response, request_id, truncated=True)
            await _close(receive, send)
        else:
            await send_response(send, response, request_id)

    def _response(self, request: RecordedRequest, authorization: bytes | None) -> MockResponse:
        if request.bucket_identifier is None or request.batch_id is None:
            return error_response(404)
        if request.method != "POST":
            return error_response(405)
        return self._state.cancel(authorization, request.namespace, request.bucket_identifier, request.batch_id)


def _recorded(path: str, scope: Scope) -> tuple[RecordedRequest, bytes | None]:
    """Make the record of a request, and give its Authorization header, which is no part of the record."""
    authorization = None
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value  # RFC 9110, section 5.3
    if "authorization" in headers:
        authorization = headers["authorization"].encode("latin-1")
        headers["authorization"] = ""
    namespace = headers.get("x-namespace")
    match = _PATH.fullmatch(path)
    request = RecordedRequest(
        method=scope["method"],
        path=path,
        bucket_identifier=match and decoded(match[1]),
        batch_id=match and decoded(match[2]),
        namespace=None if namespace is None else namespace.encode("latin-1").decode("utf-8", "surrogateescape"),
        headers=headers,
    )
    return request, authorization


def decoded(segment: str) -> str:
    """Decode a segment of a path."""
    # Bytes that are no UTF-8 become half a surrogate pair, which no identifier that can be added holds.
    return unquote(segment, errors="surrogateescape")


def _response_of(fault: Fault) -> MockResponse:
    response = error_response(fault.status_code or 500, retry_after=fault.retry_after)
    if fault.body is None:
        return response
    text = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
    return attrs.evolve(response, body=text.encode("utf-8", "surrogatepass"))


async def _wait(seconds: float, receive: Receive, send: Send) -> bool:
    """Wait, and tell whether somebody still waits for the response then."""
    try:
        async with asyncio.timeout(seconds):
            await _disconnected(receive)
    except TimeoutError:
        return True
    except asyncio.CancelledError:  # the server stops; close the connection at once, without a response
        transport = _transport(send)
        if transport is None:
            raise
        transport.abort()
        await asyncio.sleep(0)  # so that the loop closes the socket before it ends
    return False


async def _reset(receive: Receive, send: Send) -> None:
    transport = _required_transport(send)
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)  # a close now sends RST, not FIN
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    await _disconnected(receive)


async def _close(receive: Receive, send: Send) -> None:
    _required_transport(send).close()  # after all that was sent before has left
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(send: Send) -> asyncio.Transport | None:
    # ASGI has no word for ending a connection. uvicorn's `send` is a method of an object that holds the transport.
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if isinstance(transport, asyncio.Transport) else None


def _required_transport(send: Send) -> asyncio.Transport:
    transport = _transport(send)
    if transport is None:
        raise ConnectionResetError("The mock was asked to cut the connection.")
    return transport
