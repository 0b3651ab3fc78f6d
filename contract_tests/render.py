"""A report for people (a table on the terminal, a page of HTML) and for programs (JSON)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .difference import Difference
from .report import Finding, Report
from .spec import CANCEL

FOLDER = Path(os.environ.get("CONTRACT_REPORT") or Path(__file__).parent.parent / "contract-report")
_COLOURS = {"held": "green", "broken": "bold red", "not checked": "yellow"}


def kinds(report: Report) -> str:
    """Say how many requests of which kind were sent."""
    return f"{report.requests.total()} requests ({', '.join(f'{n} {kind}' for kind, n in report.requests.items())})"


def summary(report: Report) -> str:
    """Say in one line what a run was."""
    share = f", {100 * report.reached / report.generated:.0f} % of those generated at existing batches"
    statuses = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(report.statuses.items()))
    return (
        f"{report.began:%Y-%m-%d %H:%M:%S} UTC: {kinds(report)} in {report.seconds:.1f} s"
        f"{share if report.generated else ''}; statuses {statuses}; seed {report.seed}"
    )


def counts(report: Report) -> dict[str, int]:
    """Count the clauses by state."""
    return {state: len(report.having(state)) for state in ("held", "broken", "not checked")}


def gateways(report: Report) -> dict[str, str]:
    """Say by clause how many of its requests a gateway answered, and why it may."""
    return {
        clause: f"{whys.total()} ({', '.join(f'{why}: {count}' for why, count in whys.items())})"
        for clause, whys in sorted(report.gateway.items())
    }


def explained(finding: Finding) -> str:
    """Say how a clause was seen broken, and by which request."""
    breach = finding.breach
    if breach is None:
        return ""
    lines = [f"expected {breach.expected}", f"got      {breach.got}", f"in {finding.broken} of {finding.checks} checks"]
    return "\n".join([*lines, *filter(None, (breach.request, breach.curl))])


def terminal(report: Report, differences: list[Difference] | None, console: Console) -> None:
    """Print the table of clauses, and what is to be said of those that did not hold."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style), soft_wrap=True)

    table = Table(title=f"{CANCEL} of {report.target.name}", title_justify="left", pad_edge=False, box=None)
    for column in ("clause", "", "checks", "source", "what it says"):
        table.add_column(column, overflow="fold", no_wrap=column in {"clause", "", "checks", "source"})
    for finding in report.findings.values():
        clause = finding.clause
        state = Text(finding.state, _COLOURS[finding.state])
        table.add_row(clause.name, state, str(finding.checks), clause.provenance, Text(clause.sentence))
    console.print(table)
    for finding in report.having("broken"):
        say(f"\nbroken: {finding.clause.name} ({finding.clause.provenance})", "bold red")
        say(f"{finding.clause.sentence}\n{explained(finding)}")
    if report.having("not checked"):
        say("\nnot checked, and what it would need:", "yellow")
        for finding in report.having("not checked"):
            say(f"  {finding.clause.name}: {finding.why_not}")
    if report.gateway:
        say("\nanswered by a gateway in place of the API, and counted for nothing:", "yellow")
        for name, why in gateways(report).items():
            say(f"  {name}: {why}")
    if report.uncovered:
        say(f"\nin no answer: {', '.join(report.uncovered)}")
    if differences is not None:
        say("\nmock ⇄ real: " + (f"{len(differences)} differences" if differences else "no difference"), "bold")
        for one in differences:
            say(f"  {one.clause}: {one.what} {one.real}, the mock {one.mock} ({one.requests} times)\n    {one.curl}")
    if report.stopped:
        say(f"\nStopped early: {report.stopped} The last requests:", "bold red")
        for curl in report.last:
            say(f"  {curl}")
    say("\n" + summary(report))
    say(", ".join(f"{count} {state}" for state, count in counts(report).items()))


def as_json(report: Report, differences: list[Difference] | None) -> dict[str, Any]:
    """Give the report as a JSON value."""
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
                "name": finding.clause.name,
                "sentence": finding.clause.sentence,
                "provenance": finding.clause.provenance,
                "state": finding.state,
                "checks": finding.checks,
                "explanation": explained(finding) or finding.why_not,
            }
            for finding in report.findings.values()
        ],
        "differences": None if differences is None else [
            {"clause": d.clause, "what": d.what, "real": d.real, "mock": d.mock, "curl": d.curl} for d in differences
        ],
    }  # fmt: skip


def page(report: Report, differences: list[Difference] | None) -> str:
    """Give the report as one HTML page that needs nothing else."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    order = ("broken", "not checked", "held")
    return environment.get_template("report.html.jinja").render(
        report=report,
        operation=CANCEL,
        findings=sorted(report.findings.values(), key=lambda finding: order.index(finding.state)),
        counts=counts(report),
        kinds=kinds(report),
        gateways=gateways(report),
        differences=differences,
    )


def write(report: Report, differences: list[Difference] | None, folder: Path = FOLDER) -> None:
    """Write the HTML page and the JSON into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(report.clean(page(report, differences)), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(as_json(report, differences), indent=2), encoding="utf-8")
