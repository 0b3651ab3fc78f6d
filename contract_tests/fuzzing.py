"""The schema side: schemathesis's examples, coverage and fuzzing phases, with eyes.

Left alone it addresses batches that do not exist, sees nothing but 404, and calls that a pass. Here most requests
address batches that do, and what it makes up is marked as made up. Its requests leave as all others do.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import unquote

import attrs
import requests
import schemathesis
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from schemathesis.transport.requests import RequestsTransport

from . import clauses as c
from .clause import CLAUSES
from .conversation import Conversation, named_statuses
from .session import LIMITED, MARK, Stopped
from .spec import CANCEL, PATH
from .wire import KEY_VARIABLE, Exchange, segment

_EXAMPLES = {True: 30, False: 15}  # by whether requests are cheap
_STATUSES = ["200", "400", "401", "403", "404", "429", "503"]  # 400 is a finished batch, not invalid data


class _Transport(RequestsTransport):
    """Sends what schemathesis generates as everything else is sent."""

    talk: ClassVar[Conversation | None] = None
    sent: ClassVar[dict[str, Exchange]] = {}

    def send(self, case: Any, *, session: Any = None, **kwargs: Any) -> Response:
        talk = self.talk
        assert talk is not None
        kwargs["headers"] = {**(session.headers if session is not None else {}), **(kwargs.get("headers") or {})}
        prepared = requests.Request(**self.serialize_case(case, **kwargs)).prepare()
        headers = [(name, value if isinstance(value, bytes) else str(value).encode("utf-8", "replace"))
                   for name, value in prepared.headers.items() if name.lower() != "content-length"]  # fmt: skip
        base = talk.session.request("", more=headers, accept=None, key=None, namespace=None, clause="generated")
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        path = str(prepared.url).removeprefix(talk.target.base_url)
        spelled = (*base.spelled, (f"Bearer {talk.target.key}".encode(), f"Bearer ${KEY_VARIABLE}"))
        request = attrs.evolve(
            base, method=str(prepared.method), path=path, body=body if isinstance(body, bytes) else b"", spelled=spelled
        )
        exchange = talk.session.send(request, "generated")
        _compare(talk, exchange)
        self.sent[case.id] = exchange
        answer = exchange.answer
        if answer.failure is not None:
            raise requests.ConnectionError(answer.failure, request=prepared)
        names = {name for name, _ in answer.headers} - {"content-encoding"}
        return Response(
            status_code=answer.status,
            headers={name: [value for key, value in answer.headers if key == name] for name in names},
            content=answer.text.encode(),  # schemathesis does not undo a compression
            request=prepared,
            elapsed=0.0,
            verify=True,
            message=answer.reason,
        )


@schemathesis.hook("before_call")
def _address(context: Any, case: Any, kwargs: Any) -> None:
    """Let most cases address batches that exist, and mark everything else that is generated."""
    talk = _Transport.talk
    if talk is None:
        return
    target, chance = talk.target, talk.random.random()
    talk.report.generated += 1
    if target.known and chance < 0.75:
        place = talk.random.choice(target.known)
        case.path_parameters = {"bucket_identifier": segment(place.bucket), "batch_id": segment(place.batch)}
        talk.report.reached += 1
    else:
        parameters = dict(case.path_parameters or {})
        for name, value in parameters.items():
            # They are percent-encoded already. Control characters are `odd_identifiers`'s.
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


def run(talk: Conversation) -> None:
    """Run the phases against a target, each check a clause.

    Raises:
        Stopped: No more requests may be sent.
    """
    target = talk.target
    config = schemathesis.Config.from_dict(
        {
            "seed": talk.report.seed,
            "headers": {"Authorization": f"Bearer {target.key}", "Accept": "application/json"},
            "generation": {"max-examples": _EXAMPLES[target.thorough], "no-shrink": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": _STATUSES}},
            "phases": {"stateful": {"enabled": False}},
            "continue-on-failure": True,
        }
    )
    whole = schemathesis.openapi.from_path(str(PATH), config=config)
    schema = whole.include(operation_id=[clause.operation for clause in CLAUSES.values()])
    schema.config.update(base_url=target.base_url)
    kind: Any = type(schema)
    schema.__class__ = type(kind.__name__, (kind,), {"transport": property(lambda _: _Transport())})
    _Transport.talk, _Transport.sent = talk, {}
    try:
        for event in from_schema(schema).execute():
            if talk.session.stopped is not None:
                raise Stopped(talk.session.stopped)
            if isinstance(event, events.ScenarioFinished):
                _read(event.recorder, talk)
            elif isinstance(event, events.FatalError):
                talk.report.check(c.answers, False, None, "a run of schemathesis", repr(event.exception))
    finally:
        _Transport.talk = None


def _read(recorder: Any, talk: Conversation) -> None:
    """Take over what schemathesis makes of the answers."""
    for case_id, checks in recorder.checks.items():
        exchange = _Transport.sent.get(case_id)
        if exchange is None or talk.report.is_gateways(exchange) or exchange.answer.status in LIMITED:
            continue
        for check in checks:
            clause = CLAUSES.get(f"generated-{check.name.replace('_', '-')}")
            if clause is not None:
                failure = check.failure_info.failure if check.failure_info else None
                text = f"{failure.title}: {failure.message}" if failure else ""
                talk.report.check(clause, failure is None, exchange, clause.sentence, text)


def _compare(talk: Conversation, exchange: Exchange) -> None:
    """Hold an answer to what is known: a batch that exists answers as it did, one that does not with 404."""
    request, answer, target = exchange.request, exchange.answer, talk.target
    if request.method != CANCEL.method or request.header("authorization") != b"Bearer " + target.key.encode():
        return
    if answer.status in LIMITED or talk.report.is_gateways(exchange):
        return
    sent = (request.header("x-namespace") or b"").decode() or None
    known = {place.path: place for place in target.known if sent == target.namespace}
    place = known.get(request.path)
    if place is None:
        talk.report.check(c.unknown_batch, answer.status == 404, exchange, "404", answer)
    elif place in talk.tasks:
        ok = answer.status == 200 and answer.object() == talk.tasks[place]
        talk.report.check(c.idempotent, ok, exchange, "200 and the same task", answer)
    elif place in talk.said:
        ok = answer.status == 400 and named_statuses(answer) == talk.said[place]
        talk.report.check(c.finished_unchanged, ok, exchange, "400 and the same status", answer)
