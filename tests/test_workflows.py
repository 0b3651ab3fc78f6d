""".github/workflows: what the linters that `make check` runs do not see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
TARGETS = set(re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text()))


def _load(name: str) -> dict[str, Any]:
    # YAML reads the key `on` as true.
    document: dict[str, Any] = yaml.safe_load(WORKFLOWS[name].read_text().replace("\non:", '\n"on":'))
    return document


def _steps(name: str) -> list[dict[str, Any]]:
    return [step for job in _load(name)["jobs"].values() for step in job["steps"]]


def test_all_are_there() -> None:
    assert set(WORKFLOWS) == {"ci", "contract-real", "drift", "night", "release"}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_they_call_the_targets_that_people_call(name: str) -> None:
    """Every target exists, and no step installs or runs anything beside make that make would."""
    called = [line for step in _steps(name) for line in re.findall(r"\bmake ([a-z.-]+)", step.get("run", ""))]
    assert set(called) <= TARGETS | {".venv"}
    assert called
    assert not [step for step in _steps(name) if re.search(r"\b(pip|pytest|python)\b", step.get("run", ""))]


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_actions_are_pinned_and_jobs_may_do_little(name: str) -> None:
    uses = re.findall(r"uses: (.*)", WORKFLOWS[name].read_text())
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in uses)
    document = _load(name)
    assert document["permissions"] == {}
    granted = {key: value for job in document["jobs"].values() for key, value in job["permissions"].items()}
    extra = {"drift": {"issues": "write"}, "release": {"id-token": "write"}}
    assert granted == {"contents": "read", **extra.get(name, {})}
    assert all(job["timeout-minutes"] <= 30 for job in document["jobs"].values())


def test_one_commit_an_action() -> None:
    """The same action is pinned at the same commit everywhere."""
    uses = {use for path in WORKFLOWS.values() for use in re.findall(r"uses: (.*)", path.read_text())}
    assert len(uses) == len({use.partition("@")[0] for use in uses})


def test_ci_covers_the_versions_that_the_package_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    assert _load("ci")["jobs"]["test"]["strategy"]["matrix"]["python"] == named
    assert _load("release")["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_the_gate_sees_the_last_release(name: str) -> None:
    """A job that runs the gate has the tags, which a shallow checkout lacks."""
    for job in _load(name)["jobs"].values():
        runs = " ".join(step.get("run", "") for step in job["steps"])
        if re.search(r"make check\b|\.ci/run", runs):
            assert job["steps"][0]["with"]["fetch-depth"] == 0


def test_publishing_gets_nothing_but_the_artefacts() -> None:
    """The job that may publish checks nothing out, and runs nothing of ours."""
    publish = _load("release")["jobs"]["publish"]
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert publish["needs"] == "build"
    assert publish["environment"] == "release"
