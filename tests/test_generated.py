"""The generated core: it follows from openapi.yaml, whatever is added there, and is tolerant."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mixpeek_batches_api
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mixpeek_batches_api.models import TaskResponse, TaskStatus, TaskType

ROOT = Path(__file__).parent.parent
PACKAGE = "mixpeek_batches_api"
TASK = {"task_id": "t", "task_type": "thumbnail", "status": "CANCELED"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
items = st.lists(json_values, max_size=3)
optional = {
    "inputs": st.none() | items,
    "outputs": st.none() | items,
    "additional_data": json_values,
    "error_message": json_values,
}
payloads = st.fixed_dictionaries(
    {"task_id": st.text(), "task_type": st.text(), "status": st.text()},
    optional={**optional, "cancellation": json_values, "additional_properties": json_values},
)


@given(payloads)
def test_payload_round_trips(payload: dict[str, Any]) -> None:
    """Unknown enum values, nulls, absent optionals and extra fields come out of to_dict as they went into from_dict."""
    assert TaskResponse.from_dict(payload).to_dict() == payload


@pytest.mark.parametrize("stray", [5, True, "text", {"a": 1}])
def test_stray_value_for_an_array_is_kept(stray: object) -> None:
    """What comes where an array is due is neither lost nor taken apart."""
    assert TaskResponse.from_dict({**TASK, "inputs": stray}).to_dict()["inputs"] == stray


@pytest.mark.parametrize("enum", [TaskStatus, TaskType])
@given(text=st.text())
def test_unknown_value_is_usable(enum: type[TaskStatus | TaskType], text: str) -> None:
    """A value that the contract lacks equals its text, is of the enum's class, and survives copy and pickle."""
    value = enum(text)
    assert value == text
    assert str(value) == value.value == text
    assert isinstance(value, enum)
    assert hash(value) == hash(text)
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert type(twin) is enum


def test_unknown_value_leaves_the_members_alone() -> None:
    """Reading a value that the contract lacks adds no member, and known values stay the one member."""
    members = list(TaskStatus)
    TaskStatus("QUEUED")
    assert list(TaskStatus) == members
    assert TaskStatus("CANCELED") is TaskStatus.CANCELED
    with pytest.raises(ValueError, match="5 is not a valid TaskStatus"):
        TaskStatus(5)  # type: ignore[arg-type] # pyright: ignore


def test_free_form_object_is_a_dict() -> None:
    """An object of any content is used like the dict that it is."""
    task = TaskResponse.from_dict({**TASK, "additional_data": {"job_id": "j"}, "inputs": ["a", {"b": 1}]})
    assert task.additional_data == {"job_id": "j"}
    assert task.inputs == ["a", {"b": 1}]


def test_stock_client_shows_no_key_and_ends() -> None:
    """The generated client, for those who use it bare, hides the key and has a time-out."""
    client = mixpeek_batches_api.AuthenticatedClient("http://127.0.0.1", "sk_secret", headers={"X": "sk_secret"})
    assert client.get_httpx_client().timeout.read == 30.0
    assert "sk_secret" not in repr(client)


# What follows generates packages.

ADDED_PATH = """
/v1/buckets/{bucket_identifier}/batches/{batch_id}/notes:
  post:
    operationId: add_notes
    tags: [batches]
    parameters:
      - {name: bucket_identifier, in: path, required: true, schema: {type: string}}
      - {name: batch_id, in: path, required: true, schema: {type: string}}
    requestBody:
      content:
        application/json: {schema: {$ref: "#/components/schemas/Notes"}}
    responses:
      "200":
        description: The notes.
        content:
          application/json: {schema: {$ref: "#/components/schemas/Notes"}}
"""
ADDED_SCHEMA = {
    "type": "object",
    "required": ["lines"],
    "properties": {
        "lines": {"type": "array", "items": {"type": "string"}},
        "marks": {"type": "array", "items": {"$ref": "#/components/schemas/TaskStatus"}},
    },
}


def _generate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Generate into a folder, from the contract that is in it."""
    command = [sys.executable, str(ROOT / "scripts" / "generate.py"), "--spec", str(folder / "openapi.yaml")]
    return subprocess.run([*command, "--output", str(folder), *options], check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a contract that has a value, a field and an operation more, and with its package."""
    folder = tmp_path_factory.mktemp("grown")
    spec = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    spec["paths"].update(yaml.safe_load(ADDED_PATH))
    schemas = spec["components"]["schemas"]
    schemas["Notes"] = ADDED_SCHEMA
    schemas["TaskStatus"]["enum"].append("PAUSED")
    schemas["TaskResponse"]["properties"]["notes"] = {"$ref": "#/components/schemas/Notes"}
    (folder / "openapi.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    done = _generate(folder)
    assert "files written" in done.stdout, done.stderr
    return folder


USE = """
from mixpeek_batches_api import models
from mixpeek_batches_api.api.batches import add_notes
assert list(models.TaskStatus)[-1] is models.TaskStatus.PAUSED
notes = {"lines": ["a"], "marks": ["PAUSED", "new"], "more": 1}
payload = {"task_id": "t", "task_type": "thumbnail", "status": "CANCELED", "notes": notes}
task = models.TaskResponse.from_dict(payload)
assert task.notes.marks == ["PAUSED", "new"]
assert task.to_dict() == payload
assert models.Notes.from_dict({"lines": None, "marks": None}).to_dict() == {"lines": None, "marks": None}
request = add_notes._get_kwargs("b/1", "x", body=models.Notes(lines=["l"]))
assert request["url"] == "/v1/buckets/b%2F1/batches/x/notes"
assert request["json"] == {"lines": ["l"]}
"""


@pytest.mark.parametrize("command", [["-c", USE], ["-m", "mypy", "--strict", "--config-file=", PACKAGE]])
def test_what_is_added_works_and_type_checks(grown: Path, command: list[str]) -> None:
    """What is added to the contract is there after `make generate`, as tolerant and as typed as the rest."""
    done = subprocess.run([sys.executable, *command], check=False, cwd=grown, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_names_the_files_that_differ(grown: Path, tmp_path: Path) -> None:
    """`generate.py --check` fails on an edited, a missing and a stray file, and names each and no other."""
    shutil.copytree(grown, tmp_path, dirs_exist_ok=True)
    (tmp_path / PACKAGE / "errors.py").write_text("")
    (tmp_path / PACKAGE / "types.py").unlink()
    (tmp_path / PACKAGE / "stray.py").write_text("")
    done = _generate(tmp_path, "--check")
    assert done.returncode == 1
    assert "Run `make generate`:\n" in done.stderr
    named = [line.partition("/")[2] for line in done.stderr.splitlines()[1:]]
    assert named == ["errors.py: differs", "stray.py: not generated", "types.py: missing"]


def test_generator_warning_is_a_failure(tmp_path: Path) -> None:
    """What the generator only warns of stops the generation, and nothing is written."""
    spec = (ROOT / "openapi.yaml").read_text().replace('$ref: "#/components/schemas/TaskInput"', "type: nonsense")
    (tmp_path / "openapi.yaml").write_text(spec)
    done = _generate(tmp_path)
    assert done.returncode == 1
    assert "openapi.yaml" in done.stderr
    assert not (tmp_path / PACKAGE).exists()


def test_no_class_has_a_made_up_name() -> None:
    """No generated class is named after a place in the contract."""
    names = [path.stem for path in (ROOT / "generated" / PACKAGE / "models").iterdir()]
    assert not [name for name in names if "type_" in name or name.endswith("_item")]
