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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import environments
from benchmarks.environments import BUILD, ROOT, UnavailableError
from benchmarks.server import TASK
from benchmarks.worker import BUCKET, KEY

_HERE = Path(__file__).resolve().parent
_ELSEWHERE = tempfile.gettempdir()  # where nobody imports this checkout
_START_TIMEOUT = 60.0  # seconds

Figures = dict[str, float]
Measure = Callable[[], Figures]
Command = list[str | Path]


@dataclass(frozen=True)
class Contestant:
    """Somebody who takes part.

    Attributes:
        environment: What it needs, besides the server's.
        opened: Opens it, for a function that measures once.
    """

    environment: str
    opened: Callable[[], AbstractContextManager[Measure]]


def _variables() -> dict[str, str]:
    """Return the environment variables without those that would lead a contestant astray."""
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


@contextmanager
def _serving(command: Callable[[int], Command]) -> Iterator[str]:
    """Run a server, and yield its URL once it responds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with _running(command(port)) as process:
        _wait_for_response(process, port)
        yield f"http://127.0.0.1:{port}"


def _wait_for_response(process: subprocess.Popen[str], port: int) -> None:
    give_up = time.monotonic() + _START_TIMEOUT
    while True:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            try:
                connection.request("POST", _PATH, headers={"Authorization": f"Bearer {KEY}"})
                status = connection.getresponse().status
            except OSError:
                status = 0
        if status == 200:
            return
        if status or process.poll() is not None or time.monotonic() > give_up:
            raise UnavailableError(f"the first response was {status}" if status else "the server did not start")
        time.sleep(0.002)


def server() -> AbstractContextManager[str]:
    """Run benchmarks/server.py, for its URL."""
    return _serving(lambda port: [environments.python("server"), _HERE / "server.py", str(port)])


@contextmanager
def working(python: str | Path, name: str, url: str, number: int, count: int) -> Iterator[Measure]:
    """Run a contestant of benchmarks/worker.py with an interpreter."""
    with _running([python, _HERE / "worker.py", name, url, str(number)], subprocess.PIPE) as process:

        def measure() -> Figures:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{count}\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise UnavailableError(f"{name} ended with an error")
            figures: Figures = json.loads(line)
            return figures

        yield measure


def client(environment: str, name: str, count: int, in_flight: int = 1) -> Contestant:
    """Measure a client against a server of its own that takes everything; bulk is scaled to 1,000 batches."""
    return _in_new_processes(environment, server, environments.python(environment), name, in_flight, count)


def _in_new_processes(
    environment: str,
    serve: Callable[[], AbstractContextManager[str]],
    python: str | Path,
    name: str,
    number: int,
    count: int,
) -> Contestant:
    """Measure a contestant of benchmarks/worker.py at a server, each time in new processes, once they are warm."""

    # Processes that run the same program differ by up to a tenth in speed, and each keeps its own.
    def measure() -> Figures:
        with serve() as url, working(python, name, url, number, count) as work:
            work()
            return _per_thousand(work(), count)

    return Contestant(environment, lambda: nullcontext(measure))


def _per_thousand(figures: Figures, count: int) -> Figures:
    if "canceled" not in figures:
        return figures
    if figures["canceled"] != count:
        raise UnavailableError(f"{figures['canceled']:g} of {count} were cancelled")
    return {"seconds": figures["seconds"] / count * 1000}


def process(environment: str, *arguments: str) -> Contestant:
    """Measure a whole process: a command of the environment, in whose arguments URL is that of a server.

    Figures that it prints stand in place of its time.
    """

    @contextmanager
    def opened() -> Iterator[Measure]:
        with server() as url:
            program = environments.python(environment).with_name(arguments[0])
            command = [str(program), *(argument.replace("URL", url) for argument in arguments[1:])]
            yield partial(_measure_process, command, url)

    return Contestant(environment, opened)


def _measure_process(command: list[str], url: str) -> Figures:
    variables = {**_variables(), "MIXPEEK_API_KEY": KEY, "MIXPEEK_BASE_URL": url}
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=variables, cwd=_ELSEWHERE)
    seconds = time.perf_counter() - started
    if done.returncode:
        print(done.stdout, done.stderr, sep="", file=sys.stderr)
        raise UnavailableError(f"{' '.join(command[:3])} ended with {done.returncode}")
    return json.loads(done.stdout) if done.stdout.startswith('{"seconds"') else {"seconds": seconds}


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
    """Measure a whole run of pytest, in which each test sets up its response, makes a client and cancels a batch."""
    fixture, arrange, url = _ARRANGED[tool]
    path = BUILD / "bench-tests" / tool / f"test_{count}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _TEST.format(task=TASK, count=count, fixture=fixture, arrange=arrange, key=KEY, url=url)
    path.write_text(text, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", "/", "-c", os.devnull]  # and none of this repository
    return process(f"test with {tool}", "pytest", *options, str(path))


def our_mock(port: int) -> Command:
    """Return the command that runs our mock, with ten batches."""
    path = BUILD / "bench-batches.jsonl"
    rows = [{"bucket_identifier": BUCKET, "batch_id": f"btch_{n}", "inputs": ["obj_1"]} for n in range(10)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="ascii")
    return [environments.python("mock").with_name("mixpeek-batches"), "mock", "--port", str(port), "--batches", path]


def silent_mock(port: int) -> Command:
    """Return the command that runs our mock as a test run starts it, without a log."""
    return [environments.python("mock"), _HERE / "server.py", str(port), "mock", BUCKET]


def bare(port: int) -> Command:
    """Return the command that runs the app of benchmarks/server.py as our mock runs, under the same uvicorn."""
    return [environments.python("mock"), _HERE / "server.py", str(port), "like-the-mock"]


def prism(port: int) -> Command:
    """Return the command that runs Prism."""
    return [*environments.prism(), "mock", "-h", "127.0.0.1", "-p", str(port), ROOT / "openapi.yaml"]


def silent_prism(port: int) -> Command:
    """Return the command that runs Prism without a log."""
    return [*prism(port), "-v", "silent"]


def serving(environment: str, command: Callable[[int], Command], count: int) -> Contestant:
    """Measure a mock under load over 16 connections, scaled to 1,000 requests."""
    return _in_new_processes(environment, lambda: _serving(command), sys.executable, "load", 16, count)
