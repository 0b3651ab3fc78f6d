from __future__ import annotations

from enum import StrEnum


class TaskStatus(StrEnum):
    """The status of a task.

    - `PENDING`: accepted, waiting to start.
    - `IN_PROGRESS`: started and not yet finished.
    - `PROCESSING`: its inputs are being processed.
    - `COMPLETED`: finished successfully.
    - `FAILED`: finished with an error.
    - `CANCELED`: cancelled before it finished.
    - `UNKNOWN`: the status cannot be determined.
    - `SKIPPED`: intentionally not run.
    - `DRAFT`: created and not yet submitted.
    """

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"
    SKIPPED = "SKIPPED"
    DRAFT = "DRAFT"

    @classmethod
    def _missing_(cls, value: object) -> TaskStatus | None:
        """Return a member for a value that the contract lacks, so that a newer server breaks no client."""
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member
