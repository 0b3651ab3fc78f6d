"""A batch of the mock, and its task."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import attrs
from mixpeek_batches_api.models import TaskStatus, TaskType

from mixpeek_batches.errors import ConfigurationError

from .checks import check_items, check_json, text_field

CANCELABLE = frozenset({TaskStatus.PENDING, TaskStatus.IN_PROGRESS, TaskStatus.PROCESSING, TaskStatus.UNKNOWN})
"""The statuses from which a batch becomes CANCELED. Cancelling a CANCELED batch again succeeds; all others refuse."""

DEFAULT_NAMESPACE = "default"

_Items = Sequence[str | dict[str, Any]]


def _status(status: str) -> TaskStatus:
    if status not in list(TaskStatus):  # TaskStatus itself accepts any string
        raise ConfigurationError(f"status {status!r} is not one of {', '.join(TaskStatus)}.")
    return TaskStatus(status)


def _inputs(items: _Items) -> list[str | dict[str, Any]]:
    return check_items(items, "inputs")


def _outputs(items: _Items) -> list[str | dict[str, Any]]:
    return check_items(items, "outputs")


def _additional_data(data: dict[str, Any] | None) -> dict[str, Any] | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise ConfigurationError("additional_data must be a JSON object or null.")
    copy: dict[str, Any] | None = check_json(data, "additional_data")
    return copy


def _namespace(namespace: str | None) -> str:
    return DEFAULT_NAMESPACE if namespace is None else namespace


def _task_id(task_id: str | None) -> str:
    return f"task_{uuid.uuid4().hex}" if task_id is None else task_id


@attrs.frozen
class Batch:
    """A batch as it was when it was read: cancelling it later does not change this object.

    Its attributes are the arguments of `MockState.add_batch`; `namespace` is the name of its namespace.

    Raises:
        ConfigurationError: If an argument is invalid.
    """

    bucket_identifier: str = attrs.field(validator=text_field)
    batch_id: str = attrs.field(validator=text_field)
    status: TaskStatus = attrs.field(default=TaskStatus.PENDING, converter=_status)
    namespace: str = attrs.field(default=None, converter=_namespace, validator=text_field)
    inputs: list[str | dict[str, Any]] = attrs.field(factory=list, converter=_inputs)
    outputs: list[str | dict[str, Any]] = attrs.field(factory=list, converter=_outputs)
    additional_data: dict[str, Any] | None = attrs.field(default=None, converter=_additional_data)
    task_id: str = attrs.field(default=None, converter=_task_id, validator=text_field)

    @property
    def error_message(self) -> str | None:
        """The `error` of the additional data as one string."""
        error = (self.additional_data or {}).get("error")
        if error is None or isinstance(error, str):
            return error
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            return str(error["message"])
        return json.dumps(error, separators=(",", ":"), ensure_ascii=False)

    def task(self) -> dict[str, Any]:
        """Return the task as the endpoint responds with it."""
        return {
            "task_id": self.task_id,
            "task_type": TaskType.API_BUCKETS_BATCHES_PROCESS.value,
            "status": self.status.value,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "additional_data": self.additional_data,
            "error_message": self.error_message,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the batch as `/_mock/batches` shows it and `add_batch` takes it."""
        return {**attrs.asdict(self, recurse=False), "status": self.status.value}
