"""How a run ended: what was cancelled, what was not and for which reason, and what to do about each."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from mixpeek_batches.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
)

from .terminal import batches, namespace_text, shown

if TYPE_CHECKING:
    from mixpeek_batches.results import CancelResult

_KINDS = 20  # that are shown


class Kind(NamedTuple):
    """A kind of failure.

    Attributes:
        what: What it is.
        again: Whether to do it again may help, perhaps after something was put right.
        advice: What to do, if there is anything.
    """

    what: str
    again: bool
    advice: str = ""

    @property
    def text(self) -> str:
        """What it is, and what to do."""
        return f"{self.what} {self.advice}".rstrip()


class Settings(NamedTuple):
    """What advice depends on.

    Attributes:
        key: Where the key came from.
        server: The base URL.
        timeout: Seconds.
    """

    key: str
    server: str
    timeout: float


def kind(result: CancelResult, settings: Settings) -> Kind:
    """Tell what kind of failure a result is."""
    error = result.error
    if isinstance(error, APIStatusError):
        return _of_status(error, result.namespace, settings)
    if error is None:
        status = "" if result.task is None else shown(str(result.task.status))
        return Kind(f"200 {status}: not CANCELED yet; look again later", True)
    if isinstance(error, ConfigurationError):
        return Kind(f"not sent: {shown(str(error))}", False)
    if isinstance(error, APITimeoutError):
        return Kind(f"no answer within {settings.timeout:g} s:", True, "try again, or give more by --timeout")
    if isinstance(error, APIConnectionError):
        if str(error).startswith("Interrupted"):
            return Kind("interrupted before there was an answer: cancelled or not, to do it again tells", True)
        reason = shown(str(error)).rstrip(".").rpartition(" failed: ")[2]
        reason = re.sub(r"^\[Errno -?[0-9]+\] ", "", reason)
        return Kind(f"no connection to {settings.server} ({reason[:80]}):", True, "check --base-url and the network")
    if isinstance(error, APIResponseValidationError):
        return Kind(f"{error.status_code}: the answer is no task;", True, "check --base-url")
    return Kind(f"{type(error).__name__}: {shown(str(error))[:80]}", False)


def _of_status(error: APIStatusError, namespace: str | None, settings: Settings) -> Kind:
    code = error.status_code
    message = shown(error.message)[:80].rstrip(".")
    if code == 400:
        status = error.details.get("status") if isinstance(error.details, dict) else None
        if isinstance(status, str):
            return Kind(f"400 {shown(status)[:40]}: nothing to cancel", False)
        return Kind(f"400: {message}", False)
    if code == 401:
        return Kind("401:", True, f"check {settings.key}")
    if code == 403:
        return Kind(
            f"403: the key may not use {namespace_text(namespace)};", True, f"check --namespace and {settings.key}"
        )
    if code == 404 and error.type is not None:
        return Kind(f"404: no such batch in {namespace_text(namespace)}", False)
    if code in {404, 405} or 300 <= code < 400:
        return Kind(f"{code}: {settings.server} does not look like the API;", True, "check --base-url")
    if code == 429:
        return Kind("429: the server takes no more now;", True, "try again later, or slower by --max-rate")
    if code >= 500 or code == 408:
        return Kind(f"{code}: the server failed;", True, "try again later")
    return Kind(f"{code}: {message}", False)


class Summary:
    """Counts results by kind.

    Args:
        total: How many there will be.
        settings: What advice depends on.

    Attributes:
        canceled: How many are cancelled.
        failed: How many are not.
        again: How many of those may be tried again.
        given_up: Why the client stopped early, if it did.
        unsent: How many it did not send for that reason.
    """

    def __init__(self, total: int, settings: Settings) -> None:
        self.total = total
        self.canceled = self.failed = self.again = self.unsent = 0
        self.given_up = ""
        self.started = time.monotonic()
        self._settings = settings
        self._kinds: dict[Kind, tuple[int, str]] = {}

    @property
    def done(self) -> int:
        """How many results there were."""
        return self.canceled + self.failed

    def add(self, result: CancelResult) -> None:
        """Count a result."""
        if result.canceled:
            self.canceled += 1
            return
        self.failed += 1
        found = kind(result, self._settings)
        self.again += found.again
        if not result.attempts and found.again:
            self.unsent += 1
            self.given_up = found.text
        count, example = self._kinds.get(found, (0, ""))
        self._kinds[found] = count + 1, example or f"{shown(result.batch_id)} of {shown(result.bucket_identifier)}"

    def rate(self) -> float:
        """Give the results a second so far, without what was never sent."""
        return (self.done - self.unsent) / max(time.monotonic() - self.started, 0.001)

    def text(self) -> str:
        """Say how it ended."""
        seconds = time.monotonic() - self.started
        rate = f" ({self.rate():,.0f}/s)" if seconds >= 1 else ""  # of less it says nothing
        text = f"{self.canceled:,} of {batches(self.total)} cancelled in {_duration(seconds)}{rate}"
        missing = self.total - self.done
        if not self.failed and not missing:
            return text + "."
        rows = [(count, found.text, example) for found, (count, example) in self._kinds.items()]
        rows.sort(key=lambda row: (-row[0], row[1]))
        others = sum(count for count, _, _ in rows[_KINDS:])
        shown_rows = [(f"{count:,}", what, f"such as {example}") for count, what, example in rows[:_KINDS]]
        if others:
            shown_rows.append((f"{others:,}", f"{len(rows) - _KINDS} other kinds", ""))
        if missing:
            shown_rows.append((f"{missing:,}", "not sent", ""))
        first = max(len(row[0]) for row in shown_rows)
        second = max(len(row[1]) for row in shown_rows)
        lines = [f"  {count:>{first}}  {what:<{second}}  {example}".rstrip() for count, what, example in shown_rows]
        return "\n".join([f"{text}, {self.total - self.canceled:,} not:", *lines])


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 100 else f"{minutes} min {seconds:02} s"
