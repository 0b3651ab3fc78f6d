"""Cancel many batches at a mock that fails a third of all attempts, in every way, and count what became of them.

    python -m scripts.chaos [BATCHES]

Exits with 1 unless each batch is reported exactly once, as what it is at the mock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from mixpeek_batches import AsyncClient, CancelResult, Client, TaskStatus
from mixpeek_batches.mock import MockServer

BUCKET = "bkt_chaos"
RATE = 1 / 3
ENOUGH = 20
"""Retries with which a batch fails for good once in 10 to the power of 10."""
CONCURRENCY = 200
_TIMEOUT = 600.0


@attrs.frozen(kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        name: What was run.
        batches: How many batches there were.
        seconds: How long it took.
        answers: How often the mock gave each status; None stands for no answer at all.
        reported: How many batches were reported as cancelled.
        canceled: How many are CANCELED at the mock.
        wrong: What does not fit, in sentences.
    """

    name: str
    batches: int
    seconds: float
    answers: Counter[int | None]
    reported: int
    canceled: int
    wrong: list[str]

    def __str__(self) -> str:
        spoilt = self.answers.total() - self.answers[200]
        return (
            f"{self.name:<38} {self.batches:>7,} batches {self.seconds:>6.1f} s {self.answers.total():>7,} requests "
            f"{spoilt:>6,} not 200 ({self.answers[None]:,} resets) {self.reported:>7,} reported "
            f"{self.canceled:>7,} CANCELED  {'; '.join(self.wrong) or 'ok'}"
        )


Work = Callable[[MockServer, list[tuple[str, str]], int], list[tuple[str, bool]]]
"""Cancels the batches, each with so many retries, and tells what was reported of each: its id, and if cancelled."""


def run(name: str, work: Work, batches: int, max_retries: int, *, seed: int = 1) -> Report:
    """Run one way of cancelling many at a mock of its own, and compare what it reported with what the mock holds."""
    with MockServer() as mock:
        ids = [f"btch_{number}" for number in range(batches)]
        mock.add_batches([{"bucket_identifier": BUCKET, "batch_id": id_, "status": "IN_PROGRESS"} for id_ in ids])
        mock.fail_randomly(RATE, seed=seed)
        answers: Counter[int | None] = Counter()
        mock.on_request = lambda request: answers.update([request.status_code])
        started = time.monotonic()
        reports = work(mock, [(BUCKET, id_) for id_ in ids], max_retries)
        seconds = time.monotonic() - started
        canceled = {batch.batch_id for batch in mock.batches if batch.status is TaskStatus.CANCELED}
    return Report(
        name=name,
        batches=batches,
        seconds=seconds,
        answers=answers,
        reported=sum(done for _, done in reports),
        canceled=len(canceled),
        wrong=list(_wrong(ids, reports, canceled, all_of_them=max_retries >= ENOUGH)),
    )


def _wrong(ids: list[str], reports: list[tuple[str, bool]], canceled: set[str], *, all_of_them: bool) -> Iterable[str]:
    times = Counter(id_ for id_, _ in reports)
    reported = {id_ for id_, done in reports if done}
    failed = {id_ for id_, done in reports if not done}
    if times != Counter(ids):
        odd = [id_ for id_ in {*ids, *times} if times[id_] != 1]
        yield f"{len(odd):,} not reported exactly once, as {odd[:3]}"
    if reported - canceled:
        yield f"{len(reported - canceled):,} reported as cancelled that are not"
    # What failed may have been carried out nevertheless; what was not reported at all may not.
    if canceled - reported - failed:
        yield f"{len(canceled - reported - failed):,} CANCELED of which nothing was said"
    if not all_of_them and not failed:
        yield "nothing failed"
    if all_of_them and (len(canceled) < len(ids) or failed):
        yield f"{len(ids) - len(canceled):,} not CANCELED, {len(failed):,} reported as failed"


def _said(result: CancelResult) -> tuple[str, bool]:
    return result.batch_id, result.canceled


def with_client(mock: MockServer, pairs: list[tuple[str, str]], max_retries: int) -> list[tuple[str, bool]]:
    """Cancel by Client.cancel_batches."""
    with Client(api_key=mock.api_key, base_url=mock.url, max_retries=max_retries) as client:
        return [_said(result) for result in client.cancel_batches(iter(pairs), concurrency=CONCURRENCY)]


def with_async_client(mock: MockServer, pairs: list[tuple[str, str]], max_retries: int) -> list[tuple[str, bool]]:
    """Cancel by AsyncClient.cancel_batches."""

    async def work() -> list[tuple[str, bool]]:
        async with AsyncClient(api_key=mock.api_key, base_url=mock.url, max_retries=max_retries) as client:
            return [_said(result) async for result in client.cancel_batches(iter(pairs), concurrency=CONCURRENCY)]

    return asyncio.run(work())


def _command(mock: MockServer, batches: Path, record: Path | None, max_retries: int) -> subprocess.Popen[str]:
    arguments = ["cancel", "--from", str(batches), "--concurrency", str(CONCURRENCY), "--max-retries", str(max_retries)]
    arguments += ["--yes"]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mixpeek_batches.cli",
            *arguments,
            *([] if record is None else ["--resume", str(record)]),
        ],
        env={**os.environ, "MIXPEEK_API_KEY": mock.api_key, "MIXPEEK_BASE_URL": mock.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if record is None else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _entries(lines: Iterable[str]) -> list[tuple[str, bool]]:
    # The first line of a record names the server.
    return [(entry["batch_id"], entry["canceled"]) for entry in map(json.loads, lines) if "server" not in entry]


def _write(folder: str, pairs: list[tuple[str, str]]) -> Path:
    path = Path(folder, "batches.csv")
    path.write_text("".join(f"{bucket},{batch}\n" for bucket, batch in pairs))
    return path


def with_command(mock: MockServer, pairs: list[tuple[str, str]], max_retries: int) -> list[tuple[str, bool]]:
    """Cancel by the command, whose lines on stdout are what it reports."""
    with tempfile.TemporaryDirectory() as folder:
        process = _command(mock, _write(folder, pairs), None, max_retries)
        output, _ = process.communicate(timeout=_TIMEOUT)
    assert process.returncode == (0 if max_retries >= ENOUGH else 1), f"exit code {process.returncode}"
    return _entries(output.splitlines())


def killed_and_resumed(mock: MockServer, pairs: list[tuple[str, str]], max_retries: int) -> list[tuple[str, bool]]:
    """Kill the command half-way, and run it again; the record is what it reports."""
    with tempfile.TemporaryDirectory() as folder:
        batches, record = _write(folder, pairs), Path(folder, "record.jsonl")
        first = _command(mock, batches, record, max_retries)
        give_up = time.monotonic() + _TIMEOUT
        while not record.exists() or record.read_bytes().count(b"\n") < len(pairs) // 2:
            assert first.poll() is None, "the command ended before it was half-way"
            assert time.monotonic() < give_up, "the command takes too long"
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert record.read_bytes().count(b"\n") < len(pairs), "the command was not killed half-way"
        second = _command(mock, batches, record, max_retries)
        assert second.wait(_TIMEOUT) == 0, f"exit code {second.returncode}"
        return _entries(record.read_text().splitlines())


RUNS: dict[str, tuple[Work, int]] = {
    "AsyncClient.cancel_batches": (with_async_client, ENOUGH),
    "Client.cancel_batches": (with_client, ENOUGH),
    "cancel --from": (with_command, ENOUGH),
    "cancel --from, SIGKILL, --resume": (killed_and_resumed, ENOUGH),
    "AsyncClient.cancel_batches, no retries": (with_async_client, 0),
    "Client.cancel_batches, no retries": (with_client, 0),
    "cancel --from, no retries": (with_command, 0),
}


def main() -> int:
    """Run each way, and print a line of figures for each."""
    parser = argparse.ArgumentParser(description="Cancel many batches at a mock that fails a third of all attempts.")
    parser.add_argument("batches", nargs="?", type=int, default=10_000, help="how many batches each way cancels")
    batches = parser.parse_args().batches
    logging.getLogger("mixpeek_batches").setLevel(logging.ERROR)  # every retry is a warning
    well = True
    for name, (work, max_retries) in RUNS.items():
        report = run(name, work, batches, max_retries)
        print(report, flush=True)
        well = well and not report.wrong
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
