"""scripts/release.py: a release is one commit and one tag, and a refusal leaves everything as it was."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.process import ROOT, ScriptError, git
from scripts.release import release

NOTHING = ((sys.executable, "-c", ""),)
FAILS = ((sys.executable, "-c", "raise SystemExit(3)"),)


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clean clone of what a first release changes, beside its origin, with an entry for 0.1.0 in the changelog.

    No setting, hook or name of whoever runs this reaches git.
    """
    folder = tmp_path_factory.mktemp("template")
    config, origin = folder / "config", folder / "origin"
    config.write_text("[user]\nname = Test\nemail = test@example.com\n[init]\ndefaultBranch = main\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GIT_CONFIG_GLOBAL", str(config))
        environment.setenv("GIT_CONFIG_NOSYSTEM", "1")
        git(folder, "init", "--quiet", "origin")
        spec = (ROOT / "openapi.yaml").read_text()
        (origin / "openapi.yaml").write_text(re.sub(r"(?m)^  version: .*$", "  version: 0.1.0", spec, count=1))
        (origin / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0 (unreleased)\n\n### Added\n\n- All of it.\n")
        (origin / "generated").mkdir()
        (origin / "generated" / "file").touch()
        git(origin, "add", ".")
        git(origin, "commit", "--quiet", "--message", "First")
        git(folder, "clone", "--quiet", "origin", "clone")
        git(folder / "clone", "remote", "set-url", "origin", "../origin")
        yield folder


@pytest.fixture
def checkout(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "clone"


@pytest.fixture
def as_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the slow step where it makes no difference."""
    monkeypatch.setattr("scripts.release.GENERATE", NOTHING[0])


def state(root: Path) -> tuple[str, str]:
    return git(root, "show-ref", "--head"), git(root, "status", "--porcelain", "--ignored")


def replace(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new, 1))
    git(root, "commit", "--quiet", "--all", "--message", f"Change {name}")


def test_two_releases(checkout: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("generated", "scripts", "src"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "What is released")
    before = git(checkout, "rev-parse", "HEAD")
    with monkeypatch.context() as patch:
        patch.setattr("scripts.release.GENERATE", NOTHING[0])
        assert release(checkout, "0.1.0", NOTHING) == "v0.1.0"
    assert git(checkout, "rev-parse", "HEAD~1") == before
    assert git(checkout, "rev-parse", "v0.1.0^{commit}") == git(checkout, "rev-parse", "HEAD")
    assert git(checkout, "status", "--porcelain") == ""
    assert re.search(r"(?m)^## 0\.1\.0 \(\d{4}-\d\d-\d\d\)$", (checkout / "CHANGELOG.md").read_text())

    replace(checkout, "openapi.yaml", "        - DRAFT\n", "        - DRAFT\n        - PAUSED\n")
    replace(checkout, "CHANGELOG.md", "## 0.1.0", "## Unreleased\n\n- `PAUSED`.\n\n## 0.1.0")
    assert release(checkout, "0.2.0", NOTHING) == "v0.2.0"
    line = "info.version is 0.2.0, and the 2 changes since 0.1.0 need 0.2.0 at least.\n"
    assert capfd.readouterr().out.endswith(line)
    assert "  version: 0.2.0\n" in (checkout / "openapi.yaml").read_text()
    assert '__version__ = "0.2.0"' in (checkout / "generated/mixpeek_batches_api/__init__.py").read_text()
    assert 'PAUSED = "PAUSED"' in (checkout / "generated/mixpeek_batches_api/models/task_status.py").read_text()
    assert "## 0.2.0 (20" in (checkout / "CHANGELOG.md").read_text()
    assert git(checkout, "tag", "--list").split() == ["v0.1.0", "v0.2.0"]


def _behind(root: Path) -> None:
    replace(root.parent / "origin", "CHANGELOG.md", "All", "Nearly all")
    git(root, "fetch", "--quiet")


@pytest.mark.usefixtures("as_generated")
@pytest.mark.parametrize(
    ("spoil", "version", "reason"),
    [
        (lambda root: None, "1.0", "'1.0' is not a version of the form x.y.z."),
        (lambda root: None, "0.1.0; rm", "is not a version"),
        (lambda root: (root / "new.txt").touch(), "0.1.0", "The working tree has changes"),
        (lambda root: git(root, "switch", "--quiet", "--create", "other"), "0.1.0", "made on main, and this is other."),
        (lambda root: git(root, "switch", "--quiet", "--detach"), "0.1.0", "made on main, and this is no branch."),
        (_behind, "0.1.0", "main lacks commits that origin/main has: pull first."),
        (lambda root: git(root, "tag", "v0.1.0"), "0.1.0", "0.1.0 is not larger than the last release, 0.1.0."),
        (lambda root: git(root, "tag", "v0.10.0"), "0.9.0", "0.9.0 is not larger than the last release, 0.10.0."),
        (
            lambda root: replace(root, "openapi.yaml", "version: 0.1.0", "version: 0.3.0"),
            "0.1.0",
            "openapi.yaml has 0.3.0, which is larger than 0.1.0.",
        ),
        (
            lambda root: replace(root, "CHANGELOG.md", "(unreleased)", "(2020-01-01)"),
            "0.1.0",
            "CHANGELOG.md has no entry for 0.1.0",
        ),
        (
            lambda root: replace(root, "CHANGELOG.md", "## 0.1.0", "## 0.7.0"),
            "0.1.0",
            "The newest entry of CHANGELOG.md is for 0.7.0, not for 0.1.0.",
        ),
        (
            lambda root: replace(root, "CHANGELOG.md", "- All of it.\n", ""),
            "0.1.0",
            "The entry of CHANGELOG.md for 0.1.0 is empty",
        ),
    ],
)  # fmt: skip
def test_refusals(checkout: Path, spoil: Callable[[Path], object], version: str, reason: str) -> None:
    spoil(checkout)
    before = state(checkout)
    with pytest.raises(ScriptError) as caught:
        release(checkout, version, NOTHING)
    assert reason in str(caught.value)
    assert state(checkout) == before


@pytest.mark.usefixtures("as_generated")
def test_a_check_that_fails_and_an_interrupt(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = state(checkout)
    with pytest.raises(ScriptError, match="so nothing is released"):
        release(checkout, "0.1.0", FAILS)
    assert state(checkout) == before
    monkeypatch.setattr("scripts.release.gate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        release(checkout, "0.1.0", NOTHING)
    assert state(checkout) == before


@pytest.mark.usefixtures("as_generated")
def test_a_hook_that_refuses_the_commit_or_the_tag(checkout: Path) -> None:
    before = state(checkout)
    hook = checkout / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ScriptError, match=r"`git commit .*failed"):
        release(checkout, "0.1.0", NOTHING)
    assert state(checkout) == before
    hook.unlink()
    git(checkout, "config", "tag.gpgSign", "true")
    git(checkout, "config", "gpg.program", "false")
    with pytest.raises(ScriptError, match=r"`git tag .*failed"):
        release(checkout, "0.1.0", NOTHING)
    assert state(checkout) == before


@pytest.mark.parametrize("arguments", [["0.1"], []])
def test_the_command_refuses_in_one_sentence(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "scripts.release", *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    version = arguments[0] if arguments else ""
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"'{version}' is not a version of the form x.y.z.\n")
