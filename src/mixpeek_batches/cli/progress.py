"""Progress of a run on stderr: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import IO, TYPE_CHECKING, Any, Self

from mixpeek_batches.errors import APIStatusError

from .summary import Summary
from .terminal import counted, print_json, say

if TYPE_CHECKING:
    from mixpeek_batches._bulk import ThreadRun

_REFRESH = 0.25  # seconds between two updates of the bar
_FIRST_LINE, _LONGEST_PAUSE = 5.0, 60.0  # seconds before the first line, and at most between two lines


class Progress:
    """Shows the progress of a run, even while no results arrive.

    Args:
        summary: The counts.
        run: The run.
        signals: The signals that were received; after the first one the run is stopping.
        grace: Seconds that requests in flight then have.
    """

    def __init__(self, summary: Summary, run: ThreadRun, signals: list[int], grace: float) -> None:
        self._summary = summary
        self._scheduler = run.scheduler
        self._signals = signals
        self._grace = grace
        self._over = threading.Event()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415 - slow to load

            columns = os.get_terminal_size(sys.stderr.fileno()).columns  # 0 if unknown, as on a serial line
            tqdm.monitor_interval = 0  # its thread is not needed beside ours
            self._bar = tqdm(
                total=summary.total,
                file=sys.stderr,
                leave=False,
                dynamic_ncols=columns > 0,
                ncols=None if columns else 80,
                nrows=None if columns else 24,
                desc=self._state(),
                miniters=1,
                mininterval=_REFRESH,
                bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}: {desc}, {rate_fmt}, {remaining} left",
                unit="",
            )
        self._thread = threading.Thread(target=self._update, name="mixpeek-batches-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(1.0)
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """Move the bar by one result."""
        if self._bar is not None:
            self._bar.update()

    def print(self, entry: dict[str, Any]) -> None:
        """Print a result on stdout.

        Raises:
            OSError: If it cannot be written.
        """
        with self._above_bar(sys.stdout) if sys.stdout.isatty() else nullcontext():
            print_json(entry)

    def _above_bar(self, stream: IO[str]) -> AbstractContextManager[Any]:
        """Clear the bar while something is written to the terminal, and redraw it below."""
        return nullcontext() if self._bar is None else self._bar.external_write_mode(stream)

    def _update(self) -> None:
        pause, is_stopping = _FIRST_LINE, False
        line_due = time.monotonic() + pause
        while not self._over.wait(_REFRESH):
            if self._signals and not is_stopping:
                is_stopping = True
                with self._above_bar(sys.stderr):
                    requests = counted(self._scheduler.in_flight, "request")
                    say(f"Stopping after {requests} in flight, {self._grace:g} s at most; Ctrl-C stops at once.")
            if self._bar is not None:
                self._bar.set_description_str(self._state(), refresh=True)
            elif time.monotonic() >= line_due:
                done = f"{self._summary.done:,} of {self._summary.total:,}"
                say(f"{done}: {self._state()}, {self._summary.rate:,.0f}/s")
                pause = min(2 * pause, _LONGEST_PAUSE)
                line_due = time.monotonic() + pause

    def _state(self) -> str:
        text = f"{self._summary.canceled:,} cancelled, {self._summary.failed:,} failed"
        if self._scheduler.held_back is not None:
            until, error = self._scheduler.held_back
            seconds = until - time.monotonic()
            if seconds > _REFRESH:
                assert isinstance(error, APIStatusError)
                text += f", held back for {seconds:.0f} s by a {error.status_code}"
        return text
