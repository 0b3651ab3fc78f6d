"""The target, and the report at the end."""

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

import pytest
from rich.console import Console
from rich.table import Column, Table

from . import render
from .difference import compare
from .mutants import MutantServer
from .report import Report
from .scenario import prepared_target, run
from .target import ConfigError, Target, load

ROOT = Path(__file__).parent.parent

_REAL = pytest.StashKey[Target]()
_SEED = pytest.StashKey[int]()
_REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract tests")
    group.addoption("--contract-target", choices=["mock", "real"], help="write a report on this target")
    group.addoption("--contract-proxies", action="store_true", help="test behind proxies too")
    group.addoption("--contract-config", type=Path, help="the TOML file that describes the real target")


def pytest_configure(config: pytest.Config) -> None:
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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name == "test_proxies.py" and not config.getoption("--contract-proxies") else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "report" in metafunc.fixturenames:
        target = metafunc.config.getoption("--contract-target") or "mock"
        metafunc.parametrize("report", [target], indirect=True, scope="session")


@contextlib.contextmanager
def process(mutant: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Serve a mutant of the mock, or `none`, from a process of its own, and configure it as a real target.

    Yields:
        The configuration file, and the key.
    """
    command = [sys.executable, "-m", "contract_tests.mutants", mutant]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        ready: dict[str, str] = json.loads(server.stdout.readline())
        path = folder / "real.toml"
        path.write_text(
            f'base_url = "{ready["url"]}"\nnamespace = "contract_tests"\nother_namespace = "empty_one"\n'
            'cancelable = ["bkt_a/btch_1", "bkt_b/btch_2"]\n'
            'finished = ["bkt_a/btch_9=COMPLETED", "bkt_b/btch_8=DRAFT"]\n'
        )
        try:
            yield path, ready["api_key"]
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run."""
    return request.config.stash[_SEED]


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest, seed: int) -> Report:
    """The report on a whole run against the target."""
    if request.param == "mock":
        with MutantServer() as mock:
            report = run(prepared_target(mock), seed)
    else:
        try:
            report = run(request.config.stash[_REAL], seed)
        except ConfigError as error:
            pytest.exit(str(error), returncode=2)
        report.differences = compare(report)
    request.config.stash[_REPORT] = report
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    report = config.stash.get(_REPORT, None)
    if report and config.getoption("--contract-target"):
        terminalreporter.ensure_newline()
        render.terminal(report, console)
        render.write(report)
        console.print(f"The same as a page: {os.path.relpath(render.FOLDER / 'index.html')}")
    if config.getoption("-m") == "mutants":
        rows = [
            value
            for reports in terminalreporter.stats.values()
            for test in reports
            for name, value in getattr(test, "user_properties", [])
            if name == "mutant" and getattr(test, "when", None) == "call"
        ]
        _print_mutants(sorted(rows, key=lambda row: str(row["mutant"])), console)


def _print_mutants(rows: list[dict[str, Any]], console: Console) -> None:
    numbers = [Column(name, justify="right") for name in ("after requests", "seconds")]
    table = Table("mutant", "caught by", *numbers, title="Mutants", title_justify="left", pad_edge=False, box=None)
    for row in rows:
        caught_by = row["caught_by"] or "[bold red]SURVIVED"
        table.add_row(row["mutant"], caught_by, str(row["after"]), f"{row['seconds']:.2f}")
    console.print(table)
    survived = sum(not row["caught_by"] for row in rows)
    console.print(f"{len(rows)} mutants, {len(rows) - survived} caught, {survived} survived")
    render.FOLDER.mkdir(exist_ok=True)
    (render.FOLDER / "mutants.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
