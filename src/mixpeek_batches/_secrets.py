"""The API key: the only place that reads it, to send it and to redact it everywhere else."""

from __future__ import annotations

import re
from typing import Any

_REDACTED = "[API key]"


class Secret:
    """Holds the API key, adds it to a request, and shows it nowhere else."""

    def __init__(self, key: str) -> None:
        self._key: Any = key  # it may be anything until `problem` has looked

    def __repr__(self) -> str:
        return "Secret()"

    __str__ = __repr__

    def __bool__(self) -> bool:
        """Whether there is a key."""
        return bool(self._key)

    def sign(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Add the key, if there is one, to the headers of a request (RFC 6750, section 2.1)."""
        if self._key:
            headers.append((b"Authorization", b"Bearer " + self._key.encode()))

    def problem(self) -> str | None:
        """Return why the key cannot be used, as a sentence, or None if it can."""
        if not isinstance(self._key, str):
            return "The API key must be a string."
        if not self._key:
            return "No API key: pass api_key or set MIXPEEK_API_KEY."
        if not re.fullmatch(r"[\x21-\x7e]+", self._key):
            return (
                "The API key holds a space, a line break or another character that no key has: check how it was read."
            )
        return None

    def redact(self, value: Any) -> Any:
        """Replace the key in strings, bytes and JSON values that a server sent."""
        if not self._key:
            return value
        if isinstance(value, str):
            return value.replace(self._key, _REDACTED)
        if isinstance(value, bytes):
            return value.replace(self._key.encode(), _REDACTED.encode())
        if isinstance(value, list):
            return [self.redact(item) for item in value]
        if isinstance(value, dict):
            return {self.redact(name): self.redact(item) for name, item in value.items()}
        return value
