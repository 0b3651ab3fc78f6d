"""Cancel batches of a Mixpeek bucket.

Client and AsyncClient send requests, a TaskResponse is returned, and every error is a MixpeekError.
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

# The modules of public names, except for the generated models, which start with Task, and the errors.
_MODULES = {
    "UNSET": "mixpeek_batches_api.types",
    "Unset": "mixpeek_batches_api.types",
    "__version__": "mixpeek_batches_api",
    "AsyncClient": ".client",
    "Client": ".client",
    "CancelResult": ".results",
}

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that `mixpeek-batches --help` loads no HTTP client."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _MODULES.get(name) or ("mixpeek_batches_api.models" if name.startswith("Task") else ".errors")
        value = globals()[name] = getattr(import_module(module, __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
