"""Runs the code blocks of a page as a reader would: from top to bottom, in one folder, with a mock as the API."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import httpx
import yaml

from mixpeek_batches.mock import MockServer

ROOT = Path(__file__).parent.parent
BIN = ROOT / "build" / "demo" / "bin"
_FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = "8377"


@attrs.frozen
class Block:
    """A code block: its language, the mark behind it, and the code.

    Python runs in the environment of a reader who installed the wheel, and in pytest after the other blocks if it is
    marked `test`; `sh` runs in bash, marked `background` until the end of the page; `text output` is what the block
    before it prints, where … stands for anything, and `text messages` what it writes to stderr, where any number may be
    another; `json` and `yaml` are only read.
    """

    language: str
    mark: str
    code: str

    @property
    def kind(self) -> str:
        """Language and mark in one."""
        return f"{self.language} {self.mark}".strip()


def blocks(text: str) -> list[Block]:
    """List the code blocks of a page."""
    return [Block(language, mark, code) for language, mark, code in _FENCE.findall(text)]


def run(page: list[Block], folder: Path) -> None:
    """Run all blocks of a page in a folder.

    Raises:
        AssertionError: One fails, or prints something else than the page says.
    """
    with ExitStack() as stack:
        variables = _variables(stack.enter_context(MockServer()))
        url, port, printed, said = variables["MIXPEEK_BASE_URL"], _free_port(), "", ""
        for number, block in enumerate(page):
            code = block.code.replace(_PORT, port)
            match block.kind:
                case "python":
                    file = folder / f"example_{number}.py"
                    file.write_text(code, encoding="utf-8")
                    printed = _run([str(BIN / "python"), str(file)], variables, folder)
                case "python test":
                    (folder / f"test_{number}.py").write_text(code, encoding="utf-8")
                case "sh background":
                    server = subprocess.Popen(["bash", "-c", f"exec {code}"], env=variables, cwd=folder)
                    stack.callback(_end, server)
                    _wait_for(f"http://127.0.0.1:{port}/_mock/")
                case "sh" if re.match("pip ", code):
                    _check_installable(code)
                case "sh" if re.match("make ", code):
                    # Dry: CI itself calls the targets.
                    for target in re.findall(r"^make ([\w-]+)", code, re.MULTILINE):
                        _run(["make", "--dry-run", "--silent", target], variables, ROOT)
                case "sh":
                    done = _done(["bash", "-euo", "pipefail", "-c", code], variables, folder)
                    printed, said = done.stdout, done.stderr
                case "json":
                    json.loads(code)
                case "yaml":
                    assert isinstance(yaml.safe_load(code), dict)
                case "text output":
                    _check_text(printed, ".*".join(map(re.escape, code.strip().split("…"))))
                case "text messages":
                    escaped = re.escape(" ".join(code.split()))
                    pattern = re.sub(r"[0-9](?:[0-9,]|\\\.(?=[0-9]))*", "[0-9][0-9.,]*", escaped)
                    _check_text(" ".join(said.replace(url, "https://api.mixpeek.com").split()), pattern)
                case _:
                    raise AssertionError(f"Nothing here runs a block of {block.kind!r}.")
        if list(folder.glob("test_*.py")):
            # In one run, without the plugins that are installed here and take seconds to load.
            plugins = ["--disable-plugin-autoload", "-p", "mixpeek_batches", "-p", "no:cacheprovider"]
            _run([sys.executable, "-m", "pytest", "-q", *plugins], variables, folder)


def _variables(mock: MockServer) -> dict[str, str]:
    """Put the batches of the pages into the mock, and give the environment of a reader whose API it is."""
    task: dict[str, Any] = {"task_id": "task_7c9e6679", "inputs": ["obj_1", "obj_2"], "outputs": ["doc_1"]}
    mock.add_batch("bkt_products", "btch_123", namespace="netflix_prod", status="IN_PROGRESS", **task)
    mock.add_batch("bkt_products", "btch_trailer", namespace="netflix_prod", status="IN_PROGRESS")
    mock.add_batch("bkt_products", "btch_completed", status="COMPLETED")
    for number in range(1, 1001):
        mock.add_batch("bkt_products", f"btch_{number}", status="IN_PROGRESS")
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "MIXPEEK_BASE_URL": mock.url, "MIXPEEK_API_KEY": mock.api_key}


def _check_text(text: str, pattern: str) -> None:
    """Hold what was written to what the page shows."""
    trimmed = "\n".join(line.rstrip() for line in text.strip().splitlines())
    assert re.fullmatch(pattern, trimmed, re.DOTALL), f"written:\n{text}\nnot:\n{pattern}"


def _run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    return _done(command, environment, folder).stdout


def _done(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60, cwd=folder)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done


def _check_installable(code: str) -> None:
    """Hold what is installed to this package and the extras that it has."""
    metadata = subprocess.run(
        [str(BIN / "python"), "-c", "from importlib.metadata import metadata as m; "
         "print(*m('mixpeek-batches').get_all('Provides-Extra'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    for line in re.findall(r"^pip (.*)$", code, re.MULTILINE):
        found = re.fullmatch(r"install '?mixpeek-batches(?:\[([\w,]+)\])?'?", line)
        assert found, line
        assert set((found[1] or "").split(",")) <= {"", *metadata.stdout.split()}, line


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _end(server: subprocess.Popen[bytes]) -> None:
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
