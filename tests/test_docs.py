"""The pages under docs/ are true: their code runs, and what is made for them is whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blocks import blocks, run

import mixpeek_batches
from contract_tests.clauses import CLAUSES
from contract_tests.spec import SPEC
from mixpeek_batches import TaskStatus, TaskType, cli
from scripts import docs
from scripts.process import ScriptError

PAGES = {str(page.relative_to(docs.SOURCE)): page.read_text(encoding="utf-8") for page in docs.pages()}


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if blocks(text)])
def test_blocks_run(name: str, tmp_path: Path) -> None:
    """Every code block runs as it stands, and prints what the page says."""
    run(blocks(PAGES[name]), tmp_path)


def test_http_reference_has_everything() -> None:
    """The page made of openapi.yaml shows each value, status code and schema of it, with a meaning for each value."""
    text = docs.filled(PAGES["reference/http.md"])
    for value in [*TaskStatus, *TaskType]:
        assert f"| `{value}` | " in text
    for path in SPEC["paths"].values():
        for code in path["post"]["responses"]:
            assert f"\n### {code}\n" in text
    for schema in SPEC["components"]["schemas"]:
        assert f"\n### {schema}\n" in text


def test_generated_lists_are_whole() -> None:
    """Commands with their options, clauses and errors are all there."""
    for name, command in cli.app.commands.items():
        assert f"Usage: mixpeek-batches {name} " in docs.command()
        assert all(option in docs.command() for parameter in command.params for option in parameter.opts)
    assert all(f"| `{name}` |" in docs.clauses() for name in CLAUSES)
    assert all(f"[`{name}`]" in docs.error_classes() for name in mixpeek_batches.__all__ if name.endswith("Error"))
    assert docs.codes().count("\n") > 2
    assert "POST" in docs.admin_api()


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A contract of our own to change."""
    spec = copy.deepcopy(SPEC)
    for module in ("contract_tests.spec", "scripts.docs"):
        monkeypatch.setattr(f"{module}.SPEC", spec)
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
    with pytest.raises(ScriptError, match=said) as caught:
        docs.filled(PAGES["reference/http.md"])
    assert str(caught.value).startswith("openapi.yaml: ")


def _parameter(spec: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(spec["paths"].values()))["post"]["parameters"][number]
    return found


def test_results_of_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page shows what the contract tests wrote, and says how to get it where they did not run."""
    monkeypatch.setattr(docs, "REPORTS", tmp_path)
    assert docs.contract_report() == "`make contract` has not run here."
    assert "`make mutants docs` runs them" in docs.mutants()
    clause = {"name": "cancel", "sentence": "It cancels.", "state": "held", "checks": 1200}
    report = {"counts": {"held": 1, "broken": 0}, "statuses": {"200": 3}, "requests": 1697, "target": "the mock"}
    (tmp_path / "report.json").write_text(json.dumps({**report, "seconds": 2.5, "clauses": [clause]}))
    found = [{"mutant": "201", "caught_by": "cancel", "after": 7}, {"mutant": "none", "caught_by": "", "after": 0}]
    (tmp_path / "mutants.json").write_text(json.dumps(found))
    text = docs.contract_report()
    assert "Of 1 clauses: **1 held**, **0 broken**. 1,697 requests to the mock in 2.5 s; answers: 200: 3." in text
    assert "<details markdown>" in text
    assert "| `cancel` | It cancels. | held | 1,200 |" in text
    text = docs.mutants()
    assert "2 mutants, **1 caught, 1 survived**." in text
    assert "<details markdown open>" in text
    assert "| 201 | `cancel` | 7 |" in text
