"""What a run found, clause by clause."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

import attrs

from .exchange import Exchange
from .target import Target


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
        self.on_broken: Callable[[str], None] = lambda _: None
        self.requests = 0
        self.statuses: dict[int, int] = {}
        self.generated = 0
        self.reached = 0
        self.seconds = 0.0
        self._secrets = [form for text in key_forms(target.key) for form in _spellings(text)]

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
            self.on_broken(name)
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
