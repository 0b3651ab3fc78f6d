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
from pathlib import Path

import attrs
import httpx

from mixpeek_batches import AsyncClient

CONNECTIONS = 64
_BATCHES = 1000
_SLACK = 8 * 1024 * 1024  # bytes by which memory may vary, besides a twentieth
_WARM_UP = 0.25  # of the time, after which memory must be flat: the mock remembers its last 10,000 requests


@attrs.frozen
class Sample:
    """A process at a moment: bytes that are resident, and open descriptors."""

    memory: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Look at a process."""
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGESIZE"), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


async def _load(url: str, key: str, pids: list[int], seconds: float) -> tuple[Counter[str], list[list[Sample]]]:
    """Cancel the same batches over and over, and sample the processes ten times a second."""
    outcomes: Counter[str] = Counter()
    samples: list[list[Sample]] = []
    end = time.monotonic() + seconds
    batches = itertools.cycle([("bkt_soak", f"btch_{number}") for number in range(_BATCHES)])
    pairs = itertools.takewhile(lambda _: time.monotonic() < end, batches)

    async def sample() -> None:
        while True:
            await asyncio.sleep(0.1)
            samples.append([Sample.of(pid) for pid in pids])

    sampler = asyncio.create_task(sample())
    async with AsyncClient(api_key=key, base_url=url, max_retries=0) as client:
        async for result in client.cancel_batches(pairs, concurrency=CONNECTIONS):
            outcomes["canceled" if result.canceled else str(result.error)] += 1
    sampler.cancel()
    return outcomes, samples


def _wrong(name: str, before: Sample, samples: list[Sample], after: Sample) -> list[str]:
    """Say what is not as it should be with a process."""
    wrong = []
    warm = samples[int(len(samples) * _WARM_UP) :]
    third = len(warm) // 3
    early, late = (max(sample.memory for sample in part) for part in (warm[:third], warm[-third:]))
    if late > early * 1.05 + _SLACK:
        wrong.append(f"the {name}'s memory grew from {early / 2**20:.1f} to {late / 2**20:.1f} MiB")
    if after.descriptors > before.descriptors:
        wrong.append(f"the {name} has {after.descriptors - before.descriptors} descriptors open that it had not before")
    memory, most = [sample.memory / 2**20 for sample in samples], max(sample.descriptors for sample in samples)
    print(
        f"{name:<7} memory {memory[0]:.1f} MiB at first, {early / 2**20:.1f} warm, {late / 2**20:.1f} at the end, "
        f"{max(memory):.1f} at most; descriptors {before.descriptors} before, {most} at most, {after.descriptors} after"
    )
    return wrong


def soak(seconds: float) -> list[str]:
    """Run for some seconds, print figures, and say what is wrong."""
    with subprocess.Popen(
        [sys.executable, "-m", "mixpeek_batches.cli", "mock", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as mock:
        try:
            assert mock.stdout is not None
            place = json.loads(mock.stdout.readline())
            names, pids = ["mock", "client"], [mock.pid, os.getpid()]
            batches = [{"bucket_identifier": "bkt_soak", "batch_id": f"btch_{n}"} for n in range(_BATCHES)]
            httpx.post(place["url"] + "/_mock/batches", json=batches).raise_for_status()
            asyncio.run(_load(place["url"], place["api_key"], pids, 1.0))  # what is loaded once is loaded now
            before = _settled(pids)
            outcomes, samples = asyncio.run(_load(place["url"], place["api_key"], pids, seconds))
            after = _settled(pids, before)
        finally:
            mock.terminate()
    print(f"{outcomes.total():,} requests in {seconds:g} s ({outcomes.total() / seconds:,.0f}/s): {dict(outcomes)}")
    wrong = [f"{count:,} times {text}" for text, count in outcomes.items() if text != "canceled"]
    for number, name in enumerate(names):
        wrong += _wrong(name, before[number], [both[number] for both in samples], after[number])
    return wrong


def _settled(pids: list[int], aim: list[Sample] | None = None) -> list[Sample]:
    """Look at the processes when connections have had time to go."""
    for _ in range(50):
        now = [Sample.of(pid) for pid in pids]
        if aim and all(one.descriptors <= other.descriptors for one, other in zip(now, aim, strict=True)):
            break
        time.sleep(0.1 if aim else 0.02)
    return now


def main() -> int:
    """Run for as long as the command line says."""
    parser = argparse.ArgumentParser(description="Keep a mock under load, and watch memory and descriptors.")
    parser.add_argument("seconds", nargs="?", type=float, default=120.0, help="how long")
    wrong = soak(parser.parse_args().seconds)
    print("; ".join(wrong) or "ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
