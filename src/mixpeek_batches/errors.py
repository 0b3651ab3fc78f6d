"""The errors that the clients raise.

    MixpeekError
    ├── ConfigurationError (also a ValueError)    nothing was sent
    ├── APIConnectionError                        no complete response
    │   └── APITimeoutError
    ├── APIStatusError                            a status that is not 2xx
    │   ├── BadRequestError 400          ├── UnprocessableEntityError 422
    │   ├── AuthenticationError 401      ├── RateLimitError 429
    │   ├── PermissionDeniedError 403    └── InternalServerError 5xx
    │   └── NotFoundError 404
    └── APIResponseValidationError                a 2xx whose body is not a task

All errors can be pickled and copied, and none contains the API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


class MixpeekError(Exception):
    """The base class of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` alone, which a subclass with more arguments does not take.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class ConfigurationError(MixpeekError, ValueError):
    """A setting or an argument is missing or not valid, and nothing was sent. Also a `ValueError`."""


class APIConnectionError(MixpeekError):
    """The connection failed, or closed before the response was complete."""

    _transient = True
    """Whether another attempt may succeed."""


class APITimeoutError(APIConnectionError):
    """The response was not complete within the time-out."""


class _AnswerError(MixpeekError):
    """A response that is not a task.

    Attributes:
        status_code: The HTTP status code.
        request_id: The `X-Request-ID` header of the response, to quote when contacting support.
        response: The response, with its body decoded and the key removed.
    """

    def __init__(self, message: str, *, response: httpx.Response) -> None:
        super().__init__(message)
        self.response = response
        self.status_code: int = response.status_code
        self.request_id: str | None = response.headers.get("x-request-id")


class APIResponseValidationError(_AnswerError):
    """The server reported success, but the body is not a task.

    Attributes:
        status_code: The HTTP status code, 2xx.
        request_id: The `X-Request-ID` header of the response, to quote when contacting support.
        response: The response, with its body decoded and the key removed.
    """


class APIStatusError(_AnswerError):
    """The server responded with a status code that is not 2xx.

    Attributes:
        status_code: The HTTP status code.
        message: The message of the server, for people.
        type: The name of the error for programs, such as `NotFoundError`.
        details: Facts about the error, if the server sent any.
        request_id: The `X-Request-ID` header of the response, to quote when contacting support.
        retry_after: Seconds to wait before the next attempt, above 0, if the server sent a valid `Retry-After`.
        response: The response, with its body decoded and the key removed.
    """

    def __init__(
        self,
        message: str,
        *,
        response: httpx.Response,
        type: str | None = None,  # noqa: A002 - the name of the field in the error envelope
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, response=response)
        self.message = message
        self.type = type
        self.details = details
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = [str(self.status_code)]
        if self.type:
            facts.append(self.type)
        if self.request_id:
            facts.append(f"request {self.request_id}")
        text = self.message if len(self.message) <= 500 else self.message[:500] + "…"
        return f"{text} ({', '.join(facts)})"


class BadRequestError(APIStatusError):
    """400: a batch in this status cannot be cancelled. Nothing was changed."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing or unknown."""


class PermissionDeniedError(APIStatusError):
    """403: the API key has no access to the namespace."""


class NotFoundError(APIStatusError):
    """404: the namespace, the bucket or the batch does not exist."""


class UnprocessableEntityError(APIStatusError):
    """422: the request is well-formed but not valid."""


class RateLimitError(APIStatusError):
    """429: too many requests. `retry_after` is how long to wait, if known."""


class InternalServerError(APIStatusError):
    """5xx: the server encountered an error or is unavailable."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error_class(status_code: int) -> type[APIStatusError]:
    """Return the class for an HTTP status code that is not 2xx."""
    if 500 <= status_code <= 599:
        return InternalServerError
    return _BY_STATUS.get(status_code, APIStatusError)
