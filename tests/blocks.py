"""Runs the code blocks of a page as a reader would: in one folder, from top to bottom, with a mock as the API."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
_PORT = "8377"
_NUMBER = re.compile(r"[0-9](?:[0-9,]|\.(?=[0-9]))*")
_PROGRESS = re.compile(r"^mixpeek-batches: [0-9,]+ of [0-9,]+: .*\n", re.MULTILINE)  # only if a run takes long


class Block(NamedTuple):
    """A code block.

    Attributes:
        kind: The language, and a mark that says more: `python` runs, `python NAME.py` is saved, and run by pytest if it
            is a test. `sh` runs in bash, `sh background` until the end of the page. `text output` is what the block
            before it prints, where … stands for anything; `text messages` is what it writes to stderr, where numbers
            may differ. `json` and `yaml` are only parsed.
        code: The code.
    """

    kind: str
    code: str


def blocks(text: str) -> list[Block]:
    """List the code blocks of a page."""
    return [Block(*found) for found in re.findall(r"^```(\w+(?: \S+)?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def run(page: list[Block], url: str) -> None:
    """Run all blocks of a page in the working directory, with the API at a URL.

    Raises:
        AssertionError: If a block fails, or prints something else than the page shows.
    """
    stdout = stderr = ""
    with contextlib.ExitStack() as stack:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        for kind, original in page:
            code = original.replace(_PORT, port)
            match kind.split():
                case ["python"]:
                    with contextlib.redirect_stdout(io.StringIO()) as printed:
                        exec(compile(code, kind, "exec"), {"__name__": "__main__"})
                    stdout = printed.getvalue()
                case ["python", name]:
                    Path(name).write_text(code, encoding="utf-8")
                case ["sh", "background"]:
                    command = ["bash", "-c", f"exec {code}"]
                    server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
                    stack.callback(server.terminate)
                    assert server.stdout is not None
                    assert server.stdout.readline(), "it ended before it accepted connections"
                case ["sh"] if re.match("make |pip ", code):
                    _check_setup(code)
                case ["sh"]:
                    stdout, stderr = _completed(["bash", "-euo", "pipefail", "-c", code])
                case ["json"]:
                    json.loads(code)
                case ["yaml"]:
                    assert isinstance(yaml.safe_load(code), dict)
                case ["text", "output"]:
                    pattern = ".*".join(map(re.escape, code.strip().split("…")))
                    written = "\n".join(line.rstrip() for line in stdout.strip().splitlines())
                    assert re.fullmatch(pattern, written, re.DOTALL), f"written:\n{stdout}\nnot:\n{code}"
                case ["text", "messages"]:
                    written = _PROGRESS.sub("", stderr).replace(url, "https://api.mixpeek.com")
                    assert _without_numbers(written) == _without_numbers(code), f"written:\n{stderr}\nnot:\n{code}"
                case _:
                    raise AssertionError(f"Blocks of kind {kind!r} cannot be run.")
        if list(Path().glob("test_*.py")):
            # In one run, without other plugins, which take seconds to load.
            plugins = ["--disable-plugin-autoload", "-p", "mixpeek_batches", "-p", "no:cacheprovider"]
            _completed([sys.executable, "-m", "pytest", "-q", *plugins])


def _without_numbers(text: str) -> str:
    return _NUMBER.sub("7", " ".join(text.split()))


def _check_setup(code: str) -> None:
    """Check commands without running them: CI itself calls the make targets, and they install the package."""
    for target in re.findall(r"^make (\S+)", code, re.MULTILINE):
        _completed(["make", "--dry-run", "--silent", "-C", str(ROOT), target])
    for installed in re.findall(r"^pip install (.*)$", code, re.MULTILINE):
        found = re.match(r"(?:--find-links dist )?'(?:\.|mixpeek-batches)\[([\w,]+)\]'", installed)
        assert found, installed
        assert {*found[1].split(",")} <= {*metadata("mixpeek-batches").get_all("Provides-Extra", [])}


def _completed(command: list[str]) -> tuple[str, str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr
