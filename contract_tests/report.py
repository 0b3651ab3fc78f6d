"""What a run found, clause by clause."""

from __future__ import annotations

import base64
import datetime
import html
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import attrs

from . import decisions, spec
from .clause import CLAUSES, Check, Clause, Phase, Scope
from .target import BatchRef, Target
from .wire import KEY_VARIABLE, Exchange

if TYPE_CHECKING:
    from .difference import Difference

State = Literal["held", "broken", "not checked"]


def key_forms(key: str) -> list[str]:
    """Return the forms in which a key may appear: itself, nearly itself, and thinly disguised."""
    cut = [key[:-4], key[4:]] if len(key) >= 16 else []
    forms = [key, key[:-1], key[1:], *cut, key[::-1], key.upper(), key.lower(), key.swapcase(), quote(key, safe="")]
    forms += [key.encode().hex(), key.partition("_")[2], key.replace("_", "-"), " ".join(key)]
    secret = key.rpartition("_")[2]  # behind what says which sort of key it is
    forms += [secret] if len(secret) >= 12 and not secret.isalpha() else []
    for shift in range(3):  # base64 of a text that holds it, at each alignment
        coded = base64.b64encode(b"\0" * shift + key.encode() + b"\0" * ((-shift - len(key)) % 3)).decode()
        forms.append(coded[-(-8 * shift // 6) : 8 * (shift + len(key)) // 6])
    return [form for form in dict.fromkeys(forms) if len(form) >= 8]


def _escaped(text: str) -> list[str]:
    """Return a text as JSON, JSON in JSON, Python and HTML escape it."""
    quoted = json.dumps(text)[1:-1]
    forms = [text, quoted, json.dumps(quoted)[1:-1], repr(text)[1:-1]]
    return list(dict.fromkeys([*forms, *(html.escape(form) for form in forms)]))


_STATES: dict[Phase, str] = {
    "before": "",
    "cancelling": "while the batches under cancelable were being cancelled: the command alone may not repeat it",
    "after": "after the batches under cancelable were cancelled: the command repeats it only then",
}


@attrs.frozen
class Breach:
    """A clause seen broken, by one request or by none, and in which state of the batches, if that may matter."""

    expected: str
    got: str
    request: str
    curl: str
    state: str


@attrs.define
class ClauseResult:
    """What a run found of one clause.

    Attributes:
        checks: How often it was checked.
        failures: How often it did not hold.
        breach: The breach with the smallest request.
        first: The request of the first breach.
        after: How many requests had been sent at the first breach.
        why_not: Why it was not checked.
    """

    clause: Clause
    checks: int = 0
    failures: int = 0
    breach: Breach | None = None
    first: str = ""
    after: int = 0
    why_not: str = ""

    @property
    def state(self) -> State:
        """Whether it held; a clause that was never checked did not."""
        if self.breach is not None:
            return "broken"
        return "held" if self.checks else "not checked"

    @property
    def frequency(self) -> str:
        """How often and since when it was broken, in words."""
        by = f" ({self.first})" if self.breach and self.first != self.breach.request else ""
        return f"in {self.failures} of {self.checks} checks, first seen after {self.after} requests{by}"


class Report:
    """Collects what a run finds.

    Attributes:
        results: The result of each clause.
        exchanges: Every exchange, in the order in which they happened, without what a rate limiter refused.
        requests: How many requests of which kind were sent.
        statuses: How many responses had which status code.
        seen: The status codes, headers (`404 X-Name`) and properties (`Schema.property`) of responses so far.
        gateway: By clause, how often a gateway responded in place of the API, and why it may.
        generated: How many requests schemathesis generated.
        reached: How many of them addressed batches that exist.
        stopped: Why the run must end early.
        last: The last requests before it ended early, as curl.
        until: Clauses to stop at, once one of them is broken.
        phase: When requests are sent now.
        watched: Batches of the mock that must not be cancelled now.
        changed: The requests after which one of them was.
        differences: Where the mock differs from the target; None where the target is the mock itself.
    """

    def __init__(self, target: Target, seed: int) -> None:
        self.target = target
        self.seed = seed
        self.results = {clause: ClauseResult(clause) for clause in CLAUSES.values()}
        self.began = datetime.datetime.now(datetime.UTC)
        self.seconds = 0.0
        self.exchanges: list[Exchange] = []
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.seen: set[str] = set()
        self.gateway: dict[str, Counter[str]] = defaultdict(Counter)
        self.generated = self.reached = 0
        self.stopped = ""
        self.last: list[str] = []
        self.until: Collection[Clause] = ()
        self.phase: Phase = "before"
        self.watched: tuple[BatchRef, ...] = ()
        self.changed: list[tuple[Exchange, str]] = []
        self.differences: list[Difference] | None = None
        self._secrets = [form for text in key_forms(target.key) for form in _escaped(text)]

    def observe(self, exchange: Exchange, *, from_limiter: bool = False) -> None:
        """Record an exchange, and check what holds for each response."""
        request, response = exchange.request, exchange.response
        self.statuses[response.status] += 1
        from_gateway = self.is_from_gateway(exchange)
        if from_gateway:
            self.gateway[request.clause][request.gateway_reason] += 1
        else:
            self._see(exchange)
        if not from_limiter:
            self.exchanges.append(exchange)
        if not self.changed:
            self._watch(exchange)
        scopes: set[Scope] = {"anybody"} if from_gateway else {"anybody", "limiter"}
        if not from_gateway and not from_limiter:
            scopes.add("api")
        for clause in self.results:
            if clause.of == "response" and clause.scope in scopes:
                clause.function(request, response, self.checking(clause, exchange))

    def checking(self, clause: Clause, exchange: Exchange | None) -> Check:
        """Return a function that records checks of a clause on an exchange."""
        return lambda ok, expected, got: self.check(clause, ok, exchange, expected, got)

    def is_from_gateway(self, exchange: Exchange) -> bool:
        """Check whether a response may be a gateway's own, which tells nothing about the API."""
        request, response = exchange.request, exchange.response
        if not request.gateway_reason or self.target.mock is not None or response.timed_out:
            return False
        if response.failure is not None and not 200 <= response.status < 300:
            return True
        redirected = 300 <= response.status < 400 and "slash" in request.gateway_reason
        refused = 400 <= response.status < 500 or (response.status == 501 and request.method != "POST")
        if request.method == "HEAD":  # whose responses show by their type alone who sent them
            return refused and "json" not in (response.header("content-type") or "")
        preflight = request.method == "OPTIONS" and request.header("access-control-request-method") is not None
        allowed = preflight and 200 <= response.status < 300 and not response.json_object()
        return allowed or redirected or (refused and response.json_object().get("success") is not False)

    def _see(self, exchange: Exchange) -> None:
        response = exchange.response
        self.seen.add(str(response.status))
        self.seen.update(f"{response.status} {name}" for name in spec.CANCEL.headers(response.status)
                         if response.header(name.lower()) is not None)  # fmt: skip
        schema = spec.CANCEL.schema(response.status)
        if schema is not None:
            self.seen.update(spec.properties_of(schema, response.json_object()))

    def _watch(self, exchange: Exchange) -> None:
        for batch in self.watched:
            assert self.target.mock is not None
            status = self.target.mock.batch(batch.bucket, batch.batch, namespace=self.target.namespace).status
            if status == decisions.CANCELED:
                self.changed.append((exchange, f"{batch}: {status}"))

    @staticmethod
    def documented() -> set[str]:
        """Return all that the contract has for responses: status codes, headers and properties."""
        codes = spec.CANCEL.responses
        schemas = {schema for code in codes if (schema := spec.CANCEL.schema(code)) is not None}
        return (
            {str(code) for code in codes}
            | {f"{code} {name}" for code in codes for name in spec.CANCEL.headers(code)}
            | {name for schema in schemas for name in spec.properties(schema)}
        )

    @property
    def uncovered(self) -> list[str]:
        """What the contract has for responses and no response had."""
        return sorted(self.documented() - self.seen)

    def check(self, clause: Clause, ok: bool, exchange: Exchange | None, expected: object, got: object) -> None:
        """Record a check of a clause.

        Args:
            clause: The clause.
            ok: Whether it held.
            exchange: The request that shows it.
            expected: What the contract demands.
            got: What was there instead.
        """
        result = self.results[clause]
        result.checks += 1
        if ok:
            return
        result.failures += 1
        request = f"{exchange.request.method} {exchange.request.path}" if exchange else ""
        curl = exchange.request.curl(self.target.base_url) if exchange else ""
        if result.breach is None:
            result.first, result.after = self.clean(request)[:160], self.statuses.total()
        if result.breach is None or 0 < len(curl) < (len(result.breach.curl) or math.inf):
            result.breach = Breach(
                expected=self.clean(str(expected))[:500],
                got=self.clean(str(got))[: 800 if exchange else None],
                request=self.clean(request)[:160],
                curl=self.clean(curl),
                state=_STATES[self.phase] if exchange else "",
            )
        if clause in self.until:
            self.stopped = f"{clause.name} to hold"

    def clean(self, text: str) -> str:
        """Replace the key, and what is nearly the key, in a text."""
        for secret in self._secrets:
            text = text.replace(secret, f"${KEY_VARIABLE}")
        return text

    def having(self, state: State) -> list[ClauseResult]:
        """Return the results in a state."""
        return [result for result in self.results.values() if result.state == state]

    @property
    def broken(self) -> list[str]:
        """The names of the clauses that are broken."""
        return [result.clause.name for result in self.having("broken")]
