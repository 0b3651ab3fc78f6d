"""The chart of the results: one SVG, readable on light and dark, with nothing in it from elsewhere."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

_LEFT, _BAR, _RIGHT, _STEP, _TOP = 390, 380, 110, 26, 64
_STYLE = """
text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-size:15px;font-weight:600}
.small{font-size:11px;fill:#59636e}
.met{fill:#1a7f37}.missed{fill:#bc4c00}.free{fill:#59636e}
.line{stroke:#8c959f}.goal{stroke:#1f2328;stroke-width:2.5}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small{fill:#9198a1}
.met{fill:#3fb950}.missed{fill:#f0883e}.free{fill:#9198a1}
.line{stroke:#656c76}.goal{stroke:#e6edf3}
}
"""


def chart(rows: list[dict[str, Any]]) -> str:
    """Draw a bar a row: how many times better than the peer, on a logarithmic scale, with a mark at the goal.

    Args:
        rows: As in results.json; those without a ratio are left out.
    """
    drawn = [row for row in rows if row["ratio"]]
    better = [_better(row, row["ratio"]) for row in drawn]
    goals = [None if row["goal"] is None else _better(row, row["goal"]) for row in drawn]
    everything = [*better, *(goal for goal in goals if goal is not None), 1.0]
    low, high = math.log10(min(everything) / 1.2), math.log10(max(everything) * 1.2)

    def place(value: float) -> float:
        return _LEFT + _BAR * (math.log10(value) - low) / (high - low)

    width, height = _LEFT + _BAR + _RIGHT, _TOP + _STEP * len(drawn) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="How many times better than each peer">',
        f"<style>{_STYLE}</style>",
        '<text class="title" x="12" y="24">How many times better than what a user would pick instead</text>',
        '<text class="small" x="12" y="44">Logarithmic. Bar: measured. Upright mark: goal. '
        "Green: met. Orange: missed. Grey: no goal set.</text>",
    ]
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200):
        if low <= math.log10(tick) <= high:
            x, dash = place(tick), "" if tick == 1 else ' stroke-dasharray="2 4"'
            parts.append(f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - 18}"{dash}/>')
            parts.append(f'<text class="small" x="{x:.1f}" y="{height - 4}" text-anchor="middle">{tick:g}x</text>')
    for number, (row, value, goal) in enumerate(zip(drawn, better, goals, strict=True)):
        y = _TOP + _STEP * number
        start, end = sorted((place(1.0), place(value)))
        kind = "free" if goal is None else "met" if row["met"] else "missed"
        hint = f"{row['what']} against {row['peer_is']}: {row['ours_shown']} against {row['peer_shown']}"
        parts += [
            f"<g><title>{escape(hint)}</title>",
            f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(_label(row))}</text>',
            f'<rect class="{kind}" x="{start:.1f}" y="{y + 5}" width="{max(end - start, 1):.1f}" height="14" rx="2"/>',
        ]
        if goal is not None:
            x = place(goal)
            parts.append(f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + 23}"/>')
        x = max(place(value), place(goal or value), place(1.0)) + 6
        parts.append(f'<text x="{x:.1f}" y="{y + 16}">{value:.3g}x</text></g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _better(row: dict[str, Any], ratio: float) -> float:
    return 1 / ratio if row["less_is_better"] else ratio


def _label(row: dict[str, Any]) -> str:
    text = f"{row['id']}: {row['peer_is']}"
    return text if len(text) <= 52 else text[:51] + "…"
