"""Install the wheel of dist/ as users would, in one clean environment after another, and use it.

Usage: python -m scripts.verify, by way of `make build`
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from mixpeek_batches import __version__
from mixpeek_batches.mock import MockServer
from scripts.process import ROOT, ScriptError, run

PINNED = ROOT / "constraints.txt"
COMMAND = "mixpeek-batches"
OPTIONAL = ("click", "tqdm", "starlette", "aiohttp")

# On a mock that runs elsewhere: the version, then the names of modules that must not be installed.
CLIENT = """
import asyncio, importlib.util, sys
import mixpeek_batches
from mixpeek_batches import AsyncClient, Client, TaskStatus
version, *absent = sys.argv[1:]
assert mixpeek_batches.__version__ == version, mixpeek_batches.__version__
assert not [name for name in absent if importlib.util.find_spec(name)], absent
with Client() as client:
    assert client.cancel_batch("bkt_1", "btch_1").status is TaskStatus.CANCELED
async def main():
    async with AsyncClient() as client:
        assert (await client.cancel_batch("bkt_1", "btch_2")).status is TaskStatus.CANCELED
asyncio.run(main())
"""


class Environment:
    """A clean environment with the wheel in it.

    Args:
        folder: An empty folder.
        wanted: What to install.
        constraints: A file of versions to hold pip to.
    """

    def __init__(self, folder: Path, wanted: Sequence[str], constraints: Path) -> None:
        self.folder = folder
        venv.create(folder / "env", with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", self.program("python"), "--disable-pip-version-check"]
        run([*pip, "install", "--quiet", "--constraint", str(constraints), *wanted])
        run([*pip, "check"])

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        return str(self.folder / "env" / "bin" / name)

    def run(self, program: str, *arguments: str, **variables: str) -> str:
        """Run one of its programs, outside this checkout and without its settings."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MIXPEEK_", "PYTHON"))}
        return run([self.program(program), *arguments], env={**clean, **variables}, cwd=self.folder)

    def cancel(self, *commands: Sequence[str]) -> None:
        """Run commands that cancel btch_1 and btch_2 on a mock, and check that they did."""
        with MockServer() as mock:
            for batch in ("btch_1", "btch_2"):
                mock.add_batch("bkt_1", batch)
            for command in commands:
                self.run(*command, MIXPEEK_API_KEY=mock.api_key, MIXPEEK_BASE_URL=mock.url)
            assert [batch.status for batch in mock.batches] == ["CANCELED"] * 2, mock.batches


Check = Callable[[Environment], None]


def try_client(environment: Environment, absent: Sequence[str] = ()) -> None:
    """Cancel with both clients."""
    environment.cancel(["python", "-c", CLIENT, __version__, *absent])


def try_command(environment: Environment) -> None:
    """Ask the command for its version and for help, use it wrongly, and let it cancel."""
    assert __version__ in environment.run(COMMAND, "--version").split()
    for arguments in ([], ["cancel"]):
        assert f"Usage: {COMMAND}" in environment.run(COMMAND, *arguments, "--help")
    wrong = [environment.program(COMMAND), "cancel", "--no-such-option"]
    done = subprocess.run(wrong, check=False, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done
    environment.cancel(*([COMMAND, "cancel", "bkt_1", batch] for batch in ("btch_1", "btch_2")))


def try_mock(environment: Environment) -> None:
    """Run the mock there, and cancel on it: the demonstration does both."""
    output = environment.run("python", str(ROOT / "scripts" / "demo.py"))
    assert f"mixpeek-batches {__version__}, a mock at" in output


def try_types(environment: Environment) -> None:
    """Check a user's file against the wheel, with mypy and pyright in their strict modes."""
    folder, python = environment.folder / "user", environment.program("python")
    shutil.copytree(ROOT / "tests" / "typing", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    mypy = ["mypy", "--strict", "--config-file=", f"--cache-dir={folder / 'cache'}", "--python-executable", python, "."]
    run([sys.executable, "-m", *mypy], cwd=folder)
    run([sys.executable, "-m", "pyright", "--warnings", "--pythonpath", python], cwd=folder)


EXTRAS: dict[str, Check] = {"cli": try_command, "mock": try_mock}


def lowest(wheel: Distribution) -> str:
    """Return the lowest version of each dependency, as constraints."""
    lines = []
    for requirement in map(Requirement, wheel.requires or []):
        bounds = [one.version for one in requirement.specifier if one.operator == ">="]
        assert bounds, f"{requirement} has no lower bound"
        lines.append(f"{requirement.name}=={bounds[0]}\n")
    return "".join(lines)


def verify(path: Path, folder: Path) -> None:
    """Verify a wheel, with environments in an empty folder."""
    (wheel,) = distributions(path=[str(path)])
    for field in ("Summary", "License-Expression", "License-File", "Requires-Python", "Classifier"):
        assert wheel.metadata[field], f"the metadata of the wheel lacks {field}"
    assert set(wheel.metadata.get_all("Provides-Extra", [])) == set(EXTRAS), "an extra is not checked"
    whole, oldest = f"{path}[{','.join(EXTRAS)}]", folder / "lowest.txt"
    oldest.write_text(lowest(wheel))
    plans: dict[str, tuple[list[str], Path, list[Check]]] = {
        "wheel": ([str(path)], PINNED, [functools.partial(try_client, absent=OPTIONAL)]),
        **{extra: ([f"{path}[{extra}]"], PINNED, [check]) for extra, check in EXTRAS.items()},
        "types": ([whole, "pytest"], PINNED, [try_types]),
        "lowest": ([whole], oldest, [try_client, *EXTRAS.values()]),
    }
    for name, (wanted, constraints, checks) in plans.items():
        environment = Environment(folder / name, wanted, constraints)
        for check in checks:
            check(environment)
        print(f"{name}: ok", flush=True)


def main() -> None:
    """Run the command."""
    (path,) = (ROOT / "dist").glob("*.whl")
    try:
        with tempfile.TemporaryDirectory() as folder:
            verify(path, Path(folder))
    except (AssertionError, ScriptError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
