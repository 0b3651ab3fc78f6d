"""Cancelling many where the server pushes back: all of them, few refusals, and little longer than it must take."""

from __future__ import annotations

import json
import math
import statistics
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from benchmarks.contestants import Figures, server, working
from benchmarks.results import Result

_OURS = ("bulk_async", "bulk_sync")
_OTHER = "retrying_httpx"


@dataclass(frozen=True)
class Server:
    """A server that pushes back.

    Attributes:
        what: What it does.
        limit: The same, for benchmarks/server.py.
        count: How many batches are cancelled there.
    """

    what: str
    limit: str
    count: int

    @property
    def ideal(self) -> float:
        """The seconds that takes at least."""
        kind, first, second, *_ = self.limit.split("-")
        number, more = float(first), float(second)
        if kind == "rate":
            return (self.count - more) / number
        return (math.ceil(self.count / number) - (kind == "window")) * more


_SERVERS = [
    Server("5 requests a second, one at a time", "rate-5-1-429-seconds", 50),
    Server("20 a second, 5 at once", "rate-20-5-429-seconds", 200),
    Server("100 a second, 10 at once", "rate-100-10-429-seconds", 1000),
    Server("20 a second, 5 at once, no Retry-After", "rate-20-5-429-none", 200),
    Server("20 a second, 5 at once, Retry-After: 0", "rate-20-5-429-zero", 200),
    Server("20 a second, 5 at once, Retry-After as a date", "rate-20-5-429-date", 200),
    Server("20 a second, 5 at once, 503 instead of 429", "rate-20-5-503-seconds", 200),
    Server("50 in each 5 seconds", "window-50-5-429-seconds", 180),
    Server("4 in flight", "places-4-0.1-429-seconds", 200),
]
_NOTABLE = _SERVERS[1]


def measure(*, quick: bool) -> list[Result]:
    """Measure each server with Client and AsyncClient, 16 and 64 in flight, beside what a user would write."""
    servers = [replace(each, count=each.count // 2) for each in _SERVERS] if quick else _SERVERS
    widths = (64,) if quick else (16, 64)
    runs = [(where, name, width) for where in servers for width in widths for name in (*_OURS, _OTHER)]
    with server() as url, ThreadPoolExecutor(9 if quick else 3) as pool:  # they mostly wait
        figures = list(pool.map(lambda run: _run(url, *run), runs))
    results = []
    for each in servers:
        of_each = [(run[1], measured) for run, measured in zip(runs, figures, strict=True) if run[0] is each]
        ours, others = ([m for name, m in of_each if (name == _OTHER) is other] for other in (False, True))
        results.append(_result(each, ours, others))
    return results


def _run(url: str, where: Server, name: str, in_flight: int) -> Figures:
    url = f"{url}/{where.limit}/{name}-{in_flight}"
    environment = "httpx" if name == _OTHER else "ours"
    with working(environment, name, url, in_flight, where.count) as run:
        figures = run()
    with urllib.request.urlopen(f"{url}/") as response:  # noqa: S310 - it is ours
        counts = json.load(response)
    return {**figures, **counts, "share": counts["refused"] / (counts["refused"] + counts["let_through"])}


def _result(where: Server, ours: list[Figures], theirs: list[Figures]) -> Result:
    ideal = where.ideal
    goal = (1.25 * ideal + 1) / ideal
    ratios = [run["seconds"] / ideal for run in ours]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
    met = all(
        run["canceled"] == where.count
        and (run["share"] <= 0.15 or run["refused"] <= 10)
        and run["seconds"] <= 1.25 * ideal + 1
        for run in ours
    )
    return Result(
        what=f"Cancelling {where.count:,} batches where the server takes {where.what}; {ideal:.1f} s at least",
        ours=f"`Client` and `AsyncClient`: {_shown(where.count, ours)}",
        other=f"`httpx.AsyncClient`, a semaphore and 3 attempts: {_shown(where.count, theirs)}",
        ratio=round(ratio, 3),
        quartiles=(round(low, 3), round(high, 3)),
        goal=round(goal, 2),
        met=met,
        notable=where.what == _NOTABLE.what,
    )


def _shown(count: int, runs: list[Figures]) -> str:
    """Show the worst of some runs in each respect."""
    canceled, refused, seconds = (
        min(run["canceled"] for run in runs),
        max(run["share"] for run in runs),
        max(run["seconds"] for run in runs),
    )
    return f"{canceled:,.0f} of {count:,}, {refused:.0%} refused, {seconds:.1f} s"
