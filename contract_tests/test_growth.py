"""A contract that grows or shrinks is told by name, with the file to open: each in a scratch copy of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import decisions
from .clauses import documented_status
from .conftest import ROOT

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what `make contract` needs."""
    for name in ("contract_tests", "src", "generated"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("openapi.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def contract(copy: Path, *changes: Change) -> str:
    """Change the contract of a copy, and give what `make contract` says of it, on one line."""
    path = copy / "openapi.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for change in changes:
        change(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(copy / "src"), str(copy / "generated")])}
    command = [sys.executable, "-m", "pytest", "contract_tests/test_contract.py", "-q", "--contract-target", "mock"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=copy, env=environment, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def _operation(document: dict[str, Any]) -> dict[str, Any]:
    (item,) = document["paths"].values()
    operation: dict[str, Any] = item["post"]
    return operation


def _more_status(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["TaskStatus"]["enum"].append("QUEUED")


def _more_property(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["TaskResponse"]["properties"]["cancellation"] = {"type": "object"}


def _more_code(document: dict[str, Any]) -> None:
    _operation(document)["responses"]["409"] = {"$ref": "#/components/responses/BadRequest"}


def _more_header(document: dict[str, Any]) -> None:
    response = document["components"]["responses"]["Canceled"]
    response["headers"] = {"X-Shard": {"description": "Where.", "schema": {"type": "string"}}}


def _more_operation(document: dict[str, Any]) -> None:
    document["paths"]["/v1/batches/{batch_id}"] = {
        "get": {
            "operationId": "get_batch",
            "parameters": [{"name": "batch_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": {"200": {"$ref": "#/components/responses/Canceled"}},
        }
    }


def test_all_that_is_new_is_told(copy: Path) -> None:
    """A new status, property, status code, header and operation: each fails `make contract` with its own sentence."""
    said = contract(copy, _more_status, _more_property, _more_code, _more_header, _more_operation)
    for sentence in (
        "QUEUED of openapi.yaml must be in CANCELABLE or in FINISHED, in contract_tests/decisions.py.",
        "The property TaskResponse.cancellation of openapi.yaml was in no answer",
        "The status code 409 of openapi.yaml was in no answer",
        "The header 200 X-Shard of openapi.yaml was in no answer",
        "or exempt it under NEVER_SEEN in contract_tests/decisions.py.",
        "GET /v1/batches/{batch_id} (get_batch) has no clause: write some in contract_tests/clauses.py",
    ):
        assert sentence in said


def test_status_that_the_mock_lacks_is_told(copy: Path) -> None:
    """A new status that is decided, and that the mock does not know yet."""
    path = copy / "contract_tests" / "decisions.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("CANCELABLE = (", 'CANCELABLE = ("QUEUED", '), encoding="utf-8")
    said = contract(copy, _more_status)
    assert "expected a mock that knows QUEUED (make generate; src/mixpeek_batches/mock/)" in said
    assert "must be in CANCELABLE" not in said


def _less(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    schemas["TaskStatus"]["enum"].remove(decisions.FINISHED[-1])
    del schemas["TaskResponse"]["properties"]["outputs"]
    del _operation(document)["responses"]["403"], _operation(document)["responses"]["422"]
    del document["components"]["responses"]["TooManyRequests"]["headers"]


def test_all_that_is_gone_is_told(copy: Path) -> None:
    """A status, a property and status codes that are gone: each with its own sentence, and nothing crashes."""
    said = contract(copy, _less)
    for sentence in (
        f"{decisions.FINISHED[-1]} is no TaskStatus of openapi.yaml any more: take it out of contract_tests/",
        "The mock answers the property TaskResponse.outputs, which openapi.yaml does not have",
        "422 is not in openapi.yaml any more: take it out of contract_tests/decisions.py.",
        f"broken: {documented_status.name}",
    ):
        assert sentence in said
