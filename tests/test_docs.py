"""The pages under docs/ are true: their code runs, what they name exists, and the links of the site lead somewhere."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blocks import blocks, run

import mixpeek_batches
from contract_tests.clauses import CLAUSES
from mixpeek_batches import TaskStatus, TaskType
from scripts import docs, docs_links

PAGES = {str(page.relative_to(docs.SOURCE)): page.read_text(encoding="utf-8") for page in docs.pages()}


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if blocks(text)])
def test_blocks_run(name: str, tmp_path: Path) -> None:
    """Every code block runs as it stands, and prints what the page says."""
    run(blocks(PAGES[name]), tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_names_exist(name: str) -> None:
    assert docs.misnamed(PAGES[name]) == []


@pytest.mark.parametrize(
    "text",
    [
        "`--no-such`",
        "`Clients`",
        "`Client.cancel_all`",
        "`client.cancel_all()`",
        "`error.reasons`",
        "`make no-such`",
        "`MIXPEEK_KEY`",
        "`scripts/no_such.py`",
        "```sh\nmixpeek-batches cancel --no-such\n```",
        "```sh\nmake no-such\n```",
        "```yaml\ncommand: mixpeek-batches mock --no-such\n```",
        "<!-- made: no-such -->",
    ],
)
def test_wrong_names_are_found(text: str) -> None:
    assert len(docs.misnamed(text)) == 1


def test_wrong_names_fail_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.md").write_text("`--no-such`")
    monkeypatch.setattr(docs, "SOURCE", tmp_path)
    assert docs.main() == 1
    assert capsys.readouterr().err == "docs/index.md: there is no --no-such\n"


def test_http_reference_has_everything() -> None:
    """The page made of openapi.yaml shows each value, status code and schema of it, with a meaning for each value."""
    text = docs.filled(PAGES["reference/http.md"])
    for value in [*TaskStatus, *TaskType]:
        assert f"| `{value}` | " in text
    for path in docs.SPEC["paths"].values():
        for code in path["post"]["responses"]:
            assert f"\n### {code}\n" in text
    for schema in docs.SPEC["components"]["schemas"]:
        assert f"\n### {schema}\n" in text


def test_generated_lists_are_whole() -> None:
    """Options, clauses and errors are all there."""
    assert all(option in docs.command() for option in docs.options() - {"-h", "--help", "--version"})
    assert all(f"| `{name}` |" in docs.clauses() for name in CLAUSES)
    assert all(f"[`{name}`]" in docs.error_classes() for name in mixpeek_batches.__all__ if name.endswith("Error"))
    assert docs.codes().count("\n") > 2
    assert "POST" in docs.admin_api()


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A contract of our own to change."""
    spec = copy.deepcopy(docs.SPEC)
    monkeypatch.setattr(docs, "SPEC", spec)
    return spec


def test_what_is_new_in_the_contract_is_shown(spec: dict[str, Any]) -> None:
    """A second operation, a bound on one side, and an answer without a body."""
    spec["paths"]["/v1/batches/{batch_id}"] = {
        "parameters": [{**_parameter(spec, 1), "schema": {"type": "integer", "minimum": 3}}],
        "get": {
            "operationId": "get_batch",
            "description": "Gives a batch.",
            "responses": {"204": {"description": "Nothing.", "x-provenance": "assumed"}},
        },
    }
    text = docs.filled(PAGES["reference/http.md"]) + docs.sources()
    for part in (
        "GET /v1/batches/{batch_id} HTTP/1.1",
        "integer, from 3",
        "\n### get_batch 204\n",
        "There is no body.",
    ):
        assert part in text
    assert "\n### cancel_batch 200\n" in text
    assert "(reference/http.md#get_batch-204)" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda spec: spec["components"]["schemas"]["TaskStatus"]["enum"].append("NO_SUCH"),
            "TaskStatus has no NO_SUCH",
        ),
        (lambda spec: spec["components"]["schemas"].update(New={"type": "object"}), "schema New has no description"),
        (lambda spec: spec["components"]["schemas"]["TaskType"].pop("x-provenance"), "TaskType has no x-provenance"),
        (lambda spec: _parameter(spec, 1).pop("example"), "batch_id has no example"),
        (lambda spec: spec["components"]["headers"]["Retry-After"].pop("example"), "Retry-After has no example"),
    ],
)
def test_what_the_contract_does_not_say_is_told(
    spec: dict[str, Any], change: Callable[[dict[str, Any]], object], said: str
) -> None:
    """What the reference cannot show fails with a sentence that names it."""
    change(spec)
    with pytest.raises(docs.DocsError, match=said) as caught:
        docs.filled(PAGES["reference/http.md"])
    assert str(caught.value).startswith("openapi.yaml: ")


def _parameter(spec: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(spec["paths"].values()))["post"]["parameters"][number]
    return found


def test_evidence_is_recorded() -> None:
    """Each kept result says which command made it, and on which day."""
    for name, made in (("contract", docs.contract_report), ("mutants", docs.mutants), ("drift", docs.drift)):
        assert (docs.EVIDENCE / f"{name}.json").exists()
        assert made().startswith(f"`make {name}")


def test_links_of_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to a missing page, a missing anchor, and anything loaded from elsewhere are found."""
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#in">b</a> <a href="https://example.com/">x</a>'
    )
    (tmp_path / "b.html").write_text('<p id="in"></p><a href="a.html#top">a</a>')
    assert docs_links.problems(tmp_path) == []
    (tmp_path / "c.html").write_text('<a href="no.html">a</a><a href="a.html#no">b</a><script src="//a.com/s.js">')
    (tmp_path / "c.css").write_text("body { background: url(https://example.com/i.png) }")
    found = docs_links.problems(tmp_path)
    assert [line.split()[1] for line in found] == ["links", "links", "loads", "loads"]
    monkeypatch.setattr(sys, "argv", ["docs_links", str(tmp_path)])
    assert docs_links.main() == 1
