"""Faults: what goes wrong with the next requests, or with a share of all requests."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from mixpeek_batches.errors import ConfigurationError

from .checks import call_with_fields, check_json, check_number

_MAX_RETRY_AFTER = 10**12  # seconds, about 30,000 years
_MAX_PLANNED = 1_000_000
_OPTIONS: dict[str, tuple[str, ...]] = {
    "status": ("retry_after", "body", "acted"),
    "latency": ("seconds",),
    "reset": ("acted",),
    "truncated": (),
    "malformed": (),
}
"""The fields that go with each kind of fault."""

RETRYABLE_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"fault": 503, "retry_after": 0},
    {"fault": 429, "retry_after": 0},
    {"fault": 500},
    {"fault": 502, "acted": True},
    {"fault": "reset"},
    {"fault": "reset", "acted": True},
    {"fault": "truncated"},
    {"fault": "latency", "seconds": 0.2},
)
"""What `fail_randomly` draws from: faults that a client survives by retrying."""


def _body(body: Any) -> Any:
    return check_json(body, "body")


@attrs.frozen
class Fault:
    """What goes wrong with one request; see `MockState.fail_next` for what the fields mean.

    Raises:
        ConfigurationError: If a field is invalid, or does not go with the others.
    """

    fault: int | str
    retry_after: float | str | None = None
    seconds: float | None = None
    body: Any = attrs.field(default=None, converter=_body)
    acted: bool = False

    def __attrs_post_init__(self) -> None:
        kinds = [kind for kind in _OPTIONS if kind != "status"]
        if self.fault not in kinds and not 200 <= (self.status_code or 0) <= 599:
            raise ConfigurationError(
                f"fault must be an HTTP status code from 200 to 599 or one of {', '.join(kinds)}, not {self.fault!r}."
            )
        if not isinstance(self.acted, bool):
            raise ConfigurationError(f"acted must be true or false, not {self.acted!r}.")
        for name, default in {"retry_after": None, "seconds": None, "body": None, "acted": False}.items():
            if getattr(self, name) is not default and name not in _OPTIONS[self.kind]:
                raise ConfigurationError(f"{name} does not go with the fault {self.fault!r}: leave it out.")
        if self.fault == 200 and self.body is None:
            raise ConfigurationError("The fault 200 needs a body: without one, nothing goes wrong.")
        if self.kind == "latency":
            check_number(self.seconds, "seconds", 0, 3600, hint=" for latency")
        text = isinstance(self.retry_after, str) and self.retry_after.isascii() and self.retry_after.isprintable()
        if self.retry_after is not None and not text:
            hint = ", or printable ASCII text"
            check_number(self.retry_after, "retry_after", -_MAX_RETRY_AFTER, _MAX_RETRY_AFTER, hint=hint)

    @property
    def kind(self) -> str:
        """`"status"` for a response with a status code, else the fault."""
        return "status" if self.status_code is not None else str(self.fault)

    @property
    def status_code(self) -> int | None:
        """The status code of the response, if the fault is one."""
        return self.fault if isinstance(self.fault, int) and not isinstance(self.fault, bool) else None

    @property
    def acts(self) -> bool:
        """Whether the mock carries the request out."""
        return self.acted or self.kind not in {"status", "reset"}

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as `/_mock/faults` shows it."""
        fields = attrs.asdict(self, recurse=False, filter=attrs.filters.exclude("fault"))
        return {"kind": self.kind, "status_code": self.status_code, **fields, "seconds": self.seconds or 0.0}


class FaultPlan:
    """What is planned to go wrong with requests to the API."""

    def __init__(self) -> None:
        self._plan_lock = threading.Lock()
        self._planned: deque[Fault] = deque()
        self._rate = 0.0
        self._random = random.Random()  # noqa: S311 - not a secret
        self._choices: list[Fault] = []

    def fail_next(
        self,
        fault: int | str,
        *,
        times: int = 1,
        retry_after: float | str | None = None,
        seconds: float | None = None,
        body: Any = None,
        acted: bool = False,
    ) -> None:
        """Make the next requests to the API fail, after those that are already planned to.

        Args:
            fault: An HTTP status code from 200 to 599, to respond with the error envelope (or with `body`); or
                `"latency"`: act at once, and respond after `seconds`;
                `"reset"`: reset the connection without a response;
                `"truncated"`: act, and send half of the response's body;
                `"malformed"`: act, and send a whole body that is not valid JSON.
            times: How many requests, up to a million.
            retry_after: The Retry-After header of a response by status code, any number or text, valid or not; 429 and
                503 have a Retry-After of 1 by default.
            seconds: How long `"latency"` waits.
            body: The body of a response by status code, as JSON, or a string to send as it is.
            acted: Whether the mock carries the request out before it responds by status code or resets.
        """
        check_number(times, "times", 1, _MAX_PLANNED, whole=True)
        planned = Fault(fault, retry_after, seconds, body, acted)
        with self._plan_lock:
            self._planned.extend([planned] * times)

    def fail_randomly(
        self, rate: float, *, faults: Sequence[Mapping[str, Any]] = RETRYABLE_FAULTS, seed: int | None = None
    ) -> None:
        """Make a share of all requests to the API fail from now on; faults planned by `fail_next` come first.

        Args:
            rate: The share, from 0 to 1.
            faults: What may go wrong, each as the arguments of `fail_next` by name, without `times`.
            seed: Makes the draw reproducible.
        """
        check_number(rate, "rate", 0, 1)
        if not isinstance(faults, list | tuple) or not faults:
            raise ConfigurationError("faults must be a non-empty list of JSON objects.")
        if not (seed is None or isinstance(seed, int)):
            raise ConfigurationError("seed must be a whole number.")
        choices = [call_with_fields(Fault, fault) for fault in faults]
        with self._plan_lock:
            self._rate, self._random, self._choices = rate, random.Random(seed), choices  # noqa: S311 - not a secret

    @property
    def faults(self) -> list[Fault]:
        """The faults planned by `fail_next`, next first."""
        with self._plan_lock:
            return list(self._planned)

    def clear_faults(self) -> None:
        """Cancel all planned and random faults."""
        with self._plan_lock:
            self._planned.clear()
            self._rate = 0.0

    def take_fault(self) -> Fault | None:
        """Return what goes wrong with a request, if anything does, and remove it from the plan."""
        if not self._planned and not self._rate:
            return None
        with self._plan_lock:
            if self._planned:
                return self._planned.popleft()
            if self._rate and self._random.random() < self._rate:
                return self._random.choice(self._choices)
            return None
