"""Cancel batches of a Mixpeek bucket.

Client and AsyncClient send the request; TaskResponse is what comes back; every error is a MixpeekError.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixpeek_batches_api import __version__
    from mixpeek_batches_api.models import TaskAdditionalData, TaskInput, TaskOutput, TaskResponse, TaskStatus, TaskType
    from mixpeek_batches_api.types import UNSET, Unset

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
    from .results import CancelResult

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

_MODULES = {
    "mixpeek_batches_api": ("__version__",),
    "mixpeek_batches_api.models": (
        "TaskAdditionalData",
        "TaskInput",
        "TaskOutput",
        "TaskResponse",
        "TaskStatus",
        "TaskType",
    ),
    "mixpeek_batches_api.types": ("UNSET", "Unset"),
    ".client": ("AsyncClient", "Client"),
    ".errors": (
        "APIConnectionError",
        "APIResponseValidationError",
        "APIStatusError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "ConfigurationError",
        "InternalServerError",
        "MixpeekError",
        "NotFoundError",
        "PermissionDeniedError",
        "RateLimitError",
        "UnprocessableEntityError",
    ),
    ".results": ("CancelResult",),
}

if not TYPE_CHECKING:  # a type checker would take any name for one of this package

    def __getattr__(name: str) -> object:
        """Load what a name stands for when it is first used: the command's --help needs no HTTP client."""
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(import_module(module, __name__), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
