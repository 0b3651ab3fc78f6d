"""Render the pages of the documentation into build/docs/, where zensical.toml expects them.

Usage: python -m scripts.docs

The pages under docs/ are Jinja templates. What they can refer to is what `context` returns: `openapi.yaml`, the help of
the command, the clauses of the contract tests, and the latest results of the contract tests and benchmarks.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jinja2

import mixpeek_batches
from benchmarks import results
from contract_tests.clauses import CLAUSES
from contract_tests.spec import METHODS, SPEC
from mixpeek_batches import cli, errors, mock
from scripts.process import ScriptError

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "docs", ROOT / "build" / "docs"
REPORTS = ROOT / "contract-report"


class Section(dict[str, Any]):
    """A mapping in openapi.yaml. A page that needs a key which is not there fails and names the mapping."""

    def __init__(self, location: str, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.location = location

    def __missing__(self, key: str) -> Any:
        raise ScriptError(f"openapi.yaml: {self.location} has no {key}, which the documentation needs.")


def sections(value: Any, document: dict[str, Any], path: str = "") -> Any:
    """Turn the mappings of a document into sections, with references resolved except those to schemas."""
    if isinstance(value, list):
        return [sections(item, document, f"{path}/{number}") for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref", "")
    if reference and not reference.startswith("#/components/schemas/"):
        path, target = reference.removeprefix("#"), document
        for name in path.strip("/").split("/"):
            target = target[name]
        return sections(target, document, path)
    return Section(path.lstrip("/"), {key: sections(item, document, f"{path}/{key}") for key, item in value.items()})


# --- The HTTP operations


def operations(spec: Section) -> Iterator[Section]:
    """Yield each operation of the contract, with its path, its method and the parameters of its path added."""
    for path, item in spec["paths"].items():
        for method in METHODS:
            if method in item:
                shared, own = item.get("parameters", []), item[method].get("parameters", [])
                added = {"path": path, "method": method.upper(), "parameters": [*shared, *own]}
                yield Section(item[method].location, {**item[method], **added})


def type_name(schema: dict[str, Any]) -> str:
    """Describe the type of a schema in Markdown, with links to the schemas it refers to."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(type_name, schema["anyOf"]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"array of {type_name(schema['items'])}"
    kinds = schema.get("type", "any")
    text = kinds if isinstance(kinds, str) else " or ".join(kinds)
    match schema.get("minimum"), schema.get("maximum"):
        case None, None:
            return text
        case least, None:
            return f"{text}, at least {least}"
        case None, most:
            return f"{text}, at most {most}"
        case least, most:
            return f"{text}, {least} to {most}"


def field_description(field: Section, spec: Section) -> str:
    """Return the description of a property: its own or else the first line of that of the schema it refers to."""
    if "description" not in field and "$ref" in field:
        field = spec["components"]["schemas"][field["$ref"].rpartition("/")[2]]
    return str(field["description"]).partition("\n")[0]


def meanings(described: Section) -> Section:
    """Return the meaning of each word that a description lists, as in "- `word`: meaning"."""
    found = re.findall(r"^- `(\w+)`: (.+?)[.,;]?$", described["description"], re.MULTILINE)
    return Section(f"the description of {described.location}", dict(found))


def source(item: Section | str) -> str:
    """Show the source of a part of the contract, or a source by its name."""
    name = item if isinstance(item, str) else item["x-provenance"]
    return f'<span class="from {name}">{name}</span>'


def example(title: str, value: Any) -> str:
    """Show an example of a body."""
    return f"{title}:\n\n```json\n{json_layout(value)}\n```\n"


def json_layout(value: Any, indent: str = "") -> str:
    """Format JSON with a line for each member of an object, except for objects that fit on one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or (indent and len(flat) + len(indent) <= 60):
        return flat
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(name)}: {json_layout(item, inner)}" for name, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def python_class(code: str) -> str:
    """Return a link to what the client makes of a status code."""
    status = int(code) if code.isdecimal() else 0
    return class_link("TaskResponse" if 200 <= status < 300 else errors.status_error_class(status).__name__)


def class_link(name: str) -> str:
    """Return a link to a public class in the reference."""
    return f"[`{name}`][mixpeek_batches.{name}]"


# --- The code, and what was measured


def error_tree(cls: type = mixpeek_batches.MixpeekError, depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """Yield the depth, the name and the summary of each public error, with each one below its base class."""
    if public := cls.__name__ in mixpeek_batches.__all__:
        yield depth, cls.__name__, inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
    children: list[type] = cls.__subclasses__()
    for child in children:
        if child.__module__ == errors.__name__:
            yield from error_tree(child, depth + public)


def command_help() -> Iterator[tuple[str, str]]:
    """Yield the name and the help of each command."""
    parent = cli.app.make_context("mixpeek-batches", [], resilient_parsing=True, terminal_width=80)
    for name, command in cli.app.commands.items():
        yield name, command.get_help(command.make_context(name, [], parent=parent, resilient_parsing=True))


def admin_paths() -> dict[str, str]:
    """Return the paths of the mock's admin API as it lists them itself."""
    with mock.MockServer() as server:
        paths: dict[str, str] = httpx.get(f"{server.url}/_mock/").json()["paths"]
    return paths


def make_targets() -> list[tuple[str, str]]:
    """Return the name and the description of each target of the Makefile."""
    return re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def included(name: str, heading: str = "") -> str:
    """Return a file of the project; of a Markdown file all but the title, or only what is under a heading."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        text = text.partition("\n")[2]
        if heading:
            text = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        # Python-Markdown needs four spaces where others need three, and a blank line between items that hold more.
        text = re.sub(r"\n(?=\d+\. )", "\n\n", re.sub(r"^ {3}(?=\S)", "    ", text, flags=re.MULTILINE))
    return text.strip()


def check_result(name: str) -> tuple[Any, str] | None:
    """Return a result that the contract tests wrote, and when and of which version; None if they did not run."""
    path = REPORTS / name
    if not path.exists():
        return None
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    return json.loads(path.read_text(encoding="utf-8")), f"{day}, version {mixpeek_batches.__version__}"


# --- The pages


def context(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the pages can refer to."""
    spec = sections(document, document)
    return {
        "spec": spec,
        "operations": list(operations(spec)),
        "host": httpx.URL(spec["servers"][0]["url"]).host,
        "field_description": lambda field: field_description(field, spec),
        "clauses": CLAUSES.values(),
        "bench": results,
        **{
            function.__name__: function
            for function in (
                admin_paths, check_result, class_link, command_help, error_tree, example, included, make_targets,
                meanings, python_class, source, type_name,
            )
        },
    }  # fmt: skip


def pages() -> list[str]:
    """List the pages by their paths under docs/."""
    return sorted(str(page.relative_to(SOURCE)) for page in SOURCE.rglob("*.md"))


def rendered(page: str, document: dict[str, Any] = SPEC) -> str:
    """Render a page.

    Raises:
        ScriptError: If openapi.yaml lacks something that the page shows.
    """
    environment = jinja2.Environment(  # noqa: S701 - the pages are Markdown
        loader=jinja2.FileSystemLoader(SOURCE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    return environment.get_template(page).render(context(document)) + "\n"


def presented(text: str) -> str:
    """Replace the marks that tell the tests how to run a code block, with what the site can show of them."""
    text = re.sub(r"^```text (output|messages)$", "``` { .text .printed .no-copy }", text, flags=re.MULTILINE)
    text = re.sub(r"^```python (\S+\.py)$", r'```python title="\1"', text, flags=re.MULTILINE)
    return re.sub(r"^(```sh) background$", r"\1", text, flags=re.MULTILINE)


def main() -> int:
    """Run the command."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(SOURCE, TARGET, ignore=shutil.ignore_patterns("examples"))
    try:
        for page in pages():
            (TARGET / page).write_text(presented(rendered(page)), encoding="utf-8")
    except ScriptError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
