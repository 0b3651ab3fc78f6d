"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from mixpeek_batches.errors import APIStatusError, MixpeekError

from .summary import Summary
from .terminal import print_json, say, shown

if TYPE_CHECKING:
    from mixpeek_batches._bulk import ThreadRun

_REFRESH = 0.25  # seconds between two looks at the bar
_FIRST_LINE, _LONGEST_PAUSE = 5.0, 60.0  # seconds to the first line, and at most between two


class Progress:
    """Shows how far a run is, also while nothing comes in; on stderr.

    Args:
        summary: Counts.
        run: The run.
        interrupted: Not empty once the run is to stop.
    """

    def __init__(self, summary: Summary, run: ThreadRun, interrupted: list[int]) -> None:
        self._summary = summary
        self._run = run
        self._interrupted = interrupted
        self._over = threading.Event()
        self._line_due, self._pause = time.monotonic() + _FIRST_LINE, _FIRST_LINE
        self._told = False  # that it is stopping
        self._bar: Any = None
        # What is printed to a terminal goes above the bar; what is printed elsewhere must not come here.
        self._above = sys.stdout is not None and sys.stdout.isatty()
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415 - slow to load

            columns = os.get_terminal_size(sys.stderr.fileno()).columns  # 0 where nobody has told, as over serial lines
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
        self._thread = threading.Thread(target=self._tick, name="mixpeek-batches-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(1.0)
        if self._bar is not None:
            self._bar.close()

    def add(self) -> None:
        """Take note that there is another result."""
        if self._bar is not None:
            self._bar.update()

    def print(self, entry: dict[str, Any]) -> None:
        """Print a result on stdout.

        Raises:
            OSError: It could not be written.
        """
        with self._bar.external_write_mode(sys.stdout) if self._bar is not None and self._above else nullcontext():
            print_json(entry)

    def _tick(self) -> None:
        while not self._over.wait(_REFRESH):
            if self._interrupted and not self._told:
                self._told = True
                in_flight = self._run.scheduler.in_flight
                self._say(f"Stopping: at most 5 s for {in_flight} in flight; Ctrl-C again ends at once.")
            if self._bar is not None:
                self._bar.set_description_str(self._state(), refresh=True)
            elif time.monotonic() >= self._line_due:
                done = f"{self._summary.done:,} of {self._summary.total:,}"
                say(f"{done}: {self._state()}, {self._summary.rate():,.0f}/s")
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                self._line_due = time.monotonic() + self._pause

    def _say(self, text: str) -> None:
        with self._bar.external_write_mode(sys.stderr) if self._bar is not None else nullcontext():
            say(text)

    def _state(self) -> str:
        text = f"{self._summary.canceled:,} cancelled, {self._summary.failed:,} failed"
        held = self._run.scheduler.held_back
        if held is not None and (left := held[0] - time.monotonic()) > _REFRESH:
            text += f", held back for {left:.0f} s by {_reason(held[1])}"
        return text


def _reason(error: MixpeekError) -> str:
    return f"a {error.status_code}" if isinstance(error, APIStatusError) else shown(json.dumps(str(error)))
