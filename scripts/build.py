"""Build wheel and sdist into dist/: the same bytes from the same commit, and nothing in them that should not be.

Usage: python -m scripts.build, by way of `make build`
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from scripts.process import ROOT, ScriptError, git, run

DIST = ROOT / "dist"


def build(folder: Path, *options: str) -> dict[str, bytes]:
    """Build into a new folder, with the tools that are installed; without options, an sdist and a wheel from it."""
    # All files in what is built bear the time of the last commit.
    time = os.environ.get("SOURCE_DATE_EPOCH") or git(ROOT, "log", "-1", "--format=%ct")
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(folder), str(ROOT)]
    run(command, env={**os.environ, "SOURCE_DATE_EPOCH": time})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main() -> None:
    """Run the command."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            dist = Path(folder, "first")
            built = build(dist)
            if build(Path(folder, "again")) != built:
                raise ScriptError("Building again produces different bytes.")
            for name, content in build(Path(folder, "directly"), "--wheel").items():
                if built[name] != content:
                    raise ScriptError(f"The sdist produces a different {name}.")
            run([sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())])
            run([sys.executable, "-m", "check_wheel_contents", *map(str, dist.glob("*.whl"))])
            shutil.rmtree(DIST, ignore_errors=True)
            shutil.copytree(dist, DIST)
    except ScriptError as error:
        sys.exit(str(error))
    for name, content in sorted(built.items()):
        print(f"dist/{name}  {len(content):,} bytes  sha256 {sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
