"""Install the wheel of dist/ as users would, in one clean environment after the other, and use it.

Usage: python -m scripts.verify [NAME ...], by way of `make build`. The names: wheel, each extra, types, lowest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement

from mixpeek_batches.mock import MockServer
from scripts.build import ROOT, run

# The client alone, on a mock that runs elsewhere: url, key, version, names of modules that must not be there.
CLIENT = """
import importlib.util, sys
import mixpeek_batches
from mixpeek_batches import Client, TaskStatus
url, key, version, *absent = sys.argv[1:]
assert mixpeek_batches.__version__ == version, mixpeek_batches.__version__
assert not [name for name in absent if importlib.util.find_spec(name)], absent
with Client(api_key=key, base_url=url) as client:
    assert client.cancel_batch("bkt_1", "btch_1").status is TaskStatus.CANCELED
"""
ASYNC = """
import asyncio, sys
from mixpeek_batches import AsyncClient, TaskStatus
async def main(url, key):
    async with AsyncClient(api_key=key, base_url=url) as client:
        return await client.cancel_batch("bkt_1", "btch_1")
assert asyncio.run(main(*sys.argv[1:])).status is TaskStatus.CANCELED
"""
WRONG_USAGE = """
import subprocess, sys
done = subprocess.run([sys.executable, sys.argv[1], "cancel", "--no-such-option"], capture_output=True, text=True)
assert done.returncode == 2 and "--no-such-option" in done.stderr and "Traceback" not in done.stderr, done
"""
MOCK = """
from mixpeek_batches import Client
from mixpeek_batches.mock import MockServer
with MockServer() as mock:
    mock.add_batch("bkt_1", "btch_1")
    with Client(api_key=mock.api_key, base_url=mock.url) as client:
        client.cancel_batch("bkt_1", "btch_1")
    assert mock.batch("bkt_1", "btch_1").status == "CANCELED"
"""


@dataclass(frozen=True)
class Wheel:
    """The wheel, and what it says of itself."""

    path: Path
    version: str
    requirements: tuple[Requirement, ...]
    extras: tuple[str, ...]

    @staticmethod
    def of(path: Path) -> Wheel:
        """Read a wheel."""
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = HeaderParser().parsestr(archive.read(name).decode())
        requirements = tuple(Requirement(text) for text in metadata.get_all("Requires-Dist", []))
        return Wheel(path, metadata["Version"], requirements, tuple(metadata.get_all("Provides-Extra", [])))


class Environment:
    """A clean environment with the wheel in it.

    Args:
        folder: Where to make it.
        wheel: The wheel.
        extras: Which of its extras.
        constraints: What to hold the versions to, as a file.
        more: What else to install.
    """

    def __init__(self, folder: Path, wheel: Wheel, extras: str, constraints: Path, *more: str) -> None:
        self.folder = folder
        self.python = folder / "env" / "bin" / "python"
        venv.create(folder / "env", with_pip=False, symlinks=True)
        wanted = f"{wheel.path}[{extras}]" if extras else str(wheel.path)
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        run([*command, "--disable-pip-version-check", "--constraint", str(constraints), wanted, *more])
        run([sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check", "check"])

    def run(self, *arguments: str, **variables: str) -> str:
        """Run its Python, somewhere else than in this checkout."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MIXPEEK_", "PYTHON"))}
        return run([str(self.python), *arguments], {**clean, **variables}, self.folder)


def lowest(requirements: tuple[Requirement, ...]) -> str:
    """Write the lowest version that each requirement allows, as constraints."""
    lines = []
    for requirement in requirements:
        bounds = [one.version for one in requirement.specifier if one.operator in {">=", "=="}]
        if not bounds:
            sys.exit(f"{requirement.name} has no lower bound in pyproject.toml.")
        lines.append(f"{requirement.name}=={bounds[0]}")
    return "\n".join(sorted(set(lines))) + "\n"


def try_client(environment: Environment, version: str, *absent: str) -> None:
    """Cancel on a mock that runs here, with the client that runs there."""
    with MockServer() as mock:
        mock.add_batch("bkt_1", "btch_1")
        environment.run("-c", CLIENT, mock.url, mock.api_key, version, *absent)
        environment.run("-c", ASYNC, mock.url, mock.api_key)


def try_command(environment: Environment, version: str) -> None:
    """Ask the command for its version and for help, use it wrongly, and let it cancel."""
    command = str(environment.python.parent / "mixpeek-batches")
    said = environment.run(command, "--version").strip()
    if version not in said.split():
        sys.exit(f"mixpeek-batches --version says {said!r}, and not {version}.")
    for arguments in ([], ["cancel"]):
        if "Usage: mixpeek-batches" not in environment.run(command, *arguments, "--help"):
            sys.exit("mixpeek-batches --help says nothing of its usage.")
    environment.run("-c", WRONG_USAGE, command)
    with MockServer() as mock:
        mock.add_batch("bkt_1", "btch_1")
        settings = {"MIXPEEK_API_KEY": mock.api_key, "MIXPEEK_BASE_URL": mock.url}
        environment.run(command, "cancel", "bkt_1", "btch_1", **settings)
        if mock.batch("bkt_1", "btch_1").status != "CANCELED":
            sys.exit("mixpeek-batches cancel cancelled nothing.")


def try_types(environment: Environment) -> None:
    """Check a user's file against the wheel, with mypy and pyright in their strict modes."""
    folder = environment.folder / "user"
    shutil.copytree(ROOT / "tests" / "typing", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    python = str(environment.python)
    files = sorted(path.name for path in folder.glob("*.py"))
    cache = f"--cache-dir={environment.folder / 'mypy'}"
    run([sys.executable, "-m", "mypy", "--strict", "--config-file=", cache, "--python-executable", python, *files],
        folder=folder)  # fmt: skip
    run([sys.executable, "-m", "pyright", "--warnings", "--pythonpath", python], folder=folder)


def try_everything(environment: Environment, wheel: Wheel) -> None:
    """Use the client and every extra."""
    try_client(environment, wheel.version)
    for extra in wheel.extras:
        EXTRAS[extra](environment, wheel)


EXTRAS: dict[str, Callable[[Environment, Wheel], None]] = {
    "cli": lambda environment, wheel: try_command(environment, wheel.version),
    "mock": lambda environment, wheel: (environment.run("-c", MOCK), None)[1],
}


def verify(name: str, wheel: Wheel, folder: Path) -> None:
    """Do the check of one name, in a folder of its own."""
    pinned = ROOT / "constraints.txt"
    if name == "wheel":
        try_client(Environment(folder, wheel, "", pinned), wheel.version, "click", "tqdm", "starlette", "aiohttp")
    elif name == "types":
        try_types(Environment(folder, wheel, ",".join(wheel.extras), pinned, "pytest"))
    elif name == "lowest":
        (folder / "lowest.txt").write_text(lowest(wheel.requirements))
        try_everything(Environment(folder, wheel, ",".join(wheel.extras), folder / "lowest.txt"), wheel)
    else:
        EXTRAS[name](Environment(folder, wheel, name, pinned), wheel)


def main() -> None:
    """Run the command."""
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit("dist/ has no wheel, or more than one: run `make build`.")
    wheel = Wheel.of(wheels[0])
    if unknown := set(wheel.extras) - EXTRAS.keys():
        sys.exit(f"Nothing here checks the extra {', '.join(sorted(unknown))}.")
    names = ("wheel", *wheel.extras, "types", "lowest")
    parser = argparse.ArgumentParser(description="Install the wheel of dist/ in clean environments, and use it.")
    parser.add_argument("name", nargs="*", choices=[*names, []], help=", ".join(names))
    for name in parser.parse_args().name or names:
        with tempfile.TemporaryDirectory() as folder:
            verify(name, wheel, Path(folder))
        print(f"{name}: ok")


if __name__ == "__main__":
    main()
