"""The requests that the mock received."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

import attrs

MAX_REQUESTS = 10_000
"""How many requests the mock remembers: the last ones."""


@attrs.define(kw_only=True)
class RecordedRequest:
    """A request to the API that the mock received.

    Attributes:
        method: The HTTP method.
        path: The path as it was sent, percent-encoded.
        bucket_identifier: The bucket that the path names, decoded; None if the path is not the endpoint's.
        batch_id: The batch that the path names, decoded; None if the path is not the endpoint's.
        namespace: The `X-Namespace` header, decoded; None without one.
        headers: All headers by lower-case name; the value of Authorization is left out.
        status_code: The status code of the response; None if there was no response.
    """

    method: str
    path: str
    bucket_identifier: str | None
    batch_id: str | None
    namespace: str | None
    headers: dict[str, str]
    status_code: int | None = None


class RequestLog:
    """The last requests to the API."""

    def __init__(self) -> None:
        self.on_request: Callable[[RecordedRequest], None] | None = None
        self._counter = itertools.count(1)
        self._requests: deque[RecordedRequest] = deque(maxlen=MAX_REQUESTS)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last 10,000 requests to the API, oldest first."""
        return list(self._requests.copy())  # the copy is atomic

    def clear_requests(self) -> None:
        """Forget all requests."""
        self._requests.clear()

    def record(self, request: RecordedRequest) -> str:
        """Remember a request, and return an identifier for it."""
        self._requests.append(request)
        return f"req_{next(self._counter)}"

    def complete(self, request: RecordedRequest, status_code: int | None) -> None:
        """Record the status code of a response; None if there is none."""
        request.status_code = status_code
        if self.on_request is not None:
            self.on_request(request)
