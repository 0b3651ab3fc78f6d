"""What goes into a call that cancels many batches, and what comes out; how it is done is `_bulk`'s."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from mixpeek_batches_api.models import TaskStatus

from .errors import MixpeekError, RateLimitError

if TYPE_CHECKING:
    from mixpeek_batches_api.models import TaskResponse

Pair = tuple[str, str] | tuple[str, str, str | None]
"""A bucket and a batch, and perhaps the namespace of both."""

MOST_AT_ONCE = 1000


@attrs.frozen(kw_only=True)
class CancelResult:
    """What became of one batch.

    Attributes:
        bucket_identifier: The bucket, as it was given.
        batch_id: The batch, as it was given.
        namespace: The namespace that was given with it; None for the client's.
        task: The batch's task; None if there is an error.
        error: Why there is none.
    """

    bucket_identifier: str
    batch_id: str
    namespace: str | None = None
    task: TaskResponse | None = None
    error: MixpeekError | None = None

    @property
    def canceled(self) -> bool:
        """Whether the server says that the batch is CANCELED now."""
        return self.task is not None and self.task.status == TaskStatus.CANCELED


class Gate:
    """Holds everybody back while a server that answered 429 wants to be left alone; or for good, to stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._until = 0.0

    def note(self, error: MixpeekError, longest: float) -> None:
        """Look at an error, and close the gate for as long as a 429 says, if that is not too long."""
        if isinstance(error, RateLimitError) and error.retry_after is not None and error.retry_after <= longest:
            self._until = max(self._until, time.monotonic() + error.retry_after)

    def wait(self) -> None:
        """Wait until the gate is open.

        Raises:
            StoppedError: It will not open again.
        """
        while self.left > 0 and not self.stop.is_set():
            self.stop.wait(self.left)
        if self.stop.is_set():
            raise StoppedError

    @property
    def left(self) -> float:
        """Seconds until the gate is open; not above 0 if it is."""
        return self._until - time.monotonic()


class Halt:
    """Ends the work early, from any thread or a signal's handler; the results that are there already still come."""

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: list[Callable[[], object]] = []

    def set(self) -> None:
        """End the work."""
        self.is_set = True
        for callback in list(self._callbacks):
            callback()

    def add(self, callback: Callable[[], object]) -> None:
        """Call a function when the work is to end, at once if it is already."""
        self._callbacks.append(callback)
        if self.is_set:
            callback()


class StoppedError(Exception):
    """The rest of the batches is not wanted any more."""
