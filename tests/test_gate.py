"""scripts/gate.py: which version step a change needs, and that less is refused."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from scripts.compare import CompareError
from scripts.gate import (
    RELEASED_API,
    RELEASED_SPEC,
    Change,
    Step,
    changes_of_api,
    changes_of_spec,
    gate,
    listed,
    public_api,
)

ROOT = Path(__file__).parent.parent
OURS: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
ENDPOINT = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"
Edit = Callable[[dict[str, Any], dict[str, Any]], Any]


def _status(values: list[str]) -> Edit:
    return lambda schemas, _: schemas["TaskStatus"].update(enum=values)


STATUSES: list[str] = OURS["components"]["schemas"]["TaskStatus"]["enum"]
FORCE = {"name": "force", "in": "query", "schema": {"type": "boolean"}}


@pytest.mark.parametrize(
    ("edit", "step", "named"),
    [
        (lambda schemas, post: None, Step.NONE, ""),
        (lambda schemas, post: post.update(description="Other words."), Step.PATCH, "words"),
        (lambda schemas, post: schemas["TaskStatus"].update(examples=["DRAFT"]), Step.PATCH, "words"),
        (_status([*STATUSES, "PAUSED"]), Step.MINOR, "200 status: value added: PAUSED"),
        (_status(STATUSES[:-1]), Step.MAJOR, "200 status: value removed: DRAFT"),
        (lambda s, _: s["TaskResponse"]["properties"].update(job={"type": "string"}), Step.MINOR, "200 job"),
        (lambda s, _: s["TaskResponse"]["properties"].pop("outputs"), Step.MAJOR, "200 outputs"),
        (lambda s, _: s["TaskResponse"]["properties"]["task_id"].update(type="integer"), Step.MAJOR, "200 task_id"),
        (lambda s, _: s["TaskResponse"]["properties"]["task_id"].update(maxLength=9), Step.MAJOR, "200 task_id"),
        (
            lambda s, _: s["TaskResponse"]["properties"]["inputs"].update(type=["array", "null"]),
            Step.MAJOR,
            "200 inputs",
        ),
        (lambda s, _: s["TaskResponse"]["required"].remove("status"), Step.MAJOR, "200 status"),
        (lambda _, post: post["parameters"].append(FORCE), Step.MINOR, "query force"),
        (lambda _, post: post["parameters"].append(FORCE | {"required": True}), Step.MAJOR, "query force"),
        (lambda _, post: post["parameters"].pop(), Step.MAJOR, "header X-Namespace"),
        (lambda _, post: post["parameters"][1]["schema"].update(pattern="^b"), Step.MAJOR, "path batch_id"),
        (lambda _, post: post["responses"].pop("429"), Step.MAJOR, "status code removed: 429"),
        (lambda _, post: post["responses"].update({"409": {"description": ""}}), Step.MINOR, "status code added: 409"),
    ],
)
def test_step_of_a_change_to_the_contract(edit: Edit, step: Step, named: str) -> None:
    current = copy.deepcopy(OURS)
    edit(current["components"]["schemas"], current["paths"][ENDPOINT]["post"])
    found = changes_of_spec(OURS, current)
    assert max((change.weight for change in found), default=Step.NONE) is step
    assert named in " ".join(change.what for change in found)


def test_endpoints_come_and_go() -> None:
    current = copy.deepcopy(OURS)
    current["paths"]["/v1/other"] = {"get": {"responses": {}}}
    assert [change.weight for change in changes_of_spec(OURS, current)] == [Step.MINOR]
    assert [change.weight for change in changes_of_spec(current, OURS)] == [Step.MAJOR]
    current["info"]["version"] = "9"
    current["paths"].pop("/v1/other")
    assert changes_of_spec(OURS, current) == []


SOURCE = '''
"""A package."""
from enum import Enum
from ._inside import Base, Kind, helper
__all__ = ["Base", "Child", "Kind", "call", "helper"]
class Child(Base):
    """A class."""
    size: int = 3
    def __init__(self, name: str, *, loud: bool = False) -> None: ...
    async def wait(self, seconds: float = 1) -> str: ...
    def _own(self) -> None: ...
    @property
    def name(self) -> str: ...
def call(a: int, b: str = "x", *, c: float | None = None) -> int: ...
def _private() -> None: ...
'''
INSIDE = """
from enum import Enum
class _Hidden:
    def inherited(self) -> int: ...
class Base(_Hidden): ...
class Kind(Enum):
    A = "a"
    B = "b"
def helper(x): ...
"""


def _package(folder: Path, source: str = SOURCE, inside: str = INSIDE) -> dict[str, Any]:
    for name, files in {
        "src/mixpeek_batches": {"__init__": source, "_inside": inside, "pytest_plugin": ""},
        "src/mixpeek_batches/mock": {"__init__": ""},
        "generated/mixpeek_batches_api": {"__init__": ""},
    }.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / name / f"{file}.py").write_text(text)
    return public_api(folder)


@pytest.mark.parametrize(
    ("old", "new", "step", "named"),
    [
        ('"call", ', "", Step.MAJOR, "mixpeek_batches.call is gone"),
        ('"call", ', '"call", "Enum", ', Step.NONE, ""),  # not ours
        (
            "    def _own",
            "    def more(self) -> None: ...\n    def _own",
            Step.MINOR,
            "mixpeek_batches.Child.more is new",
        ),
        ("def _private()", "def _private(a)", Step.NONE, ""),
        ('"""A class."""', '"""A class, and more."""', Step.NONE, ""),
        ("*, c: float | None = None", "*, c: float | None = None, d: int = 1", Step.MINOR, "call(d) is new"),
        ("*, c: float | None = None", "*, c: float | None = None, d: int", Step.MAJOR, "call(d) is new"),
        ("*, c: float | None = None", "*, c: float | int | None = None", Step.MINOR, "call(c)"),
        ("*, c: float | None = None", "*, c: float = 0", Step.MAJOR, "call(c)"),
        ("*, c: float | None = None", "**c: float", Step.MAJOR, "call(c)"),
        ("a: int, b", "a: int = 0, b", Step.MINOR, "call(a)"),
        ('a: int, b: str = "x"', 'z: int = 1, a: int = 1, b: str = "x"', Step.MAJOR, "another order"),
        ('b: str = "x"', 'b: str = "y"', Step.MAJOR, "call(b)"),
        ('b: str = "x", ', "", Step.MAJOR, "call(b) is gone"),
        ("-> int: ...\ndef _p", "-> str: ...\ndef _p", Step.MAJOR, "returns is 'str' in place of 'int'"),
        ("async def wait", "def wait", Step.MAJOR, "Child.wait: async"),
        ("class Child(Base)", "class Child", Step.MAJOR, "Child"),
        ("size: int", "size: str", Step.MAJOR, "Child.size"),
    ],
)
def test_step_of_a_change_to_the_package(tmp_path: Path, old: str, new: str, step: Step, named: str) -> None:
    before = _package(tmp_path / "before")
    assert SOURCE.replace(old, new, 1) != SOURCE
    found = changes_of_api(before, _package(tmp_path / "after", SOURCE.replace(old, new, 1)))
    assert max((change.weight for change in found), default=Step.NONE) is step, found
    assert named in " ".join(change.what for change in found)


@pytest.mark.parametrize(
    ("old", "new", "step"),
    [
        ('    B = "b"\n', '    B = "b"\n    C = "c"\n', Step.MINOR),
        ('    B = "b"\n', "", Step.MAJOR),
        ('    B = "b"\n', '    B = "z"\n', Step.MAJOR),
        ("def helper(x)", "def helper(x: int) -> None", Step.MINOR),
        ("_Hidden", "_Renamed", Step.NONE),
        ("-> int: ...", "-> str: ...", Step.MAJOR),
    ],
)
def test_step_of_a_change_to_what_is_passed_on(tmp_path: Path, old: str, new: str, step: Step) -> None:
    """What a public name stands for counts, wherever it is defined; where that is does not."""
    before = _package(tmp_path / "before")
    found = changes_of_api(before, _package(tmp_path / "after", inside=INSIDE.replace(old, new)))
    assert max((change.weight for change in found), default=Step.NONE) is step, found


def test_the_listing_has_what_users_hold_on_to() -> None:
    listing = public_api(ROOT)
    assert listing["mixpeek_batches.Client.cancel_batch"]["returns"] == "TaskResponse"
    assert listing["mixpeek_batches.AsyncClient.cancel_batch"]["async"]
    assert listing["mixpeek_batches.TaskStatus.CANCELED"]["value"] == "'CANCELED'"
    assert listing["mixpeek_batches.NotFoundError"]["bases"] >= ["APIStatusError"]
    assert {f"mixpeek_batches.mock.MockServer.{name}" for name in ("url", "add_batch", "fail_next")} <= listing.keys()
    assert "mixpeek_batches.pytest_plugin.mixpeek_mock" in listing
    assert not [path for path in listing if "._" in path.replace(".__", "")]
    assert str(ROOT) not in listed(listing)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the gate reads of a checkout, released at 0.1.0."""
    for name in ("src", "generated"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    _write(tmp_path, "0.1.0")
    (tmp_path / "releases").mkdir()
    shutil.copy(tmp_path / "openapi.yaml", tmp_path / RELEASED_SPEC)
    (tmp_path / RELEASED_API).write_text(listed(public_api(tmp_path)))
    return tmp_path


def _write(
    root: Path, version: str, *, more: tuple[str, ...] = (), fewer: tuple[str, ...] = (), words: str = ""
) -> None:
    document = copy.deepcopy(OURS)
    document["info"] |= {"version": version, "description": words or "Words."}
    schema = document["components"]["schemas"]["TaskStatus"]
    schema["enum"] = [value for value in schema["enum"] if value not in fewer] + list(more)
    (root / "openapi.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("version", "change", "passes"),
    [
        ("0.1.0", {}, True),
        ("0.1.1", {}, True),
        ("0.1.0", {"words": "Others."}, False),
        ("0.1.1", {"words": "Others."}, True),
        ("0.1.1", {"more": ("PAUSED",)}, False),
        ("0.2.0", {"more": ("PAUSED",)}, True),
        ("0.1.1", {"fewer": ("DRAFT",)}, False),
        ("0.2.0", {"fewer": ("DRAFT",)}, True),
        ("0.0.9", {}, False),
    ],
)
def test_gate(checkout: Path, version: str, change: dict[str, Any], passes: bool) -> None:
    _write(checkout, version, **change)
    passed, text = gate(checkout)
    assert passed is passes, text
    if version == "0.1.1" and not passed:
        kind = "an addition" if "more" in change else "breaks users"
        assert "info.version is 0.1.1, a patch step after 0.1.0, but a minor step is needed:" in text
        assert f"({kind})" in text
        assert "PAUSED" in text or "DRAFT" in text


def test_gate_sees_the_package(checkout: Path) -> None:
    path = checkout / "src" / "mixpeek_batches" / "__init__.py"
    path.write_text(path.read_text().replace('    "UNSET",\n', ""))
    passed, text = gate(checkout)
    assert not passed
    assert "mixpeek_batches.UNSET is gone (breaks users)" in text


def test_nothing_is_released_yet(checkout: Path) -> None:
    shutil.rmtree(checkout / "releases")
    assert gate(checkout) == (True, "Nothing is released yet, so any version will do.")


def test_a_record_that_is_none(checkout: Path) -> None:
    (checkout / RELEASED_SPEC).write_text("[]")
    with pytest.raises(CompareError):
        gate(checkout)


def test_from_1_0_on_breaking_is_major() -> None:
    change = Change("x", Step.MAJOR)
    assert (change.step(Version("0.9.0")), change.step(Version("1.0.0"))) == (Step.MINOR, Step.MAJOR)
