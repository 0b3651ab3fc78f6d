"""A report for people (a table on the terminal, a page of HTML) and for programs (JUnit XML, JSON)."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .difference import Difference
from .report import Finding, Report

FOLDER = Path(os.environ.get("CONTRACT_REPORT", Path(__file__).parent.parent / "contract-report"))
_COLOURS = {"held": "green", "broken": "bold red", "not checked": "yellow"}


def summary(report: Report) -> str:
    """Say in one line what a run was."""
    share = f", {100 * report.reached / report.generated:.0f} % of them at existing batches" if report.generated else ""
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(report.statuses.items()))
    return (
        f"{report.requests} requests in {report.seconds:.1f} s ({report.generated} generated{share}); "
        f"statuses {statuses}; seed {report.seed}"
    )


def counts(report: Report) -> dict[str, int]:
    """Count the clauses by state."""
    return {state: len(report.having(state)) for state in ("held", "broken", "not checked")}


def terminal(report: Report, differences: list[Difference] | None, console: Console) -> None:
    """Print the table of clauses, and what is to be said of those that did not hold."""
    table = Table(title=f"Contract of {report.target.name}", title_justify="left", pad_edge=False, box=None)
    for column in ("clause", "", "checks", "whose word", "what it says"):
        table.add_column(column, overflow="fold", no_wrap=column in {"clause", "", "checks", "whose word"})
    for finding in report.findings.values():
        clause = finding.clause
        state = Text(finding.state, _COLOURS[finding.state])
        table.add_row(clause.name, state, str(finding.checks), clause.provenance, Text(clause.sentence))
    console.print(table)
    for finding in report.having("broken"):
        console.print(Text(f"\nbroken: {finding.clause.name} ({finding.clause.provenance})", "bold red"))
        console.print(Text(f"{finding.clause.sentence}\n{explained(finding)}"), soft_wrap=True)
    skipped = report.having("not checked")
    if skipped:
        console.print(Text("\nnot checked, and what it would need:", "yellow"))
        for finding in skipped:
            console.print(Text(f"  {finding.clause.name}: {finding.why_not}"), soft_wrap=True)
    if differences is not None:
        title = "\nmock ⇄ real: " + (f"{len(differences)} differences" if differences else "no difference")
        console.print(Text(title, "bold"))
        for difference in differences:
            console.print(
                Text(f"  {difference.clause}: {difference.what} {difference.real}, the mock {difference.mock} "
                     f"({difference.requests} times)\n    {report.clean(difference.curl)}"),
                soft_wrap=True,
            )  # fmt: skip
    console.print(Text("\n" + summary(report)), soft_wrap=True)
    console.print(Text(", ".join(f"{count} {state}" for state, count in counts(report).items())))


def explained(finding: Finding) -> str:
    """Say how a clause was seen broken, and by which request."""
    breach = finding.breach
    if breach is None:
        return ""
    lines = [f"expected {breach.expected}", f"got      {breach.got}", f"in {finding.broken} of {finding.checks} checks"]
    return "\n".join([*lines, breach.curl] if breach.curl else lines)


def as_json(report: Report, differences: list[Difference] | None) -> dict[str, Any]:
    """Give the report as a JSON value."""
    return {
        "target": report.target.name,
        "seed": report.seed,
        "requests": report.requests,
        "generated": report.generated,
        "reached": report.reached,
        "seconds": round(report.seconds, 2),
        "statuses": {str(status): count for status, count in sorted(report.statuses.items())},
        "counts": counts(report),
        "clauses": [
            {
                "name": finding.clause.name,
                "sentence": finding.clause.sentence,
                "provenance": finding.clause.provenance,
                "state": finding.state,
                "checks": finding.checks,
                "explanation": explained(finding) or finding.why_not or "",
            }
            for finding in report.findings.values()
        ],
        "differences": None
        if differences is None
        else [
            {"clause": d.clause, "what": d.what, "real": d.real, "mock": d.mock, "curl": report.clean(d.curl)}
            for d in differences
        ],
    }


def junit(report: Report) -> bytes:
    """Give the report as JUnit XML, a test case a clause."""
    number = counts(report)
    suite = ElementTree.Element(
        "testsuite",
        name=f"contract of {report.target.name}",
        tests=str(len(report.findings)),
        failures=str(number["broken"]),
        skipped=str(number["not checked"]),
        errors="0",
        time=f"{report.seconds:.2f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="seed", value=str(report.seed))
    for finding in report.findings.values():
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"contract.{finding.clause.provenance}", name=finding.clause.name, time="0"
        )
        if finding.breach is not None:
            failure = ElementTree.SubElement(case, "failure", message=_xml(f"expected {finding.breach.expected}"))
            failure.text = _xml(explained(finding))
        elif finding.state == "not checked":
            ElementTree.SubElement(case, "skipped", message=_xml(f"needs {finding.why_not}"))
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    ElementTree.indent(whole)
    content: bytes = ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True)
    return content


def _xml(text: str) -> str:
    """Escape what XML 1.0 cannot carry."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #dde2ea; --page: #fff; --panel: #f5f7fa;
  --held: #14743c; --broken: #b3261e; --unchecked: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa5b8; --line: #2e3644; --page: #12161d;
  --panel: #1a202a; --held: #5fd38d; --broken: #ff8a80; --unchecked: #f0bf5c; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
p { margin: .35rem 0; color: var(--soft) }
.totals { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 }
.total { flex: 1 1 9rem; background: var(--panel); border: 1px solid var(--line); border-left-width: 5px;
  border-radius: 8px; padding: .6rem 1rem; color: var(--soft) }
.total b { display: block; font-size: 1.9rem; line-height: 1.2; color: var(--ink) }
.total.held { border-left-color: var(--held) } .total.broken { border-left-color: var(--broken) }
.total.unchecked { border-left-color: var(--unchecked) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600 } td.number { text-align: right; font-variant-numeric: tabular-nums }
code, pre { font: .85rem/1.45 ui-monospace, monospace }
td code { white-space: nowrap }
.state { font-weight: 650; white-space: nowrap }
.held .state { color: var(--held) } .broken .state { color: var(--broken) }
.unchecked .state { color: var(--unchecked) }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem;
  margin: .5rem 0; white-space: pre-wrap; overflow-wrap: anywhere }
.note { color: var(--soft) }
@media (max-width: 44rem) {
  table, tbody, tr, td { display: block; width: auto } tr:has(th) { display: none }
  tr { border-bottom: 1px solid var(--line); padding: .6rem 0 } td { border: 0; padding: .1rem 0; text-align: left }
  td.number { text-align: left; color: var(--soft) } td.number::after { content: " checks" }
}
"""


def page(report: Report, differences: list[Difference] | None) -> str:
    """Give the report as one HTML page that needs nothing else."""
    number, e = counts(report), html.escape
    verdict = "The contract is broken" if number["broken"] else "Every clause that was checked holds"
    names = {"held": "held", "broken": "broken", "not checked": "unchecked"}
    marks = {"held": "✓ held", "broken": "✗ broken", "not checked": "○ not checked"}
    totals = "".join(f'<div class="total {names[s]}"><b>{n}</b>{s}</div>' for s, n in number.items())
    rows = []
    for finding in sorted(report.findings.values(), key=lambda f: ("broken", "not checked", "held").index(f.state)):
        clause = finding.clause
        note = f"<pre>{e(explained(finding))}</pre>" if finding.breach else ""
        if finding.state == "not checked":
            note = f'<div class="note">needs {e(finding.why_not or "")}</div>'
        rows.append(
            f'<tr class="{names[finding.state]}"><td class="state">{marks[finding.state]}</td>'
            f"<td><code>{e(clause.name)}</code></td><td>{e(clause.sentence)}{note}</td>"
            f'<td>{e(clause.provenance)}</td><td class="number">{finding.checks}</td></tr>'
        )
    other = ""
    if differences is not None:
        listed = "".join(
            f"<tr><td><code>{e(d.clause)}</code></td><td>{e(d.what)}</td><td>{e(d.real)}</td><td>{e(d.mock)}</td>"
            f'<td class="number">{d.requests}</td></tr>'
            for d in differences
        )
        head = "<tr><th>clause</th><th>what</th><th>real</th><th>mock</th><th>requests</th></tr>"
        other = "<h2>Mock and real, the same requests</h2>" + (
            f'<div class="scroll"><table>{head}{listed}</table></div>' if listed else "<p>No difference.</p>"
        )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Contract of {e(report.target.name)}</title><style>{_STYLE}</style></head><body>
<h1>{verdict}</h1>
<p>Contract of <b>{e(report.target.name)}</b>, against openapi.yaml.</p><p>{e(summary(report))}</p>
<div class="totals">{totals}</div>
<h2>Clauses</h2>
<div class="scroll"><table><tr><th></th><th>clause</th><th>what it says</th><th>whose word</th><th>checks</th></tr>
{"".join(rows)}</table></div>{other}
</body></html>
"""


def write(report: Report, differences: list[Difference] | None, folder: Path = FOLDER) -> None:
    """Write the HTML page, the JUnit XML and the JSON into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(report.clean(page(report, differences)), encoding="utf-8")
    (folder / "junit.xml").write_bytes(junit(report))
    (folder / "report.json").write_text(json.dumps(as_json(report, differences), indent=2), encoding="utf-8")
