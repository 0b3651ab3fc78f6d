"""Simulated servers that limit what is sent to them, and a driver of the scheduler against them, in virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from mixpeek_batches import APIConnectionError, CancelResult, MixpeekError
from mixpeek_batches._scheduler import Job, Scheduler, Step
from mixpeek_batches.errors import status_error_class

TASK: Any = object()
_SENDING = 0.0001  # seconds that it takes to send a request
_TOO_LONG = 3600.0  # seconds after which a run is stuck
_RESPONSES = {status: httpx.Response(status) for status in (401, 404, 429, 500, 503)}


def error(status: int, retry_after: float | None = None) -> MixpeekError:
    """Return the error of a status code, or for 0 that of a failed connection."""
    if not status:
        return APIConnectionError("The connection failed.")
    return status_error_class(status)("No.", response=_RESPONSES[status], retry_after=retry_after)


class SimulatedServer:
    """Accepts every request; subclasses refuse some."""

    def arrive(self, _now: float) -> MixpeekError | None:
        """Accept a request, or return the error that refuses it."""
        return None

    def leave(self, _now: float) -> None:
        """Note that an accepted request has been served."""


@dataclass
class SimulatedTokenBucket(SimulatedServer):
    """Accepts a number of requests a second, and a burst.

    Args:
        rate: Requests a second.
        burst: How many it accepts at once.
        status: The status code of a refusal.
        retry_after: Returns the Retry-After for a wait in seconds, or None for none.
    """

    rate: float
    burst: float = 1
    status: int = 429
    retry_after: Callable[[float], float | None] = lambda wait: max(1, math.ceil(wait))
    _tokens: float = field(init=False)
    _counted_at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def arrive(self, now: float) -> MixpeekError | None:
        self._tokens = min(self.burst, self._tokens + (now - self._counted_at) * self.rate)
        self._counted_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return error(self.status, self.retry_after((1 - self._tokens) / self.rate))


@dataclass
class FixedWindow(SimulatedServer):
    """Accepts a number of requests in each window of some seconds."""

    requests: int
    seconds: float
    _window: int = -1
    _taken: int = 0

    def arrive(self, now: float) -> MixpeekError | None:
        window = int(now // self.seconds)
        if window != self._window:
            self._window, self._taken = window, 0
        self._taken += 1
        if self._taken <= self.requests:
            return None
        return error(429, max(1, math.ceil((window + 1) * self.seconds - now)))


@dataclass
class ConcurrencyLimit(SimulatedServer):
    """Accepts a number of requests at a time."""

    limit: int
    _held: int = 0

    def arrive(self, now: float) -> MixpeekError | None:
        if self._held >= self.limit:
            return error(429, 1)
        self._held += 1
        return None

    def leave(self, now: float) -> None:
        self._held -= 1


@dataclass
class Outage(SimulatedServer):
    """Responds to everything with one error for some time."""

    begin: float
    end: float
    error: MixpeekError

    def arrive(self, now: float) -> MixpeekError | None:
        return self.error if self.begin <= now < self.end else None


@dataclass
class Chance(SimulatedServer):
    """Responds to some requests with an error, by chance."""

    probability: float
    error: MixpeekError
    random: random.Random

    def arrive(self, now: float) -> MixpeekError | None:
        return self.error if self.random.random() < self.probability else None


@dataclass
class Sequential(SimulatedServer):
    """Has an outcome for each request, and the last one for all that follow."""

    outcomes: Sequence[MixpeekError | None]
    _next: int = 0

    def arrive(self, now: float) -> MixpeekError | None:
        self._next += 1
        return self.outcomes[min(self._next, len(self.outcomes)) - 1]


@dataclass(frozen=True)
class SentRequest:
    """A request: when it was sent, for which batch, and how many were in flight then, itself included."""

    at: float
    batch_id: str
    in_flight: int


@dataclass
class SimulatedRun:
    """What happened.

    Attributes:
        results: In the order in which they came.
        sent: The requests.
        refusals: When the client was refused for its rate, and until when it must not send.
        seconds: How long the run took.
        most_held: The most pairs that had been fetched and had no result yet.
        idle_fetches: How many pairs were fetched that were not sent at once.
    """

    results: list[CancelResult] = field(default_factory=list)
    sent: list[SentRequest] = field(default_factory=list)
    refusals: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    most_held: int = 0
    idle_fetches: int = 0

    @property
    def canceled(self) -> int:
        return sum(result.error is None for result in self.results)


@dataclass
class _Network:
    """Carries requests to the servers, and responses back, in virtual time."""

    servers: tuple[SimulatedServer, ...]
    latency: float
    service: float
    jitter: float
    random: random.Random
    events: list[tuple[float, int, Callable[[float], Any]]] = field(default_factory=list)
    back: deque[tuple[Job, Any]] = field(default_factory=deque)
    _order: Iterator[int] = field(default_factory=count)

    def send(self, job: Job, now: float) -> None:
        self._on_its_way(now, lambda now: self._arrive(job, now))

    def sleep(self, now: float, until: float) -> float:
        """Wait until a response is back or a moment has come; return the time."""
        while self.events and self.events[0][0] <= until:
            moment, _, event = heapq.heappop(self.events)
            now = max(now, moment)
            event(now)
            if self.back:
                return now
        return max(now, until)

    def _at(self, moment: float, event: Callable[[float], Any]) -> None:
        heapq.heappush(self.events, (moment, next(self._order), event))

    def _on_its_way(self, now: float, event: Callable[[float], Any]) -> None:
        self._at(now + self.latency / 2 * (1 + self.jitter * self.random.random()), event)

    def _arrive(self, job: Job, now: float) -> None:
        for index, server in enumerate(self.servers):
            refusal = server.arrive(now)
            if refusal is not None:
                for earlier in self.servers[:index]:
                    earlier.leave(now)
                self._come_back(job, refusal, now)
                return
        service = self.service * (1 + self.jitter * (self.random.random() - 0.5))
        self._at(now + service, lambda now: self._leave(job, now))

    def _leave(self, job: Job, now: float) -> None:
        for server in self.servers:
            server.leave(now)
        self._come_back(job, TASK, now)

    def _come_back(self, job: Job, outcome: Any, now: float) -> None:
        self._on_its_way(now, lambda _: self.back.append((job, outcome)))


def simulate(
    *servers: SimulatedServer,
    pairs: int = 200,
    concurrency: int = 16,
    max_retries: int = 2,
    max_rate: float | None = None,
    latency: float = 0.003,
    service: float = 0.0,
    jitter: float = 0.3,
    stop_at: float = math.inf,
    grace: float = math.inf,
    seed: int = 0,
) -> SimulatedRun:
    """Cancel batches at servers that stand behind each other.

    Args:
        servers: The first one that refuses a request responds to it.
        pairs: How many batches.
        concurrency: See Scheduler.
        max_retries: See Scheduler.
        max_rate: See Scheduler.
        latency: Seconds that a request and its response are on their way, at least.
        service: Seconds that it takes to serve a request.
        jitter: The part of both by which they vary.
        stop_at: When to call `stop`.
        grace: Seconds after that in which what is in flight may end, before it is abandoned.
        seed: Of all that is random.
    """
    random.seed(seed)  # of the jitter of back-offs
    scheduler = Scheduler(concurrency=concurrency, max_retries=max_retries, max_rate=max_rate)
    network = _Network(servers, latency, service, jitter, random.Random(seed))
    run = SimulatedRun()
    now, fetched, just_fetched = 0.0, 0, None
    while True:
        assert now < _TOO_LONG, "the run is stuck"
        if now >= stop_at:
            scheduler.stop()
        step = scheduler.next_step(now)
        if step is Step.WAIT and now >= stop_at + grace:
            step = scheduler.abandon(error(0))
        if isinstance(step, CancelResult):
            run.results.append(step)
        elif isinstance(step, Job):
            run.idle_fetches -= step is just_fetched and step.attempts == 1
            run.sent.append(SentRequest(now, step.batch_id, scheduler.in_flight))
            network.send(step, now)
            now += _SENDING
        elif step is Step.FETCH and fetched == pairs:
            scheduler.exhausted()
        elif step is Step.FETCH:
            just_fetched = Job("bkt_1", str(fetched))
            scheduler.add(just_fetched)
            fetched += 1
            run.idle_fetches += 1
            run.most_held = max(run.most_held, fetched - len(run.results))
        elif step is Step.WAIT:
            now = network.sleep(
                now, min([scheduler.wake_at, *(end for end in (stop_at, stop_at + grace) if end > now)])
            )
            while network.back:
                job, outcome = network.back.popleft()
                retry_after = getattr(outcome, "retry_after", None)
                if getattr(outcome, "status_code", 0) == 429 or retry_after:
                    run.refusals.append((now, now + (retry_after or 0.0)))
                scheduler.finished(job, outcome, now)
        else:
            run.seconds = now
            return run
