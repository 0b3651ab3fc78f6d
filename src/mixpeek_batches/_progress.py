"""How far a run of the command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ._results import CancelResult

_PERIOD = 5.0  # seconds between two lines
_REFRESH = 0.1  # seconds between two looks of the bar


class Tally:
    """Counts results by outcome, and shows them on stderr."""

    def __init__(self, total: int) -> None:
        """Begin to count.

        Args:
            total: How many results there will be.
        """
        self.total = total
        self.canceled = 0
        self.failed: Counter[str] = Counter()
        self._started = self._shown = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            text = TextColumn("[green]{task.fields[canceled]} cancelled[/] [red]{task.fields[failed]} failed[/]")
            rate = TextColumn("{task.fields[rate]}/s")
            columns = BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), text, rate, TimeRemainingColumn()
            # What is printed to a terminal goes above the bar, whole; what is printed elsewhere must not come here.
            console, above = Console(stderr=True, soft_wrap=True), sys.stdout is not None and sys.stdout.isatty()
            self._bar = Progress(*columns, console=console, auto_refresh=False, transient=True, redirect_stdout=above)
            self._task = self._bar.add_task("", total=total, canceled=0, failed=0, rate=0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def done(self) -> int:
        """How many results there were."""
        return self.canceled + self.failed.total()

    def add(self, result: CancelResult) -> None:
        """Count a result."""
        if result.canceled:
            self.canceled += 1
        elif result.error is not None:
            self.failed[type(result.error).__name__] += 1
        else:
            self.failed["not CANCELED"] += 1
        now = time.monotonic()
        if now - self._shown < (_PERIOD if self._bar is None else _REFRESH):
            return
        self._shown = now
        if self._bar is None:
            say = f"{self.done:,} of {self.total:,}: {self.canceled:,} cancelled, {self.failed.total():,} not"
            print(f"mixpeek-batches: {say}, {self._rate():,.0f}/s", file=sys.stderr, flush=True)
        else:
            self._bar.update(
                self._task,
                completed=self.done,
                refresh=True,
                canceled=self.canceled,
                failed=self.failed.total(),
                rate=f"{self._rate():,.0f}",
            )

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._started, 0.001)

    def summary(self) -> str:
        """Say how it ended."""
        seconds = time.monotonic() - self._started
        parts = [f"{self.canceled:,} of {self.total:,} cancelled in {seconds:,.1f} s ({self._rate():,.0f}/s)"]
        parts += [f"{count:,} {name}" for name, count in self.failed.most_common()]
        if self.done < self.total:
            parts.append(f"{self.total - self.done:,} not tried, or not known")
        return ", ".join(parts) + "."
