"""The API under test, as clauses use it: requests, what must come back, and what is known of the target so far."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .clause import Clause, Phase
from .decisions import FINISHED
from .report import Report
from .session import Session
from .target import BatchRef
from .wire import Exchange, Response, Wire

_SAMPLES = 5  # finished batches, where each is asked for
_REPEATED = 5  # times that a difference must be there again
_VARIABLE = re.compile("^(date|age|content-length|connection|keep-alive)$|time|duration|elapsed")


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
        self._finished = itertools.cycle(self.target.finished)
        groups = [itertools.cycle(group) for group in (self.target.cancelable, self.target.finished) if group]
        self._known = (next(group) for group in itertools.cycle(groups))

    def run(self, phase: Phase, clauses: Iterable[Clause]) -> None:
        """Call those clauses of a phase whose requirements are met."""
        self.report.phase = phase
        for clause in clauses:
            if phase in clause.phases and not clause.missing(self.target):
                self._running, self.clause = clause, clause.name
                clause.function(self)

    def check(self, ok: bool, exchange: Exchange | None, expected: object, got: object) -> None:
        """Record whether the running clause held."""
        self.report.check(self._running, ok, exchange, expected, got)

    def ask(self, batch: BatchRef | str | None = None, *, wire: Wire | None = None, **options: Any) -> Exchange:
        """Send a request, for the next batch if none is given; see Session.request for the options."""
        return self.send(self.request(batch or self.next_batch(), **options), wire=wire)

    def expect(self, status: int, batch: BatchRef | str | None = None, *others: int, **options: Any) -> Exchange:
        """Send a request whose response must have a status code, or one of some others."""
        exchange = self.ask(batch, **options)
        # The contract has 422, and leaves open which identifiers are invalid.
        invalid = (422,) if status == 404 and self.target.mock is None and exchange.request.may_be_invalid else ()
        self.check_status(exchange, status, *others, *invalid)
        return exchange

    def check_status(self, exchange: Exchange, *statuses: int) -> None:
        """Check the status code of a response, unless a gateway sent it in place of the API."""
        if not self.report.is_from_gateway(exchange):
            response = exchange.response
            ok = response.failure is None and response.status in statuses
            self.check(ok, exchange, " or ".join(map(str, statuses)), response)

    def next_batch(self) -> BatchRef:
        """Return a batch for a request that must be refused: cancelable and finished ones, each in turn."""
        return next(self._known, None) or self.unknown()

    def next_reference(self) -> tuple[BatchRef, int]:
        """Return a batch, each finished one in turn, and the status code of a plain request for it at any time."""
        if self.target.finished:
            return next(self._finished), 400
        return (next(iter(self.tasks)), 200) if self.tasks else (self.unknown(), 404)

    @property
    def samples(self) -> tuple[BatchRef, ...]:
        """A cancelable batch and some finished ones, as far as there are; a cancelled one, once there is one."""
        return (*self.target.cancelable[:1], *self.target.finished[: 0 if self.tasks else _SAMPLES])

    @functools.cached_property
    def merged_slashes(self) -> tuple[int, ...]:
        """The status code of a batch that was not named, where a gateway merges slashes: its refusal, or none."""
        batch, status = self.next_reference()
        if batch not in self.target.known or status < 400 or self.target.mock is not None:
            return ()
        merged = self.ask(batch.path.replace("/buckets/", "//buckets/", 1))
        return (status,) if merged.response.status == status else ()

    def expect_no_effect(self, **options: Any) -> None:
        """Expect that options change nothing: for a batch that exists, one that does not, and a wrong key."""
        batch, status = self.next_reference()
        self.expect(status, batch, **options)
        self.expect(404, self.unknown(), **options)
        self.expect(401, batch, **{**options, "key": f"Bearer {self.made_up()}"})

    def expect_alike(
        self, status: int, requests: Iterable[dict[str, Any]], plain: Callable[[], dict[str, Any]], **options: Any
    ) -> None:
        """Expect that a response tells nothing: that all of it, headers included, is as for what does not exist.

        Args:
            status: The status code that all responses must have.
            requests: The options of each request.
            plain: Returns the options of a request that names nothing that exists.
            options: Those that all requests have.
        """
        others = [self.expect(status, **plain(), **options) for _ in range(2)]
        for request in requests:
            exchanges = [self.expect(status, **request, **options)]
            for _ in range(_REPEATED if _differences(exchanges, others) else 0):  # what varies anyway is no difference
                exchanges.append(self.ask(**request, **options))
                others.append(self.ask(**plain(), **options))
            differences = _differences(exchanges, others)
            self.check(not differences, exchanges[0], "the response for what does not exist", differences)
            if differences:
                return

    def expect_unseen(
        self, status: int, batches: Iterable[BatchRef], unknown: Callable[[], BatchRef], **options: Any
    ) -> None:
        """Expect for batches that exist somewhere the response, all of it, for one that does not."""
        self.expect_alike(status, [{"batch": batch} for batch in batches], lambda: {"batch": unknown()}, **options)


def named_statuses(response: Response) -> list[str]:
    """Return the finished statuses that the details of a refusal name: in `status`, or anywhere as a word."""
    error = response.json_object().get("error")
    details = error.get("details") if isinstance(error, dict) else None
    status = details.get("status") if isinstance(details, dict) else None
    words = re.findall(r"[^\W\d]+", status if isinstance(status, str) else str(details))
    return sorted(set(FINISHED) & set(words))


def _differences(exchanges: Sequence[Exchange], others: Sequence[Exchange]) -> dict[str, str]:
    """Return what the other responses have over and over again, and none of these has."""
    echoes = set().union(*(exchange.request.texts for exchange in (*exchanges, *others)))
    here, there = ([_facts(exchange.response, echoes) for exchange in some] for some in (exchanges, others))
    differences = {}
    for name in {name for facts in (*here, *there) for name in facts}:
        ours, theirs = ({facts.get(name, "nothing") for facts in some} for some in (here, there))
        if len(theirs) <= len(others) / 2 and not ours & theirs:
            differences[name] = f"{min(ours)} / {min(theirs)}"
    return differences


def _facts(response: Response, echoes: Iterable[str]) -> dict[str, str]:
    """Return what a response tells by itself, without what it repeats of requests, and the time."""
    facts = {"status": str(response.status), "body": response.text}
    facts |= {f"header {name}": value for name, value in response.headers if not _VARIABLE.search(name)}
    with contextlib.suppress(ValueError):
        facts.update(_leaves(response.json()))
    for echo in sorted(echoes, key=len, reverse=True):
        facts = {name: value.replace(echo, "…") for name, value in facts.items()}
    return {**facts, "body": f"{len(facts['body'])} characters"}


def _leaves(value: Any, path: str = "body") -> dict[str, str]:
    if not isinstance(value, dict | list):
        return {path: str(value)}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: leaf for key, item in items for name, leaf in _leaves(item, f"{path} {key}").items()}
