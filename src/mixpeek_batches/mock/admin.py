"""The admin API under `/_mock/`, which controls and inspects the mock from any language."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixpeek_batches.errors import ConfigurationError

from .app import ADMIN_PREFIX
from .checks import call_with_fields
from .endpoint import decoded
from .responses import envelope
from .state import MockState


class AdminAPI:
    """The admin API of a mock. Its app takes the path as it was sent and, as `body`, the body from the scope."""

    def __init__(self, state: MockState) -> None:
        self._state = state
        self._routes: list[Route] = []
        self._paths: dict[str, str] = {}
        self._add("", self._index, GET="the API key, counts and these paths")
        self._add("batches", self._batches, GET="all batches", POST="add one, or a list of them")
        self._add(
            "batches/{bucket_identifier}/{batch_id}", self._batch, GET="one batch; ?namespace= names its namespace"
        )
        self._add("namespaces", self._namespaces, POST="add a namespace")
        self._add("keys", self._keys, POST="add a key that may use some namespaces only")
        self._add("faults", self._faults, GET="the planned faults", POST="plan faults", DELETE="cancel all faults")
        self._add("random_faults", self._random_faults, POST="make a share of all requests fail")
        self._add("limits", self._limits, GET="the limits", POST="replace the limits", DELETE="remove the limits")
        self._add("requests", self._requests, GET="the last requests, oldest first", DELETE="forget them")
        self._add("reset", self._reset, POST="return to the initial state: its API key and its first batches")
        handlers = {HTTPException: _http_error, ConfigurationError: _configuration_error}
        self.app = Starlette(routes=self._routes, exception_handlers=handlers)

    def _add(self, path: str, handler: Callable[[Request], Awaitable[Response]], **methods: str) -> None:
        self._routes.append(Route(ADMIN_PREFIX + path, handler, methods=[*methods]))
        self._paths[ADMIN_PREFIX + path] = " ".join(f"{method}: {text}." for method, text in methods.items())

    async def _index(self, request: Request) -> Response:
        return _json({"api_key": self._state.api_key, **self._state.counts(), "paths": self._paths})

    async def _batches(self, request: Request) -> Response:
        if request.method != "POST":
            return _json([batch.to_dict() for batch in self._state.batches])
        fields = _body(request)
        if isinstance(fields, list):
            return _json([batch.to_dict() for batch in self._state.add_batches(fields)], 201)
        return _json(call_with_fields(self._state.add_batch, fields).to_dict(), 201)

    async def _batch(self, request: Request) -> Response:
        bucket_identifier, batch_id = (decoded(segment) for segment in request.path_params.values())
        try:
            batch = self._state.batch(bucket_identifier, batch_id, namespace=request.query_params.get("namespace"))
        except ConfigurationError as error:
            raise HTTPException(404, str(error)) from None
        return _json(batch.to_dict())

    async def _namespaces(self, request: Request) -> Response:
        fields = _body(request)
        namespace_id = call_with_fields(self._state.add_namespace, fields)
        return _json({"name": fields["name"], "namespace_id": namespace_id}, 201)

    async def _keys(self, request: Request) -> Response:
        call_with_fields(self._state.add_key, _body(request))
        return Response(status_code=201)

    async def _faults(self, request: Request) -> Response:
        if request.method == "POST":
            call_with_fields(self._state.fail_next, _body(request))
        if request.method == "DELETE":
            self._state.clear_faults()
        return _json([fault.to_dict() for fault in self._state.faults], 201 if request.method == "POST" else 200)

    async def _random_faults(self, request: Request) -> Response:
        call_with_fields(self._state.fail_randomly, _body(request))
        return Response(status_code=204)

    async def _limits(self, request: Request) -> Response:
        if request.method == "POST":
            call_with_fields(self._state.limits.set, _body(request))
        if request.method == "DELETE":
            self._state.limits.set()
        return _json(self._state.limits.to_dict())

    async def _requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._state.clear_requests()
        return _json([attrs.asdict(recorded) for recorded in self._state.requests])

    async def _reset(self, request: Request) -> Response:
        self._state.reset()
        return Response(status_code=204)


def _body(request: Request) -> Any:
    try:
        return json.loads(request.scope["body"])
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not valid JSON: {error}.") from None


def _json(value: Any, status_code: int = 200) -> Response:
    # Escaped to ASCII: lone surrogates can be shown too, which UTF-8 cannot encode.
    return Response(json.dumps(value), status_code, media_type="application/json")


def _error(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(envelope(status_code, message), status_code, headers, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 405:
        message = f"{request.method} is not allowed on this path: use {(error.headers or {})['Allow']}."
    elif message == "Not Found":  # Starlette's own
        message = f"There is no such path: GET {ADMIN_PREFIX} lists all paths."
    return _error(error.status_code, message, error.headers)


async def _configuration_error(request: Request, error: Exception) -> Response:
    return _error(422, str(error))
