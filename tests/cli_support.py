"""Runs the command against a mock: in this process by click's CliRunner, or as a process where that is the point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from mixpeek_batches.cli import app
from mixpeek_batches.mock import MockServer

INSTALLED = Path(__file__).parent.parent / "build" / "demo" / "bin" / "mixpeek-batches"
"""The command of the wheel, in an environment without any tool of ours."""

KEY = "sk_cli_0123456789"

Done = subprocess.CompletedProcess[str]


class Command:
    """The command against a mock, in a folder of its own.

    Attributes:
        mock: The mock. It holds the running batches x0 to x39 of bucket b, and b/done, which is COMPLETED.
        folder: The folder.
        environment: Variables of the environment; None removes one.
    """

    def __init__(self, mock: MockServer, folder: Path) -> None:
        self.mock = mock
        self.folder = folder
        self.environment: dict[str, str | None] = {"MIXPEEK_BASE_URL": mock.url, "MIXPEEK_API_KEY": KEY}

    def __call__(self, *arguments: str, stdin: str | bytes = "", **environment: str | None) -> Done:
        """Run the command in this process."""
        with patch.object(sys, "argv", ["mixpeek-batches", *arguments]):
            result = CliRunner().invoke(
                app, arguments, input=stdin, env={**self.environment, **environment}, prog_name="mixpeek-batches"
            )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return _checked(Done(arguments, result.exit_code, result.stdout, result.stderr))

    def start(self, *arguments: str, installed: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Start the command as a process: of this checkout, or the one that the wheel installed."""
        assert INSTALLED.exists(), "the wheel is not installed: run `make test`"
        command = [str(INSTALLED)] if installed else [sys.executable, "-m", "mixpeek_batches.cli"]
        environment = {**os.environ, **self.environment}
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": {name: value for name, value in environment.items() if value is not None},
            **options,
        }
        return subprocess.Popen([*command, *arguments], text=True, **options)

    def file(self, content: str, name: str = "batches") -> str:
        """Write a file and return its path."""
        path = self.folder / name
        path.write_text(content)
        return str(path)

    def batches(self, count: int = 40) -> str:
        """Write a file of running batches and return its path."""
        return self.file("".join(f"b,x{n}\n" for n in range(count)))

    @property
    def canceled(self) -> list[str]:
        """The batches that are CANCELED at the mock."""
        return sorted(batch.batch_id for batch in self.mock.batches if batch.status == "CANCELED")


@pytest.fixture(scope="module")
def cli_server() -> Iterator[MockServer]:
    """One mock for all tests of a file, as starting and stopping one takes time."""
    with MockServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def cli(cli_server: MockServer, tmp_path: Path) -> Command:
    """The command."""
    cli_server.reset()
    cli_server.add_batches(
        [{"bucket_identifier": "b", "batch_id": f"x{n}", "status": "IN_PROGRESS"} for n in range(40)]
    )
    cli_server.add_batch("b", "done", status="COMPLETED")
    return Command(cli_server, tmp_path)


def finish(process: subprocess.Popen[str], timeout: float = 30) -> Done:
    """Wait for the end of a process and return its output."""
    out, err = process.communicate(timeout=timeout)
    return _checked(Done(process.args, process.returncode, out or "", err or ""))


def _checked(done: Done) -> Done:
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


def sentence(done: Done) -> str:
    """Return the message on stderr, which must be a single line."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("mixpeek-batches: ")
    return lines[0].removeprefix("mixpeek-batches: ")


def entries(text: str) -> list[dict[str, Any]]:
    """Parse results, which must be complete lines."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def canceled_in(text: str) -> list[str]:
    """Return the batches that are cancelled according to results or a record."""
    return sorted(entry["batch_id"] for entry in entries(text) if entry.get("canceled"))
