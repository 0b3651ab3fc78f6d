"""Build wheel and sdist into dist/: the same bytes from the same commit, and nothing in them that should not be.

Usage: python -m scripts.build, by way of `make build`
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import HeaderParser
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(source: Path, output: Path, kind: str, environment: dict[str, str]) -> Path:
    """Build one artefact with the tools that are installed, at the versions that the project pins.

    Args:
        source: The folder with pyproject.toml.
        output: A new folder to write into.
        kind: `wheel` or `sdist`.
        environment: The environment to run in.
    """
    run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(output), str(source)],
        environment,
    )
    return next(output.iterdir())


def run(command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Run a command, and give what it wrote.

    Raises:
        SystemExit: It failed; with what it wrote.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def commit_time() -> str:
    """Give the time of the last commit, which all files in the artefacts bear."""
    return run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]).strip()


def require_same(first: Path, second: Path, what: str) -> None:
    """Refuse two artefacts that differ."""
    if first.read_bytes() != second.read_bytes():
        sys.exit(f"{what} gives another {first.name}.")


def check_metadata(wheel: Path) -> None:
    """Refuse a wheel that does not say what an index shows of it."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    metadata = HeaderParser().parsestr(text)
    missing = [
        name
        for name in (
            "Name",
            "Version",
            "Summary",
            "License-Expression",
            "Requires-Python",
            "Classifier",
            "Provides-Extra",
        )
        if not metadata[name]
    ]
    missing += [] if any(name.endswith("/licenses/LICENSE") for name in names) else ["the text of the licence"]
    missing += [f"{package}/py.typed" for package in ("mixpeek_batches", "mixpeek_batches_api") if
                f"{package}/py.typed" not in names]  # fmt: skip
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}.")


def main() -> None:
    """Run the command."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or commit_time()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = {}
        for kind in ("sdist", "wheel"):
            built[kind] = build(ROOT, folder / kind, kind, environment)
            require_same(built[kind], build(ROOT, folder / f"{kind}-again", kind, environment), "Building again")
        with tarfile.open(built["sdist"]) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        unpacked = next((folder / "unpacked").iterdir())
        require_same(built["wheel"], build(unpacked, folder / "from-sdist", "wheel", environment), "The sdist")
        paths = [str(path) for path in built.values()]
        run([sys.executable, "-m", "twine", "check", "--strict", *paths])
        run([sys.executable, "-m", "check_wheel_contents", str(built["wheel"])])
        check_metadata(built["wheel"])
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        (ROOT / "dist").mkdir()
        for path in built.values():
            shutil.copy(path, ROOT / "dist")
            print(f"dist/{path.name}  {path.stat().st_size:,} bytes  sha256 {sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
