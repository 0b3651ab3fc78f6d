"""Many batches: pairs in, a stream of results out. What may be sent when is in test_scheduler.py."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from bulk import Caller, each_loop, many, our_threads, run, wait_until
from peer import CLOSE, HANG, RESET, TASK, Drip, Peer, ReceivedRequest, Script, echo, response

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
    MixpeekError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from mixpeek_batches.mock import MockServer

Connect = Callable[..., Caller]
PAIRS = [("bkt_1", f"btch_{number}") for number in range(60)]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixpeek_batches._retries.backoff", lambda _: 0.0)


# What goes in, and what comes out


@pytest.mark.parametrize("make", [list, dict.fromkeys, iter, lambda pairs: map(list, pairs)])
def test_each_pair_has_one_result(connect: Connect, make: Callable[[Any], Any]) -> None:
    """Any iterable of pairs will do, and each result has the task of its own batch."""
    with Peer(echo) as peer, connect(peer.url) as client:
        results = list(client.cancel_batches(make(PAIRS)))
    assert sorted((result.bucket_identifier, result.batch_id) for result in results) == sorted(PAIRS)
    assert all(result.task and result.task.task_id == result.batch_id and result.attempts == 1 for result in results)
    assert len(peer.requests) == len(PAIRS)


def test_no_pairs(connect: Connect) -> None:
    """Nothing in, nothing out, nothing sent."""
    with Peer(echo) as peer, connect(peer.url) as client:
        assert list(client.cancel_batches([])) == []
    assert peer.connections == 0


@pytest.mark.parametrize("pairs", [None, 7])
def test_pairs_that_cannot_be_iterated(connect: Connect, pairs: Any) -> None:
    """The mistake is the caller's."""
    with connect(NOWHERE) as client, pytest.raises(TypeError, match="not iterable"):
        list(client.cancel_batches(pairs))


@each_loop
@pytest.mark.parametrize("fails", [False, True])
def test_asynchronous_pairs(driver: str, fails: bool) -> None:
    """They are advanced in one task of the caller's loop; results come while they wait; what they raise comes last."""
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

    with Peer(echo) as peer:
        if fails:
            with pytest.raises(LookupError, match="no more"):
                run(driver, consume, base_url=peer.url)
        else:
            run(driver, consume, base_url=peer.url)
    assert (seen, closed) == (["a", "b"], [threading.main_thread()])


def test_pairs_that_raise(connect: Connect) -> None:
    """What the pairs raise comes as it was, after the results of all pairs before it."""

    def pairs() -> Iterator[tuple[str, str]]:
        yield from PAIRS
        raise LookupError("no more")

    seen: list[CancelResult] = []
    with Peer(echo) as peer, connect(peer.url) as client, pytest.raises(LookupError, match="no more"):
        seen.extend(client.cancel_batches(pairs()))
    assert len({request.batch_id for request in peer.requests}) == len(PAIRS)


def test_pairs_are_advanced_when_their_turn_comes(connect: Connect) -> None:
    """In the caller's thread and context, and not before a result that is there was returned."""
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
    """While nobody takes results, no more is sent than was in flight, and no more pairs are fetched."""
    told = itertools.count()
    with Peer(echo) as peer, connect(peer.url) as client:
        results = client.cancel_batches((("bkt_1", str(number)) for number in told), concurrency=2)
        next(results)
        client.sleep(0.1)
        assert len(peer.requests) <= 3
        assert next(told) <= 4
        results.close()


def test_nothing_is_kept(connect: Connect) -> None:
    """However many pairs there are, neither they nor their results are kept when they are done with."""

    class Pair(list[str]):
        """Unlike a tuple, it may be referred to weakly."""

    held = 0

    def let_go() -> None:
        nonlocal held
        held -= 1

    def count(item: Any) -> Any:
        nonlocal held
        held += 1
        weakref.finalize(item, let_go)
        return item

    pairs = (count(Pair(["bkt_1", ".." if number % 10 else str(number)])) for number in range(500))
    with Peer(echo) as peer, connect(peer.url) as client:
        for result in client.cancel_batches(pairs, concurrency=2):
            count(result)
            assert held <= 150  # in cycles, until they are collected
    assert len(peer.requests) == 50


def test_slow_batch(connect: Connect) -> None:
    """Results come as they end: neither a silent connection nor one that drips holds up the others."""
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

SCRIPTS: dict[str, tuple[Any, type[Exception]]] = {
    "400": (response(400), BadRequestError),
    "401": (response(401), AuthenticationError),
    "403": (response(403), PermissionDeniedError),
    "404": (response(404), NotFoundError),
    "418": (response(418), APIStatusError),
    "422": (response(422), UnprocessableEntityError),
    "429": (response(429, headers={"Retry-After": "0.1"}), RateLimitError),
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


def test_failure_is_a_result(connect: Connect) -> None:
    """Every error, in the pair or from the server, is the result of its own batch, and the others go on."""
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


def test_stale_connection(connect: Connect) -> None:
    """A kept connection that has ended costs no retry, but counts as an attempt; without retries it is a failure."""
    with Peer(response(), [RESET], response()) as peer, connect(peer.url, max_retries=1) as client:
        assert [result.attempts for result in client.cancel_batches(PAIRS[:2], concurrency=1)] == [1, 2]
    with Peer(response(), [RESET], response()) as peer, connect(peer.url, max_retries=0) as client:
        results = list(client.cancel_batches(PAIRS[:2], concurrency=1))
    assert [(type(result.error), result.attempts) for result in results] == [(type(None), 1), (APIConnectionError, 1)]


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
    """No more is sent in a second than the caller allows."""
    with Peer(echo) as peer, connect(peer.url) as client:
        started = time.monotonic()
        assert len(list(client.cancel_batches(PAIRS[:6], max_rate=20))) == 6
        assert time.monotonic() - started >= 5 / 20


# How many at a time


@pytest.mark.parametrize(("concurrency", "http_options"), [(1, None), (150, None), (24, {})])
def test_concurrency(connect: Connect, concurrency: int, http_options: dict[str, Any] | None) -> None:
    """As many are in flight as was asked for, once the server has taken enough, and never more.

    No library underneath has a limit of its own; and there are as many connections and threads, not more.
    """
    lock, begun, in_flight, most = threading.Lock(), 0, 0, 0

    def respond(request: ReceivedRequest) -> bytes:
        nonlocal begun, in_flight, most
        with lock:
            begun += 1
            in_flight += 1
            most = max(most, in_flight)
            opening = begun <= 2 * concurrency
        if not opening:
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
    """An option that makes no sense is refused before the first pair is fetched."""
    pairs = iter(PAIRS)
    with connect(NOWHERE) as client, pytest.raises(ConfigurationError, match=f"^{next(iter(options))}"):
        client.cancel_batches(pairs, **options)
    assert next(pairs) == PAIRS[0]


# Use


def test_after_close(connect: Connect) -> None:
    """A closed client cancels nothing, and says so, also where it was closed before the first result."""
    with connect(NOWHERE) as client:
        results = client.cancel_batches(PAIRS)
        client.close()
        with pytest.raises(ConfigurationError, match="closed"):
            client.cancel_batches(PAIRS)
        with pytest.raises(ConfigurationError, match="closed"):
            next(results)


def test_client_stays_usable(connect: Connect) -> None:
    """A client may cancel many, then one, then many again, over the same connections."""
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
    """Many threads may cancel many with one client, each getting the results of its own."""
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
