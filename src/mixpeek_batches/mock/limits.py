"""Limits: how many requests the endpoint accepts per second and in flight. The time, in seconds, is an argument."""

from __future__ import annotations

import math
import threading
from typing import Any

from mixpeek_batches.errors import ConfigurationError

from .checks import check_number

_MAX = 1_000_000
_NO_LIMIT = ", or None (null in JSON) for no limit"
_ROUNDING = 1e-3  # of a token; sums of floating-point times are never exact


class TokenBucket:
    """A bucket of `burst` tokens, full at first and refilled at `requests_per_second`; a request takes one token."""

    def __init__(self, requests_per_second: float, burst: int = 1) -> None:
        check_number(requests_per_second, "requests_per_second", 1 / _MAX, _MAX, hint=_NO_LIMIT)
        check_number(burst, "burst", 1, _MAX, whole=True)
        self.requests_per_second = requests_per_second
        self.burst = burst
        self._full_at = -math.inf  # when the bucket is full again; the number of tokens at any time follows from it

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        interval = 1 / self.requests_per_second
        full_at = max(self._full_at, now) + interval
        wait = full_at - self.burst * interval - now
        if wait > _ROUNDING * interval:
            return wait
        self._full_at = full_at
        return 0.0


class Limits:
    """What the endpoint accepts before it responds with 429; no limits at first. Safe to use from any thread.

    Attributes:
        in_flight: How many admitted requests have not been responded to yet.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._bucket: TokenBucket | None = None
        self._concurrency: int | None = None
        self._lock = threading.Lock()

    def limit_rate(self, requests_per_second: float | None, burst: int = 1) -> None:
        """See `MockState.limit_rate`."""
        self._bucket = None if requests_per_second is None else TokenBucket(requests_per_second, burst)

    def limit_concurrency(self, concurrency: int | None) -> None:
        """See `MockState.limit_concurrency`."""
        if concurrency is not None:
            check_number(concurrency, "concurrency", 1, _MAX, whole=True, hint=_NO_LIMIT)
        self._concurrency = concurrency

    def set(
        self, requests_per_second: float | None = None, burst: int | None = None, concurrency: int | None = None
    ) -> None:
        """Replace all limits, or none if an argument is invalid."""
        if requests_per_second is None and burst is not None:
            raise ConfigurationError("burst goes with requests_per_second.")
        replacement = Limits()
        replacement.limit_rate(requests_per_second, 1 if burst is None else burst)
        replacement.limit_concurrency(concurrency)
        self._bucket, self._concurrency = replacement._bucket, replacement._concurrency

    def admit(self, now: float) -> int:
        """Admit a request and return 0, or return after how many whole seconds to retry, at least 1."""
        with self._lock:
            if self._concurrency is not None and self.in_flight >= self._concurrency:
                return 1
            if self._bucket is not None and (wait := self._bucket.take(now)):
                return math.ceil(wait)
            self.in_flight += 1
            return 0

    def release(self) -> None:
        """Record that an admitted request has been responded to, or that its client is gone."""
        with self._lock:
            self.in_flight -= 1

    def to_dict(self) -> dict[str, Any]:
        """Return the limits as `/_mock/limits` shows and takes them; None is no limit."""
        bucket = self._bucket
        return {
            "requests_per_second": bucket and bucket.requests_per_second,
            "burst": bucket and bucket.burst,
            "concurrency": self._concurrency,
        }
