"""Look at the built site in a headless Chromium, opened from the file system, and keep screenshots.

Usage: python -m scripts.docs_check [FOLDER]

Needs Debian's packages chromium and chromium-driver, or their like. Checks every page, wide and narrow, light and dark:
nothing in the console, no request to anywhere else, no sideways scrolling at 375 px; then the search, also from a
static host, and that the HTTP reference shows every status code, task status and task type.
"""

from __future__ import annotations

import base64
import functools
import http.server
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from scripts.docs import SPEC

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_VIEWS = {"wide": (1280, 900), "phone": (375, 812)}
_OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
_REQUESTS = "return performance.getEntriesByType('resource').map(entry => entry.name)"
_SEARCH = """
const done = arguments[0];
document.querySelector('.md-search__button').click();
setTimeout(() => {
  const inputs = [...document.querySelectorAll('input')].filter(input => input.type !== 'checkbox');
  for (const root of [...document.querySelectorAll('*')].map(item => item.shadowRoot).filter(Boolean))
    inputs.push(...root.querySelectorAll('input'));
  const input = inputs.find(item => item.type === 'search' || item.type === 'text');
  if (!input) { done('no search field'); return; }
  input.focus();
  input.value = 'cancel_batch';
  input.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
  setTimeout(() => {
    const texts = [document.body.innerText];
    for (const root of [...document.querySelectorAll('*')].map(item => item.shadowRoot).filter(Boolean))
      texts.push(root.textContent);
    done(texts.join(' '));
  }, 2500);
}, 800);
"""


class Browser:
    """A Chromium, driven over WebDriver."""

    def __init__(self, driver: str, chromium: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._profile = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        for _ in range(100):
            try:
                self._http.get("/status")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        options = {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={self._profile.name}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = ""
        self._session = "/session/" + self._call("/session", capabilities={"alwaysMatch": wanted})["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.delete(self._session)
        self._http.close()
        self._process.terminate()
        self._process.wait(10)
        self._profile.cleanup()

    def _call(self, path: str, **body: Any) -> Any:
        value = self._http.post(self._session + path, json=body).json()["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(value["message"])
        return value

    def cdp(self, command: str, **parameters: Any) -> Any:
        """Send a command of Chromium's own protocol."""
        return self._call("/goog/cdp/execute", cmd=command, params=parameters)

    def view(self, width: int, height: int, scheme: str) -> None:
        """Set the size of the window and the colours that the reader's system asks for."""
        phone = width < 600
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url: str) -> None:
        """Open a page."""
        self._call("/url", url=url)

    def run(self, script: str) -> Any:
        """Run a script in the page."""
        return self._call("/execute/sync", script=script, args=[])

    def wait(self, script: str) -> Any:
        """Run a script in the page that calls its last argument in the end."""
        return self._call("/execute/async", script=script, args=[])

    def console(self) -> list[str]:
        """Take what was written to the console."""
        return [entry["message"] for entry in self._call("/se/log", type="browser")]

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Keep a picture of the page, at most 4,000 px of it."""
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        more = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        data = self.cdp("Page.captureScreenshot", format="png", **more)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as a static host does."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


def check(folder: Path, browser: Browser) -> list[str]:
    """List what is wrong with a site."""
    wrong = []
    for page in sorted(folder.rglob("*.html")):
        name = str(page.relative_to(folder))
        if name == "404.html":
            continue  # its links start at the root of a host
        for view, size in _VIEWS.items():
            for scheme in ("light", "dark"):
                browser.view(*size, scheme)
                browser.open(page.as_uri())
                place = f"{name}, {view}, {scheme}"
                wrong += [f"{place}: the console says {line}" for line in browser.console()]
                requests = browser.run(_REQUESTS)
                wrong += [f"{place}: loads {url}" for url in requests if not url.startswith(("file:", "data:"))]
                if (over := browser.run(_OVERFLOW)) > 0:
                    wrong.append(f"{place}: scrolls sideways by {over} px")
                browser.picture(SCREENSHOTS / f"{name.removesuffix('.html').replace('/', '-')}.{view}.{scheme}.png")
    browser.view(*_VIEWS["wide"], "light")
    with served(folder) as host:
        for base in (folder.as_uri(), host):
            for name in ("index.html", "guides/service.html"):
                browser.open(f"{base}/{name}")
                if not re.search(r"[0-9] results\s*cancel_batch\s*Reference\s*Python", browser.wait(_SEARCH)):
                    wrong.append(f"{base.partition(':')[0]}, {name}: the search does not find cancel_batch.")
                wrong += [f"{name}, searched: the console says {line}" for line in browser.console()]
                browser.picture(SCREENSHOTS / "search.png", whole=False)
    browser.open((folder / "reference" / "http.html").as_uri())
    text = browser.run("return document.querySelector('article').innerText")
    (operation,) = [item["post"] for item in SPEC["paths"].values()]
    schemas = SPEC["components"]["schemas"]
    shown = [*operation["responses"], *schemas["TaskStatus"]["enum"], *schemas["TaskType"]["enum"]]
    return wrong + [f"The HTTP reference lacks {value}." for value in shown if not re.search(rf"\b{value}\b", text)]


def main() -> int:
    """Run the command."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        print("docs-check needs Chromium and its driver: apt-get install chromium chromium-driver", file=sys.stderr)
        return 2
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    with Browser(driver, chromium) as browser:
        wrong = check(folder.resolve(), browser)
    for line in wrong:
        print(line, file=sys.stderr)
    pictures = len(list(SCREENSHOTS.iterdir()))
    print(f"{pictures} screenshots in {SCREENSHOTS.relative_to(ROOT)}/, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
