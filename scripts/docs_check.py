"""Open every page of the built site in a headless Chromium, from the file system, and take screenshots.

Usage: python -m scripts.docs_check [FOLDER]

Needs Chromium (the Debian package chromium), and is skipped without it. Checks every page on a wide and a narrow screen
and in both color schemes: no messages in the console, no requests to other hosts, no horizontal scrolling. Then checks
the search, also on a static web server.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as NotShownError

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
_VIEWS = {"wide": (1280, 900), "phone": (390, 844)}
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_MAX_HEIGHT = 4000  # px of a page in a screenshot


def _open_page(browser: Browser, size: tuple[int, int], scheme: Any, problems: list[str]) -> Page:
    """Open an empty page that reports messages in its console and requests to other hosts as problems."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.set_default_timeout(10_000)
    page.on("console", lambda message: problems.append(f"{page.url}: message in the console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"{page.url}: error in the console: {error}"))

    def check_request(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:")):
            problems.append(f"{page.url}: loads {request.url}")

    page.on("request", check_request)
    return page


def check_pages(folder: Path, browser: Browser) -> list[str]:
    """Return the problems of all pages, and take a screenshot of each."""
    problems: list[str] = []
    for view, size in _VIEWS.items():
        for scheme in ("light", "dark"):
            page = _open_page(browser, size, scheme, problems)
            for file in sorted(folder.rglob("*.html")):
                if file.name == "404.html":
                    continue  # its links are relative to the root of a web server
                page.goto(file.as_uri())
                name = str(file.relative_to(folder).with_suffix("")).replace("/", "-")
                if (over := page.evaluate(_OVERFLOW)) > 0:
                    problems.append(f"{page.url}, {view}: scrolls horizontally by {over} px")
                height = min(page.evaluate("document.documentElement.scrollHeight"), _MAX_HEIGHT)
                page.screenshot(
                    path=SCREENSHOTS / f"{name}.{view}.{scheme}.png",
                    full_page=True,
                    clip={"x": 0, "y": 0, "width": size[0], "height": height},
                    animations="disabled",
                )
            page.close()
    return problems


def check_search(bases: list[str], browser: Browser) -> list[str]:
    """Return the problems of the search, on a page in the root folder and on one below it."""
    problems: list[str] = []
    page = _open_page(browser, _VIEWS["wide"], "light", problems)
    for base in bases:
        for name in ("index.html", "guides/service.html"):
            page.goto(f"{base}/{name}")
            try:
                page.locator(".md-search__button").click()
                page.get_by_role("combobox", name="Search").fill("cancel_batch")
                page.locator("a[role=option][href*='reference/python.html']").first.wait_for()
            except NotShownError:
                problems.append(f"{page.url}: the search does not find cancel_batch")
            page.screenshot(path=SCREENSHOTS / "search.png", animations="disabled")
    page.close()
    return problems


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as a static web server does."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    """Run the command."""
    folder = (Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site").resolve()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("docs-check: skipped, since Chromium is not installed (apt-get install chromium)", file=sys.stderr)
        return 0
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    with sync_playwright() as playwright, served(folder) as host:
        browser = playwright.chromium.launch(executable_path=chromium)
        problems = check_pages(folder, browser) + check_search([folder.as_uri(), host], browser)
        browser.close()
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    pictures = len(list(SCREENSHOTS.iterdir()))
    print(f"{pictures} screenshots in {SCREENSHOTS.relative_to(ROOT)}/, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
