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

# Where names come from, but for the generated models, which begin with Task, and errors.
_MODULES = {
    "UNSET": "mixpeek_batches_api.types",
    "Unset": "mixpeek_batches_api.types",
    "__version__": "mixpeek_batches_api",
    "AsyncClient": ".client",
    "Client": ".client",
    "CancelResult": ".results",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of this package

    def __getattr__(name: str) -> object:
        """Load what a name stands for when it is first used: the command's --help needs no HTTP client."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _MODULES.get(name) or ("mixpeek_batches_api.models" if name.startswith("Task") else ".errors")
        value = globals()[name] = getattr(import_module(module, __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
