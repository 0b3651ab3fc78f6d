"""The command `mixpeek-batches`. Needs the [cli] extra; its `mock` also needs [mock].

Results go to stdout, messages to stderr. Exit codes: 0 all cancelled, 1 some not, 2 wrong usage or configuration,
130 interrupted.

`--help` and `--version` import neither an HTTP client nor a progress bar, so that they start quickly.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

try:
    import click
except ModuleNotFoundError as _error:
    print(f"mixpeek-batches: the command needs {_error.name}: pip install 'mixpeek-batches[cli]'", file=sys.stderr)
    sys.exit(2)

from mixpeek_batches.errors import ConfigurationError

from .cancel import cancel
from .completion import completion
from .mock import mock
from .terminal import INTERRUPTED, say

__all__ = ["app", "main"]


class _App(click.Group):
    """Reports an error that prevents a command from starting in one sentence, and Ctrl-C by its exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            say(_in_options(str(error)))
            ctx.exit(2)
        except KeyboardInterrupt:
            say("Interrupted.")
            ctx.exit(INTERRUPTED)


def _in_options(text: str) -> str:
    """Replace what the client calls its arguments by the options of the command."""
    if text.startswith("No API key"):
        return "No API key: set MIXPEEK_API_KEY, or name a file that holds it with --api-key-file."
    text = re.sub(r"^base_url\b", "--base-url", text)
    return re.sub(r"\ballow_http\b", "--allow-http", text)


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mixpeek-batches", message="%(prog)s %(version)s")
def app() -> None:
    """Cancel batches of a Mixpeek bucket, or run a mock of the API."""


app.add_command(cancel)
app.add_command(mock)
app.add_command(completion)


def main() -> None:
    """Run the command with the arguments of this process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until exit
        else:
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack UTF-8
    try:
        try:
            app(prog_name="mixpeek-batches")
        finally:
            sys.stdout.flush()
    except OSError as error:  # any other is reported where it occurs
        say(f"The output cannot be written: {error.strerror}.")
        sys.exit(1)
