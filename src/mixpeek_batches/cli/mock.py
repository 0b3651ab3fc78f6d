"""`mixpeek-batches mock`: the mock as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixpeek_batches.errors import ConfigurationError

from .terminal import counted_batches, print_json, read_text, say

if TYPE_CHECKING:
    from types import FrameType

    from mixpeek_batches.mock import RecordedRequest


def _parse_rate(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, int] | None:
    """Parse requests per second, optionally with a burst: `5` or `5/10`."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)(?:/([0-9]+))?", value)
    rate, burst = (float(found[1]), int(found[2] or 1)) if found else (0.0, 0)
    if not (rate and burst):
        raise click.BadParameter(f"{value!r} is neither a rate above 0, such as 5, nor one with a burst, such as 5/10.")
    return rate, burst


@click.command
@click.option("--port", type=int, metavar="N", default=0, show_default=True, help="The port; 0 takes a free one.")
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; 0.0.0.0 lets other machines and containers in.",
)
@click.option(
    "--batches",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file of batches to start with and to restore on each reset: a JSON array, or one JSON object per line.",
)
@click.option(
    "--rate-limit",
    callback=_parse_rate,
    metavar="N[/BURST]",
    help="Respond with 429 and Retry-After beyond N requests per second, of which BURST (1) may come at once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the URL and the key as one JSON object.")
def mock(port: int, host: str, batches: Path | None, rate_limit: tuple[float, int] | None, as_json: bool) -> None:
    """Run a mock of the API until Ctrl-C. Each request is shown on stderr.

    \b
    Examples:
      mixpeek-batches mock --port 8377 --batches batches.json
      mixpeek-batches mock --rate-limit 5/10 --json
    """  # noqa: D301 - \b is click's: it keeps the following lines as they are
    try:
        from mixpeek_batches.mock import MockServer  # noqa: PLC0415 - another extra, and slow to load
    except ModuleNotFoundError as error:
        raise ConfigurationError(str(error)) from None

    class LimitedServer(MockServer):
        def reset(self) -> None:
            super().reset()
            if rate_limit is not None:
                self.limit_rate(*rate_limit)

    server = LimitedServer(port=port, host=host, batches=() if batches is None else _read_batches(batches))
    server.on_request = _show_request
    try:
        with server:
            signal.signal(signal.SIGTERM, _interrupt)
            if as_json:
                print_json({"url": server.url, "api_key": server.api_key})
            else:
                held = counted_batches(server.counts()["batches"])
                print(f"A mock of the Mixpeek API, holding {held}. Ctrl-C stops it.")
                print(f"export MIXPEEK_BASE_URL={server.url}")
                print(f"export MIXPEEK_API_KEY={server.api_key}", flush=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_request(request: RecordedRequest) -> None:
    status = "no response" if request.status_code is None else request.status_code
    say(f"{request.method} {request.path} -> {status}")


def _read_batches(path: Path) -> list[Any]:
    text = read_text(path)
    try:
        if text.lstrip().startswith("["):
            array: list[Any] = json.loads(text)
            return array
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} holds neither a JSON array nor JSON lines: {error}.") from None
