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
    full_mock,
    importing,
    our_mock,
    prism,
    process,
    serving,
    silent_prism,
    starting,
    tests,
)
from benchmarks.environments import UnavailableError
from benchmarks.results import Result
from benchmarks.worker import BUCKET, KEY


@dataclass(frozen=True)
class Row:
    """Two contestants and a figure of theirs, of which less is better.

    Attributes:
        what: What is measured, in a user's words.
        ours: The contestant.
        other: The other one.
        goal: What ours divided by the other's is to be at most.
        figure: Which of the figures that both give.
        notable: Whether users would notice.
    """

    what: str
    ours: str
    other: str
    goal: float
    figure: str = "seconds"
    notable: bool = False


@dataclass(frozen=True)
class Case:
    """Contestants that are measured in turn, once without counting it and then in so many rounds."""

    contestants: dict[str, Contestant]
    rows: list[Row]
    rounds: int
    seconds: float = 60.0

    def measure(self, missing: dict[str, str], *, quick: bool) -> list[Result]:
        """Measure, and work the rows out.

        Args:
            missing: Environments that cannot be had, and why.
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
            for number in range(0 if self.rounds == 1 else -1, rounds):
                if number > 0 and time.monotonic() > give_up:
                    break
                for name, measure in measures.items():
                    try:
                        measured = measure() if name not in failures else {}
                    except UnavailableError as failed:
                        failures[name] = str(failed)
                    if number >= 0 and name not in failures:
                        figures[name].append(measured)
        return [_result(row, figures, failures) for row in self.rows]


def _result(row: Row, figures: dict[str, list[Figures]], failures: dict[str, str]) -> Result:
    known: dict[str, Any] = {"what": row.what, "goal": round(row.goal, 3), "notable": row.notable}
    for name in (row.ours, row.other):
        if name in failures:
            return Result(ours=row.ours, other=f"{name}: not measured, {failures[name]}", **known)
    ours, others = ([measured[row.figure] for measured in figures[name]] for name in (row.ours, row.other))
    pairs = [mine / other for mine, other in zip(ours, others, strict=True)]
    low, ratio, high = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else pairs * 3
    return Result(
        ours=f"{row.ours}: {_shown(row.figure, ours)}",
        other=f"{row.other}: {_shown(row.figure, others)}",
        ratio=round(ratio, 3),
        quartiles=(round(low, 3), round(high, 3)) if len(pairs) > 1 else None,
        met=ratio <= row.goal,
        **known,
    )


def _shown(figure: str, values: list[float]) -> str:
    value = statistics.median(values)
    if figure == "mebibytes":
        return f"{value:.0f} MiB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.0f} ms" if value >= 0.01 else f"{value * 1e6:.0f} µs"


def groups(*, quick: bool) -> dict[str, list[Case]]:
    """List the comparisons by group; quick ones have less to do each time."""
    return {
        "bulk": _bulk(4 if quick else 1),
        "call": [_call(50 if quick else 150)],
        "start": [_start()],
        "import": _import(),
        "mock": _mock(2 if quick else 1),
    }


def _bulk(part: int) -> list[Case]:
    threads, tasks = "`Client`, 64 in flight", "`AsyncClient`, 64 in flight"
    httpx, vendor = "bare `httpx.AsyncClient`, 64 in flight", "the vendor's SDK in 16 threads"
    ours, aiohttp = "`AsyncClient` given `HttpxAiohttpClient`", "bare `HttpxAiohttpClient`, 64 in flight"
    what, narrow, wide = "Cancelling 1,000 batches", "16 in flight", "256 in flight"
    few, many = 100_000 // part**2, 1_000_000 // part**2
    before, after = f"after {few:,} pairs", f"after {many:,} pairs"
    return [
        Case(
            {
                tasks: client("ours", "bulk_async", 1000 // part, 64),
                httpx: client("httpx", "bulk_httpx", 500 // part, 64),
                threads: client("ours", "bulk_sync", 1000 // part, 64),
                vendor: client("vendor", "bulk_vendor", 1000 // part, 16),
                ours: client("ours with httpx-aiohttp", "bulk_async_given", 1000 // part, 64),
                aiohttp: client("httpx-aiohttp", "bulk_httpx_aiohttp", 1000 // part, 64),
            },
            [
                Row(what, tasks, httpx, 1 / 3, notable=True),
                Row(what, threads, vendor, 1 / 1.15, notable=True),
                Row(what, threads, httpx, 1 / 3),
                Row(what, tasks, vendor, 1 / 1.15),
                Row(what, ours, aiohttp, 1 / 0.9),
            ],
            rounds=11,
        ),
        Case(
            {
                narrow: client("ours", "bulk_async", 3000 // part, 16),
                wide: client("ours", "bulk_async", 3000 // part, 256),
            },
            [Row(f"{what} with `AsyncClient`", wide, narrow, 1.1)],
            rounds=7,
            seconds=40,
        ),
        Case(
            {after: client("ours", "memory", many, 64), before: client("ours", "memory", few, 64)},
            [Row("Memory of one run of `AsyncClient`", after, before, 1.05, "mebibytes")],
            rounds=1,
        ),
    ]


def _call(count: int) -> Case:
    ours, httpx = "`Client.cancel_batch`", "bare `httpx.Client.post().json()`"
    stock = "the stock generated client"
    return Case(
        {
            ours: client("ours", "call_ours", count),
            httpx: client("httpx", "call_httpx", count),
            stock: client("stock", "call_stock", count),
        },
        [Row("One call", ours, other, 1.0, notable=other is httpx) for other in (httpx, stock)],
        rounds=31,
    )


def _start() -> Case:
    post = "`python -c 'import httpx; httpx.post(…)'`"
    code = (
        f"import httpx; httpx.post('URL/v1/buckets/{BUCKET}/batches/btch_1/cancel', "
        f"headers={{'Authorization': 'Bearer {KEY}'}}).raise_for_status()"
    )
    lines = {
        "Cancelling one batch from a terminal": (f"mixpeek-batches cancel {BUCKET} btch_1", 1.6),
        "Asking the command for help": ("mixpeek-batches --help", 0.8),
        "Asking the command for its version": ("mixpeek-batches --version", 0.8),
    }
    return Case(
        {f"`{line}`": process("cli", *line.split()) for line, _ in lines.values()}
        | {post: process("httpx", "python", "-c", code)},
        [Row(what, f"`{line}`", post, goal, notable=goal > 1) for what, (line, goal) in lines.items()],
        rounds=21,
    )


def _import() -> list[Case]:
    ours, httpx, vendor = "`mixpeek_batches.Client`", "`httpx`", "the vendor's SDK"
    time, memory = ("Time to import it", ours), ("Memory after the import", ours)
    return [  # the second would leave the first little time
        Case(
            {ours: importing("ours", "mixpeek_batches.client"), httpx: importing("httpx", "httpx")},
            [Row(*time, httpx, 1.25), Row(*memory, httpx, 1.25, "mebibytes")],
            rounds=31,
        ),
        Case(
            {ours: importing("ours", "mixpeek_batches.client"), vendor: importing("vendor", "mixpeek")},
            [
                Row(*time, vendor, 1 / 40, notable=True),
                Row(*memory, vendor, 1 / 4, "mebibytes", notable=True),
            ],
            rounds=7,
        ),
    ]


def _mock(part: int) -> list[Case]:
    count = 4000 // part
    fixture, respx, httpserver = "the fixture `mixpeek_mock`", "respx, in process", "pytest-httpserver"
    ours, full, app = "`mixpeek-batches mock`", "100,000 batches in it", "a bare ASGI app under the same uvicorn"
    loud, silent, suite = "Prism", "Prism with its log off", f"A pytest run of {200 // part} tests"
    answers = "1,000 answers of a mock"
    return [
        Case(
            {
                fixture: tests("mock", 200 // part),
                httpserver: tests("pytest-httpserver", 200 // part),
                respx: tests("respx", 200 // part),
            },
            [
                Row(suite, fixture, httpserver, 1.0, notable=True),
                Row(suite, fixture, respx, 1.5, notable=True),
            ],
            rounds=7,
            seconds=30,
        ),
        Case(
            {
                ours: serving("mock", our_mock, count),
                loud: serving("prism", prism, count // 2),
                silent: serving("prism", silent_prism, count),
                app: serving("mock", bare, count),
                full: serving("mock", full_mock, count, 100_000),
            },
            [
                Row(f"{answers}, ours with its log", ours, silent, 1.0, notable=True),
                Row(f"{answers}, both with their log", ours, loud, 1 / 2),
                Row(answers, ours, app, 1 / 0.8),
                Row(answers, full, ours, 1 / 0.9),
                Row("Memory of the mock under load", ours, loud, 1 / 3, "mebibytes"),
            ],
            rounds=9,
            seconds=30,
        ),
        Case(
            {ours: starting("mock", our_mock), loud: starting("prism", prism)},
            [Row("Starting the mock, to its first answer", ours, loud, 0.4)],
            rounds=5,
            seconds=20,
        ),
    ]
