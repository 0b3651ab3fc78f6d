"""What takes part: each contestant is opened once, then measured in turn with the others, and closed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from benchmarks import environments
from benchmarks.environments import ROOT, UnavailableError

KEY = "sk_mock_0123456789abcdef"
CONNECTIONS = 16
_HERE = Path(__file__).resolve().parent
_PATIENCE = 120.0  # seconds for one figure

Figures = dict[str, float]
Opened = contextlib.AbstractContextManager[Callable[[], Figures]]
"""Gives a function that measures once."""


def _environment() -> dict[str, str]:
    """Give the environment variables of ours that no contestant is led astray by."""
    names = ("MIXPEEK_", "PYTHON", "COVERAGE", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _start(command: list[str | Path], errors: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=_environment(),
        cwd=tempfile.gettempdir(),
    )


def _stop(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _line(process: subprocess.Popen[str], who: str) -> Figures:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise UnavailableError(f"{who} ended with an error")
    figures: Figures = json.loads(line)
    return figures


@contextmanager
def _server(delay: float, environment: str) -> Iterator[int]:
    """Run the bare server, and give its port."""
    process = _start([environments.python(environment), _HERE / "server.py", "--delay", str(delay)])
    try:
        port = int(_line(process, "the bare server")["port"])
        _wait_for_answer(process, port, KEY)
        yield port
    finally:
        _stop(process)


def importing(environment: str, module: str) -> Opened:
    """Measure an import, each time in a new process."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Figures]]:
        command: list[str | Path] = [environments.python(environment), _HERE / "importing.py", module]

        def measure() -> Figures:
            process = _start(command)
            try:
                return _line(process, f"import {module}")
            finally:
                _stop(process)

        yield measure

    return opened()


_POST = "import httpx; httpx.post({url!r}, headers={{'Authorization': 'Bearer {key}'}}).raise_for_status()"


def processes(environment: str, *arguments: str) -> Opened:
    """Measure a whole process: the command with arguments, or without any a bare httpx.post of the same request."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Figures]]:
        python = environments.python(environment)
        with _server(0.0, "server") as port:
            url = f"http://127.0.0.1:{port}"
            post = _POST.format(url=f"{url}/v1/buckets/bkt_products/batches/btch_1/cancel", key=KEY)
            command = [str(python.with_name("mixpeek-batches")), *arguments] if arguments else [str(python), "-c", post]
            variables = {**_environment(), "MIXPEEK_API_KEY": KEY, "MIXPEEK_BASE_URL": url}

            def measure() -> Figures:
                started = time.perf_counter()
                done = subprocess.run(
                    command, check=False, capture_output=True, env=variables, cwd=tempfile.gettempdir()
                )
                seconds = time.perf_counter() - started
                if done.returncode:
                    raise UnavailableError(f"{' '.join(arguments) or 'httpx.post'} ended with {done.returncode}")
                return {"seconds": seconds}

            yield measure

    return opened()


def worker(environment: str, name: str, count: int, *, concurrency: int = 1, delay: float = 0.0) -> Opened:
    """Measure a client, in one process of its own against a server of its own."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Figures]]:
        with _server(delay, "server") as port:
            url = f"http://127.0.0.1:{port}"
            command: list[str | Path] = [environments.python(environment), _HERE / "worker.py"]
            process = _start([*command, name, url, str(concurrency)])

            def measure() -> Figures:
                if process.stdin is not None:
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.write(f"{count}\n")
                        process.stdin.flush()
                return _line(process, name)

            try:
                yield measure
            finally:
                _stop(process)

    return opened()


@cache
def wrk() -> str | None:
    """Give the command wrk, if it is installed."""
    return shutil.which("wrk")


def _loaded(port: int, seconds: float, batches: int, key: str) -> float:
    """Load a server, and give its answers a second."""
    found = wrk()
    if found is None:
        command: list[str | Path] = [sys.executable, _HERE / "load.py", str(port), str(seconds), str(CONNECTIONS)]
        command += [str(batches), key]
    else:
        script = environments.BUILD / "bench-wrk.lua"
        script.write_text(
            f'wrk.method = "POST"\nwrk.headers["Authorization"] = "Bearer {key}"\nlocal n = 0\n'
            "function request()\n"
            f"  n = n + 1\n  local id = (n * 7919) % {batches}\n"
            '  return wrk.format(nil, "/v1/buckets/bkt_products/batches/btch_" .. id .. "/cancel")\nend\n',
            encoding="ascii",
        )
        command = [found, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", script]
        command += [f"http://127.0.0.1:{port}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
    if found is None and done.returncode == 0:
        rate: float = json.loads(done.stdout)["rate"]
        return rate
    match = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    if not match or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise UnavailableError(f"the load failed: {(done.stderr or done.stdout).strip()[-100:]}")
    return float(match[1])


def _answers(port: int, key: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    path = "/v1/buckets/bkt_products/batches/btch_0/cancel"
    try:
        connection.request("POST", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return False
    finally:
        connection.close()
    if answer.status != 200:
        raise UnavailableError(f"the first answer was {answer.status}")
    return True


def _wait_for_answer(process: subprocess.Popen[str], port: int, key: str) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not _answers(port, key):
        if process.poll() is not None or time.monotonic() > give_up:
            raise UnavailableError("the server did not start")
        time.sleep(0.002)


def _resident(pid: int) -> float:
    """Give the memory that a process holds, in MiB."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
        kibibytes = int(found[1]) if found else 0
    except OSError:
        ps = shutil.which("ps") or "ps"
        kibibytes = int(subprocess.run([ps, "-o", "rss=", "-p", str(pid)], check=True, capture_output=True).stdout)
    return kibibytes / 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _batches_file(count: int) -> Path:
    path = environments.BUILD / f"bench-batches-{count}.jsonl"
    if not path.exists():
        batch = {"bucket_identifier": "bkt_products", "status": "IN_PROGRESS", "inputs": ["obj_1"]}
        lines = (json.dumps({**batch, "batch_id": f"btch_{number}"}) for number in range(count))
        path.write_text("\n".join(lines), encoding="ascii")
    return path


def our_mock(port: int, batches: int) -> list[str | Path]:
    """Give the command that runs our mock."""
    command = environments.python("mock").parent / "mixpeek-batches"
    return [command, "mock", "--port", str(port), "--batches", _batches_file(batches)]


def prism(port: int, _: int) -> list[str | Path]:
    """Give the command that runs Prism."""
    return [*environments.prism(), "mock", "-h", "127.0.0.1", "-p", str(port), ROOT / "openapi.yaml"]


def silent_prism(port: int, _: int) -> list[str | Path]:
    """Give the command that runs Prism without a log."""
    return [*prism(port, 0), "-v", "silent"]


Command = Callable[[int, int], list[str | Path]]


def starting(command: Command) -> Opened:
    """Measure how long a mock takes from its command to its first answer, each time anew."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Figures]]:
        def measure() -> Figures:
            port = _free_port()
            started = time.perf_counter()
            process = _start(command(port, 10), subprocess.DEVNULL)
            try:
                _wait_for_answer(process, port, KEY)
                return {"seconds": time.perf_counter() - started}
            finally:
                _stop(process)

        yield measure

    return opened()


def serving(command: Command, seconds: float, batches: int = 10) -> Opened:
    """Measure a mock under load, and the memory that it holds then."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Figures]]:
        port = _free_port()
        process = _start(command(port, batches), subprocess.DEVNULL)
        try:
            _wait_for_answer(process, port, KEY)
            yield lambda: {
                "rate": _loaded(port, seconds, batches, KEY),
                "mebibytes": _resident(process.pid),
            }
        finally:
            _stop(process)

    return opened()


def bare_serving(seconds: float) -> Opened:
    """Measure the bare server under load, in the mock's environment."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Figures]]:
        with _server(0.0, "mock") as port:
            yield lambda: {"rate": _loaded(port, seconds, 10, KEY)}

    return opened()
