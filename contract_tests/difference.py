"""Mock ⇄ real: the same requests to both, and every difference between their answers."""

from __future__ import annotations

import re
from typing import Any

import attrs

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockServer

from .conversation import named_statuses
from .decisions import CANCELABLE, FINISHED
from .report import Report
from .session import LIMITED
from .target import Place, Target
from .wire import Answer, Exchange, Wire

# The contract leaves open what is in the other fields, and mostly whether they are there.
_FIELDS = {"task_id", "task_type", "status", "error_message", "success", "error", "message", "type"}


@attrs.frozen
class Difference:
    """A difference, with the first request that shows it."""

    clause: str
    what: str
    real: str
    mock: str
    curl: str
    requests: int = 1


def compare(report: Report, exchanges: list[Exchange]) -> list[Difference]:
    """Send to a mock what was sent to a target, in the same order, and list what came back otherwise.

    Args:
        report: Of the run against the target.
        exchanges: What was sent to it, and what it answered.
    """
    target = report.target
    found: dict[tuple[str, str, str, str], Difference] = {}
    with MockServer(api_key=target.key) as mock:
        _copy_batches(mock, target, exchanges)
        with Wire(mock.url) as wire:
            for exchange in exchanges:
                slashes = re.search("slash|dot", exchange.request.gateway)  # which a gateway may merge
                if slashes or report.is_gateways(exchange) or exchange.answer.status in LIMITED:
                    continue  # that is not the API's answer
                sides = [_aspects(answer) for answer in (exchange.answer, wire.send(exchange.request))]
                for what, real in sides[0].items():
                    key = (exchange.request.clause, what, real, sides[1][what])
                    if real == sides[1][what]:
                        continue
                    if key in found:
                        found[key] = attrs.evolve(found[key], requests=found[key].requests + 1)
                    else:
                        found[key] = Difference(*key, exchange.request.curl(target.base_url))
    return [
        attrs.evolve(one, real=report.clean(one.real), mock=report.clean(one.mock), curl=report.clean(one.curl))
        for one in found.values()
    ]


def _copy_batches(mock: MockServer, target: Target, exchanges: list[Exchange]) -> None:
    namespace = target.namespace or "default"
    mock.add_namespace(namespace, namespace_id=target.namespace_id)
    if target.other_namespace is not None:
        mock.add_namespace(target.other_namespace)
    if target.forbidden_namespace is not None:
        mock.add_namespace(target.forbidden_namespace)
        allowed = [name for name in (namespace, target.other_namespace) if name is not None]
        mock.add_key(target.key, namespaces=["default", *allowed])
    for place in target.cancelable:
        task = _first(exchanges, place, 200)
        batch: dict[str, Any] = {**_where(place, namespace), "status": CANCELABLE[0]}
        given: dict[str, Any] = {
            name: task[name] for name in ("inputs", "outputs", "additional_data", "task_id") if name in task
        }
        whole: dict[str, Any] = {**batch, **given}
        try:
            mock.add_batches([whole])
        except ConfigurationError:  # a task that breaks the contract, which shows as a difference
            mock.add_batches([batch])
    for place in target.finished:
        named = [target.statuses[place]] if place in target.statuses else _said(exchanges, place)
        mock.add_batches([{**_where(place, namespace), "status": (named or FINISHED[1:])[0]}])


def _where(place: Place, namespace: str) -> dict[str, Any]:
    return {"bucket_identifier": place.bucket, "batch_id": place.batch, "namespace": namespace}


def _said(exchanges: list[Exchange], place: Place) -> list[str]:
    """Name the status that refusals for a batch told."""
    answers = [e.answer for e in exchanges if e.request.path == place.path and e.answer.status == 400]
    return next((named for answer in answers if (named := named_statuses(answer))), [])


def _first(exchanges: list[Exchange], place: Place, status: int) -> dict[str, Any]:
    """Give the body of the first answer for a batch that has a status, or an empty one."""
    for exchange in exchanges:
        if exchange.request.path == place.path and exchange.answer.status == status:
            return exchange.answer.object()
    return {}


def _aspects(answer: Answer) -> dict[str, str]:
    if answer.failure is not None:
        return {"status": answer.failure, "content type": "", "body": ""}
    try:
        body = _shape(answer.json())
    except ValueError:
        body = "not JSON"
    media = (answer.header("content-type") or "none").partition(";")[0].strip().lower()
    return {"status": str(answer.status), "content type": media, "body": body}


def _shape(value: Any) -> str:
    """Spell out the types of the fields of the contract; a field that is null may as well be absent."""
    if isinstance(value, dict):
        fields = {name: item for name, item in sorted(value.items()) if name in _FIELDS and item is not None}
        return "{" + ", ".join(f"{name}: {_shape(item)}" for name, item in fields.items()) + "}"
    return _kind(value)


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
