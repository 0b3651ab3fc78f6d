"""Output of the command: messages on stderr, escaped for a terminal, and JSON lines on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mixpeek_batches.errors import ConfigurationError

INTERRUPTED = 130  # the exit code


def say(*lines: str) -> None:
    """Write a message of one or more lines to stderr."""
    for number, line in enumerate(lines):
        sys.stderr.write(f"{'' if number else 'mixpeek-batches: '}{escaped(line)}\n")
    sys.stderr.flush()


def escaped(text: str) -> str:
    """Escape everything that is not printable, so that text from elsewhere cannot control the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Write a number with its noun: `1 batch`, `2,000 batches`. Without a plural, an s is appended."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def counted_batches(count: int) -> str:
    """Write a number of batches."""
    return counted(count, "batch", "batches")


def namespace_text(namespace: str | None) -> str:
    """Name a namespace in a sentence."""
    return "the key's default namespace" if namespace is None else f"namespace {namespace}"


def print_json(entry: dict[str, Any]) -> None:
    """Print an object as one line on stdout.

    Raises:
        OSError: If it cannot be written.
    """
    print(json.dumps(entry), flush=True)


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from None
