"""The way to the real API, taken to servers in processes of their own: `make contract-real`, by its parts and whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .clause import A_MOCK, CANCELABLE, FINISHED, NAMED
from .clauses import (
    CLAUSES,
    cancel,
    every_status_decided,
    finished,
    key_not_repeated,
    no_key,
    refusal_changes_nothing,
    unknown_batch,
)
from .conftest import ROOT, against, process
from .scenario import run
from .target import ConfigError, load

KEY = "sk_real_Zz9Yy8Xx7"


def _make(config: Path, key: str | None, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MIXPEEK_", "PYTEST_"))}
    if key is not None:
        environment["MIXPEEK_API_KEY"] = key
    environment["CONTRACT_REPORT"] = str(folder)
    command = ["make", "-s", "contract-real", f"CONFIG={config}"]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)


def test_make_contract_real_passes(tmp_path: Path) -> None:
    """A server that keeps the contract: exit 0, the table, the page and the XML, and no key in any of them."""
    with process("none", tmp_path) as (config, key):
        done = _make(config, key, tmp_path / "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert "mock ⇄ real: no difference" in done.stdout
    assert f"{refusal_changes_nothing.name}: {A_MOCK.text}" in done.stdout
    suite = ElementTree.parse(tmp_path / "report" / "junit.xml").getroot()[0]
    assert {f"test_clause[real-{name}]" for name in CLAUSES} < {case.get("name") for case in suite}
    assert suite.get("failures") == "0"
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["reached"] >= report["generated"] / 2
    page = (tmp_path / "report" / "index.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)|src=|url\(", page), "the page needs nothing from elsewhere"
    for path in (tmp_path / "report").iterdir():
        assert key not in path.read_text()
    assert key not in done.stdout + done.stderr


def test_make_contract_real_fails_on_a_breach(tmp_path: Path) -> None:
    """A server that breaks the contract: another exit code, the clause, and the request to repeat it."""
    with process("the key in a 401", tmp_path) as (config, key):
        done = _make(config, key, tmp_path / "report")
    assert done.returncode != 0
    assert f"broken: {key_not_repeated.name} ({key_not_repeated.provenance})" in done.stdout
    assert "curl -sS -i" in done.stdout
    assert key not in done.stdout + done.stderr
    for path in (tmp_path / "report").iterdir():
        assert key not in path.read_text()


def test_difference_is_listed(tmp_path: Path) -> None:
    """Where a server answers otherwise than the mock, the difference is listed under its clause."""
    with process("409 for a finished batch", tmp_path) as (config, key):
        found = against(load(config, {"MIXPEEK_API_KEY": key}), 1).differences or []
    listed = {(difference.clause, difference.what, difference.real, difference.mock) for difference in found}
    assert (finished.name, "status", "409", "400") in listed
    assert all("curl" in difference.curl for difference in found)


def test_no_difference_without_a_breach(tmp_path: Path) -> None:
    """The mock in a process of its own and the mock here answer alike."""
    with process("none", tmp_path) as (config, key):
        assert against(load(config, {"MIXPEEK_API_KEY": key}), 2).differences == []


def test_what_is_not_configured_is_skipped(tmp_path: Path) -> None:
    """With base_url alone, what needs more is not checked, with what it needs, and nothing is called broken."""
    with process("none", tmp_path) as (config, key):
        config.write_text(config.read_text().splitlines()[0])
        report = against(load(config, {"MIXPEEK_API_KEY": key}), 3).report
    assert report.having("broken") == []
    skipped = {finding.clause.name: finding.why_not for finding in report.having("not checked")}
    assert skipped[cancel.name] == "a batch under cancelable"
    assert {clause.name for clause in CLAUSES.values() if {CANCELABLE, FINISHED, NAMED} & {*clause.demands}} <= set(
        skipped
    )
    assert no_key.name not in skipped


def test_max_requests_is_kept(tmp_path: Path) -> None:
    """No more than max_requests are sent, and what was not reached is not called held."""
    with process("none", tmp_path) as (config, key):
        config.write_text(config.read_text() + "max_requests = 50\n")
        report = against(load(config, {"MIXPEEK_API_KEY": key}), 4).report
    assert report.requests.total() <= 50
    assert report.findings[unknown_batch].state == "held"
    assert report.findings[every_status_decided].state == "not checked"
    assert report.findings[cancel].state == "not checked"
    assert report.findings[cancel].why_not == report.stopped == "more than max_requests, which is 50"


@pytest.mark.parametrize(
    ("content", "key", "said"),
    [
        (None, KEY, "cannot be read"),
        ("base_url", KEY, "is not TOML"),
        ("", KEY, "lacks base_url"),
        ('base_url = ""', KEY, "base_url in"),
        ("base_url = 5", KEY, "base_url in"),
        ('base_url = "nonsense"', KEY, "must be like"),
        ('base_url = "http://example.com"', KEY, "unencrypted"),
        ('base_url = "https://h:99999"', KEY, "must be like"),
        ('base_url = "https://u:secret@h"', KEY, "user name or password"),
        ('base_url = "http://127.0.0.1:9/ü"', KEY, "ASCII"),
        (f'base_url = "https://{"x" * 70}.invalid"', KEY, "No server answers"),
        ('base_url = "http://127.0.0.1:9"\ncancelable = ["../b"]', KEY, "another endpoint"),
        ('base_url = "http://127.0.0.1:9"\nnamespace = "a\\nb"', KEY, "control character"),
        ('base_url = "http://127.0.0.1:9"\nnamespace = "a"\nother_namespace = "a"', KEY, "are the same"),
        ('base_url = "http://127.0.0.1:9"\nnamespace_id = "a"', KEY, "goes with namespace"),
        ('base_url = "http://127.0.0.1:9"\nmax_requests = inf', KEY, "max_requests"),
        ('base_url = "http://127.0.0.1:9"\nrequests_per_second = 1e-300', KEY, "too slow"),
        ('base_url = "http://127.0.0.1:9"\nnope = 1', KEY, "unknown setting 'nope'"),
        ('base_url = "http://127.0.0.1:9"\ncancelable = "a/b"', KEY, "must be a list"),
        ('base_url = "http://127.0.0.1:9"\ncancelable = ["ab"]', KEY, "bucket/batch"),
        ('base_url = "http://127.0.0.1:9"\ncancelable = ["a/b"]\nfinished = ["a/b"]', KEY, "under both"),
        ('base_url = "http://127.0.0.1:9"\nmax_requests = 0', KEY, "max_requests"),
        ('base_url = "http://127.0.0.1:9"\nown_account = 1', KEY, "true or false"),
        ('base_url = "http://127.0.0.1:9"\nrequests_per_second = "5"', KEY, "requests_per_second"),
        ('base_url = "http://127.0.0.1:9"', None, "MIXPEEK_API_KEY"),
        ('base_url = "http://127.0.0.1:9"', "a b", "MIXPEEK_API_KEY"),
        ('base_url = "http://127.0.0.1:9"', KEY, "No server answers"),
    ],
)
def test_wrong_config_is_one_sentence(tmp_path: Path, content: str | None, key: str | None, said: str) -> None:
    """What is wrong with a configuration is told in one sentence, before anything is sent."""
    path = tmp_path / "real.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        run(load(path, {} if key is None else {"MIXPEEK_API_KEY": key}), 1)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_make_contract_real_says_what_is_wrong(tmp_path: Path) -> None:
    """Through make, too, a wrong configuration is one sentence and a failure."""
    done = _make(tmp_path / "nowhere.toml", None, tmp_path / "report")
    assert done.returncode == 2
    assert f"Exit: {tmp_path / 'nowhere.toml'} cannot be read: No such file or directory." in done.stderr
    assert not (tmp_path / "report").exists()


def test_example_is_valid() -> None:
    """The example beside the tests is a configuration."""
    assert load(ROOT / "contract_tests" / "real.example.toml", {"MIXPEEK_API_KEY": KEY}).cancelable
