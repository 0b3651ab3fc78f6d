"""What takes part: each contestant is opened once, then measured in turn with the others, and closed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec

from benchmarks import environments
from benchmarks.environments import BUILD, ROOT, UnavailableError
from benchmarks.server import TASK
from benchmarks.worker import BUCKET, KEY

_HERE = Path(__file__).resolve().parent
_ELSEWHERE = tempfile.gettempdir()  # where nobody imports this checkout
_START_TIMEOUT = 60.0  # seconds

Figures = dict[str, float]
P = ParamSpec("P")
Command = list[str | Path]


@dataclass(frozen=True)
class Contestant:
    """Somebody who takes part.

    Attributes:
        environment: What it needs, besides the server's.
        opened: Gives a function that measures once.
    """

    environment: str
    opened: Callable[[], AbstractContextManager[Callable[[], Figures]]]


def contestant(
    measuring: Callable[Concatenate[str, P], Iterator[Callable[[], Figures]]],
) -> Callable[Concatenate[str, P], Contestant]:
    """Let a generator, whose first argument is an environment, make contestants."""

    def make(environment: str, /, *args: P.args, **kwargs: P.kwargs) -> Contestant:
        return Contestant(environment, lambda: contextmanager(measuring)(environment, *args, **kwargs))

    return make


def _variables() -> dict[str, str]:
    """Give the environment variables of ours that no contestant is led astray by."""
    names = ("MIXPEEK_", "PYTHON", "COVERAGE", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@contextmanager
def _running(command: Command, output: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=None if output == subprocess.PIPE else subprocess.DEVNULL,  # a mock's is its log
        text=True,
        env=_variables(),
        cwd=_ELSEWHERE,
    )
    with process:  # closes its streams
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _said(process: subprocess.Popen[str], who: str) -> Figures:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise UnavailableError(f"{who} ended with an error")
    figures: Figures = json.loads(line)
    return figures


@contextmanager
def server() -> Iterator[str]:
    """Run benchmarks/server.py, and give its URL."""
    with _answering(lambda port: [environments.python("server"), _HERE / "server.py", str(port)]) as (url, _):
        yield url


@contextmanager
def _answering(command: Callable[[int], Command]) -> Iterator[tuple[str, int]]:
    """Run a server, and give its URL and process id once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with _running(command(port)) as process:
        _wait_for_answer(process, port)
        yield f"http://127.0.0.1:{port}", process.pid


@contextmanager
def working(environment: str | None, name: str, url: str, number: int, count: int) -> Iterator[Callable[[], Figures]]:
    """Run a contestant of benchmarks/worker.py; without an environment, in this one."""
    python = sys.executable if environment is None else environments.python(environment)
    with _running([python, _HERE / "worker.py", name, url, str(number)], subprocess.PIPE) as process:

        def measure() -> Figures:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{count}\n")
                process.stdin.flush()
            return _said(process, name)

        yield measure


@contestant
def client(environment: str, name: str, count: int, in_flight: int = 1) -> Iterator[Callable[[], Figures]]:
    """Measure a client against a server of its own that takes everything; bulk is given for 1,000 batches."""
    with server() as url, working(environment, name, url, in_flight, count) as measure:
        yield lambda: _per_thousand(measure(), count)


def _per_thousand(figures: Figures, count: int) -> Figures:
    canceled = figures.pop("canceled", None)
    if canceled is None:
        return figures
    if canceled != count:
        raise UnavailableError(f"{canceled:g} of {count} were cancelled")
    return {"seconds": figures["seconds"] / count * 1000}


@contestant
def process(environment: str, *arguments: str) -> Iterator[Callable[[], Figures]]:
    """Measure a whole process: a command of the environment, in whose arguments URL is that of a server.

    Figures that it prints stand in place of its time.
    """
    with server() as url:
        program = environments.python(environment).with_name(arguments[0])
        command = [str(program), *(argument.replace("URL", url) for argument in arguments[1:])]
        variables = {**_variables(), "MIXPEEK_API_KEY": KEY, "MIXPEEK_BASE_URL": url}

        def measure() -> Figures:
            started = time.perf_counter()
            done = subprocess.run(command, check=False, capture_output=True, env=variables, cwd=_ELSEWHERE)
            seconds = time.perf_counter() - started
            if done.returncode:
                print(done.stdout.decode(), done.stderr.decode(), sep="", file=sys.stderr)
                raise UnavailableError(f"{' '.join(command[:3])} ended with {done.returncode}")
            return json.loads(done.stdout) if done.stdout.startswith(b'{"seconds"') else {"seconds": seconds}

        yield measure


def importing(environment: str, module: str) -> Contestant:
    """Measure an import, each time in a new process."""
    return process(environment, "python", str(_HERE / "importing.py"), module)


_PATH = f"/v1/buckets/{BUCKET}/batches/btch_1/cancel"
_TEST = """\
import pytest
from mixpeek_batches import Client

TASK = {task}

@pytest.mark.parametrize("number", range({count}))
def test_cancel(number, {fixture}):
    {arrange}
    with Client(api_key={key!r}, base_url={url}) as client:
        assert client.cancel_batch("bkt_products", "btch_1").status == "CANCELED"
"""
_ARRANGED = {
    "mock": ("mixpeek_mock", 'mixpeek_mock.add_batch("bkt_products", "btch_1")', "mixpeek_mock.url"),
    "respx": ("respx_mock", f'respx_mock.post("http://127.0.0.1{_PATH}").respond(json=TASK)', '"http://127.0.0.1"'),
    "pytest-httpserver": (
        "httpserver",
        f'httpserver.expect_request("{_PATH}", method="POST").respond_with_json(TASK)',
        'httpserver.url_for("")',
    ),
}


def tests(tool: str, count: int) -> Contestant:
    """Measure a whole run of pytest, in which each test sets up its answer, makes a client and cancels a batch."""
    fixture, arrange, url = _ARRANGED[tool]
    path = BUILD / "bench-tests" / tool / f"test_{count}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        _TEST.format(task=TASK, count=count, fixture=fixture, arrange=arrange, key=KEY, url=url), encoding="utf-8"
    )
    return process(f"test with {tool}", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "/", str(path))


def our_mock(port: int, batches: int = 10) -> Command:
    """Give the command that runs our mock."""
    path = BUILD / f"bench-batches-{batches}.jsonl"
    if not path.exists():
        lines = (
            json.dumps({"bucket_identifier": BUCKET, "batch_id": f"btch_{number}", "inputs": ["obj_1"]})
            for number in range(batches)
        )
        path.write_text("\n".join(lines), encoding="ascii")
    return [environments.python("mock").with_name("mixpeek-batches"), "mock", "--port", str(port), "--batches", path]


def full_mock(port: int) -> Command:
    """Give the command that runs our mock with 100,000 batches."""
    return our_mock(port, 100_000)


def bare(port: int) -> Command:
    """Give the command that runs benchmarks/server.py in the mock's environment, and so under the same uvicorn."""
    return [environments.python("mock"), _HERE / "server.py", str(port)]


def prism(port: int) -> Command:
    """Give the command that runs Prism."""
    return [*environments.prism(), "mock", "-h", "127.0.0.1", "-p", str(port), ROOT / "openapi.yaml"]


def silent_prism(port: int) -> Command:
    """Give the command that runs Prism without a log."""
    return [*prism(port), "-v", "silent"]


@contestant
def starting(environment: str, command: Callable[[int], Command]) -> Iterator[Callable[[], Figures]]:
    """Measure how long a mock takes from its command to its first answer, each time anew."""

    def measure() -> Figures:
        started = time.perf_counter()
        with _answering(command):
            return {"seconds": time.perf_counter() - started}

    yield measure


@contestant
def serving(
    environment: str, command: Callable[[int], Command], count: int, batches: int = 10
) -> Iterator[Callable[[], Figures]]:
    """Measure a mock under load, given for 1,000 requests, and the memory that it holds then."""
    with _answering(command) as (url, pid), working(None, "load", url, batches, count) as load:
        yield lambda: {**_per_thousand(load(), count), "mebibytes": _resident(pid)}


def _resident(pid: int) -> float:
    """Give the memory that a process holds, in MiB."""
    found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True)  # noqa: S607
    return int(found.stdout) / 1024


def _wait_for_answer(process: subprocess.Popen[str], port: int) -> None:
    give_up = time.monotonic() + _START_TIMEOUT
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", _PATH, headers={"Authorization": f"Bearer {KEY}"})
            status = connection.getresponse().status
        except OSError:
            status = 0
        finally:
            connection.close()
        if status == 200:
            return
        if status or process.poll() is not None or time.monotonic() > give_up:
            raise UnavailableError(f"the first answer was {status}" if status else "the server did not start")
        time.sleep(0.002)
