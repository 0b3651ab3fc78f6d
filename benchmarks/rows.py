"""The comparisons: who takes part in what, and which figures make a row."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks import contestants
from benchmarks.contestants import (
    Opened,
    bare_serving,
    importing,
    our_mock,
    prism,
    processes,
    serving,
    silent_prism,
    starting,
    worker,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        id: What `--only` takes.
        what: What is measured, of ours.
        peer_is: What it is compared with.
        ours: The contestant.
        peer: The other contestant.
        figure: Which of the figures that both give.
        peer_figure: The peer's figure, where it is another.
        unit: What to show it in.
        goal: The ratio of ours to the peer's that is wanted: at most that for what is spent, else at least.
    """

    id: str
    what: str
    peer_is: str
    ours: str
    peer: str
    figure: str
    unit: str
    goal: float | None = None
    peer_figure: str | None = None

    @property
    def less_is_better(self) -> bool:
        """Whether it is something spent."""
        return self.unit in {"ms", "s", "µs", "MiB"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contestants that are measured in turn.

    Attributes:
        rounds: How often each is measured, after once that does not count.
        seconds: When to stop all the same, for `make bench`; a quarter of that with QUICK=1.
        contestants: The environment of each, and how to open it.
        rows: What is shown.
        warm: Whether the first round does not count.
    """

    rounds: int
    seconds: float
    contestants: dict[str, tuple[str, Opened]]
    rows: list[Row]
    warm: bool = True
    extra: set[str] = field(default_factory=set)


def cases(*, quick: bool) -> list[Case]:
    """List all comparisons.

    Args:
        quick: Fewer and shorter repeats.
    """
    return [
        _imports(),
        _starts(),
        _calls(quick=quick),
        _bulk(quick=quick),
        _bulk_slow(quick=quick),
        _mock_start(),
        _mock_load(quick=quick),
        _growth_bulk(quick=quick),
        _growth_mock(quick=quick),
        _growth_memory(quick=quick),
    ]


def _imports() -> Case:
    what = "from mixpeek_batches import Client"
    peers = {"httpx": ("import httpx", 1.25, 1.25), "vendor": ("import mixpeek, the vendor's SDK", 1 / 40, 1 / 4)}
    rows = []
    for peer, (peer_is, time_goal, memory_goal) in peers.items():
        names = {"peer_is": peer_is, "ours": "ours", "peer": peer}
        rows += [
            Row(id=f"import.time.{peer}", what=what, figure="seconds", unit="ms", goal=time_goal, **names),
            Row(id=f"import.memory.{peer}", what=what, figure="mebibytes", unit="MiB", goal=memory_goal, **names),
        ]
    return Case(
        rounds=9,
        seconds=45,
        contestants={
            "ours": ("core", importing("core", "mixpeek_batches.client")),
            "httpx": ("httpx", importing("httpx", "httpx")),
            "vendor": ("vendor", importing("vendor", "mixpeek")),
        },
        rows=rows,
    )


def _starts() -> Case:
    lines = {
        "cancel": (["cancel", "bkt_products", "btch_1"], 1.6),
        "help": (["--help"], 0.8),
        "version": (["--version"], 0.8),
    }
    peer = {"peer": "httpx", "peer_is": "python -c 'import httpx; httpx.post(…)'", "figure": "seconds", "unit": "ms"}
    return Case(
        rounds=15,
        seconds=45,
        contestants={
            "httpx": ("httpx", processes("httpx")),
            **{name: ("cli", processes("cli", *arguments)) for name, (arguments, _) in lines.items()},
        },
        rows=[
            Row(id=f"start.{name}", what=f"mixpeek-batches {' '.join(arguments)}", ours=name, goal=goal, **peer)
            for name, (arguments, goal) in lines.items()
        ],
        extra={"server"},
    )


def _calls(*, quick: bool) -> Case:
    count = 50 if quick else 150
    peers = {
        "httpx": ("httpx.Client.post().json()", 1.15),
        "stock": ("the stock generated client", 1.0),
        "vendor": ("the vendor's SDK", 1.0),
    }
    return Case(
        rounds=21,
        seconds=40,
        contestants={
            "ours": ("core", worker("core", "call_ours", count)),
            "httpx": ("httpx", worker("httpx", "call_httpx", count)),
            "stock": ("stock", worker("stock", "call_stock", count)),
            "vendor": ("vendor", worker("vendor", "call_vendor", count)),
        },
        rows=[
            Row(
                id=f"call.{peer}",
                what="Client.cancel_batch",
                peer_is=peer_is,
                ours="ours",
                peer=peer,
                figure="seconds",
                unit="µs",
                goal=goal,
            )
            for peer, (peer_is, goal) in peers.items()
        ],
        extra={"server"},
    )


def _bulk(*, quick: bool) -> Case:
    part = 4 if quick else 1
    ours, ours_sync = "AsyncClient.cancel_batches, [aiohttp]", "Client.cancel_batches, [aiohttp]"
    core, core_sync = "AsyncClient.cancel_batches, core", "Client.cancel_batches, core"
    httpx, bare, vendor = "httpx.AsyncClient", "httpx.AsyncClient, httpx-aiohttp", "the vendor's SDK, 16 threads"
    return Case(
        rounds=9,
        seconds=90,
        contestants={
            "async": ("aiohttp", worker("aiohttp", "bulk_async", 2000 // part, concurrency=64)),
            "httpx": ("httpx", worker("httpx", "bulk_httpx", 400 // part, concurrency=64)),
            "bare": ("httpx-aiohttp", worker("httpx-aiohttp", "bulk_httpx_aiohttp", 2000 // part, concurrency=64)),
            "sync": ("aiohttp", worker("aiohttp", "bulk_sync", 2000 // part, concurrency=64)),
            "vendor": ("vendor", worker("vendor", "bulk_vendor", 800 // part, concurrency=16)),
            "core": ("core", worker("core", "bulk_async", 1000 // part, concurrency=64)),
            "core-sync": ("core", worker("core", "bulk_sync", 1000 // part, concurrency=64)),
        },
        rows=[
            _rate("bulk.httpx", ours, httpx, "async", "httpx", 6.0),
            _rate("bulk.httpx-aiohttp", ours, bare, "async", "bare", 0.85),
            _rate("bulk.vendor", ours, vendor, "async", "vendor", 2.0),
            _rate("bulk.sync.httpx", ours_sync, httpx, "sync", "httpx", 6.0),
            _rate("bulk.sync.vendor", ours_sync, vendor, "sync", "vendor", 2.0),
            _rate("bulk.core.httpx", core, httpx, "core", "httpx"),
            _rate("bulk.core.sync", core_sync, vendor, "core-sync", "vendor"),
        ],
        extra={"server"},
    )


def _bulk_slow(*, quick: bool) -> Case:
    count, delay = (320 if quick else 640), 0.1
    ours, ours_sync = "AsyncClient.cancel_batches, [aiohttp]", "Client.cancel_batches, [aiohttp]"
    httpx, bare, vendor = "httpx.AsyncClient", "httpx.AsyncClient, httpx-aiohttp", "the vendor's SDK, 16 threads"

    def slow(environment: str, name: str, concurrency: int = 64) -> tuple[str, Opened]:
        share = count * concurrency // 64
        return environment, worker(environment, name, share, concurrency=concurrency, delay=delay)

    return Case(
        rounds=7,
        seconds=45,
        contestants={
            "async": slow("aiohttp", "bulk_async"),
            "httpx": slow("httpx", "bulk_httpx"),
            "bare": slow("httpx-aiohttp", "bulk_httpx_aiohttp"),
            "sync": slow("aiohttp", "bulk_sync"),
            "vendor": slow("vendor", "bulk_vendor", 16),
        },
        rows=[
            _rate("slow.httpx", ours, httpx, "async", "httpx"),
            _rate("slow.httpx-aiohttp", ours, bare, "async", "bare", 0.85),
            _rate("slow.vendor", ours, vendor, "async", "vendor", 2.0),
            _rate("slow.sync.vendor", ours_sync, vendor, "sync", "vendor", 2.0),
        ],
        extra={"server"},
    )


def _mock_start() -> Case:
    return Case(
        rounds=7,
        seconds=30,
        contestants={"ours": ("mock", starting(our_mock)), "prism": ("prism", starting(prism))},
        rows=[
            Row(
                id="mock.start.prism",
                what="mixpeek-batches mock, to its first answer",
                peer_is="prism mock",
                ours="ours",
                peer="prism",
                figure="seconds",
                unit="ms",
                goal=0.4,
            )
        ],
    )


def _mock_load(*, quick: bool) -> Case:
    seconds = 1.0 if quick else 2.0
    ours, names = "mixpeek-batches mock", {"ours": "ours", "peer": "prism", "peer_is": "prism mock"}
    return Case(
        rounds=7,
        seconds=50,
        contestants={
            "ours": ("mock", serving(our_mock, seconds)),
            "prism": ("prism", serving(prism, seconds)),
            "silent": ("prism", serving(silent_prism, seconds)),
            "bare": ("mock", bare_serving(seconds)),
        },
        rows=[
            Row(id="mock.rate.prism", what=ours, figure="rate", unit="/s", goal=10.0, **names),
            Row(
                id="mock.memory.prism", what=f"{ours}, under load", figure="mebibytes", unit="MiB", goal=1 / 3, **names
            ),
            _rate("mock.rate.silent", f"{ours}, with its log", "prism mock, its log off", "ours", "silent"),
            _rate("mock.rate.bare", ours, "a bare ASGI app under the same uvicorn", "ours", "bare"),
        ],
    )


def _growth_bulk(*, quick: bool) -> Case:
    part = 4 if quick else 1
    widths = (1, 4, 16, 64, 256)
    taking_part: dict[str, tuple[str, Opened]] = {}
    rows = []
    for width in widths:
        taking_part[f"ours{width}"] = "aiohttp", worker("aiohttp", "bulk_async", 1600 // part, concurrency=width)
        count = (600 if width < 64 else 300) // part
        taking_part[f"httpx{width}"] = "httpx", worker("httpx", "bulk_httpx", count, concurrency=width)
        what = f"AsyncClient.cancel_batches, [aiohttp], {width} at a time"
        rows.append(_rate(f"growth.bulk.{width}", what, "httpx.AsyncClient, so too", f"ours{width}", f"httpx{width}"))
    return Case(rounds=5, seconds=50, contestants=taking_part, rows=rows, extra={"server"})


def _growth_mock(*, quick: bool) -> Case:
    seconds = 1.0 if quick else 2.0
    ours = "mixpeek-batches mock with"
    return Case(
        rounds=5,
        seconds=35,
        contestants={str(count): ("mock", serving(our_mock, seconds, batches=count)) for count in (10, 1_000, 100_000)},
        rows=[
            _rate("growth.mock.1000", f"{ours} 1,000 batches", "with 10 batches", "1000", "10", 0.9),
            _rate("growth.mock.100000", f"{ours} 100,000 batches", "with 10 batches", "100000", "10", 0.9),
        ],
    )


def _growth_memory(*, quick: bool) -> Case:
    count = 100_000 if quick else 1_000_000
    return Case(
        rounds=1,
        seconds=120,
        contestants={"ours": ("aiohttp", worker("aiohttp", "memory", count, concurrency=64))},
        rows=[
            Row(
                id="growth.memory",
                what=f"cancel_batches, peak after {count:,} pairs",
                peer_is=f"after {count // 10:,} of them",
                ours="ours",
                peer="ours",
                figure="late",
                peer_figure="early",
                unit="MiB",
                goal=1.05,
            )
        ],
        warm=False,
        extra={"server"},
    )


def _rate(name: str, what: str, peer_is: str, ours: str, peer: str, goal: float | None = None) -> Row:
    return Row(id=name, what=what, peer_is=peer_is, ours=ours, peer=peer, figure="rate", unit="/s", goal=goal)


def load_tool() -> str:
    """Name what loads the mocks."""
    tool = "wrk" if contestants.wrk() else "benchmarks/load.py"
    return f"{tool}, {contestants.CONNECTIONS} connections"
