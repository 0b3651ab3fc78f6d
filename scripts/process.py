"""What the scripts share: where the checkout is, how to run a program, and the error that stops a script."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class ScriptError(Exception):
    """Why a script stops, in words for whoever runs it."""


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it wrote to stdout.

    Raises:
        ScriptError: If it fails.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=env)
    if done.returncode != 0:
        raise ScriptError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout.strip()


def git(root: Path, *arguments: str) -> str:
    """Run git in a checkout."""
    return run(["git", *arguments], cwd=root)
