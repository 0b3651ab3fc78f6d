"""The results that `cancel_batches` yields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from mixpeek_batches_api.models import TaskStatus

from .errors import APIStatusError, MixpeekError

if TYPE_CHECKING:
    from mixpeek_batches_api.models import TaskResponse


@attrs.frozen(kw_only=True)
class CancelResult:
    """The result for one batch.

    Attributes:
        bucket_identifier: The bucket, as passed in.
        batch_id: The batch, as passed in.
        namespace: The namespace in the request; None for the default namespace of the key.
        task: The task of the batch; None if there is an error.
        error: The error; None if there is a task.
        attempts: The number of requests sent for the batch; 0 if it was never sent.
    """

    bucket_identifier: str
    batch_id: str
    namespace: str | None = None
    task: TaskResponse | None = attrs.field(default=None, hash=False)
    error: MixpeekError | None = attrs.field(default=None, hash=False)
    attempts: int = 0

    @property
    def canceled(self) -> bool:
        """Whether the server confirmed that the batch is CANCELED now."""
        return self.task is not None and self.task.status == TaskStatus.CANCELED

    def unwrap(self) -> TaskResponse:
        """Return the task, or raise the error.

        Raises:
            MixpeekError: If there is no task.
        """
        if self.task is not None:
            return self.task
        raise self.error if self.error is not None else MixpeekError("There is neither a task nor an error.")

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON, in the format that the command prints for each batch."""
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
