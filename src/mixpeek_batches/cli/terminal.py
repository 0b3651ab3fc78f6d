"""What the command says: messages on stderr, harmless for a terminal, and errors in the words of its options."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mixpeek_batches.errors import ConfigurationError

INTERRUPTED = 130


def say(text: str) -> None:
    """Write a message to stderr, a line of it after the other."""
    for number, line in enumerate(text.split("\n")):
        print(line if number else f"mixpeek-batches: {line}", file=sys.stderr, flush=True)


def shown(text: str) -> str:
    """Make text from elsewhere harmless for a terminal: what cannot be printed is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: `1 batch`, `2 batches`.

    Args:
        count: How many.
        one: The noun for one.
        many: For more; without it, `one` and an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def batches(count: int) -> str:
    """Write a number of batches."""
    return counted(count, "batch", "batches")


def namespace_text(namespace: str | None) -> str:
    """Name a namespace."""
    return "the key's default namespace" if namespace is None else f"namespace {shown(namespace)}"


@contextmanager
def reported() -> Iterator[None]:
    """Turn what may go wrong before anything was sent into a sentence and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        say("\n".join(map(shown, _in_options(str(error)).split("\n"))))
        raise click.exceptions.Exit(2) from None
    except KeyboardInterrupt:
        say("Interrupted.")
        raise click.exceptions.Exit(INTERRUPTED) from None


def _in_options(text: str) -> str:
    """Say in the options of the command what the client says in arguments of Python."""
    if text.startswith("No API key"):
        return "No API key: set MIXPEEK_API_KEY, or name a file that holds it by --api-key-file."
    text = re.sub(r"^base_url\b", "--base-url", text)
    return re.sub(r"or pass allow_http if that is meant\.$", "or pass --allow-http if that is meant.", text)


def print_json(entry: dict[str, Any]) -> None:
    """Print an object as a line on stdout.

    Raises:
        OSError: It could not be written.
    """
    try:
        print(json.dumps(entry), flush=True)
    except OSError:
        drop_stdout()
        raise


def drop_stdout() -> None:
    """Write to stdout in vain from now on: what is in its buffer would fail again at exit, and change the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read(path: Path) -> str:
    """Read a file of text.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from None
