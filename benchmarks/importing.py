"""Import a module, and print how long that took and how much memory this process has held at most.

Nothing else is imported before, since most of what the standard library brings is part of the cost.

Usage: python benchmarks/importing.py MODULE
"""

import sys
import time


def peak_memory() -> float:
    """Return the most memory that this process has held, in MiB."""
    try:
        # Not getrusage, whose peak counts the parent's memory from before this program was loaded.
        with open("/proc/self/status", encoding="ascii") as lines:  # noqa: PTH123 - pathlib is an import too
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except OSError:
        import resource  # noqa: PLC0415

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    started = time.perf_counter()
    __import__(sys.argv[1])
    seconds = time.perf_counter() - started
    print(f'{{"seconds": {seconds}, "mebibytes": {peak_memory()}}}')
