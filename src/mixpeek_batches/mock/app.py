"""The mock as an ASGI app: the endpoint, its faults, and the mock's own door under `/_mock/`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixpeek_batches.errors import ConfigurationError

from .faults import Fault
from .state import Answer, MockState, RecordedRequest, call, error

_ENDPOINT = re.compile(r"/v1/buckets/([^/]+)/batches/([^/]+)/cancel")
_DOOR = "/_mock/"
_LARGEST_BODY = 64 * 1024 * 1024  # bytes that the door takes


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
        door = _Door(state)
        routes = [
            Route("/_mock/", door.index),
            Route("/_mock/batches", door.batches, methods=["GET", "POST"]),
            Route("/_mock/batches/{bucket_identifier}/{batch_id}", door.batch),
            Route("/_mock/namespaces", door.namespaces, methods=["POST"]),
            Route("/_mock/keys", door.keys, methods=["POST"]),
            Route("/_mock/faults", door.faults, methods=["GET", "POST", "DELETE"]),
            Route("/_mock/random_faults", door.random_faults, methods=["POST"]),
            Route("/_mock/requests", door.requests, methods=["GET", "DELETE"]),
            Route("/_mock/reset", door.reset, methods=["POST"]),
        ]
        self._door: ASGIApp = Starlette(
            routes=routes, exception_handlers={HTTPException: _door_error, ConfigurationError: _door_refusal}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, as ASGI asks."""
        if scope["type"] != "http":
            await self._door(scope, receive, send)
            return
        # The decoded path takes %2F in an identifier for the end of a segment, so nothing here looks at it.
        path = scope["raw_path"].decode("ascii", "replace") if scope.get("raw_path") else quote(scope["path"])
        if (path + "/").startswith(_DOOR):
            await self._door({**scope, "path": path, "root_path": ""}, receive, send)
        else:
            await self._serve(path, scope, receive, send)

    async def _serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on the API's side."""
        match = _ENDPOINT.fullmatch(path)
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b", " + value if name in headers else value  # RFC 9110, section 5.3
        namespace = headers.get(b"x-namespace")
        request = RecordedRequest(
            method=scope["method"],
            path=path,
            bucket_identifier=match and _decoded(match[1]),
            batch_id=match and _decoded(match[2]),
            namespace=None if namespace is None else namespace.decode("utf-8", "surrogateescape"),
            headers={
                name.decode("latin-1"): "" if name == b"authorization" else value.decode("latin-1")
                for name, value in headers.items()
            },
        )
        request_id = self.state.record(request)
        fault = self.state.next_fault()
        answer = error(404)
        if fault is None or fault.acted or fault.kind not in {"status", "reset"}:
            answer = self._answer(request, headers.get(b"authorization"))
        body = json.dumps(answer.body).encode()
        if fault is not None and fault.kind == "status":
            answer, body = _planned(fault)
        if fault is not None and fault.kind == "malformed":
            body = body.replace(b'"', b"'")

        if fault is not None and fault.kind == "latency" and not await _late(fault.seconds, receive, send):
            self.state.answered(request, None)
            return
        self.state.answered(request, None if fault and fault.kind == "reset" else answer.status_code)
        if fault is not None and fault.kind == "reset":
            await _cut(receive, send, gently=False)
            return
        if answer.status_code in {204, 205, 304}:
            body = b""
        cut = fault is not None and fault.kind == "truncated"
        await _send(send, answer, body, {"X-Request-ID": request_id}, only_half=cut)
        if cut:
            await _cut(receive, send, gently=True)

    def _answer(self, request: RecordedRequest, authorization: bytes | None) -> Answer:
        if request.bucket_identifier is None or request.batch_id is None:
            return error(404)
        if request.method != "POST":
            return error(405)
        return self.state.cancel(authorization, request.namespace, request.bucket_identifier, request.batch_id)


def _decoded(segment: str) -> str:
    # Bytes that are no UTF-8 become half a surrogate pair, which no identifier that can be added holds.
    return unquote(segment, errors="surrogateescape")


def _planned(fault: Fault) -> tuple[Answer, bytes]:
    answer = error(fault.status_code or 500, retry_after=fault.retry_after)
    if fault.body is None:
        return answer, json.dumps(answer.body).encode()
    text = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
    return answer, text.encode("utf-8", "surrogatepass")


async def _send(send: Send, answer: Answer, body: bytes, more_headers: Mapping[str, str], *, only_half: bool) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers, **more_headers}
    if answer.status_code == 204:
        del headers["Content-Type"], headers["Content-Length"]
    start: Message = {
        "type": "http.response.start",
        "status": answer.status_code,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    await send(start)
    part = body[: len(body) // 2] if only_half else body
    await send({"type": "http.response.body", "body": part, "more_body": only_half})


async def _late(seconds: float, receive: Receive, send: Send) -> bool:
    """Wait, and tell whether somebody still waits for the answer then."""
    try:
        async with asyncio.timeout(seconds):
            await _until_left(receive)
    except TimeoutError:
        return True
    except asyncio.CancelledError:  # the server stops; let go at once and without a word
        transport = _transport(send)
        if transport is None:
            raise
        transport.abort()
        await asyncio.sleep(0)  # so that the loop closes the socket before it ends
    return False


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(send: Send) -> asyncio.Transport | None:
    # ASGI has no word for cutting a connection. uvicorn's `send` is a method of an object that holds the transport.
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if isinstance(transport, asyncio.Transport) else None


async def _cut(receive: Receive, send: Send, *, gently: bool) -> None:
    """End the connection: gently, so that the other side gets what was sent before, or by a reset."""
    transport = _transport(send)
    if transport is None:
        raise ConnectionResetError("The mock was asked to cut the connection.")
    if gently:
        transport.close()
    else:
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)  # a close now sends RST, not FIN
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    await _until_left(receive)


class _Door:
    """The handlers under `/_mock/`, which any language can reach."""

    def __init__(self, state: MockState) -> None:
        self._state = state

    async def index(self, request: Request) -> Response:
        return _json(
            {
                "api_key": self._state.api_key,
                "batches": len(self._state.batches),
                "faults": len(self._state.faults),
                "requests": len(self._state.requests),
                "paths": {
                    "/_mock/batches": "GET: all batches. POST: add one, or a list of them.",
                    "/_mock/batches/{bucket_identifier}/{batch_id}": "GET: one batch; ?namespace= names its namespace.",
                    "/_mock/namespaces": "POST: add a namespace.",
                    "/_mock/keys": "POST: add a key that may use some namespaces only.",
                    "/_mock/faults": "GET: what is planned to go wrong. POST: plan it. DELETE: plan nothing.",
                    "/_mock/random_faults": "POST: let a share of all requests go wrong.",
                    "/_mock/requests": "GET: the requests so far. DELETE: forget them.",
                    "/_mock/reset": "POST: forget everything.",
                },
            }
        )

    async def batches(self, request: Request) -> Response:
        if request.method != "POST":
            return _json([batch.to_dict() for batch in self._state.batches])
        given = await _body(request)
        if isinstance(given, list):
            return _json([batch.to_dict() for batch in self._state.add_batches(given)], 201)
        return _json(call(self._state.add_batch, given).to_dict(), 201)

    async def batch(self, request: Request) -> Response:
        place = [_decoded(request.path_params[name]) for name in ("bucket_identifier", "batch_id")]
        try:
            batch = self._state.batch(place[0], place[1], namespace=request.query_params.get("namespace"))
        except ConfigurationError as refusal:
            raise HTTPException(404, str(refusal)) from None
        return _json(batch.to_dict())

    async def namespaces(self, request: Request) -> Response:
        given = await _body(request)
        namespace_id = call(self._state.add_namespace, given)
        return _json({"name": given["name"], "namespace_id": namespace_id}, 201)

    async def keys(self, request: Request) -> Response:
        call(self._state.add_key, await _body(request))
        return Response(status_code=201)

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._state.clear_faults()
        elif request.method == "POST":
            call(self._state.fail_next, await _body(request))
        return _json([fault.to_dict() for fault in self._state.faults], 201 if request.method == "POST" else 200)

    async def random_faults(self, request: Request) -> Response:
        call(self._state.fail_randomly, await _body(request))
        return Response(status_code=204)

    async def requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._state.clear_requests()
        return _json([_asdict(recorded) for recorded in self._state.requests])

    async def reset(self, request: Request) -> Response:
        self._state.reset()
        return Response(status_code=204)


def _asdict(request: RecordedRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in RecordedRequest.__annotations__}


async def _body(request: Request) -> Any:
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > _LARGEST_BODY:
                raise HTTPException(413, f"The body is larger than {_LARGEST_BODY:,} bytes: send it in parts.")
    except ClientDisconnect:
        raise HTTPException(400, "The body broke off.") from None
    try:
        return json.loads(bytes(content))
    except (ValueError, RecursionError) as refusal:
        raise HTTPException(400, f"The body is not JSON: {refusal}.") from None


def _json(value: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # Escaped, so that half a surrogate pair, which UTF-8 cannot carry, can be shown too.
    return Response(json.dumps(value), status_code, headers, media_type="application/json")


async def _door_error(request: Request, refusal: Exception) -> Response:
    code = getattr(refusal, "status_code", 500)
    message = str(getattr(refusal, "detail", refusal))
    if code == 404 and message == "Not Found":
        message = "There is no such path here: GET /_mock/ lists them."
    return _json(error(code, message).body, code, getattr(refusal, "headers", None))


async def _door_refusal(request: Request, refusal: Exception) -> Response:
    return _json(error(422, str(refusal)).body, 422)
