"""A report for people (a table on the terminal, a page of HTML) and for programs (JSON)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import jinja2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .report import ClauseResult, Report, State
from .spec import CANCEL

FOLDER = Path(os.environ.get("CONTRACT_REPORT") or Path(__file__).parent.parent / "contract-report")
_COLORS: dict[State, str] = {"broken": "bold red", "not checked": "yellow", "held": "green"}


def kinds(report: Report) -> str:
    """Return how many requests of which kind were sent, in words."""
    return f"{report.requests.total()} requests ({', '.join(f'{n} {kind}' for kind, n in report.requests.items())})"


def summary(report: Report) -> str:
    """Return the numbers of a run, in one line."""
    share = (
        f", {report.reached / report.generated:.0%} of those generated at existing batches" if report.generated else ""
    )
    statuses = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(report.statuses.items()))
    return (
        f"{report.began:%Y-%m-%d %H:%M:%S} UTC: {kinds(report)} in {report.seconds:.1f} s{share}; "
        f"statuses {statuses}; seed {report.seed}"
    )


def counts(report: Report) -> dict[str, int]:
    """Count the clauses by state."""
    return {state: len(report.having(state)) for state in ("held", "broken", "not checked")}


def gateways(report: Report) -> dict[str, str]:
    """Return by clause how many of its requests a gateway responded to, and why it may."""
    return {
        clause: f"{reasons.total()} ({', '.join(f'{reason}: {count}' for reason, count in reasons.items())})"
        for clause, reasons in sorted(report.gateway.items())
    }


def explained(result: ClauseResult) -> str:
    """Return how a clause was seen broken, and by which request."""
    breach = result.breach
    if breach is None:
        return ""
    lines = [f"expected {breach.expected}", f"got      {breach.got}", result.frequency]
    lines += [breach.state, breach.request, breach.curl]
    return "\n".join(filter(None, lines))


def terminal(report: Report, console: Console) -> None:
    """Print the table of clauses, and details of those that did not hold."""

    def show(text: str, style: str = "") -> None:
        console.print(Text(text, style), soft_wrap=True)

    table = Table(title=f"{CANCEL} of {report.target.name}", title_justify="left", pad_edge=False, box=None)
    for column in ("clause", "", "checks", "source", "what it states"):
        table.add_column(column, overflow="fold", no_wrap=column != "what it states")
    for result in report.results.values():
        clause, state = result.clause, Text(result.state, _COLORS[result.state])
        table.add_row(clause.name, state, str(result.checks), clause.provenance, Text(clause.sentence))
    console.print(table)
    for result in report.having("broken"):
        show(f"\nbroken: {result.clause.name} ({result.clause.provenance})", "bold red")
        show(f"{result.clause.sentence}\n{explained(result)}")
    if report.having("not checked"):
        show("\nnot checked, and what it would need:", "yellow")
        for result in report.having("not checked"):
            show(f"  {result.clause.name}: {result.why_not}")
    if report.gateway:
        show("\nresponses of a gateway in place of the API, which count for nothing:", "yellow")
        for name, why in gateways(report).items():
            show(f"  {name}: {why}")
    if report.uncovered:
        show(f"\nin no response: {', '.join(report.uncovered)}")
    if report.differences is not None:
        number = len(report.differences)
        show("\nmock ⇄ real: " + (f"{number} differences" if number else "no difference"), "bold")
        for one in report.differences:
            show(f"  {one.clause}: {one.what} {one.real}, the mock {one.mock} ({one.requests} times)\n    {one.curl}")
    if report.stopped:
        show(f"\nStopped early: {report.stopped} The last requests:", "bold red")
        for curl in report.last:
            show(f"  {curl}")
    show("\n" + summary(report))
    show(", ".join(f"{count} {state}" for state, count in counts(report).items()))


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as a JSON value."""
    differences = report.differences
    return {
        "operation": str(CANCEL),
        "target": report.target.name,
        "began": report.began.isoformat(timespec="seconds"),
        "seed": report.seed,
        "requests": report.requests.total(),
        "kinds": dict(report.requests),
        "generated": report.generated,
        "reached": report.reached,
        "seconds": round(report.seconds, 2),
        "stopped": report.stopped,
        "statuses": {str(status): count for status, count in sorted(report.statuses.items())},
        "counts": counts(report),
        "gateway": gateways(report),
        "uncovered": report.uncovered,
        "clauses": [
            {
                "name": result.clause.name,
                "sentence": result.clause.sentence,
                "provenance": result.clause.provenance,
                "state": result.state,
                "checks": result.checks,
                "explanation": explained(result) or result.why_not,
            }
            for result in report.results.values()
        ],
        "differences": None if differences is None else [attrs.asdict(difference) for difference in differences],
    }  # fmt: skip


def page(report: Report) -> str:
    """Return the report as one HTML page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template("report.html.jinja").render(
        report=report,
        operation=CANCEL,
        results=[result for state in _COLORS for result in report.having(state)],
        counts=counts(report),
        kinds=kinds(report),
        gateways=gateways(report),
        explained=explained,
    )


def write(report: Report, folder: Path = FOLDER) -> None:
    """Write the HTML page and the JSON into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(report.clean(page(report)), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(as_json(report), indent=2), encoding="utf-8")
