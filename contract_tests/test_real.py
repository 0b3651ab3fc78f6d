"""The way to the real API, `make contract-real`: whole, against servers in processes of their own, and by its parts."""

from __future__ import annotations

import html
import io
import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest
from rich.console import Console

from . import clauses as c
from . import render, scenario
from . import requirements as need
from .clauses import CLAUSES
from .conftest import ROOT, process
from .difference import compare
from .mutants import MUTANTS, Mutant, MutantServer, Outgoing
from .report import Report
from .scenario import MOCK_KEY, prepared_target, run
from .target import ConfigError, load

KEY = "sk_real_Zz9Yy8Xx7"


def make_contract_real(config: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MIXPEEK_", "PYTEST_"))}
    environment = {**inherited, "CONTRACT_REPORT": str(folder), **variables}
    command = ["make", "-s", "contract-real", f"CONFIG={config}"]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)


def test_make_contract_real_passes(tmp_path: Path) -> None:
    """A server that keeps the contract: exit 0, the table, the page and the XML, and no key in any of them."""
    with process("none", tmp_path) as (config, key):
        done = make_contract_real(config, tmp_path / "report", MIXPEEK_API_KEY=key)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert "mock ⇄ real: no difference" in done.stdout
    assert f"{c.refusal_changes_nothing.name}: {need.A_MOCK.text}" in done.stdout
    suite = ElementTree.parse(tmp_path / "report" / "junit.xml").getroot()[0]
    assert {f"test_clause[real-{name}]" for name in CLAUSES} < {case.get("name") for case in suite}
    assert suite.get("failures") == "0"
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["requests"] <= 700, "more than five minutes at five requests a second"
    assert report["reached"] >= report["generated"] / 2
    page = (tmp_path / "report" / "index.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)|src=|url\(", page), "the page needs nothing from elsewhere"
    for path in (tmp_path / "report").iterdir():
        assert key not in path.read_text()
    assert key not in done.stdout + done.stderr


def test_make_contract_real_reports_a_wrong_configuration(tmp_path: Path) -> None:
    """Through make, too, a wrong configuration is one sentence and a failure."""
    variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # twice as fast
    done = make_contract_real(tmp_path / "nowhere.toml", tmp_path / "report", **variables)
    assert done.returncode == 2
    assert f"Exit: {tmp_path / 'nowhere.toml'} cannot be read: No such file or directory." in done.stderr
    assert not (tmp_path / "report").exists()


def key_in_a_403(response: Outgoing) -> None:
    response.error(403)
    response.body["error"]["message"] = scenario.KEY


def test_breach_is_shown_without_the_key(tmp_path: Path) -> None:
    """On the terminal, the page and in a failed test: the smallest request, how often and since when; no key."""
    with MutantServer(Mutant(change=key_in_a_403, status=401)) as server:
        target = attrs.evolve(prepared_target(server), mock=None)
        report = run(target, 1, clauses=[c.unknown_batch, c.no_key, c.key_in_full])
    result, terminal = report.results[c.key_in_full], io.StringIO()
    render.terminal(report, Console(file=terminal, width=160))
    render.write(report, tmp_path)
    assert {c.no_key.name, c.key_in_full.name, c.key_not_repeated.name} == {*report.broken}
    assert result.breach is not None
    assert 0 < result.after < report.requests.total()
    page = html.unescape((tmp_path / "index.html").read_text())
    for text in (terminal.getvalue(), page, render.explained(result)):
        assert "expected 401" in text
        assert f"in {result.failures} of {result.checks} checks, first seen after {result.after} requests" in text
        assert result.breach.request in text
        assert result.breach.curl in text
    for path in tmp_path.iterdir():
        assert target.key not in html.unescape(path.read_text())
    assert target.key not in terminal.getvalue() + "".join(map(render.explained, report.having("broken")))


def test_difference_is_listed(tmp_path: Path) -> None:
    """Where a server responds otherwise than the mock, the difference is listed under its clause."""
    mutant = MUTANTS["409 for a finished batch"]
    with MutantServer(mutant) as server:
        report = run(attrs.evolve(prepared_target(server), mock=None), 1, clauses=[c.finished])
        report.differences = compare(report)
    listed = {(one.clause, one.what, one.real, one.mock) for one in report.differences}
    assert (c.finished.name, "status", "409", "400") in listed
    render.write(report, tmp_path)
    assert "<td>409</td><td>400</td>" in (tmp_path / "index.html").read_text()


def configured(folder: Path, more: str) -> Report:
    """Run everything against a server of which a configuration tells the base URL, and a line more."""
    with MutantServer() as server:
        prepared_target(server)
        config = folder / "real.toml"
        config.write_text(f'base_url = "{server.url}"\n{more}\n')
        return run(load(config, {"MIXPEEK_API_KEY": MOCK_KEY}), 1)


def test_what_is_not_configured_is_skipped(tmp_path: Path) -> None:
    """With base_url alone, what needs more is not checked, with what it needs, and nothing is called broken."""
    report = configured(tmp_path, "")
    assert report.broken == []
    skipped = {result.clause.name: result.why_not for result in report.having("not checked")}
    assert skipped[c.cancel.name] == "a batch under cancelable"
    batches = {need.CANCELABLE, need.FINISHED, need.NAMED}
    assert {clause.name for clause in CLAUSES.values() if batches & {*clause.requirements}} <= set(skipped)
    assert c.no_key.name not in skipped


def test_max_requests_is_kept(tmp_path: Path) -> None:
    """No more than max_requests are sent, and what was not reached is not called held."""
    report = configured(tmp_path, "max_requests = 50")
    assert report.requests.total() <= 50
    assert report.results[c.framing].state == "held"
    assert report.results[c.every_status_decided].state == "not checked"
    assert report.results[c.cancel].state == "not checked"
    assert report.results[c.cancel].why_not == report.stopped == "more than max_requests, which is 50"


HERE = 'base_url = "http://127.0.0.1:9"\n'


@pytest.mark.parametrize(
    ("content", "key", "expected"),
    [
        (None, KEY, "cannot be read"),
        ("base_url", KEY, "is not valid TOML"),
        ("", KEY, "'base_url' is a required property"),
        ('base_url = ""', KEY, "base_url "),
        ("base_url = 5", KEY, "base_url 5 is not of type 'string'"),
        ('base_url = "nonsense"', KEY, "must be like"),
        ('base_url = "http://example.com"', KEY, "unencrypted"),
        ('base_url = "https://h:99999"', KEY, "must be like"),
        ('base_url = "https://u:secret@h"', KEY, "user name or password"),
        ('base_url = "http://127.0.0.1:9/ü"', KEY, "ASCII"),
        (f'base_url = "https://{"x" * 70}.invalid"', KEY, "No server responds"),
        (HERE + 'cancelable = ["../b"]', KEY, "another endpoint"),
        (HERE + 'namespace = "a\\nb"', KEY, "control character"),
        (HERE + 'namespace = "a"\nother_namespace = "a"', KEY, "are the same"),
        (HERE + 'namespace_id = "a"', KEY, "goes with namespace"),
        (HERE + "max_requests = inf", KEY, "inf is not a finite number"),
        (HERE + "requests_per_second = nan", KEY, "nan is not a finite number"),
        (HERE + "requests_per_second = 1e-300", KEY, "requests_per_second 1e-300"),
        (HERE + "nope = 1", KEY, "'nope' was unexpected"),
        (HERE + 'cancelable = "a/b"', KEY, "cancelable 'a/b' is not of type 'array'"),
        (HERE + 'cancelable = ["ab"]', KEY, "bucket/batch"),
        (HERE + 'cancelable = ["a/b"]\nfinished = ["a/b"]', KEY, "under both"),
        (HERE + "max_requests = 0", KEY, "max_requests 0 is less than the minimum of 1"),
        (HERE + "own_account = 1", KEY, "own_account 1 is not of type 'boolean'"),
        (HERE + 'requests_per_second = "5"', KEY, "requests_per_second '5' is not of type 'number'"),
        (HERE, None, "MIXPEEK_API_KEY"),
        (HERE, "a b", "MIXPEEK_API_KEY"),
        (HERE, KEY, "No server responds"),
    ],
)
def test_wrong_configuration_is_one_sentence(
    tmp_path: Path, content: str | None, key: str | None, expected: str
) -> None:
    """What is wrong with a configuration is reported in one sentence, before anything is checked."""
    path = tmp_path / "real.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        run(load(path, {} if key is None else {"MIXPEEK_API_KEY": key}), 1)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_example_is_valid() -> None:
    """The example beside the tests is a configuration."""
    assert load(ROOT / "contract_tests" / "real.example.toml", {"MIXPEEK_API_KEY": KEY}).cancelable
