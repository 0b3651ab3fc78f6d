"""Cancel many batches at a mock that fails a third of all attempts, in every way, and compare reports with the mock.

    python -m scripts.chaos [BATCHES]

Exits with 1 unless each batch is reported exactly once, as what it is at the mock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mixpeek_batches import AsyncClient, Client, TaskStatus
from mixpeek_batches.mock import MockServer

BUCKET = "bkt_chaos"
RATE = 1 / 3
ENOUGH = 20
"""Retries with which a batch fails for good once in 10 to the power of 10."""
CONCURRENCY = 200
_TIMEOUT = 600.0

Pairs = list[tuple[str, str]]
Reports = list[tuple[str, bool]]
"""What was reported, in order: the id of a batch, and whether it was cancelled."""
Work = Callable[[MockServer, Pairs, int], Reports]
"""Cancels batches, with a number of retries for each."""


class ChaosRun(NamedTuple):
    """What came of one way of cancelling.

    Attributes:
        statuses: How often the mock returned each status; None stands for a connection that it reset.
        reported: How many batches were reported as cancelled.
        canceled: How many are CANCELED at the mock.
        wrong: What does not fit, in sentences.
    """

    statuses: Counter[int | None]
    reported: int
    canceled: int
    wrong: list[str]


def run(work: Work, max_retries: int, batches: int) -> ChaosRun:
    """Run one way of cancelling many at a mock of its own, and compare what it reported with what the mock holds."""
    with MockServer() as mock:
        ids = [f"btch_{number}" for number in range(batches)]
        mock.add_batches([{"bucket_identifier": BUCKET, "batch_id": id_, "status": "IN_PROGRESS"} for id_ in ids])
        mock.fail_randomly(RATE, seed=1)
        statuses: Counter[int | None] = Counter()
        mock.on_request = lambda request: statuses.update([request.status_code])
        reports = work(mock, [(BUCKET, id_) for id_ in ids], max_retries)
        canceled = {batch.batch_id for batch in mock.batches if batch.status is TaskStatus.CANCELED}
    wrong = list(_contradictions(ids, reports, canceled, expect_all=max_retries >= ENOUGH))
    return ChaosRun(statuses, sum(done for _, done in reports), len(canceled), wrong)


def _contradictions(ids: list[str], reports: Reports, canceled: set[str], *, expect_all: bool) -> Iterator[str]:
    times = Counter(id_ for id_, _ in reports)
    reported = {id_ for id_, done in reports if done}
    failed = {id_ for id_, done in reports if not done}
    if odd := [id_ for id_ in dict.fromkeys((*ids, *times)) if times[id_] != 1]:
        yield f"{len(odd):,} not reported exactly once, as {odd[:3]}"
    if reported - canceled:
        yield f"{len(reported - canceled):,} reported as cancelled that are not"
    # What failed may have been carried out nevertheless; what was not reported at all may not.
    if silent := canceled - reported - failed:
        yield f"{len(silent):,} CANCELED of which nothing was reported"
    if not expect_all and not failed:
        yield "nothing failed"
    if expect_all and (len(canceled) < len(ids) or failed):
        yield f"{len(ids) - len(canceled):,} not CANCELED, {len(failed):,} reported as failed"


def with_client(mock: MockServer, pairs: Pairs, max_retries: int) -> Reports:
    """Cancel by Client.cancel_batches."""
    with Client(api_key=mock.api_key, base_url=mock.url, max_retries=max_retries) as client:
        results = client.cancel_batches(iter(pairs), concurrency=CONCURRENCY)
        return [(result.batch_id, result.canceled) for result in results]


def with_async_client(mock: MockServer, pairs: Pairs, max_retries: int) -> Reports:
    """Cancel by AsyncClient.cancel_batches."""

    async def work() -> Reports:
        async with AsyncClient(api_key=mock.api_key, base_url=mock.url, max_retries=max_retries) as client:
            results = client.cancel_batches(iter(pairs), concurrency=CONCURRENCY)
            return [(result.batch_id, result.canceled) async for result in results]

    return asyncio.run(work())


def _command(mock: MockServer, pairs: Pairs, max_retries: int, *options: str) -> subprocess.Popen[str]:
    """Start the command with a file of batches on stdin."""
    command = [sys.executable, "-m", "mixpeek_batches.cli", "cancel", "--from", "-", "--yes", *options]
    command += ["--concurrency", str(CONCURRENCY), "--max-retries", str(max_retries)]
    environment = {**os.environ, "MIXPEEK_API_KEY": mock.api_key, "MIXPEEK_BASE_URL": mock.url}
    with tempfile.TemporaryFile("w+") as file:
        file.writelines(f"{bucket},{batch}\n" for bucket, batch in pairs)
        file.seek(0)
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(command, env=environment, stdin=file, stdout=pipe, stderr=null, text=True)


def with_command(mock: MockServer, pairs: Pairs, max_retries: int) -> Reports:
    """Cancel by the command, whose lines on stdout are what it reports."""
    process = _command(mock, pairs, max_retries)
    output, _ = process.communicate(timeout=_TIMEOUT)
    assert process.returncode == (0 if max_retries >= ENOUGH else 1), f"exit code {process.returncode}"
    return [(entry["batch_id"], entry["canceled"]) for entry in map(json.loads, output.splitlines())]


def killed_and_resumed(mock: MockServer, pairs: Pairs, max_retries: int) -> Reports:
    """Kill the command half-way, and run it again; the record is what it reports."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record.jsonl")
        first = _command(mock, pairs, max_retries, "--resume", str(record))
        assert first.stdout is not None
        for _ in range(len(pairs) // 2):
            assert first.stdout.readline(), "the command ended before it was half-way"
        first.kill()
        first.communicate()
        assert record.read_bytes().count(b"\n") < len(pairs), "the command was not killed half-way"
        second = _command(mock, pairs, max_retries, "--resume", str(record))
        second.communicate(timeout=_TIMEOUT)
        assert second.returncode == 0, f"exit code {second.returncode}"
        _server, *entries = map(json.loads, record.read_text().splitlines())
        return [(entry["batch_id"], entry["canceled"]) for entry in entries]


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
    all_well = True
    for name, (work, max_retries) in RUNS.items():
        started = time.monotonic()
        done = run(work, max_retries, batches)
        requests, failed = done.statuses.total(), done.statuses.total() - done.statuses[200]
        print(
            f"{name:<38} {batches:>7,} batches {time.monotonic() - started:>6.1f} s {requests:>7,} requests "
            f"{failed:>6,} not 200 ({done.statuses[None]:,} resets) {done.reported:>7,} reported "
            f"{done.canceled:>7,} CANCELED  {'; '.join(done.wrong) or 'ok'}",
            flush=True,
        )
        all_well = all_well and not done.wrong
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
