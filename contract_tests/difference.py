"""Mock ⇄ real: the same requests to both, and every difference between their responses."""

from __future__ import annotations

import re
from typing import Any

import attrs

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockServer

from .api import named_statuses
from .decisions import CANCELABLE, FINISHED
from .report import Report
from .session import LIMITED
from .target import BatchRef
from .wire import Response, Wire

# The contract leaves open what is in the other fields, and mostly whether they are there.
_FIELDS = {"task_id", "task_type", "status", "error_message", "success", "error", "message", "type"}
# Letters and digits that a proxy may decode (RFC 3986, section 6.2.2.2), which leads to another path.
_DECODABLE = re.compile("%(3[0-9]|[46][1-9A-F]|[57][0-9A])", re.IGNORECASE)
_TYPES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


@attrs.define
class Difference:
    """A difference, with the first request that shows it."""

    clause: str
    what: str
    real: str
    mock: str
    curl: str
    requests: int = 0


def compare(report: Report) -> list[Difference]:
    """Send to a mock what was sent to a target, in the same order, and list which responses differ."""
    target = report.target
    found: dict[tuple[str, str, str, str], Difference] = {}
    with MockServer(api_key=target.key) as mock, Wire(mock.url) as wire:
        _copy_batches(mock, report)
        for exchange in report.exchanges:
            request, response = exchange.request, exchange.response
            slashes = re.search("slash|dot", request.gateway_reason)  # which a gateway may merge
            rewritten = slashes or _DECODABLE.search(request.path)
            if rewritten or report.is_from_gateway(exchange) or response.status in LIMITED:
                continue  # that is not the API's response
            real, mocked = _aspects(response), _aspects(wire.send(request))
            for what in (what for what in real if real[what] != mocked[what]):
                texts = request.clause, what, report.clean(real[what]), report.clean(mocked[what])
                if texts not in found:
                    found[texts] = Difference(*texts, curl=report.clean(request.curl(target.base_url)))
                found[texts].requests += 1
    return list(found.values())


def _copy_batches(mock: MockServer, report: Report) -> None:
    """Add to a mock the namespaces and batches that a target has, as far as its responses show them."""
    target, namespace = report.target, report.target.namespace or "default"
    mock.add_namespace(namespace, namespace_id=target.namespace_id)
    for other in (target.other_namespace, target.forbidden_namespace):
        if other is not None:
            mock.add_namespace(other)
    if target.forbidden_namespace is not None:
        allowed = ["default", namespace, target.other_namespace or namespace]
        mock.add_key(target.key, namespaces=allowed)
    for batch in target.known:
        where = {"bucket_identifier": batch.bucket, "batch_id": batch.batch, "namespace": namespace}
        tasks = _responses(report, batch, 200)
        if batch in target.finished:
            named = [status for response in _responses(report, batch, 400) for status in named_statuses(response)]
            mock.add_batches([{**where, "status": target.statuses.get(batch) or [*named, FINISHED[1]][0]}])
            continue
        task = tasks[0].json_object() if tasks else {}
        kept: dict[str, Any] = {
            name: task[name] for name in ("inputs", "outputs", "additional_data", "task_id") if name in task
        }
        try:
            mock.add_batches([{**where, "status": CANCELABLE[0], **kept}])
        except ConfigurationError:  # a task that breaks the contract, which shows as a difference
            mock.add_batches([{**where, "status": CANCELABLE[0]}])


def _responses(report: Report, batch: BatchRef, status: int) -> list[Response]:
    """Return the responses for a batch that have a status code."""
    return [
        exchange.response
        for exchange in report.exchanges
        if exchange.request.path == batch.path and exchange.response.status == status
    ]


def _aspects(response: Response) -> dict[str, str]:
    if response.failure is not None:
        return {"status": response.failure, "content type": "", "body": ""}
    try:
        body = _shape(response.json())
    except ValueError:
        body = "not JSON"
    media_type = (response.header("content-type") or "none").partition(";")[0].strip().lower()
    return {"status": str(response.status), "content type": media_type, "body": body}


def _shape(value: Any) -> str:
    """Describe the types of the fields of the contract; a field that is null may as well be absent."""
    if isinstance(value, dict):
        fields = {name: item for name, item in sorted(value.items()) if name in _FIELDS and item is not None}
        return "{" + ", ".join(f"{name}: {_shape(item)}" for name, item in fields.items()) + "}"
    return _TYPES.get(type(value), "number")
