"""Many batches: pairs in, results out. When what is sent is tested in test_scheduler.py."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trio
from bulk import Caller, each_loop, many, our_threads, run, wait_until
from peer import HANG, RESET, TASK, Drip, Peer, ReceivedRequest, Script, echo, response

from mixpeek_batches import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    CancelResult,
    Client,
    ConfigurationError,
    InternalServerError,
    MixpeekError,
    NotFoundError,
    RateLimitError,
)
from mixpeek_batches.mock import MockServer

Connect = Callable[..., Caller]
PAIRS = [("bkt_1", f"btch_{number}") for number in range(60)]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixpeek_batches._retries.backoff", lambda _: 0.0)


# Pairs and results


@pytest.mark.parametrize("make", [list, dict.fromkeys, iter, lambda pairs: map(list, pairs)])
def test_each_pair_has_one_result(connect: Connect, make: Callable[[Any], Any]) -> None:
    """Any iterable of pairs is accepted, and each result has the task of its own batch."""
    with Peer(echo) as peer, connect(peer.url) as client:
        results = list(client.cancel_batches(make(PAIRS)))
    assert sorted((result.bucket_identifier, result.batch_id) for result in results) == sorted(PAIRS)
    assert all(result.task and result.task.task_id == result.batch_id and result.attempts == 1 for result in results)
    assert len(peer.requests) == len(PAIRS)


def test_no_pairs(connect: Connect) -> None:
    """Without pairs there is no result, and nothing is sent."""
    with Peer(echo) as peer, connect(peer.url) as client:
        assert list(client.cancel_batches([])) == []
    assert peer.connections == 0


@pytest.mark.parametrize("pairs", [None, 7])
def test_pairs_that_cannot_be_iterated(connect: Connect, pairs: Any) -> None:
    with connect(NOWHERE) as client, pytest.raises(TypeError, match="not iterable"):
        list(client.cancel_batches(pairs))


@each_loop
@pytest.mark.parametrize("fails", [False, True])
def test_asynchronous_pairs(driver: str, fails: bool) -> None:
    """One task of the caller's loop iterates them; results arrive while they wait; their error is raised last."""
    closed: list[threading.Thread] = []
    seen: list[str] = []

    async def consume(client: AsyncClient) -> None:
        first_is_seen = anyio.Event()

        async def pairs() -> AsyncIterator[tuple[str, str]]:
            try:
                with anyio.fail_after(10):  # a cancel scope may not change its task
                    yield "bkt_1", "a"
                    await first_is_seen.wait()
                    yield "bkt_1", "b"
                if fails:
                    raise LookupError("no more")
            finally:
                closed.append(threading.current_thread())

        async for result in client.cancel_batches(pairs()):
            seen.append(result.batch_id)
            first_is_seen.set()

    with Peer(echo) as peer, pytest.raises(LookupError, match="no more") if fails else contextlib.nullcontext():
        run(driver, consume, base_url=peer.url)
    assert (seen, closed) == (["a", "b"], [threading.main_thread()])


def test_pairs_that_raise(connect: Connect) -> None:
    """Their error is raised unchanged, after the results of all pairs before it."""

    def pairs() -> Iterator[tuple[str, str]]:
        yield from PAIRS
        raise LookupError("no more")

    seen: list[CancelResult] = []
    with Peer(echo) as peer, connect(peer.url) as client, pytest.raises(LookupError, match="no more"):
        seen.extend(client.cancel_batches(pairs()))
    assert len(seen) == len(PAIRS)


def test_pairs_are_fetched_when_needed(connect: Connect) -> None:
    """They are fetched in the caller's thread and context, one when one can be sent."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="")
    tenant.set("t1")
    told: list[tuple[int, str, int]] = []
    seen: list[CancelResult] = []

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(10):
            told.append((threading.get_ident(), tenant.get(), len(seen)))
            yield "bkt_1", str(number)

    with Peer(echo) as peer, connect(peer.url) as client:
        for result in client.cancel_batches(pairs(), concurrency=1):
            seen.append(result)  # noqa: PERF402 - one by one
    assert told == [(threading.get_ident(), "t1", number) for number in range(10)]


def test_slow_consumer(connect: Connect) -> None:
    """While no result is taken, nothing more is sent, and no more pairs are fetched."""
    told = itertools.count()
    with Peer(echo) as peer, connect(peer.url) as client:
        results = client.cancel_batches((("bkt_1", str(number)) for number in told), concurrency=2)
        next(results)
        client.sleep(0.1)
        assert len(peer.requests) <= 3
        assert next(told) <= 4
        results.close()


def test_nothing_is_kept(connect: Connect) -> None:
    """Neither pairs nor results are kept once they have been used, however many there are."""

    class Pair(list[str]):
        """A list that weak references can refer to."""

    alive: set[int] = set()

    def watch(item: Any) -> Any:
        alive.add(id(item))
        weakref.finalize(item, alive.discard, id(item))
        return item

    pairs = (watch(Pair(["bkt_1", ".." if number % 10 else str(number)])) for number in range(500))
    with Peer(echo) as peer, connect(peer.url) as client:
        for result in client.cancel_batches(pairs, concurrency=2):
            watch(result)
            assert len(alive) <= 8
    assert len(peer.requests) == 50


def test_slow_batch(connect: Connect) -> None:
    """Results come as they complete: a slow response holds up no other."""
    slow: dict[str, Script] = {"0": [HANG], "1": [Drip(response())]}
    pairs = (("bkt_1", str(number)) for number in range(30))
    with Peer(lambda request: slow.get(request.batch_id, echo(request))) as peer, connect(peer.url) as client:
        results = client.cancel_batches(pairs, concurrency=3)
        assert {next(results).batch_id for _ in range(28)} == {str(number) for number in range(2, 30)}
        results.close()


def test_namespaces(connect: Connect) -> None:
    """A pair's third item names its namespace, else the call does, else the client."""
    pairs = [("bkt_1", "a", "of_pair"), ("bkt_1", "b"), ("bkt_1", "c", None)]
    with Peer(echo) as peer, connect(peer.url, namespace="of_client") as client:
        results = [*client.cancel_batches(pairs, namespace="of_call"), *client.cancel_batches([("bkt_1", "d")])]
    expected = {"a": "of_pair", "b": "of_call", "c": "of_call", "d": "of_client"}
    assert {result.batch_id: result.namespace for result in results} == expected
    sent = {request.batch_id: (request.header("X-Namespace") or b"").decode() for request in peer.requests}
    assert sent == expected


def test_result() -> None:
    """A result is canceled only if the server says so, cannot be changed, and has a task or raises its error."""
    with (
        Peer(echo, response(200, TASK | {"status": "STOPPING"}), response(404)) as peer,
        Client(api_key="sk_test", base_url=peer.url) as client,
    ):
        done, undone, failed = client.cancel_batches([("bkt_1", "a"), ("bkt_1", "b"), ("bkt_1", "c")], concurrency=1)
    assert (done.bucket_identifier, done.batch_id, done.namespace, done.error) == ("bkt_1", "a", None, None)
    assert (done.unwrap().task_id, done.canceled) == ("a", True)
    assert (undone.unwrap().status, undone.error, undone.canceled) == ("STOPPING", None, False)
    assert (failed.task, failed.canceled) == (None, False)
    with pytest.raises(NotFoundError):
        failed.unwrap()
    with pytest.raises(AttributeError):
        done.batch_id = "b"  # type: ignore[misc]
    with pytest.raises(MixpeekError, match="neither"):
        CancelResult(bucket_identifier="bkt_1", batch_id="btch_1").unwrap()
    assert len({done, undone, failed}) == 3


# Failures

SCRIPTS: dict[str, tuple[Script, type[Exception]]] = {
    "401": (response(401), AuthenticationError),
    "404": (response(404), NotFoundError),
    "429": (response(429, headers={"Retry-After": "0.1"}), RateLimitError),
    "500": (response(500), InternalServerError),
    "no-task": (response(200, []), APIResponseValidationError),
    "reset": ([RESET], APIConnectionError),
    "hang": ([HANG], APITimeoutError),
}
MALFORMED: list[Any] = [
    *[None, 7, "ab", ("bkt_1",), ("a", "b", "c", "d"), {"bkt_1": "x"}, (), ("bkt_1", ".."), ("", "x"), ("bkt_1", None)],
    *[(7, "x"), ("bkt_1", "\ud800"), ("bkt_1", "x", "a\tb"), ("bkt_1", "x", ""), ("bkt_1", "x", 7), (b"b", "x")],
]


def test_failure_is_a_result(connect: Connect) -> None:
    """Every error, in the pair or from the server, is the result of its own batch."""
    pairs = PAIRS[:10] + [("bkt_1", name) for name in SCRIPTS] + MALFORMED
    with (
        Peer(lambda request: SCRIPTS.get(request.batch_id, (echo(request),))[0]) as peer,
        connect(peer.url, timeout=0.4, max_retries=0) as client,
    ):
        results = list(client.cancel_batches(pairs))
    assert sum(result.canceled for result in results) == 10
    assert all((result.task is None) != (result.error is None) for result in results)
    refused = [result for result in results if isinstance(result.error, ConfigurationError)]
    assert (len(refused), {result.attempts for result in refused}) == (len(MALFORMED), {0})
    errors = {result.batch_id: type(result.error) for result in results if result.error and result not in refused}
    assert errors == {name: error_class for name, (_, error_class) in SCRIPTS.items()}
    assert len(peer.requests) == 10 + len(SCRIPTS)


def test_failures_are_retried(connect: Connect) -> None:
    """Each batch has max_retries of its own, and counts its attempts."""
    counts: dict[str, int] = {}

    def respond(request: ReceivedRequest) -> Any:
        counts[request.batch_id] = counts.get(request.batch_id, 0) + 1
        return [response(503), [response()[:9], RESET], echo(request)][counts[request.batch_id] - 1]

    with Peer(respond) as peer, connect(peer.url, max_retries=2) as client:
        results = list(client.cancel_batches(PAIRS[:20]))
    assert {(result.canceled, result.attempts) for result in results} == {(True, 3)}
    assert counts == {batch: 3 for _, batch in PAIRS[:20]}


def test_retries_are_logged(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """As those of a single call, with the batch that they are about."""
    with Peer(response(500), response()) as peer, connect(peer.url) as client:
        (result,) = client.cancel_batches([("bkt_1", "btch_1")])
    assert (result.canceled, result.attempts) == (True, 2)
    (record,) = [record for record in caplog.records if record.name == "mixpeek_batches"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("Batch 'btch_1' of bucket 'bkt_1': attempt 1 of 3 failed, next in 0.00 s: ")


def test_stale_connection(connect: Connect) -> None:
    """A kept connection that has ended costs no retry, but counts as an attempt; without retries it is a failure."""
    with Peer(response(), [RESET], response()) as peer, connect(peer.url, max_retries=1) as client:
        results = list(client.cancel_batches(PAIRS[:2], concurrency=1))
    assert [(result.canceled, result.attempts) for result in results] == [(True, 1), (True, 2)]
    with Peer(response(), [RESET], response()) as peer, connect(peer.url, max_retries=0) as client:
        results = list(client.cancel_batches(PAIRS[:2], concurrency=1))
    assert [(type(result.error), result.attempts) for result in results] == [(type(None), 1), (APIConnectionError, 1)]


def test_stale_connection_and_timeout(connect: Connect) -> None:
    """A request in place of one on a stale connection counts as an attempt also if it times out, and only then."""
    scripts: list[Script] = [response(), [RESET], response(), [HANG], response(), [RESET], [HANG]]
    with Peer(*scripts) as peer, connect(peer.url, timeout=0.3, max_retries=1) as client:
        results = list(client.cancel_batches(PAIRS[:4], concurrency=1))
    assert len(peer.requests) == len(scripts) + 1
    found = [(type(result.error), result.attempts) for result in results]
    assert found == [(type(None), 1), (type(None), 2), (type(None), 2), (APITimeoutError, 3)]


@each_loop
def test_deadline_is_that_of_the_attempt(driver: str) -> None:
    """A time-out comes when its own attempt has had its time, whenever others began."""

    async def respond(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.6 if request.url.path.endswith("/first/cancel") else 60)
        return httpx.Response(200, json=TASK)

    async def consume(client: AsyncClient) -> list[float]:
        pairs = [("bkt_1", "first"), ("bkt_1", "hung")]
        return [time.monotonic() async for _ in client.cancel_batches(pairs, concurrency=1)]

    transport = {"transport": httpx.MockTransport(respond)}
    first, hung = run(driver, consume, base_url=NOWHERE, http=transport, timeout=1.0, max_retries=0)
    assert 0.99 < hung - first < 1.3


@each_loop
def test_response_at_the_deadline(driver: str) -> None:
    """A response that arrives just as the deadline ends its attempt leaves the next batch all of its time."""

    async def respond(request: httpx.Request) -> httpx.Response:
        late = request.url.path.split("/")[5] == "late"
        with anyio.CancelScope(shield=late):
            await anyio.sleep(0.12 if late else 0)
        return httpx.Response(200, json=TASK)

    async def consume(client: AsyncClient) -> list[CancelResult]:
        pairs = [("bkt_1", "quick" if number % 2 else "late") for number in range(100)]
        return [result async for result in client.cancel_batches(pairs)]

    transport = {"transport": httpx.MockTransport(respond)}
    results = run(driver, consume, base_url=NOWHERE, http=transport, timeout=0.1, max_retries=0)
    assert [result.error for result in results if result.batch_id == "quick"] == [None] * 50


def test_timeout_in_a_nursery() -> None:
    """A time-out is a result also where trio wraps the cancellation in an exception group."""

    async def respond(_: httpx.Request) -> httpx.Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
        raise AssertionError

    async def consume(client: AsyncClient) -> list[CancelResult]:
        return [result async for result in client.cancel_batches(PAIRS[:2])]

    transport = {"transport": httpx.MockTransport(respond)}
    results = run("trio", consume, base_url=NOWHERE, http=transport, timeout=0.05, max_retries=0)
    assert [type(result.error) for result in results] == [APITimeoutError] * 2


def test_429_holds_everything_back(connect: Connect) -> None:
    """After a 429 nothing is sent before its Retry-After is over."""
    arrivals: list[float] = []

    def respond(request: ReceivedRequest) -> bytes:
        arrivals.append(time.monotonic())
        if len(arrivals) == 4:
            return response(429, headers={"Retry-After": "0.4"})
        time.sleep(0.1)
        return echo(request)

    with Peer(respond) as peer, connect(peer.url) as client:
        results = list(client.cancel_batches(PAIRS[:8], concurrency=4))
    assert all(result.canceled for result in results)
    assert len(arrivals) == 9
    assert all(moment - arrivals[3] >= 0.39 for moment in arrivals[4:])


def test_max_rate(connect: Connect) -> None:
    """`max_rate` bounds the requests in a second."""
    with Peer(echo) as peer, connect(peer.url) as client:
        started = time.monotonic()
        assert len(list(client.cancel_batches(PAIRS[:6], max_rate=20))) == 6
        assert time.monotonic() - started >= 5 / 20


# How many at a time


@pytest.mark.parametrize(("concurrency", "http_options"), [(1, None), (150, None), (24, {})])
def test_concurrency(connect: Connect, concurrency: int, http_options: dict[str, Any] | None) -> None:
    """As many requests are in flight once the window has opened; nor are there more connections or threads."""
    lock = threading.Lock()
    begun = in_flight = most = 0

    def respond(request: ReceivedRequest) -> bytes:
        nonlocal begun, in_flight, most
        with lock:
            begun += 1
            in_flight += 1
            most = max(most, in_flight)
            window_is_open = begun > 2 * concurrency
        if window_is_open:
            wait_until(lambda: most >= concurrency)
        with lock:
            in_flight -= 1
        return echo(request)

    pairs = [("bkt_1", str(number)) for number in range(3 * concurrency)]
    with Peer(respond) as peer, connect(peer.url, http_options=http_options) as client:
        for result in client.cancel_batches(pairs, concurrency=concurrency):
            assert result.canceled
            assert len(our_threads()) <= concurrency
    assert most == concurrency
    assert http_options is not None or peer.connections == concurrency


@pytest.mark.parametrize(
    "options",
    [
        *[{"concurrency": value} for value in (0, -1, 1001, 1.5, True, "16", None)],
        *[{"max_rate": value} for value in (0, -1, float("nan"), float("inf"), True, "5")],
        *[{"namespace": value} for value in ("", "a\tb")],
    ],
)
def test_refused_option(connect: Connect, options: dict[str, Any]) -> None:
    """An invalid option is refused before the first pair is fetched."""
    pairs = iter(PAIRS)
    with connect(NOWHERE) as client, pytest.raises(ConfigurationError, match=f"^{next(iter(options))}"):
        client.cancel_batches(pairs, **options)
    assert next(pairs) == PAIRS[0]


# Use


def test_after_close(connect: Connect) -> None:
    """A closed client raises ConfigurationError, also if it was closed before the first result."""
    with connect(NOWHERE) as client:
        results = client.cancel_batches(PAIRS)
        client.close()
        with pytest.raises(ConfigurationError, match="closed"):
            client.cancel_batches(PAIRS)
        with pytest.raises(ConfigurationError, match="closed"):
            next(results)


def test_client_stays_usable(connect: Connect) -> None:
    """A client may mix single calls and bulk, over the same connections."""
    with Peer(echo) as peer, connect(peer.url) as client:
        for _ in range(2):
            assert len(list(client.cancel_batches(PAIRS[:9], concurrency=2))) == 9
            assert client.cancel_batch("bkt_1", "x").task_id == "x"
    assert peer.connections == 2


def test_inside_an_event_loop() -> None:
    """The synchronous client works where an event loop is running."""

    async def main() -> int:
        return len(run("threads", many, base_url=peer.url))

    with Peer(echo) as peer:
        assert asyncio.run(main()) == 5


def test_many_threads() -> None:
    """Threads may share a client, and each gets its own results."""
    buckets: list[set[str]] = []

    def run(client: Client, bucket: str) -> None:
        results = list(client.cancel_batches([(bucket, batch) for _, batch in PAIRS[:20]], concurrency=4))
        buckets.append(
            {result.bucket_identifier for result in results if result.canceled} if len(results) == 20 else set()
        )

    with Peer(echo) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        threads = [threading.Thread(target=run, args=(client, str(number))) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(buckets, key=str) == [{str(number)} for number in range(6)]
    assert len(peer.requests) == 120


def test_descriptors(connect: Connect) -> None:
    """However connections end, no descriptor stays open."""
    ends = [script for script, _ in SCRIPTS.values() if script != [HANG]]
    with Peer(*ends, response()) as peer:
        for _ in range(3):
            with connect(peer.url, max_retries=0) as client:
                assert len(list(client.cancel_batches(PAIRS))) == 60
            wait_until(lambda: peer.open == 0)
            before = len(list(Path("/proc/self/fd").iterdir()))
        wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


def test_against_the_mock(connect: Connect) -> None:
    """What is reported as canceled is CANCELED at the server, and nothing else is."""
    with MockServer() as mock:
        mock.add_batches([{"bucket_identifier": "b", "batch_id": str(n), "status": "IN_PROGRESS"} for n in range(50)])
        mock.add_batch("b", "done", status="COMPLETED")
        pairs = [*(("b", str(number)) for number in range(50)), ("b", "done"), ("b", "none")]
        with connect(mock.url, api_key=mock.api_key) as client:
            results = list(client.cancel_batches(pairs))
        canceled = {batch.batch_id for batch in mock.batches if batch.status == "CANCELED"}
    assert {result.batch_id for result in results if result.canceled} == canceled
    errors = {result.batch_id: type(result.error) for result in results if result.error}
    assert errors == {"done": BadRequestError, "none": NotFoundError}
