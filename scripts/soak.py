"""Keep a mock in a process of its own under 64 connections of our client, and watch both from /proc.

    python -m scripts.soak [SECONDS]

Exits with 1 if memory grows, a descriptor is left open, or anything fails.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx

from mixpeek_batches import AsyncClient

CONNECTIONS = 64
ROUNDS = 12
_WARM = 3  # rounds until memory must be flat: the mock remembers its last 10,000 requests
_BATCHES = 1000
_SLACK = 8.0  # MiB by which memory may vary, besides a twentieth


def memory(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def load(url: str, key: str, pids: list[int], seconds: float) -> tuple[Counter[str], list[list[float]]]:
    """Cancel the same batches over and over, in rounds; return what came of it, and the memory after each round."""
    outcomes: Counter[str] = Counter()
    samples = []
    batches = itertools.cycle([("bkt_soak", f"btch_{number}") for number in range(_BATCHES)])

    def pairs() -> Iterator[tuple[str, str]]:
        end = time.monotonic() + seconds / ROUNDS
        while time.monotonic() < end:
            yield next(batches)

    async with AsyncClient(api_key=key, base_url=url, max_retries=0) as client:
        for _ in range(ROUNDS):
            async for result in client.cancel_batches(pairs(), concurrency=CONNECTIONS):
                outcomes["canceled" if result.canceled else str(result.error)] += 1
            samples.append([memory(pid) for pid in pids])
    return outcomes, samples


def soak(seconds: float) -> list[str]:
    """Run for some seconds, print figures, and return what is wrong."""
    command = [sys.executable, "-m", "mixpeek_batches.cli", "mock", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as mock:
        try:
            assert mock.stdout is not None
            place = json.loads(mock.stdout.readline())
            url, key, pids = place["url"], place["api_key"], {"mock": mock.pid, "client": os.getpid()}
            batches = [{"bucket_identifier": "bkt_soak", "batch_id": f"btch_{n}"} for n in range(_BATCHES)]
            httpx.post(f"{url}/_mock/batches", json=batches).raise_for_status()
            asyncio.run(load(url, key, [], 1.0))  # what is loaded once is loaded now
            time.sleep(0.5)
            before = {name: descriptors(pid) for name, pid in pids.items()}
            outcomes, samples = asyncio.run(load(url, key, [*pids.values()], seconds))
            give_up = time.monotonic() + 5
            while any(descriptors(pid) > before[name] for name, pid in pids.items()) and time.monotonic() < give_up:
                time.sleep(0.1)
            after = {name: descriptors(pid) for name, pid in pids.items()}
        finally:
            mock.terminate()
    print(f"{outcomes.total():,} requests in {seconds:g} s ({outcomes.total() / seconds:,.0f}/s): {dict(outcomes)}")
    wrong = [f"{count:,} times {text}" for text, count in outcomes.items() if text != "canceled"]
    for name, sizes in zip(pids, zip(*samples, strict=True), strict=True):
        figures = f"{sizes[0]:.1f} MiB at first, {sizes[_WARM]:.1f} warm, {sizes[-1]:.1f} at the end"
        print(f"{name:<7} memory {figures}; descriptors {before[name]} before, {after[name]} after")
        if min(sizes[-_WARM:]) > sizes[_WARM] * 1.05 + _SLACK:
            wrong.append(f"the {name}'s memory grew: {figures}")
        if after[name] > before[name]:
            wrong.append(f"the {name} left {after[name] - before[name]} descriptors open")
    return wrong


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Keep a mock under load, and watch memory and descriptors.")
    parser.add_argument("seconds", nargs="?", type=float, default=120.0, help="how long")
    wrong = soak(parser.parse_args().seconds)
    print("; ".join(wrong) or "ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
