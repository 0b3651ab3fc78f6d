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
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

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
        packages = [PRISM] if name == "prism" else [each.replace(WHEEL, str(wheel)) for each in PACKAGES[name]]
        stamp = _folder(name) / "installed"
        wanted = "\n".join([*packages, (ROOT / "openapi.yaml").read_text(encoding="utf-8") if name == "stock" else ""])
        try:
            if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
                (_install_prism if name == "prism" else _install)(name, packages)
                stamp.write_text(wanted, encoding="utf-8")
        except (OSError, subprocess.SubprocessError) as error:
            print(getattr(error, "stderr", None) or error, file=sys.stderr)
            return name, f"it could not be installed ({type(error).__name__})"
        return name, None

    with ThreadPoolExecutor(3) as pool:
        return {name: reason for name, reason in pool.map(attempt, sorted(names)) if reason}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)


def _wheel() -> Path:
    """Build our wheel, unless its sources are those of the last time."""
    digest = hashlib.sha256()
    files = [path for folder in ("src", "generated") for path in (ROOT / folder).rglob("*.py")]
    for path in sorted([*files, ROOT / "pyproject.toml", ROOT / "openapi.yaml"]):
        digest.update(path.read_bytes())
    folder = BUILD / "bench-wheel" / digest.hexdigest()[:16]
    if not list(folder.glob("*.whl")):
        shutil.rmtree(folder.parent, ignore_errors=True)
        _run(*_PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


def _install(name: str, packages: list[str]) -> None:
    folder = _folder(name)
    venv.create(folder, clear=True, symlinks=True)
    # The vendor's SDK gets what a user would get.
    pinned: list[str | Path] = [] if name == "vendor" else ["--constraint", ROOT / "constraints.txt"]
    _run(*_PIP, "--python", python(name), "install", *packages, *pinned)
    if name == "stock":
        place = next(folder.glob("lib/python*/site-packages")) / "stock_client"
        command: list[str | Path] = [
            python(name),
            "-m",
            "openapi_python_client",
            "generate",
            "--meta",
            "none",
            "--overwrite",
        ]
        _run(*command, "--path", ROOT / "openapi.yaml", "--output-path", place)


def _install_prism(name: str, packages: list[str]) -> None:
    _folder(name).mkdir(parents=True, exist_ok=True)
    _run(shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--prefix", _folder(name), *packages)
