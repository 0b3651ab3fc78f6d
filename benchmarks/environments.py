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
WHEEL = "our wheel"

PACKAGES = {
    "ours": [WHEEL],
    "ours with httpx-aiohttp": [WHEEL, "httpx-aiohttp"],
    "cli": [f"{WHEEL}[cli]"],
    "mock": [f"{WHEEL}[cli,mock]"],
    "httpx": ["httpx"],
    "httpx-aiohttp": ["httpx-aiohttp"],
    "vendor": ["mixpeek==1.3.783"],
    "server": ["uvicorn", "httptools==0.9.0", "uvloop==0.23.0"],
    "test with mock": [f"{WHEEL}[mock]", "pytest"],
    "test with respx": [WHEEL, "pytest", "respx"],
    "test with pytest-httpserver": [WHEEL, "pytest", "pytest-httpserver==1.2.0"],
    "prism": ["@stoplight/prism-cli@5.14.2"],
}
"""What pip, or npm for Prism, installs into each; what our constraints.txt names has the same version in all."""


class UnavailableError(Exception):
    """A contestant cannot be installed or does not work here; the text is the reason."""


def python(name: str) -> Path:
    """Return the interpreter of an environment."""
    return _folder(name) / "bin" / "python"


def prism() -> list[str]:
    """Return the command that is Prism."""
    script = _folder("prism") / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    return [shutil.which("node") or "node", str(script)]


def _folder(name: str) -> Path:
    return BUILD / f"bench-{name.replace(' ', '-')}"


def prepare(names: set[str]) -> dict[str, str]:
    """Make environments, unless they are there and up to date.

    Returns:
        Why not, for each that could not be made.
    """
    wheel = str(_wheel())

    def attempt(name: str) -> str | None:
        packages = [package.replace(WHEEL, wheel) for package in PACKAGES[name]]
        stamp = _folder(name) / "installed"
        wanted = "\n".join(packages)
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return None
        try:
            _install(name, packages)
            stamp.write_text(wanted, encoding="utf-8")
        except (OSError, subprocess.SubprocessError) as error:
            print(getattr(error, "stderr", None) or error, file=sys.stderr)
            return f"it could not be installed ({type(error).__name__})"
        return None

    with ThreadPoolExecutor(3) as pool:
        reasons = dict(zip(names, pool.map(attempt, names), strict=True))
    return {name: reason for name, reason in reasons.items() if reason}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)


def _pip(*arguments: str | Path) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def _wheel() -> Path:
    """Build our wheel, unless its sources are those of the last time."""
    digest = hashlib.sha256()
    files = [path for folder in ("src", "generated") for path in (ROOT / folder).rglob("*.py")]
    for path in sorted([*files, ROOT / "pyproject.toml", ROOT / "openapi.yaml"]):
        digest.update(path.read_bytes())
    folder = BUILD / "bench-wheel" / digest.hexdigest()[:16]
    if not list(folder.glob("*.whl")):
        shutil.rmtree(folder.parent, ignore_errors=True)
        _pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


def _install(name: str, packages: list[str]) -> None:
    folder = _folder(name)
    if name == "prism":
        folder.mkdir(parents=True, exist_ok=True)
        _run(shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *packages)
        return
    venv.create(folder, clear=True, symlinks=True)
    # The vendor's SDK gets what a user would get.
    pinned: list[str | Path] = [] if name == "vendor" else ["--constraint", ROOT / "constraints.txt"]
    _pip("--python", python(name), "install", *packages, *pinned)
