"""README.md is true: what it shows runs, and what it links to is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import mixpeek_batches
from mixpeek_batches.mock import MockServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)( \w+)?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BIN = ROOT / "build" / "demo" / "bin"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """The settings of a reader whose API is a mock that holds the batches of the README."""
    with MockServer() as mock:
        mock.add_batch("bkt_products", "btch_123", namespace="netflix_prod", status="IN_PROGRESS")
        mock.add_batch("bkt_products", "btch_completed", status="COMPLETED")
        for number in range(100):
            mock.add_batch("bkt_products", f"btch_{number}")
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        yield {**os.environ, "PATH": path, "MIXPEEK_BASE_URL": mock.url, "MIXPEEK_API_KEY": mock.api_key}


def _run(command: list[str], environment: dict[str, str], **more: str) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=60, cwd=more.get("cwd")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PYTHON = [code for language, mark, code in BLOCKS if language == "python" and not mark]
TESTS = [code for language, mark, code in BLOCKS if language == "python" and mark == " test"]
# `pip` and `make` lines are run by CI itself, which installs the package and calls the targets.
SHELL = [code for language, mark, code in BLOCKS if language == "sh" and not re.match(r"(pip|make|export)", code)]


def test_every_block_is_run() -> None:
    """No block is in a language that nothing here runs, and every kind is there."""
    assert {language for language, _, _ in BLOCKS} == {"python", "sh"}
    assert PYTHON
    assert TESTS
    assert len(SHELL) >= 3


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Each Python example runs as it stands, with the installed wheel."""
    (tmp_path / "example.py").write_text(code)
    _run([str(BIN / "python"), str(tmp_path / "example.py")], environment)


@pytest.mark.parametrize("code", TESTS)
def test_tests_pass(code: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Each example of a test passes, in a pytest of its own."""
    (tmp_path / "test_example.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    assert "1 passed" in _run(command, environment, cwd=str(tmp_path))


def test_shell_lines_run(environment: dict[str, str], tmp_path: Path) -> None:
    """Each command line runs as it stands; the one marked as background is there for those after it."""
    background = [code for language, mark, code in BLOCKS if language == "sh" and mark == " background"]
    servers = [subprocess.Popen(["bash", "-c", f"exec {code}"], env=environment) for code in background]
    try:
        for code in background:
            port = int(re.findall(r"--port (\d+)", code)[0])
            _wait_for(f"http://127.0.0.1:{port}/_mock/")
        for code in SHELL:
            if code not in background:
                _run(["bash", "-euo", "pipefail", "-c", code], environment, cwd=str(tmp_path))
    finally:
        for server in servers:
            server.terminate()
            server.wait(10)


def _wait_for(url: str) -> None:
    for _ in range(500):
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{url} did not answer in 10 s")


def test_links_lead_somewhere() -> None:
    """Each link to a heading or a file of the project has its target."""
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (ROOT / target).exists(), target


def test_tables_name_what_there_is() -> None:
    """Every error that the package has is in the README, and every make target it shows exists."""
    errors = {name for name in mixpeek_batches.__all__ if name.endswith("Error")} - {"MixpeekError"}
    assert errors <= set(re.findall(r"`(\w+)`", README))
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
