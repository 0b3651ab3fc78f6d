"""The scheduler of many batches, in virtual time, against servers that push back."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import (
    Chance,
    ConcurrencyLimit,
    FixedWindow,
    Outage,
    Sequential,
    SimulatedServer,
    SimulatedTokenBucket,
    error,
    simulate,
)

from mixpeek_batches import APIConnectionError, AuthenticationError, MixpeekError, RateLimitError


def no_retry_after(_wait: float) -> None:
    return None


def whole_seconds(wait: float) -> float:
    return max(1, math.ceil(wait))


def exact(wait: float) -> float:
    return wait


def outages(*errors: MixpeekError) -> st.SearchStrategy[SimulatedServer]:
    return st.builds(
        lambda begin, seconds, error: Outage(begin, begin + seconds, error),
        st.floats(0, 10),
        st.floats(0, 15),
        st.sampled_from(errors),
    )


token_buckets = st.builds(
    lambda rate, burst, refusal: SimulatedTokenBucket(rate, burst, *refusal),
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 50),
    refusal=st.sampled_from(
        [(429, no_retry_after), (429, whole_seconds), (429, exact), (503, whole_seconds), (503, exact)]
    ),
)
windows = st.builds(FixedWindow, requests=st.integers(1, 60), seconds=st.floats(0.2, 8))
concurrency_limits = st.builds(ConcurrencyLimit, st.integers(1, 20))
limits = (
    token_buckets | windows | concurrency_limits | outages(error(429), error(429, 1), error(429, 3.5), error(503, 2))
)
chances = st.builds(
    lambda probability, error, seed: Chance(probability, error, random.Random(seed)),
    st.floats(0, 1),
    st.sampled_from([error(0), error(404), error(429), error(429, 1), error(429, 61), error(500), error(503, 2)]),
    st.integers(0, 99),
)
failures = outages(error(500), error(503), error(0), error(401)) | chances
networks = {
    "pairs": st.integers(0, 80),
    "concurrency": st.sampled_from([1, 2, 3, 4, 5, 16, 64, 1000]),
    "latency": st.floats(0.0001, 1),
    "service": st.floats(0, 1),
    "jitter": st.floats(0, 5),
    "seed": st.integers(0, 99),
}
bounds = {
    "max_retries": st.integers(0, 3),
    "max_rate": st.none() | st.sampled_from([0.7, 20.0]) | st.floats(0.5, 500),
    "stop_at": st.just(math.inf) | st.floats(0, 10),
    "grace": st.just(math.inf) | st.floats(0, 2),
}


@settings(max_examples=500)
@given(st.lists(limits | failures, max_size=4), st.fixed_dictionaries(networks | bounds))
def test_rules(servers: list[SimulatedServer], options: dict[str, Any]) -> None:
    """What holds against any servers, with any options."""
    run = simulate(*servers, **options)
    results = {result.batch_id: result for result in run.results}
    sent = Counter(request.batch_id for request in run.sent)
    assert len(results) == len(run.results), "a pair has more than one result"
    if options["stop_at"] == math.inf:
        assert len(results) == options["pairs"], "a pair has no result"
    assert set(sent) <= results.keys(), "a batch that was sent has no result"
    assert {batch_id: result.attempts for batch_id, result in results.items() if result.attempts} == sent
    if options["max_retries"] == 0:
        assert set(sent.values()) <= {1}, "without retries a batch was sent twice"
    assert all(request.at <= options["stop_at"] for request in run.sent), "sent after stop"
    assert run.seconds <= options["stop_at"] + options["grace"] + 1e-3, "not over when the grace was"
    assert all(request.in_flight <= options["concurrency"] for request in run.sent)
    for refused_at, until in run.refusals:
        assert not [request for request in run.sent if refused_at < request.at < until], "Retry-After was not over"
    if options["max_rate"]:
        for first, begin in enumerate(run.sent):
            for number, end in enumerate(run.sent[first:], 1):
                assert number <= 1 + options["max_rate"] * (end.at - begin.at) + 1e-6
    assert run.most_held <= 2 * options["concurrency"], "more is held than need be"
    if run.idle_fetches:  # of a pair that was not sent at once
        assert run.results[-1].attempts == 0, "though the run did not end the rest unsent"


@settings(max_examples=400)
@given(st.lists(limits, max_size=3), st.fixed_dictionaries(networks), st.integers(1, 3))
def test_a_server_that_lets_anything_through_ends_with_all_canceled(
    servers: list[SimulatedServer], network: dict[str, Any], max_retries: int
) -> None:
    run = simulate(*servers, **network, max_retries=max_retries)
    assert run.canceled == network["pairs"]


def test_max_rate_is_used_in_full() -> None:
    """Where the server takes more, requests leave as fast as `max_rate` allows."""
    run = simulate(pairs=50, concurrency=16, max_rate=10.0)
    assert run.sent[-1].at - run.sent[0].at == pytest.approx(4.9, abs=0.1)


TARGETS: dict[
    str, tuple[Callable[[], SimulatedServer], int, float, float]
] = {  # and pairs, ideal seconds, seconds of service
    "5 a second": (lambda: SimulatedTokenBucket(5, 1), 50, 10, 0),
    "20 a second": (lambda: SimulatedTokenBucket(20, 5), 200, 10, 0),
    "100 a second": (lambda: SimulatedTokenBucket(100, 10), 1000, 10, 0),
    "20 a second, no Retry-After": (lambda: SimulatedTokenBucket(20, 5, 429, no_retry_after), 200, 10, 0),
    "20 a second, 503": (lambda: SimulatedTokenBucket(20, 5, 503), 200, 10, 0),
    "20 a second, 503, no Retry-After": (lambda: SimulatedTokenBucket(20, 5, 503, no_retry_after), 200, 10, 0),  # nginx
    "5 a second, 503, no Retry-After": (lambda: SimulatedTokenBucket(5, 1, 503, no_retry_after), 50, 10, 0),
    "4 at a time": (lambda: ConcurrencyLimit(4), 200, 5, 0.1),
    "50 in 5 seconds": (lambda: FixedWindow(50, 5), 200, 15, 0),
}
each_seed = pytest.mark.parametrize("seed", range(4))


@each_seed
@pytest.mark.parametrize("concurrency", [16, 64])
@pytest.mark.parametrize("target", TARGETS)
def test_targets(target: str, concurrency: int, seed: int) -> None:
    server, pairs, ideal, service = TARGETS[target]
    run = simulate(server(), pairs=pairs, concurrency=concurrency, service=service, seed=seed)
    assert run.canceled == pairs
    assert len(run.refusals) <= max(10, 0.15 * len(run.sent))
    assert run.seconds <= 1.25 * ideal + 1


@each_seed
def test_a_limited_concurrency_is_found_where_responses_on_their_way_back_hide_it(seed: int) -> None:
    run = simulate(ConcurrencyLimit(10), pairs=500, service=0.1, latency=0.01, seed=seed)
    assert run.seconds <= 1.25 * 5 + 2
    assert len(run.refusals) <= 10


@each_seed
def test_a_limited_concurrency_is_probed_less_and_less(seed: int) -> None:
    run = simulate(ConcurrencyLimit(4), pairs=4000, service=0.1, seed=seed)
    assert len(run.refusals) <= 15


@each_seed
def test_a_rate_limit_is_not_taken_for_chance_for_long(seed: int) -> None:
    """A server that asks for parts of a second, which RFC 9110 does not know, is met again at once."""
    run = simulate(SimulatedTokenBucket(20, 5, retry_after=exact), pairs=200, seed=seed)
    assert run.seconds <= 1.1 * 10
    assert len(run.refusals) <= 0.4 * len(run.sent)


@each_seed
@pytest.mark.parametrize("retry_after", [None, 0, 1])
@pytest.mark.parametrize("probability", [0.02, 0.05, 0.1, 0.2, 0.35])
def test_refusals_by_chance_slow_nothing_down(probability: float, retry_after: float | None, seed: int) -> None:
    """One bad server of several behind a load balancer refuses at whatever rate; only its pauses take time."""
    run = simulate(Chance(probability, error(429, retry_after), random.Random(seed)), pairs=500, seed=seed)
    assert run.canceled == 500
    assert run.seconds <= 15 + (retry_after or 0) * len(run.refusals)


@pytest.mark.parametrize("refusal", [error(503), error(429), error(429, 1)], ids=["503", "429", "429-retry-after"])
@pytest.mark.parametrize("begin", [0, 0.05])
@pytest.mark.parametrize("seconds", [0.5, 3, 15])
def test_after_an_outage_the_run_is_as_fast_as_before(seconds: float, begin: float, refusal: MixpeekError) -> None:
    run = simulate(Outage(begin, begin + seconds, refusal), pairs=1000, max_retries=10)
    assert run.canceled == 1000
    assert run.seconds <= seconds + 12  # the longest back-off, and some
    assert len(run.sent) - 1000 <= 32  # what was in flight, and one after each pause


@pytest.mark.parametrize("retry_after", [None, 1, 7])
def test_refusals_alone_end_the_run_after_a_minute(retry_after: float | None) -> None:
    run = simulate(Sequential([None, error(429, retry_after)]), pairs=1000)
    assert len(run.results) == 1000
    assert run.canceled == 1
    assert 60 <= run.seconds < 80
    assert all(isinstance(result.error, RateLimitError) for result in run.results if result.error)
    assert sum(result.attempts == 0 for result in run.results) > 900


def test_one_success_within_a_minute_keeps_the_run_alive() -> None:
    run = simulate(Outage(0.5, 40, error(429, 5)), Outage(50, 95, error(429, 5)), SimulatedTokenBucket(50), pairs=1000)
    assert run.canceled == 1000


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_of_more_than_a_minute_ends_the_run(status: int) -> None:
    run = simulate(Sequential([None] * 20 + [error(status, 61)]), pairs=1000)
    assert run.canceled == 20
    assert run.seconds < 1
    assert len({result.error for result in run.results if not result.attempts}) == 1
    assert sum(result.attempts == 0 for result in run.results) > 950


def test_a_retry_after_of_a_minute_is_waited_for() -> None:
    run = simulate(Sequential([None] * 20 + [error(429, 60)] + [None]), pairs=100)
    assert run.canceled == 100
    assert run.seconds > 60


def test_a_wrong_key_ends_the_rest_unsent() -> None:
    run = simulate(Sequential([error(401)]), pairs=1000)
    assert len(run.sent) <= 4
    assert len(run.results) == 1000
    assert all(isinstance(result.error, AuthenticationError) for result in run.results)
    assert sum(result.attempts for result in run.results) == len(run.sent)


def test_a_401_after_a_success_is_about_one_batch() -> None:
    run = simulate(Sequential([None, error(401), None]), pairs=100)
    assert run.canceled == 99


@pytest.mark.parametrize("concurrency", [1, 16, 64])
def test_a_dead_server_ends_the_rest_unsent(concurrency: int) -> None:
    run = simulate(Sequential([error(0)]), pairs=1000, concurrency=concurrency, max_retries=1)
    assert all(isinstance(result.error, APIConnectionError) for result in run.results)
    assert 16 <= sum(result.attempts > 0 for result in run.results) < 16 + 2 * concurrency


def test_a_batch_that_is_delivered_starts_the_count_of_undelivered_ones_anew() -> None:
    run = simulate(Sequential(([error(0)] * 15 + [None]) * 10 + [None]), pairs=160, concurrency=1, max_retries=0)
    assert run.canceled == 10


def test_the_last_error_of_a_batch_is_its_result_when_the_run_is_stopped() -> None:
    run = simulate(Sequential([error(429, 5)]), pairs=100, stop_at=2)
    assert {type(result.error) for result in run.results} == {RateLimitError}
    assert {result.attempts for result in run.results} == {1}


@pytest.mark.parametrize("failure", [error(0), error(500), error(500, 1), error(503)])
def test_transient_failures_are_retried_as_often_as_allowed(failure: MixpeekError) -> None:
    run = simulate(Sequential([failure]), pairs=5, max_retries=2)
    assert {result.attempts for result in run.results} == {3}


def test_a_refusal_spends_no_retry() -> None:
    run = simulate(Sequential([*[error(429, 1)] * 5, error(500), None]), pairs=1, max_retries=1)
    assert run.canceled == 1
    assert run.results[0].attempts == 7


def test_a_server_without_limits_is_sent_as_much_as_may_be_in_flight() -> None:
    run = simulate(pairs=3000, concurrency=64, latency=0.1)
    assert max(request.in_flight for request in run.sent) == 64
    assert run.seconds < 1.3 * 3000 / 64 * 0.1 * 1.15 + 1
