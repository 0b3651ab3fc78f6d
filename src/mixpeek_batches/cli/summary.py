"""How a run ended: how many batches were cancelled, why the others were not, and what to do about it."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from mixpeek_batches.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
)

from .terminal import counted_batches, namespace_text

if TYPE_CHECKING:
    from mixpeek_batches.results import CancelResult

_ROWS = 20  # causes that are listed


class Cause(NamedTuple):
    """Why a batch was not cancelled.

    Attributes:
        text: The cause.
        advice: What to do so that another run can succeed; empty if none can.
    """

    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


def find_cause(result: CancelResult, key: str, server: str) -> Cause:
    """Return why a batch was not cancelled.

    Args:
        result: The result.
        key: Where the API key came from.
        server: The base URL.
    """
    error = result.error
    if error is None:
        status = "no status" if result.task is None else str(result.task.status)
        return Cause(f"200 {status}: not CANCELED yet", "look again later")
    if isinstance(error, APIStatusError):
        return _find_cause_of_status(error, result.namespace, key, server)
    if isinstance(error, APIResponseValidationError):
        return Cause(f"{error.status_code}: the response is not a task", f"check the base URL {server}")
    text = re.sub(r"\[Errno -?[0-9]+\] ", "", str(error))[:120].rstrip(".")
    if isinstance(error, APITimeoutError):
        return Cause(text, "try again, or raise --timeout")
    if isinstance(error, APIConnectionError):
        if text.startswith("Interrupted"):
            return Cause(text, "cancel it again to be sure")
        return Cause(text, f"check the network and the base URL {server}")
    return Cause(f"{type(error).__name__}: {text}")


def _find_cause_of_status(error: APIStatusError, namespace: str | None, key: str, server: str) -> Cause:
    code = error.status_code
    status = error.details.get("status") if isinstance(error.details, dict) else None
    if code == 400 and isinstance(status, str):
        return Cause(f"400 {status[:40]}: nothing to cancel")
    if code == 401:
        return Cause("401: the server does not accept the key", f"check {key}")
    if code == 403:
        return Cause(f"403: the key may not use {namespace_text(namespace)}", f"check --namespace and {key}")
    if code == 404 and error.type is not None:
        return Cause(f"404: no such batch in {namespace_text(namespace)}")
    if code in {404, 405} or 300 <= code < 400:
        return Cause(f"{code}: {server} does not look like the API", "check the base URL")
    if code == 429:
        return Cause("429: too many requests", "try again later, or more slowly with --max-rate")
    if code >= 500 or code == 408:
        return Cause(f"{code}: the server failed", "try again later")
    return Cause(f"{code}: {error.message[:80].rstrip('.')}")


class Summary:
    """Counts results.

    Args:
        total: How many there will be.
        key: Where the API key came from.
        server: The base URL.

    Attributes:
        canceled: How many batches were cancelled.
        failed: How many were not.
        retryable: How many of those another run may cancel.
        unsent: How many the client did not send, because it stopped early.
        stopped_by: Why it stopped early, if it did.
    """

    def __init__(self, total: int, key: str, server: str) -> None:
        self.total = total
        self.canceled = self.failed = self.retryable = self.unsent = 0
        self.stopped_by: Cause | None = None
        self._started = time.monotonic()
        self._key = key
        self._server = server
        self._causes: Counter[Cause] = Counter()
        self._examples: dict[Cause, str] = {}

    @property
    def done(self) -> int:
        """How many results there were."""
        return self.canceled + self.failed

    @property
    def rate(self) -> float:
        """Results per second, without batches that were never sent."""
        return (self.done - self.unsent) / max(time.monotonic() - self._started, 0.001)

    def add(self, result: CancelResult) -> None:
        """Count a result."""
        if result.canceled:
            self.canceled += 1
            return
        self.failed += 1
        cause = find_cause(result, self._key, self._server)
        self._causes[cause] += 1
        self._examples.setdefault(cause, f"{result.batch_id} of {result.bucket_identifier}")
        if cause.advice:
            self.retryable += 1
            if not result.attempts:
                self.unsent += 1
                self.stopped_by = cause

    def lines(self) -> list[str]:
        """Return the summary as lines: the counts, then a row for each cause."""
        seconds = time.monotonic() - self._started
        rate = f" ({self.rate:,.0f}/s)" if seconds >= 1 else ""  # meaningless for less
        duration = f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))
        counts = f"{self.canceled:,} of {counted_batches(self.total)} cancelled in {duration}{rate}"
        if self.canceled == self.total:
            return [f"{counts}."]
        causes = sorted(self._causes.items(), key=lambda item: (-item[1], item[0]))
        rows = [(f"{count:,}", str(cause), f"such as {self._examples[cause]}") for cause, count in causes[:_ROWS]]
        if others := causes[_ROWS:]:
            rows.append((f"{sum(count for _, count in others):,}", f"{len(others)} other causes", ""))
        if missing := self.total - self.done:
            rows.append((f"{missing:,}", "not sent", ""))
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        table = [f"  {count:>{first}}  {cause:<{second}}  {example}".rstrip() for count, cause, example in rows]
        return [f"{counts}, {self.total - self.canceled:,} not:", *table]
