"""Targets, and the report at the end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console
from rich.table import Table

from . import render
from .difference import Difference, compare
from .mutants import MutantServer
from .report import Report
from .scenario import prepared_target, run
from .target import ConfigError, Target, load

ROOT = Path(__file__).parent.parent


@attrs.frozen
class Result:
    """A run, and how the mock differs from its target; None where the target is the mock itself."""

    report: Report
    differences: list[Difference] | None


_REAL = pytest.StashKey[Target]()
_SEED = pytest.StashKey[int]()
_RESULTS = pytest.StashKey[dict[str, Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract tests")
    group.addoption("--contract-target", choices=["mock", "process", "real"], help="test this target only")
    group.addoption("--contract-proxies", action="store_true", help="test behind proxies too")
    group.addoption("--contract-config", type=Path, help="the TOML file that describes the real target")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = {}
    seed = os.environ.setdefault("SEED", str(random.randrange(2**32)))  # noqa: S311 - workers inherit it
    if not seed.isdecimal():
        pytest.exit(f"SEED must be a whole number, not {seed!r}.", returncode=2)
    config.stash[_SEED] = int(seed)
    if config.getoption("--contract-target") == "real":
        path = config.getoption("--contract-config")
        if path is None:
            pytest.exit("No configuration: make contract-real CONFIG=real.toml", returncode=2)
        try:
            config.stash[_REAL] = load(path)
        except ConfigError as error:
            pytest.exit(str(error), returncode=2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "result" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--contract-target")
        metafunc.parametrize("result", [wanted] if wanted else ["mock", "process"], indirect=True, scope="session")


@contextlib.contextmanager
def process(mutant: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Serve a mutant of the mock, or none, from a process of its own, and configure it as a real target.

    Gives:
        The configuration file, and the key.
    """
    command = [sys.executable, "-m", "contract_tests.mutants", mutant]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        place: dict[str, str] = json.loads(server.stdout.readline())
        path = folder / "real.toml"
        path.write_text(
            f'base_url = "{place["url"]}"\nnamespace = "contract_tests"\nother_namespace = "empty_one"\n'
            'cancelable = ["bkt_a/btch_1", "bkt_b/btch_2"]\nfinished = ["bkt_a/btch_9=COMPLETED"]\n'
        )
        try:
            yield path, place["api_key"]
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run."""
    return request.config.stash[_SEED]


@pytest.fixture(scope="session")
def result(request: pytest.FixtureRequest, seed: int, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A whole run against the target that the test is for."""
    name: str = request.param
    results = request.config.stash[_RESULTS]
    if name not in results:
        if name == "mock":
            with MutantServer(None) as mock:
                results[name] = Result(run(prepared_target(mock), seed)[0], None)
        elif name == "real":
            try:
                results[name] = against(request.config.stash[_REAL], seed)
            except ConfigError as error:
                pytest.exit(str(error), returncode=2)
        else:
            with process("none", tmp_path_factory.mktemp("process")) as (path, key):
                results[name] = against(load(path, {"MIXPEEK_API_KEY": key}), seed)
    return results[name]


def against(target: Target, seed: int) -> Result:
    """Run against a target that the tests did not start, then compare the mock with it."""
    report, exchanges = run(target, seed)
    return Result(report, compare(report, exchanges))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    wanted = config.getoption("--contract-target")
    for name, found in config.stash[_RESULTS].items():
        if name == wanted:
            terminalreporter.ensure_newline()
            render.terminal(found.report, found.differences, console)
            render.write(found.report, found.differences)
            console.print(f"The same as a page: {os.path.relpath(render.FOLDER / 'index.html')}")
    killed = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == "mutant" and getattr(report, "when", None) == "call"
    ]
    if killed and wanted is None and config.getoption("-m") == "mutants":
        _print_mutants(sorted(killed, key=lambda row: str(row["mutant"])), console)


def _print_mutants(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Mutants", title_justify="left", pad_edge=False, box=None)
    for column in ("mutant", "caught by", "after requests", "seconds"):
        table.add_column(column, justify="right" if column in {"after requests", "seconds"} else "left")
    for row in rows:
        table.add_row(
            row["mutant"], row["caught_by"] or "[bold red]SURVIVED", str(row["after"]), f"{row['seconds']:.2f}"
        )
    console.print(table)
    survivors = [row for row in rows if not row["caught_by"]]
    console.print(f"{len(rows)} mutants, {len(rows) - len(survivors)} caught, {len(survivors)} survived")
    render.FOLDER.mkdir(exist_ok=True)
    (render.FOLDER / "mutants.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
