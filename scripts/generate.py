"""Write the client core under generated/ from openapi.yaml, or check that it is what would be written.

Usage: python scripts/generate.py [--check] [--spec FILE] [--output FOLDER]
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mixpeek_batches_api"


def generate(spec: Path, package: Path) -> None:
    """Write the package that follows from an OpenAPI document.

    Args:
        spec: The OpenAPI document.
        package: The folder to write; it must not exist.

    Raises:
        SystemExit: If the generator fails or warns.
    """
    stock = importlib.util.find_spec("openapi_python_client")
    if stock is None or stock.origin is None:
        sys.exit("openapi-python-client is not installed: run this through `make generate`")
    with tempfile.TemporaryDirectory() as folder:
        # Our templates include the generator's own under stock/, so that none of them is repeated here.
        templates = Path(folder) / "templates"
        shutil.copytree(ROOT / "scripts" / "templates", templates)
        (templates / "stock").symlink_to(Path(stock.origin).parent / "templates")
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])  # for the hooks' ruff
        command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
        command += ["--path", str(spec), "--config", str(ROOT / "scripts" / "generator.yaml")]
        command += ["--custom-template-path", str(templates), "--output-path", str(package)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if done.returncode != 0:
        sys.exit(f"{spec.name}: openapi-python-client refused it:\n{done.stdout}{done.stderr}")
    (package / "py.typed").touch()


def contents(folder: Path) -> dict[str, bytes]:
    """Read the files of a package, by relative path."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write generated/ from openapi.yaml.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something would change")
    parser.add_argument("--spec", type=Path, default=ROOT / "openapi.yaml", help="the OpenAPI document")
    parser.add_argument("--output", type=Path, default=ROOT / "generated", help="the folder that holds the package")
    options = parser.parse_args()
    target: Path = options.output / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        generate(options.spec, Path(folder) / PACKAGE)
        fresh, committed = contents(Path(folder) / PACKAGE), contents(target)
        changed = sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))
        if changed and options.check:
            states = (
                "missing" if name not in committed else "differs" if name in fresh else "not generated"
                for name in changed
            )
            listing = "\n".join(f"  {PACKAGE}/{name}: {state}" for name, state in zip(changed, states, strict=True))
            sys.exit(f"The generated files differ from {options.spec.name}. Run `make generate`:\n{listing}")
        if changed:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(folder) / PACKAGE, target)
    if not options.check:
        print(f"{PACKAGE}: " + (f"{len(changed)} files written" if changed else "nothing to change"))


if __name__ == "__main__":
    main()
