"""The API under test, as clauses use it: requests, what must come back, and what is known of the target so far."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

from .clause import Clause, Phase
from .decisions import FINISHED
from .report import Report
from .session import Session
from .target import BatchRef
from .wire import Exchange, Response, Wire


class Api(Session):
    """Runs clauses, one after the other, against one target.

    Attributes:
        tasks: The task of each batch that was cancelled.
        refused_as: The statuses that the details of each finished batch's refusal named.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.tasks: dict[BatchRef, dict[str, Any]] = {}
        self.refused_as: dict[BatchRef, list[str]] = {}
        self._running: Clause

    def run(self, phase: Phase, clauses: Iterable[Clause]) -> None:
        """Call those clauses of a phase whose requirements are met."""
        for clause in clauses:
            if phase in clause.phases and not clause.missing(self.target):
                self._running, self.clause = clause, clause.name
                clause.function(self)

    def check(self, ok: bool, exchange: Exchange | None, expected: object, got: object) -> None:
        """Record whether the running clause held."""
        self.report.check(self._running, ok, exchange, expected, got)

    def ask(self, batch: BatchRef | str, *, wire: Wire | None = None, **options: Any) -> Exchange:
        """Send a request; see Session.request for the options."""
        return self.send(self.request(batch, **options), wire=wire)

    def expect(self, status: int, batch: BatchRef | str, *others: int, **options: Any) -> Exchange:
        """Send a request whose response must have a status code, or one of some others."""
        exchange = self.ask(batch, **options)
        self.check_status(exchange, status, *others)
        return exchange

    def check_status(self, exchange: Exchange, *statuses: int) -> None:
        """Check the status code of a response, unless a gateway sent it in place of the API."""
        if not self.report.is_from_gateway(exchange):
            response = exchange.response
            ok = response.failure is None and response.status in statuses
            self.check(ok, exchange, " or ".join(map(str, statuses)), response)

    @property
    def batch(self) -> BatchRef:
        """A batch for requests that must be refused: one that could be cancelled, if there is one."""
        return self.target.known[0] if self.target.known else self.unknown()

    @property
    def samples(self) -> tuple[BatchRef, ...]:
        """One cancelable and one finished batch, as far as there are; a cancelled one, once there is one."""
        return (*self.target.cancelable[:1], *self.target.finished[: 0 if self.tasks else 1])

    @property
    def reference(self) -> tuple[BatchRef, int]:
        """A batch, and the status code of a plain request for it, whatever happened before."""
        if self.target.finished:
            return self.target.finished[0], 400
        return (next(iter(self.tasks)), 200) if self.tasks else (self.unknown(), 404)

    @functools.cached_property
    def merged_slashes(self) -> tuple[int, ...]:
        """The status code of a batch that was not named, where a gateway merges slashes: its refusal, or none."""
        batch, status = self.reference
        if batch not in self.target.known or status < 400 or self.target.mock is not None:
            return ()
        merged = self.ask(batch.path.replace("/buckets/", "//buckets/", 1))
        return (status,) if merged.response.status == status else ()

    def expect_no_effect(self, **options: Any) -> None:
        """Expect that options change nothing: for a batch that exists, one that does not, and a wrong key."""
        batch, status = self.reference
        self.expect(status, batch, **options)
        self.expect(404, self.unknown(), **options)
        self.expect(401, batch, **{**options, "key": f"Bearer {self.made_up()}"})

    def expect_alike(self, real: Sequence[BatchRef], unreal: Sequence[BatchRef], **options: Any) -> None:
        """Expect the same response for two batches, each requested twice, so that what varies anyway is known."""
        exchanges = [[self.ask(batch, **options) for batch in twice] for twice in (real, unreal)]
        facts = [[_facts(exchange) for exchange in twice] for twice in exchanges]
        differences = {}
        for name in {name for twice in facts for one in twice for name in one}:
            one, other = ({each.get(name, "nothing") for each in twice} for twice in facts)
            if len(one) == len(other) == 1 and one != other:
                differences[name] = f"{one.pop()} / {other.pop()}"
        self.check(not differences, exchanges[0][0], "the response for a batch that does not exist", differences)


def named_statuses(response: Response) -> list[str]:
    """Return the finished statuses that the details of a refusal name: in `status`, or anywhere as a word."""
    error = response.json_object().get("error")
    details = error.get("details") if isinstance(error, dict) else None
    status = details.get("status") if isinstance(details, dict) else None
    words = re.findall(r"[^\W\d]+", status if isinstance(status, str) else str(details))
    return sorted(set(FINISHED) & set(words))


def _facts(exchange: Exchange) -> dict[str, str]:
    """Return what a response tells by itself, without what it repeats of the request, and the time of day."""
    request, response = exchange.request, exchange.response
    facts = {"status": str(response.status)}
    for name, value in response.headers:
        if name not in {"date", "age", "content-length", "keep-alive", "etag"}:
            facts[f"header {name}"] = value
    try:
        facts.update(_leaves(response.json()))
    except ValueError:
        facts["body"] = response.text
    sent = (*request.path.split("/"), (request.header("x-namespace") or b"").decode("latin-1"))
    echoes = {text for part in sent for text in (part, unquote(part)) if len(text) > 3}
    for echo in sorted(echoes - {"buckets", "batches", "cancel"}, key=len, reverse=True):
        facts = {name: value.replace(echo, "…") for name, value in facts.items()}
    return facts


def _leaves(value: Any, path: str = "body") -> dict[str, str]:
    if not isinstance(value, dict | list):
        return {path: str(value)}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: leaf for key, item in items for name, leaf in _leaves(item, f"{path} {key}").items()}
