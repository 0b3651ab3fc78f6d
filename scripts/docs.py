"""Write the pages of the documentation: those under docs/, with what is made of the code in its places.

Usage: python -m scripts.docs

A line `<!-- made: NAME -->` in a page stands for what the function of that name here makes of `openapi.yaml`, the
command, the Makefile, the contract tests or a recorded result. The pages go to build/docs/, which zensical.toml reads.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

import mixpeek_batches
from benchmarks import results
from contract_tests.clauses import CLAUSES
from contract_tests.spec import METHODS, SPEC, resolved
from mixpeek_batches import cli, errors, mock
from scripts.process import ScriptError

ROOT = Path(__file__).resolve().parent.parent
SOURCE, PAGES = ROOT / "docs", ROOT / "build" / "docs"
REPORTS = ROOT / "contract-report"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Make a Markdown table."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines)


def provenance(text: str) -> str:
    """Show the source of something."""
    return f'<span class="from {text}">{text}</span>'


# --- The HTTP operation, from openapi.yaml


def _said(item: dict[str, Any], name: str, where: str) -> Any:
    """Return what openapi.yaml says somewhere.

    Raises:
        ScriptError: It does not.
    """
    if name not in item:
        raise ScriptError(f"openapi.yaml: {where} has no {name}, which the reference shows.")
    return item[name]


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (
            path,
            method,
            {**item[method], "parameters": [*item.get("parameters", []), *item[method].get("parameters", [])]},
        )
        for path, item in SPEC["paths"].items()
        for method in METHODS
        if method in item
    ]


def _label(operation: dict[str, Any], code: str) -> str:
    """Head the section of a response: by its code, and by the operation too where there are several."""
    return code if len(_operations()) == 1 else f"{operation['operationId']} {code}"


def _anchor(label: str) -> str:
    return label.lower().replace(" ", "-")


def _json(value: Any) -> str:
    """Show a JSON value, a line a member of its objects, and short values in one line."""
    return "```json\n" + _laid_out(value) + "\n```"


def _laid_out(value: Any, indent: str = "") -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or (indent and len(flat) + len(indent) <= 60):
        return flat
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(name)}: {_laid_out(item, inner)}" for name, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _examples(media: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if "example" in media:
        yield "Example", media["example"]
    for example in media.get("examples", {}).values():
        yield example["summary"].replace(" `", " `"), example["value"]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"array of {_type(schema['items'])}"
    kinds = schema.get("type", "any")
    text = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        text += f", {least} to {most}"
    elif least is not None or most is not None:
        text += f", from {least}" if most is None else f", up to {most}"
    return text


def request() -> str:
    """Show the request of each operation: path, parameters, key."""
    return "\n\n".join(_request(*operation) for operation in _operations())


def _request(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = []
    for parameter in map(resolved, operation["parameters"]):
        where = f"the parameter {parameter['name']}"
        examples = [example["value"] for example in parameter.get("examples", {}).values()]
        examples = examples or [_said(parameter, "example", where)]
        rows.append(
            [
                f"`{parameter['name']}`",
                _said(parameter, "description", where) + f" Such as {' or '.join(f'`{value}`' for value in examples)}.",
                parameter["in"] + ("" if parameter.get("required") else ", optional"),
                _type(parameter["schema"]),
            ]
        )
    (scheme,) = SPEC["components"]["securitySchemes"].values()
    rows.append(["`Authorization`", scheme["description"], "header", "string"])
    return "\n\n".join(
        [
            f"```http\n{method.upper()} {path} HTTP/1.1\nHost: {httpx.URL(SPEC['servers'][0]['url']).host}\n```",
            _said(operation, "description", f"{method.upper()} {path}").strip(),
            table(["parameter", "meaning", "in", "type"], rows),
        ]
    )


def responses() -> str:
    """Show each response: what it means, its source, what the client makes of it, headers, examples."""
    return "\n\n".join(_responses(operation) for _, _, operation in _operations())


def _responses(operation: dict[str, Any]) -> str:
    found = {code: resolved(response) for code, response in operation["responses"].items()}
    rows = []
    for code, response in found.items():
        _said(response, "x-provenance", f"the response {code}")
        if not code.isdecimal():
            raise ScriptError(
                f"openapi.yaml: the response {code} is not a status code, by which the reference is arranged."
            )
        raised = "" if code.startswith("2") else _class(errors.status_error_class(int(code)).__name__)
        made = raised or _class("TaskResponse")
        link = f"[{code}](#{_anchor(_label(operation, code))})"
        rows.append([link, response["description"], made, provenance(response["x-provenance"])])
    parts = [table(["status", "when", "in Python", "source"], rows)]
    for code, response in found.items():
        media = response.get("content", {}).get("application/json")
        parts += [
            f"### {_label(operation, code)}",
            f"{response['description']} {provenance(response['x-provenance'])}",
            f"The body is a {_type(media['schema'])}." if media else "There is no body.",
        ]
        for name, header in response.get("headers", {}).items():
            shown = resolved(header)
            example = _said(shown, "example", f"the header {name}")
            parts.append(f"Header `{name}`: {_said(shown, 'description', f'the header {name}')} Such as `{example}`.")
        for title, value in _examples(media or {}):
            parts += [f"{title}:", _json(value)]
    return "\n\n".join(parts)


def schemas() -> str:
    """Show each schema: what it is, its source, its properties or values, examples."""
    parts = []
    for name, schema in SPEC["components"]["schemas"].items():
        where = f"the schema {name}"
        text, *_ = _said(schema, "description", where).strip().partition("\n\n- ")
        parts += [f"### {name}", f"{text} {provenance(_said(schema, 'x-provenance', where))}"]
        if "enum" in schema:
            meanings = dict(re.findall(r"^- `(\w+)`: (.+)$", schema["description"], re.MULTILINE))
            rows = [[f"`{value}`", _said(meanings, value, f"the description of {name}")] for value in schema["enum"]]
            parts.append(table(["value", "meaning"], rows))
        if "properties" in schema:
            rows = []
            for field, inner in schema["properties"].items():
                needed = "" if field in schema.get("required", []) else ", optional"
                meaning = _said({**resolved(inner), **inner}, "description", f"{name}.{field}").partition("\n")[0]
                rows.append([f"`{field}`", meaning, _type(inner) + needed])
            parts.append(table(["field", "meaning", "type"], rows))
        elif schema.get("additionalProperties"):
            parts.append("An object of any fields.")
        examples = schema.get("examples", [])
        parts += [part for example in examples for part in ("Example:", _json(example))]
    return "\n\n".join(parts)


def _class(name: str) -> str:
    return f"[`{name}`][mixpeek_batches.{name}]"


def sources() -> str:
    """List every response and schema by source."""
    rows = [
        [
            f"[{_label(operation, code)}](reference/http.md#{_anchor(_label(operation, code))})",
            resolved(response)["description"],
            _said(resolved(response), "x-provenance", f"the response {code}"),
        ]
        for _, _, operation in _operations()
        for code, response in operation["responses"].items()
    ]
    for name, schema in SPEC["components"]["schemas"].items():
        link = f"[{name}](reference/http.md#{name.lower()})"
        text = _said(schema, "description", f"the schema {name}").partition("\n")[0]
        rows.append([link, text, _said(schema, "x-provenance", f"the schema {name}")])
    meanings = dict(re.findall(r"^- `(\w+)`: (.+?)[,;.]$", SPEC["info"]["description"], re.MULTILINE))
    rows.sort(key=lambda row: list(meanings).index(row[2]))
    words = "\n".join(f"- {provenance(word)} {meaning}" for word, meaning in meanings.items())
    return words + "\n\n" + table(["in the contract", "what", "source"], [[*r[:2], provenance(r[2])] for r in rows])


# --- The command, from the command


def command() -> str:
    """Show the help of each command."""
    parts = []
    parent = cli.app.make_context("mixpeek-batches", [], resilient_parsing=True, terminal_width=80)
    for name, found in cli.app.commands.items():
        context = found.make_context(name, [], parent=parent, resilient_parsing=True)
        parts += [f"## mixpeek-batches {name}", f"```text\n{found.get_help(context)}\n```"]
    return "\n\n".join(parts)


def codes() -> str:
    """Show the exit codes, as the command's module tells them."""
    text = re.search(r"Exit codes: (.+)", " ".join((cli.__doc__ or "").split()))
    assert text is not None
    rows = re.findall(r"(\d+) ([^,.]+)", text[1])
    return table(["exit code", "meaning"], [[f"`{code}`", meaning] for code, meaning in rows])


# --- What else the code says of itself


def clauses() -> str:
    """List the clauses of the contract tests."""
    rows = [
        [f"`{clause.name}`", clause.sentence, clause.needs or "-", provenance(clause.provenance)]
        for clause in CLAUSES.values()
    ]
    return table(["clause", "what it says", "needs of a server", "source"], rows)


def assumed() -> str:
    """List the clauses that only we assume."""
    rows = [[f"`{name}`", clause.sentence] for name, clause in CLAUSES.items() if clause.provenance == "assumed"]
    return table(["clause", "what we assume"], rows)


def error_classes() -> str:
    """List the errors, each under the one that it is a kind of."""
    lines = []

    def add(cls: type, depth: int) -> None:
        text = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
        if not cls.__name__.startswith("_"):
            lines.append(f"{'    ' * depth}- {_class(cls.__name__)}: {text}")
        children: list[type] = cls.__subclasses__()
        for child in children:
            if child.__module__ == errors.__name__:
                add(child, depth + (not cls.__name__.startswith("_")))

    add(mixpeek_batches.MixpeekError, 0)
    return "\n".join(lines)


def admin_api() -> str:
    """List the paths of the mock's admin API, as it tells them."""
    with mock.MockServer() as server:
        paths = httpx.get(f"{server.url}/_mock/").json()["paths"]
    return table(["path", "what it does"], [[f"`{path}`", text] for path, text in paths.items()])


def make_targets() -> str:
    """List the targets of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE)
    return table(["command", "what it does"], [[f"`make {name}`", text] for name, text in found])


def contributing() -> str:
    """Return CONTRIBUTING.md without its title, its lists indented as the generator wants them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n")[2].strip()
    text = re.sub(r"^ {3}(?=\S)", "    ", text, flags=re.MULTILINE)
    return re.sub(r"\n(?=\d+\. )", "\n\n", text)


# --- Results of checks


def _result(name: str) -> tuple[Any, str]:
    """Read a result that the contract tests wrote, and tell on which day they did; nothing where they did not."""
    path = REPORTS / name
    if not path.exists():
        return None, ""
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    return json.loads(path.read_text(encoding="utf-8")), f"{day}, version {mixpeek_batches.__version__}."


def _folded(summary: str, text: str, *, is_open: bool = False) -> str:
    """Fold a long table away under a line that opens it."""
    return f"<details markdown{' open' if is_open else ''}><summary>{summary}</summary>\n\n{text}\n\n</details>"


def contract_report() -> str:
    """Show the report of `make contract`."""
    report, when = _result("report.json")
    if report is None:
        return "`make contract` has not run here."
    counts = ", ".join(f"**{count} {state}**" for state, count in report["counts"].items())
    statuses = ", ".join(f"{status}: {count}" for status, count in report["statuses"].items())
    rows = [[f"`{r['name']}`", r["sentence"], r["state"], f"{r['checks']:,}"] for r in report["clauses"]]
    return "\n\n".join(
        [
            f"`make contract`, {when}",
            f"Of {len(rows)} clauses: {counts}. {report['requests']:,} requests to {report['target']} in "
            f"{report['seconds']:.1f} s; answers: {statuses}.",
            _folded(
                "All clauses",
                table(["clause", "what it says", "", "checks"], rows),
                is_open=report["counts"]["broken"] > 0,
            ),
        ]
    )


def mutants() -> str:
    """Show the result of `make mutants`."""
    found, when = _result("mutants.json")
    if found is None:
        return "They were not run for this page: `make mutants docs` runs them and shows the result."
    survivors = sum(not row["caught_by"] for row in found)
    rows = [[r["mutant"], f"`{r['caught_by']}`" if r["caught_by"] else "**survived**", str(r["after"])] for r in found]
    return "\n\n".join(
        [
            f"`make mutants`, {when}",
            f"{len(rows)} mutants, **{len(rows) - survivors} caught, {survivors} survived**.",
            _folded(
                "All mutants",
                table(["mutant", "caught by the clause", "after requests"], rows),
                is_open=survivors > 0,
            ),
        ]
    )


def bench() -> str:
    """Show the last measurements: what users would notice, and each group folded away."""
    groups = results.read().items()
    return "\n\n".join(
        [
            results.notable(),
            *(_folded(f"All of {name}", f"{g['measured']}\n\n{results.table(g['results'])}") for name, g in groups),
        ]
    )


MADE: dict[str, Callable[[], str]] = {
    "admin-api": admin_api,
    "assumed": assumed,
    "bench": bench,
    "clauses": clauses,
    "codes": codes,
    "command": command,
    "contract-report": contract_report,
    "contributing": contributing,
    "errors": error_classes,
    "mutants": mutants,
    "request": request,
    "responses": responses,
    "schemas": schemas,
    "sources": sources,
    "targets": make_targets,
}


# --- The pages


def pages() -> list[Path]:
    """List the pages under docs/."""
    return sorted(SOURCE.rglob("*.md"))


def filled(text: str) -> str:
    """Put what is made in its places, and leave out how the tests run a code block."""
    text = re.sub(r"^```text output$", "``` { .text .printed .no-copy }", text, flags=re.MULTILINE)
    text = re.sub(r"^(```\w+) \w+$", r"\1", text, flags=re.MULTILINE)
    return re.sub(r"^<!-- made: ([\w-]+) -->$", lambda match: MADE[match[1]](), text, flags=re.MULTILINE)


def write() -> None:
    """Write all pages and what belongs to them."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(SOURCE, PAGES, ignore=shutil.ignore_patterns("*.md"))
    for page in pages():
        target = PAGES / page.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Run the command."""
    try:
        write()
    except ScriptError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
