"""What can be made to go wrong: one request, or a share of all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from mixpeek_batches.errors import ConfigurationError

from .checks import call_with_fields, checked_json, is_number, is_whole

_MOST_SECONDS = 10**12  # that a Retry-After may say; some 30,000 years
KINDS = ("status", "latency", "reset", "truncated", "malformed")

EVERY_FAULT: tuple[Mapping[str, Any], ...] = (
    {"fault": 503, "retry_after": 0},
    {"fault": 429, "retry_after": 0},
    {"fault": 500},
    {"fault": 502, "acted": True},
    {"fault": "reset"},
    {"fault": "reset", "acted": True},
    {"fault": "truncated"},
    {"fault": "latency", "seconds": 0.2},
)
"""What `fail_randomly` draws from: all that a client can live through by trying again."""


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that goes wrong with one request; see `MockState.fail_next` for what each field means."""

    kind: str
    status_code: int | None = None
    retry_after: float | str | None = None
    seconds: float = 0.0
    body: Any = None
    acted: bool = False

    @classmethod
    def of(
        cls,
        fault: int | str,
        *,
        retry_after: float | str | None = None,
        seconds: float | None = None,
        body: Any = None,
        acted: bool = False,
    ) -> Self:
        """Make a fault of the arguments of `MockState.fail_next`.

        Raises:
            ConfigurationError: An argument may not be used, or does not go with the others.
        """
        by_status = isinstance(fault, int) and not isinstance(fault, bool)
        if not is_whole(fault, 200, 599) and fault not in KINDS[1:]:
            raise ConfigurationError(
                f"fault must be an HTTP status code from 200 to 599 or one of {', '.join(KINDS[1:])}, not {fault!r}."
            )
        if not by_status and (retry_after is not None or body is not None):
            raise ConfigurationError(f"retry_after and body go with a status code, not with {fault!r}.")
        if fault == 200 and body is None:
            raise ConfigurationError("fault 200 needs a body: without one, nothing goes wrong.")
        if (fault == "latency") != (seconds is not None):
            raise ConfigurationError("seconds is needed for latency, and goes with nothing else.")
        if seconds is not None and not is_number(seconds, 0, 3600):
            raise ConfigurationError("seconds must be a number from 0 to 3600.")
        if not isinstance(acted, bool):
            raise ConfigurationError(f"acted must be true or false, not {acted!r}.")
        if acted and not (by_status or fault == "reset"):
            raise ConfigurationError(f"acted goes with a status code or reset; {fault} always acts.")
        text = isinstance(retry_after, str) and retry_after.isascii() and retry_after.isprintable()
        if not (retry_after is None or text or is_number(retry_after, -_MOST_SECONDS, _MOST_SECONDS)):
            raise ConfigurationError(f"retry_after must be a number up to {_MOST_SECONDS:,}, or printable ASCII text.")
        return cls(
            kind="status" if by_status else str(fault),
            status_code=int(fault) if by_status else None,
            retry_after=retry_after,
            seconds=float(seconds or 0.0),
            body=checked_json(body, "body"),
            acted=acted,
        )

    @property
    def acts(self) -> bool:
        """Whether the mock carries the request out."""
        return self.acted or self.kind not in {"status", "reset"}

    def to_dict(self) -> dict[str, Any]:
        """Give the fault as `/_mock/faults` shows it."""
        return attrs.asdict(self)


class RandomFaults:
    """What goes wrong with a share of all requests.

    Args:
        rate: The share, from 0 to 1.
        faults: What may go wrong, each as the arguments of `Fault.of` by name.
        seed: Makes the draw the same each time.

    Raises:
        ConfigurationError: An argument may not be used.
    """

    def __init__(self, rate: float, faults: Sequence[Mapping[str, Any]], seed: int | None) -> None:
        if not is_number(rate, 0, 1):
            raise ConfigurationError("rate must be a number from 0 to 1.")
        if not isinstance(faults, list | tuple) or not faults:
            raise ConfigurationError("faults must be a list of at least one JSON object.")
        if not (seed is None or isinstance(seed, int)):
            raise ConfigurationError("seed must be a whole number.")
        self._rate = rate
        self._faults = [
            call_with_fields(Fault.of, dict(fault) if isinstance(fault, Mapping) else fault) for fault in faults
        ]
        self._random = random.Random(seed)  # noqa: S311 - no secret

    def draw(self) -> Fault | None:
        """Draw what goes wrong with the next request, if anything does."""
        return self._random.choice(self._faults) if self._random.random() < self._rate else None
