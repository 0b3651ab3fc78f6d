"""Many batches: a stream in, a stream of results out, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bulk import KINDS, OWN_KINDS, Bulk, our_threads, wait_until
from peer import CLOSE, HANG, RESET, TASK, Peer, Request, response

from mixpeek_batches import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    CancelResult,
    Client,
    ConfigurationError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from mixpeek_batches.mock import MockServer

PAIRS = [("bkt_1", f"btch_{number}") for number in range(60)]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(params=KINDS)
def bulk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, one_root: Path) -> Iterator[Bulk]:
    """Run the test in each way, and see that no thread is left when it is over."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_root))
    monkeypatch.setattr("mixpeek_batches._retries.backoff", lambda _: 0.0)
    yield Bulk(request.param)
    wait_until(lambda: our_threads() == [])


own = pytest.mark.parametrize("bulk", OWN_KINDS, indirect=True)
each_async = pytest.mark.parametrize("bulk", [kind for kind in KINDS if kind.startswith("async")], indirect=True)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def batch_of(request: Request) -> str:
    return request.line.split(b"/")[5].decode()


def echo(request: Request) -> bytes:
    """Answer with a task that tells of which batch it is."""
    return response(200, TASK | {"task_id": batch_of(request)})


# What goes in, and what comes out


def test_every_result_comes_once(bulk: Bulk) -> None:
    """Each pair gives one result, which has the task of its own batch."""
    with Peer(echo) as peer:
        results = bulk.run(peer.url, PAIRS)
    assert sorted((result.bucket_identifier, result.batch_id) for result in results) == sorted(PAIRS)
    assert all(result.task and result.task.task_id == result.batch_id for result in results)
    assert len(peer.requests) == len(PAIRS)


@pytest.mark.parametrize("make", [list, tuple, iter, dict.fromkeys, lambda pairs: (pair for pair in pairs)])
def test_source(bulk: Bulk, make: Callable[[Any], Any]) -> None:
    """Any iterable of pairs will do, and a pair may be a list."""
    with Peer(echo) as peer:
        results = bulk.run(peer.url, make(PAIRS[:20]))
        assert len(bulk.run(peer.url, [["bkt_1", "btch_1"]])) == 1
    assert {result.batch_id for result in results if result.canceled} == {batch for _, batch in PAIRS[:20]}


@each_async
def test_asynchronous_source(bulk: Bulk) -> None:
    """An asynchronous generator is advanced in the event loop of the caller, and closed."""
    closed = []

    async def pairs() -> AsyncIterator[tuple[str, str]]:
        try:
            for pair in PAIRS:
                await asyncio.sleep(0)
                yield pair
        finally:
            closed.append(threading.current_thread())

    with Peer(echo) as peer:
        assert len(bulk.run(peer.url, pairs())) == len(PAIRS)
        bulk.run(peer.url, pairs(), lambda _: True)
    assert closed == [threading.main_thread()] * 2


@pytest.mark.parametrize("pairs", [[], (), iter([])], ids=["list", "tuple", "iterator"])
def test_empty_source(bulk: Bulk, pairs: Any) -> None:
    """Nothing in, nothing out, nobody asked."""
    with Peer(echo) as peer:
        assert bulk.run(peer.url, pairs) == []
    assert peer.connections == 0


@pytest.mark.parametrize("pairs", [None, 7], ids=["none", "number"])
def test_source_that_is_none(bulk: Bulk, pairs: Any) -> None:
    """What cannot be iterated is the caller's mistake."""
    with pytest.raises(TypeError, match="not iterable"):
        bulk.run(NOWHERE, pairs)


def test_infinite_source(bulk: Bulk) -> None:
    """A source without end may be left at any time, with no thread, task or connection left behind."""
    with Peer(echo) as peer:
        results = bulk.run(
            peer.url, (("bkt_1", str(number)) for number in itertools.count()), lambda r: r.batch_id == "30"
        )
        wait_until(lambda: peer.open == 0 and our_threads() == [])
    assert len(results) >= 15


def test_descriptors(bulk: Bulk) -> None:
    """When it is over, as many descriptors are open as before."""
    with Peer(echo) as peer:
        bulk.run(peer.url, PAIRS)
        wait_until(lambda: peer.open == 0)
        time.sleep(0.1)
        before = descriptors()
        for _ in range(3):
            bulk.run(peer.url, PAIRS)
        wait_until(lambda: descriptors() <= before)


@each_async
def test_results_come_while_the_source_waits(bulk: Bulk) -> None:
    """What has ended comes out, though an asynchronous source has yet to tell the next."""
    waited = []

    async def run(url: str) -> list[CancelResult]:
        seen = asyncio.Event()

        async def pairs() -> AsyncIterator[tuple[str, str]]:
            yield "bkt_1", "a"
            async with asyncio.timeout(10):
                waited.append(await seen.wait())
            yield "bkt_1", "b"

        results = []
        async with AsyncClient(api_key="sk_test", base_url=url) as client:
            async for result in client.cancel_batches(pairs()):
                results.append(result)
                seen.set()
        return results

    with Peer(echo) as peer:
        assert [result.batch_id for result in asyncio.run(run(peer.url))] == ["a", "b"]
    assert waited == [True]


@each_async
def test_leaving_a_source_that_waits(bulk: Bulk) -> None:
    """An asynchronous source that does not come back keeps nobody from leaving."""

    async def run(url: str) -> None:
        async def pairs() -> AsyncIterator[tuple[str, str]]:
            yield "bkt_1", "a"
            await asyncio.sleep(30)

        async with (
            AsyncClient(api_key="sk_test", base_url=url) as client,
            contextlib.aclosing(client.cancel_batches(pairs())) as results,
        ):
            await anext(results)

    with Peer(echo) as peer:
        started = time.monotonic()
        asyncio.run(run(peer.url))
        assert time.monotonic() - started < 5
        wait_until(lambda: peer.open == 0)


def test_pairs_are_advanced_when_their_turn_comes(bulk: Bulk) -> None:
    """In the caller's thread and context, and not before a result that is there was given."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="")
    tenant.set("t1")
    told: list[tuple[int, str, int]] = []
    seen: list[CancelResult] = []

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(10):
            told.append((threading.get_ident(), tenant.get(), len(seen)))
            yield "bkt_1", str(number)

    with Peer(echo) as peer:
        bulk.run(peer.url, pairs(), seen.append, concurrency=1)
    assert told == [(threading.get_ident(), "t1", number) for number in range(10)]


def test_results_come_as_they_end(bulk: Bulk) -> None:
    """A slow batch holds up no other."""
    others = threading.Event()

    def answer(request: Request) -> bytes:
        if batch_of(request) == "btch_0":
            others.wait(10)
        return echo(request)

    seen: list[CancelResult] = []

    def consume(result: CancelResult) -> None:
        seen.append(result)
        if len(seen) == len(PAIRS) - 1:
            others.set()

    with Peer(answer) as peer:
        results = bulk.run(peer.url, PAIRS, consume, concurrency=4)
    assert len(results) == len(PAIRS)
    assert results[-1].batch_id == "btch_0"


def test_namespaces(bulk: Bulk) -> None:
    """A third member of a pair names its namespace, else the call does, else the client."""
    pairs = [("bkt_1", "a", "of_pair"), ("bkt_1", "b"), ("bkt_1", "c", None)]
    with Peer(echo) as peer:
        results = bulk.run(peer.url, pairs, namespace="of_call")
        bulk.run(peer.url, [("bkt_1", "d")], namespace=None)
    sent = {batch_of(request): request.header("X-Namespace") for request in peer.requests}
    assert sent == {"a": b"of_pair", "b": b"of_call", "c": b"of_call", "d": None}
    assert {result.batch_id: result.namespace for result in results} == {"a": "of_pair", "b": "of_call", "c": "of_call"}


def test_result_of_a_success() -> None:
    """A result says of which batch it is, and is CANCELED only if the server says so."""
    with (
        Peer(echo, response(200, TASK | {"status": "STOPPING"})) as peer,
        Client(api_key="sk_test", base_url=peer.url) as client,
    ):
        one, two = client.cancel_batches([("bkt_1", "a"), ("bkt_1", "b")], concurrency=1)
    assert (one.bucket_identifier, one.batch_id, one.namespace, one.error, one.canceled) == (
        *("bkt_1", "a", None, None),
        True,
    )
    assert (two.task and two.task.status, two.error, two.canceled) == ("STOPPING", None, False)
    with pytest.raises(AttributeError):
        one.batch_id = "b"  # type: ignore[misc]


# Failures

SCRIPTS: dict[str, tuple[Any, type[Exception]]] = {
    "400": (response(400), BadRequestError),
    "401": (response(401), AuthenticationError),
    "403": (response(403), PermissionDeniedError),
    "404": (response(404), NotFoundError),
    "418": (response(418), APIStatusError),
    "422": (response(422), UnprocessableEntityError),
    "429": (response(429, headers={"Retry-After": "1"}), RateLimitError),
    "500": (response(500), InternalServerError),
    "302": (response(302, b"", {"Location": "/"}), APIStatusError),
    "no-task": (response(200, []), APIResponseValidationError),
    "reset": ([RESET], APIConnectionError),
    "close": ([response()[:50], CLOSE], APIConnectionError),
    "hang": ([HANG], APITimeoutError),
}
MALFORMED: list[Any] = [
    *[None, 7, "ab", ("bkt_1",), ("a", "b", "c", "d"), {"bkt_1": "x"}, (), ("bkt_1", ".."), ("", "x"), ("bkt_1", None)],
    *[(7, "x"), ("bkt_1", "\ud800"), ("bkt_1", "x", "a\tb"), ("bkt_1", "x", ""), ("bkt_1", "x", 7), (b"b", "x")],
]


def test_failure_is_a_result(bulk: Bulk) -> None:
    """Every error is the result of its own batch, and the others go on."""
    pairs = PAIRS[:10] + [("bkt_1", name) for name in SCRIPTS]
    with Peer(lambda request: SCRIPTS.get(batch_of(request), (echo(request),))[0]) as peer:
        results = bulk.run(peer.url, pairs, timeout=0.5, max_retries=0)
    errors = {result.batch_id: type(result.error) for result in results if result.error is not None}
    assert errors == {name: error_class for name, (_, error_class) in SCRIPTS.items()}
    assert sum(result.canceled for result in results) == 10
    assert all((result.task is None) != (result.error is None) for result in results)


def test_malformed_pair_is_a_result(bulk: Bulk) -> None:
    """What is no pair, or may not be sent, is refused in a result of its own, and nothing is sent."""
    with Peer(echo) as peer:
        results = bulk.run(peer.url, MALFORMED + PAIRS[:5])
    refused = [result for result in results if result.error is not None]
    assert {type(result.error) for result in refused} == {ConfigurationError}
    assert len(refused) == len(MALFORMED)
    assert len(peer.requests) == 5


def test_failures_are_tried_again(bulk: Bulk) -> None:
    """Each batch has max_retries of its own."""
    counts: dict[str, int] = {}

    def answer(request: Request) -> Any:
        batch = batch_of(request)
        counts[batch] = counts.get(batch, 0) + 1
        return echo(request) if counts[batch] == 3 else [response(503), [RESET]][counts[batch] - 1]

    with Peer(answer) as peer:
        results = bulk.run(peer.url, PAIRS[:20], max_retries=2)
    assert all(result.canceled for result in results)
    assert counts == {batch: 3 for _, batch in PAIRS[:20]}


def test_source_that_fails(bulk: Bulk) -> None:
    """What the source raises comes after all that came before it has ended, and as it was."""

    def pairs() -> Iterator[tuple[str, str]]:
        yield from PAIRS
        raise LookupError("no more")

    seen: list[CancelResult] = []
    with Peer(echo) as peer, pytest.raises(LookupError, match="no more"):
        bulk.run(peer.url, pairs(), seen.append)
    assert len({result.batch_id for result in seen}) == len(PAIRS)


@each_async
def test_asynchronous_source_that_fails(bulk: Bulk) -> None:
    """So it is with an asynchronous one."""

    async def pairs() -> AsyncIterator[tuple[str, str]]:
        for pair in PAIRS:
            yield pair
        raise LookupError("no more")

    seen: list[CancelResult] = []
    with Peer(echo) as peer, pytest.raises(LookupError, match="no more"):
        bulk.run(peer.url, pairs(), seen.append)
    assert len({result.batch_id for result in seen}) == len(PAIRS)


def test_failure_shows_no_key(bulk: Bulk, caplog: pytest.LogCaptureFixture) -> None:
    """No result and no line of any logger shows the key."""
    caplog.set_level(logging.DEBUG)
    key = "sk_S3CR3T"
    with Peer(response(503, {"message": f"bad {key}"}), [RESET], response(404, {"message": f"bad {key}"})) as peer:
        (result,) = bulk.run(peer.url, PAIRS[:1], api_key=key, max_retries=2)
    assert type(result.error) is NotFoundError
    assert key not in f"{result!r} {result.error} {vars(result.error)}"
    assert [record for record in caplog.records if key in f"{record.getMessage()} {vars(record)}"] == []


# Stopping


def first_ends(request: Request) -> Any:
    """Answer the first requests, and let all that follow hang."""
    return echo(request) if int(batch_of(request)) < 4 else [HANG]


ENDLESS = [("bkt_1", str(number)) for number in range(10_000)]


def test_leaving_the_loop(bulk: Bulk) -> None:
    """Whoever leaves the loop is let go at once, though requests hang."""
    with Peer(first_ends) as peer:
        started = time.monotonic()
        results = bulk.run(peer.url, ENDLESS, lambda _: True, concurrency=4, timeout=3)
        assert time.monotonic() - started < 2.5
        wait_until(lambda: peer.open == 0)
    assert len(results) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_error_where_results_are_used(bulk: Bulk, error: type[BaseException]) -> None:
    """An error in the caller's loop, Ctrl-C too, goes up at once and ends everything."""

    def consume(_: CancelResult) -> None:
        raise error

    with Peer(first_ends) as peer:
        started = time.monotonic()
        with pytest.raises(error):
            bulk.run(peer.url, ENDLESS, consume, concurrency=4, timeout=3)
        assert time.monotonic() - started < 2.5
        wait_until(lambda: peer.open == 0)
    assert len(peer.requests) < 30


@each_async
def test_cancelled_task(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is cancelled while it waits for results ends at once, with everything that it began."""

    async def run(url: str) -> None:
        async with AsyncClient(api_key="sk_test", base_url=url) as client, asyncio.timeout(0.5):
            async for _ in client.cancel_batches(iter(ENDLESS), concurrency=4):
                pass

    with Peer(first_ends) as peer:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(run(peer.url))
        assert time.monotonic() - started < 4
        wait_until(lambda: peer.open == 0)
    assert len(peer.requests) == 8


def test_generator_that_is_dropped(bulk: Bulk) -> None:
    """A generator that nobody holds any more ends as if it were closed, and one that never began does nothing."""

    def consume_some(url: str) -> None:
        client = Client(api_key="sk_test", base_url=url)
        client.cancel_batches(ENDLESS)
        next(client.cancel_batches(ENDLESS, concurrency=4))
        client.close()

    if bulk.is_async or bulk.is_given:
        return
    with Peer(first_ends) as peer:
        consume_some(peer.url)
        wait_until(lambda: peer.open == 0 and our_threads() == [])


# How many at a time


@pytest.mark.parametrize("concurrency", [1, 3, 24])
def test_concurrency(bulk: Bulk, concurrency: int) -> None:
    """As many requests are in flight as was asked for, once the server has shown that it takes them, and never more."""
    lock, begun, in_flight, most = threading.Lock(), 0, 0, 0

    def answer(request: Request) -> bytes:
        nonlocal begun, in_flight, most
        with lock:
            begun += 1
            in_flight += 1
            most = max(most, in_flight)
            opening = begun <= 100
        if not opening:
            wait_until(lambda: most >= concurrency)
        with lock:
            in_flight -= 1
        return echo(request)

    with Peer(answer) as peer:
        pairs = (("bkt_1", str(number)) for number in range(200))
        assert all(result.canceled for result in bulk.run(peer.url, pairs, concurrency=concurrency))
    assert most == concurrency
    assert bulk.is_given or peer.connections == concurrency


@own
def test_more_than_a_hundred_at_a_time(bulk: Bulk) -> None:
    """No library underneath has a bound of its own."""
    full, lock, begun = threading.Barrier(150), threading.Lock(), 0

    def answer(request: Request) -> bytes:
        nonlocal begun
        with lock:
            begun += 1
            opening = begun <= 400
        if not opening:
            full.wait(10)
        return echo(request)

    with Peer(answer) as peer:
        results = bulk.run(peer.url, [("bkt_1", str(number)) for number in range(550)], concurrency=150)
    assert sum(result.canceled for result in results) == 550


@pytest.mark.parametrize("concurrency", [0, -1, 1001, 1.5, True, "16", None])
def test_wrong_concurrency(bulk: Bulk, concurrency: Any) -> None:
    """A concurrency that makes no sense is refused before the source is touched."""
    pairs = iter(PAIRS)
    with pytest.raises(ConfigurationError, match="concurrency must"):
        bulk.run(NOWHERE, pairs, concurrency=concurrency)
    assert next(pairs) == PAIRS[0]


def test_wrong_namespace(bulk: Bulk) -> None:
    """So is a namespace that may not be sent."""
    with pytest.raises(ConfigurationError, match="namespace"):
        bulk.run(NOWHERE, PAIRS, namespace="a\tb")


@pytest.mark.parametrize("bulk", ["threads"], indirect=True)
def test_slow_consumer(bulk: Bulk) -> None:
    """Who takes no results gets no more batches cancelled than a few for each worker."""
    told = 0

    def pairs() -> Iterator[tuple[str, str]]:
        nonlocal told
        for pair in ENDLESS:
            told += 1
            yield pair

    def consume(_: CancelResult) -> bool:
        time.sleep(0.5)
        return True

    with Peer(echo) as peer:
        bulk.run(peer.url, pairs(), consume, concurrency=2)
    assert len(peer.requests) <= 12
    assert told <= 300


@each_async
def test_slow_asynchronous_consumer(bulk: Bulk) -> None:
    """So it is in an event loop."""

    async def run(url: str) -> None:
        async with (
            AsyncClient(api_key="sk_test", base_url=url) as client,
            contextlib.aclosing(client.cancel_batches(ENDLESS, concurrency=2)) as results,
        ):
            async for _ in results:
                await asyncio.sleep(0.5)
                break

    with Peer(echo) as peer:
        asyncio.run(run(peer.url))
    assert len(peer.requests) <= 6


def test_429_holds_everybody_back(bulk: Bulk) -> None:
    """After a 429 nobody sends anything before its Retry-After is over."""
    arrivals: list[float] = []

    def answer(request: Request) -> bytes:
        arrivals.append(time.monotonic())
        if len(arrivals) == 4:
            return response(429, headers={"Retry-After": "0.8"})
        time.sleep(0.2)
        return echo(request)

    with Peer(answer) as peer:
        results = bulk.run(peer.url, PAIRS[:12], concurrency=4)
    assert all(result.canceled for result in results)
    assert len(arrivals) == 13
    assert all(moment - arrivals[3] >= 0.75 for moment in arrivals[4:])


def test_429_that_asks_for_too_much(bulk: Bulk) -> None:
    """A Retry-After of hours ends the run: nobody waits for it, and what is left ends the same way, unsent."""
    with Peer(response(429, headers={"Retry-After": "3600"}), echo) as peer:
        started = time.monotonic()
        results = bulk.run(peer.url, PAIRS)
        assert time.monotonic() - started < 10
    refused = [result for result in results if not result.canceled]
    assert {type(result.error) for result in refused} == {RateLimitError}
    assert len(results) == len(PAIRS)
    assert sum(result.attempts for result in results) == len(peer.requests) < len(PAIRS)


# Use


def test_after_close(bulk: Bulk) -> None:
    """A closed client cancels nothing, and says so, also where it was closed before the first result."""
    client = (AsyncClient if bulk.is_async else Client)(api_key="sk_test", base_url=NOWHERE)
    results = client.cancel_batches(PAIRS)
    closing = client.close()
    if closing is not None:
        asyncio.run(closing)
    with pytest.raises(ConfigurationError, match="closed"):
        client.cancel_batches(PAIRS)
    with pytest.raises(ConfigurationError, match="closed"):
        asyncio.run(anext(results)) if bulk.is_async else next(results)  # type: ignore[arg-type]


def test_client_stays_usable(bulk: Bulk) -> None:
    """A client may cancel many, then one, then many again."""
    if bulk.is_async:

        async def run(url: str) -> None:
            async with AsyncClient(api_key="sk_test", base_url=url) as client:
                for _ in range(2):
                    assert len([result async for result in client.cancel_batches(PAIRS[:5])]) == 5
                    await client.cancel_batch("bkt_1", "x")

        with Peer(echo) as peer:
            asyncio.run(run(peer.url))
        return
    with Peer(echo) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        for _ in range(2):
            assert len(list(client.cancel_batches(PAIRS[:5]))) == 5
            client.cancel_batch("bkt_1", "x")


@pytest.mark.parametrize("bulk", ["threads"], indirect=True)
def test_inside_an_event_loop(bulk: Bulk) -> None:
    """The synchronous client works where an event loop is running."""

    async def run() -> list[CancelResult]:
        return bulk.run(peer.url, PAIRS)

    with Peer(echo) as peer:
        assert sum(result.canceled for result in asyncio.run(run())) == len(PAIRS)


@pytest.mark.parametrize("bulk", ["threads"], indirect=True)
def test_many_threads(bulk: Bulk) -> None:
    """Many threads may cancel many with one client, each getting the results of its own."""
    failures: list[object] = []

    def run(client: Client, bucket: str) -> None:
        results = list(client.cancel_batches([(bucket, batch) for _, batch in PAIRS[:20]], concurrency=4))
        if len(results) != 20 or {r.bucket_identifier for r in results if r.canceled} != {bucket}:
            failures.append(results)

    with Peer(echo) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        threads = [threading.Thread(target=run, args=(client, f"bkt_{number}")) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (failures, len(peer.requests)) == ([], 160)


@pytest.mark.parametrize(
    ("bulk", "total"),
    [("async", 40_000), ("threads", 40_000)],
    indirect=["bulk"],
)
def test_memory_is_flat(bulk: Bulk, total: int) -> None:
    """However many pairs there are, no more is kept than is in flight."""
    pairs = (("bkt_1", "..") for _ in range(total))
    count = 0
    sizes: list[int] = []
    page = os.sysconf("SC_PAGESIZE")

    class Forgetful(list[CancelResult]):
        def append(self, _: CancelResult) -> None:
            nonlocal count
            count += 1
            if count in {total // 10, total - 1000}:
                sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * page)

    drain(bulk, pairs, Forgetful())
    assert count == total
    assert sizes[1] - sizes[0] < 8 * 1024 * 1024


def drain(bulk: Bulk, pairs: Any, into: list[CancelResult]) -> None:
    """Append every result to a list that need not keep it."""
    if not bulk.is_async:
        with Client(api_key="sk_test", base_url=NOWHERE) as client:
            for result in client.cancel_batches(pairs):
                into.append(result)  # noqa: PERF402 - one by one is what is tested
        return

    async def run() -> None:
        async with AsyncClient(api_key="sk_test", base_url=NOWHERE) as client:
            async for result in client.cancel_batches(pairs):
                into.append(result)  # noqa: PERF401

    asyncio.run(run())


def test_against_the_mock(bulk: Bulk) -> None:
    """At the mock, what is reported as cancelled is CANCELED, and nothing else."""
    with MockServer() as mock:
        mock.add_batches([{"bucket_identifier": "b", "batch_id": str(n), "status": "IN_PROGRESS"} for n in range(50)])
        mock.add_batch("b", "done", status="COMPLETED")
        pairs = [("b", str(n)) for n in range(50)] + [("b", "done"), ("b", "none")]
        results = bulk.run(mock.url, pairs, api_key=mock.api_key)
        canceled = {batch.batch_id for batch in mock.batches if batch.status == "CANCELED"}
    assert {result.batch_id for result in results if result.canceled} == canceled
    assert {r.batch_id: type(r.error) for r in results if r.error} == {"done": BadRequestError, "none": NotFoundError}


def test_refused_port(bulk: Bulk) -> None:
    """Nobody listens: every batch fails, and with the error of a connection."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        results = bulk.run(f"http://127.0.0.1:{unused.getsockname()[1]}", PAIRS, max_retries=1)
    assert [type(result.error) for result in results] == [APIConnectionError] * len(PAIRS)
