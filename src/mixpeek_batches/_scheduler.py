"""Decides what may be sent when in bulk work, what to do with each outcome, and when the run is over.

A state machine without I/O, threads or a clock of its own, as h11 is for HTTP: a driver asks `next_step` what to do,
does it, and reports the outcome; time is an argument, so that it is tested in virtual time.

Two limits are learned from the server's refusals: 429 and 503. How many requests may be in flight
opens up as TCP's slow start does, until the first refusal. How many may be sent in a second is unlimited until then,
and afterwards follows a token bucket like the one that refused. Both are probed upward again, slowly at first and then
faster, as TCP CUBIC does. Refusals that come by chance, at whatever rate, slow nothing down. After a refusal nothing is
sent before Retry-After is over.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

import attrs

from . import _retries
from .errors import APIConnectionError, APIStatusError, AuthenticationError, MixpeekError
from .results import CancelResult

if TYPE_CHECKING:
    import httpx
    from mixpeek_batches_api.models import TaskResponse

_NO_PROGRESS_TIMEOUT = 60.0  # seconds without anything but refusals after which a run gives up
_MIN_HOPELESS = 16  # batches in a row that could not be delivered, at the least, after which a run gives up
_FIRST_WINDOW = 4  # requests in flight at the start
_FEWEST_SLOTS = 3  # fewer in flight at a refusal say nothing of slots
_PROBE_SLOTS = 8.0  # seconds after which more slots than the server took are tried
_SEARCH_FROM = 4.0  # times what got through, pauses included, is where the search for the rate starts
_DOUBLING = 0.15  # seconds in which the rate doubles while it is searched
_SAMPLES = 512  # requests that got through, of which the times are kept
_SHORTEST_SPAN = 0.06  # seconds; over less than that jitter hides the rate
_TOO_SOON = 2.0  # seconds after which a refusal shows that the estimate was wrong
_MARGIN = 0.96  # of the estimate, which jitter may have raised
_APPROACH = 4.0  # seconds
_LOWEST_RATE = 1 / 8  # requests a second; there is progress however many are refused by chance
_MUCH_LOWER = 0.5  # times a rate that was refused; if that is refused as well, it is not because of the rate
_PRIOR = 10.0  # requests that the part which is refused by chance weighs as much as
_PROBE_RATE = 30.0  # seconds in which the rate doubles while nothing is refused, most of it at the end


@attrs.define(eq=False)
class Job:
    """One batch to cancel.

    Attributes:
        bucket_identifier: Its bucket.
        batch_id: Its identifier.
        namespace: The namespace that the request names.
        attempts: How many requests were sent for it.
        request: The request to send.
        error: How its last attempt failed.
    """

    bucket_identifier: str
    batch_id: str
    namespace: str | None = None
    attempts: int = 0
    request: httpx.Request | None = None
    error: MixpeekError | None = None
    _retries: int = 0
    _sent_at: float = 0.0
    _others: int = 0  # that were in flight when it was sent

    def result(self, outcome: TaskResponse | MixpeekError) -> CancelResult:
        """Return the result for an outcome."""
        return CancelResult(
            bucket_identifier=self.bucket_identifier,
            batch_id=self.batch_id,
            namespace=self.namespace,
            task=None if isinstance(outcome, MixpeekError) else outcome,
            error=outcome if isinstance(outcome, MixpeekError) else None,
            attempts=self.attempts,
        )


@attrs.define
class _Episode:
    """Refusals, from the first one to the end of the pause.

    Attributes:
        sent_at: When the request that was refused first had been sent.
        older: How many were sent before one that was refused, and still in flight then.
        others: How many were in flight when that one was sent.
        in_flight: How many were in flight with it at the first refusal.
        refusals: How many were refused.
        got_through: How many were in flight at the first refusal, and got through.
    """

    sent_at: float
    older: int
    others: int
    in_flight: int
    refusals: int = 1
    got_through: int = 0


class Step(Enum):
    """What the driver does next, other than send a job or yield a result."""

    FETCH = "get another pair, and report it by `add`, or by `exhausted` that there is none"
    WAIT = "wait for an outcome, but not beyond `wake_at`"
    DONE = "stop: every pair has its result"


class Scheduler:
    """Schedules one run. Not thread-safe.

    Args:
        concurrency: How many requests may be in flight at a time.
        max_retries: How often a transient failure of one batch is retried. With 0, no batch is sent twice.
        max_rate: How many requests may be sent in a second; None for no such bound.
    """

    def __init__(self, *, concurrency: int, max_retries: int, max_rate: float | None = None) -> None:
        self._flying: dict[Job, None] = {}  # in the order in which they were sent
        self.wake_at = math.inf
        self.held_back: tuple[float, MixpeekError] | None = None
        self._max_retries = max_retries
        self._interval = 1 / max_rate if max_rate else 0.0
        self._last_sent = -math.inf
        self._concurrency = concurrency
        self._window = _Window(concurrency)
        self._pace = _Pace()
        self._results: deque[CancelResult] = deque()
        self._ready: deque[Job] = deque()
        self._backing_off: list[tuple[float, int, Job]] = []  # a heap, soonest first
        self._order = 0
        self._exhausted = self._fetching = self._stopped = False
        self._paused_until = -math.inf  # Retry-After, of the whole run
        self._refused_at = -math.inf  # when the last episode of refusals began
        self._episode: _Episode | None = None  # of refusals, from the first one to the end of the pause
        self._refused_since: float | None = None  # nothing has got through since
        self._refusals = 0  # episodes in a row in which nothing got through
        self._undelivered = 0  # batches in a row that ended in a failed connection
        self._any_canceled = False
        self._hopeless: MixpeekError | None = None  # what all that is left ends in, unsent

    @property
    def in_flight(self) -> int:
        """The number of requests without an outcome yet."""
        return len(self._flying)

    def next_step(self, now: float) -> CancelResult | Job | Step:
        """Return a result to yield, a job to send, or another step.

        Args:
            now: The time in seconds, on any monotonic clock.
        """
        if self._results:
            return self._results.popleft()
        while self._backing_off and self._backing_off[0][0] <= now:
            self._ready.append(heapq.heappop(self._backing_off)[2])
        if self._stopped or self._hopeless is not None:
            return self._wind_up()
        if not self._ready and (self._exhausted or self._fetching or len(self._backing_off) >= self._concurrency):
            if self._exhausted and not self.in_flight and not self._backing_off:
                return Step.DONE
            return self._wait(now)
        # While nothing gets through, one at a time finds out whether anything does again.
        if self.in_flight >= (self._window.limit if self._refused_since is None else 1):
            return self._wait(now)
        start = max(self._paused_until, self._last_sent + self._interval)
        if start <= now:
            if self._episode is not None:  # the pause is over, and what was in flight is back
                if not self._window.settle(self._episode, now):
                    self._pace.settle(self._episode, now)
                self._episode = None
            start = self._pace.ready_at(now)
        if start > now:
            return self._wait(now, start)
        if not self._ready:
            self._fetching = True
            return Step.FETCH
        job = self._ready.popleft()
        job._sent_at, job._others = now, self.in_flight
        job.attempts += 1
        self._flying[job] = None
        self._last_sent = now
        self._pace.sent(now)
        return job

    def add(self, job: Job) -> None:
        """Add a job that was fetched."""
        self._fetching = False
        if self._hopeless is None:
            self._ready.append(job)
        else:
            self._results.append(job.result(self._hopeless))

    def refuse(self, job: Job, error: MixpeekError) -> None:
        """Add the result of a job that was fetched and may not be sent."""
        self._fetching = False
        self._results.append(job.result(error))

    def exhausted(self) -> None:
        """Note that there are no more pairs."""
        self._exhausted, self._fetching = True, False

    def stop(self) -> None:
        """Send nothing more: wait for what is in flight, and retry nothing."""
        self._stopped = True

    def abandon(self, error: MixpeekError) -> CancelResult | Step:
        """After `stop`: give up one job in flight, and return its result, or DONE if there is none."""
        if not self._flying:
            return Step.DONE
        job = next(iter(self._flying))
        del self._flying[job]
        return job.result(error)

    def finished(self, job: Job, outcome: TaskResponse | MixpeekError, now: float) -> None:
        """Process the outcome of a job that was sent.

        Args:
            job: The job.
            outcome: Its task, or the error.
            now: The time in seconds.
        """
        if job not in self._flying:
            return  # it was abandoned
        if isinstance(outcome, APIStatusError) and outcome.status_code in {429, 503}:
            self._refused(job, outcome, now)
        else:
            del self._flying[job]
            if not isinstance(outcome, APIConnectionError):
                self._got_through(job, now)
        if not isinstance(outcome, MixpeekError):
            self._any_canceled = True
        elif _retries.is_refused_for_rate(outcome):  # not because of this batch, which spends no retry
            if self._max_retries and not (self._hopeless or self._stopped):
                job.error = outcome
                self._ready.append(job)
                return
        elif job._retries < self._max_retries and _retries.is_transient(outcome) and not self._stopped:
            job.error = outcome
            wait = _retries.delay(outcome, job._retries)
            job._retries += 1
            self._order += 1
            heapq.heappush(self._backing_off, (now + wait, self._order, job))
            attempts = self._max_retries + 1
            _retries.log_retry(job.bucket_identifier, job.batch_id, job._retries, attempts, wait, outcome)
            return
        elif isinstance(outcome, APIConnectionError):
            self._undelivered += 1
            if self._undelivered >= max(_MIN_HOPELESS, self._window.limit):
                self._hopeless = self._hopeless or outcome
        elif isinstance(outcome, AuthenticationError) and not self._any_canceled:
            self._hopeless = self._hopeless or outcome
        self._results.append(job.result(outcome))

    def _wait(self, now: float, until: float = math.inf) -> Step:
        if self._backing_off:
            until = min(until, self._backing_off[0][0])
        self.wake_at = until
        return Step.WAIT

    def _wind_up(self) -> CancelResult | Step:
        """Return the next step of a run that sends nothing more."""
        while self._backing_off:
            self._ready.append(heapq.heappop(self._backing_off)[2])
        while self._ready:
            job = self._ready.popleft()
            error = job.error or self._hopeless
            if error is not None:
                return job.result(error)
        fetch = not (self._stopped or self._exhausted)
        if self.in_flight or (fetch and self._fetching):
            self.wake_at = math.inf
            return Step.WAIT
        self._fetching = fetch
        return Step.FETCH if fetch else Step.DONE

    def _got_through(self, job: Job, now: float) -> None:
        self._undelivered = self._refusals = 0
        self._refused_since = None
        if self._episode is not None:
            self._episode.got_through += 1
        self._window.got_through(job._others, now)
        self._pace.got_through(job._sent_at, now)

    def _refused(self, job: Job, error: APIStatusError, now: float) -> None:
        # Where concurrency is limited, those who hold them are still in flight when somebody is refused.
        older = next(index for index, other in enumerate(self._flying) if other is job)
        del self._flying[job]
        self._undelivered = 0
        if self._refused_since is None:
            self._refused_since = now
        asked = error.retry_after
        if job._sent_at > self._refused_at:
            # A server that says 0 does not know; see `_retries.delay`.
            pause = asked or (0.0 if self._pace.chance.part else _retries.backoff(self._refusals) / 2)
            self._refusals += 1
            self._refused_at = now
            self._episode = _Episode(job._sent_at, older, job._others, self.in_flight)
        else:  # it was sent before the refusal was known
            pause = asked or 0.0
            if self._episode is not None:
                self._episode.refusals += 1
                if job._others < self._episode.others:
                    self._episode.older, self._episode.others = older, job._others
        if now - self._refused_since >= _NO_PROGRESS_TIMEOUT or pause > _retries.MAX_RETRY_AFTER:
            self._hopeless = self._hopeless or error
        else:
            self._paused_until = max(self._paused_until, now + pause)
            self.held_back = self._paused_until, error


class _Window:
    """Learns how many requests may be in flight.

    Opens by one with every other response until the first refusal. If earlier requests are still in flight when one is
    refused, the server limits concurrency, and their number shows how many slots it has; now and then twice as many
    are tried. Otherwise the number in flight was not the reason, and is not limited any more.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._limit: float = min(_FIRST_WINDOW, concurrency)
        self._slots = 0  # that the server has; 0: it is not known to count them
        self._first_slots = 0  # what they were taken for at first
        self._starting = True
        self._settled_at = 0.0
        self._probe_after = _PROBE_SLOTS

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight."""
        return int(self._limit)

    def got_through(self, others: int, now: float) -> None:
        """Note a response, other than a refusal, to a request that was sent while so many others were in flight."""
        if self._limit >= self._concurrency:
            return
        if self._starting:
            self._limit = min(self._concurrency, self._limit + 0.5)
        elif others > 1.25 * self._slots + 1:  # more than responses on their way back explain
            self._limit, self._slots = self._concurrency, 0
        elif others + 1 >= self._limit and now - self._settled_at >= self._probe_after:
            self._limit = min(self._concurrency, 2 * self._slots)

    def settle(self, episode: _Episode, now: float) -> bool:
        """Learn from an episode of refusals, and return whether concurrency is what the server limits."""
        if self._slots and self._limit > self._slots and episode.others >= self._slots:
            held = True
            self._probe_after *= 4
        elif self._slots:  # the first number may have been too high, as responses on their way back held none
            held = episode.in_flight >= 0.75 * self._slots and self._slots - 1 >= 0.6 * self._first_slots
            self._slots = self._slots - 1 if held else 0
        else:
            held = episode.others >= _FEWEST_SLOTS and 2 * episode.older > episode.others
            self._slots = max(episode.others, episode.got_through) if held else 0  # some overtake others on their way
            self._first_slots = self._slots
        self._limit = self._slots or self._concurrency
        self._starting, self._settled_at = False, now
        return held


class _Chance:
    """Detects refusals at random, as from one bad server of several behind a load balancer.

    They do if a rate much lower than one that was refused is refused as well: to slow down further would never end.
    They do not if they become more frequent when the rate goes up again.

    Attributes:
        part: The part of requests that is refused by chance; None if none is known to be.
    """

    def __init__(self) -> None:
        self.part: float | None = None
        self._lowest = 0.0  # the rate at which it was taken for chance
        self.forget()

    def forget(self) -> None:
        """Start over."""
        self._highest = 0.0  # rate that was refused
        self._refusals = self._requests = 0.0

    def judge(self, rate: float, refusals: int, got_through: int) -> float | None:
        """Note an episode of refusals; return the rate to go on with, or None if it has yet to be found."""
        if self.part is None:
            self._highest = max(self._highest, rate)
            self._refusals += refusals
            self._requests += refusals + got_through
            if rate >= _MUCH_LOWER * self._highest or 2 * self._refusals > self._requests:
                return None
            self.part, self._lowest = self._refusals / self._requests, rate
            self._refusals, self._requests = self.part * _PRIOR, _PRIOR
            return rate
        self._refusals = 0.9 * self._refusals + refusals
        self._requests = 0.9 * self._requests + refusals + got_through
        if self._refusals <= min(0.6, 2 * self.part + 0.1) * self._requests:
            return rate
        self.part = None
        self.forget()
        return 0.7 * self._lowest


class _Pace:
    """Learns how many requests a second may be sent: unlimited at first, and a token bucket after refusals.

    The first refusal shows how large the server's bucket is. Then the rate doubles, from a low one, until the next
    refusal, which shows how fast the bucket fills: at least as fast as requests got through between two refusals, and
    at least by the slope between the first burst, which had a full bucket, and any later stretch. From then on that is
    the rate; it approaches what was refused, and after some time goes beyond it.
    """

    def __init__(self) -> None:
        self._rate = math.inf  # requests a second
        self._burst = self._tokens = 1.0
        self._counted_at = 0.0  # when the tokens were counted
        # Of the cycle from one refusal to the next:
        self._sent: deque[float] = deque(maxlen=_SAMPLES)  # when what got through was sent
        self._got_through = 0
        self._first_sent: float | None = None
        self._probed = 0.0  # seconds in which the rate was the limit
        self._base = self._target = math.inf  # the rate at the start of the cycle, and what it approaches
        self._last_refusal: float | None = None
        self._full_bucket: tuple[int, float] | None = None  # what got through before the first refusal, in how long
        self._searching = True
        self._latency = 0.0  # seconds, smoothed
        self._nothing_got_through = False
        self.chance = _Chance()

    def ready_at(self, now: float) -> float:
        """Return when the next request may be sent."""
        if self._last_refusal is None:
            return now
        elapsed, self._counted_at = now - self._counted_at, now
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._grow(min(elapsed, 2 / self._rate))  # time in which nothing was to be sent does not count
        return now if self._tokens > 1 - 1e-9 else now + (1 - self._tokens) / self._rate

    def sent(self, now: float) -> None:
        """Note that a request was sent."""
        self._tokens -= 1
        if self._first_sent is None:
            self._first_sent = now

    def got_through(self, sent_at: float, now: float) -> None:
        """Note a response that was no refusal."""
        self._got_through += 1
        self._sent.append(sent_at)
        self._latency += (now - sent_at - self._latency) / 8

    def settle(self, episode: _Episode, now: float) -> None:
        """Estimate the server's rate, once the outcome of everything in flight at a refusal is known."""
        refused = episode.sent_at
        times = sorted(self._sent)
        before = bisect.bisect_right(times, refused)
        began = refused if self._first_sent is None else self._first_sent
        if self._last_refusal is None or self._full_bucket is None:
            count = max(1, self._got_through)
            self._full_bucket = count, max([began, *times[-1:]]) - began
            self._base = max(_LOWEST_RATE, _SEARCH_FROM * count / (now - began))
        elif not self._searching and (rate := self.chance.judge(self._rate, episode.refusals, self._got_through)):
            self._base = self._target = max(_LOWEST_RATE, rate)
        elif not self._got_through:  # which says little of the rate, and once more nothing
            if not self._nothing_got_through:
                self._base = self._target = max(_LOWEST_RATE, self._base / 2)
        elif not self._searching and 2 * self._burst > max(2, before):
            self._burst = max(1.0, self._burst / 2)  # it was the burst, and not the rate
        else:
            bucket, filled = self._full_bucket
            count = self._got_through - (len(times) - before)
            spans = [(n, times[before - 1] - sent_at) for n, sent_at in zip(range(before, 0, -1), times, strict=False)]
            slopes = [(n - bucket) / (span - filled) for n, span in spans if span > 1.2 * filled + _SHORTEST_SPAN]
            at_least = self._base / 3 if self._searching else 0.7 * self._rate
            best = max([count / (refused - self._last_refusal), at_least, *slopes])
            if not self._searching and refused - began < _TOO_SOON:
                best = min(best, 0.85 * self._rate)
            self._base = max(_LOWEST_RATE, _MARGIN * best)
            if slopes and max(slopes) >= best:
                target = min((best**3 * self._rate) ** 0.25, best * (1 + 1 / max(1, count)))
            else:  # pauses make up much of this estimate, so that it may be far too low
                target = (best * self._rate) ** 0.5
            self._target = max(self._base, target)
            if self._searching:
                peak = max((n - self._base * span for n, span in spans), default=1.0)
                self._burst = max(1.0, 0.8 * min(bucket - self._base * filled, peak))
            self._searching = False
        self._rate, self._probed, self._last_refusal = self._base, 0.0, refused
        self._nothing_got_through = not self._got_through
        self._tokens = min(self._burst, max(1.0, self._rate * (now - refused)))
        self._counted_at = now
        self._sent.clear()
        self._got_through, self._first_sent = 0, None

    def _grow(self, seconds: float) -> None:
        if self._searching or self.chance.part:
            self._rate *= 2 ** (seconds / max(_DOUBLING, 2 * self._latency, 2 / self._rate))
            return
        # As TCP CUBIC: fast at first, slow near the target, then faster and faster beyond it.
        self._probed += seconds
        near = 1 - math.exp(-self._probed / max(_APPROACH, 12 / self._base))
        beyond = 1 + (self._probed / max(_PROBE_RATE, 40 / self._base)) ** 3
        self._rate = self._base * (self._target / self._base) ** near * beyond
