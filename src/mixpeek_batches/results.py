"""What `cancel_batches` gives for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from mixpeek_batches_api.models import TaskStatus

from .errors import APIStatusError, MixpeekError

if TYPE_CHECKING:
    from mixpeek_batches_api.models import TaskResponse


@attrs.frozen(kw_only=True)
class CancelResult:
    """What became of one batch.

    Attributes:
        bucket_identifier: The bucket, as it was given.
        batch_id: The batch, as it was given.
        namespace: The namespace that the request named; None for the key's default namespace.
        task: The batch's task; None if there is an error.
        error: Why there is none.
        attempts: How many requests were sent for it; 0 if it was never sent.
    """

    bucket_identifier: str
    batch_id: str
    namespace: str | None = None
    task: TaskResponse | None = attrs.field(default=None, hash=False)
    error: MixpeekError | None = attrs.field(default=None, hash=False)
    attempts: int = 0

    @property
    def canceled(self) -> bool:
        """Whether the server says that the batch is CANCELED now."""
        return self.task is not None and self.task.status == TaskStatus.CANCELED

    def unwrap(self) -> TaskResponse:
        """Give the task.

        Raises:
            MixpeekError: There is none; its `error`.
        """
        if self.task is not None:
            return self.task
        raise self.error if self.error is not None else MixpeekError("There is neither a task nor an error.")

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON: what the command prints, a line for each batch."""
        return {
            "bucket_identifier": self.bucket_identifier,
            "batch_id": self.batch_id,
            "namespace": self.namespace,
            "canceled": self.canceled,
            "attempts": self.attempts,
            "task": None if self.task is None else self.task.to_dict(),
            "error": None if self.error is None else _error_to_dict(self.error),
        }


def _error_to_dict(error: MixpeekError) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "message": error.message if isinstance(error, APIStatusError) else str(error),
        **{name: getattr(error, name, None) for name in ("status_code", "type", "details", "request_id")},
    }
