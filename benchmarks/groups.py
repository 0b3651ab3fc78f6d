"""The comparisons: who takes part in what, and which figures make a row."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants import (
    Contestant,
    Figures,
    bare,
    client,
    importing,
    our_mock,
    prism,
    process,
    serving,
    silent_mock,
    silent_prism,
    tests,
)
from benchmarks.environments import UnavailableError
from benchmarks.results import Measurement
from benchmarks.worker import BUCKET, KEY


@dataclass(frozen=True)
class Row:
    """Two contestants and a figure of theirs, of which less is better.

    Attributes:
        what: What is measured, in a user's words.
        ours: The contestant.
        other: The other one.
        goal: What ours divided by the other's is to be at most.
        figure: Which of the figures that both return.
        notable: Whether users would notice.
    """

    what: str
    ours: str
    other: str
    goal: float
    figure: str = "seconds"
    notable: bool = False

    def measured(self, figures: dict[str, list[Figures]], failures: dict[str, str]) -> Measurement:
        """Work the row out from the figures of all contestants, or the reason why there are none."""
        known: dict[str, Any] = {"what": self.what, "goal": round(self.goal, 3), "notable": self.notable}
        for name in (self.ours, self.other):
            if name in failures:
                return Measurement(ours=self.ours, other=f"{name}: not measured, {failures[name]}", **known)
        ours, others = ([one[self.figure] for one in figures[name]] for name in (self.ours, self.other))
        pairs = [mine / other for mine, other in zip(ours, others, strict=True)]
        low, ratio, high = statistics.quantiles(pairs, n=4, method="inclusive")
        return Measurement(
            ours=f"{self.ours}: {_shown(self.figure, ours)}",
            other=f"{self.other}: {_shown(self.figure, others)}",
            ratio=round(ratio, 3),
            quartiles=(round(low, 3), round(high, 3)),
            met=ratio <= self.goal,
            **known,
        )


def _shown(figure: str, values: list[float]) -> str:
    value = statistics.median(values)
    if figure == "mebibytes":
        return f"{value:.0f} MiB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.0f} ms" if value >= 0.01 else f"{value * 1e6:.0f} µs"


@dataclass(frozen=True)
class Case:
    """Contestants that are measured in turn, once without counting it and then in so many rounds."""

    contestants: dict[str, Contestant]
    rows: list[Row]
    rounds: int
    seconds: float = 60.0

    def measure(self, missing: dict[str, str], *, quick: bool) -> list[Measurement]:
        """Measure, and work the rows out.

        Args:
            missing: Environments that cannot be made, and why.
            quick: Fewer rounds.
        """
        failures: dict[str, str] = {}
        figures: dict[str, list[Figures]] = {name: [] for name in self.contestants}
        with ExitStack() as stack:
            measures = {}
            for name, contestant in self.contestants.items():
                try:
                    if reason := missing.get(contestant.environment) or missing.get("server"):
                        raise UnavailableError(reason)
                    measures[name] = stack.enter_context(contestant.opened())
                except UnavailableError as failed:
                    failures[name] = str(failed)
            rounds = -(-self.rounds // 3) if quick else self.rounds
            give_up = time.monotonic() + self.seconds / (6 if quick else 1)
            for number in range(-1, rounds):
                if number > 1 and time.monotonic() > give_up:
                    break
                for name, measure in measures.items():
                    try:
                        measured = measure() if name not in failures else {}
                    except UnavailableError as failed:
                        failures[name] = str(failed)
                    if number >= 0 and name not in failures:
                        figures[name].append(measured)
        return [row.measured(figures, failures) for row in self.rows]


def _bulk(part: int) -> Case:
    threads, tasks = "`Client`, 64 in flight", "`AsyncClient`, 64 in flight"
    httpx, vendor = "bare `httpx.AsyncClient`, 64 in flight", "the vendor's SDK in 16 threads"
    ours, aiohttp = "`AsyncClient` given `HttpxAiohttpClient`", "bare `HttpxAiohttpClient`, 64 in flight"
    what, count = "Cancelling 1,000 batches", 1000 // part
    return Case(
        {
            tasks: client("ours", "bulk_async", count, 64),
            httpx: client("httpx", "bulk_httpx", count // 2, 64),
            threads: client("ours", "bulk_sync", count, 64),
            vendor: client("vendor", "bulk_vendor", count, 16),
            ours: client("ours with httpx-aiohttp", "bulk_async_given", count, 64),
            aiohttp: client("httpx-aiohttp", "bulk_httpx_aiohttp", count, 64),
        },
        [
            Row(what, tasks, httpx, 1 / 3, notable=True),
            Row(what, threads, vendor, 1 / 1.15, notable=True),
            Row(what, tasks, vendor, 1 / 1.15),
            Row(what, ours, aiohttp, 1 / 0.9),
        ],
        rounds=9,
        seconds=180,
    )


def _call(count: int) -> Case:
    ours, httpx = "`Client.cancel_batch`", "bare `httpx.Client.post().json()`"
    return Case(
        {ours: client("ours", "call_ours", count), httpx: client("httpx", "call_httpx", count)},
        [Row("One call", ours, httpx, 1.0, notable=True)],
        rounds=15,
    )


def _start() -> Case:
    ours, httpx = f"`mixpeek-batches cancel {BUCKET} btch_1`", "`python -c 'import httpx; httpx.post(…)'`"
    code = (
        f"import httpx; httpx.post('URL/v1/buckets/{BUCKET}/batches/btch_1/cancel', "
        f"headers={{'Authorization': 'Bearer {KEY}'}}).raise_for_status()"
    )
    return Case(
        {ours: process("cli", *ours.strip("`").split()), httpx: process("httpx", "python", "-c", code)},
        [Row("Cancelling one batch from a terminal", ours, httpx, 1.6, notable=True)],
        rounds=21,
    )


def _import(other: str, contestant: Contestant, most: tuple[float, float], rounds: int, *, notable: bool) -> Case:
    ours = "`mixpeek_batches.Client`"
    return Case(
        {ours: importing("ours", "mixpeek_batches.client"), other: contestant},
        [
            Row("Time to import it", ours, other, most[0], notable=notable),
            Row("Memory after the import", ours, other, most[1], "mebibytes", notable=notable),
        ],
        rounds,
    )


def _tests(count: int) -> Case:
    what, ours = f"A pytest run of {count} tests", "the fixture `mixpeek_mock`"
    httpserver, respx = "pytest-httpserver", "respx, in process"
    return Case(
        {ours: tests("mock", count), httpserver: tests(httpserver, count), respx: tests("respx", count)},
        [Row(what, ours, httpserver, 1.0, notable=True), Row(what, ours, respx, 1.5, notable=True)],
        rounds=7,
        seconds=30,
    )


def _mock(count: int) -> Case:
    what, ours, silent = "1,000 responses of a mock", "`mixpeek-batches mock`", "`MockServer` in Python"
    loud, quiet, app = "Prism", "Prism with its log off", "a bare ASGI app under the same uvicorn"
    return Case(
        {
            ours: serving("mock", our_mock, count),
            loud: serving("prism", prism, count // 2),
            quiet: serving("prism", silent_prism, count),
            silent: serving("mock", silent_mock, count),
            app: serving("mock", bare, count),
        },
        [
            Row(f"{what}, ours with its log", ours, quiet, 1.0, notable=True),
            Row(f"{what}, both with their log", ours, loud, 1 / 2),
            Row(f"{what}, without a log", silent, app, 1 / 0.8),
        ],
        rounds=9,
        seconds=90,
    )


def groups(*, quick: bool) -> dict[str, list[Case]]:
    """List the comparisons by group; quick ones have less to do each time."""
    part = 2 if quick else 1
    return {
        "bulk": [_bulk(part**2)],
        "call": [_call(150 // part)],
        "start": [_start()],
        "import": [
            _import("`httpx`", importing("httpx", "httpx"), (1.25, 1.25), 31, notable=False),
            _import("the vendor's SDK", importing("vendor", "mixpeek"), (1 / 40, 1 / 4), 7, notable=True),
        ],
        "mock": [_tests(200 // part), _mock(4000 // part)],
    }
