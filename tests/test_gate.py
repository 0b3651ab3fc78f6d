"""scripts/gate.py: which version step a change needs, and that less is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from scripts.compare import CompareError
from scripts.gate import Api, Change, Step, changes_of_api, changes_of_spec, gate, public_api
from scripts.process import ScriptError, git

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
        (lambda schemas, post: post.update(description="Other words."), Step.PATCH, "wording"),
        (lambda schemas, post: schemas["TaskStatus"].update(examples=["DRAFT"]), Step.PATCH, "wording"),
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


def _package(folder: Path, source: str = SOURCE, inside: str = INSIDE) -> Api:
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
        (
            'a: int, b: str = "x"',
            'z: int = 1, a: int = 1, b: str = "x"',
            Step.MAJOR,
            "call(a): positional or keyword 1: int = 1 in place of",
        ),
        ('b: str = "x"', 'b: str = "y"', Step.MAJOR, "call(b)"),
        ('b: str = "x", ', "", Step.MAJOR, "call(b) is gone"),
        ("-> int: ...\ndef _p", "-> str: ...\ndef _p", Step.MAJOR, "call: function: str in place of function: int"),
        ("async def wait", "def wait", Step.MAJOR, "Child.wait: function: str in place of async function: str"),
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
    api = public_api(ROOT)
    assert api["mixpeek_batches.Client.cancel_batch"].type == "TaskResponse"
    assert api["mixpeek_batches.AsyncClient.cancel_batch"].kind == "async function"
    assert api["mixpeek_batches.TaskStatus.CANCELED"].value == "'CANCELED'"
    assert "APIStatusError" in (api["mixpeek_batches.NotFoundError"].type or "").split(", ")
    assert {f"mixpeek_batches.mock.MockServer.{name}" for name in ("url", "add_batch", "fail_next")} <= api.keys()
    assert "mixpeek_batches.pytest_plugin.mixpeek_mock" in api
    assert not [path for path in api if "._" in path.replace(".__", "")]


CHANGELOG = "# Changelog\n\n## {} (2026-01-02)\n\n- All.\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the gate reads of a checkout, released at 0.1.0."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.com")
    _package(tmp_path)
    _write(tmp_path, "0.1.0")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.format("0.1.0"))
    git(tmp_path, "init", "--quiet")
    _commit(tmp_path)
    git(tmp_path, "tag", "v0.1.0")
    return tmp_path


def _commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "A change")


def _write(
    root: Path, version: str, *, more: tuple[str, ...] = (), fewer: tuple[str, ...] = (), words: str = ""
) -> None:
    document = copy.deepcopy(OURS)
    document["info"] |= {"version": version, "description": words or "Words."}
    schema = document["components"]["schemas"]["TaskStatus"]
    schema["enum"] = [value for value in schema["enum"] if value not in fewer] + list(more)
    (root / "openapi.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("version", "change", "said"),
    [
        ("0.1.0", {"words": "Words."}, "0 changes since 0.1.0 need no step; 0.1.0 takes no step."),
        ("0.1.1", {"words": "Others."}, "1 changes since 0.1.0 need a patch step; 0.1.1 takes a patch step."),
        ("0.2.0", {"fewer": ("DRAFT",)}, "1 changes since 0.1.0 need a minor step; 0.2.0 takes a minor step."),
    ],
)
def test_a_step_that_is_large_enough(checkout: Path, version: str, change: dict[str, Any], said: str) -> None:
    _commit(checkout)
    _write(checkout, version, **change)
    assert gate(checkout) == said


SMALL = "info.version is 0.1.1, a patch step after 0.1.0, but a minor step is needed:\n  openapi.yaml: POST "


@pytest.mark.parametrize(
    ("version", "change", "said"),
    [
        (
            "0.1.0",
            {"words": "Others."},
            "no step after 0.1.0, but a patch step is needed:\n  openapi.yaml: its wording",
        ),
        ("0.1.1", {"more": ("PAUSED",)}, f"{SMALL}{ENDPOINT} 200 status: value added: PAUSED (an addition)"),
        ("0.1.1", {"fewer": ("DRAFT",)}, f"{SMALL}{ENDPOINT} 200 status: value removed: DRAFT (breaks users)"),
        ("0.0.9", {}, "info.version is 0.0.9, which is before the last release, 0.1.0."),
    ],
)
def test_a_step_that_is_too_small(checkout: Path, version: str, change: dict[str, Any], said: str) -> None:
    _write(checkout, version, **change)
    with pytest.raises(ScriptError) as caught:
        gate(checkout)
    assert said in str(caught.value)


def test_gate_sees_the_package(checkout: Path) -> None:
    path = checkout / "src" / "mixpeek_batches" / "__init__.py"
    path.write_text(path.read_text().replace('"call", ', ""))
    with pytest.raises(ScriptError, match=r"mixpeek_batches\.call is gone \(breaks users\)"):
        gate(checkout)


def test_the_commit_of_a_release_is_compared_with_the_release_before(checkout: Path) -> None:
    _write(checkout, "0.2.0", more=("PAUSED",))
    (checkout / "CHANGELOG.md").write_text(CHANGELOG.format("0.2.0") + CHANGELOG.format("0.1.0"))
    _commit(checkout)
    git(checkout, "tag", "v0.2.0")
    assert gate(checkout) == "1 changes since 0.1.0 need a minor step; 0.2.0 takes a minor step."
    _write(checkout, "0.2.0")  # from here on with that one
    with pytest.raises(ScriptError, match=r"no step after 0\.2\.0"):
        gate(checkout)


def test_tags_that_were_not_fetched(checkout: Path) -> None:
    """A clone without tags is not taken for a project that has released nothing."""
    git(checkout, "tag", "--delete", "v0.1.0")
    assert gate(checkout) == "Nothing is released yet, so any version will do."
    _write(checkout, "0.1.1")
    with pytest.raises(ScriptError, match=r"there is no tag v0\.1\.0: fetch the tags"):
        gate(checkout)


def test_without_git(checkout: Path) -> None:
    (checkout / ".git").rename(checkout / "elsewhere")
    assert gate(checkout) == "There is no git history here, so the version's step is not checked."


def test_a_contract_that_is_none(checkout: Path) -> None:
    _commit(checkout)
    (checkout / "openapi.yaml").write_text("[]")
    with pytest.raises(CompareError):
        gate(checkout)


def test_from_1_0_on_breaking_is_major() -> None:
    change = Change("x", Step.MAJOR)
    assert (change.step(Version("0.9.0")), change.step(Version("1.0.0"))) == (Step.MINOR, Step.MAJOR)
