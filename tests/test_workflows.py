""".github/workflows: what the linters that `make check` runs do not see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PATHS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
# YAML reads the key `on` as true.
WORKFLOWS: dict[str, Any] = {
    name: yaml.safe_load(path.read_text().replace("\non:", '\n"on":')) for name, path in PATHS.items()
}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"].values()]
STEPS = [(name, step) for name, job in JOBS for step in job["steps"]]
USES = [line for path in PATHS.values() for line in re.findall(r"uses: (.*)", path.read_text())]


def test_each_does_what_it_is_for() -> None:
    """Every target that is called exists, and nothing is installed or run beside make that make would."""
    called: dict[str, set[str]] = {name: set() for name in WORKFLOWS}
    for name, step in STEPS:
        called[name] |= set(re.findall(r"\bmake ([a-z.-]+)", step.get("run", "")))
        assert not re.search(r"\b(pip|pytest|python)\b", step.get("run", ""))
    called["ci"] |= set(WORKFLOWS["ci"]["jobs"]["targets"]["strategy"]["matrix"]["target"])
    assert called == {
        "ci": {"check", "test", "mutants", "contract-proxies", "build", "docs-check"},
        "contract-real": {"contract-real"},
        "drift": {".venv", "drift"},
        "night": {"chaos", "soak", "mutants"},
        "release": {"check", "test", "build"},
    }
    targets = set(re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text()))
    assert set().union(*called.values()) - {".venv"} <= targets


def test_actions_are_pinned_at_one_commit_each() -> None:
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in USES)
    assert len(set(USES)) == len({line.partition("@")[0] for line in USES})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_jobs_may_do_little(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    jobs = [job for of, job in JOBS if of == name]
    granted = {key: value for job in jobs for key, value in job["permissions"].items()}
    extra = {"drift": {"issues": "write"}, "release": {"id-token": "write"}}
    assert granted == {"contents": "read", **extra.get(name, {})}
    assert all(job["timeout-minutes"] <= 30 for job in jobs)


def test_ci_covers_the_versions_that_the_package_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    assert WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"] == named


def test_the_gate_sees_the_last_release() -> None:
    """A job that runs the gate has the tags, which a shallow checkout lacks."""
    checking = [job for _, job in JOBS if any("make check" in step.get("run", "") for step in job["steps"])]
    assert [job["steps"][0]["with"]["fetch-depth"] for job in checking] == [0, 0]


def test_publishing_gets_nothing_but_the_artefacts() -> None:
    """The job that may publish checks nothing out, and runs nothing of ours."""
    assert WORKFLOWS["release"]["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    publish = WORKFLOWS["release"]["jobs"]["publish"]
    actions = [step["uses"].partition("@")[0] for step in publish["steps"]]
    assert actions == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert (publish["needs"], publish["environment"]) == ("build", "release")
