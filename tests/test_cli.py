"""The command: one batch, and the mock."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_support import KEY, WHEEL, Done, checkout, command_of, wheel
from cli_support import run as run_command

from mixpeek_batches import __version__
from mixpeek_batches.mock import MockServer

Run = Callable[..., Done]


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
    """A mock with a running and a finished batch, and a key of its own."""
    server.reset()
    server.add_batch("bkt", "running", status="IN_PROGRESS", inputs=["a", {"b": 1}], outputs=["o"])
    server.add_batch("bkt", "failed", status="FAILED")
    return server


@pytest.fixture
def run(command: list[str], mock: MockServer) -> Run:
    """Run the command against the mock; `key=None` sets no key, other keywords set the environment."""

    def run(*arguments: str, key: str | None = KEY, **more: str) -> Done:
        environment = {**os.environ, "MIXPEEK_BASE_URL": mock.url, "NO_COLOR": "1", **more}
        if key is not None:
            environment["MIXPEEK_API_KEY"] = key
        return run_command(command, arguments, environment)

    return run


def _one_sentence(done: Done) -> str:
    """Give what was said on stderr, which must be one line."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("mixpeek-batches: ")
    return lines[0].removeprefix("mixpeek-batches: ")


@wheel
def test_cancel_shows_the_task(run: Run, mock: MockServer) -> None:
    """`cancel BUCKET BATCH` cancels, tells what became of the batch, and exits with 0."""
    done = run("cancel", "bkt", "running")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("running of bkt: CANCELED\n")
    assert mock.batch("bkt", "running").task_id in done.stdout
    assert mock.batch("bkt", "running").status == "CANCELED"


def test_cancel_json_is_one_object(run: Run, mock: MockServer) -> None:
    """With --json, stdout is one line of JSON that holds the whole task."""
    done = run("cancel", "bkt", "running", "--json")
    record = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1
    assert record == {
        "bucket_identifier": "bkt",
        "batch_id": "running",
        "namespace": None,
        "canceled": True,
        "task": mock.batch("bkt", "running").task(),
        "error": None,
        "attempts": 1,
    }


@wheel
def test_refusal_is_a_sentence_and_exit_1(run: Run) -> None:
    """What the server refuses is told in one sentence on stderr."""
    done = run("cancel", "bkt", "failed")
    assert (done.returncode, done.stdout) == (1, "")
    said = re.sub("req_[0-9]+", "req_1", _one_sentence(done))
    assert said == "failed of bkt: A batch that is FAILED cannot be cancelled. (400, BadRequestError, request req_1)"


def test_refusal_json_holds_the_error(run: Run) -> None:
    """With --json, a failure is an object too."""
    done = run("cancel", "bkt", "failed", "--json")
    record = json.loads(done.stdout)
    assert done.returncode == 1
    assert (record["canceled"], record["task"]) == (False, None)
    assert record["error"].pop("request_id").startswith("req_")
    assert record["error"] == {
        "class": "BadRequestError",
        "message": "A batch that is FAILED cannot be cancelled.",
        "type": "BadRequestError",
        "details": {"status": "FAILED"},
        "status_code": 400,
    }


def test_connection_failure_is_exit_1(run: Run, mock: MockServer) -> None:
    """No answer in any attempt is told in one sentence, with no HTTP facts in the JSON."""
    mock.fail_next("reset", times=1)
    done = run("cancel", "bkt", "running", "--max-retries", "0", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["class"] == "APIConnectionError"
    assert json.loads(done.stdout)["error"]["status_code"] is None
    assert "reset" in _one_sentence(done)


def test_other_status_is_not_cancelled(run: Run, mock: MockServer) -> None:
    """A task that comes back in another status than CANCELED counts as not cancelled."""
    mock.fail_next(200, body={**mock.batch("bkt", "running").task(), "status": "STOPPING"})
    done = run("cancel", "bkt", "running")
    assert done.returncode == 1
    assert "running of bkt: STOPPING" in done.stdout
    assert _one_sentence(done) == "running of bkt is STOPPING, not CANCELED."


def test_task_without_optional_fields_is_shown(run: Run, mock: MockServer) -> None:
    """A task that lacks what it may lack is shown without it."""
    mock.fail_next(200, body={"task_id": "t", "task_type": "thumbnail", "status": "CANCELED", "inputs": None})
    done = run("cancel", "bkt", "running")
    assert (done.returncode, done.stderr) == (0, "")
    assert "inputs" not in done.stdout


def test_terminal_codes_of_a_server_are_escaped(run: Run, mock: MockServer) -> None:
    """What the server sends cannot steer the terminal."""
    mock.fail_next(404, body={"error": {"message": "a\x1b[2J\nb"}})
    assert "a\\x1b[2J\\nb" in _one_sentence(run("cancel", "bkt", "running"))
    mock.fail_next(200, body={"task_id": "t\x1b[2J", "task_type": "x", "status": "CANCELED"})
    assert "t\\x1b[2J" in run("cancel", "bkt", "running").stdout


def test_server_that_repeats_the_key_gives_nothing_away(run: Run, mock: MockServer) -> None:
    """A key in the server's answer is not shown."""
    mock.fail_next(401, body={"error": {"message": f"unknown key {KEY}", "details": {"key": KEY}}}, times=2)
    assert "unknown key [API key]" in run("cancel", "bkt", "running").stderr
    run("cancel", "bkt", "running", "--json")  # `run` looks for the key


@pytest.mark.parametrize(
    ("arguments", "key", "said"),
    [
        (["bkt", "running"], None, "No API key: set MIXPEEK_API_KEY, or name a file"),
        (["bkt", "running"], "sk\n", "line break"),
        (["..", "running"], KEY, "'..'"),
        (["bkt", ""], KEY, "empty"),
        (["bkt", "running", "--base-url", "http://example.com"], KEY, "unencrypted"),
        (["bkt", "running", "--base-url", "nonsense"], KEY, "--base-url must be like"),
        (["bkt", "running", "--namespace", "a\tb"], KEY, "control character"),
        (["bkt", "running", "--api-key-file", "/nonexistent/key"], None, "/nonexistent/key cannot be read"),
        (["bkt", "running", "--api-key-file", "/dev/null"], None, "/dev/null holds no API key"),
        (["", "running", "--dry-run"], KEY, "empty"),
    ],
)
def test_wrong_configuration_is_exit_2(
    run: Run, mock: MockServer, arguments: list[str], key: str | None, said: str
) -> None:
    """What may not be sent is told in one sentence, and nothing is sent."""
    done = run("cancel", *arguments, key=key)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in _one_sentence(done)
    assert mock.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel"],
        ["cancel", "bkt"],
        ["cancel", "a", "b", "--nope"],
        ["nope"],
        ["cancel", "a", "b", "c"],
        ["cancel", "a", "b", "--timeout", "0"],
        ["cancel", "a", "b", "--max-retries=-1"],
        ["mock", "--rate-limit", "5/0"],
        ["mock", "--rate-limit", "much"],
        ["completion"],
    ],
)
def test_wrong_usage_is_exit_2(run: Run, arguments: list[str]) -> None:
    """Arguments that make no sense are explained on stderr."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr


def test_key_file_wins_over_the_environment(run: Run, tmp_path: Path, mock: MockServer) -> None:
    """--api-key-file is read without the line break at its end."""
    (tmp_path / "key").write_text(KEY + "\n")
    assert run("cancel", "bkt", "running", "--api-key-file", str(tmp_path / "key"), key="sk_other").returncode == 0


def test_options_win_over_the_environment(run: Run, mock: MockServer) -> None:
    """--namespace and --base-url win over their variables, which are read where the options are absent."""
    mock.add_batch("bkt", "running", namespace="ñ")
    assert run("cancel", "bkt", "running", MIXPEEK_NAMESPACE="ñ").returncode == 0
    mock.add_batch("bkt", "other", namespace="third")
    done = run(
        *["cancel", "bkt", "other", "--namespace", "third", "--base-url", mock.url],
        MIXPEEK_NAMESPACE="ñ",
        MIXPEEK_BASE_URL="https://example.invalid",
    )
    assert done.returncode == 0
    assert [request.namespace for request in mock.requests] == ["ñ", "third"]


def test_dry_run_sends_nothing(run: Run, mock: MockServer) -> None:
    """--dry-run says what would be done, checks it, and exits with 0."""
    assert f"Would cancel running of bkt in the key's default namespace at {mock.url}" in (
        run("cancel", "bkt", "running", "--dry-run").stdout
    )
    assert "in namespace n" in run("cancel", "bkt", "running", "--dry-run", "--namespace", "n").stdout
    record = json.loads(run("cancel", "bkt", "running", "--dry-run", "--json").stdout)
    assert (record["dry_run"], record["canceled"]) == (True, False)
    assert mock.requests == []


@checkout
def test_odd_identifiers_are_shown_whatever_the_terminal(run: Run, mock: MockServer) -> None:
    """Neither a slash in an identifier nor a terminal without UTF-8 is in the way."""
    mock.add_batch("b/ü", "--x")
    done = run("cancel", "--", "b/ü", "--x", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--x of b/" in done.stdout
    assert ": CANCELED" in done.stdout


@wheel
def test_interrupt_is_exit_130(command: list[str], mock: MockServer) -> None:
    """Ctrl-C ends the command at once, with one sentence."""
    mock.fail_next("latency", seconds=20)
    environment = {**os.environ, "MIXPEEK_BASE_URL": mock.url, "MIXPEEK_API_KEY": KEY}
    with subprocess.Popen(
        [*command, "cancel", "bkt", "running"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_until(lambda: bool(mock.requests))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said == "mixpeek-batches: Interrupted.\n"


def test_retries_are_told(run: Run, mock: MockServer) -> None:
    """Whoever waits for one batch learns why, and what to do once there is no more to try."""
    mock.fail_next(500, times=2)
    done = run("cancel", "bkt", "running", "--max-retries", "1")
    first, last = done.stderr.splitlines()
    assert first.startswith("mixpeek-batches: Batch 'running' of bucket 'bkt': attempt 1 of 2 failed, next in ")
    assert last.endswith("Try again later.")


@pytest.mark.parametrize("arguments", [["cancel", "bkt", "running"], ["cancel", "bkt", "running", "--json"], ["-h"]])
@checkout
def test_full_disk(command: list[str], mock: MockServer, arguments: list[str]) -> None:
    """What could not be written is told in a sentence, and whether the batch is cancelled all the same."""
    environment = {**os.environ, "MIXPEEK_BASE_URL": mock.url, "MIXPEEK_API_KEY": KEY}
    with Path("/dev/full").open("wb") as full:
        done = run_command(command, arguments, environment, stdout=full)
    *rest, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert last == "mixpeek-batches: The output could not be written: No space left on device."
    assert rest == ([] if arguments == ["-h"] else ["mixpeek-batches: running of bkt is CANCELED."])


@pytest.mark.parametrize(
    ("shell", "ask"),
    [
        ("bash", "COMP_WORDS=(mixpeek-batches cancel --max-r); COMP_CWORD=2; "
         "_mixpeek_batches_completion mixpeek-batches; echo ${COMPREPLY[@]}"),
        ("fish", "complete --do-complete 'mixpeek-batches cancel --max-r'"),
        ("zsh", ""),  # which completes only in front of a terminal
    ],
)  # fmt: skip
def test_completion(run: Run, tmp_path: Path, shell: str, ask: str) -> None:
    """What `completion` prints gives a shell the options to choose from, as far as the shell is installed."""
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_MIXPEEK_BATCHES_COMPLETE=" in done.stdout
    if ask and shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(f"{done.stdout}\n{ask}\n")
        path = os.pathsep.join([str(WHEEL.parent), os.environ["PATH"]])
        asked = subprocess.run(
            [shell, str(script)], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert re.findall(r"--max-[a-z]+", asked.stdout.replace("plain,", "")) == ["--max-rate", "--max-retries"]


@wheel
def test_version_and_help(run: Run) -> None:
    """--version prints the package's version; --help names every option, on the command and on each subcommand."""
    assert run("--version").stdout == f"mixpeek-batches {__version__}\n"
    shown = run("cancel", "--help", COLUMNS="200").stdout
    for option in ("namespace", "base-url", "api-key-file", "timeout", "max-retries", "json", "dry-run", "allow-http"):
        assert f"--{option}" in shown
    assert "--api-key " not in shown
    assert len(re.findall("^    mixpeek-batches cancel ", shown, re.MULTILINE)) == 2
    assert {"cancel", "mock"} <= set(run("-h").stdout.split())
    assert "Usage: " in run().stdout + run().stderr


@pytest.mark.parametrize("module", ["click", "starlette"])
def test_missing_extra_is_named(module: str) -> None:
    """Without an extra, the command says in one sentence which to install."""
    extra = {"click": "cli", "starlette": "mock"}[module]
    code = f"import sys; sys.modules[{module!r}] = None; from mixpeek_batches.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "mock"], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert f"pip install 'mixpeek-batches[{extra}]'" in _one_sentence(done)


# The mock as a command.


def _wait_until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not become true in 10 s")


@pytest.fixture
def start(command: list[str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command, and end it at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([*command, *arguments], stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("command", "number"), [("checkout", signal.SIGINT), ("wheel", signal.SIGTERM)], indirect=["command"]
)
def test_mock_serves_until_it_is_ended(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    """`mock` prints what to export, holds the batches of the file, shows requests, and ends well."""
    (tmp_path / "batches").write_text('{"bucket_identifier": "b", "batch_id": "x"}\n\n')
    process = start("mock", "--batches", str(tmp_path / "batches"))
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert "holding 1 batch" in lines[0]
    exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines[1:])
    answer = httpx.post(
        f"{exported['MIXPEEK_BASE_URL']}/v1/buckets/b/batches/x/cancel",
        headers={"Authorization": f"Bearer {exported['MIXPEEK_API_KEY']}"},
    )
    assert answer.json()["status"] == "CANCELED"
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert said == "mixpeek-batches: POST /v1/buckets/b/batches/x/cancel -> 200\n"


@wheel
def test_mock_json_and_array(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """With --json the first line is for programs; the file may be one array; a cut answer is shown as none."""
    (tmp_path / "batches").write_text('[{"bucket_identifier": "b", "batch_id": "x"}]')
    process = start("mock", "--json", "--batches", str(tmp_path / "batches"))
    assert process.stdout is not None
    place: dict[str, Any] = json.loads(process.stdout.readline())
    admin = place["url"] + "/_mock/"
    assert httpx.get(admin).json()["batches"] == 1
    httpx.post(admin + "faults", json={"fault": "reset"})
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{place['url']}/v1/buckets/b/batches/x/cancel")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1].endswith("-> no answer\n")


@checkout
def test_mock_reset_goes_back_to_how_it_was_started(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A reset over the admin API goes back to the batches of the file, and to --rate-limit."""
    (tmp_path / "batches").write_text('{"bucket_identifier": "b", "batch_id": "x"}')
    process = start("mock", "--json", "--rate-limit", "2/5", "--batches", str(tmp_path / "batches"))
    assert process.stdout is not None
    place: dict[str, Any] = json.loads(process.stdout.readline())
    headers = {"Authorization": f"Bearer {place['api_key']}"}
    for _ in range(2):
        assert httpx.get(f"{place['url']}/_mock/limits").json() == {
            "requests_per_second": 2.0, "burst": 5, "concurrency": None
        }  # fmt: skip
        httpx.post(f"{place['url']}/_mock/limits", json={"requests_per_second": None})
        assert httpx.get(f"{place['url']}/_mock/batches/b/x").json()["status"] == "PENDING"
        assert httpx.post(f"{place['url']}/v1/buckets/b/batches/x/cancel", headers=headers).status_code == 200
        assert httpx.post(f"{place['url']}/_mock/reset").status_code == 204


@wheel
def test_mock_on_a_host_that_others_reach(start: Callable[..., subprocess.Popen[str]]) -> None:
    """`--host` warns on stderr, in one sentence, of what it opens; what is printed works on this machine."""
    process = start("mock", "--json", "--host", "0.0.0.0")
    assert process.stdout is not None
    place: dict[str, Any] = json.loads(process.stdout.readline())
    port = httpx.URL(place["url"]).port
    assert place["url"] == f"http://127.0.0.1:{port}"
    assert httpx.get(place["url"] + "/_mock/").status_code == 200
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == (
        f"The mock listens on 0.0.0.0, port {port}: "
        "whoever reaches it there can use it and its admin API without a key.\n"
    )


def test_mock_refuses_a_host_of_another_machine(run: Run) -> None:
    """A host that is not this machine's is told in one sentence."""
    done = run("mock", "--host", "192.0.2.1")
    assert done.returncode == 2
    assert "192.0.2.1 is not an address of this machine" in _one_sentence(done)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"bucket_identifier": "b"}', "Batch 1: The field 'batch_id' is missing"),
        ('[{"bucket_identifier": "b", "batch_id": "x", "status": "DONE"}]', "'DONE' is not one of PENDING"),
        ("[1]", "Batch 1: A JSON object is needed"),
        ("{", "neither a JSON array nor JSON lines"),
        (None, "cannot be read"),
    ],
)
def test_mock_refuses_wrong_batches(run: Run, tmp_path: Path, content: str | None, said: str) -> None:
    """A file that does not hold batches is told in one sentence, and no mock runs."""
    if content is not None:
        (tmp_path / "batches").write_text(content)
    done = run("mock", "--batches", str(tmp_path / "batches"))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in _one_sentence(done)


def test_mock_refuses_a_taken_port(run: Run) -> None:
    """A port that is taken, and one that does not exist, are told in one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("mock", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "take another, or 0 for a free one" in _one_sentence(done)
    assert "from 0 to 65535" in _one_sentence(run("mock", "--port", "70000"))
