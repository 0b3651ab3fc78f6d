"""The mock's limits: the token bucket in a time of its own, then over real sockets."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from mock_support import BEARER, cancel, check, connect, headers_of, http_client, path_of, raw, send

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockServer
from mixpeek_batches.mock.limits import Limits, TokenBucket

RATES = st.floats(0.01, 1000) | st.integers(1, 1000)
STARTS = st.floats(0, 1e6)
PROPERTIES = settings(deadline=None, derandomize=True, max_examples=300)
SLOW: dict[str, Any] = {"faults": [{"fault": "latency", "seconds": 0.1}]}


@pytest.fixture
def mock(mixpeek_mock: MockServer) -> MockServer:
    """A mock that holds one running batch."""
    mixpeek_mock.add_batch("bkt", "btch", status="IN_PROGRESS")
    return mixpeek_mock


# --- The token bucket -------------------------------------------------------------------------------------------------


@PROPERTIES
@given(rate=RATES, burst=st.integers(1, 50), start=STARTS, pauses=st.lists(st.floats(0, 10), max_size=200))
def test_never_more_than_the_limit(rate: float, burst: int, start: float, pauses: list[float]) -> None:
    """In no span of time more gets through than the burst and what drips in meanwhile."""
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
    """Who waits as long as was said gets through, and waits no longer than the rate demands."""
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
def test_a_pause_fills_the_bucket_and_no_more(rate: float, burst: int, start: float, pause: float) -> None:
    """A refused request takes nothing, and after a pause as much gets through as dripped in, the burst at most."""
    bucket = TokenBucket(rate, burst)
    assert [bucket.take(start) > 0 for _ in range(burst + 20)] == [False] * burst + [True] * 20
    through = sum(not bucket.take(start + pause) for _ in range(burst + 1))
    assert through in {min(burst, math.floor(pause * rate)), min(burst, math.floor(pause * rate + 0.01))}


def test_time_that_stands_still_or_goes_back() -> None:
    """A clock that goes back a little gives nothing away."""
    bucket = TokenBucket(1, 2)
    assert [bucket.take(now) for now in (5.0, 4.0, 4.0, 5.0, 5.0)] == [0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("rate", "burst", "expected"), [(1, 1, 1), (0.5, 1, 2), (0.3, 1, 4), (100, 1, 1), (5, 10, 1), (0.01, 1, 100)]
)
def test_whole_seconds_rounded_up(rate: float, burst: int, expected: int) -> None:
    """What a refused request is told are whole seconds, rounded up, 1 at least."""
    limits = Limits()
    limits.limit_rate(rate, burst)
    assert [limits.admit(7.0) for _ in range(burst + 2)] == [0] * burst + [expected] * 2


def test_places_in_flight() -> None:
    """So many are in flight and no more; a refused one takes neither a place nor a token."""
    limits = Limits()
    limits.limit_concurrency(2)
    limits.limit_rate(1, burst=3)
    assert [limits.admit(0) for _ in range(4)] == [0, 0, 1, 1]
    assert limits.in_flight == 2
    limits.release()
    assert [limits.admit(0) for _ in range(2)] == [0, 1]
    limits.limit_concurrency(None)
    assert limits.admit(0) == 1  # no token is left
    limits.limit_rate(None)
    assert [limits.admit(0) for _ in range(9)] == [0] * 9
    assert limits.in_flight == 11


# --- The endpoint -----------------------------------------------------------------------------------------------------


def test_a_rate(mock: MockServer) -> None:
    """Beyond its rate the endpoint answers 429 as openapi.yaml says it, acts on nothing, and records it."""
    mock.limit_rate(0.25, burst=2)
    answers = [cancel(mock, batch=batch) for batch in ("no", "no", "btch")]
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[2].headers["retry-after"] == "4"
    assert mock.batch("bkt", "btch").status == "IN_PROGRESS"
    assert [request.status_code for request in mock.requests] == [404, 404, 429]
    mock.limit_rate(None)
    assert cancel(mock).status_code == 200


def test_a_rate_over_time(mock: MockServer) -> None:
    """A client that comes as fast as it can gets the rate."""
    mock.limit_rate(50)
    begin = time.monotonic()
    answers = []
    while time.monotonic() - begin < 0.5:
        answers.append(cancel(mock).status_code)
    seconds = time.monotonic() - begin
    assert 429 in answers
    assert 25 * seconds <= answers.count(200) <= 50 * seconds + 1


def test_every_request_counts(mock: MockServer) -> None:
    """Unknown paths, other methods and wrong keys count too, before anything else is looked at; the admin API not."""
    mock.limit_rate(0.01, burst=3)
    codes = [
        raw(mock, "/no").status_code,
        send(mock, method="GET").status_code,
        send(mock, authorization=None).status_code,
    ]
    assert codes == [404, 405, 401]
    answers = [raw(mock, "/no"), send(mock, method="GET"), send(mock, authorization=None)]
    assert {check(answer).status_code for answer in answers} == {429}
    assert http_client().get(mock.url + "/_mock/requests").status_code == 200


def test_faults_are_behind_the_limits(mock: MockServer) -> None:
    """A refused request takes no fault."""
    mock.limit_rate(0.01)
    mock.fail_next(503, times=2)
    assert [send(mock).status_code for _ in range(3)] == [503, 429, 429]
    assert len(mock.faults) == 1


def test_concurrency(mock: MockServer) -> None:
    """With latency, so many are in flight, and what comes beyond that is 429 with a Retry-After of 1."""
    mock.limit_concurrency(4)
    mock.fail_randomly(1.0, **SLOW)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: check(raw(mock, path_of("bkt", "btch"))), range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [429] * 6
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"1"}
    assert mock.limits.in_flight == 0


def test_a_place_is_free_once_its_answer_is_there(mock: MockServer) -> None:
    """As many threads as may be in flight, each of which waits for its answer, are never refused."""
    mock.limit_concurrency(4)
    mock.fail_next("latency", seconds=0.01, times=10)

    def work(_: int) -> set[int]:
        with httpx.Client(base_url=mock.url, trust_env=False, headers=headers_of()) as client:
            return {client.post(path_of("bkt", "btch")).status_code for _ in range(50)}

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [{200}] * 4


@pytest.mark.parametrize("kind", ["latency", "reset", "truncated"])
def test_a_client_that_is_gone_frees_its_place(mock: MockServer, kind: str) -> None:
    """A place is free again when the connection has ended, whoever ended it."""
    mock.limit_concurrency(1)
    mock.fail_next(kind, seconds=60 if kind == "latency" else None)
    with connect(mock) as connection:
        connection.sendall(f"POST {path_of('bkt', 'btch')} HTTP/1.1\r\nHost: mock\r\n\r\n".encode())
        while not mock.requests or (kind == "latency" and not mock.limits.in_flight):
            time.sleep(0.001)
        assert kind != "latency" or cancel(mock).status_code == 429
    deadline = time.monotonic() + 5
    while mock.limits.in_flight and time.monotonic() < deadline:
        time.sleep(0.001)
    assert cancel(mock).status_code == 200


def test_a_reset_frees_all_places(mock: MockServer) -> None:
    """What was in flight before a reset takes no place after it, and frees none when it ends."""
    mock.fail_next("latency", seconds=0.3)
    thread = threading.Thread(target=raw, args=(mock, path_of("bkt", "btch")))
    thread.start()
    while not mock.limits.in_flight:
        time.sleep(0.001)
    mock.reset()
    mock.limit_concurrency(1)
    assert cancel(mock).status_code == 404
    thread.join()
    assert mock.limits.in_flight == 0


def test_both_limits(mock: MockServer) -> None:
    """Rate and concurrency are independent: each is set and taken away without the other."""
    mock.limit_rate(0.5, burst=2)
    mock.limit_concurrency(3)
    assert mock.limits.to_dict() == {"requests_per_second": 0.5, "burst": 2, "concurrency": 3}
    mock.limit_rate(None)
    assert mock.limits.to_dict() == {"requests_per_second": None, "burst": None, "concurrency": 3}
    mock.limit_concurrency(None)
    assert mock.limits.to_dict() == {"requests_per_second": None, "burst": None, "concurrency": None}


# --- Refused arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, -1, True, "5", float("nan"), float("inf"), 10**7, 10**400, 1e-9, [1]])
def test_a_rate_that_is_none(mock: MockServer, rate: Any) -> None:
    """A rate must be a number within bounds, and a wrong one changes nothing."""
    mock.limit_rate(0.01)
    with pytest.raises(
        ConfigurationError, match=r"^requests_per_second must be a number from 0.000001 to 1,000,000, or None for no"
    ):
        mock.limit_rate(rate)
    assert mock.limits.to_dict()["requests_per_second"] == 0.01


@pytest.mark.parametrize("burst", [0, -1, 1.5, True, None, "2", 10**7])
def test_a_burst_that_is_none(mock: MockServer, burst: Any) -> None:
    """A burst must be a whole number, 1 at least."""
    with pytest.raises(ConfigurationError, match=r"^burst must be a whole number from 1 to 1,000,000\.$"):
        mock.limit_rate(1, burst)


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "2", 10**7])
def test_a_concurrency_that_is_none(mock: MockServer, concurrency: Any) -> None:
    """A concurrency must be a whole number, 1 at least."""
    with pytest.raises(ConfigurationError, match=r"^concurrency must be a whole number from 1 to 1,000,000, or None"):
        mock.limit_concurrency(concurrency)


def test_the_key_stays_out_of_a_refusal(mock: MockServer) -> None:
    """A 429 repeats nothing of the request."""
    mock.limit_rate(0.01)
    send(mock)
    answer = raw(mock, f"/{BEARER[7:]}")
    assert answer.status_code == 429
    assert BEARER[7:] not in answer.text
