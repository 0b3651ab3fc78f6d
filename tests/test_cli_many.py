"""`cancel --from` as a process: what it reads, what it leaves on record however it ends, and what a terminal shows."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bulk import wait_until
from cli_support import KEY, Done, checkout, command_of, run, wheel

from mixpeek_batches.cli import many, progress
from mixpeek_batches.mock import MockServer


@pytest.fixture
def command(request: pytest.FixtureRequest) -> list[str]:
    """The command: within this process, unless the test is marked otherwise."""
    return command_of(getattr(request, "param", "here"))


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """A mock for all tests of this file, as to start and to stop one takes its time."""
    with MockServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def mock(server: MockServer) -> MockServer:
    """A mock with 40 running batches, a finished one, and a key of its own."""
    server.reset()
    server.add_batches([{"bucket_identifier": "b", "batch_id": f"x{n}", "status": "IN_PROGRESS"} for n in range(40)])
    server.add_batch("b", "done", status="COMPLETED")
    return server


class Command:
    """The command against the mock, in a folder of its own; the key must not show in anything that it says."""

    def __init__(self, command: list[str], mock: MockServer, folder: Path) -> None:
        self.command = command
        self.mock = mock
        self.folder = folder
        self.environment = {
            **os.environ,
            **{"MIXPEEK_BASE_URL": mock.url, "MIXPEEK_API_KEY": KEY, "TERM": "xterm", "COLUMNS": "100"},
        }

    def file(self, content: str | bytes, name: str = "batches") -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def many(self, count: int = 40) -> str:
        """Write a file of running batches."""
        return self.file("".join(f"b,x{n}\n" for n in range(count)))

    def run(self, *arguments: str, stdin: str | bytes = "", yes: bool = True, **options: Any) -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        given = ["cancel", *arguments, *(["--yes"] if yes and "--from" in arguments else [])]
        return run(self.command, given, self.environment, data, **options)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([*self.command, "cancel", *arguments], env=self.environment, text=True, **options)

    @property
    def canceled(self) -> set[str]:
        """The batches that are CANCELED at the mock."""
        return {batch.batch_id for batch in self.mock.batches if batch.status == "CANCELED"}


@pytest.fixture
def cli(command: list[str], mock: MockServer, tmp_path: Path) -> Command:
    return Command(command, mock, tmp_path)


def entries(text: str) -> list[dict[str, Any]]:
    """Read lines of which each must be a whole result."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def ids(text: str) -> list[str]:
    """Give the batches that lines say are cancelled."""
    return sorted(entry["batch_id"] for entry in entries(text) if entry["canceled"])


def recorded(record: Path) -> str:
    """Give the results on record: all but its first line, which names the server."""
    return record.read_text().partition("\n")[2]


# What it reads


@wheel
def test_file(cli: Command) -> None:
    """Each line is a batch, each result a JSON line on stdout, and stderr ends with a summary."""
    done = cli.run("--from", cli.many())
    assert done.returncode == 0
    assert ids(done.stdout) == sorted(cli.canceled)
    assert len(entries(done.stdout)) == len(cli.mock.requests) == 40
    assert re.fullmatch(r"mixpeek-batches: 40 of 40 batches cancelled in [0-9.]+ s( \([0-9,]+/s\))?\.\n", done.stderr)
    entry = next(entry for entry in entries(done.stdout) if entry["batch_id"] == "x7")
    assert entry["task"] == cli.mock.batch("b", "x7").task()


def test_stdin(cli: Command) -> None:
    """`-` is standard input."""
    done = cli.run("--from", "-", stdin="b,x1\nb,x2\n")
    assert (done.returncode, cli.canceled) == (0, {"x1", "x2"})


FORMS = {
    "crlf": b"b,x1\r\nb,x2\r\n",
    "no-last-line-end": b"b,x1\nb,x2",
    "blank-lines": b"\n\nb,x1\n   \n\r\nb,x2\n\n",
    "json": b'{"bucket_identifier": "b", "batch_id": "x1"}\n  {"batch_id":"x2","bucket_identifier":"b","more":[1]}\n',
    "mixed": b'b,x1\n{"bucket_identifier": "b", "batch_id": "x2", "namespace": null}\n',
    "quotes": b'"b","x1"\nb,"x2"\n',
    "byte-order-mark": b"\xef\xbb\xbfb,x1\nb,x2\n",
    "utf-16": "b\tx1\r\nb\tx2\r\n".encode("utf-16"),
    "separator-told": b"sep=;\r\nb;x1\r\nb;x2\r\n",
    "spaces": b' b , x1\n b, "x2" \n',
    "short-json": b'{"bucket": "b", "batch": "x1"}\n{"bucket_id": "b", "batch": "x2"}\n',
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_form(cli: Command, content: bytes) -> None:
    """Lines may be CSV or JSON, end in either way, and be blank."""
    done = cli.run("--from", cli.file(content))
    assert (done.returncode, ids(done.stdout), cli.canceled) == (0, ["x1", "x2"], {"x1", "x2"})


def test_odd_identifiers(cli: Command) -> None:
    """Commas, quotes, spaces and any Unicode arrive as they were written, and a namespace with them."""
    cli.mock.add_batch('b,"1"', "ü /🎬", status="PENDING", namespace="näme")
    line = '{"bucket_identifier": "b,\\"1\\"", "batch_id": "ü /🎬", "namespace": "näme"}\n'
    assert cli.run("--from", cli.file(line)).returncode == 0
    done = cli.run("--from", cli.file('"b,""1""",ü /🎬\n'), "--namespace", "näme")
    (entry,) = entries(done.stdout)
    assert (entry["bucket_identifier"], entry["batch_id"], entry["namespace"]) == ('b,"1"', "ü /🎬", "näme")
    assert entry["canceled"]


def test_empty_file(cli: Command) -> None:
    """Nothing to do is no failure."""
    done = cli.run("--from", cli.file(""))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "mixpeek-batches: There is nothing to cancel.\n"


WRONG_LINES = {
    "one-field": b"b",
    "four-fields": b"b,x1,ns,x",
    "empty-batch": b"b,",
    "dots": b"b,..",
    "open-quote": b'"b,x1',
    "cut-json": b'{"bucket_identifier": "b"',
    "json-lacks": b'{"bucket_identifier": "b"}',
    "json-number": b'{"bucket_identifier": "b", "batch_id": 7}',
    "json-namespace": b'{"bucket_identifier": "b", "batch_id": "x1", "namespace": "a\\tb"}',
    "deep-json": b'{"a":' * 10_000,
    "latin-1": b"b,\xfc",
}


@pytest.mark.parametrize("line", [WRONG_LINES["one-field"], WRONG_LINES["deep-json"]], ids=["one-field", "deep-json"])
def test_malformed_line(cli: Command, line: bytes) -> None:
    """A line that cannot be used stops everything before anything is sent, and is named by its number."""
    done = cli.run("--from", cli.file(b"b,x1\n\n" + line + b"\nb,x2\n"))
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert f"{cli.folder}/batches, line 3: " in done.stderr
    assert "Nothing was sent; --skip-invalid leaves it out." in done.stderr


def test_malformed_lines(cli: Command) -> None:
    """Each kind of line that cannot be used is found, and told in a line of its own."""
    lines = [b"b,x1", *WRONG_LINES.values()]
    done = cli.run("--from", cli.file(b"\n".join(lines)), "--skip-invalid", "--dry-run")
    told = [int(number) for number in re.findall(r"batches, line ([0-9]+): ", done.stderr)]
    assert told == list(range(2, len(lines) + 1))
    assert "Would cancel 1 batch" in done.stderr


def test_skip_invalid(cli: Command) -> None:
    """With --skip-invalid such lines are told, the others done, and the exit code is 1."""
    done = cli.run("--from", "-", "--skip-invalid", stdin=b"b,x1\nnonsense\nb,x2\nb,..\n")
    assert (done.returncode, cli.canceled) == (1, {"x1", "x2"})
    assert "standard input, line 2: it has one column: nonsense" in done.stderr
    assert "standard input, line 4: " in done.stderr


def test_failures(cli: Command) -> None:
    """What fails is on stdout with its error, in the summary by its class, and the exit code is 1."""
    done = cli.run("--from", cli.file("b,x1\nb,done\nb,none\n"))
    assert (done.returncode, cli.canceled) == (1, {"x1"})
    errors = {entry["batch_id"]: entry["error"]["class"] for entry in entries(done.stdout) if entry["error"]}
    assert errors == {"done": "BadRequestError", "none": "NotFoundError"}
    assert "1 of 3 batches cancelled" in done.stderr
    assert re.search(r"1  400 COMPLETED: nothing to cancel +such as done of b\n", done.stderr)
    assert re.search(r"1  404: no such batch in the key's default namespace +such as none of b\n", done.stderr)


def test_server_that_repeats_the_key(cli: Command) -> None:
    """A key in an answer is neither on stdout nor in the record."""
    cli.mock.fail_next(401, body={"error": {"message": f"bad {KEY}", "details": {"key": KEY}}}, times=3)
    record = cli.folder / "record"
    assert cli.run("--from", cli.many(3), "--resume", str(record)).returncode == 1
    assert KEY not in record.read_text()
    assert "bad [API key]" in record.read_text()


def test_dry_run(cli: Command) -> None:
    """--dry-run counts, and sends nothing."""
    done = cli.run("--from", cli.many(), "--dry-run")
    assert (done.returncode, done.stdout, cli.mock.requests) == (0, "", [])
    assert f"Would cancel 40 batches of 1 bucket in the key's default namespace at {cli.mock.url}:" in done.stderr
    assert "Nothing was sent." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["b", "x1", "--from", "-"], "or a file by --from"),
        (["b", "--from", "-"], "or a file by --from"),
        (["b", "x1", "--resume", "r"], "goes with --from"),
        (["b", "x1", "--skip-invalid"], "goes with --from"),
        (["--from", "/nonexistent/file"], "/nonexistent/file cannot be read: No such file"),
        (["--from", "/"], "/ cannot be read: Is a directory"),
        (["--from", "-", "--concurrency", "0"], "0 is not in the range"),
        (["--from", "-", "--concurrency", "1001", "--dry-run"], "1001 is not in the range"),
        (["--from", "-", "--resume", "/nonexistent/file"], "/nonexistent/file cannot be used: No such file"),
        (["--from", "-", "--resume", "/dev/full"], "/dev/full cannot be used: it is no regular file"),
        (["--from", "-", "--namespace", "a\tb"], "control character"),
    ],
)
def test_wrong_usage(cli: Command, arguments: list[str], said: str) -> None:
    """What makes no sense is told, with exit code 2, and nothing is sent."""
    done = cli.run(*arguments, stdin="b,x1\n")
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert said in re.sub(r"[\s│]+", " ", done.stderr)


def test_plan_of_several_namespaces(cli: Command) -> None:
    """What would be cancelled is told with its first few; a batch that is named twice counts once."""
    done = cli.run("--from", cli.file("b,x1\nc,x2,n\nb,x1,m\nb,x1\nb,x3\n"), "--dry-run")
    assert done.stderr == (
        "mixpeek-batches: 1 line names a batch that was named before; each batch is sent once.\n"
        f"mixpeek-batches: Would cancel 4 batches of 2 buckets in 3 namespaces at {cli.mock.url}:\n"
        "  x1 of b in the key's default namespace\n"
        "  x2 of c in namespace n\n"
        "  x1 of b in namespace m\n"
        "  … and 1 more\n"
        "Nothing was sent.\n"
    )


def test_many_lines_that_cannot_be_used(cli: Command) -> None:
    """The first twenty are listed, and how many more there are; what a line is to be is told once."""
    done = cli.run("--from", cli.file("b,x\n" + "nonsense\n" * 1000))
    assert done.returncode == 2
    assert done.stderr.count("it has one column: nonsense\n") == 20
    assert done.stderr.count("--columns 1,2") == 1
    assert "\n… and 980 more\n" in done.stderr
    assert done.stderr.endswith("1,000 lines cannot be used. Nothing was sent; --skip-invalid leaves them out.\n")


def test_columns(cli: Command) -> None:
    """A spreadsheet of other columns is read by --columns."""
    assert cli.run("--from", cli.file("u;x1;b\nu;x2;b\n"), "--columns", "3,2").returncode == 0
    assert cli.canceled == {"x1", "x2"}


# The record


def test_resume(cli: Command) -> None:
    """What is on record as cancelled is skipped; the rest is done, and added."""
    record = cli.folder / "record"
    cli.mock.fail_next(500, times=3)
    first = cli.run("--from", cli.many(), "--resume", str(record), "--max-retries", "0")
    head = json.dumps({"server": cli.mock.url}) + "\n"
    assert (first.returncode, record.read_text()) == (1, head + first.stdout)
    sent = len(cli.mock.requests)
    second = cli.run("--from", cli.many(), "--resume", str(record))
    assert (second.returncode, len(cli.mock.requests) - sent) == (0, 3)
    assert "37 of 40 batches are on record as cancelled, and left out." in second.stderr
    assert record.read_text() == head + first.stdout + second.stdout
    assert ids(recorded(record)) == sorted(cli.canceled)
    third = cli.run("--from", cli.many(), "--resume", str(record))
    assert (third.returncode, third.stdout, len(cli.mock.requests) - sent) == (0, "", 3)


def test_resume_looks_at_the_namespace(cli: Command) -> None:
    """A batch of the same name in another namespace is another batch."""
    cli.mock.add_batch("b", "x1", namespace="other")
    record = str(cli.folder / "record")
    assert cli.run("--from", cli.many(2), "--resume", record).returncode == 0
    done = cli.run("--from", cli.many(2), "--resume", record, "--namespace", "other")
    assert ids(done.stdout) == ["x1"]


@pytest.mark.parametrize("cut", [1, -2])
def test_torn_record(cli: Command, cut: int) -> None:
    """A last line that was cut short is dropped, and its batch done again."""
    record = cli.folder / "record"
    cli.run("--from", cli.many(2), "--resume", str(record))
    head, whole, torn = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(head + whole + torn[:cut])
    done = cli.run("--from", cli.many(2), "--resume", str(record))
    assert (done.returncode, len(entries(done.stdout))) == (0, 1)
    assert ids(recorded(record)) == ["x0", "x1"]


FOREIGN = {
    "csv": b"b,x1\nb,x2\n",
    "one-line-without-end": b"a line of somebody's",
    "json": b'{"bucket_identifier": "b"}\n',
    "deep": b"[" * 100_000 + b"\n",
    "zeros": b"\0" * 1000,
    "cut-inside": b'{"bucket_identifier": "b"\n{"bucket_identifier": "b"',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_file_that_is_no_record(cli: Command, content: bytes) -> None:
    """A file of somebody else's is refused, and stays as it is."""
    path = cli.file(content, "foreign")
    done = cli.run("--from", cli.many(), "--resume", path)
    assert (done.returncode, cli.mock.requests, Path(path).read_bytes()) == (2, [], content)
    assert "is not from a run of this command: name another file by --resume." in done.stderr


def test_record_of_another_server(cli: Command) -> None:
    """What was cancelled at one server says nothing of another."""
    record = str(cli.folder / "record")
    assert cli.run("--from", cli.many(2), "--resume", record).returncode == 0
    with MockServer(api_key=KEY) as other:
        done = cli.run("--from", cli.many(2), "--resume", record, "--base-url", other.url)
        assert (done.returncode, other.requests) == (2, [])
    assert "is the record of" in done.stderr


@checkout
def test_record_in_use(cli: Command) -> None:
    """A second process is kept from the same record."""
    record = cli.folder / "record"
    with half_done(cli, record):
        done = cli.run("--from", cli.many(2), "--resume", str(record))
        assert done.returncode == 2
        assert "is in use by another run" in done.stderr


def test_record_as_a_file_of_batches(cli: Command) -> None:
    """Only what failed, without the file that the run began with: the record is both, and what it has is left out."""
    record = cli.folder / "record"
    cli.mock.fail_next(500, times=2)
    assert cli.run("--from", cli.many(5), "--resume", str(record), "--max-retries", "0").returncode == 1
    failed = [entry["batch_id"] for entry in entries(recorded(record)) if not entry["canceled"]]
    done = cli.run("--from", str(record), "--resume", str(record))
    assert (done.returncode, ids(done.stdout)) == (0, sorted(failed))
    assert "3 of 5 batches are on record as cancelled, and left out." in done.stderr
    done = cli.run("--from", str(record), "--resume", str(record))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("mixpeek-batches: There is nothing left to cancel.\n")


# However it ends


@contextlib.contextmanager
def half_done(cli: Command, record: Path, seconds: float = 20.0) -> Iterator[subprocess.Popen[str]]:
    """Start a run of which ten batches are done, and the next four take their time."""
    cli.mock.fail_next("latency", seconds=0.0, times=10)
    cli.mock.fail_next("latency", seconds=seconds, times=30)
    with cli.start("--from", cli.many(), "--resume", str(record), "--concurrency", "4", "--yes") as process:
        wait_until(lambda: len(cli.mock.requests) >= 14 and record.read_bytes().count(b"\n") == 11)
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("command", "number"), [("checkout", signal.SIGINT), ("wheel", signal.SIGTERM)], indirect=["command"]
)
def test_signal(cli: Command, number: signal.Signals) -> None:
    """SIGINT and SIGTERM end it with 130: nothing more is sent, what is in flight is waited for, all is on record."""
    record = cli.folder / "record"
    with half_done(cli, record, 1.0) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert out == recorded(record)
    assert len(cli.mock.requests) == 14
    assert ids(out) == sorted(cli.canceled)
    assert "Interrupted: 14 of 40 batches cancelled" in err
    assert "To try those 26 again:\n  mixpeek-batches cancel --from" in err
    assert "Traceback" not in err
    cli.mock.clear_faults()
    assert cli.run("--from", cli.many(), "--resume", str(record)).returncode == 0
    assert ids(recorded(record)) == sorted(cli.canceled)


def test_signal_when_no_answer_comes(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight is not waited for without end, and is on record as interrupted."""
    monkeypatch.setattr(many, "_GRACE", 0.3)
    cli.mock.fail_next("latency", seconds=20, times=4)

    def interrupt() -> None:
        wait_until(lambda: len(cli.mock.requests) == 4)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = cli.run("--from", cli.many(), "--concurrency", "4")
    thread.join()
    assert done.returncode == 130
    assert [entry["error"]["class"] for entry in entries(done.stdout)] == ["APIConnectionError"] * 4
    assert "4  interrupted before there was an answer: cancelled or not, to do it again tells" in done.stderr
    assert re.search(r"36  not sent\n", done.stderr)


@checkout
def test_second_signal(cli: Command) -> None:
    """Whoever presses Ctrl-C twice has the same at once, and no traceback."""
    record = cli.folder / "record"
    with half_done(cli, record) as process:
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Stopping" in process.stderr.readline()  # two at once would be one
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert time.monotonic() - started < 4
    assert process.returncode == 130
    assert len(ids(out)) == len(ids(recorded(record))) == 10
    assert "Interrupted" in err
    assert "Traceback" not in err


@wheel
def test_kill(cli: Command) -> None:
    """After SIGKILL a second run does the rest, and the record ends the same."""
    record = cli.folder / "record"
    with half_done(cli, record) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
    assert len(ids(recorded(record))) == 10
    cli.mock.clear_faults()
    assert cli.run("--from", cli.many(), "--resume", str(record)).returncode == 0
    assert ids(recorded(record)) == sorted(cli.canceled)
    assert len(entries(recorded(record))) == 40


@checkout
def test_closed_stdout(cli: Command) -> None:
    """`| head -1` stops the work, with a sentence and exit code 1, and all that was done is on record."""
    record = cli.folder / "record"
    read, write = os.pipe()
    os.close(read)
    try:
        done = cli.run("--from", cli.many(), "--resume", str(record), "--concurrency", "2", stdout=write)
    finally:
        os.close(write)
    assert done.returncode == 1
    assert "Stopped, because a result could not be written: Broken pipe." in done.stderr
    assert len(cli.mock.requests) < 40
    assert set(ids(recorded(record))) <= cli.canceled


@checkout
def test_full_disk_for_stdout(cli: Command) -> None:
    """A full disk under stdout likewise."""
    with Path("/dev/full").open("wb") as full:
        done = cli.run("--from", cli.many(), "--concurrency", "2", stdout=full)
    assert done.returncode == 1
    assert "could not be written: No space left on device." in done.stderr
    assert len(cli.mock.requests) < 40


@checkout
def test_full_disk_for_the_record(cli: Command) -> None:
    """A record that cannot grow stops the work; what was done is on stdout, and the record can be resumed from."""
    record = cli.folder / "record"
    batches = cli.many()

    for name in [name for name in cli.environment if name.startswith("COVERAGE_")]:
        del cli.environment[name]  # its data file would be cut as well

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    done = cli.run("--from", batches, "--resume", str(record), "--concurrency", "2", preexec_fn=limit)
    assert done.returncode == 1
    assert "could not be written: File too large." in done.stderr
    assert set(ids(done.stdout)) <= cli.canceled
    assert len(cli.mock.requests) < 40
    assert cli.run("--from", batches, "--resume", str(record)).returncode == 0
    assert ids(recorded(record)) == sorted(cli.canceled)


# How it goes


@wheel
def test_nobody_to_ask(cli: Command) -> None:
    """In cron, which has no terminal and hardly an environment, --yes is needed: without it nothing is sent."""
    cli.environment = {name: cli.environment[name] for name in ("MIXPEEK_BASE_URL", "MIXPEEK_API_KEY")}
    done = cli.run("--from", cli.many(2), yes=False)
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert done.stderr == (
        "mixpeek-batches: There is no terminal to ask at: pass --yes to cancel 2 batches. Nothing was sent.\n"
    )
    assert cli.run("--from", cli.many(2)).returncode == 0


def test_lines_elsewhere(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nothing moves: no escape codes, only a line now and then."""
    monkeypatch.setattr(progress, "_FIRST_LINE", 0.1)
    cli.mock.fail_next(503, retry_after=1)
    done = cli.run("--from", cli.many(8), "--concurrency", "1")
    assert "\x1b" not in done.stdout + done.stderr
    assert re.match(r"mixpeek-batches: 0 of 8: 0 cancelled, 0 failed, held back for 1 s by a 503, 0/s\n", done.stderr)


def test_retries_are_not_told(cli: Command) -> None:
    """Retries, of which there may be thousands, say nothing."""
    cli.mock.fail_next(500, times=10)
    done = cli.run("--from", cli.many(), "--max-retries", "10")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)


def test_concurrency(cli: Command) -> None:
    """--concurrency says how many are in flight at a time."""
    cli.mock.fail_next("latency", seconds=0.3, times=40)
    started = time.monotonic()
    assert cli.run("--from", cli.many(), "--concurrency", "40").returncode == 0
    assert time.monotonic() - started < 8, "one at a time takes 12 s"


def test_max_rate(cli: Command) -> None:
    """--max-rate bounds the requests in a second."""
    started = time.monotonic()
    assert cli.run("--from", cli.many(6), "--max-rate", "10").returncode == 0
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"MIXPEEK_API_KEY": "sk_wrong"}, "401: check MIXPEEK_API_KEY"),
        (
            {"MIXPEEK_BASE_URL": "http://127.0.0.1:9"},
            "no connection to http://127.0.0.1:9 (Connection refused): check --base-url and the network",
        ),
    ],
    ids=["wrong-key", "no-server"],
)
def test_hopeless_run_ends_early(cli: Command, change: dict[str, str], reason: str) -> None:
    """A wrong key, or no server, ends the run after a few requests; the rest is told as not sent."""
    cli.environment.update(change)
    done = cli.run("--from", cli.many(), "--max-retries", "0", "--concurrency", "4")
    assert (done.returncode, len(entries(done.stdout))) == (1, 40)
    assert len(cli.mock.requests) <= 4
    unsent = sum(entry["attempts"] == 0 for entry in entries(done.stdout))
    assert unsent >= 20
    assert f"mixpeek-batches: Stopped early, {unsent} batches not sent. {reason}.\n" in done.stderr
    assert re.search(rf"40  {re.escape(reason)} +such as x\d+ of b\n", done.stderr)


KINDS: list[tuple[dict[str, Any], str, bool]] = [
    ({"fault": 400, "body": {"error": {"message": "Too late.", "details": {"status": "SKIPPED"}}}},
     "400 SKIPPED: nothing to cancel", False),
    ({"fault": 400, "body": {"error": {"message": "Too late."}}}, "400: Too late", False),
    ({"fault": 401}, "401: check MIXPEEK_API_KEY", True),
    ({"fault": 403}, "403: the key may not use namespace n; check --namespace and MIXPEEK_API_KEY", True),
    ({"fault": 404}, "404: no such batch in namespace n", False),
    ({"fault": 404, "body": "<html>"}, "404: URL does not look like the API; check --base-url", True),
    ({"fault": 302, "body": ""}, "302: URL does not look like the API; check --base-url", True),
    ({"fault": 429}, "429: the server takes no more now; try again later, or slower by --max-rate", True),
    ({"fault": 408}, "408: the server failed; try again later", True),
    ({"fault": 502}, "502: the server failed; try again later", True),
    ({"fault": 422}, "422: ", False),
    ({"fault": 200, "body": []}, "200: the answer is no task; check --base-url", True),
    ({"fault": 200, "body": {"task_id": "t", "task_type": "x", "status": "STOPPING"}},
     "200 STOPPING: not CANCELED yet; look again later", True),
    ({"fault": "latency", "seconds": 5}, "no answer within 0.2 s: try again, or give more by --timeout", True),
    ({"fault": "reset"}, "no connection to URL (", True),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "text", "again"), KINDS, ids=[text for _, text, _ in KINDS])
def test_kinds_of_failures(cli: Command, fault: dict[str, Any], text: str, again: bool) -> None:
    """Each kind of failure has its row with what to do; what may be tried again has a line that does."""
    cli.mock.fail_next(**fault)
    record = str(cli.folder / "record")
    given = "--namespace", "n", "--max-retries", "0", "--timeout", "0.2", "--resume", record
    done = cli.run("--from", cli.many(1), *given)
    assert done.returncode == 1
    assert re.search(rf"\n  1  {re.escape(text.replace('URL', cli.mock.url))}.*  such as x0 of b\n", done.stderr)
    line = shlex.join(["mixpeek-batches", "cancel", "--from", str(cli.folder / "batches"), *given, "--yes"])
    assert done.stderr.endswith(f"To try it again:\n  {line}\n") == again
    assert ("again:" in done.stderr) == again


def test_how_to_try_again_without_a_record(cli: Command) -> None:
    """Without --resume it says that the same line does no harm, and that results would be overwritten."""
    cli.mock.fail_next(500, times=40)
    done = cli.run("--from", cli.many(2), "--max-retries", "0")  # its stdout is a file
    assert "To try those 2 again, run the same line, with another file for the results, again: what is" in done.stderr
    done = cli.run("--from", cli.many(2), "--max-retries", "0", "--output", str(cli.folder / "results"))
    assert "run the same line with another --output again: what is cancelled already stays so.\n" in done.stderr
    done = cli.run("--from", "-", "--max-retries", "0", "--resume", str(cli.folder / "record"), stdin="b,x1\nb,x2\n")
    assert "To try those 2 again:\n  … | mixpeek-batches cancel --from - --max-retries 0 --resume" in done.stderr


def test_output(cli: Command) -> None:
    """--output FILE gets the results in place of stdout, and more of them when resumed."""
    record, output = str(cli.folder / "record"), cli.folder / "results"
    cli.mock.fail_next(500, times=1)
    options = "--resume", record, "--output", str(output)
    assert cli.run("--from", cli.many(5), *options, "--max-retries", "0").returncode == 1
    done = cli.run("--from", cli.many(5), *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert (len(entries(output.read_text())), len(ids(output.read_text()))) == (6, 5)


def test_output_that_is_there(cli: Command) -> None:
    """Without --resume, no results of an earlier run are overwritten; no file is two things at once."""
    batches, output = cli.many(2), cli.folder / "results"
    assert cli.run("--from", batches, "--output", str(output)).returncode == 0
    before, sent = output.read_text(), len(cli.mock.requests)
    for options, said in [
        (["--output", str(output)], "results is not empty: name another file, or go on by --resume."),
        (["--output", batches], "--output and --from name the same file."),
        (["--output", "r", "--resume", "r"], "--output and --resume name the same file: the record has all results"),
    ]:
        done = cli.run("--from", batches, *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
    assert (output.read_text(), len(cli.mock.requests)) == (before, sent)


# On a terminal


class Terminal:
    """A pseudo-terminal on which the command runs, and what it shows.

    Args:
        piped: What is no terminal: any of stdin, stdout, stderr.
        size: Rows and columns; 0 where nobody has told, as over a serial line.
    """

    def __init__(
        self, cli: Command, *arguments: str, piped: tuple[str, ...] = (), size: tuple[int, int] = (24, 100)
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(size)
        self.shown = ""
        streams = {name: subprocess.PIPE if name in piped else slave for name in ("stdin", "stdout", "stderr")}
        take = functools.partial(fcntl.ioctl, slave, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
        self.process = cli.start(*arguments, **streams, start_new_session=True, preexec_fn=take)
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, size: tuple[int, int]) -> None:
        termios.tcsetwinsize(self._master, size)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while data := os.read(self._master, 65536):
                self.shown += data.decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> tuple[int, str, str]:
        """Wait for the end, and give exit code, what a piped stdout got, and what the terminal showed."""
        out, _ = self.process.communicate(timeout=30)
        self._reader.join(10)
        os.close(self._master)
        assert KEY not in self.shown + (out or "")
        assert "Traceback" not in self.shown
        return self.process.returncode, out or "", self.shown.replace("\r\n", "\n")


def screen(shown: str) -> list[str]:
    """Give the lines that a terminal is left with, which knows to go up and to erase a line."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


@checkout
def test_terminal_asks(cli: Command) -> None:
    """On a terminal it asks before it cancels many, and does it for `y`."""
    terminal = Terminal(cli, "--from", cli.many(), piped=("stdout",))
    wait_until(lambda: "Go on? [y/N]: " in terminal.shown)
    assert f"About to cancel 40 batches of 1 bucket in the key's default namespace at {cli.mock.url}" in terminal.shown
    assert cli.mock.requests == []
    terminal.type("y\n")
    code, out, _ = terminal.end()
    assert (code, ids(out)) == (0, sorted(cli.canceled))


@pytest.mark.parametrize(
    ("answer", "code", "said"), [("n\n", 1, "Nothing was sent."), ("\n", 1, "Nothing was sent."), ("\3", 130, "Interr")]
)
@checkout
def test_terminal_takes_no_for_an_answer(cli: Command, answer: str, code: int, said: str) -> None:
    """Anything but yes sends nothing; Ctrl-C is 130."""
    terminal = Terminal(cli, "--from", cli.many(), piped=("stdout",))
    wait_until(lambda: "[y/N]: " in terminal.shown)
    terminal.type(answer)
    ended, out, shown = terminal.end()
    assert (ended, out, cli.mock.requests) == (code, "", [])
    assert said in shown


@checkout
def test_terminal_that_cannot_be_asked(cli: Command) -> None:
    """With the batches on stdin nobody can answer, so that --yes is needed."""
    terminal = Terminal(cli, "--from", "-", piped=("stdin", "stdout"))
    assert terminal.process.stdin is not None
    terminal.process.stdin.write("b,x1\nb,x2\n")
    code, _, shown = terminal.end()
    assert (code, cli.mock.requests) == (2, [])
    assert "pass --yes" in shown


@checkout
def test_one_batch_is_not_asked_about(cli: Command) -> None:
    """One batch is cancelled without a question."""
    assert Terminal(cli, "--from", cli.many(1), piped=("stdout",)).end()[0] == 0


BAR = re.compile(r" *\d+% \|[^|]*\| \d+/40: \d+ cancelled, \d+ failed, +[^ ]+/s, [^ ]+ left *")


@checkout
@pytest.mark.parametrize("size", [(24, 100), (0, 0)], ids=["100-columns", "0-columns"])
def test_terminal_shows_progress(cli: Command, size: tuple[int, int]) -> None:
    """With --yes nobody is asked; a bar shows counts, and goes when the summary comes; stdout gets all results."""
    cli.mock.fail_next("latency", seconds=0.2, times=20)
    terminal = Terminal(cli, "--from", cli.many(), "--yes", "--concurrency", "4", piped=("stdout",), size=size)
    code, out, shown = terminal.end()
    assert (code, ids(out)) == (0, sorted(cli.canceled))
    assert "[y/N]" not in shown
    bars = [part for part in re.split(r"[\r\n]", shown) if "%" in part]
    assert all(BAR.fullmatch(bar) for bar in bars)
    assert any(not bar.startswith("  0%") for bar in bars)
    (summary,) = screen(shown)
    assert re.fullmatch(r"mixpeek-batches: 40 of 40 batches cancelled in [0-9.]+ s \([0-9]+/s\)\.", summary)


@checkout
def test_terminal_that_is_resized_and_interrupted(cli: Command) -> None:
    """The bar keeps to the width of the terminal; Ctrl-C says what became of it, and leaves no bar behind."""
    cli.mock.fail_next("latency", seconds=0.3, times=40)
    terminal = Terminal(cli, "--from", cli.many(), "--yes", "--concurrency", "2", piped=("stdout",))
    wait_until(lambda: "% |" in terminal.shown)
    terminal.resize((24, 60))
    wait_until(lambda: terminal.shown.count("% |") > 2)
    before = len(terminal.shown)
    wait_until(lambda: terminal.shown.count("% |", before) > 1)
    assert max(map(len, re.split(r"[\r\n]", terminal.shown[before:]))) <= 60
    terminal.type("\3")
    code, out, shown = terminal.end()
    assert (code, ids(out)) == (130, sorted(cli.canceled))
    assert any(line.startswith("mixpeek-batches: Interrupted: ") for line in screen(shown))
    assert not any("% |" in line for line in screen(shown))


@checkout
def test_terminal_shows_that_the_server_holds_it_back(cli: Command) -> None:
    """The bar tells for how long nothing is sent, and why."""
    cli.mock.fail_next(429, retry_after=30)
    terminal = Terminal(cli, "--from", cli.many(), "--yes", "--concurrency", "1", piped=("stdout",))
    wait_until(lambda: bool(re.search("held back for (30|29) s by a 429", terminal.shown)))
    terminal.type("\3")
    assert terminal.end()[0] == 130


@checkout
def test_terminal_shows_results_above_the_bar(cli: Command) -> None:
    """With stdout on the same terminal, results come above the bar, each on a line of its own, whole."""
    cli.mock.fail_next("latency", seconds=0.2, times=20)
    code, _, shown = Terminal(cli, "--from", cli.many(), "--yes", "--concurrency", "4").end()
    *lines, summary = screen(shown)
    assert code == 0
    assert ids("".join(line + "\n" for line in lines)) == sorted(cli.canceled)
    assert "40 of 40 batches cancelled" in summary
