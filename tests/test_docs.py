"""The pages under docs/ are true: their code runs, what they name exists, and the links of the site lead somewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from blocks import blocks, run

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
    for code in (200, 400, 401, 403, 404, 422, 429, 500, 503):
        assert f"\n### {code}\n" in text
    for schema in docs.SPEC["components"]["schemas"]:
        assert f"\n### {schema}\n" in text


def test_generated_lists_are_whole() -> None:
    """Options, clauses and errors are all there."""
    assert all(option in docs.command() for option in docs.options() - {"-h", "--help", "--version"})
    assert all(f"| `{name}` |" in docs.clauses() for name in CLAUSES)
    assert docs.error_classes().count("\n") == 12
    assert docs.codes().count("\n") == 5
    assert "POST" in docs.door()


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
