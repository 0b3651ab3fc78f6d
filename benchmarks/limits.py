"""Cancelling many where the server pushes back: all of them, few refusals, and little longer than it must take."""

from __future__ import annotations

import json
import math
import statistics
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from benchmarks import environments
from benchmarks.contestants import Figures, server, working
from benchmarks.results import Measurement

_OURS = ("bulk_async", "bulk_sync")
_OTHER = "retrying_httpx"


@dataclass(frozen=True)
class LimitedServer:
    """A server that pushes back.

    Attributes:
        what: What it does.
        limit: The same, for benchmarks/server.py.
        count: How many batches are cancelled there.
        notable: Whether README shows it.
    """

    what: str
    limit: str
    count: int
    notable: bool = False

    @property
    def ideal(self) -> float:
        """The seconds that it takes at least."""
        kind, first, second, _ = self.limit.split("-")
        number, more = float(first), float(second)
        if kind == "rate":
            return (self.count - more) / number
        return (math.ceil(self.count / number) - (kind == "window")) * more

    def measured(self, ours: list[Figures], theirs: list[Figures]) -> Measurement:
        """Work the row out from the figures of all runs."""
        at_most = 1.25 * self.ideal + 1
        low, ratio, high = statistics.quantiles([run["seconds"] / self.ideal for run in ours], n=4, method="inclusive")
        return Measurement(
            what=f"Cancelling {self.count:,} batches where the server takes {self.what}; {self.ideal:.1f} s at least",
            ours=f"`Client` and `AsyncClient`: {self._worst(ours)}",
            other=f"`httpx.AsyncClient`, a semaphore and 3 attempts: {self._worst(theirs)}",
            ratio=round(ratio, 3),
            quartiles=(round(low, 3), round(high, 3)),
            goal=round(at_most / self.ideal, 2),
            met=all(
                run["canceled"] == self.count
                and (run["share"] <= 0.15 or run["refused"] <= 10)
                and run["seconds"] <= at_most
                for run in ours
            ),
            notable=self.notable,
        )

    def _worst(self, runs: list[Figures]) -> str:
        """Show the worst of some runs in each respect."""
        canceled = min(run["canceled"] for run in runs)
        share, seconds = (max(run[figure] for run in runs) for figure in ("share", "seconds"))
        return f"{canceled:,.0f} of {self.count:,}, {share:.0%} refused, {seconds:.1f} s"


_SERVERS = [
    LimitedServer("5 requests a second, one at a time", "rate-5-1-seconds", 50),
    LimitedServer("20 a second, 5 at once", "rate-20-5-seconds", 200, notable=True),
    LimitedServer("100 a second, 10 at once", "rate-100-10-seconds", 1000),
    LimitedServer("20 a second, 5 at once, no Retry-After", "rate-20-5-none", 200),
    LimitedServer("50 in each 5 seconds", "window-50-5-seconds", 180),
    LimitedServer("4 in flight", "places-4-0.1-seconds", 200),
]


def measure(*, quick: bool) -> list[Measurement]:
    """Measure each server with Client and AsyncClient, 16 and 64 in flight, beside what a user would write."""
    servers = [replace(each, count=each.count // 2) for each in _SERVERS] if quick else _SERVERS
    widths = (64,) if quick else (16, 64)
    runs = [(where, name, width) for where in servers for width in widths for name in (*_OURS, _OTHER)]
    with server() as url, ThreadPoolExecutor(9 if quick else 3) as pool:  # they mostly wait
        figures = dict(zip(runs, pool.map(lambda run: _run(url, *run), runs), strict=True))
    return [
        where.measured(
            [figures[where, name, width] for width in widths for name in _OURS],
            [figures[where, _OTHER, width] for width in widths],
        )
        for where in servers
    ]


def _run(url: str, where: LimitedServer, name: str, in_flight: int) -> Figures:
    url = f"{url}/{where.limit}/{name}-{in_flight}"
    python = environments.python("httpx" if name == _OTHER else "ours")
    with working(python, name, url, in_flight, where.count) as run:
        figures = run()
    with urllib.request.urlopen(f"{url}/") as response:  # noqa: S310 - it is ours
        counts = json.load(response)
    return {**figures, **counts, "share": counts["refused"] / (counts["refused"] + counts["let_through"])}
