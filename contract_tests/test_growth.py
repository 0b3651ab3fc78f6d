"""A contract that grows or shrinks is reported by name, with the file to open, in a scratch copy of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from . import decisions
from .clauses import documented_status
from .conftest import ROOT


def grow(document: dict[str, Any]) -> None:
    """Add statuses, a property, a status code, a header and an operation."""
    components = document["components"]
    components["schemas"]["TaskStatus"]["enum"] += ["QUEUED", "PAUSED"]
    components["schemas"]["TaskResponse"]["properties"]["cancellation"] = {"type": "object"}
    header = {"description": "Where.", "schema": {"type": "string"}}
    components["responses"]["Canceled"]["headers"] = {"X-Shard": header}
    (item,) = document["paths"].values()
    item["post"]["responses"]["409"] = {"$ref": "#/components/responses/BadRequest"}
    document["paths"]["/v1/batches/{batch_id}"] = {
        "get": {
            "operationId": "get_batch",
            "parameters": [{"name": "batch_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": {"200": {"$ref": "#/components/responses/Canceled"}},
        }
    }


def shrink(document: dict[str, Any]) -> None:
    """Remove a status, a property, status codes and a header."""
    components = document["components"]
    components["schemas"]["TaskStatus"]["enum"].remove(decisions.FINISHED[-1])
    del components["schemas"]["TaskResponse"]["properties"]["outputs"]
    del components["responses"]["TooManyRequests"]["headers"]
    responses = next(iter(document["paths"].values()))["post"]["responses"]
    del responses["403"], responses["422"]


SENTENCES = (
    "QUEUED of openapi.yaml must be in CANCELABLE or in FINISHED, in contract_tests/decisions.py.",
    "expected a mock that knows PAUSED (make generate; src/mixpeek_batches/mock/)",
    "The property TaskResponse.cancellation of openapi.yaml was in no response",
    "The status code 409 of openapi.yaml was in no response",
    "The header 200 X-Shard of openapi.yaml was in no response",
    "or exempt it under NEVER_SEEN in contract_tests/decisions.py.",
    "GET /v1/batches/{batch_id} (get_batch) has no clause: write some in contract_tests/clauses.py",
    f"{decisions.FINISHED[-1]} is no TaskStatus of openapi.yaml any more: take it out of contract_tests/",
    "The mock sends the property TaskResponse.outputs, which openapi.yaml does not have",
    "422 is not in openapi.yaml any more: take it out of contract_tests/decisions.py.",
    f"broken: {documented_status.name}",
)


def test_changes_are_reported(tmp_path: Path) -> None:
    """Whatever is new or gone fails `make contract` with its own sentence, and nothing crashes."""
    for name in ("contract_tests", "src", "generated"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    document = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    grow(document)
    shrink(document)
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    path = tmp_path / "contract_tests" / "decisions.py"
    path.write_text(path.read_text(encoding="utf-8").replace("CANCELABLE = (", 'CANCELABLE = ("PAUSED", '))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "src"), str(tmp_path / "generated")])
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # twice as fast
    command = [sys.executable, "-m", "pytest", "contract_tests/test_contract.py", "-q", "--contract-target", "mock"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.returncode == 1, done.stdout + done.stderr
    reported = " ".join(done.stdout.split())
    assert [sentence for sentence in SENTENCES if sentence not in reported] == []
    assert "PAUSED of openapi.yaml must be in CANCELABLE" not in reported, "it is decided, and the mock's to learn"
