"""The command: one batch, its options, and the mock."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cli_support
import httpx
import pytest
from bulk import wait_until
from cli_support import INSTALLED, KEY, Command, finish, sentence

from mixpeek_batches import __version__

cli, cli_server = cli_support.cli, cli_support.cli_server


# One batch


def test_shows_the_task(cli: Command) -> None:
    cli.mock.add_batch("bkt", "running", status="IN_PROGRESS", inputs=["a", {"b": 1}], outputs=["o"])
    done = cli("cancel", "bkt", "running")
    assert (done.returncode, done.stderr) == (0, "")
    batch = cli.mock.batch("bkt", "running")
    assert done.stdout == (
        "running of bkt: CANCELED\n"
        f"  task     {batch.task_id}\n"
        "  type     api_buckets_batches_process\n"
        "  inputs   2\n"
        "  outputs  1\n"
    )
    assert batch.status == "CANCELED"


def test_json_is_one_object(cli: Command) -> None:
    done = cli("cancel", "b", "x1", "--json")
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == {
        "bucket_identifier": "b",
        "batch_id": "x1",
        "namespace": None,
        "canceled": True,
        "task": cli.mock.batch("b", "x1").task(),
        "error": None,
        "attempts": 1,
    }


def test_error_response_is_a_sentence_and_exit_1(cli: Command) -> None:
    done = cli("cancel", "b", "done")
    assert (done.returncode, done.stdout) == (1, "")
    message = re.sub("req_[0-9]+", "req_1", sentence(done))
    assert message == "done of b: A batch that is COMPLETED cannot be cancelled. (400, BadRequestError, request req_1)"


def test_error_response_as_json(cli: Command) -> None:
    done = cli("cancel", "b", "done", "--json")
    entry = json.loads(done.stdout)
    assert done.returncode == 1
    assert (entry["canceled"], entry["task"]) == (False, None)
    assert entry["error"].pop("request_id").startswith("req_")
    assert entry["error"] == {
        "class": "BadRequestError",
        "message": "A batch that is COMPLETED cannot be cancelled.",
        "type": "BadRequestError",
        "details": {"status": "COMPLETED"},
        "status_code": 400,
    }


def test_connection_failure_has_no_status_code(cli: Command) -> None:
    cli.mock.fail_next("reset")
    done = cli("cancel", "b", "x1", "--max-retries", "0", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["class"], error["status_code"]) == (1, "APIConnectionError", None)
    assert "reset" in sentence(done)


def test_another_status_than_canceled_is_exit_1(cli: Command) -> None:
    cli.mock.fail_next(200, body={**cli.mock.batch("b", "x1").task(), "status": "STOPPING"})
    done = cli("cancel", "b", "x1")
    assert done.returncode == 1
    assert "x1 of b: STOPPING" in done.stdout
    assert sentence(done) == "x1 of b is STOPPING, not CANCELED."


def test_optional_fields_of_a_task(cli: Command) -> None:
    """Absent ones are left out; an error message is shown. Control characters are escaped."""
    body = {"task_id": "t\x1b[2J", "task_type": "x", "status": "CANCELED", "inputs": None, "error_message": "a\nb"}
    cli.mock.fail_next(200, body=body)
    done = cli("cancel", "b", "x1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "x1 of b: CANCELED\n  task     t\\x1b[2J\n  type     x\n  error    a\\nb\n"


def test_control_characters_in_an_error_are_escaped(cli: Command) -> None:
    cli.mock.fail_next(404, body={"error": {"message": "a\x1b[2J\nb"}})
    assert "a\\x1b[2J\\nb" in sentence(cli("cancel", "b", "x1"))


def test_key_in_a_response_is_not_shown(cli: Command) -> None:
    cli.mock.fail_next(401, body={"error": {"message": f"unknown key {KEY}", "details": {"key": KEY}}}, times=2)
    assert "unknown key [API key]" in sentence(cli("cancel", "b", "x1"))
    assert "unknown key [API key]" in cli("cancel", "b", "x1", "--json").stdout


def test_retries_are_shown_and_then_what_to_do(cli: Command) -> None:
    cli.mock.fail_next(500, times=2)
    first, last = cli("cancel", "b", "x1", "--max-retries", "1").stderr.splitlines()
    assert first.startswith("mixpeek-batches: Batch 'x1' of bucket 'b': attempt 1 of 2 failed, next in ")
    assert last.endswith(" Try again later.")


def test_dry_run_sends_nothing(cli: Command) -> None:
    assert cli("cancel", "b", "x1", "--dry-run").stdout == (
        f"Would cancel x1 of b in the key's default namespace at {cli.mock.url}; nothing was sent.\n"
    )
    assert "in namespace n at" in cli("cancel", "b", "x1", "--dry-run", "--namespace", "n").stdout
    entry = json.loads(cli("cancel", "b", "x1", "--dry-run", "--json").stdout)
    assert (entry["dry_run"], entry["canceled"]) == (True, False)
    assert cli.mock.requests == []


# Options


@pytest.mark.parametrize(
    ("arguments", "key", "message"),
    [
        (["b", "x1"], None, "No API key: set MIXPEEK_API_KEY, or name a file that holds it with --api-key-file."),
        (["b", "x1"], "sk\n", "line break"),
        (["..", "x1"], KEY, "BUCKET may not be '..'"),
        (["b", ""], KEY, "BATCH is empty"),
        (["b", "x1", "--base-url", "http://example.com"], KEY, "or pass --allow-http if that is meant."),
        (["b", "x1", "--base-url", "nonsense"], KEY, "--base-url must be like"),
        (["b", "x1", "--namespace", "a\tb"], KEY, "--namespace 'a\\tb' holds a control character"),
        (["b", "x1", "--api-key-file", "/nonexistent/key"], None, "/nonexistent/key cannot be read: No such file"),
        (["b", "x1", "--api-key-file", "/dev/null"], None, "/dev/null holds no API key"),
        (["", "x1", "--dry-run"], KEY, "BUCKET is empty"),
        (["--from", "-", "--namespace", "a\tb"], KEY, "control character"),
        (["--from", "/nonexistent/file"], KEY, "/nonexistent/file cannot be read: No such file"),
        (["--from", "/"], KEY, "/ cannot be read: Is a directory"),
        (["--from", "-", "--resume", "/nonexistent/file"], KEY, "/nonexistent/file cannot be used: No such file"),
        (["--from", "-", "--resume", "/dev/full"], KEY, "/dev/full cannot be used: it is not a regular file"),
        (["--from", "batches", "--output", "./batches"], KEY, "--output and --from name the same file."),
        (["--from", "-", "--output", "r", "--resume", "r"], KEY, "--output and --resume name the same file."),
    ],
)
def test_wrong_configuration_is_a_sentence_and_exit_2(
    cli: Command, arguments: list[str], key: str | None, message: str
) -> None:
    done = cli("cancel", *arguments, stdin="b,x1\n", MIXPEEK_API_KEY=key)
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert message in sentence(done)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cancel"], "Name a bucket and a batch, or a file with --from."),
        (["cancel", "b"], "Name a bucket and a batch, or a file with --from."),
        (["cancel", "b", "--from", "-"], "Name a bucket and a batch, or a file with --from."),
        (["cancel", "b", "x1", "--from", "-"], "Name a bucket and a batch, or a file with --from."),
        (["cancel", "b", "x1", "x2"], "unexpected extra argument"),
        (["cancel", "b", "x1", "--resume", "r"], "--resume needs --from"),
        (["cancel", "b", "x1", "--skip-invalid"], "--skip-invalid needs --from"),
        (["cancel", "b", "x1", "--timeout", "0"], "0.0 is not in the range"),
        (["cancel", "b", "x1", "--max-retries=-1"], "-1 is not in the range"),
        (["cancel", "--from", "-", "--concurrency", "0"], "0 is not in the range"),
        (["cancel", "--from", "-", "--concurrency", "1001", "--dry-run"], "1001 is not in the range"),
        (["cancel", "b", "x1", "--nope"], "--nope"),
        (["nope"], "No such command 'nope'"),
        (["mock", "--rate-limit", "5/0"], "both the rate and the burst must be above 0"),
        (["mock", "--rate-limit", "much"], "'much' is neither a rate, such as 5, nor one with a burst"),
        (["completion"], "Missing argument"),
    ],
)
def test_wrong_usage_is_exit_2(cli: Command, arguments: list[str], message: str) -> None:
    done = cli(*arguments, stdin="b,x1\n")
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert message in done.stderr


def test_key_file_wins_over_the_environment(cli: Command) -> None:
    """The line break at its end is no part of the key."""
    path = cli.file(KEY + "\n", "key")
    assert cli("cancel", "b", "x1", "--api-key-file", path, MIXPEEK_API_KEY="sk_other").returncode == 0
    cli.mock.fail_next(401)
    assert f"Check the key in {path}." in cli("cancel", "b", "x1", "--api-key-file", path).stderr


def test_options_win_over_the_environment(cli: Command) -> None:
    cli.mock.add_batch("b", "x1", namespace="ñ")
    assert cli("cancel", "b", "x1", MIXPEEK_NAMESPACE="ñ").returncode == 0
    cli.mock.add_batch("b", "other", namespace="third")
    done = cli(
        *["cancel", "b", "other", "--namespace", "third", "--base-url", cli.mock.url],
        MIXPEEK_NAMESPACE="ñ",
        MIXPEEK_BASE_URL="https://example.invalid",
    )
    assert done.returncode == 0
    assert [request.namespace for request in cli.mock.requests] == ["ñ", "third"]


def test_version_and_help(cli: Command) -> None:
    assert cli("--version").stdout == f"mixpeek-batches {__version__}\n"
    text = cli("cancel", "--help").stdout
    for option in ("namespace", "base-url", "api-key-file", "timeout", "max-retries", "json", "dry-run", "allow-http"):
        assert f"--{option}" in text
    assert "--api-key " not in text
    assert len(re.findall("^    mixpeek-batches cancel ", text, re.MULTILINE)) == 2
    assert {"cancel", "mock", "completion"} <= set(cli("-h").stdout.split())


# As a process


def test_help_imports_neither_an_http_client_nor_a_progress_bar() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mixpeek_batches.cli", "-h"],
        check=True,
        capture_output=True,
        text=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"click", "mixpeek_batches.cli.cancel"} <= imported
    assert not {"httpx", "attrs", "tqdm", "csv", "mixpeek_batches.client"} & imported


def test_interrupt_is_exit_130(cli: Command) -> None:
    cli.mock.fail_next("latency", seconds=20)
    with cli.start("cancel", "b", "x1") as process:
        wait_until(lambda: len(cli.mock.requests) == 1)
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert (done.returncode, sentence(done)) == (130, "Interrupted.")


def test_terminal_without_utf8(cli: Command) -> None:
    """Neither it nor odd identifiers are in the way."""
    cli.mock.add_batch("b/ü", "--x")
    cli.environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = cli.run_process("cancel", "--", "b/ü", "--x")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("--x of b/")


@pytest.mark.parametrize("arguments", [["cancel", "b", "x1"], ["-h"]])
def test_full_disk(cli: Command, arguments: list[str]) -> None:
    """The command says that its output is missing, and whether the batch is cancelled all the same."""
    with Path("/dev/full").open("wb") as full:
        done = cli.run_process(*arguments, stdout=full)
    *rest, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert last == "mixpeek-batches: The output cannot be written: No space left on device."
    assert rest == ([] if arguments == ["-h"] else ["mixpeek-batches: x1 of b is CANCELED."])


def test_closed_stderr(cli: Command) -> None:
    """Messages do not end up among the results."""
    done = cli.run_process("cancel", "b", "done", "--json", stderr=None, preexec_fn=lambda: os.close(2))
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)


@pytest.mark.parametrize(("module", "extra"), [("click", "cli"), ("starlette", "mock")])
def test_missing_extra_is_named(module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from mixpeek_batches.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "mock"], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert f"pip install 'mixpeek-batches[{extra}]'" in sentence(done)


@pytest.mark.parametrize(
    ("shell", "complete"),
    [
        ("bash", "COMP_WORDS=(mixpeek-batches cancel --max-r); COMP_CWORD=2; "
         "_mixpeek_batches_completion mixpeek-batches; echo ${COMPREPLY[@]}"),
        ("fish", "complete --do-complete 'mixpeek-batches cancel --max-r'"),
        ("zsh", ""),  # completes only on a terminal
    ],
)  # fmt: skip
def test_completion(cli: Command, shell: str, complete: str) -> None:
    """The script makes a shell that is installed here complete options."""
    done = cli("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_MIXPEEK_BATCHES_COMPLETE=" in done.stdout
    if complete and shutil.which(shell):
        script = cli.file(f"{done.stdout}\n{complete}\n")
        path = os.pathsep.join([str(INSTALLED.parent), os.environ["PATH"]])
        asked = subprocess.run(
            [shell, script], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert re.findall(r"--max-[a-z]+", asked.stdout.replace("plain,", "")) == ["--max-rate", "--max-retries"]


# The mock


def test_mock_serves_until_it_is_ended(cli: Command) -> None:
    """It prints what to export, holds the batches of the file, shows requests, and exits with 0 on SIGTERM."""
    batches = cli.file('[{"bucket_identifier": "b", "batch_id": "x"}]')
    with cli.start("mock", "--batches", batches) as process:
        assert process.stdout is not None
        title, *exports = [process.stdout.readline() for _ in range(3)]
        assert "holding 1 batch." in title
        variables = dict(line.removeprefix("export ").strip().split("=", 1) for line in exports)
        url, headers = variables["MIXPEEK_BASE_URL"], {"Authorization": f"Bearer {variables['MIXPEEK_API_KEY']}"}
        response = httpx.post(f"{url}/v1/buckets/b/batches/x/cancel", headers=headers)
        assert response.json()["status"] == "CANCELED"
        httpx.post(f"{url}/_mock/faults", json={"fault": "reset"})
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{url}/v1/buckets/b/batches/x/cancel")
        process.send_signal(signal.SIGTERM)
        done = finish(process)
    assert done.returncode == 0
    assert done.stderr == (
        "mixpeek-batches: POST /v1/buckets/b/batches/x/cancel -> 200\n"
        "mixpeek-batches: POST /v1/buckets/b/batches/x/cancel -> no response\n"
    )


def test_mock_reset_restores_its_start(cli: Command) -> None:
    """A reset over the admin API restores the batches of the file and --rate-limit; --host warns of what it opens."""
    batches = cli.file('{"bucket_identifier": "b", "batch_id": "x"}\n\n')
    options = ["--json", "--host", "0.0.0.0", "--rate-limit", "2/5", "--batches", batches]
    with cli.start("mock", *options, installed=True) as process:
        assert process.stdout is not None
        place: dict[str, str] = json.loads(process.stdout.readline())
        port = httpx.URL(place["url"]).port
        assert place["url"] == f"http://127.0.0.1:{port}"
        admin, headers = place["url"] + "/_mock", {"Authorization": f"Bearer {place['api_key']}"}
        for _ in range(2):
            limits = httpx.get(f"{admin}/limits").json()
            assert limits == {"requests_per_second": 2.0, "burst": 5, "concurrency": None}
            httpx.post(f"{admin}/limits", json={"requests_per_second": None})
            assert httpx.get(f"{admin}/batches/b/x").json()["status"] == "PENDING"
            response = httpx.post(f"{place['url']}/v1/buckets/b/batches/x/cancel", headers=headers)
            assert response.status_code == 200
            assert httpx.post(f"{admin}/reset").status_code == 204
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.returncode == 0
    assert done.stderr.startswith(f"The mock listens on 0.0.0.0, port {port}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"bucket_identifier": "b"}', "Batch 1: The field 'batch_id' is missing"),
        ('[{"bucket_identifier": "b", "batch_id": "x", "status": "DONE"}]', "'DONE' is not one of PENDING"),
        ("{", "holds neither a JSON array nor JSON lines"),
        (None, "cannot be read: No such file"),
    ],
)
def test_mock_with_a_wrong_file(cli: Command, content: str | None, message: str) -> None:
    path = str(cli.folder / "none") if content is None else cli.file(content)
    done = cli("mock", "--batches", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in sentence(done)


def test_mock_on_a_wrong_address(cli: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "take another, or 0 for a free one" in sentence(cli("mock", "--port", port))
    assert "from 0 to 65535" in sentence(cli("mock", "--port", "70000"))
    done = cli("mock", "--host", "192.0.2.1")
    assert done.returncode == 2
    assert "192.0.2.1 is no address of this machine" in sentence(done)
