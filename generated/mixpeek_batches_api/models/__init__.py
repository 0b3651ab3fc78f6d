"""Contains all the data models used in inputs/outputs"""

from .error_detail import ErrorDetail
from .error_details import ErrorDetails
from .error_response import ErrorResponse
from .task_additional_data import TaskAdditionalData
from .task_input import TaskInput
from .task_output import TaskOutput
from .task_response import TaskResponse
from .task_status import TaskStatus
from .task_type import TaskType

__all__ = (
    "ErrorDetail",
    "ErrorDetails",
    "ErrorResponse",
    "TaskAdditionalData",
    "TaskInput",
    "TaskOutput",
    "TaskResponse",
    "TaskStatus",
    "TaskType",
)
