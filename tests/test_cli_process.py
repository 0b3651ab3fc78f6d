"""`cancel --from` as a process: however it ends, nothing that the server did is lost; and what a terminal shows."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import pty
import re
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_support
import pytest
from bulk import wait_until
from cli_support import KEY, Command, canceled_in, finish

cli, cli_server = cli_support.cli, cli_support.cli_server


def test_cron(cli: Command) -> None:
    """The installed command needs hardly any environment, and says nothing of retries: there may be thousands."""
    cli.mock.fail_next(500, times=2)
    done = finish(cli.start("cancel", "--from", cli.batches(), "--yes", installed=True, env=cli.environment))
    assert (done.returncode, len(cli.mock.requests)) == (0, 42)
    assert canceled_in(done.stdout) == cli.canceled
    assert re.fullmatch(r"mixpeek-batches: 40 of 40 batches cancelled in [0-9.]+ s( \([0-9,]+/s\))?\.\n", done.stderr)


# However it ends


@contextlib.contextmanager
def half_done(cli: Command, record: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Start a run of which ten batches are recorded and four are in flight, each for some seconds."""
    cli.mock.fail_next("latency", seconds=0.0, times=10)
    cli.mock.fail_next("latency", seconds=seconds, times=30)
    arguments = ["--from", cli.batches(), "--resume", str(record), "--concurrency", "4", "--yes"]
    with cli.start("cancel", *arguments) as process:
        wait_until(lambda: len(cli.mock.requests) >= 14 and record.read_bytes().count(b"\n") == 11)
        yield process
        process.kill()


def resume(cli: Command, record: Path) -> None:
    """Run the same command again, after which the record lists every batch as cancelled once."""
    cli.mock.clear_faults()
    assert cli("cancel", "--from", cli.batches(), "--resume", str(record), "--yes").returncode == 0
    assert canceled_in(record.read_text()) == cli.canceled == sorted(f"x{n}" for n in range(40))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_shuts_down_cleanly(cli: Command, number: signal.Signals) -> None:
    """Nothing more is sent, requests in flight complete, everything is recorded, and the exit code is 130."""
    record = cli.folder / "record"
    with half_done(cli, record, 1.0) as process:
        process.send_signal(number)
        time.sleep(0.1)  # or the two would be one
        process.send_signal(number)  # as timeout(1) does, which signals the process and then its group
        done = finish(process)
    assert (done.returncode, len(cli.mock.requests)) == (130, 14)
    assert done.stdout == record.read_text().partition("\n")[2]
    assert canceled_in(done.stdout) == cli.canceled
    assert "mixpeek-batches: Interrupted: 14 of 40 batches cancelled" in done.stderr
    assert "To retry 26 batches:\n  mixpeek-batches cancel --from" in done.stderr
    resume(cli, record)


def test_second_signal_stops_at_once(cli: Command) -> None:
    record = cli.folder / "record"
    with half_done(cli, record, 20) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first == "mixpeek-batches: Stopping after 4 requests in flight, 5 s at most; Ctrl-C stops at once.\n"
        time.sleep(0.6)  # sooner, it would count as the same one
        process.send_signal(signal.SIGINT)
        done = finish(process, timeout=4)
    assert done.returncode == 130
    assert canceled_in(done.stdout) == canceled_in(record.read_text())
    assert len(canceled_in(done.stdout)) == 10
    assert "mixpeek-batches: Interrupted: 10 of 40" in done.stderr


def test_kill(cli: Command) -> None:
    """The record has every result so far, and a second run does the rest."""
    record = cli.folder / "record"
    with half_done(cli, record, 20) as process:
        process.kill()
        process.communicate(timeout=10)
    assert len(canceled_in(record.read_text())) == 10
    resume(cli, record)


@pytest.mark.parametrize("reason", ["Broken pipe", "No space left on device"])
def test_stdout_that_cannot_be_written(cli: Command, reason: str) -> None:
    """The run stops with a sentence and exit code 1, whether after `| head -1` or on a full disk."""
    record = cli.folder / "record"
    for number in range(10):
        cli.mock.add_batch("b", f"x{number}", inputs=["o" * 100_000])  # is left in the buffer of stdout
    with contextlib.ExitStack() as stack:
        if reason == "Broken pipe":
            read, write = os.pipe()
            os.close(read)
        else:
            write = os.open("/dev/full", os.O_WRONLY)
        stack.callback(os.close, write)
        arguments = ["--from", cli.batches(), "--resume", str(record), "--concurrency", "2", "--yes"]
        done = finish(cli.start("cancel", *arguments, stdout=write))
    assert done.returncode == 1
    assert f"mixpeek-batches: Stopped, because a result could not be written: {reason}.\n" in done.stderr
    assert done.stderr.count(reason) == 1
    assert len(cli.mock.requests) < 40
    assert canceled_in(record.read_text()) == cli.canceled


# On a terminal


class Terminal:
    """A pseudo-terminal on which the command runs, and what it shows.

    Args:
        cli: The command.
        arguments: Its arguments.
        piped: Which of stdin, stdout and stderr are pipes instead.
        columns: The width; 0 if it is unknown, as on a serial line.
    """

    def __init__(self, cli: Command, *arguments: str, piped: tuple[str, ...] = (), columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns)
        self.shown = ""
        streams: dict[str, Any] = {
            name: subprocess.PIPE if name in piped else slave for name in ("stdin", "stdout", "stderr")
        }
        control = functools.partial(fcntl.ioctl, slave, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
        self.process = cli.start("cancel", *arguments, **streams, start_new_session=True, preexec_fn=control)
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self._master, (24 if columns else 0, columns))

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the command has ended
            while data := os.read(self._master, 65536):
                self.shown += data.decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what a piped stdout received."""
        done = finish(self.process)
        self._reader.join(10)
        os.close(self._master)
        assert KEY not in self.shown
        assert "Traceback" not in self.shown
        return done.returncode, done.stdout

    @property
    def screen(self) -> list[str]:
        """The lines that are left where text was overwritten."""
        assert "\x1b" not in self.shown
        lines = []
        for line in self.shown.replace("\r\n", "\n").split("\n"):
            left = ""
            for part in line.split("\r"):
                left = part + left[len(part) :]
            lines.append(left.rstrip())
        return [line for line in lines if line]


def test_terminal_asks_and_shows_progress(cli: Command) -> None:
    """After `y` a bar shows the counts, and is gone when the summary comes; stdout gets all results."""
    cli.mock.fail_next("latency", seconds=0.2, times=20)
    terminal = Terminal(cli, "--from", cli.batches(), "--concurrency", "4", piped=("stdout",))
    wait_until(lambda: "Continue? [y/N]: " in terminal.shown)
    assert f"About to cancel 40 batches of 1 bucket in the key's default namespace at {cli.mock.url}" in terminal.shown
    assert cli.mock.requests == []
    terminal.type("y\n")
    code, out = terminal.end()
    assert (code, canceled_in(out)) == (0, cli.canceled)
    bars = [part for part in re.split(r"[\r\n]", terminal.shown) if "%" in part]
    bar = r" *\d+% \|[^|]*\| \d+/40: \d+ cancelled, \d+ failed, +[^ ]+/s, [^ ]+ left *"
    assert all(re.fullmatch(bar, each) for each in bars)
    assert any(not each.startswith("  0%") for each in bars)
    *_, question, summary = terminal.screen
    assert question.startswith("Continue?")
    assert re.fullmatch(r"mixpeek-batches: 40 of 40 batches cancelled in [0-9.]+ s \([0-9]+/s\)\.", summary)


@pytest.mark.parametrize(
    ("typed", "code", "message"), [("\n", 1, "Nothing was sent."), ("\3", 130, "Interrupted.")], ids=["enter", "ctrl-c"]
)
def test_terminal_takes_no_for_an_answer(cli: Command, typed: str, code: int, message: str) -> None:
    terminal = Terminal(cli, "--from", cli.batches(), piped=("stdout",))
    wait_until(lambda: "[y/N]: " in terminal.shown)
    terminal.type(typed)
    assert (terminal.end(), cli.mock.requests) == ((code, ""), [])
    assert terminal.screen[-1].endswith(f"mixpeek-batches: {message}")


def test_terminal_cannot_ask_with_batches_on_stdin(cli: Command) -> None:
    terminal = Terminal(cli, "--from", "-", piped=("stdin", "stdout"))
    assert terminal.process.stdin is not None
    terminal.process.stdin.write("b,x1\nb,x2\n")
    assert (terminal.end(), cli.mock.requests) == ((2, ""), [])
    assert "pass --yes" in terminal.shown


def test_terminal_shows_results_above_the_bar(cli: Command) -> None:
    """Each is complete and on a line of its own, even if the width is unknown."""
    cli.mock.fail_next("latency", seconds=0.2, times=20)
    terminal = Terminal(cli, "--from", cli.batches(), "--yes", "--concurrency", "4", columns=0)
    assert terminal.end()[0] == 0
    assert "% |" in terminal.shown
    *lines, summary = terminal.screen
    assert canceled_in("".join(line + "\n" for line in lines)) == cli.canceled
    assert "40 of 40 batches cancelled" in summary


def test_terminal_that_is_resized_and_interrupted(cli: Command) -> None:
    """The bar tells how long the server holds the run back, follows the width, and is gone after Ctrl-C."""
    cli.mock.fail_next(429, retry_after=30)
    terminal = Terminal(cli, "--from", cli.batches(), "--yes", "--concurrency", "1", piped=("stdout",))
    wait_until(lambda: re.search("held back for (30|29) s by a 429", terminal.shown) is not None)
    terminal.resize(40)
    resized = terminal.shown.count("\r") + 2  # one more may have the old width
    wait_until(lambda: terminal.shown.count("\r") > resized + 4)
    *_, last = [part for part in re.split(r"[\r\n]", terminal.shown) if "%" in part][:-1]
    assert len(last) <= 40
    terminal.type("\3")
    code, out = terminal.end()
    assert (code, canceled_in(out)) == (130, [])
    assert any(line.startswith("mixpeek-batches: Interrupted: 0 of 40 batches") for line in terminal.screen)
    assert not any("% |" in line for line in terminal.screen)
