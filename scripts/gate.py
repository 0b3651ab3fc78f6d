"""Refuse a change since the last release that needs a larger version step than openapi.yaml takes.

Usage: python -m scripts.gate

The last release is the newest tag before this commit; its contract and its public Python API are compared with those
of the working tree. Removing or narrowing something breaks users and needs a major step, or a minor one while the
version is 0.x; an addition needs a minor step, also in 0.x; a change of wording needs a patch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import griffe
from packaging.version import Version

from scripts.compare import SpecDifference, compare, operations, parse, version
from scripts.process import ROOT, ScriptError, git

SPEC, CHANGELOG = "openapi.yaml", "CHANGELOG.md"
# Where users find names; every other module may change at any time.
PUBLIC = ("mixpeek_batches", "mixpeek_batches.mock", "mixpeek_batches.pytest_plugin")


class Weight(IntEnum):
    """What a change is to users."""

    WORDING = 1
    ADDITION = 2
    BREAKING = 3


@dataclass(frozen=True)
class Change:
    """A change, and what it is to users."""

    what: str
    weight: Weight

    def needs(self, last: Version) -> Version:
        """Return the lowest version after `last` that may have this; while it is 0.x, a minor step may break users."""
        if self.weight is Weight.WORDING:
            return Version(f"{last.major}.{last.minor}.{last.micro + 1}")
        if self.weight is Weight.BREAKING and last.major > 0:
            return Version(f"{last.major + 1}.0.0")
        return Version(f"{last.major}.{last.minor + 1}.0")


class PublicName(NamedTuple):
    """What users rely on in a public name, or in a parameter of a public function."""

    kind: str
    type: str | None
    value: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.type}" + ("" if self.value is None else f" = {self.value}")


Api = dict[str, PublicName]


def public_api(root: Path, ref: str | None = None) -> Api:
    """List the public Python API of a checkout, or of a commit in it, from its source."""
    package, folders = PUBLIC[0], ("src", "generated")
    # With external aliases resolved, what one package takes from the other is loaded too.
    options: dict[str, Any] = {"resolve_aliases": True, "resolve_external": True}
    if ref is None:
        loaded = griffe.load(package, search_paths=[root / folder for folder in folders], **options)
    else:
        loaded = griffe.load_git(package, ref=ref, repo=root, search_paths=folders, **options)
    return {
        path: found
        for module in PUBLIC
        for name, member in loaded.modules_collection[module].members.items()
        if member.is_public or name == "__version__"
        for path, found in _names(f"{module}.{name}", member)
    }


def _names(path: str, item: Any) -> Iterator[tuple[str, PublicName]]:
    """List a name and what is in it; `item` is of griffe, whose aliases and objects share no useful type."""
    try:
        if item.is_alias and not item.final_target.path.startswith(PUBLIC[0]):
            return
    except griffe.AliasResolutionError:  # of another package, which is not loaded
        return
    if item.is_class:
        bases = {str(base) for one in (item, *item.mro()) for base in one.bases}
        yield path, PublicName("class", ", ".join(sorted(base for base in bases if not base.startswith("_"))))
        for name, member in item.all_members.items():
            if name in {"__init__", "__call__", "__getitem__"} or not name.startswith("_"):
                yield from _names(f"{path}.{name}", member)
    elif item.is_function:
        yield path, PublicName("async function" if "async" in item.labels else "function", _text(item.returns))
        for position, parameter in enumerate(item.parameters):
            if not parameter.name.startswith("_"):
                kind = parameter.kind.value
                kind = f"{kind} {position}" if kind.startswith("positional") else kind
                default = _text(parameter.default)
                yield f"{path}({parameter.name})", PublicName(kind, _text(parameter.annotation), default)
    elif item.is_attribute:
        of_enum = item.parent.is_class and any(str(base).endswith("Enum") for base in item.parent.bases)
        yield path, PublicName("attribute", _text(item.annotation), _text(item.value) if of_enum else None)


def _text(expression: object) -> str | None:
    return None if expression is None else str(expression)


def changes_of_api(released: Api, current: Api) -> list[Change]:
    """List what changed in the public Python API."""
    found = [Change(f"{path} is gone", Weight.BREAKING) for path in released.keys() - current.keys()]
    for path, new in current.items():
        old = released.get(path)
        function, _, parameter = path.partition("(")
        if old is None:
            # The parameters of a new function are new with it.
            is_required = bool(parameter) and new.value is None and not new.kind.startswith("variadic")
            breaks = is_required and function in released
            found.append(Change(f"{path} is new", Weight.BREAKING if breaks else Weight.ADDITION))
        elif new != old:
            accepted, types = (set((name.type or "").split(" | ")) for name in (old, new))
            widened = old.type is None or (bool(parameter) and accepted <= types)
            kept = new.kind == old.kind and widened and old.value in {None, new.value}
            found.append(Change(f"{path}: {new} in place of {old}", Weight.ADDITION if kept else Weight.BREAKING))
    return sorted(found, key=lambda change: change.what)


def changes_of_spec(released: dict[str, Any], current: dict[str, Any]) -> list[Change]:
    """List what changed in the contract."""
    found = [Change(f"{SPEC}: {difference}", _weight(difference)) for difference in compare(released, current)]
    known = operations(released)
    new = [name for key, (name, _) in operations(current).items() if key not in known]
    found += [Change(f"{SPEC}: {name} is new", Weight.ADDITION) for name in new]
    before, now = ({**one, "info": {**one["info"], "version": None}} for one in (released, current))
    return found or ([Change(f"{SPEC}: its wording", Weight.WORDING)] if before != now else [])


def _weight(difference: SpecDifference) -> Weight:
    is_request = not difference.code
    if difference.kind == "added":
        breaks = is_request and difference.aspect == "parameter" and "required" in difference.theirs
    else:
        # Who sends may go on as before when more is allowed; who reads has to expect more.
        breaks = difference.aspect != "deprecated" and not (difference.kind == "widened" and is_request)
    return Weight.BREAKING if breaks else Weight.ADDITION


def releases(root: Path, *options: str) -> list[Version]:
    """List the versions that have a tag, the last one first; `options` are those of `git tag`."""
    names = git(root, "tag", "--list", "v*", *options).split()
    return sorted((Version(name[1:]) for name in names if re.fullmatch(r"v\d+\.\d+\.\d+", name)), reverse=True)


def last_release(root: Path, current: Version) -> Version | None:
    """Return the release to compare the working tree with; None before the first.

    Raises:
        ScriptError: If the changelog has a release that has no tag here.
    """
    tagged = releases(root, "--merged", "HEAD")
    if not git(root, "status", "--porcelain"):  # the commit of a release is compared with the release before
        here = releases(root, "--points-at", "HEAD")
        tagged = [one for one in tagged if one not in here]
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    for dated in map(Version, re.findall(r"(?m)^## (\d+\.\d+\.\d+) \(\d{4}-", text)):
        if dated != current and dated not in tagged:
            raise ScriptError(f"{CHANGELOG} has a release {dated}, and there is no tag v{dated}: fetch the tags.")
    return tagged[0] if tagged else None


def gate(root: Path) -> str:
    """Compare a checkout with the last release, and return what was found in one sentence.

    Raises:
        ScriptError: If its version takes a smaller step than is needed, or a contract cannot be read.
    """
    if not (root / ".git").exists():
        return "There is no git history here, so the version's step is not checked."
    contract = parse((root / SPEC).read_text(encoding="utf-8"), SPEC)
    current = Version(version(contract))
    last = last_release(root, current)
    if last is None:
        return "Nothing is released yet, so any version will do."
    if current < last:
        raise ScriptError(f"info.version is {current}, which is before the last release, {last}.")
    changes = changes_of_spec(parse(git(root, "show", f"v{last}:{SPEC}"), SPEC), contract)
    changes += changes_of_api(public_api(root, f"v{last}"), public_api(root))
    needed = max((change.needs(last) for change in changes), default=last)
    if current < needed:
        lines = [f"  {one.what} ({one.weight.name.lower()})" for one in changes if one.needs(last) > current]
        text = f"info.version is {current}, but what changed since {last} needs {needed} at least:"
        raise ScriptError("\n".join([text, *lines]))
    return f"info.version is {current}, and the {len(changes)} changes since {last} need {needed} at least."


def main() -> None:
    """Run the command."""
    try:
        print(gate(ROOT))
    except (ScriptError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
