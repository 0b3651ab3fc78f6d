"""scripts/gate.py: which version a change needs at least, and that less is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from scripts.compare import CompareError
from scripts.gate import Api, Change, Weight, changes_of_api, changes_of_spec, gate, public_api
from scripts.process import ROOT, ScriptError, git

OURS: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
ENDPOINT = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"
Edit = Callable[[dict[str, Any], dict[str, Any]], Any]
BREAKING, ADDITION, WORDING = Weight.BREAKING, Weight.ADDITION, Weight.WORDING


def _heaviest(found: list[Change]) -> Weight | None:
    return max((change.weight for change in found), default=None)


def _status(values: list[str]) -> Edit:
    return lambda schemas, _: schemas["TaskStatus"].update(enum=values)


def _task(name: str, **changes: Any) -> Edit:
    return lambda schemas, _: schemas["TaskResponse"]["properties"].setdefault(name, {}).update(changes)


STATUSES: list[str] = OURS["components"]["schemas"]["TaskStatus"]["enum"]
FORCE = {"name": "force", "in": "query", "schema": {"type": "boolean"}}


@pytest.mark.parametrize(
    ("edit", "weight", "named"),
    [
        (lambda schemas, post: None, None, ""),
        (lambda schemas, post: post.update(description="Other words."), WORDING, "wording"),
        (lambda schemas, post: schemas["TaskStatus"].update(examples=["DRAFT"]), WORDING, "wording"),
        (_status([*STATUSES, "PAUSED"]), ADDITION, "200 status: value added: PAUSED"),
        (_status(STATUSES[:-1]), BREAKING, "200 status: value removed: DRAFT"),
        (_task("job", type="string"), ADDITION, "200 job"),
        (_task("inputs", type=["array", "null"]), BREAKING, "200 inputs"),
        (_task("task_id", maxLength=9), BREAKING, "200 task_id"),
        (lambda schemas, _: schemas["TaskResponse"]["required"].remove("status"), BREAKING, "200 status"),
        (lambda _, post: post["parameters"].append(FORCE), ADDITION, "query force"),
        (lambda _, post: post["parameters"].append(FORCE | {"required": True}), BREAKING, "query force"),
        (lambda _, post: post["parameters"].pop(), BREAKING, "header X-Namespace"),
        (lambda _, post: post["parameters"][1]["schema"].update(pattern="^b"), BREAKING, "path batch_id"),
        (lambda _, post: post["responses"].pop("429"), BREAKING, "status code removed: 429"),
        (lambda _, post: post["responses"].update({"409": {"description": ""}}), ADDITION, "status code added: 409"),
    ],
)
def test_weight_of_a_change_to_the_contract(edit: Edit, weight: Weight | None, named: str) -> None:
    current = copy.deepcopy(OURS)
    edit(current["components"]["schemas"], current["paths"][ENDPOINT]["post"])
    found = changes_of_spec(OURS, current)
    assert _heaviest(found) is weight
    assert named in " ".join(change.what for change in found)


def test_endpoints_come_and_go() -> None:
    current = copy.deepcopy(OURS)
    current["paths"]["/v1/other"] = {"get": {"responses": {}}}
    assert _heaviest(changes_of_spec(OURS, current)) is ADDITION
    assert _heaviest(changes_of_spec(current, OURS)) is BREAKING
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


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return _package(tmp_path_factory.mktemp("released"))


C = "*, c: float | None = None"


@pytest.mark.parametrize(
    ("old", "new", "weight", "named"),
    [
        ('"call", ', "", BREAKING, "mixpeek_batches.call is gone"),
        ('"call", ', '"call", "Enum", ', None, ""),  # not ours
        ("    def _own", "    def more(self): ...\n    def _own", ADDITION, "mixpeek_batches.Child.more is new"),
        ("def _private()", "def _private(a)", None, ""),
        ('"""A class."""', '"""A class, and more."""', None, ""),
        (C, f"{C}, d: int = 1", ADDITION, "call(d) is new"),
        (C, f"{C}, d: int", BREAKING, "call(d) is new"),
        (C, "*, c: float | int | None = None", ADDITION, "call(c)"),
        (C, "*, c: float = 0", BREAKING, "call(c)"),
        (C, "**c: float", BREAKING, "call(c)"),
        ("a: int, b", "a: int = 0, b", ADDITION, "call(a)"),
        ("a: int, b", "z: int = 1, a: int = 1, b", BREAKING, "call(a): positional or keyword 1: int = 1 in place of"),
        ('b: str = "x"', 'b: str = "y"', BREAKING, "call(b)"),
        ('b: str = "x", ', "", BREAKING, "call(b) is gone"),
        ("-> int: ...\ndef _p", "-> str: ...\ndef _p", BREAKING, "call: function: str in place of function: int"),
        ("async def wait", "def wait", BREAKING, "Child.wait: function: str in place of async function: str"),
        ("class Child(Base)", "class Child", BREAKING, "Child"),
        ("size: int", "size: str", BREAKING, "Child.size"),
    ],
)
def test_weight_of_a_change_to_the_package(
    tmp_path: Path, released: Api, old: str, new: str, weight: Weight | None, named: str
) -> None:
    assert old in SOURCE
    found = changes_of_api(released, _package(tmp_path, SOURCE.replace(old, new, 1)))
    assert _heaviest(found) is weight, found
    assert named in " ".join(change.what for change in found)


@pytest.mark.parametrize(
    ("old", "new", "weight"),
    [
        ('    B = "b"\n', '    B = "b"\n    C = "c"\n', ADDITION),
        ('    B = "b"\n', '    B = "z"\n', BREAKING),
        ("def helper(x)", "def helper(x: int) -> None", ADDITION),
        ("_Hidden", "_Renamed", None),
        ("-> int: ...", "-> str: ...", BREAKING),
    ],
)
def test_weight_of_a_change_to_what_is_imported(
    tmp_path: Path, released: Api, old: str, new: str, weight: Weight | None
) -> None:
    """What a public name stands for counts, wherever it is defined; where that is does not."""
    assert old in INSIDE
    found = changes_of_api(released, _package(tmp_path, inside=INSIDE.replace(old, new)))
    assert _heaviest(found) is weight, found


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


def _write(root: Path, version: str, *more: str, fewer: tuple[str, ...] = ()) -> None:
    document = copy.deepcopy(OURS)
    document["info"]["version"] = version
    document["components"]["schemas"]["TaskStatus"]["enum"] = [one for one in STATUSES if one not in fewer] + [*more]
    (root / "openapi.yaml").write_text(yaml.safe_dump(document))


def test_a_version_that_is_large_enough_or_not(checkout: Path) -> None:
    """The same changes pass and are refused, by the version alone; the newest tag is what counts."""
    _commit(checkout)
    assert gate(checkout) == "info.version is 0.1.0, and the 0 changes since 0.1.0 need 0.1.0 at least."
    source = checkout / "src" / "mixpeek_batches" / "__init__.py"
    source.write_text(source.read_text().replace('"call", ', ""))
    _write(checkout, "0.1.1", "PAUSED", fewer=("DRAFT",))
    with pytest.raises(ScriptError) as caught:
        gate(checkout)
    first, *lines = str(caught.value).splitlines()
    assert first == "info.version is 0.1.1, but what changed since 0.1.0 needs 0.2.0 at least:"
    assert lines[:2] == [
        f"  openapi.yaml: POST {ENDPOINT} 200 status: value added: PAUSED (addition)",
        f"  openapi.yaml: POST {ENDPOINT} 200 status: value removed: DRAFT (breaking)",
    ]
    assert "  mixpeek_batches.call is gone (breaking)" in lines
    _write(checkout, "0.2.0", "PAUSED", fewer=("DRAFT",))
    assert gate(checkout).startswith("info.version is 0.2.0, and the ")
    _write(checkout, "0.0.9")
    with pytest.raises(ScriptError, match=r"0\.0\.9, which is before the last release, 0\.1\.0"):
        gate(checkout)
    (checkout / "openapi.yaml").write_text("[]")
    with pytest.raises(CompareError):
        gate(checkout)


def test_the_commit_of_a_release_is_compared_with_the_release_before(checkout: Path) -> None:
    _write(checkout, "0.2.0", "PAUSED")
    (checkout / "CHANGELOG.md").write_text(CHANGELOG.format("0.2.0") + CHANGELOG.format("0.1.0"))
    _commit(checkout)
    git(checkout, "tag", "v0.2.0")
    assert gate(checkout) == "info.version is 0.2.0, and the 1 changes since 0.1.0 need 0.2.0 at least."
    _write(checkout, "0.2.0")  # from here on with that one
    with pytest.raises(ScriptError, match=r"what changed since 0\.2\.0 needs 0\.3\.0 at least"):
        gate(checkout)


def test_tags_that_were_not_fetched_and_no_history(checkout: Path) -> None:
    """A clone without tags is not taken for a project that has released nothing."""
    git(checkout, "tag", "--delete", "v0.1.0")
    assert gate(checkout) == "Nothing is released yet, so any version will do."
    _write(checkout, "0.1.1")
    with pytest.raises(ScriptError, match=r"there is no tag v0\.1\.0: fetch the tags"):
        gate(checkout)
    (checkout / ".git").rename(checkout / "elsewhere")
    assert gate(checkout) == "There is no git history here, so the version's step is not checked."


@pytest.mark.parametrize(
    ("weight", "from_0_9_3", "from_1_2_3"),
    [(WORDING, "0.9.4", "1.2.4"), (ADDITION, "0.10.0", "1.3.0"), (BREAKING, "0.10.0", "2.0.0")],
)
def test_from_1_0_on_breaking_is_major(weight: Weight, from_0_9_3: str, from_1_2_3: str) -> None:
    needed = [str(Change("x", weight).needs(Version(last))) for last in ("0.9.3", "1.2.3")]
    assert needed == [from_0_9_3, from_1_2_3]
