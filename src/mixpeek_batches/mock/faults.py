"""What can be made to go wrong."""

from __future__ import annotations

from typing import Any, Self, TypeGuard

import attrs

from mixpeek_batches.errors import ConfigurationError

_MOST_SECONDS = 10**12  # that a Retry-After may say; some 30,000 years
KINDS = ("status", "latency", "reset", "truncated", "malformed")


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
        retry_after: float | str | None,
        seconds: float | None,
        body: Any,
        acted: bool,
    ) -> Self:
        """Make a fault of the arguments of `MockState.fail_next`.

        Raises:
            ConfigurationError: An argument may not be used, or does not go with the others.
        """
        number = isinstance(fault, int) and not isinstance(fault, bool)
        if not (number and 200 <= int(fault) <= 599) and fault not in KINDS[1:]:
            raise ConfigurationError(
                f"fault must be an HTTP status code from 200 to 599 or one of {', '.join(KINDS[1:])}, not {fault!r}."
            )
        if not number and (retry_after is not None or body is not None):
            raise ConfigurationError(f"retry_after and body go with a status code, not with {fault!r}.")
        if fault == 200 and body is None:
            raise ConfigurationError("fault 200 needs a body: without one, nothing goes wrong.")
        if (fault == "latency") != (seconds is not None):
            raise ConfigurationError("seconds is needed for latency, and goes with nothing else.")
        if seconds is not None and not (_is_number(seconds) and 0 <= seconds <= 3600):
            raise ConfigurationError("seconds must be a number from 0 to 3600.")
        if not isinstance(acted, bool):
            raise ConfigurationError(f"acted must be true or false, not {acted!r}.")
        if acted and not (number or fault == "reset"):
            raise ConfigurationError(f"acted goes with a status code or reset; {fault} always acts.")
        _check_header(retry_after)
        return cls(
            kind="status" if number else str(fault),
            status_code=int(fault) if number else None,
            retry_after=retry_after,
            seconds=float(seconds or 0.0),
            body=body,
            acted=acted,
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the fault as `/_mock/faults` shows it."""
        return attrs.asdict(self)


def _check_header(retry_after: object) -> None:
    text = isinstance(retry_after, str) and retry_after.isascii() and retry_after.isprintable()
    finite = _is_number(retry_after) and -_MOST_SECONDS <= retry_after <= _MOST_SECONDS
    if not (retry_after is None or text or finite):
        raise ConfigurationError(f"retry_after must be a number up to {_MOST_SECONDS:,}, or printable ASCII text.")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
