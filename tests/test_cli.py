"""The command: one batch, its options, and the mock."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert json.loads(done.stdout) == {
        "bucket_identifier": "b",
        "batch_id": "x1",
        "namespace": None,
        "canceled": True,
        "task": cli.mock.batch("b", "x1").task(),
        "error": None,
        "attempts": 1,
    }
    done = cli("cancel", "b", "done", "--json")
    entry = json.loads(done.stdout)
    assert (done.returncode, entry["task"], entry["error"]["details"]) == (1, None, {"status": "COMPLETED"})
    assert "A batch that is COMPLETED cannot be cancelled." in sentence(done)


def _task(**fields: Any) -> dict[str, Any]:
    return {"fault": 200, "body": {"task_id": "t", "task_type": "x", "status": "CANCELED", **fields}}


@pytest.mark.parametrize(
    ("fault", "stdout", "message"),
    [
        (_task(inputs=None), "x1 of b: CANCELED\n  task     t\n  type     x\n", ""),
        (_task(status="STOP"), "x1 of b: STOP\n  task     t\n  type     x\n", "x1 of b is STOP, not CANCELED."),
        (
            _task(task_id="\x1b[2J", error_message="a\nb"),
            "x1 of b: CANCELED\n  task     \\x1b[2J\n  type     x\n  error    a\\nb\n",
            "",
        ),
        ({"fault": 404, "body": {"error": {"message": "a\x1b[2J\nb"}}}, "", "x1 of b: a\\x1b[2J\\nb (404"),
        ({"fault": "reset"}, "", "x1 of b: The connection to 127.0.0.1 failed: "),
    ],
    ids=["no-inputs", "another-status", "control-characters", "control-characters-in-an-error", "reset"],
)
def test_response(cli: Command, fault: dict[str, Any], stdout: str, message: str) -> None:
    """A task goes to stdout, a failure is a sentence on stderr, and neither controls the terminal."""
    cli.mock.fail_next(**fault)
    done = cli("cancel", "b", "x1", "--max-retries", "0")
    assert (done.returncode, done.stdout) == (1 if message else 0, stdout)
    assert sentence(done).startswith(message) if message else done.stderr == ""


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
        (["cancel", "b", "x1"], None, "No API key: set MIXPEEK_API_KEY, or name a file that holds it with --api-key-f"),
        (["cancel", "b", "x1"], "sk\n", "line break"),
        (["cancel", "..", "x1"], KEY, "BUCKET may not be '..'"),
        (["cancel", "", "x1", "--dry-run"], KEY, "BUCKET is empty"),
        (["cancel", "b", ""], KEY, "BATCH is empty"),
        (["cancel", "b", "x1", "--base-url", "http://example.com"], KEY, "or pass --allow-http if that is meant."),
        (["cancel", "b", "x1", "--base-url", "nonsense"], KEY, "--base-url must be like"),
        (["cancel", "--from", "-", "--namespace", "a\tb"], KEY, "--namespace 'a\\tb' holds a control character"),
        (["cancel", "b", "x1", "--api-key-file", "/none/key"], None, "/none/key cannot be read: No such file"),
        (["cancel", "b", "x1", "--api-key-file", "/dev/null"], None, "/dev/null holds no API key"),
        (["cancel", "--from", "/none/file"], KEY, "/none/file cannot be read: No such file"),
        (["cancel", "--from", "/"], KEY, "/ cannot be read: Is a directory"),
        (["cancel", "--from", "-", "--resume", "/none/file"], KEY, "/none/file cannot be used: No such file"),
        (["cancel", "--from", "-", "--resume", "/dev/full"], KEY, "/dev/full cannot be used: it is not a regular file"),
        (["cancel", "--from", "f", "--output", "./f"], KEY, "--output and --from name the same file."),
        (["cancel", "--from", "-", "--output", "f", "--resume", "f"], KEY, "--output and --resume name the same file."),
        (["mock", "--batches", "/none/file"], KEY, "/none/file cannot be read: No such file"),
        (["mock", "--batches", __file__], KEY, "holds neither a JSON array nor JSON lines"),
        (["mock", "--host", "192.0.2.1"], KEY, "192.0.2.1 is not an address of this machine"),
    ],
)
def test_wrong_configuration_is_a_sentence_and_exit_2(
    cli: Command, arguments: list[str], key: str | None, message: str
) -> None:
    done = cli(*arguments, stdin="b,x1\n", MIXPEEK_API_KEY=key)
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert message in sentence(done)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cancel", "Name a bucket and a batch, or a file with --from."),
        ("cancel b", "Name a bucket and a batch, or a file with --from."),
        ("cancel b --from -", "Name a bucket and a batch, or a file with --from."),
        ("cancel b x1 --from -", "Name a bucket and a batch, or a file with --from."),
        ("cancel b x1 x2", "unexpected extra argument"),
        ("cancel b x1 --resume r", "--resume needs --from"),
        ("cancel b x1 --skip-invalid", "--skip-invalid needs --from"),
        ("cancel b x1 --timeout 0", "0.0 is not in the range"),
        ("cancel b x1 --max-retries=-1", "-1 is not in the range"),
        ("cancel --from - --concurrency 0", "0 is not in the range"),
        ("cancel --from - --concurrency 1001 --dry-run", "1001 is not in the range"),
        ("nope", "No such command 'nope'"),
        ("mock --rate-limit 5/0", "'5/0' is neither a rate above 0, such as 5, nor one with a burst"),
        ("mock --rate-limit much", "'much' is neither a rate above 0, such as 5, nor one with a burst"),
        ("completion", "Missing argument"),
    ],
)
def test_wrong_usage_is_exit_2(cli: Command, arguments: str, message: str) -> None:
    done = cli(*arguments.split(), stdin="b,x1\n")
    assert (done.returncode, done.stdout, cli.mock.requests) == (2, "", [])
    assert message in done.stderr


def test_key_file_wins_over_the_environment(cli: Command) -> None:
    """The line break at its end is no part of the key, nor is the byte order mark of an editor."""
    path = cli.file(f"\ufeff{KEY}\n", "key")
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
    done = finish(cli.start("cancel", "--", "b/ü", "--x"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("--x of b/")


@pytest.mark.parametrize("arguments", [["cancel", "b", "x1"], ["-h"]])
def test_full_disk(cli: Command, arguments: list[str]) -> None:
    """The command says that its output is missing, and whether the batch is cancelled all the same."""
    with Path("/dev/full").open("wb") as full:
        done = finish(cli.start(*arguments, stdout=full))
    *rest, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert last == "mixpeek-batches: The output cannot be written: No space left on device."
    assert rest == ([] if arguments == ["-h"] else ["mixpeek-batches: x1 of b is CANCELED."])


def test_closed_stderr(cli: Command) -> None:
    """Messages do not end up among the results."""
    done = finish(cli.start("cancel", "b", "done", "--json", stderr=None, preexec_fn=lambda: os.close(2)))
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
