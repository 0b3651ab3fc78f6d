"""What a run found, clause by clause."""

from __future__ import annotations

import base64
import datetime
import html
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

import attrs

from . import decisions, spec
from .clause import CLAUSES, Check, Clause
from .session import is_limiters
from .target import Target
from .wire import KEY_VARIABLE, Exchange


def key_forms(key: str) -> list[str]:
    """Give the forms in which a key may show: itself, nearly itself, and thinly disguised."""
    cut = [key[:-4], key[4:]] if len(key) >= 16 else []
    forms = [key, key[:-1], key[1:], *cut, key[::-1], key.upper(), key.lower(), key.swapcase(), quote(key, safe="")]
    forms.append(key.encode().hex())
    for shift in range(3):  # base64 of a text that holds it, at each alignment
        coded = base64.b64encode(b"\0" * shift + key.encode() + b"\0" * ((-shift - len(key)) % 3)).decode()
        forms.append(coded[-(-8 * shift // 6) : 8 * (shift + len(key)) // 6])
    return [form for form in dict.fromkeys(forms) if len(form) >= 8]


def _spellings(text: str) -> list[str]:
    quoted = json.dumps(text)[1:-1]
    forms = [text, quoted, json.dumps(quoted)[1:-1], repr(text)[1:-1]]
    return list(dict.fromkeys([*forms, *(html.escape(form) for form in forms)]))


State = Literal["held", "broken", "not checked"]


@attrs.frozen
class Breach:
    """A clause seen broken, by the smallest request that shows it."""

    expected: str
    got: str
    request: str
    curl: str


@attrs.define
class Finding:
    """What a run found of one clause."""

    clause: Clause
    checks: int = 0
    broken: int = 0
    breach: Breach | None = None
    after: int | None = None
    """The number of requests that were sent when it was first seen broken."""
    why_not: str = ""

    @property
    def state(self) -> State:
        """Whether it held; what was never checked did not."""
        if self.breach is not None:
            return "broken"
        return "held" if self.checks else "not checked"


class Report:
    """Collects findings during a run.

    Attributes:
        seen: The status codes, headers (`404 X-Name`) and properties (`Schema.property`) of answers so far.
        gateway: How often a gateway answered requests of a clause in place of the API, and why it might, by clause.
        requests: How many requests of which kind were sent.
        stopped: Why the run ended early, if it did.
        last: The last requests before it ended early, as curl.
        watching: Whether no batch may change now.
        changed: The requests after which one had changed, where the tests can look behind the server.
    """

    def __init__(self, target: Target, seed: int) -> None:
        self.target = target
        self.seed = seed
        self.findings = {clause: Finding(clause) for clause in CLAUSES.values()}
        self.on_broken: Callable[[Clause], None] = lambda _: None
        self.began = datetime.datetime.now(datetime.UTC)
        self.seconds = 0.0
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.seen: set[str] = set()
        self.gateway: dict[str, Counter[str]] = defaultdict(Counter)
        self.generated = self.reached = 0
        self.stopped = ""
        self.last: list[str] = []
        self.watching = False
        self.changed: list[tuple[Exchange, str]] = []
        self._secrets = [form for text in key_forms(target.key) for form in _spellings(text)]

    def observe(self, exchange: Exchange) -> None:
        """Check what every answer must keep."""
        self.statuses[exchange.answer.status] += 1
        gateways = self.is_gateways(exchange)
        if gateways:
            self.gateway[exchange.request.clause][exchange.request.gateway] += 1
        else:
            self._see(exchange)
        if self.watching and self.target.mock is not None and not self.changed:
            namespace, mock = self.target.namespace, self.target.mock
            for place in self.target.cancelable:
                now = mock.batch(place.bucket, place.batch, namespace=namespace).status
                if now == decisions.CANCELED:
                    self.changed.append((exchange, f"{place}: {now}"))
        scopes = {"anybody"} if gateways else {"anybody", "limiter"} if is_limiters(exchange) else None
        for clause in self.findings:
            if clause.when == "answer" and (scopes is None or clause.scope in scopes):
                clause.function(exchange, self.checking(clause, exchange))

    def checking(self, clause: Clause, exchange: Exchange | None) -> Check:
        """Give a function that notes checks of a clause on an exchange."""
        return lambda ok, expected, got: self.check(clause, ok, exchange, str(expected), got)

    def is_gateways(self, exchange: Exchange) -> bool:
        """Tell whether an answer may be a gateway's own, which says nothing of the API."""
        request, answer = exchange.request, exchange.answer
        if not request.gateway or self.target.mock is not None or answer.timed_out:
            return False
        if answer.failure is not None and not 200 <= answer.status < 300:
            return True
        redirected = 300 <= answer.status < 400 and "slash" in request.gateway
        refused = 400 <= answer.status < 500 or (answer.status == 501 and request.method != "POST")
        if request.method == "HEAD":  # whose answers show by their type alone whose they are
            return refused and "json" not in (answer.header("content-type") or "")
        return redirected or (refused and answer.object().get("success") is not False)

    def _see(self, exchange: Exchange) -> None:
        answer = exchange.answer
        self.seen.add(str(answer.status))
        self.seen.update(f"{answer.status} {name}" for name in spec.CANCEL.headers(answer.status)
                         if answer.header(name.lower()) is not None)  # fmt: skip
        schema = spec.CANCEL.schema(answer.status)
        if schema is not None:
            self.seen.update(spec.carried(schema, answer.object()))

    @staticmethod
    def documented() -> set[str]:
        """Name all that the contract says of answers: status codes, headers and properties."""
        codes = spec.CANCEL.responses
        schemas = {schema for code in codes if (schema := spec.CANCEL.schema(code)) is not None}
        return (
            {str(code) for code in codes}
            | {f"{code} {name}" for code in codes for name in spec.CANCEL.headers(code)}
            | {name for schema in schemas for name in spec.properties(schema)}
        )

    @property
    def uncovered(self) -> list[str]:
        """Name what the contract says of answers and no answer had."""
        return sorted(self.documented() - self.seen)

    def check(self, clause: Clause, ok: bool, exchange: Exchange | None, expected: str, found: object) -> bool:
        """Note that a clause was checked.

        Args:
            clause: The clause.
            ok: Whether it held.
            exchange: The request that shows it.
            expected: What the contract says.
            found: What was there instead.
        """
        finding = self.findings[clause]
        finding.checks += 1
        if not ok:
            finding.broken += 1
            finding.after = finding.after or self.statuses.total()
            self.on_broken(clause)
            request = f"{exchange.request.method} {exchange.request.path}" if exchange else ""
            curl = exchange.request.curl(self.target.base_url) if exchange else ""
            old = finding.breach
            if old is None or (curl and len(curl) < (len(old.curl) or 10**9)):
                expected, got, request = (
                    self.clean(expected)[:500],
                    self.clean(str(found))[: 800 if exchange else None],
                    self.clean(request)[:160],
                )
                finding.breach = Breach(expected, got, request, self.clean(curl))
        return ok

    def skip(self, clause: Clause, why: str) -> None:
        """Note why a clause is not checked."""
        self.findings[clause].why_not = why

    def clean(self, text: str) -> str:
        """Take the key out of a text, and what is nearly the key."""
        for secret in self._secrets:
            text = text.replace(secret, f"${KEY_VARIABLE}")
        return text

    def having(self, state: State) -> list[Finding]:
        """Give the findings in a state."""
        return [finding for finding in self.findings.values() if finding.state == state]

    @property
    def broken(self) -> list[str]:
        """Name the clauses that are broken."""
        return [finding.clause.name for finding in self.having("broken")]
