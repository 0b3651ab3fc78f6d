"""The admin API, by which any language tells the mock what to do and asks it what happened: all under `/_mock/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mixpeek_batches.errors import ConfigurationError

from .checks import call_with_fields
from .endpoint import decoded
from .responses import envelope
from .state import MockState

PREFIX = "/_mock/"
_PATHS = {
    "/_mock/batches": "GET: all batches. POST: add one, or a list of them.",
    "/_mock/batches/{bucket_identifier}/{batch_id}": "GET: one batch; ?namespace= names its namespace.",
    "/_mock/namespaces": "POST: add a namespace.",
    "/_mock/keys": "POST: add a key that may use some namespaces only.",
    "/_mock/faults": "GET: what is planned to go wrong. POST: plan it. DELETE: plan nothing.",
    "/_mock/random_faults": "POST: let a share of all requests go wrong.",
    "/_mock/limits": "GET: the limits. POST: set them, in place of those before. DELETE: take them away.",
    "/_mock/requests": "GET: the requests so far. DELETE: forget them.",
    "/_mock/reset": "POST: go back to the start: its key, and the batches given then.",
}


class AdminAPI:
    """The admin API of a mock."""

    def __init__(self, state: MockState) -> None:
        self._state = state
        routes = [
            Route("/_mock/", self._index),
            Route("/_mock/batches", self._batches, methods=["GET", "POST"]),
            Route("/_mock/batches/{bucket_identifier}/{batch_id}", self._batch),
            Route("/_mock/namespaces", self._namespaces, methods=["POST"]),
            Route("/_mock/keys", self._keys, methods=["POST"]),
            Route("/_mock/faults", self._faults, methods=["GET", "POST", "DELETE"]),
            Route("/_mock/random_faults", self._random_faults, methods=["POST"]),
            Route("/_mock/limits", self._limits, methods=["GET", "POST", "DELETE"]),
            Route("/_mock/requests", self._requests, methods=["GET", "DELETE"]),
            Route("/_mock/reset", self._reset, methods=["POST"]),
        ]
        self.asgi = Starlette(
            routes=routes, exception_handlers={HTTPException: _http_error, ConfigurationError: _refusal}
        )

    async def serve(self, path: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Args:
            path: The path as it was sent, percent-encoded.
            body: The request's body.
            scope: As ASGI has it.
            receive: Likewise.
            send: Likewise.
        """
        await self.asgi({**scope, "path": path, "root_path": "", "body": body}, receive, send)

    async def _index(self, request: Request) -> Response:
        return _json({"api_key": self._state.api_key, **self._state.counts(), "paths": _PATHS})

    async def _batches(self, request: Request) -> Response:
        if request.method != "POST":
            return _json([batch.to_dict() for batch in self._state.batches])
        given = _given(request)
        if isinstance(given, list):
            return _json([batch.to_dict() for batch in self._state.add_batches(given)], 201)
        return _json(call_with_fields(self._state.add_batch, given).to_dict(), 201)

    async def _batch(self, request: Request) -> Response:
        bucket_identifier, batch_id = (decoded(request.path_params[name]) for name in ("bucket_identifier", "batch_id"))
        try:
            batch = self._state.batch(bucket_identifier, batch_id, namespace=request.query_params.get("namespace"))
        except ConfigurationError as refusal:
            raise HTTPException(404, str(refusal)) from None
        return _json(batch.to_dict())

    async def _namespaces(self, request: Request) -> Response:
        given = _given(request)
        namespace_id = call_with_fields(self._state.add_namespace, given)
        return _json({"name": given["name"], "namespace_id": namespace_id}, 201)

    async def _keys(self, request: Request) -> Response:
        call_with_fields(self._state.add_key, _given(request))
        return Response(status_code=201)

    async def _faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._state.clear_faults()
        elif request.method == "POST":
            call_with_fields(self._state.fail_next, _given(request))
        return _json([fault.to_dict() for fault in self._state.faults], 201 if request.method == "POST" else 200)

    async def _random_faults(self, request: Request) -> Response:
        call_with_fields(self._state.fail_randomly, _given(request))
        return Response(status_code=204)

    async def _limits(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._state.limits.set()
        elif request.method == "POST":
            call_with_fields(self._state.limits.set, _given(request))
        return _json(self._state.limits.to_dict())

    async def _requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._state.clear_requests()
        return _json([attrs.asdict(recorded) for recorded in self._state.requests])

    async def _reset(self, request: Request) -> Response:
        self._state.reset()
        return Response(status_code=204)


def _given(request: Request) -> Any:
    try:
        return json.loads(request.scope["body"])
    except (ValueError, RecursionError) as refusal:
        raise HTTPException(400, f"The body is not JSON: {refusal}.") from None


def _json(value: Any, status_code: int = 200) -> Response:
    # Escaped, so that half a surrogate pair, which UTF-8 cannot carry, can be shown too.
    return Response(json.dumps(value), status_code, media_type="application/json")


def _error(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(envelope(status_code, message), status_code, headers, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404 and message == "Not Found":
        message = "There is no such path here: GET /_mock/ lists them."
    return _error(error.status_code, message, error.headers)


async def _refusal(request: Request, error: Exception) -> Response:
    return _error(422, str(error))
