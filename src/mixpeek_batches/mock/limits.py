"""How many requests the endpoint takes, a second and in flight. Time comes in as an argument."""

from __future__ import annotations

import math
import threading
from typing import Any

from mixpeek_batches.errors import ConfigurationError

from .checks import is_number, is_whole

_MOST = 1_000_000
_ROUNDING = 1e-3  # of a token; sums of floating-point times are never exact


class TokenBucket:
    """A bucket of `burst` tokens, full at first, into which `requests_per_second` drip; a request takes one.

    Raises:
        ConfigurationError: An argument may not be used.
    """

    def __init__(self, requests_per_second: float, burst: int = 1) -> None:
        if not is_number(requests_per_second, 1 / _MOST, _MOST):
            raise ConfigurationError(
                f"requests_per_second must be a number from {1 / _MOST:.6f} to {_MOST:,}, or None for no limit."
            )
        if not is_whole(burst, 1, _MOST):
            raise ConfigurationError(f"burst must be a whole number from 1 to {_MOST:,}.")
        self.requests_per_second = requests_per_second
        self.burst = burst
        self._full_at = -math.inf  # when the bucket is full again, from which the tokens at any time follow

    def take(self, now: float) -> float:
        """Take a token, and give 0; or give the seconds until there is one."""
        interval = 1 / self.requests_per_second
        full_at = max(self._full_at, now) + interval
        wait = full_at - self.burst * interval - now
        if wait > _ROUNDING * interval:
            return wait
        self._full_at = full_at
        return 0.0


class Limits:
    """What the endpoint takes before it answers 429; at first, everything. Safe to use from any thread.

    Attributes:
        in_flight: The requests that were admitted and are not answered yet.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._bucket: TokenBucket | None = None
        self._concurrency: int | None = None
        self._lock = threading.Lock()

    def set(
        self, requests_per_second: float | None = None, burst: int | None = None, concurrency: int | None = None
    ) -> None:
        """Set all limits in place of those before, or none if an argument may not be used.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        if requests_per_second is None and burst is not None:
            raise ConfigurationError("burst goes with requests_per_second.")
        if requests_per_second is None:
            bucket = None
        else:
            bucket = TokenBucket(requests_per_second, 1 if burst is None else burst)
        self.limit_concurrency(concurrency)
        self._bucket = bucket

    def limit_rate(self, requests_per_second: float | None, burst: int = 1) -> None:
        """Do as `MockState.limit_rate` says."""
        self._bucket = None if requests_per_second is None else TokenBucket(requests_per_second, burst)

    def limit_concurrency(self, concurrency: int | None) -> None:
        """Do as `MockState.limit_concurrency` says."""
        if not (concurrency is None or is_whole(concurrency, 1, _MOST)):
            raise ConfigurationError(f"concurrency must be a whole number from 1 to {_MOST:,}, or None for no limit.")
        self._concurrency = concurrency

    def admit(self, now: float) -> int:
        """Admit a request, and give 0; or give the whole seconds after which to try again, 1 at least.

        Args:
            now: The time, in seconds of any clock that only goes forward.
        """
        with self._lock:
            if self._concurrency is not None and self.in_flight >= self._concurrency:
                return 1
            if self._bucket is not None and (wait := self._bucket.take(now)):
                return math.ceil(wait)
            self.in_flight += 1
            return 0

    def release(self) -> None:
        """Note that an admitted request is answered, or gone."""
        with self._lock:
            self.in_flight -= 1

    def to_dict(self) -> dict[str, Any]:
        """Give the limits as `/_mock/limits` shows and takes them; None is no limit."""
        bucket = self._bucket
        return {
            "requests_per_second": bucket and bucket.requests_per_second,
            "burst": bucket and bucket.burst,
            "concurrency": self._concurrency,
        }
