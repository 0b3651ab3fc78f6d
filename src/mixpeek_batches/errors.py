"""The errors that the clients raise.

    MixpeekError
    ├── ConfigurationError (also a ValueError)    nothing was sent
    ├── APIConnectionError                        no whole answer came back
    │   └── APITimeoutError
    ├── APIStatusError                            the answer is not a success
    │   ├── BadRequestError 400          ├── UnprocessableEntityError 422
    │   ├── AuthenticationError 401      ├── RateLimitError 429
    │   ├── PermissionDeniedError 403    └── InternalServerError 5xx
    │   └── NotFoundError 404
    └── APIResponseValidationError                a success whose body is not a task

All of them survive pickle and copy, and none holds the API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


class MixpeekError(Exception):
    """Anything that went wrong in this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` alone, which a subclass with more arguments does not take.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class ConfigurationError(MixpeekError, ValueError):
    """A setting or an argument that may not be used, such as no key or a bad URL; nothing was sent."""


class APIConnectionError(MixpeekError):
    """The connection failed, or ended before the whole answer had come."""

    _transient = True
    """Whether another attempt may succeed."""


class APITimeoutError(APIConnectionError):
    """The whole answer had not come when the time-out was over."""


class _AnswerError(MixpeekError):
    """An answer came, and it is not a task.

    Attributes:
        status_code: The HTTP status code.
        request_id: The `X-Request-ID` header of the answer, to quote to support.
        response: The answer, with its body decoded and the key left out.
    """

    def __init__(self, message: str, *, response: httpx.Response) -> None:
        super().__init__(message)
        self.response = response
        self.status_code: int = response.status_code
        self.request_id: str | None = response.headers.get("x-request-id")


class APIResponseValidationError(_AnswerError):
    """The server said that it went well, and its body is not a task.

    Attributes:
        status_code: The HTTP status code, 2xx.
        request_id: The `X-Request-ID` header of the answer, to quote to support.
        response: The answer, with its body decoded and the key left out.
    """


class APIStatusError(_AnswerError):
    """The server answered with a status that is not 2xx.

    Attributes:
        status_code: The HTTP status code.
        message: What the server says went wrong, for people.
        type: What the server says went wrong, for programs, such as `NotFoundError`.
        details: Facts about the error, where the server gives any.
        request_id: The `X-Request-ID` header of the answer, to quote to support.
        retry_after: Seconds to wait before the next attempt, above 0, where the server names them.
        response: The answer, with its body decoded and the key left out.
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
    """400: the batch is in a status that cannot be cancelled; nothing has changed."""


class AuthenticationError(APIStatusError):
    """401: the server does not know the key."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not use the namespace."""


class NotFoundError(APIStatusError):
    """404: no such namespace, bucket or batch."""


class UnprocessableEntityError(APIStatusError):
    """422: the server understood the request and does not accept it."""


class RateLimitError(APIStatusError):
    """429: too many requests; `retry_after` may say how long to wait."""


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error_class(status_code: int) -> type[APIStatusError]:
    """Tell which class stands for an HTTP status code that is not 2xx."""
    if 500 <= status_code <= 599:
        return InternalServerError
    return _BY_STATUS.get(status_code, APIStatusError)
