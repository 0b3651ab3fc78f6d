"""Make a release: one commit and one tag, or nothing at all. Nothing is uploaded; the tag's workflow does that.

Usage: python -m scripts.release VERSION, by way of `make release VERSION=x.y.z`
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import Version

from scripts.compare import CompareError, parse, version
from scripts.gate import RELEASED_API, RELEASED_SPEC, SPEC, gate, last_release, listed, public_api

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"
CHANGELOG = "CHANGELOG.md"
WRITTEN = (SPEC, CHANGELOG, "generated", "releases")
GENERATE: Sequence[str] = (sys.executable, "scripts/generate.py")
CHECKS: Sequence[Sequence[str]] = (("make", "check"), ("make", "test"), ("make", "build"))

_VERSION_LINE = re.compile(r"^  version: .*$", re.MULTILINE)
_ENTRY = re.compile(r"^## (?P<name>[^\n(]*[^\n( ]) ?(?:\((?P<state>[^)\n]*)\))?$(?P<text>.*?)(?=^## |\Z)", re.M | re.S)


class RefusedError(Exception):
    """Why there is no release, in one sentence."""


def release(root: Path, wanted: str, checks: Sequence[Sequence[str]] = CHECKS) -> str:
    """Make a release of a checkout.

    Args:
        root: The checkout.
        wanted: The version.
        checks: The commands that must succeed before it is committed.

    Returns:
        The name of the tag.

    Raises:
        RefusedError: There is none, and the checkout is as it was.
    """
    tag = _check(root, wanted)
    now = int(time.time())
    entry = _dated_changelog(root, wanted, datetime.fromtimestamp(now, UTC).date().isoformat())
    # What is built now is, byte for byte, what is built from the tag: both take their time from the commit.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    environment |= {"SOURCE_DATE_EPOCH": str(now), "GIT_COMMITTER_DATE": f"{now} +0000"}
    try:
        (root / CHANGELOG).write_text(entry, encoding="utf-8")
        spec = (root / SPEC).read_text(encoding="utf-8")
        if version(parse(spec, SPEC)) != wanted:
            spec = _VERSION_LINE.sub(f"  version: {wanted}", spec, count=1)
            (root / SPEC).write_text(spec, encoding="utf-8")
        _run(root, GENERATE, environment)
        passed, text = gate(root)
        if not passed:
            raise RefusedError(text)
        _record(root)
        for command in checks:
            _run(root, command, environment)
        _git(root, "add", "--", *WRITTEN)
        _git(root, "commit", "--quiet", "--message", f"Release {wanted}", environment=environment)
    except BaseException as error:
        _restore(root)
        if isinstance(error, CompareError | OSError | ValueError):
            raise RefusedError(str(error)) from None
        raise
    try:
        _git(root, "tag", "--annotate", "--message", f"mixpeek-batches {wanted}", tag, environment=environment)
    except BaseException:
        _git(root, "reset", "--quiet", "--hard", "HEAD~1")
        raise
    return tag


def _check(root: Path, wanted: str) -> str:
    """Refuse what can be refused before anything is written, and name the tag."""
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", wanted):
        raise RefusedError(f"{wanted!r} is no version of the form x.y.z.")
    if _git(root, "status", "--porcelain"):
        raise RefusedError("The tree has changes: commit them or put them away first.")
    branch = _git(root, "branch", "--show-current")
    if branch != BRANCH:
        raise RefusedError(f"Releases are made on {BRANCH}, and this is {branch or 'no branch'}.")
    upstream = _git(root, "for-each-ref", "--format=%(upstream:short)", f"refs/heads/{BRANCH}")
    if upstream and int(_git(root, "rev-list", "--count", f"HEAD..{upstream}")):
        raise RefusedError(f"{BRANCH} lacks commits that {upstream} has: pull first.")
    tag = f"v{wanted}"
    if _git(root, "tag", "--list", tag):
        raise RefusedError(f"The tag {tag} exists.")
    tags = [name for name in _git(root, "tag", "--list", "v*").split() if re.fullmatch(r"v\d+\.\d+\.\d+", name)]
    last = max([Version(name[1:]) for name in tags] + [one for one in [last_release(root)] if one], default=None)
    if last is not None and Version(wanted) <= last:
        raise RefusedError(f"{wanted} is not larger than the last release, {last}.")
    stated = Version(version(parse((root / SPEC).read_text(encoding="utf-8"), SPEC)))
    if stated > Version(wanted):
        raise RefusedError(f"{SPEC} is at {stated} already, which is larger than {wanted}.")
    return tag


def _dated_changelog(root: Path, wanted: str, date: str) -> str:
    """Give the changelog with its newest entry dated."""
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    entry = _ENTRY.search(text)
    if entry is None or not (entry["state"] == "unreleased" or entry["name"].lower() == "unreleased"):
        raise RefusedError(f"{CHANGELOG} has no entry for {wanted}: begin one with `## {wanted} (unreleased)`.")
    if entry["name"].lower() != "unreleased" and entry["name"] != wanted:
        raise RefusedError(f"The newest entry of {CHANGELOG} is for {entry['name']}, not for {wanted}.")
    if not re.search(r"^[-*] \S", entry["text"], re.MULTILINE):
        raise RefusedError(f"The entry of {CHANGELOG} for {wanted} is empty: say what it brings.")
    return text[: entry.start()] + f"## {wanted} ({date})" + text[entry.start("text") :]


def _record(root: Path) -> None:
    """Keep what is released, for the gate."""
    (root / RELEASED_SPEC).parent.mkdir(exist_ok=True)
    (root / RELEASED_SPEC).write_bytes((root / SPEC).read_bytes())
    (root / RELEASED_API).write_text(listed(public_api(root)), encoding="utf-8")


def _restore(root: Path) -> None:
    """Undo what was written; the tree had no changes before."""
    _git(root, "reset", "--quiet")
    _git(root, "checkout", "--quiet", "--", ".")
    _git(root, "clean", "--quiet", "--force", "-d", "--", *WRITTEN)


def _run(root: Path, command: Sequence[str], environment: dict[str, str]) -> None:
    """Run a command, showing what it writes."""
    print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
    if subprocess.run(command, check=False, cwd=root, env=environment).returncode != 0:
        raise RefusedError(f"`{' '.join(command)}` failed, so nothing is released.")


def _git(root: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, check=False, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RefusedError(f"`git {arguments[0]}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Check, build, commit and tag a release; upload nothing.")
    parser.add_argument("version", help="x.y.z")
    try:
        tag = release(ROOT, parser.parse_args().version)
    except RefusedError as refusal:
        sys.exit(str(refusal))
    print(f"{tag} is committed and tagged. To publish it: git push --atomic origin {BRANCH} {tag}")


if __name__ == "__main__":
    main()
