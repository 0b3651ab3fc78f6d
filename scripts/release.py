"""Make a release: one commit and one tag, or nothing at all. Nothing is uploaded; the tag's workflow does that.

Usage: python -m scripts.release VERSION, by way of `make release VERSION=x.y.z`
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import Version

from scripts.gate import CHANGELOG, SPEC, gate, releases
from scripts.process import ROOT, ScriptError, git, run

BRANCH = "main"
WRITTEN = (SPEC, CHANGELOG, "generated")
GENERATE: Sequence[str] = (sys.executable, "scripts/generate.py")
CHECKS: Sequence[Sequence[str]] = (("make", "check"), ("make", "test"), ("make", "build"))

_VERSION_LINE = re.compile(r"^  version: (.*)$", re.MULTILINE)
_NEWEST_ENTRY = re.compile(r"^## (.+?)(?: \((.+)\))?$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def release(root: Path, wanted: str, checks: Sequence[Sequence[str]] = CHECKS) -> str:
    """Make a release of a checkout.

    Args:
        root: The checkout.
        wanted: The version.
        checks: The commands that must succeed before it is committed.

    Returns:
        The name of the tag.

    Raises:
        ScriptError: If nothing is released; the checkout is as it was.
    """
    _require_releasable(root, wanted)
    now = int(time.time())
    changelog = _dated_changelog(root, wanted, datetime.fromtimestamp(now, UTC).date().isoformat())
    # What is built now is, byte for byte, what is built from the tag: both take their time from the commit. The
    # variables by which make passes its options on would reach the checks.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    environment |= {"SOURCE_DATE_EPOCH": str(now), "GIT_COMMITTER_DATE": f"{now} +0000"}
    before, tag = git(root, "rev-parse", "HEAD"), f"v{wanted}"
    try:
        (root / CHANGELOG).write_text(changelog, encoding="utf-8")
        spec = (root / SPEC).read_text(encoding="utf-8")
        (root / SPEC).write_text(_VERSION_LINE.sub(f"  version: {wanted}", spec, count=1), encoding="utf-8")
        _run_visibly(root, GENERATE, environment)
        print(gate(root))
        for command in checks:
            _run_visibly(root, command, environment)
        git(root, "add", "--", *WRITTEN)
        run(["git", "commit", "--quiet", "--message", f"Release {wanted}"], cwd=root, env=environment)
        run(["git", "tag", "--annotate", "--message", f"mixpeek-batches {wanted}", tag], cwd=root, env=environment)
    except BaseException:
        git(root, "reset", "--quiet", "--hard", before)  # the tree had no changes before
        git(root, "clean", "--quiet", "--force", "-d", "--", *WRITTEN)
        raise
    return tag


def _require_releasable(root: Path, wanted: str) -> None:
    """Refuse what can be refused before anything is written."""
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", wanted):
        raise ScriptError(f"{wanted!r} is not a version of the form x.y.z.")
    if git(root, "status", "--porcelain"):
        raise ScriptError("The working tree has changes: commit or stash them first.")
    branch = git(root, "branch", "--show-current")
    if branch != BRANCH:
        raise ScriptError(f"Releases are made on {BRANCH}, and this is {branch or 'no branch'}.")
    upstream = git(root, "for-each-ref", "--format=%(upstream:short)", f"refs/heads/{BRANCH}")
    if upstream and git(root, "rev-list", f"HEAD..{upstream}"):
        raise ScriptError(f"{BRANCH} lacks commits that {upstream} has: pull first.")
    last = next(iter(releases(root)), None)
    if last is not None and Version(wanted) <= last:
        raise ScriptError(f"{wanted} is not larger than the last release, {last}.")
    stated = _VERSION_LINE.search((root / SPEC).read_text(encoding="utf-8"))
    if stated is None or Version(stated[1]) > Version(wanted):
        raise ScriptError(f"{SPEC} has {stated[1] if stated else 'no version'}, which is larger than {wanted}.")


def _dated_changelog(root: Path, wanted: str, date: str) -> str:
    """Return the changelog with its newest entry dated."""
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    entry = _NEWEST_ENTRY.search(text)
    if entry is None or "unreleased" not in {entry[1].lower(), entry[2]}:
        raise ScriptError(f"{CHANGELOG} has no entry for {wanted}: begin one with `## {wanted} (unreleased)`.")
    if entry[1].lower() not in {"unreleased", wanted}:
        raise ScriptError(f"The newest entry of {CHANGELOG} is for {entry[1]}, not for {wanted}.")
    if not re.search(r"^[-*] \S", entry[3], re.MULTILINE):
        raise ScriptError(f"The entry of {CHANGELOG} for {wanted} is empty: list what it brings.")
    return text[: entry.start()] + f"## {wanted} ({date})" + text[entry.start(3) :]


def _run_visibly(root: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
    if subprocess.run(command, check=False, cwd=root, env=environment).returncode != 0:
        raise ScriptError(f"`{' '.join(command)}` failed, so nothing is released.")


def main() -> None:
    """Run the command."""
    try:
        tag = release(ROOT, sys.argv[1] if sys.argv[1:] else "")
    except (ScriptError, OSError, ValueError) as error:
        sys.exit(str(error))
    print(f"{tag} is committed and tagged. To publish it: git push --atomic origin {BRANCH} {tag}")


if __name__ == "__main__":
    main()
