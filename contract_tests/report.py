"""What a run found, clause by clause."""

from __future__ import annotations

from typing import Literal

import attrs

from .exchange import Exchange
from .target import Target

State = Literal["held", "broken", "not checked"]


@attrs.frozen
class Clause:
    """One thing that the contract says.

    Attributes:
        name: Names it in reports.
        sentence: Says it.
        provenance: Whose word it is: documented, published, assumed; or suite, for what makes a run mean something.
        needs: What a target must offer for it to be checked.
    """

    name: str
    sentence: str
    provenance: str
    needs: str = ""


@attrs.frozen
class Breach:
    """A clause seen broken."""

    expected: str
    got: str
    curl: str
    size: int


@attrs.define
class Finding:
    """What a run found of one clause."""

    clause: Clause
    checks: int = 0
    broken: int = 0
    breach: Breach | None = None
    after: int | None = None
    """The number of requests that were sent when it was first seen broken."""
    why_not: str | None = None

    @property
    def state(self) -> State:
        """Whether it held; what was never checked did not."""
        if self.breach is not None:
            return "broken"
        return "held" if self.checks else "not checked"


class Report:
    """Collects findings during a run."""

    def __init__(self, target: Target, seed: int, clauses: dict[str, Clause]) -> None:
        self.target = target
        self.seed = seed
        self.findings = {name: Finding(clause) for name, clause in clauses.items()}
        self.requests = 0
        self.statuses: dict[int, int] = {}
        self.generated = 0
        self.reached = 0
        self.seconds = 0.0
        key = target.key
        self._secrets = [text for text in (key, key[:-1], key[1:], key.swapcase()) if len(text) >= 4]

    def check(self, name: str, ok: bool, exchange: Exchange | None, expected: str, got: object) -> bool:
        """Note that a clause was checked.

        Args:
            name: The clause.
            ok: Whether it held.
            exchange: The request that shows it.
            expected: What the contract says.
            got: What was there instead.
        """
        finding = self.findings[name]
        finding.checks += 1
        if not ok:
            finding.broken += 1
            finding.after = finding.after or self.requests
            curl = exchange.request.curl(self.target.base_url) if exchange else ""
            breach = Breach(self.clean(expected), self.clean(str(got))[:500], self.clean(curl), len(curl))
            if finding.breach is None or breach.size < finding.breach.size:
                finding.breach = breach
        return ok

    def skip(self, name: str, why: str) -> None:
        """Note why a clause is not checked."""
        self.findings[name].why_not = why

    def clean(self, text: str) -> str:
        """Take the key out of a text, and what is nearly the key."""
        for secret in self._secrets:
            text = text.replace(secret, "$MIXPEEK_API_KEY")
        return text

    def having(self, state: State) -> list[Finding]:
        """Give the findings in a state."""
        return [finding for finding in self.findings.values() if finding.state == state]

    @property
    def ok(self) -> bool:
        """Whether every clause that was checked held, and one was."""
        return not self.having("broken") and bool(self.having("held"))
