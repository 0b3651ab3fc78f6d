from __future__ import annotations

from enum import StrEnum


class TaskStatus(StrEnum):
    """How far a task has come.

    - `PENDING`: accepted, waiting to start.
    - `IN_PROGRESS`: started.
    - `PROCESSING`: at work on its inputs.
    - `COMPLETED`: ended well.
    - `FAILED`: ended with an error.
    - `CANCELED`: ended because somebody cancelled it.
    - `UNKNOWN`: cannot be told.
    - `SKIPPED`: ended without work, on purpose.
    - `DRAFT`: not yet submitted.
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
        """A server that knows more values than the contract does not break its clients."""
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member
