"""The environments of the contestants: one each under build/, made when it is first needed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PRISM = "@stoplight/prism-cli@5.14.2"
WHEEL = "our wheel"

PACKAGES = {
    "ours": [WHEEL],
    "ours with httpx-aiohttp": [WHEEL, "httpx-aiohttp"],
    "cli": [f"{WHEEL}[cli]"],
    "mock": [f"{WHEEL}[cli,mock]"],
    "httpx": ["httpx"],
    "httpx-aiohttp": ["httpx-aiohttp"],
    "vendor": ["mixpeek==1.3.783"],
    "stock": ["openapi-python-client==0.29.1"],
    "server": ["uvicorn", "httptools==0.9.0", "uvloop==0.23.0"],
    "test with mock": [f"{WHEEL}[mock]", "pytest"],
    "test with respx": [WHEEL, "pytest", "respx"],
    "test with pytest-httpserver": [WHEEL, "pytest", "pytest-httpserver==1.2.0"],
}
"""What pip installs into each; what our constraints.txt names has the same version in all."""


class UnavailableError(Exception):
    """A peer cannot be had or does not work here; the text says why."""


def python(name: str) -> Path:
    """Give the interpreter of an environment."""
    return _folder(name) / "bin" / "python"


def _folder(name: str) -> Path:
    return BUILD / f"bench-{name.replace(' ', '-')}"


def prism() -> list[str]:
    """Give the command that is Prism."""
    node = shutil.which("node") or "node"
    return [node, str(BUILD / "bench-prism" / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js")]


def prepare(names: set[str]) -> dict[str, str]:
    """Make environments, unless they are there and up to date.

    Returns:
        Why not, for each that could not be made.
    """
    wheel = _wheel()

    def attempt(name: str) -> tuple[str, str | None]:
        try:
            _install_prism() if name == "prism" else _install(name, wheel)
        except UnavailableError as reason:
            return name, str(reason)
        return name, None

    with ThreadPoolExecutor(3) as pool:
        return {name: reason for name, reason in pool.map(attempt, sorted(names)) if reason}


def _run(command: list[str | Path], what: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{what} did not run: {type(error).__name__}") from None
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="", file=sys.stderr)
        raise UnavailableError(f"{what} failed")
    return done.stdout


def _pip(name: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "pip", "--python", python(name), "--disable-pip-version-check", *arguments]


def _wheel() -> Path:
    """Build our wheel, unless its sources are those of the last time."""
    digest = hashlib.sha256()
    files = [path for folder in ("src", "generated") for path in (ROOT / folder).rglob("*.py")]
    for path in sorted([*files, ROOT / "pyproject.toml", ROOT / "openapi.yaml"]):
        digest.update(path.read_bytes())
    folder = BUILD / "bench-wheel" / digest.hexdigest()[:16]
    if not list(folder.glob("*.whl")):
        shutil.rmtree(folder.parent, ignore_errors=True)
        command: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
        _run([*command, "--wheel-dir", folder, ROOT], "building our wheel")
    return next(folder.glob("*.whl"))


def _install(name: str, wheel: Path) -> None:
    packages = [package.replace(WHEEL, str(wheel)) for package in PACKAGES[name]]
    folder = _folder(name)
    stamp = folder / "installed"
    wanted = "\n".join([*packages, (ROOT / "openapi.yaml").read_text(encoding="utf-8") if name == "stock" else ""])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    venv.create(folder, clear=True, symlinks=True)
    arguments: list[str | Path] = ["install", "--quiet", *packages]
    if name != "vendor":  # which gets what a user would get
        arguments += ["--constraint", ROOT / "constraints.txt"]
    _run(_pip(name, *arguments), f"pip install {' '.join(PACKAGES[name])}")
    if name == "stock":
        place = next(folder.glob("lib/python*/site-packages")) / "stock_client"
        command: list[str | Path] = [python(name), "-m", "openapi_python_client", "generate", "--meta", "none"]
        _run(
            [*command, "--overwrite", "--path", ROOT / "openapi.yaml", "--output-path", place], "openapi-python-client"
        )
    stamp.write_text(wanted, encoding="utf-8")


def _install_prism() -> None:
    folder = BUILD / "bench-prism"
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == PRISM:
        return
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise UnavailableError("node and npm are not installed")
    folder.mkdir(parents=True, exist_ok=True)
    _run([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, PRISM], f"npm install {PRISM}")
    stamp.write_text(PRISM, encoding="utf-8")
