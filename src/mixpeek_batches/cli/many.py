"""`mixpeek-batches cancel --from`: all batches of a file."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpeek_batches.errors import ConfigurationError

from .inputs import Batches, Scan
from .progress import Progress
from .record import Record, ResultFile
from .summary import Settings, Summary
from .terminal import INTERRUPTED, batches, counted, namespace_text, say, shown

if TYPE_CHECKING:
    from types import FrameType

    from mixpeek_batches import Client
    from mixpeek_batches._bulk import ThreadRun

_GRACE = 5.0  # seconds that requests in flight have to end, once the run is to stop


class Options(NamedTuple):
    """The options of the command that are about many; see its help."""

    source: str
    key: str
    timeout: float
    columns: str | None
    concurrency: int
    max_rate: float | None
    resume: Path | None
    output: Path | None
    skip_invalid: bool
    yes: bool
    dry_run: bool


def cancel_many(client: Client, options: Options) -> int:
    """Cancel all batches of a file, and give the exit code.

    Raises:
        ConfigurationError: Something is wrong, and nothing was sent.
    """
    if options.output is not None and options.resume is not None and _same(options.output, options.resume):
        raise ConfigurationError("--output and --resume name the same file: the record has all results by itself.")
    if options.source != "-" and options.output is not None and _same(options.output, Path(options.source)):
        raise ConfigurationError("--output and --from name the same file.")
    with ExitStack() as stack:
        todo = stack.enter_context(Batches(options.source, options.columns))
        record = None if options.resume is None else stack.enter_context(Record(options.resume, client.base_url))
        found = todo.scan(client.namespace, (lambda _: False) if record is None else record.has)
        _say_what_is_left_out(found, options)
        if not found.left:
            say("There is nothing left to cancel." if found.recorded else "There is nothing to cancel.")
            return 1 if found.wrong_count else 0
        plan = _plan(found, client.base_url)
        if options.dry_run:
            say(f"Would cancel {plan}\nNothing was sent.")
            return 0
        if found.left > 1 and not options.yes and not _agreed(found, plan):
            say("Nothing was sent.")
            return 1
        keep: list[Callable[[dict[str, Any]], None]] = []
        if options.output is not None:
            go_on = None if record is None else lambda _line, _number: None
            keep.append(stack.enter_context(ResultFile(options.output, go_on)).add)
        if record is not None:
            keep.append(record.add)
        return _run(client, todo, found, options, keep)


def _run(
    client: Client,
    todo: Batches,
    found: Scan,
    options: Options,
    keep: list[Callable[[dict[str, Any]], None]],
) -> int:
    logging.getLogger("mixpeek_batches").setLevel(logging.ERROR)  # there may be thousands of retries
    summary, unwritten = Summary(found.left, Settings(options.key, client.base_url, options.timeout)), ""
    run = client._run(todo, options.concurrency, None, options.max_rate)
    signals: list[int] = []
    with (
        _stopped_by_signals(run, signals),
        Progress(summary, run, signals) as progress,
        closing(run.results()) as results,
    ):
        outputs = keep if options.output is not None else [*keep, progress.print]
        for result in results:
            entry = result.to_dict()
            for write in outputs:
                try:
                    write(entry)
                except OSError as error:
                    unwritten = error.strerror or str(error)
                    run.stop(_GRACE)
            summary.add(result)
            progress.add()
    if unwritten:
        say(f"Stopped, because a result could not be written: {unwritten}.")
    interrupted = bool(signals) and not unwritten
    if summary.given_up and not interrupted:
        say(f"Stopped early, {batches(summary.unsent)} not sent. {summary.given_up}.")
    say(("Interrupted: " if interrupted else "") + summary.text())
    if summary.again or summary.done < summary.total:
        _say_how_to_go_on(options, summary)
    if interrupted:
        return INTERRUPTED
    return 1 if unwritten or found.wrong_count or summary.canceled < found.left else 0


def _say_what_is_left_out(found: Scan, options: Options) -> None:
    if found.wrong_count:
        lines = [shown(line) for line in found.wrong]
        if found.wrong_count > len(lines):
            lines.append(f"… and {found.wrong_count - len(lines):,} more")
        if found.hint:
            lines.append(found.hint)
        these = counted(found.wrong_count, "line")
        if not options.skip_invalid:
            which = "it" if found.wrong_count == 1 else "them"
            lines.append(f"{these} cannot be used. Nothing was sent; --skip-invalid leaves {which} out.")
            raise ConfigurationError("\n".join(lines))
        say("\n".join([*lines, f"{these} left out."]))
    if found.repeated:
        these = counted(found.repeated, "line names", "lines name")
        say(f"{these} a batch that was named before; each batch is sent once.")
    if found.recorded:
        all_of_them = found.left + found.recorded
        say(f"{found.recorded:,} of {batches(all_of_them)} are on record as cancelled, and left out.")


def _plan(found: Scan, server: str) -> str:
    """Say how many batches of what are to be cancelled where, and show the first few."""
    if len(found.namespaces) == 1:
        (namespace,) = found.namespaces
        where = f"in {namespace_text(namespace)}"
    else:
        where = f"in {len(found.namespaces):,} namespaces"
    lines = [f"{batches(found.left)} of {counted(len(found.buckets), 'bucket')} {where} at {server}:"]
    for bucket, batch, namespace in found.examples:
        where = f" in {namespace_text(namespace)}" if len(found.namespaces) > 1 else ""
        lines.append(f"  {shown(batch)} of {shown(bucket)}{where}")
    if found.left > len(found.examples):
        lines.append(f"  … and {found.left - len(found.examples):,} more")
    return "\n".join(lines)


def _agreed(found: Scan, plan: str) -> bool:
    """Ask whether to begin.

    Raises:
        ConfigurationError: There is nobody to ask.
    """
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()):
        raise ConfigurationError(
            f"There is no terminal to ask at: pass --yes to cancel {batches(found.left)}. Nothing was sent."
        )
    say(f"About to cancel {plan}")
    print("Go on? [y/N]: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _say_how_to_go_on(options: Options, summary: Summary) -> None:
    todo = summary.again + summary.total - summary.done
    those = "it" if todo == 1 else f"those {todo:,}"
    if options.resume is not None:
        line = shlex.join(["mixpeek-batches", *sys.argv[1:]])
        say(f"To try {those} again:\n  {'… | ' if options.source == '-' else ''}{shown(line)}")
        return
    elsewhere = " with another --output" if options.output is not None else ""
    if options.output is None and sys.stdout is not None and stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        elsewhere = ", with another file for the results,"  # which > would overwrite
    say(
        f"To try {those} again, run the same line{elsewhere} again: what is cancelled already stays so.\n"
        "With --resume FILE, which keeps a record, a run leaves out what an earlier one has cancelled."
    )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


@contextmanager
def _stopped_by_signals(run: ThreadRun, signals: list[int]) -> Iterator[None]:
    """Let a signal shut the run down cleanly: completed work is recorded. A second one gives up what is in flight."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        run.stop(_GRACE if len(signals) == 1 else 0.0)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    old = {number: signal.getsignal(number) for number in numbers}
    for number, handler in old.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
