"""What a clause speaks through: requests to one target, and what is known of it so far."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

from .clause import Clause
from .decisions import FINISHED
from .report import Report
from .session import Session
from .target import Place
from .wire import Answer, Exchange, Wire

Facts = dict[str, str]


class Conversation:
    """Runs clauses, one after the other, against one target.

    Attributes:
        tasks: The task of each batch that was cancelled.
        said: What the details of each finished batch's refusal named.
    """

    def __init__(self, session: Session, report: Report) -> None:
        self.session = session
        self.report = report
        self.target = session.target
        self.random = session.random
        self.nobody, self.made_up = session.nobody, session.made_up
        self.tasks: dict[Place, dict[str, Any]] = {}
        self.said: dict[Place, list[str]] = {}
        self._clause: Clause

    def run(self, clauses: Iterable[Clause]) -> None:
        """Run clauses, leaving out those whose needs are not met."""
        for clause in clauses:
            missing = clause.missing(self.target)
            if missing:
                self.report.skip(clause, missing)
            else:
                self._clause = clause
                clause.function(self)

    def check(self, ok: bool, exchange: Exchange | None, expected: object, got: object) -> bool:
        """Note whether the clause that runs held."""
        return self.report.check(self._clause, ok, exchange, str(expected), got)

    def ask(self, place: Place | str, *, wire: Wire | None = None, **options: Any) -> Exchange:
        """Send a request; see Session.request for what can be said of it."""
        return self.session.send(self.session.request(place, clause=self._clause.name, **options), wire=wire)

    def expect(self, status: int, place: Place | str, *others: int, **options: Any) -> Exchange:
        """Send a request that must get a status, or one of some others."""
        exchange = self.ask(place, **options)
        self.judge(exchange, status, *others)
        return exchange

    def judge(self, exchange: Exchange, *statuses: int) -> None:
        """Check the status of an answer, unless a gateway gave it in place of the API."""
        if not self.report.is_gateways(exchange):
            ok = exchange.answer.failure is None and exchange.answer.status in statuses
            self.check(ok, exchange, " or ".join(map(str, statuses)), exchange.answer)

    def at_once(self, asked: Sequence[dict[str, Any]]) -> list[Exchange]:
        """Send requests, all at the same moment."""
        return self.session.at_once([self.session.request(clause=self._clause.name, **options) for options in asked])

    def fresh(self) -> Wire:
        """Open a connection that nothing was asked on."""
        return Wire(self.target.base_url)

    @property
    def place(self) -> Place:
        """Give a batch to ask for what must be refused: one that can be cancelled, if there is one."""
        return self.target.known[0] if self.target.known else self.nobody()

    @property
    def some(self) -> tuple[Place, ...]:
        """Give one cancelable and one finished batch, as far as there are; a cancelled one, once there is one."""
        return (*self.target.cancelable[:1], *self.target.finished[: 0 if self.tasks else 1])

    @property
    def usual(self) -> tuple[Place, int]:
        """Give a batch, and what it answers, whatever was done so far."""
        if self.target.finished:
            return self.target.finished[0], 400
        return (next(iter(self.tasks)), 200) if self.tasks else (self.nobody(), 404)

    @functools.cached_property
    def merging(self) -> tuple[int, ...]:
        """Give what a batch that was not named may answer where a gateway merges slashes: its refusal, or nothing."""
        place, status = self.usual
        if place not in self.target.known or status < 400 or self.target.mock is not None:
            return ()
        merged = self.ask(place.path.replace("/buckets/", "//buckets/", 1))
        return (status,) if merged.answer.status == status else ()

    def same_as_usual(self, **options: Any) -> None:
        """Expect that a way to ask changes nothing: for a batch that is there, none, and a key that is wrong."""
        place, status = self.usual
        self.expect(status, place, **options)
        self.expect(404, self.nobody(), **options)
        self.expect(401, place, **{**options, "key": f"Bearer {self.made_up()}"})

    def tells_apart(self, real: Sequence[dict[str, Any]], unreal: Sequence[dict[str, Any]]) -> None:
        """Check that two requests get the same answer, each asked twice, so that what varies anyway is known."""
        exchanges = [[self.ask(**options) for options in asked] for asked in (real, unreal)]
        facts = [[self._facts(exchange) for exchange in asked] for asked in exchanges]
        names = {name for asked in facts for one in asked for name in one}
        values = {name: [[one.get(name, "nothing") for one in asked] for asked in facts] for name in names}
        differ = {name: f"{a[0]} / {b[0]}" for name, (a, b) in values.items()
                  if len(set(a)) == len(set(b)) == 1 and a[0] != b[0]}  # fmt: skip
        self.check(not differ, exchanges[0][0], "what is said where there is no such batch", differ)

    def _facts(self, exchange: Exchange) -> Facts:
        """Give what an answer says by itself: what it repeats of the request, and the time of day, is left out."""
        answer, places = exchange.answer, exchange.request.path.split("/")
        echoes = sorted({text for part in (*places, *_texts(exchange)) for text in _spellings(part)}, key=len)
        facts = {"status": str(answer.status)}
        for name, value in answer.headers:
            if name not in {"date", "age", "content-length", "keep-alive", "etag"}:
                facts[f"header {name}"] = value
        facts.update(_leaves(answer.json() if _is_json(answer) else answer.text))
        for echo in reversed(echoes):
            facts = {name: value.replace(echo, "…") for name, value in facts.items()}
        return facts


def named_statuses(answer: Answer) -> list[str]:
    """Find which finished status the details of a refusal name: in `status`, or anywhere as a word."""
    error = answer.object().get("error")
    details = error.get("details") if isinstance(error, dict) else None
    own = details.get("status") if isinstance(details, dict) else None
    words = own if isinstance(own, str) else str(details)
    return sorted(
        status for status in FINISHED if status in "".join(c if c.isalpha() or c == "_" else " " for c in words).split()
    )


def _texts(exchange: Exchange) -> list[str]:
    value = exchange.request.header("x-namespace") or b""
    return [value.decode("latin-1")]


def _spellings(part: str) -> list[str]:
    return [text for text in (part, unquote(part)) if len(text) > 3 and text not in {"buckets", "batches", "cancel"}]


def _is_json(answer: Answer) -> bool:
    try:
        answer.json()
    except ValueError:
        return False
    return True


def _leaves(value: Any, where: str = "body") -> Facts:
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in _leaves(item, f"{where} {name}").items()}
    if isinstance(value, list):
        return {k: v for at, item in enumerate(value) for k, v in _leaves(item, f"{where} {at}").items()}
    return {where: str(value)}
