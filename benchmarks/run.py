"""Measure side by side with what a user would pick instead, and record it for README and the documentation.

Usage: python benchmarks/run.py [--only GROUP] [--quick]

Contestants are measured in turn (A, B, A, B …), each in a process and an environment of its own. Each figure is time
or memory; a ratio is the median of the ratios of neighbours. With --quick nothing is recorded.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import environments, limits, results
from benchmarks.groups import groups
from mixpeek_batches import __version__


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Measure side by side with what a user would pick instead.")
    parser.add_argument("--only", metavar="GROUP", choices=results.GROUPS, help=f"one of {', '.join(results.GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="less of it, within half a minute a group; not recorded")
    options = parser.parse_args()
    cases = groups(quick=options.quick)
    for name in [options.only] if options.only else results.GROUPS:
        needed = {contestant.environment for case in cases.get(name, []) for contestant in case.contestants.values()}
        missing = environments.prepare({*(needed or {"ours", "httpx"}), "server"})
        load, started = os.getloadavg()[0], time.monotonic()
        if name != "limits":
            measured = [result for case in cases[name] for result in case.measure(missing, quick=options.quick)]
        elif missing:
            sys.exit("; ".join(missing.values()))
        else:
            measured = limits.measure(quick=options.quick)
        for result in measured:
            print(f"{name}: " + " | ".join(result.cells()))
        made = (
            f"`make bench ONLY={name}`, {datetime.now(UTC).date()}, version {__version__}, "
            f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load:.1f} before"
        )
        print(f"{made}, {time.monotonic() - started:.0f} s", flush=True)
        if not options.quick:
            results.write(name, made, measured)


if __name__ == "__main__":
    main()
