"""Check the built site: each link and anchor leads somewhere, and nothing is loaded from elsewhere.

Usage: python -m scripts.docs_links [FOLDER]
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
_LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
_NOT_LOADED = {"canonical", "next", "prev", "alternate"}


class _Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in _LOADED and _LOADED[tag] in found:
            inner = self.links if found.get("rel") in _NOT_LOADED else self.loads
            inner.append(found[_LOADED[tag]])


def problems(folder: Path) -> list[str]:
    """List what is wrong with the pages of a folder."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    wrong.append(f"{path.relative_to(folder)} loads {target}")
                continue
            if path.name == "404.html":
                continue  # its links start at the root of a host
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            other = other / "index.html" if other.is_dir() else other
            if not other.is_file():
                wrong.append(f"{path.relative_to(folder)} links to {target}, which is not there")
            elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].anchors:
                wrong.append(f"{path.relative_to(folder)} links to {target}, and that page has no such anchor")
    for path in folder.rglob("*.css"):
        targets = re.findall(r"url\(['\"]?(.*?)['\"]?\)", path.read_text(encoding="utf-8"))
        wrong += [
            f"{path.relative_to(folder)} loads {target}" for target in targets if re.match("(https?:)?//", target)
        ]
    return wrong


def main() -> int:
    """Run the command."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    wrong = problems(folder.resolve())
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(list(folder.rglob('*.html')))} pages, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
