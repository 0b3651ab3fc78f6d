"""README and the pages under docs/ are true: their code runs, and what is generated for them is complete."""

from __future__ import annotations

import copy
import functools
import json
import logging
import operator
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blocks import blocks, run

import mixpeek_batches
from contract_tests.clauses import CLAUSES
from contract_tests.spec import SPEC
from mixpeek_batches import TaskStatus, TaskType, cli
from mixpeek_batches.mock import MockServer
from scripts import docs
from scripts.process import ScriptError

README = (docs.ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [page for page in docs.pages() if not page.startswith("reference/")]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a mock with the batches that the pages name, for a reader in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    task: dict[str, Any] = {"task_id": "task_7c9e6679", "inputs": ["obj_1", "obj_2"], "outputs": ["doc_1"]}
    with MockServer() as mock:
        mock.add_batch("bkt_products", "btch_123", namespace="netflix_prod", status="IN_PROGRESS", **task)
        mock.add_batch("bkt_products", "btch_trailer", namespace="netflix_prod", status="IN_PROGRESS")
        mock.add_batch("bkt_products", "btch_completed", status="COMPLETED")
        for number in range(1, 1001):
            mock.add_batch("bkt_products", f"btch_{number}", status="IN_PROGRESS")
        monkeypatch.setenv("MIXPEEK_BASE_URL", mock.url)
        monkeypatch.setenv("MIXPEEK_API_KEY", mock.api_key)
        yield mock.url
    logging.getLogger("mixpeek_batches").setLevel(logging.NOTSET)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_pages(page: str, url: str) -> None:
    """Every code block runs as it stands, and prints what the page shows."""
    run(blocks(docs.rendered(page)), url)


def test_blocks_of_readme(url: str) -> None:
    """So does every block of README; those that are on a page too run there."""
    known = {block for page in PAGES for block in blocks(docs.rendered(page))}
    assert blocks(README)
    run([block for block in blocks(README) if block not in known], url)


def test_links_of_readme() -> None:
    """Every link to a file of the project leads to one."""
    for target in re.findall(r"\]\((?!https:)([^)#]+)", README):
        assert (docs.ROOT / target).exists(), target


def test_references_are_complete() -> None:
    """The references show all of the contract, the commands and their options, the clauses, and the public names."""
    http, command = docs.rendered("reference/http.md"), docs.rendered("reference/command.md")
    for value in [*TaskStatus, *TaskType]:
        assert f"| `{value}` | " in http
    for path in SPEC["paths"].values():
        assert all(f"\n### {code} " in http for code in path["post"]["responses"])
    assert all(f"\n### {schema}\n" in http for schema in SPEC["components"]["schemas"])
    for name, found in cli.app.commands.items():
        assert f"Usage: mixpeek-batches {name} " in command
        assert all(option in command for parameter in found.params for option in parameter.opts)
    clauses = docs.rendered("reference/clauses.md")
    assert all(f"| `{name}` |" in clauses for name in CLAUSES)
    python, errors = docs.rendered("reference/python.md"), [name for _, name, _ in docs.error_tree()]
    for name in {*mixpeek_batches.__all__} - {"__version__", "Unset"}:
        assert f"::: mixpeek_batches.{name}\n" in python
        assert name in errors or not name.endswith("Error")


@pytest.fixture
def spec() -> dict[str, Any]:
    """A contract of our own to change."""
    return copy.deepcopy(SPEC)


def test_what_is_new_in_the_contract_is_shown(spec: dict[str, Any]) -> None:
    """A second operation, a type with a lower bound only, and a response without a body."""
    (parameter, *_) = next(iter(spec["paths"].values()))["post"]["parameters"]
    spec["paths"]["/v1/batches/{batch_id}"] = {
        "parameters": [{**parameter, "schema": {"type": "integer", "minimum": 3}}],
        "get": {
            "operationId": "get_batch",
            "summary": "Get Batch",
            "description": "Returns a batch.",
            "responses": {"204": {"description": "Nothing.", "x-provenance": "assumed"}},
        },
    }
    text = docs.rendered("reference/http.md", spec)
    for part in ("GET /v1/batches/{batch_id} HTTP/1.1", "| integer, at least 3 |", "{ #get_batch-204 }", "No body."):
        assert part in text
    assert "{ #cancel_batch-200 }" in text
    assert "(reference/http.md#get_batch-204)" in docs.rendered("known.md", spec)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("components/schemas/TaskType", "x-provenance"),
        ("components/headers/Retry-After", "example"),
        ("components/responses/NotFound", "description"),
    ],
)
def test_what_the_contract_lacks_is_named(spec: dict[str, Any], place: str, key: str) -> None:
    """A page that cannot show something fails with a sentence that names it."""
    lacking = functools.reduce(operator.getitem, place.split("/"), spec)
    del lacking[key]
    with pytest.raises(ScriptError, match=f"^openapi.yaml: {place} has no {key}, which"):
        docs.rendered("reference/http.md", spec)


def test_value_without_a_meaning_is_named(spec: dict[str, Any]) -> None:
    """So does an enum with a value that its description does not list."""
    spec["components"]["schemas"]["TaskStatus"]["enum"].append("NEW")
    with pytest.raises(ScriptError, match="the description of components/schemas/TaskStatus has no NEW"):
        docs.rendered("reference/http.md", spec)


def test_results_of_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence shows what the contract tests wrote, and says how to get it where they did not run."""
    monkeypatch.setattr(docs, "REPORTS", tmp_path)
    text = docs.rendered("evidence.md")
    assert "`make contract` has not run" in text
    assert "`make mutants docs` runs them" in text
    clause = {"name": "cancel", "sentence": "It cancels.", "state": "held", "checks": 1200}
    report = {"counts": {"held": 1, "broken": 0}, "statuses": {"200": 3}, "requests": 1697, "target": "the mock"}
    (tmp_path / "report.json").write_text(json.dumps({**report, "seconds": 2.5, "clauses": [clause]}))
    found = [{"mutant": "201", "caught_by": "cancel", "after": 7}, {"mutant": "none", "caught_by": "", "after": 0}]
    (tmp_path / "mutants.json").write_text(json.dumps(found))
    text = docs.rendered("evidence.md")
    assert "1 clauses: **1 held**, **0 broken**.\n1,697 requests to the mock in 2.5 s." in text
    assert "<details markdown><summary>All clauses<" in text
    assert "| `cancel` | It cancels. | held | 1,200 |" in text
    assert "2 mutants, **1 caught, 1 survived**." in text
    assert "<details markdown open><summary>All mutants<" in text
    assert "| 201 | `cancel` | 7 |" in text
