"""Install the wheel of dist/ as users would, in one clean environment after another, and use it.

Usage: python -m scripts.verify, by way of `make build`
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from mixpeek_batches.mock import MockServer
from scripts.process import ScriptError, run

ROOT = Path(__file__).resolve().parent.parent
PINNED = ROOT / "constraints.txt"

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
WRONG_USAGE = """
import subprocess, sys
done = subprocess.run([sys.argv[1], "cancel", "--no-such-option"], capture_output=True, text=True)
assert done.returncode == 2 and "--no-such-option" in done.stderr and "Traceback" not in done.stderr, done
"""


class Environment:
    """A clean environment with the wheel in it.

    Args:
        folder: An empty folder.
        wheel: The wheel.
        extras: Which of its extras, separated by commas.
        constraints: A file of versions to hold pip to.
        more: What else to install.
    """

    def __init__(self, folder: Path, wheel: Path, extras: str, constraints: Path, *more: str) -> None:
        self.folder = folder
        self.bin = folder / "env" / "bin"
        venv.create(folder / "env", with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--disable-pip-version-check"]
        wanted = f"{wheel}[{extras}]" if extras else str(wheel)
        run([*pip, "install", "--quiet", "--constraint", str(constraints), wanted, *more])
        run([*pip, "check"])

    def run(self, program: str, *arguments: str, **variables: str) -> str:
        """Run one of its programs, outside this checkout and without its settings."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MIXPEEK_", "PYTHON"))}
        return run([str(self.bin / program), *arguments], env={**clean, **variables}, cwd=self.folder)


@contextmanager
def mock_with_batches() -> Iterator[dict[str, str]]:
    """Run a mock here, yield the settings to reach it, and check in the end that its batches were cancelled."""
    with MockServer() as mock:
        for batch in ("btch_1", "btch_2"):
            mock.add_batch("bkt_1", batch)
        yield {"MIXPEEK_API_KEY": mock.api_key, "MIXPEEK_BASE_URL": mock.url}
        assert [batch.status for batch in mock.batches] == ["CANCELED"] * 2, mock.batches


def try_client(environment: Environment, version: str, *absent: str) -> None:
    """Cancel with both clients."""
    with mock_with_batches() as settings:
        environment.run("python", "-c", CLIENT, version, *absent, **settings)


def try_command(environment: Environment, version: str) -> None:
    """Ask the command for its version and for help, use it wrongly, and let it cancel."""
    name = "mixpeek-batches"
    assert version in environment.run(name, "--version").split()
    for arguments in ([], ["cancel"]):
        assert f"Usage: {name}" in environment.run(name, *arguments, "--help")
    environment.run("python", "-c", WRONG_USAGE, str(environment.bin / name))
    with mock_with_batches() as settings:
        for batch in ("btch_1", "btch_2"):
            environment.run(name, "cancel", "bkt_1", batch, **settings)


def try_mock(environment: Environment, version: str) -> None:
    """Run the mock there, and cancel on it: the demonstration does both."""
    assert f"mixpeek-batches {version}, a mock at" in environment.run("python", str(ROOT / "scripts" / "demo.py"))


EXTRAS: dict[str, Callable[[Environment, str], None]] = {"cli": try_command, "mock": try_mock}


def try_types(environment: Environment) -> None:
    """Check a user's file against the wheel, with mypy and pyright in their strict modes."""
    folder = environment.folder / "user"
    shutil.copytree(ROOT / "tests" / "typing", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    python, cache = str(environment.bin / "python"), f"--cache-dir={environment.folder / 'mypy'}"
    run([sys.executable, "-m", "mypy", "--strict", "--config-file=", cache, "--python-executable", python, "."],
        cwd=folder)  # fmt: skip
    run([sys.executable, "-m", "pyright", "--warnings", "--pythonpath", python], cwd=folder)


def lowest(wheel: Distribution, path: Path) -> Path:
    """Write the lowest version of each dependency as constraints."""
    requirements = [Requirement(text) for text in wheel.requires or []]
    bounds = {one.name: [spec.version for spec in one.specifier if spec.operator == ">="] for one in requirements}
    assert all(bounds.values()), f"a dependency has no lower bound: {bounds}"
    path.write_text("\n".join(f"{name}=={versions[0]}" for name, versions in bounds.items()))
    return path


def check_metadata(wheel: Distribution) -> None:
    """Check for what an index shows, and for what tells type checkers that both packages are typed."""
    shown = ("Summary", "License-Expression", "License-File", "Requires-Python", "Classifier")
    missing = [field for field in shown if not wheel.metadata[field]]
    files = {str(file) for file in wheel.files or []}
    missing += sorted({"mixpeek_batches/py.typed", "mixpeek_batches_api/py.typed"} - files)
    assert not missing, f"the wheel lacks {', '.join(missing)}"


def verify(name: str, path: Path, wheel: Distribution, extras: list[str], folder: Path) -> None:
    """Do what one name stands for: the wheel alone, all of its extras in two ways, or one extra."""
    version = wheel.version
    if name == "wheel":
        try_client(Environment(folder, path, "", PINNED), version, "click", "tqdm", "starlette", "aiohttp")
    elif name == "types":
        try_types(Environment(folder, path, ",".join(extras), PINNED, "pytest"))
    elif name == "lowest":
        environment = Environment(folder, path, ",".join(extras), lowest(wheel, folder / "lowest.txt"))
        for check in (try_client, *EXTRAS.values()):
            check(environment, version)
    else:
        EXTRAS[name](Environment(folder, path, name, PINNED), version)


def main() -> None:
    """Run the command."""
    (path,) = (ROOT / "dist").glob("*.whl")
    (wheel,) = distributions(path=[str(path)])
    extras = wheel.metadata.get_all("Provides-Extra", [])
    try:
        check_metadata(wheel)
        assert set(extras) == set(EXTRAS), f"what is checked of the extras {extras}: {list(EXTRAS)}"
        for name in ("wheel", *extras, "types", "lowest"):
            with tempfile.TemporaryDirectory() as folder:
                verify(name, path, wheel, extras, Path(folder))
            print(f"{name}: ok")
    except (AssertionError, ScriptError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
