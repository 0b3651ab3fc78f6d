"""The scheduler of many batches, in virtual time, against servers that push back."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import (
    Chance,
    ConcurrencyLimit,
    FixedWindow,
    Outage,
    Run,
    Script,
    Server,
    TokenBucket,
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


buckets = st.builds(
    TokenBucket,
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 50),
    status=st.just(429),
    retry_after=st.sampled_from([no_retry_after, whole_seconds, exact]),
) | st.builds(
    TokenBucket, rate=st.floats(0.5, 500), status=st.just(503), retry_after=st.sampled_from([whole_seconds, exact])
)
windows = st.builds(FixedWindow, requests=st.integers(1, 60), seconds=st.floats(0.2, 8))
concurrency_limits = st.builds(ConcurrencyLimit, st.integers(1, 20))
refusing_outages = st.builds(
    lambda begin, seconds, error: Outage(begin, begin + seconds, error),
    st.floats(0, 10),
    st.floats(0, 15),
    st.sampled_from([error(429), error(429, 1), error(429, 3.5), error(503, 2)]),
)
failing_outages = st.builds(
    lambda begin, seconds, error: Outage(begin, begin + seconds, error),
    st.floats(0, 10),
    st.floats(0, 15),
    st.sampled_from([error(500), error(503), error(0), error(401)]),
)
chances = st.builds(
    lambda probability, error, seed: Chance(probability, error, random.Random(seed)),
    st.floats(0, 1),
    st.sampled_from([error(0), error(404), error(429), error(429, 1), error(429, 61), error(500), error(503, 2)]),
    st.integers(0, 99),
)
networks = st.fixed_dictionaries(
    {
        "pairs": st.integers(0, 80),
        "concurrency": st.sampled_from([1, 2, 3, 4, 5, 16, 64, 1000]),
        "latency": st.floats(0.0001, 1),
        "service": st.floats(0, 1),
        "jitter": st.floats(0, 5),
        "seed": st.integers(0, 99),
    }
)
limits = st.lists(buckets | windows | concurrency_limits | refusing_outages, max_size=3)
anything = st.lists(buckets | windows | concurrency_limits | refusing_outages | failing_outages | chances, max_size=4)
bounds = st.fixed_dictionaries(
    {
        "max_retries": st.integers(0, 3),
        "max_rate": st.none() | st.floats(0.5, 500),
        "stop_at": st.just(math.inf) | st.floats(0, 10),
    }
)


Scenario = tuple[list[Server], dict[str, Any]]


def scenarios(**fixed: Any) -> st.SearchStrategy[Scenario]:
    """Give any servers, and any options but those that are fixed."""
    options = st.builds(lambda network, bounds: {**network, **bounds, **fixed}, networks, bounds)
    return st.tuples(anything, options)


def run_of(scenario: Scenario) -> Run:
    servers, options = scenario
    return simulate(*servers, **options)


def many(examples: int = 200) -> Callable[[Any], Any]:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


@many()
@given(scenarios(stop_at=math.inf))
def test_every_pair_gives_exactly_one_result(scenario: Scenario) -> None:
    run, (_, options) = run_of(scenario), scenario
    assert sorted(int(result.batch_id) for result in run.results) == list(range(options["pairs"]))


@many()
@given(scenarios())
def test_attempts_are_the_requests_that_were_sent(scenario: Scenario) -> None:
    run = run_of(scenario)
    sent = Counter(request.batch_id for request in run.sent)
    assert {result.batch_id: result.attempts for result in run.results if result.attempts} == sent


@many()
@given(scenarios())
def test_nothing_is_sent_before_retry_after_is_over(scenario: Scenario) -> None:
    run = run_of(scenario)
    for refused_at, until in run.refusals:
        assert not [request for request in run.sent if refused_at < request.at < until]


@many()
@given(scenarios())
def test_no_more_are_in_flight_than_the_caller_allows(scenario: Scenario) -> None:
    run, (_, options) = run_of(scenario), scenario
    assert max((request.in_flight for request in run.sent), default=0) <= options["concurrency"]


@many()
@given(scenarios(max_rate=20.0) | scenarios(max_rate=0.7))
def test_any_span_of_time_holds_no_more_than_max_rate_allows(scenario: Scenario) -> None:
    run, (_, options) = run_of(scenario), scenario
    for first, begin in enumerate(run.sent):
        for number, end in enumerate(run.sent[first:], 1):
            assert number <= 1 + options["max_rate"] * (end.at - begin.at) + 1e-6


@many()
@given(scenarios(max_retries=0))
def test_without_retries_no_batch_is_sent_twice(scenario: Scenario) -> None:
    run = run_of(scenario)
    assert set(Counter(request.batch_id for request in run.sent).values()) <= {1}


@many()
@given(scenarios())
def test_the_memory_for_what_waits_is_bounded(scenario: Scenario) -> None:
    run, (_, options) = run_of(scenario), scenario
    assert run.most_held <= 2 * options["concurrency"]


@many()
@given(scenarios())
def test_a_pair_is_fetched_when_it_can_be_sent_at_once(scenario: Scenario) -> None:
    run = run_of(scenario)
    assert run.idle_fetches == 0 or run.results[-1].attempts == 0  # the run ended the rest unsent


@many()
@given(scenarios())
def test_nothing_is_sent_after_stop(scenario: Scenario) -> None:
    run, (_, options) = run_of(scenario), scenario
    assert all(request.at <= options["stop_at"] for request in run.sent)


@many(400)
@given(limits, networks, st.integers(1, 3))
def test_a_server_that_lets_anything_through_ends_with_all_canceled(
    servers: list[Server], network: dict[str, Any], max_retries: int
) -> None:
    run = simulate(*servers, **network, max_retries=max_retries)
    assert run.canceled == network["pairs"]


TARGETS: dict[str, tuple[Callable[[], Server], int, float, float]] = {  # and pairs, ideal seconds, seconds of service
    "5 a second": (lambda: TokenBucket(5, 1), 50, 10, 0),
    "20 a second": (lambda: TokenBucket(20, 5), 200, 10, 0),
    "100 a second": (lambda: TokenBucket(100, 10), 1000, 10, 0),
    "20 a second, no Retry-After": (lambda: TokenBucket(20, 5, retry_after=no_retry_after), 200, 10, 0),
    "20 a second, 503": (lambda: TokenBucket(20, 5, status=503), 200, 10, 0),
    "20 a second, 503, no Retry-After": (lambda: TokenBucket(20, 5, 503, no_retry_after), 200, 10, 0),  # as of nginx
    "5 a second, 503, no Retry-After": (lambda: TokenBucket(5, 1, 503, no_retry_after), 50, 10, 0),
    "4 at a time": (lambda: ConcurrencyLimit(4), 200, 5, 0.1),
    "50 in 5 seconds": (lambda: FixedWindow(50, 5), 200, 15, 0),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("concurrency", [16, 64])
@pytest.mark.parametrize("target", TARGETS)
def test_targets(target: str, concurrency: int, seed: int) -> None:
    server, pairs, ideal, service = TARGETS[target]
    run = simulate(server(), pairs=pairs, concurrency=concurrency, service=service, seed=seed)
    assert run.canceled == pairs
    assert len(run.refusals) <= max(10, 0.15 * len(run.sent))
    assert run.seconds <= 1.25 * ideal + 1


@pytest.mark.parametrize("seed", range(4))
def test_a_limited_concurrency_is_found_where_answers_on_their_way_back_hide_it(seed: int) -> None:
    run = simulate(ConcurrencyLimit(10), pairs=500, service=0.1, latency=0.01, seed=seed)
    assert run.seconds <= 1.25 * 5 + 2
    assert len(run.refusals) <= 10


@pytest.mark.parametrize("seed", range(4))
def test_a_limited_concurrency_is_probed_less_and_less(seed: int) -> None:
    run = simulate(ConcurrencyLimit(4), pairs=4000, service=0.1, seed=seed)
    assert len(run.refusals) <= 15


@pytest.mark.parametrize("seed", range(4))
def test_a_rate_limit_is_not_taken_for_chance_for_long(seed: int) -> None:
    """A server that asks for parts of a second, which RFC 9110 does not know, is met again at once."""
    run = simulate(TokenBucket(20, 5, retry_after=exact), pairs=200, seed=seed)
    assert run.seconds <= 1.1 * 10
    assert len(run.refusals) <= 0.4 * len(run.sent)


@pytest.mark.parametrize("seed", range(4))
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
    run = simulate(Script([None, error(429, retry_after)]), pairs=1000)
    assert len(run.results) == 1000
    assert run.canceled == 1
    assert 60 <= run.seconds < 80
    assert all(isinstance(result.error, RateLimitError) for result in run.results if result.error)
    assert sum(result.attempts == 0 for result in run.results) > 900


def test_one_success_within_a_minute_keeps_the_run_alive() -> None:
    run = simulate(Outage(0.5, 40, error(429, 5)), Outage(50, 95, error(429, 5)), TokenBucket(50), pairs=1000)
    assert run.canceled == 1000


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_of_more_than_a_minute_ends_the_run(status: int) -> None:
    run = simulate(Script([None] * 20 + [error(status, 61)]), pairs=1000)
    assert run.canceled == 20
    assert run.seconds < 1
    assert len({result.error for result in run.results if not result.attempts}) == 1
    assert sum(result.attempts == 0 for result in run.results) > 950


def test_a_retry_after_of_a_minute_is_waited_for() -> None:
    run = simulate(Script([None] * 20 + [error(429, 60)] + [None]), pairs=100)
    assert run.canceled == 100
    assert run.seconds > 60


def test_a_wrong_key_ends_the_rest_unsent() -> None:
    run = simulate(Script([error(401)]), pairs=1000)
    assert len(run.sent) <= 4
    assert len(run.results) == 1000
    assert all(isinstance(result.error, AuthenticationError) for result in run.results)
    assert sum(result.attempts for result in run.results) == len(run.sent)


def test_a_401_after_a_success_is_about_one_batch() -> None:
    run = simulate(Script([None, error(401), None]), pairs=100)
    assert run.canceled == 99


@pytest.mark.parametrize("concurrency", [1, 16, 64])
def test_a_dead_server_ends_the_rest_unsent(concurrency: int) -> None:
    run = simulate(Script([error(0)]), pairs=1000, concurrency=concurrency, max_retries=1)
    assert all(isinstance(result.error, APIConnectionError) for result in run.results)
    assert 16 <= sum(result.attempts > 0 for result in run.results) < 16 + 2 * concurrency


def test_a_batch_that_is_delivered_starts_the_count_of_undelivered_ones_anew() -> None:
    run = simulate(Script(([error(0)] * 15 + [None]) * 10 + [None]), pairs=160, concurrency=1, max_retries=0)
    assert run.canceled == 10


def test_the_last_error_of_a_batch_is_its_result_when_the_run_is_stopped() -> None:
    run = simulate(Script([error(429, 5)]), pairs=100, stop_at=2)
    assert {type(result.error) for result in run.results} == {RateLimitError}
    assert {result.attempts for result in run.results} == {1}


def test_transient_failures_are_retried_as_often_as_allowed() -> None:
    run = simulate(Script([error(500)]), pairs=5, max_retries=2)
    assert {result.attempts for result in run.results} == {3}


def test_a_refusal_spends_no_retry() -> None:
    run = simulate(Script([*[error(429, 1)] * 5, error(500), None]), pairs=1, max_retries=1)
    assert run.canceled == 1
    assert run.results[0].attempts == 7


def test_a_server_without_limits_is_sent_as_much_as_may_be_in_flight() -> None:
    run = simulate(pairs=3000, concurrency=64, latency=0.1)
    assert max(request.in_flight for request in run.sent) == 64
    assert run.seconds < 1.3 * 3000 / 64 * 0.1 * 1.15 + 1
