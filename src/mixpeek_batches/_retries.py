"""Which failures are transient, and how long to wait before the next attempt."""

from __future__ import annotations

import logging
import random
import re
import time
from datetime import UTC
from typing import TYPE_CHECKING

from .errors import APIConnectionError, APIStatusError, MixpeekError

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("mixpeek_batches")

MAX_RETRY_AFTER = 60.0
"""Seconds; a longer Retry-After is not waited for."""

_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_BACKOFF, _MAX_BACKOFF = 0.5, 8.0  # seconds
_LONGEST = 1e12  # seconds; a longer Retry-After is as good as this, and infinity is not valid JSON


def is_transient(error: MixpeekError) -> bool:
    """Return whether the next attempt may succeed; cancelling is idempotent, so retrying is always safe."""
    if isinstance(error, APIStatusError):
        return error.status_code in _TRANSIENT_STATUSES and (error.retry_after or 0) <= MAX_RETRY_AFTER
    return isinstance(error, APIConnectionError) and error._transient


def is_refused_for_rate(error: MixpeekError) -> bool:
    """Return whether the server refused the request for its rate, and not for its batch."""
    return isinstance(error, APIStatusError) and (
        error.status_code == 429 or (error.status_code == 503 and error.retry_after is not None)
    )


def delay(error: MixpeekError, retry: int) -> float:
    """Return how many seconds to wait before a retry.

    Args:
        error: How the last attempt failed.
        retry: The number of the retry, from 0.

    Returns:
        What the server asks for in Retry-After, else an exponential back-off with jitter.
    """
    asked = error.retry_after if isinstance(error, APIStatusError) else None
    return backoff(retry) if asked is None else asked


def backoff(retry: int) -> float:
    """Return an exponential back-off in seconds; jitter takes up to half of it."""
    return min(_MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(retry, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


def log_retry(bucket: str, batch: str, attempt: int, attempts: int, wait: float, error: MixpeekError) -> None:
    """Log that an attempt failed and is retried."""
    message = "Batch %r of bucket %r: attempt %d of %d failed, next in %.2f s: %s"
    logger.warning(message, batch, bucket, attempt, attempts, wait, error)


def retry_after(headers: httpx.Headers) -> float | None:
    """Read the Retry-After header (RFC 9110, section 10.2.3).

    Returns:
        Seconds from now, above 0; None where the header is absent, asks for no wait, or makes no sense.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return min(float(text), _LONGEST) or None
    # Imported here because this is the only use, and rare.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        moment = parsedate_to_datetime(text)
        # The asctime form has no zone, and means UTC like the others.
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError, IndexError, OSError):
        return None
    return seconds if seconds > 0 else None
