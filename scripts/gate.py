"""Refuse a change since the last release that needs a larger version step than openapi.yaml takes.

Usage: python -m scripts.gate [--root FOLDER]

What was released is recorded under releases/: the contract and a listing of the public Python API, both written by
`make release`. Removing or narrowing something breaks users and needs a major step, or a minor one while the version
is 0.x; adding something needs a minor step, also in 0.x; other words need a patch.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import griffe
from packaging.version import InvalidVersion, Version

from scripts.compare import CompareError, Difference, Document, compare, parse, version

ROOT = Path(__file__).resolve().parent.parent
SPEC = "openapi.yaml"
RELEASED_SPEC = "releases/openapi.yaml"
RELEASED_API = "releases/api.json"

# Where users find names; every other module is ours to change.
PUBLIC = ("mixpeek_batches", "mixpeek_batches.mock", "mixpeek_batches.pytest_plugin")
Api = dict[str, dict[str, Any]]


class Step(IntEnum):
    """How far one version is from the one before."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3

    def __str__(self) -> str:
        return self.name.lower()


_WEIGHTS = {Step.MAJOR: "breaks users", Step.MINOR: "an addition", Step.PATCH: "words"}


@dataclass(frozen=True)
class Change:
    """A change, and whether it breaks users, adds something, or does neither."""

    what: str
    weight: Step

    def step(self, released: Version) -> Step:
        """Give the step that this needs after a version: while it is 0.x, what breaks users may be a minor one."""
        return Step.MINOR if self.weight is Step.MAJOR and released.major == 0 else self.weight


def public_api(root: Path) -> Api:
    """List the public Python API of a checkout: each name with all that a user can rely on."""
    folders = [root / "src", root / "generated"]
    loader = griffe.GriffeLoader(search_paths=folders)
    for package in ("mixpeek_batches", "mixpeek_batches_api"):
        loader.load(package)
    loader.resolve_aliases(external=False)
    listing: Api = {}
    for module in PUBLIC:
        for name, member in sorted(loader.modules_collection[module].members.items()):
            if _is_ours(member) and not member.is_module and (member.is_public or name == "__version__"):
                _list(listing, f"{module}.{name}", member)
    return listing


def listed(api: Api) -> str:
    """Write a listing as JSON, a line a name, so that a diff of two can be read."""
    lines = (f"{json.dumps(path)}: {json.dumps(entry)}" for path, entry in sorted(api.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _list(listing: Api, path: str, item: griffe.Object | griffe.Alias) -> None:
    if item.is_class:
        listing[path] = {"kind": "class", "bases": _bases(item)}
        for name, member in sorted(item.all_members.items()):
            known = name in {"__init__", "__call__", "__getitem__"} or not name.startswith("_")
            if known and _is_ours(member):
                _list(listing, f"{path}.{name}", member)
    elif item.is_function:
        listing[path] = {
            "kind": "function",
            "async": "async" in item.labels,
            "parameters": {
                parameter.name: {
                    "kind": str(parameter.kind.value) if parameter.kind else "",
                    "type": _text(parameter.annotation),
                    "default": _text(parameter.default),
                }
                for parameter in item.parameters  # type: ignore[union-attr]
                if not parameter.name.startswith("_")
            },
            "returns": _text(item.returns),  # type: ignore[union-attr]
        }
    elif item.is_attribute:
        member_of_enum = item.parent is not None and item.parent.is_class and _is_enum(item.parent)
        value = _text(item.value) if member_of_enum else None  # type: ignore[union-attr]
        annotation = _text(item.annotation)  # type: ignore[union-attr]
        listing[path] = {"kind": "attribute", "type": annotation, "value": value}


def _is_ours(item: griffe.Object | griffe.Alias) -> bool:
    try:
        return not item.is_alias or bool(item.final_target.path.startswith("mixpeek_batches"))  # type: ignore[union-attr]
    except (griffe.AliasResolutionError, griffe.CyclicAliasError):
        return False


def _bases(item: Any) -> list[str]:
    """Name what a class is, leaving out what only we know of."""
    names = [str(base) for one in (item, *item.mro()) for base in one.bases]
    return sorted({name for name in names if not name.startswith("_")})


def _is_enum(item: Any) -> bool:
    return any(str(base).endswith("Enum") for base in item.bases)


def _text(expression: Any) -> str | None:
    return None if expression is None else str(expression)


def changes_of_api(released: Api, current: Api) -> list[Change]:
    """List what changed in the public Python API."""
    found = [Change(f"{path} is gone", Step.MAJOR) for path in released if path not in current]
    found += [Change(f"{path} is new", Step.MINOR) for path in current if path not in released]
    for path in released.keys() & current.keys():
        old, new = dict(released[path]), dict(current[path])
        parameters = old.pop("parameters", {}), new.pop("parameters", {})
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                what = f"{path}: {key} is {new.get(key)!r} in place of {old.get(key)!r}"
                told = key in {"type", "returns"} and old.get(key) is None  # what was open is said now
                found.append(Change(what, Step.MINOR if told else Step.MAJOR))
        found += _changes_of_parameters(path, *parameters)
    return sorted(found, key=lambda change: change.what)


def _changes_of_parameters(path: str, released: Api, current: Api) -> list[Change]:
    found = [Change(f"{path}({name}) is gone", Step.MAJOR) for name in released if name not in current]
    for name, new in current.items():
        if name not in released:
            optional = new["default"] is not None or new["kind"].startswith("variadic")
            found.append(Change(f"{path}({name}) is new", Step.MINOR if optional else Step.MAJOR))
        elif new != released[name]:
            found.append(Change(f"{path}({name}) is {new} in place of {released[name]}", _weight(released[name], new)))
    # What may be given by position must stay at its position.
    orders = [
        [name for name, one in side.items() if one["kind"] in {"positional-only", "positional or keyword"}]
        for side in (released, current)
    ]
    kept = not any(change.weight is Step.MAJOR for change in found)
    if kept and orders[1][: len(orders[0])] != orders[0]:
        found.append(Change(f"{path}: its arguments have another order", Step.MAJOR))
    return found


def _weight(old: dict[str, Any], new: dict[str, Any]) -> Step:
    """Tell whether a parameter takes all that it took, and more."""
    types = [set(str(one["type"]).split(" | ")) for one in (old, new)]
    more = old["type"] is None or types[0] <= types[1]
    default = old["default"] in {None, new["default"]}
    return Step.MINOR if old["kind"] == new["kind"] and more and default else Step.MAJOR


def changes_of_spec(released: dict[str, Any], current: dict[str, Any]) -> list[Change]:
    """List what changed in the contract."""
    found = [Change(f"{SPEC}: {difference}", _weight_in_spec(difference)) for difference in compare(released, current)]
    known = Document(released).operations()
    for key, (path, _, _) in Document(current).operations().items():
        if key not in known:
            found.append(Change(f"{SPEC}: {key[0].upper()} {path} is new", Step.MINOR))
    if not found and _without_version(released) != _without_version(current):
        found.append(Change(f"{SPEC}: its words", Step.PATCH))
    return found


def _weight_in_spec(difference: Difference) -> Step:
    if difference.aspect == "deprecated":
        return Step.MINOR
    if difference.kind == "added":
        must = difference.side == "request" and difference.aspect == "parameter" and "required" in difference.theirs
        return Step.MAJOR if must else Step.MINOR
    # Who sends is glad of what is widened; who reads has to reckon with more.
    return Step.MINOR if difference.kind == "widened" and difference.side == "request" else Step.MAJOR


def _without_version(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "info": {**document.get("info", {}), "version": None}}


def step_between(released: Version, current: Version) -> Step | None:
    """Name the step from one version to a later one; None if it is not later."""
    if current < released:
        return None
    for step, name in ((Step.MAJOR, "major"), (Step.MINOR, "minor"), (Step.PATCH, "micro")):
        if getattr(current, name) != getattr(released, name):
            return step
    return Step.NONE


def last_release(root: Path) -> Version | None:
    """Give the version of the last release; None before the first."""
    path = root / RELEASED_SPEC
    return Version(version(parse(path.read_text(encoding="utf-8"), RELEASED_SPEC))) if path.exists() else None


def gate(root: Path) -> tuple[bool, str]:
    """Compare a checkout with the last release.

    Returns:
        Whether its version takes a step that is large enough, and what to say.

    Raises:
        CompareError: A document cannot be read.
        InvalidVersion: A version is none.
    """
    released = last_release(root)
    if released is None:
        return True, "Nothing is released yet, so any version will do."
    before = parse((root / RELEASED_SPEC).read_text(encoding="utf-8"), RELEASED_SPEC)
    now = parse((root / SPEC).read_text(encoding="utf-8"), SPEC)
    current = Version(version(now))
    taken = step_between(released, current)
    if taken is None:
        return False, f"info.version is {current}, which is before the last release, {released}."
    recorded: Api = json.loads((root / RELEASED_API).read_text(encoding="utf-8"))
    changes = changes_of_spec(before, now) + changes_of_api(recorded, public_api(root))
    needed = max((change.step(released) for change in changes), default=Step.NONE)
    if needed <= taken:
        return True, f"{len(changes)} changes since {released} need {_a(needed)}; {current} takes {_a(taken)}."
    lines = [f"  {change.what} ({_WEIGHTS[change.weight]})" for change in changes if change.step(released) > taken]
    text = f"info.version is {current}, {_a(taken)} after {released}, but {_a(needed)} is needed:"
    return False, "\n".join([text, *lines])


def _a(step: Step) -> str:
    return "no step" if step is Step.NONE else f"a {step} step"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Check that info.version is far enough from the last release.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    try:
        passed, text = gate(parser.parse_args().root)
    except (CompareError, InvalidVersion, OSError, ValueError) as error:
        sys.exit(str(error))
    if not passed:
        sys.exit(text)
    print(text)


if __name__ == "__main__":
    main()
