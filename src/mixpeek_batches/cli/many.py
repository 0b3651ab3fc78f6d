"""`mixpeek-batches cancel --from`: all batches of a file."""

from __future__ import annotations

import logging
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mixpeek_batches.errors import ConfigurationError

from .inputs import LINE_FORMAT, Found, Pair, read_batches
from .progress import Progress
from .record import ResultFile
from .summary import Summary
from .terminal import INTERRUPTED, counted, counted_batches, namespace_text, say

if TYPE_CHECKING:
    from types import FrameType

    from mixpeek_batches import Client
    from mixpeek_batches._bulk import ThreadRun

_GRACE = 5.0  # seconds for requests in flight to complete once the run is stopping
_ECHO = 0.5  # seconds in which another signal is the same one: timeout(1) sends it to the process and to its group
_LISTED = 20  # lines that cannot be used
_EXAMPLES = 3  # batches of a plan

_Write = Callable[[dict[str, Any]], None]


class Options(NamedTuple):
    """The options of the command that need --from; see its help."""

    source: str
    columns: str | None
    concurrency: int
    max_rate: float | None
    resume: Path | None
    output: Path | None
    skip_invalid: bool
    yes: bool
    dry_run: bool


def cancel_many(client: Client, options: Options, key: str) -> int:
    """Cancel all batches of a file and return the exit code.

    Args:
        client: The client.
        options: The options.
        key: Where the API key came from.

    Raises:
        ConfigurationError: If something is wrong; nothing was sent.
    """
    for name, path in (("--resume", options.resume), ("--from", Path(options.source))):
        if options.output is not None and path is not None and options.output.resolve() == path.resolve():
            raise ConfigurationError(f"--output and {name} name the same file.")
    found = read_batches(options.source, options.columns, client.namespace)
    _report_lines(found, options)
    with ExitStack() as stack:
        pairs = found.pairs
        writers: list[_Write] = []
        if options.resume is not None:
            record = stack.enter_context(ResultFile(options.resume, client.base_url))
            writers.append(record.add)
            pairs = [pair for pair in pairs if pair not in record.canceled]
            if skipped := len(found.pairs) - len(pairs):
                say(
                    f"Skipping {skipped:,} of {counted_batches(len(found.pairs))}, which the record lists as cancelled."
                )
        if not pairs:
            say("There is nothing left to cancel." if found.pairs else "There is nothing to cancel.")
        elif options.dry_run:
            say(*_plan("Would cancel", pairs, client.base_url), "Nothing was sent.")
            return 0
        elif len(pairs) > 1 and not options.yes and not _is_confirmed(pairs, client.base_url):
            say("Nothing was sent.")
            return 1
        else:
            if options.output is not None:
                output = ResultFile(options.output, new=options.resume is None)
                writers.append(stack.enter_context(output).add)
            if code := _run(client, pairs, options, key, writers):
                return code
        return 1 if found.invalid else 0


def _run(client: Client, pairs: list[Pair], options: Options, key: str, writers: list[_Write]) -> int:
    logging.getLogger("mixpeek_batches").handlers = [logging.NullHandler()]  # there may be thousands of retries
    summary = Summary(len(pairs), key, client.base_url)
    run = client._run(pairs, options.concurrency, None, options.max_rate)
    signals: list[int] = []
    write_error = ""
    with (
        _stop_on_signals(run, signals),
        Progress(summary, run, signals, _GRACE) as progress,
        closing(run.results()) as results,
    ):
        if options.output is None:
            writers = [*writers, progress.print]
        for result in results:
            entry = result.to_dict()
            for write in writers:
                try:
                    write(entry)
                except OSError as error:
                    write_error = error.strerror or str(error)
                    run.stop(_GRACE)
            summary.add(result)
            progress.advance()
    is_interrupted = bool(signals) and not write_error
    if write_error:
        say(f"Stopped, because a result could not be written: {write_error}.")
    elif summary.stopped_by is not None and not is_interrupted:
        say(f"Stopped early, {counted_batches(summary.unsent)} not sent. {summary.stopped_by}.")
    counts, *causes = summary.lines()
    say(("Interrupted: " if is_interrupted else "") + counts, *causes)
    if left := summary.retryable + summary.total - summary.done:
        _say_how_to_retry(left, options)
    if is_interrupted:
        return INTERRUPTED
    return 1 if write_error or summary.canceled < summary.total else 0


def _report_lines(found: Found, options: Options) -> None:
    """Report lines that cannot be used or repeat a batch; exit if invalid ones are not to be skipped."""
    if found.invalid:
        lines = found.invalid[:_LISTED]
        if len(found.invalid) > _LISTED:
            lines.append(f"… and {len(found.invalid) - _LISTED:,} more")
        these = counted(len(found.invalid), "line")
        if not options.skip_invalid:
            say(*lines, LINE_FORMAT, f"{these} cannot be used. Nothing was sent; --skip-invalid skips such lines.")
            click.get_current_context().exit(2)
        say(*lines, LINE_FORMAT, f"{these} skipped.")
    if found.repeated:
        say(f"{counted(found.repeated, 'line repeats', 'lines repeat')} a batch; each batch is sent once.")


def _plan(verb: str, pairs: list[Pair], server: str) -> list[str]:
    """Describe which batches are to be cancelled where."""
    buckets = {bucket for bucket, _, _ in pairs}
    namespaces = {namespace for _, _, namespace in pairs}
    where = namespace_text(pairs[0][2]) if len(namespaces) == 1 else f"{len(namespaces):,} namespaces"
    lines = [f"{verb} {counted_batches(len(pairs))} of {counted(len(buckets), 'bucket')} in {where} at {server}:"]
    for bucket, batch, namespace in pairs[:_EXAMPLES]:
        lines.append(f"  {batch} of {bucket}" + (f" in {namespace_text(namespace)}" if len(namespaces) > 1 else ""))
    if len(pairs) > _EXAMPLES:
        lines.append(f"  … and {len(pairs) - _EXAMPLES:,} more")
    return lines


def _is_confirmed(pairs: list[Pair], server: str) -> bool:
    """Ask whether to start.

    Raises:
        ConfigurationError: If nobody can be asked.
    """
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(
            f"There is no terminal to ask on: pass --yes to cancel {counted_batches(len(pairs))}. Nothing was sent."
        )
    say(*_plan("About to cancel", pairs, server))
    print("Continue? [y/N]: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _say_how_to_retry(count: int, options: Options) -> None:
    batches = counted_batches(count)
    if options.resume is not None:
        stdin = "… | " if options.source == "-" else ""
        say(f"To retry {batches}:", f"  {stdin}{shlex.join(['mixpeek-batches', *sys.argv[1:]])}")
        return
    elsewhere = ""
    if options.output is not None:
        elsewhere = ", with another --output"
    elif not sys.stdout.isatty():  # > would overwrite the results
        elsewhere = ", with another file for the results"
    say(
        f"To retry {batches}, run the same command again{elsewhere}; what is cancelled stays cancelled.",
        "With --resume FILE, a run keeps a record, and the next one skips what is cancelled.",
    )


@contextmanager
def _stop_on_signals(run: ThreadRun, signals: list[int]) -> Iterator[None]:
    """Shut the run down cleanly on the first signal; on the second, abandon what is in flight."""
    first = math.inf

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        signals.append(number)
        first = min(first, time.monotonic())
        run.stop(_GRACE if time.monotonic() < first + _ECHO else 0.0)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    previous = {number: signal.getsignal(number) for number in numbers}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:  # set by nohup
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
