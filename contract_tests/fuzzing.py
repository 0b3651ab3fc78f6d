"""Requests that schemathesis generates from openapi.yaml: its examples, coverage and fuzzing phases.

On its own, schemathesis addresses batches that do not exist, sees nothing but 404, and passes. Here most requests
address batches that exist, and what it makes up is marked as made up. Its requests are sent as all others are.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import attrs
import requests
import schemathesis
from schemathesis.core.transport import Response as GeneratedResponse
from schemathesis.engine import events, from_schema
from schemathesis.transport.requests import RequestsTransport

from . import clauses as c
from .api import Api, named_statuses
from .clause import CLAUSES, Clause
from .session import LIMITED, Stopped
from .spec import CANCEL, PATH
from .target import MARK
from .wire import KEY_VARIABLE, Exchange, segment

_STATUSES = ["200", "400", "401", "403", "404", "429", "503"]  # 400 is a finished batch, not invalid data


class _Transport(RequestsTransport):
    """Sends what schemathesis generates as everything else is sent."""

    def __init__(self, api: Api) -> None:
        super().__init__()
        self.api = api
        self.sent: dict[str, Exchange] = {}

    def send(self, case: Any, *, session: Any = None, **kwargs: Any) -> GeneratedResponse:
        kwargs["headers"] = {**(session.headers if session is not None else {}), **(kwargs.get("headers") or {})}
        prepared = requests.Request(**self.serialize_case(case, **kwargs)).prepare()
        headers = [(name, value if isinstance(value, bytes) else str(value).encode("utf-8", "replace"))
                   for name, value in prepared.headers.items() if name.lower() != "content-length"]  # fmt: skip
        path = str(prepared.url).removeprefix(self.api.target.base_url)
        plain = self.api.request(path, more=headers, accept=None, key=None, namespace=None)
        right_key = f"Bearer {self.api.target.key}".encode(), f"Bearer ${KEY_VARIABLE}"
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        request = attrs.evolve(
            plain,
            clause=c.body_means_nothing.name if body else "generated",
            method=str(prepared.method),
            body=body if isinstance(body, bytes) else b"",
            bash=(*plain.bash, right_key),
        )
        exchange = self.sent[case.id] = self.api.send(request, "generated")
        _compare(self.api, exchange)
        response = exchange.response
        if response.failure is not None:
            raise requests.ConnectionError(response.failure, request=prepared)
        names = {name for name, _ in response.headers} - {"content-encoding"}
        return GeneratedResponse(
            status_code=response.status,
            headers={name: [value for key, value in response.headers if key == name] for name in names},
            content=response.text.encode(),  # schemathesis does not decompress
            request=prepared,
            elapsed=0.0,
            verify=True,
            message=response.reason,
        )


@schemathesis.hook("before_call")
def _address(context: Any, case: Any, kwargs: Any) -> None:
    """Let most cases address batches that exist, and mark everything else that is generated."""
    transport = case.operation.schema.transport
    if not isinstance(transport, _Transport):
        return
    api = transport.api
    target, chance = api.target, api.random.random()
    api.report.generated += 1
    if target.known and chance < 0.75:
        batch = api.random.choice(target.known)
        case.path_parameters = {"bucket_identifier": segment(batch.bucket), "batch_id": segment(batch.batch)}
        api.report.reached += 1
    else:
        parameters = dict(case.path_parameters or {})
        for name, value in parameters.items():
            # They are percent-encoded already. Control characters are left to `odd_identifiers`.
            text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]", "", unquote(str(value)))
            parameters[name] = segment(MARK + text[:100])
        case.path_parameters = parameters
    headers = dict(case.headers or {})
    for name in [name for name in headers if name.lower() == "x-namespace"]:
        made_up = headers.pop(name)
        if chance < 0.25 or chance > 0.9:
            headers["X-Namespace"] = MARK + re.sub(r"[^\x21-\x7e]", "", str(made_up))[:200]
    if target.namespace is not None and "X-Namespace" not in headers:
        headers["X-Namespace"] = target.namespace
    case.headers = headers


def run(api: Api) -> None:
    """Run the phases of schemathesis against a target, each of its checks a clause.

    Raises:
        Stopped: If no more requests may be sent.
    """
    config = schemathesis.Config.from_dict(
        {
            "seed": api.report.seed,
            "headers": {"Authorization": f"Bearer {api.target.key}", "Accept": "application/json"},
            "generation": {
                "max-examples": 30 if api.target.unlimited else 15,
                "no-shrink": True,
                "database": "none",
            },
            "checks": {"positive_data_acceptance": {"expected-statuses": _STATUSES}},
            "phases": {"stateful": {"enabled": False}},
            "continue-on-failure": True,
        }
    )
    whole = schemathesis.openapi.from_path(str(PATH), config=config)
    schema: Any = whole.include(operation_id=[clause.operation for clause in CLAUSES.values()])
    schema.config.update(base_url=api.target.base_url)
    transport = _Transport(api)
    # The transport is a property without a setter.
    schema.__class__ = type("Schema", (type(schema),), {"transport": property(lambda _: transport)})

    for event in from_schema(schema).execute():
        if api.report.stopped:
            raise Stopped(api.report.stopped)
        if isinstance(event, events.ScenarioFinished):
            _read(event.recorder, transport)
        elif isinstance(event, events.FatalError):
            api.report.check(c.answers, False, None, "a run of schemathesis", repr(event.exception))


def _read(recorder: Any, transport: _Transport) -> None:
    """Take over the results of schemathesis's checks."""
    report = transport.api.report
    for case_id, checks in recorder.checks.items():
        exchange = transport.sent.get(case_id)
        if exchange is None or report.is_from_gateway(exchange) or exchange.response.status in LIMITED:
            continue
        for check in checks:
            clause = CLAUSES.get(f"generated-{check.name.replace('_', '-')}")
            if clause is not None:
                failure = check.failure_info.failure if check.failure_info else None
                text = f"{failure.title}: {failure.message}" if failure else ""
                report.check(clause, failure is None, exchange, clause.sentence, text)


def _compare(api: Api, exchange: Exchange) -> None:
    """Compare a response with what is known: a batch that exists responds as before, one that does not with 404."""
    request, response, target = exchange.request, exchange.response, api.target
    if request.method != CANCEL.method or request.header("authorization") != b"Bearer " + target.key.encode():
        return
    if response.status in LIMITED or api.report.is_from_gateway(exchange):
        return
    in_namespace = (request.header("x-namespace") or b"").decode() == (target.namespace or "")
    batch = next((batch for batch in target.known if in_namespace and batch.path == request.path), None)

    def check(clause: Clause, ok: bool, expected: str) -> None:
        told = c.body_means_nothing if request.body or request.header("content-type") else clause
        api.report.check(told, ok, exchange, expected, response)

    if batch is None:
        check(c.unknown_batch, response.status == 404, "404")
    elif batch in api.tasks:
        same = response.json_object() == api.tasks[batch]
        check(c.idempotent, response.status == 200 and same, "200 and the same task")
    elif batch in api.refused_as:
        same = named_statuses(response) == api.refused_as[batch]
        check(c.finished_unchanged, response.status == 400 and same, "400 and the same status")
