"""Cancel batches of a Mixpeek bucket.

Client and AsyncClient send the request; TaskResponse is what comes back; every error is a MixpeekError.
"""

from mixpeek_batches_api import __version__
from mixpeek_batches_api.models import TaskAdditionalData, TaskInput, TaskOutput, TaskResponse, TaskStatus, TaskType
from mixpeek_batches_api.types import UNSET, Unset

from ._results import CancelResult
from .client import AsyncClient, Client
from .errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    InternalServerError,
    MixpeekError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)

__all__ = [
    "UNSET",
    "APIConnectionError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "CancelResult",
    "Client",
    "ConfigurationError",
    "InternalServerError",
    "MixpeekError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "TaskAdditionalData",
    "TaskInput",
    "TaskOutput",
    "TaskResponse",
    "TaskStatus",
    "TaskType",
    "UnprocessableEntityError",
    "Unset",
    "__version__",
]
