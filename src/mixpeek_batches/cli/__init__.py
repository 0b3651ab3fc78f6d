"""The command `mixpeek-batches`. Needs the [cli] extra; its `mock` needs [mock] too.

Results go to stdout, messages to stderr. Exit codes: 0 all cancelled, 1 some not, 2 wrong usage or configuration,
130 interrupted.

What `--help` and `--version` need is loaded at the start: no HTTP client, and nothing that shows progress.
"""

from __future__ import annotations

import io
import sys

try:
    import click
except ModuleNotFoundError as _error:
    print(f"mixpeek-batches: the command needs {_error.name}: pip install 'mixpeek-batches[cli]'", file=sys.stderr)
    sys.exit(2)

from .cancel import cancel
from .completion import completion
from .mock import mock
from .terminal import drop_stdout, say

__all__ = ["app", "main"]


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - slow to load

        print(f"mixpeek-batches {version('mixpeek-batches')}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def app() -> None:
    """Cancel batches of a Mixpeek bucket, or run a mock of the API that does."""


app.add_command(cancel)
app.add_command(mock)
app.add_command(completion)


def main() -> None:
    """Run the command with the arguments of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    try:
        try:
            app(prog_name="mixpeek-batches")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:  # whatever else may go wrong is told where it does
        drop_stdout()
        say(f"The output could not be written: {error.strerror}.")
        sys.exit(1)
