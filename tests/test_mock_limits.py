"""The mock's limits: the token bucket in virtual time, then over real sockets."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_support import BEARER, PATH, REQUEST, connect, http_client, is_envelope, send, wait_until

from mixpeek_batches.mock import MockServer
from mixpeek_batches.mock.limits import Limits, TokenBucket

RATES = st.floats(0.01, 1000) | st.integers(1, 1000)
STARTS = st.floats(0, 1e6)
PROPERTIES = settings(deadline=None, derandomize=True, max_examples=100)


# --- The token bucket -------------------------------------------------------------------------------------------------


@PROPERTIES
@given(rate=RATES, burst=st.integers(1, 50), start=STARTS, pauses=st.lists(st.floats(0, 10), max_size=100))
def test_never_more_than_the_limit(rate: float, burst: int, start: float, pauses: list[float]) -> None:
    """In no span of time is more admitted than the burst and what is refilled meanwhile."""
    bucket, now, taken = TokenBucket(rate, burst), start, []
    for pause in pauses:
        now += pause / rate
        if not bucket.take(now):
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - begin) * rate + 0.01


@PROPERTIES
@given(rate=RATES, burst=st.integers(1, 50), start=STARTS, count=st.integers(1, 200))
def test_never_less_than_the_limit(rate: float, burst: int, start: float, count: int) -> None:
    """A client that waits as long as it is told is admitted, and waits no longer than the rate demands."""
    bucket, now = TokenBucket(rate, burst), start
    for _ in range(count):
        wait = bucket.take(now)
        if wait:
            assert wait <= 1 / rate * 1.01
            now += wait
            assert bucket.take(now) == 0
    assert now - start <= max(0, count - burst + 1) / rate * 1.01


@PROPERTIES
@given(rate=RATES, burst=st.integers(1, 50), start=STARTS, pause=st.floats(0, 100))
def test_pause_refills_the_bucket(rate: float, burst: int, start: float, pause: float) -> None:
    """A refused request takes no token, and a pause refills as many as the rate says, the burst at most."""
    bucket = TokenBucket(rate, burst)
    assert [bucket.take(start) > 0 for _ in range(burst + 20)] == [False] * burst + [True] * 20
    admitted = sum(not bucket.take(start + pause) for _ in range(burst + 1))
    assert admitted in {min(burst, math.floor(pause * rate)), min(burst, math.floor(pause * rate + 0.01))}


@pytest.mark.parametrize(("rate", "burst", "seconds"), [(0.5, 1, 2), (0.3, 1, 4), (100, 1, 1), (5, 10, 1)])
def test_retry_after_is_rounded_up(rate: float, burst: int, seconds: int) -> None:
    """A refused request is told to wait for whole seconds, rounded up, at least 1."""
    limits = Limits()
    limits.limit_rate(rate, burst)
    assert [limits.admit(7.0) for _ in range(burst + 2)] == [0] * burst + [seconds] * 2


def test_limits_are_independent() -> None:
    """A request refused for the one limit does not count for the other, and each is removed without the other."""
    limits = Limits()
    limits.limit_concurrency(2)
    limits.limit_rate(1, burst=3)
    assert limits.to_dict() == {"requests_per_second": 1, "burst": 3, "concurrency": 2}
    assert [limits.admit(0) for _ in range(4)] == [0, 0, 1, 1]
    assert limits.in_flight == 2
    limits.release()
    assert [limits.admit(0) for _ in range(2)] == [0, 1]
    limits.limit_concurrency(None)
    assert limits.admit(0) == 1  # no token is left
    limits.limit_rate(None)
    assert [limits.admit(0) for _ in range(9)] == [0] * 9


# --- The endpoint -----------------------------------------------------------------------------------------------------


def test_rate(mixpeek_mock: MockServer) -> None:
    """Every request to the API counts, before it is looked at and before any fault; those beyond the rate get 429."""
    mock = mixpeek_mock
    mock.add_batch("bkt", "btch")
    mock.limit_rate(0.25, burst=3)
    mock.fail_next(418, times=4)
    requests: list[dict[str, Any]] = [{"path": "/no"}, {"method": "GET"}, {"authorization": None}, {}]
    assert [send(mock, **request).status_code for request in requests] == [418, 418, 418, 429]
    for request in requests:
        response = send(mock, **request)
        assert (response.status_code, response.headers["retry-after"]) == (429, "4")
        assert is_envelope(response)
    assert [request.status_code for request in mock.requests] == [418] * 3 + [429] * 5
    assert (len(mock.faults), mock.batch("bkt", "btch").status) == (1, "PENDING")
    assert http_client().get(mock.url + "/_mock/requests").status_code == 200
    mock.limit_rate(None)
    mock.clear_faults()
    assert send(mock).status_code == 200


def test_rate_over_time(mixpeek_mock: MockServer) -> None:
    """A client that sends as fast as it can gets the rate."""
    mixpeek_mock.limit_rate(50)
    begin = time.monotonic()
    codes = []
    while time.monotonic() - begin < 0.3:
        codes.append(send(mixpeek_mock).status_code)
    seconds = time.monotonic() - begin
    assert 429 in codes
    assert 2 <= codes.count(404) <= 50 * seconds + 1


def test_concurrency(mixpeek_mock: MockServer) -> None:
    """Requests that arrive while so many are in flight get 429; a response that was received is in flight no more."""
    mixpeek_mock.limit_concurrency(4)
    mixpeek_mock.fail_next("latency", seconds=3600, times=4)
    connections = [connect(mixpeek_mock) for _ in range(4)]
    for connection in connections:
        connection.sendall(REQUEST)
    wait_until(lambda: mixpeek_mock.limits.in_flight == 4)
    response = send(mixpeek_mock)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    for connection in connections:
        connection.close()
    wait_until(lambda: mixpeek_mock.limits.in_flight == 0)

    def work(_: int) -> set[int]:
        with httpx.Client(base_url=mixpeek_mock.url, trust_env=False, headers={"Authorization": BEARER}) as client:
            return {client.post(PATH).status_code for _ in range(30)}

    mixpeek_mock.fail_next("latency", seconds=0.01, times=10)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [{404}] * 4


@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_connection_that_the_mock_ends(mixpeek_mock: MockServer, fault: str) -> None:
    """A request whose connection a fault ended is in flight no more."""
    mixpeek_mock.limit_concurrency(1)
    mixpeek_mock.fail_next(fault)
    with pytest.raises(httpx.TransportError):
        send(mixpeek_mock)
    wait_until(lambda: mixpeek_mock.limits.in_flight == 0)
    assert send(mixpeek_mock).status_code == 404


def test_reset_while_requests_are_in_flight(mixpeek_mock: MockServer) -> None:
    """A request from before a reset neither counts as in flight after it nor makes room when it ends."""
    mixpeek_mock.fail_next("latency", seconds=3600)
    with connect(mixpeek_mock) as connection:
        connection.sendall(REQUEST)
        before = mixpeek_mock.limits
        wait_until(lambda: before.in_flight)
        mixpeek_mock.reset()
        mixpeek_mock.limit_concurrency(1)
        assert send(mixpeek_mock).status_code == 404
    wait_until(lambda: not before.in_flight)
    assert mixpeek_mock.limits.in_flight == 0
