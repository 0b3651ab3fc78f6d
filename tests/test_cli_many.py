"""`cancel --from`: results, messages and the record."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import cli_support
import pytest
from bulk import wait_until
from cli_support import KEY, Command, canceled_in, entries

from mixpeek_batches.cli import many, progress
from mixpeek_batches.cli.record import ResultFile

cli, cli_server = cli_support.cli, cli_support.cli_server

MANY = ("cancel", "--yes", "--from")
NO_RETRY = ("--max-retries", "0")


def test_results_and_summary(cli: Command) -> None:
    """Each line is a batch, each result a JSON line on stdout; stderr has a summary with a row for each cause."""
    cli.mock.add_batch('b,"1"', "ü /🎬", namespace="näme")
    done = cli(*MANY, cli.file('b,x1\nb,done\nb,none\n"b,""1""",ü /🎬,näme\n'))
    results = {entry["batch_id"]: entry for entry in entries(done.stdout)}
    assert (done.returncode, len(results), len(cli.mock.requests)) == (1, 4, 4)
    assert results["x1"]["task"] == cli.mock.batch("b", "x1").task()
    assert (results["ü /🎬"]["namespace"], results["ü /🎬"]["canceled"]) == ("näme", True)
    assert results["done"]["error"]["class"] == "BadRequestError"
    assert results["none"]["error"]["class"] == "NotFoundError"
    assert re.fullmatch(
        r"mixpeek-batches: 2 of 4 batches cancelled in [0-9.]+ s, 2 not:\n"
        r"  1  400 COMPLETED: nothing to cancel                   such as done of b\n"
        r"  1  404: no such batch in the key's default namespace  such as none of b\n",
        done.stderr,
    )


def test_stdin_and_columns(cli: Command) -> None:
    done = cli(*MANY, "-", "--columns", "3,2", stdin="u;x1;b\nu;x2;b\n")
    assert (done.returncode, cli.canceled, canceled_in(done.stdout)) == (0, ["x1", "x2"], ["x1", "x2"])
    done = cli(*MANY, "-")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "mixpeek-batches: There is nothing to cancel.\n"


def test_invalid_lines(cli: Command) -> None:
    """They stop the command before anything is sent, and the first twenty are listed, unless they are to be skipped."""
    path = cli.file("b,x1\n" + "nonsense\n" * 1000 + "b,x2\n")
    done = cli(*MANY, path)
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert done.stderr.startswith(f"mixpeek-batches: {path}, line 2: it has one column: nonsense\n")
    assert done.stderr.count("it has one column: nonsense\n") == 20
    assert done.stderr.count("--columns 1,2") == 1
    assert "\n… and 980 more\n" in done.stderr
    assert done.stderr.endswith("\n1,000 lines cannot be used. Nothing was sent; --skip-invalid skips such lines.\n")
    done = cli(*MANY, path, "--skip-invalid")
    assert (done.returncode, cli.canceled) == (1, ["x1", "x2"])
    assert "\n1,000 lines skipped.\n" in done.stderr


def test_dry_run(cli: Command) -> None:
    """It shows what would be cancelled, with a few examples, and sends nothing."""
    done = cli("cancel", "--dry-run", "--from", cli.file("b,x1\nc,x2,n\nb,x1,m\nb,x1\nb,x3\n"))
    assert (done.returncode, done.stdout, cli.mock.requests) == (0, "", [])
    assert done.stderr == (
        "mixpeek-batches: 1 line repeats a batch; each batch is sent once.\n"
        f"mixpeek-batches: Would cancel 4 batches of 2 buckets in 3 namespaces at {cli.mock.url}:\n"
        "  x1 of b in the key's default namespace\n"
        "  x2 of c in namespace n\n"
        "  x1 of b in namespace m\n"
        "  … and 1 more\n"
        "Nothing was sent.\n"
    )


def test_without_a_terminal_yes_is_needed(cli: Command) -> None:
    done = cli("cancel", "--from", cli.batches(2))
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert done.stderr == (
        "mixpeek-batches: There is no terminal to ask on: pass --yes to cancel 2 batches. Nothing was sent.\n"
    )
    assert cli("cancel", "--from", cli.batches(1)).returncode == 0  # is not asked about


def test_lines_of_progress(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal there are no escape codes, only a line now and then."""
    monkeypatch.setattr(progress, "_FIRST_LINE", 0.1)
    cli.mock.fail_next(503, retry_after=1)
    done = cli(*MANY, cli.batches(8), "--concurrency", "1")
    assert "\x1b" not in done.stdout + done.stderr
    assert re.match(r"mixpeek-batches: 0 of 8: 0 cancelled, 0 failed, held back for 1 s by a 503, 0/s\n", done.stderr)


def test_max_rate(cli: Command) -> None:
    started = time.monotonic()
    assert cli(*MANY, cli.batches(4), "--max-rate", "10").returncode == 0
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"MIXPEEK_API_KEY": "sk_wrong"}, "401: the server does not accept the key; check MIXPEEK_API_KEY"),
        (
            {"MIXPEEK_BASE_URL": "http://127.0.0.1:9"},
            "The connection to 127.0.0.1 failed: Connection refused; check the network and the base URL "
            "http://127.0.0.1:9",
        ),
    ],
    ids=["wrong-key", "no-server"],
)
def test_hopeless_run_ends_early(cli: Command, change: dict[str, str], cause: str) -> None:
    """A wrong key, or no server, ends the run after a few requests; the rest is reported as not sent."""
    done = cli(*MANY, cli.batches(), *NO_RETRY, "--concurrency", "4", **change)
    assert (done.returncode, len(entries(done.stdout))) == (1, 40)
    assert len(cli.mock.requests) <= 4
    unsent = sum(entry["attempts"] == 0 for entry in entries(done.stdout))
    assert unsent >= 20
    assert f"mixpeek-batches: Stopped early, {unsent} batches not sent. {cause}.\n" in done.stderr
    assert re.search(rf"\n  40  {re.escape(cause)}  such as x\d+ of b\n", done.stderr)


CAUSES: list[tuple[dict[str, Any], str, bool]] = [
    ({"fault": 400, "body": {"error": {"message": "Too late.", "details": {"status": "SKIPPED"}}}},
     "400 SKIPPED: nothing to cancel", False),
    ({"fault": 400, "body": {"error": {"message": "Too late."}}}, "400: Too late", False),
    ({"fault": 401}, "401: the server does not accept the key; check MIXPEEK_API_KEY", True),
    ({"fault": 403}, "403: the key may not use namespace n; check --namespace and MIXPEEK_API_KEY", True),
    ({"fault": 404}, "404: no such batch in namespace n", False),
    ({"fault": 404, "body": "<html>"}, "404: {url} does not look like the API; check the base URL", True),
    ({"fault": 302, "body": ""}, "302: {url} does not look like the API; check the base URL", True),
    ({"fault": 429}, "429: too many requests; try again later, or more slowly with --max-rate", True),
    ({"fault": 408}, "408: the server failed; try again later", True),
    ({"fault": 502}, "502: the server failed; try again later", True),
    ({"fault": 422}, "422: ", False),
    ({"fault": 200, "body": []}, "200: the response is not a task; check the base URL {url}", True),
    ({"fault": 200, "body": {"task_id": "t", "task_type": "x", "status": "STOPPING"}},
     "200 STOPPING: not CANCELED yet; look again later", True),
    ({"fault": "latency", "seconds": 5}, "No complete response from 127.0.0.1 within 0.2 s; try again, or", True),
    ({"fault": "reset"}, "The connection to 127.0.0.1 failed: Connection reset by peer; check the", True),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "cause", "retryable"), CAUSES, ids=[cause for _, cause, _ in CAUSES])
def test_cause(cli: Command, fault: dict[str, Any], cause: str, retryable: bool) -> None:
    """Each cause has its row, with what to do where another run can help, and then the command for that."""
    cli.mock.fail_next(**fault)
    arguments = [*MANY, cli.batches(1), "--namespace", "n", *NO_RETRY]
    arguments += ["--timeout", "0.2" if "seconds" in fault else "30", "--resume", str(cli.folder / "the record")]
    done = cli(*arguments)
    assert done.returncode == 1
    row = re.escape(cause.format(url=cli.mock.url))
    assert re.search(rf"\n  1  {row}.*  such as x0 of b\n", done.stderr)
    assert ("To retry" in done.stderr) == retryable
    command = shlex.join(["mixpeek-batches", *arguments])
    assert done.stderr.endswith(f"mixpeek-batches: To retry 1 batch:\n  {command}\n") == retryable


def test_causes_are_limited(cli: Command) -> None:
    """As a cause may hold text of the server, there may be many."""
    for number in range(30):
        cli.mock.fail_next(422, body={"error": {"message": f"Problem {number % 25}."}})
    done = cli(*MANY, cli.batches(30), *NO_RETRY)
    *_, last = done.stderr.splitlines()
    assert (len(done.stderr.splitlines()), last) == (22, "  5  5 other causes")


def test_how_to_retry_without_a_record(cli: Command) -> None:
    """The message warns that the same command would overwrite the results."""
    path, output = cli.batches(2), str(cli.folder / "results")
    cli.mock.fail_next(500, times=6)
    done = cli(*MANY, path, *NO_RETRY)
    assert "To retry 2 batches, run the same command again, with another file for the results; what" in done.stderr
    done = cli(*MANY, path, *NO_RETRY, "--output", output)
    assert "To retry 2 batches, run the same command again, with another --output; what is cancelled" in done.stderr
    done = cli(*MANY, "-", *NO_RETRY, "--resume", str(cli.folder / "record"), stdin="b,x1\nb,x2\n")
    assert "To retry 2 batches:\n  … | mixpeek-batches cancel --yes --from - --max-retries 0 --resume" in done.stderr


def test_output(cli: Command) -> None:
    """--output FILE gets the results instead of stdout. It must be empty, or is appended to with --resume."""
    path, output, record = cli.batches(5), cli.folder / "results", str(cli.folder / "record")
    cli.mock.fail_next(500)
    options = "--resume", record, "--output", str(output)
    assert cli(*MANY, path, *options, *NO_RETRY).returncode == 1
    done = cli(*MANY, path, *options)
    assert (done.returncode, done.stdout) == (0, "")
    content = output.read_text()
    assert (len(entries(content)), len(canceled_in(content))) == (6, 5)
    done = cli(*MANY, path, "--output", str(output))
    assert (done.returncode, done.stdout, output.read_text(), len(cli.mock.requests)) == (2, "", content, 6)
    assert "results is not empty: name another file, or go on with --resume." in done.stderr


def test_interrupted_before_a_response(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in flight are waited for only so long, and then recorded as interrupted; --concurrency bounds them."""
    monkeypatch.setattr(many, "_GRACE", 0.3)
    cli.mock.fail_next("latency", seconds=20, times=40)

    def interrupt() -> None:
        wait_until(lambda: len(cli.mock.requests) == 4)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = cli(*MANY, cli.batches(), "--concurrency", "4")
    thread.join()
    assert (done.returncode, len(cli.mock.requests)) == (130, 4)
    assert [entry["error"]["class"] for entry in entries(done.stdout)] == ["APIConnectionError"] * 4
    assert "\n   4  Interrupted before the server responded: the batch may or may not be cancelled; " in done.stderr
    assert re.search(r"\n  36  not sent\n", done.stderr)


# The record


def test_resume(cli: Command) -> None:
    """What the record lists as cancelled is skipped; the rest is sent, and appended."""
    record, path = cli.folder / "record", cli.batches()
    cli.mock.fail_next(500, times=3)
    first = cli(*MANY, path, "--resume", str(record), *NO_RETRY)
    head = json.dumps({"server": cli.mock.url}) + "\n"
    assert (first.returncode, record.read_text()) == (1, head + first.stdout)
    second = cli(*MANY, path, "--resume", str(record))
    assert (second.returncode, len(cli.mock.requests)) == (0, 43)
    assert "Skipping 37 of 40 batches, which the record lists as cancelled." in second.stderr
    assert record.read_text() == head + first.stdout + second.stdout
    assert canceled_in(record.read_text()) == cli.canceled
    third = cli(*MANY, path, "--resume", str(record))
    assert (third.returncode, third.stdout, len(cli.mock.requests)) == (0, "", 43)
    assert third.stderr.endswith("mixpeek-batches: There is nothing left to cancel.\n")


def test_record_is_a_file_of_batches(cli: Command) -> None:
    """Without the file that the run began with, the record has what failed."""
    record = cli.folder / "record"
    cli.mock.fail_next(500, times=2)
    first = cli(*MANY, cli.batches(5), "--resume", str(record), *NO_RETRY)
    done = cli(*MANY, str(record), "--resume", str(record))
    assert done.returncode == 0
    assert sorted(canceled_in(first.stdout) + canceled_in(done.stdout)) == cli.canceled == [f"x{n}" for n in range(5)]


@pytest.mark.parametrize("cut", [1, -2])
def test_torn_record(cli: Command, cut: int) -> None:
    """A last line that was cut short is removed, and its batch sent again; so is a first line."""
    record, path = cli.folder / "record", cli.batches(2)
    cli(*MANY, path, "--resume", str(record))
    head, complete, torn = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(head + complete + torn[:cut])
    done = cli(*MANY, path, "--resume", str(record))
    assert (done.returncode, len(entries(done.stdout))) == (0, 1)
    assert canceled_in(record.read_text()) == ["x0", "x1"]
    record.write_bytes(head[:cut])
    assert cli(*MANY, path, "--resume", str(record)).returncode == 0
    assert record.read_bytes().startswith(head + b'{"bucket_identifier": "b"')


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("b,x1\nb,x2\n", 1),
        ("a line of something else", 1),
        ('{"bucket_identifier": "b"}\n', 1),
        ("[" * 100_000 + "\n", 1),
        ("\0" * 1000, 1),
        ('{"bucket_identifier": "b"\n{"bucket_identifier": "b"', 1),
        ('{"server": "URL"}\n{"bucket_identifier": "b"}\n', 2),
    ],
    ids=["csv", "no-end", "json", "deep", "zeros", "torn-inside", "no-result"],
)
def test_file_that_is_not_a_record(cli: Command, content: str, line: int) -> None:
    """It is refused, and stays as it is."""
    path = cli.file(content.replace("URL", cli.mock.url), "foreign")
    before = Path(path).read_bytes()
    done = cli(*MANY, cli.batches(), "--resume", path)
    assert (done.returncode, cli.mock.requests, Path(path).read_bytes()) == (2, [], before)
    assert done.stderr.endswith(f", line {line}, was not written by this command: name another file with --resume.\n")


def test_record_is_of_one_server_and_many_namespaces(cli: Command) -> None:
    cli.mock.add_batch("b", "x1", namespace="other")
    arguments = [*MANY, cli.batches(2), "--resume", str(cli.folder / "record")]
    assert cli(*arguments).returncode == 0
    assert canceled_in(cli(*arguments, "--namespace", "other").stdout) == ["x1"]
    done = cli(*arguments, "--base-url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert f"is the record of {cli.mock.url}, but this run is for http://127.0.0.1:9: name another" in done.stderr


def test_record_in_use(cli: Command) -> None:
    record = cli.folder / "record"
    with ResultFile(record, cli.mock.url):
        done = cli(*MANY, cli.batches(2), "--resume", str(record))
    assert (done.returncode, cli.mock.requests) == (2, [])
    assert "record is in use by another run of this command." in done.stderr


def test_full_disk_for_the_record(cli: Command) -> None:
    """The run stops; what was done is on stdout, and the record can be resumed from."""
    record, path = cli.folder / "record", cli.batches()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
        done = cli(*MANY, path, "--resume", str(record), "--concurrency", "2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 1
    assert "Stopped, because a result could not be written: File too large." in done.stderr
    assert canceled_in(done.stdout) == cli.canceled
    assert len(cli.mock.requests) < 40
    assert cli(*MANY, path, "--resume", str(record)).returncode == 0
    assert canceled_in(record.read_text()) == cli.canceled


def test_key_in_a_response_is_not_recorded(cli: Command) -> None:
    cli.mock.fail_next(401, body={"error": {"message": f"bad {KEY}", "details": {"key": KEY}}}, times=3)
    record = cli.folder / "record"
    assert cli(*MANY, cli.batches(3), "--resume", str(record)).returncode == 1
    assert KEY not in record.read_text()
    assert "bad [API key]" in record.read_text()
