"""Measure side by side with what a user would pick instead, and show it as a table, as JSON and as a chart.

Usage: python benchmarks/run.py [--only ID] [--quick]

Contestants are measured in turn (A, B, A, B …), each in a process and an environment of its own; figures are medians.
A full run writes benchmarks/results.json and benchmarks/results.svg, any other one the same under build/bench/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import environments
from benchmarks.chart import chart
from benchmarks.contestants import Figures
from benchmarks.environments import BUILD, ROOT, UnavailableError
from benchmarks.rows import Case, Row, cases, load_tool


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Measure side by side with what a user would pick instead.")
    parser.add_argument("--only", default="", metavar="ID", help="a row, or a group of rows: what its id starts with")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repeats: within two minutes")
    options = parser.parse_args()
    chosen = [(case, [row for row in case.rows if _is_in(row, options.only)]) for case in cases(quick=options.quick)]
    chosen = [(case, rows) for case, rows in chosen if rows]
    if not chosen:
        names = ", ".join(row.id for case in cases(quick=True) for row in case.rows)
        sys.exit(f"There is no {options.only!r} here. There are: {names}")

    started, load_before = time.monotonic(), _load()
    wanted = {case.contestants[name][0] for case, rows in chosen for row in rows for name in (row.ours, row.peer)}
    wanted |= {name for case, _ in chosen for name in case.extra}
    _say(f"environments: {', '.join(sorted(wanted))}")
    missing = environments.prepare(wanted)
    _say(f"environments ready after {time.monotonic() - started:.0f} s")
    results: list[dict[str, Any]] = []
    for case, rows in chosen:
        _say(f"measuring {', '.join(row.id for row in rows)}")
        results += _measured(case, rows, missing, quick=options.quick)
    report = {
        "version": _version(),
        "quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "day": datetime.now(UTC).date().isoformat(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "processors": os.cpu_count(),
            "load_before": load_before,
            "load_after": _load(),
        },
        "load": load_tool(),
        "versions": environments.versions(wanted - missing.keys()),
        "rows": results,
    }
    _show(report)
    _write(report, ROOT / "benchmarks" if not options.quick and not options.only else BUILD / "bench")


def _is_in(row: Row, only: str) -> bool:
    return not only or row.id == only or row.id.startswith(only.rstrip(".") + ".")


def _measured(case: Case, rows: list[Row], missing: dict[str, str], *, quick: bool) -> list[dict[str, Any]]:
    """Measure the contestants of some rows in turn, and work the rows out."""
    names = sorted({name for row in rows for name in (row.ours, row.peer)}, key=list(case.contestants).index)
    failures = {
        name: reason
        for name in names
        for reason in [missing.get(case.contestants[name][0]) or _first(missing, case.extra)]
        if reason
    }
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    rounds = max(case.rounds // 3, 1) if quick else case.rounds
    with ExitStack() as stack:
        measures = {}
        for name in names:
            try:
                if name not in failures:
                    measures[name] = stack.enter_context(case.contestants[name][1])
            except UnavailableError as reason:
                failures[name] = str(reason)
        give_up = time.monotonic() + (case.seconds / 4 if quick else case.seconds)
        for number in range(-1 if case.warm else 0, rounds):
            if number > 1 and time.monotonic() > give_up:
                break
            for name, measure in measures.items():
                try:
                    if name not in failures:
                        figures[name].append(measure())
                except UnavailableError as reason:
                    failures[name] = str(reason)
            if number == -1:
                for measured in figures.values():
                    measured.clear()
    return [_worked_out(row, figures, failures) for row in rows]


def _first(missing: dict[str, str], names: set[str]) -> str | None:
    return next((missing[name] for name in sorted(names) if name in missing), None)


def _worked_out(row: Row, figures: dict[str, list[Figures]], failures: dict[str, str]) -> dict[str, Any]:
    ours = None if row.ours in failures else [measured[row.figure] for measured in figures[row.ours]]
    figure = row.peer_figure or row.figure
    peer = None if row.peer in failures else [measured[figure] for measured in figures[row.peer]]
    result: dict[str, Any] = {
        "id": row.id,
        "command": f"make bench ONLY={row.id}",
        "what": row.what,
        "peer_is": row.peer_is,
        "unit": row.unit,
        "less_is_better": row.less_is_better,
        "ours_shown": failures.get(row.ours) or _shown(ours, row.unit),
        "peer_shown": failures.get(row.peer) or _shown(peer, row.unit),
        "ratio": None,
        "quartiles": None,
        "goal": row.goal,
        "met": None,
        "repeats": min(len(ours or []), len(peer or [])),
    }
    if not ours or not peer:
        return result
    ratio = statistics.median(ours) / statistics.median(peer)
    each = [mine / other for mine, other in zip(ours, peer, strict=True)]
    spread = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else [ratio] * 3
    return result | {
        "ours": statistics.median(ours),
        "peer": statistics.median(peer),
        "ratio": round(ratio, 4),
        "quartiles": [round(spread[0], 4), round(spread[2], 4)],
        "met": None if row.goal is None else ratio <= row.goal if row.less_is_better else ratio >= row.goal,
    }


def _shown(values: list[float] | None, unit: str) -> str:
    if not values:
        return "not measured"
    value = statistics.median(values) * {"ms": 1e3, "µs": 1e6}.get(unit, 1.0)
    return f"{value:,.0f}{'' if unit.startswith('/') else ' '}{unit}" if value >= 100 else f"{value:.1f} {unit}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"1/{1 / value:.3g}" if value <= 1 / 3 else f"{value:.3g}"


def _show(report: dict[str, Any]) -> None:
    table = Table(title="Side by side", title_justify="left", show_edge=False, pad_edge=False)
    for name in ("make bench ONLY=", "ours", "", "peer", "", "ratio", "quartiles", "goal", "met", "repeats"):
        table.add_column(name, justify="right" if name in {"", "ratio", "repeats"} else "left", overflow="fold")
    for row in report["rows"]:
        goal = "-" if row["goal"] is None else f"{'≤' if row['less_is_better'] else '≥'} {_ratio(row['goal'])}"
        low, high = row["quartiles"] or (None, None)
        met = {None: "-", True: "[green]yes[/]", False: "[red]no[/]"}[row["met"]]
        spread = "-" if low is None else f"{_ratio(low)} … {_ratio(high)}"
        cells = [row[name] for name in ("id", "what", "ours_shown", "peer_is", "peer_shown")]
        table.add_row(*map(escape, cells), _ratio(row["ratio"]), spread, goal, met, str(row["repeats"]))
    Console(width=None if sys.stdout.isatty() else 190).print(table)
    machine = report["machine"]
    print(
        f"Medians of so many interleaved repeats; the ratio is ours to the peer's. "
        f"mixpeek-batches {report['version']}, "
        f"Python {machine['python']}, {machine['processors']} processors, load {machine['load_before']} before and "
        f"{machine['load_after']} after, mocks loaded by {report['load']}, {report['seconds']} s in all."
    )


def _write(report: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "results.svg").write_text(chart(report["rows"]), encoding="utf-8")
    print(f"Written: {(folder / 'results.json').relative_to(ROOT)}, {(folder / 'results.svg').relative_to(ROOT)}")


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version() -> str:
    code = "from importlib.metadata import version; print(version('mixpeek-batches'))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
