"""What was measured: one small file, of which README and the documentation show everything."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_FILE = _ROOT / "benchmarks" / "results.json"
GROUPS = {
    "limits": "Many batches, with a rate limit",
    "bulk": "Many batches, without a rate limit",
    "call": "One call",
    "start": "The command",
    "import": "Importing the client",
    "mock": "The mock",
}
"""The groups of comparisons, and their titles."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What came of a comparison.

    Attributes:
        what: What was measured, in a user's words.
        ours: Ours.
        other: What it is compared with.
        ratio: Ours to the other's, the median of interleaved pairs: time or memory, so that less is better.
        quartiles: Of the pairs.
        goal: What the ratio is to be at most.
        met: Whether that, and what else was wanted, came true.
        notable: Whether users would notice; the others are folded away.
    """

    what: str
    ours: str
    other: str
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None
    goal: float
    met: bool | None = None
    notable: bool = False

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        ratio = "not measured" if self.ratio is None else f"**{_shown(self.ratio)}**"
        if self.quartiles is not None:
            ratio += " ({} to {})".format(*map(_shown, self.quartiles))
        mark = {None: "", True: " ✓", False: " ✗"}[self.met]
        return [self.what, self.ours, self.other, ratio, f"at most {_shown(self.goal)}{mark}"]


def _shown(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"


def read() -> dict[str, dict[str, Any]]:
    """Return each group: `measured` is when and where, `results` what."""
    if not _FILE.exists():
        return {}
    groups: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    for group in groups.values():
        group["results"] = [Measurement(**row) for row in group["results"]]
    return groups


def write(name: str, measured: str, results: list[Measurement]) -> None:
    """Record a group in place of its last results, and show it in README."""
    groups = {**read(), name: {"measured": measured, "results": results}}
    parts = []
    for known in (group for group in GROUPS if group in groups):
        rows = ",\n  ".join(json.dumps(asdict(row), ensure_ascii=False) for row in groups[known]["results"])
        parts.append(f'"{known}": {{"measured": {json.dumps(groups[known]["measured"])}, "results": [\n  {rows}\n]}}')
    _FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    readme = _ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    shown = f"<!-- bench -->\n{notable()}\n<!-- /bench -->"
    text = re.sub(r"<!-- bench -->\n.*<!-- /bench -->", lambda _: shown, text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


def table(rows: list[Measurement]) -> str:
    """Make a Markdown table."""
    heads = ["", "ours", "instead", "ours ÷ instead", "goal"]
    lines = [heads, ["---"] * len(heads), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def notable() -> str:
    """Show what users would notice, of all groups."""
    return table([row for group in read().values() for row in group["results"] if row.notable])
