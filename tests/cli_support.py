"""Runs the command: as a process, from the installed wheel or from this checkout, or as a call within this process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mixpeek_batches.cli import main

ROOT = Path(__file__).parent.parent
WHEEL = ROOT / "build" / "demo" / "bin" / "mixpeek-batches"
KEY = "sk_cli_0123456789"

Done = subprocess.CompletedProcess[str]

wheel = pytest.mark.parametrize("command", ["wheel"], indirect=True)
"""Marks a test that runs the installed command."""

checkout = pytest.mark.parametrize("command", ["checkout"], indirect=True)
"""Marks a test that needs a process of its own, which may be of this checkout."""


def command_of(kind: str) -> list[str]:
    """Give what starts the command; nothing for `here`, which is a call within this process."""
    match kind:
        case "wheel":
            assert WHEEL.exists(), "the wheel is not installed: run `make test`"
            return [str(WHEEL)]
        case "checkout":
            return [sys.executable, "-m", "mixpeek_batches.cli"]
        case _:
            return []


def run(
    command: list[str], arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"", **options: Any
) -> Done:
    """Run the command to its end; the key and tracebacks must not show in what it says."""
    if command:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        ran = subprocess.run([*command, *arguments], check=False, input=stdin, env=environment, timeout=60, **options)
        out, err = ((stream or b"").decode() for stream in (ran.stdout, ran.stderr))
        done = Done(ran.args, ran.returncode, out, err)
    else:
        assert not options
        done = _call(arguments, environment, stdin)
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


def _call(arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes) -> Done:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="")) for _ in range(3)]
        streams[0].buffer.write(stdin)
        streams[0].seek(0)
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            stack.enter_context(mock.patch.object(sys, name, stream))
        stack.enter_context(mock.patch.object(sys, "argv", ["mixpeek-batches", *arguments]))
        stack.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        stack.enter_context(_put_back())
        code: Any = None
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        texts = []
        for stream in streams[1:]:
            stream.seek(0)
            texts.append(stream.read())
        return Done(list(arguments), int(code or 0), *texts)


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    """Put back what a process leaves behind that is about to end."""
    logger, on_term = logging.getLogger("mixpeek_batches"), signal.getsignal(signal.SIGTERM)
    level, handlers = logger.level, list(logger.handlers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its files, which are closed with it
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.handlers[:] = handlers
            signal.signal(signal.SIGTERM, on_term)
