"""The schema side: schemathesis's examples, coverage and fuzzing phases, with eyes.

Left alone it addresses batches that do not exist, sees nothing but 404, and calls that a pass. Here most requests
address batches that do, and what it makes up is marked as made up.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema

from .behaviour import named_statuses
from .clauses import SCHEMATHESIS
from .exchange import KEY_VARIABLE, Answer, Exchange, Request, segment
from .report import Report
from .spec import PATH
from .target import MARK, Exhausted, Place, Session, Target

_EXAMPLES = 40
_STATUSES = ["200", "400", "401", "403", "404", "429"]  # 400 is a finished batch, not invalid data
_UNTESTED = {"TRACE", "OPTIONS", "QUERY", "HEAD", "CONNECT"}  # proxies and frameworks answer these in their own right


class _Hooks:
    """What the one set of hooks that schemathesis has in a process works for at the moment."""

    session: Session | None = None
    report: Report | None = None


@schemathesis.hook("before_call")
def _address(context: Any, case: Any, kwargs: Any) -> None:
    """Let most cases address batches that exist, and mark everything else that is generated."""
    session, report = _Hooks.session, _Hooks.report
    if session is None or report is None:
        return
    session.acquire()
    target = session.target
    known = (*target.cancelable, *target.finished)
    report.generated += 1
    chance = session.random.random()
    if known and chance < 0.75:
        place = session.random.choice(known)
        case.path_parameters = {"bucket_identifier": segment(place.bucket), "batch_id": segment(place.batch)}
        report.reached += 1
    else:
        parameters = dict(case.path_parameters or {})
        for name, value in parameters.items():
            # They are percent-encoded already. Control characters are `Behaviour.odd_input`'s.
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


def run(session: Session, report: Report, tasks: dict[Place, dict[str, Any]]) -> None:
    """Run the phases against the session's target, each check a clause.

    Args:
        session: To the target.
        report: For what is found.
        tasks: What each known batch must still answer.

    Raises:
        Exhausted: No more requests may be sent.
    """
    target = session.target
    config = schemathesis.Config.from_dict(
        {
            "seed": report.seed,
            "headers": {"Authorization": f"Bearer {target.key}", "Accept": "application/json"},
            "generation": {"max-examples": _EXAMPLES, "no-shrink": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": _STATUSES}},
            "phases": {"stateful": {"enabled": False}},
            "continue-on-failure": True,
            "request-timeout": 15,
        }
    )
    schema = schemathesis.openapi.from_path(str(PATH), config=config)
    schema.config.update(base_url=target.base_url)
    _Hooks.session, _Hooks.report = session, report
    try:
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                _read(event.recorder, session, report, tasks)
            elif isinstance(event, events.NonFatalError | events.FatalError) and session.exhausted is None:
                error = getattr(event, "value", None) or getattr(event, "exception", event)
                report.check("answers", False, None, "a run of schemathesis", repr(error))
        if session.exhausted is not None:
            raise Exhausted(session.exhausted)
    finally:
        _Hooks.session = _Hooks.report = None


def _read(recorder: Any, session: Session, report: Report, tasks: dict[Place, dict[str, Any]]) -> None:
    exchanges: dict[str, Exchange] = {}
    for case_id, interaction in recorder.interactions.items():
        exchange = _exchange(interaction, session.target)
        if exchange is None:
            continue
        exchanges[case_id] = exchange
        if exchange.request.method not in _UNTESTED:
            session.note(exchange)
            _compare(exchange, session.target, report, tasks)
    for case_id, checks in recorder.checks.items():
        exchange = exchanges.get(case_id)
        if exchange is None or exchange.request.method in _UNTESTED:
            continue
        for check in checks:
            name = f"generated-{check.name.replace('_', '-')}"
            if check.name in SCHEMATHESIS and exchange.answer.status != 429:
                failure: Failure | None = check.failure_info.failure if check.failure_info else None
                text = f"{failure.title}: {failure.message}" if failure else ""
                report.check(name, failure is None, exchange, SCHEMATHESIS[check.name], text)


def _compare(exchange: Exchange, target: Target, report: Report, tasks: dict[Place, dict[str, Any]]) -> None:
    """Hold an answer to what is known: a batch that exists answers as it did, one that does not with 404."""
    request, answer = exchange.request, exchange.answer
    if request.method != "POST" or request.header("authorization") != b"Bearer " + target.key.encode():
        return
    if answer.status == 429:
        return
    sent = (request.header("x-namespace") or b"").decode() or None
    known = {place.path: place for place in tasks if sent == target.namespace}
    place = known.get(request.path)
    if place is None:
        report.check("unknown-batch", answer.status == 404, exchange, "404", answer.status)
    elif place in target.cancelable:
        ok = answer.status == 200 and answer.object() == tasks[place]
        report.check("idempotent", ok, exchange, "200 and the same task", f"{answer.status} {answer.body[:200]!r}")
    else:
        ok = answer.status == 400 and named_statuses(answer) == tasks[place]["statuses"]
        report.check("finished-unchanged", ok, exchange, "400 and the same status", f"{answer.status} {answer.body!r}")


def _exchange(interaction: Any, target: Target) -> Exchange | None:
    sent, response = interaction.request, interaction.response
    if response is None:
        return None
    path = sent.uri.removeprefix(target.base_url)
    headers = [(name, value) for name, values in sent.headers.items() for value in values]
    authorization = next((value for name, value in headers if name.lower() == "authorization"), None)
    request = Request(
        method=sent.method,
        path=path,
        headers=tuple((name, value.encode("utf-8", "replace")) for name, value in headers if _matters(name)),
        authorization=None if authorization is None else authorization.replace(target.key, f"${KEY_VARIABLE}"),
        clause="generated",
    )
    answer = Answer(
        status=response.status_code,
        headers=tuple((name.lower(), value) for name, values in response.headers.items() for value in values),
        body=response.content or b"",
    )
    return Exchange(request, answer)


def _matters(name: str) -> bool:
    return name.lower() in {"authorization", "x-namespace", "accept", "content-type"}
