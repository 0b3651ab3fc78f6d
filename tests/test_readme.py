"""README.md is true: what it shows runs, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

from blocks import blocks, run

import mixpeek_batches

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_blocks_run(tmp_path: Path) -> None:
    """Every code block runs as it stands, and every kind is there."""
    page = blocks(README)
    assert {block.kind for block in page} >= {"python", "python test", "sh", "sh background"}
    run(page, tmp_path)


def test_links_lead_somewhere() -> None:
    """Each link to a heading or a file of the project has its target."""
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (ROOT / target).exists(), target


def test_errors_are_named() -> None:
    """It names every error that the package has."""
    errors = {name for name in mixpeek_batches.__all__ if name.endswith("Error")} - {"MixpeekError"}
    assert errors <= set(re.findall(r"`(\w+)`", README))
