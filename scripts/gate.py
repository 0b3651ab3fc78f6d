"""Refuse a change since the last release that needs a larger version step than openapi.yaml takes.

Usage: python -m scripts.gate

The last release is the newest tag before this commit; its contract and its public Python API are compared with those
of the working tree. Removing or narrowing something breaks users and needs a major step, or a minor one while the
version is 0.x; an addition needs a minor step, also in 0.x; a change of wording needs a patch.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import griffe
from packaging.version import Version

from scripts.compare import Document, SpecDifference, compare, parse, version
from scripts.process import ScriptError, git

ROOT = Path(__file__).resolve().parent.parent
SPEC, CHANGELOG = "openapi.yaml", "CHANGELOG.md"
COMPARED = (SPEC, "src", "generated")

# Where users find names; every other module may change at any time.
PUBLIC = ("mixpeek_batches", "mixpeek_batches.mock", "mixpeek_batches.pytest_plugin")


class Step(IntEnum):
    """How far one version is from the one before."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3

    def __str__(self) -> str:
        return f"a {self.name.lower()} step" if self else "no step"


_REASONS = {Step.MAJOR: "breaks users", Step.MINOR: "an addition", Step.PATCH: "wording"}


@dataclass(frozen=True)
class Change:
    """A change, and the step that it needs from 1.0 on."""

    what: str
    weight: Step

    def step(self, released: Version) -> Step:
        """Return the step that this needs after a version: while it is 0.x, a minor one may break users."""
        return Step.MINOR if self.weight is Step.MAJOR and released.major == 0 else self.weight


@dataclass(frozen=True)
class Name:
    """What users rely on in a public name, or in the parameter of a public function."""

    kind: str
    type: str | None
    value: str | None = None

    @property
    def optional(self) -> bool:
        """Whether calls work without it."""
        return self.value is not None or self.kind.startswith("variadic")


Api = dict[str, Name]


def public_api(root: Path) -> Api:
    """List the public Python API of a checkout, from its source."""
    loader = griffe.GriffeLoader(search_paths=[root / "src", root / "generated"])
    for package in ("mixpeek_batches", "mixpeek_batches_api"):
        loader.load(package)
    loader.resolve_aliases(external=False)
    api: Api = {}
    for module in PUBLIC:
        for name, member in loader.modules_collection[module].members.items():
            if member.is_public or name == "__version__":
                _list(api, f"{module}.{name}", member)
    return api


def _list(api: Api, path: str, item: Any) -> None:
    """Add a name and what is in it; `item` is of griffe, whose aliases and objects share no useful type."""
    try:
        if item.is_alias and not item.final_target.path.startswith("mixpeek_batches"):
            return
    except griffe.AliasResolutionError:  # of another package, which is not loaded
        return
    if item.is_class:
        bases = {str(base) for one in (item, *item.mro()) for base in one.bases}
        api[path] = Name("class", ", ".join(sorted(base for base in bases if not base.startswith("_"))))
        for name, member in item.all_members.items():
            if name in {"__init__", "__call__", "__getitem__"} or not name.startswith("_"):
                _list(api, f"{path}.{name}", member)
    elif item.is_function:
        api[path] = Name("async function" if "async" in item.labels else "function", _text(item.returns))
        for position, parameter in enumerate(item.parameters):
            if not parameter.name.startswith("_"):
                kind = parameter.kind.value
                kind = f"{kind} {position}" if "positional" in kind and "variadic" not in kind else kind
                api[f"{path}({parameter.name})"] = Name(kind, _text(parameter.annotation), _text(parameter.default))
    elif item.is_attribute:
        of_enum = item.parent.is_class and any(str(base).endswith("Enum") for base in item.parent.bases)
        api[path] = Name("attribute", _text(item.annotation), _text(item.value) if of_enum else None)


def _text(expression: object) -> str | None:
    return None if expression is None else str(expression)


def changes_of_api(released: Api, current: Api) -> list[Change]:
    """List what changed in the public Python API."""
    found = [Change(f"{path} is gone", Step.MAJOR) for path in released.keys() - current.keys()]
    for path, new in current.items():
        old = released.get(path)
        is_parameter = path.endswith(")")
        if old is None:
            # The parameters of a new function are new with it.
            required = is_parameter and not new.optional and path.partition("(")[0] in released
            found.append(Change(f"{path} is new", Step.MAJOR if required else Step.MINOR))
        elif new != old:
            more = old.type is None or (is_parameter and _types(old) <= _types(new))
            kept = new.kind == old.kind and more and old.value in {None, new.value}
            what = f"{path}: {_shown(new)} in place of {_shown(old)}"
            found.append(Change(what, Step.MINOR if kept else Step.MAJOR))
    return sorted(found, key=lambda change: change.what)


def _types(name: Name) -> set[str]:
    return set((name.type or "").split(" | "))


def _shown(name: Name) -> str:
    value = f" = {name.value}" if name.value is not None else ""
    return f"{name.kind}: {name.type}{value}"


def changes_of_spec(released: dict[str, Any], current: dict[str, Any]) -> list[Change]:
    """List what changed in the contract."""
    found = [Change(f"{SPEC}: {difference}", _weight(difference)) for difference in compare(released, current)]
    known = Document(released).operations()
    for key, (path, _, _) in Document(current).operations().items():
        if key not in known:
            found.append(Change(f"{SPEC}: {key[0].upper()} {path} is new", Step.MINOR))
    before, now = ({**one, "info": {**one["info"], "version": None}} for one in (released, current))
    return found or ([Change(f"{SPEC}: its wording", Step.PATCH)] if before != now else [])


def _weight(difference: SpecDifference) -> Step:
    if difference.aspect == "deprecated":
        return Step.MINOR
    if difference.kind == "added":
        must = difference.side == "request" and difference.aspect == "parameter" and "required" in difference.theirs
        return Step.MAJOR if must else Step.MINOR
    # Who sends may go on as before when more is allowed; who reads has to expect more.
    return Step.MINOR if difference.kind == "widened" and difference.side == "request" else Step.MAJOR


def step_between(released: Version, current: Version) -> Step:
    """Name the step from one version to another that is not before it."""
    for step, name in ((Step.MAJOR, "major"), (Step.MINOR, "minor"), (Step.PATCH, "micro")):
        if getattr(current, name) != getattr(released, name):
            return step
    return Step.NONE


def releases(root: Path, *which: str) -> list[Version]:
    """List the versions that have a tag, the last one first; `which` are arguments of `git tag`."""
    names = git(root, "tag", "--list", "v*", *which).split()
    return sorted((Version(name[1:]) for name in names if re.fullmatch(r"v\d+\.\d+\.\d+", name)), reverse=True)


def last_release(root: Path, current: Version) -> Version | None:
    """Return the release to compare the working tree with; None before the first.

    Raises:
        ScriptError: The changelog has a release that has no tag here.
    """
    tagged = releases(root, "--merged", "HEAD")
    if not git(root, "status", "--porcelain"):  # the commit of a release is compared with the release before
        here = releases(root, "--points-at", "HEAD")
        tagged = [one for one in tagged if one not in here]
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    told = [Version(one) for one in re.findall(r"(?m)^## (\d+\.\d+\.\d+) \(\d{4}-", text)]
    missing = [one for one in told if one != current and one not in tagged]
    if missing:
        raise ScriptError(f"{CHANGELOG} has a release {missing[0]}, and there is no tag v{missing[0]}: fetch the tags.")
    return tagged[0] if tagged else None


def _contract(root: Path) -> dict[str, Any]:
    return parse((root / SPEC).read_text(encoding="utf-8"), SPEC)


def gate(root: Path) -> str:
    """Compare a checkout with the last release, and say what was found.

    Raises:
        ScriptError: Its version takes a smaller step than is needed, or a contract cannot be read.
    """
    if not (root / ".git").exists():
        return "There is no git history here, so the version's step is not checked."
    now = _contract(root)
    current = Version(version(now))
    last = last_release(root, current)
    if last is None:
        return "Nothing is released yet, so any version will do."
    if current < last:
        raise ScriptError(f"info.version is {current}, which is before the last release, {last}.")
    with tempfile.TemporaryDirectory() as folder:
        released = Path(folder) / "released"
        git(root, "archive", f"--output={released}.tar", f"v{last}", "--", *COMPARED)
        with tarfile.open(f"{released}.tar") as archive:
            archive.extractall(released, filter="data")
        changes = changes_of_spec(_contract(released), now)
        changes += changes_of_api(public_api(released), public_api(root))
    taken = step_between(last, current)
    needed = max((change.step(last) for change in changes), default=Step.NONE)
    if needed > taken:
        lines = [f"  {change.what} ({_REASONS[change.weight]})" for change in changes if change.step(last) > taken]
        text = f"info.version is {current}, {taken} after {last}, but {needed} is needed:"
        raise ScriptError("\n".join([text, *lines]))
    return f"{len(changes)} changes since {last} need {needed}; {current} takes {taken}."


def main() -> None:
    """Run the command."""
    try:
        print(gate(ROOT))
    except (ScriptError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
