"""The schema side: schemathesis's examples, coverage and fuzzing phases, with eyes.

Left alone it addresses batches that do not exist, sees nothing but 404, and calls that a pass. Here most requests
address batches that do, and what it makes up is marked as made up.
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.engine import events, from_schema

from .clauses import SCHEMATHESIS
from .exchange import KEY_VARIABLE, Answer, Exchange, Request
from .report import Report
from .spec import PATH
from .target import MARK, Exhausted, Session

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
        case.path_parameters = {"bucket_identifier": place.bucket, "batch_id": place.batch}
        report.reached += 1
    else:
        parameters = dict(case.path_parameters or {})
        for name, value in parameters.items():
            parameters[name] = MARK + re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "", str(value))[:200]
        case.path_parameters = parameters
    headers = dict(case.headers or {})
    for name in [name for name in headers if name.lower() == "x-namespace"]:
        made_up = headers.pop(name)
        if chance < 0.25 or chance > 0.9:
            headers["X-Namespace"] = MARK + re.sub(r"[^\x21-\x7e]", "", str(made_up))[:200]
    if target.namespace is not None and "X-Namespace" not in headers:
        headers["X-Namespace"] = target.namespace
    case.headers = headers


def run(session: Session, report: Report) -> None:
    """Run the phases against the session's target, each check a clause."""
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
                _read(event.recorder, session, report)
            elif isinstance(event, events.NonFatalError | events.FatalError):
                error = getattr(event, "exception", None) or getattr(event, "info", event)
                if isinstance(getattr(event, "value", error), Exhausted) or isinstance(error, Exhausted):
                    break
                report.check("answers", False, None, "a run of schemathesis", repr(error))
    finally:
        _Hooks.session = _Hooks.report = None


def _read(recorder: Any, session: Session, report: Report) -> None:
    exchanges: dict[str, Exchange] = {}
    for case_id, interaction in recorder.interactions.items():
        exchange = _exchange(interaction, session.target.key)
        if exchange is None:
            continue
        exchanges[case_id] = exchange
        if exchange.request.method not in _UNTESTED:
            session.note(exchange)
    for case_id, checks in recorder.checks.items():
        exchange = exchanges.get(case_id)
        if exchange is None or exchange.request.method in _UNTESTED:
            continue
        for check in checks:
            name = f"generated-{check.name.replace('_', '-')}"
            if check.name in SCHEMATHESIS:
                failure: Failure | None = check.failure_info.failure if check.failure_info else None
                text = f"{failure.title}: {failure.message}" if failure else ""
                report.check(name, failure is None, exchange, SCHEMATHESIS[check.name], text)


def _exchange(interaction: Any, key: str) -> Exchange | None:
    sent, response = interaction.request, interaction.response
    if response is None:
        return None
    path = "/" + sent.uri.split("://", 1)[1].partition("/")[2]
    headers = [(name, value) for name, values in sent.headers.items() for value in values]
    authorization = next((value for name, value in headers if name.lower() == "authorization"), None)
    request = Request(
        method=sent.method,
        path=path,
        headers=tuple((name, value.encode("utf-8", "replace")) for name, value in headers if _matters(name)),
        authorization=None if authorization is None else authorization.replace(key, f"${KEY_VARIABLE}"),
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
