"""Run other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandError(Exception):
    """A program that failed, with what it wrote."""


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it wrote to stdout.

    Raises:
        CommandError: It failed.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=env)
    if done.returncode != 0:
        raise CommandError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout.strip()


def git(root: Path, *arguments: str) -> str:
    """Run git in a checkout."""
    return run(["git", *arguments], cwd=root)
