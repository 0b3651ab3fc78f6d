"""The mock, in a process, behind proxies as people run them: no false alarm, and breaches are still noticed."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from .conftest import process
from .difference import compare
from .mutants import MUTANTS
from .proxies import PROXIES, before, missing
from .report import Report
from .scenario import run
from .target import load

BREACHES = (
    "the key in a 401", "a prefix of the key will do", "409 for a finished batch", "identifiers in any case",
    "a 404 says where the batch is", "the machine keeps the key", "only Bearer with a capital", "500 on an emoji",
    "406 for XML", "a body names the batch", "under load, one gets the task of another", "FastAPI's detail",
)  # fmt: skip


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> str:
    """The name of a proxy that is installed."""
    name: str = request.param
    if not request.config.getoption("--contract-proxies"):
        pytest.skip("make contract-proxies runs this")
    command = missing(name)
    if command is not None:
        pytest.skip(f"{name}: {command} is not installed")
    return name


def behind(proxy: str, mutant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Run everything against a mutant behind a proxy."""
    with process(mutant, folder) as (config, key):
        first, *others = config.read_text().splitlines()
        with before(proxy, first.partition('"')[2].rstrip('"'), folder) as (url, authority):
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            config.write_text("\n".join([f'base_url = "{url}"', *others]))
            target = load(config, {"MIXPEEK_API_KEY": key})
            return run(target, 1, until=MUTANTS[mutant].clauses if mutant in MUTANTS else ())


def test_no_false_alarm(proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a proxy does on its own account breaks no clause, and makes no difference between mock and real."""
    report = behind(proxy, "none", tmp_path, monkeypatch)
    assert [(result.clause.name, result.breach) for result in report.having("broken")] == []
    assert not report.stopped
    assert [attrs.evolve(one, curl="") for one in compare(report)] == []


@pytest.mark.parametrize("mutant", BREACHES)
def test_breach_is_noticed(proxy: str, mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noticed without a proxy is noticed behind one."""
    report = behind(proxy, mutant, tmp_path, monkeypatch)
    assert {result.clause for result in report.having("broken")} & {*MUTANTS[mutant].clauses}
