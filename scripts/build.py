"""Build wheel and sdist into dist/: the same bytes from the same commit, and nothing in them that should not be.

Usage: python -m scripts.build, by way of `make build`
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

from scripts.process import ScriptError, git, run

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def build(source: Path, output: Path, kind: str) -> Path:
    """Build a `wheel` or an `sdist` into a new folder, with the tools that are installed, as pinned."""
    # All files in what is built bear the time of the last commit.
    time = os.environ.get("SOURCE_DATE_EPOCH") or git(ROOT, "log", "-1", "--format=%ct")
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(output), str(source)]
    run(command, env={**os.environ, "SOURCE_DATE_EPOCH": time})
    (built,) = output.iterdir()
    return built


def require_same(first: Path, second: Path, what: str) -> None:
    """Raise a ScriptError for two files that differ."""
    if first.read_bytes() != second.read_bytes():
        raise ScriptError(f"{what} produces a different {first.name}.")


def build_twice(folder: Path) -> list[Path]:
    """Build sdist and wheel twice, and the wheel once more from the sdist, in a new folder; return one of each.

    Raises:
        ScriptError: Two of them differ.
    """
    sdist, wheel = (build(ROOT, folder / kind, kind) for kind in ("sdist", "wheel"))
    for first in (sdist, wheel):
        require_same(first, build(ROOT, folder / f"{first.parent.name}-again", first.parent.name), "Building again")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    require_same(wheel, build(unpacked, folder / "from-sdist", "wheel"), "The sdist")
    return [sdist, wheel]


def main() -> None:
    """Run the command."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = build_twice(Path(folder))
            run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)])
            run([sys.executable, "-m", "check_wheel_contents", str(built[1])])
            shutil.rmtree(DIST, ignore_errors=True)
            DIST.mkdir()
            for path in built:
                shutil.copy(path, DIST)
                digest = sha256(path.read_bytes()).hexdigest()
                print(f"dist/{path.name}  {path.stat().st_size:,} bytes  sha256 {digest}")
    except ScriptError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
