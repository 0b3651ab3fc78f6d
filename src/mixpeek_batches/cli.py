"""The command `mixpeek-batches`. Needs the [cli] extra; its `mock` needs [mock] too.

Results go to stdout, messages to stderr. Exit codes: 0 all cancelled, 1 some not, 2 wrong usage or configuration,
130 interrupted.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs

from . import __version__
from ._files import Batches, Place, Record
from ._results import CancelResult, Halt
from ._settings import checked_identifier
from .client import Client
from .errors import APIStatusError, ConfigurationError, MixpeekError

try:
    import typer

    from ._progress import Tally
except ModuleNotFoundError as _error:
    print(f"mixpeek-batches: the command needs {_error.name}: pip install 'mixpeek-batches[cli]'", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from types import FrameType

    from mixpeek_batches_api.models import TaskResponse

    from .mock.state import RecordedRequest

_INTERRUPTED = 130

app = typer.Typer(
    name="mixpeek-batches",
    help="Cancel batches of a Mixpeek bucket, or run a mock of the API that does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would swallow what stands in brackets
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command with the arguments of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    app()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mixpeek-batches {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def cancel(
    bucket: Annotated[str | None, typer.Argument(help="The bucket that holds the batch.", show_default=False)] = None,
    batch: Annotated[str | None, typer.Argument(help="The batch.", show_default=False)] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Cancel many: lines of bucket,batch or JSON objects; - for standard input."
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Name or id of the buckets' namespace.  [env: MIXPEEK_NAMESPACE]")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Where the API is.  [env: MIXPEEK_BASE_URL]")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file that holds the API key, in place of MIXPEEK_API_KEY.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="With --from: how many requests are under way at a time.")] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds that one attempt may take.")] = 30.0,
    max_retries: Annotated[int, typer.Option(help="How often an attempt that failed in passing is repeated.")] = 2,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --from: keep the record in this file, and skip what it has as cancelled."
        ),
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="With --from: pass over lines that cannot be used.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --from: do not ask.")] = False,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Send the key unencrypted to another machine.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a batch, as --from always does.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and send nothing.")] = False,
) -> None:
    """Cancel a batch, or many. The API key is read from MIXPEEK_API_KEY or a file, never from an argument."""
    if (from_ is None) == (bucket is None) or (bucket is None) != (batch is None):
        raise typer.BadParameter("Name a bucket and a batch, or a file by --from.")
    if from_ is None and (resume is not None or skip_invalid):
        raise typer.BadParameter("--resume and --skip-invalid go with --from.")
    with _reported():
        client = Client(
            api_key=None if api_key_file is None else _key(api_key_file),
            namespace=namespace,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            allow_http=allow_http,
        )
        with client:
            if from_ is not None:
                code = _cancel_many(
                    client,
                    from_,
                    concurrency=concurrency,
                    resume=resume,
                    skip_invalid=skip_invalid,
                    ask=not yes,
                    dry_run=dry_run,
                )
            else:
                code = _cancel_one(client, str(bucket), str(batch), as_json=as_json, dry_run=dry_run)
    if code:
        raise typer.Exit(code)


def _cancel_one(client: Client, bucket: str, batch: str, *, as_json: bool, dry_run: bool) -> int:
    if dry_run:
        checked_identifier(bucket, "BUCKET")
        checked_identifier(batch, "BATCH")
        _print_plan(client, bucket, batch, as_json=as_json)
        return 0
    result = CancelResult(bucket_identifier=bucket, batch_id=batch)
    try:
        result = attrs.evolve(result, task=client.cancel_batch(bucket, batch))
    except ConfigurationError:
        raise
    except MixpeekError as failure:
        result = attrs.evolve(result, error=failure)
    if as_json:
        print(json.dumps(_record(client, result)))
    elif result.task is not None:
        _print_task(bucket, batch, result.task)
    if result.error is not None:
        _say(f"{batch} of {bucket}: {result.error}")
    elif result.task is not None and not result.canceled:
        _say(f"{batch} of {bucket} is {result.task.status}, not CANCELED.")
    return 0 if result.canceled else 1


def _cancel_many(
    client: Client,
    path: str,
    *,
    concurrency: int,
    resume: Path | None,
    skip_invalid: bool,
    ask: bool,
    dry_run: bool,
) -> int:
    client._check_bulk(concurrency, None)
    record, batches = Record(resume), Batches(path)
    count, wrong = batches.scan(skip_invalid=skip_invalid)
    for line in wrong:
        _say(f"{line} Skipped.")

    def todo() -> Iterator[Place]:
        for place in batches:
            if not record.has(place[0], place[1], client.namespace if place[2] is None else place[2]):
                yield place

    left = sum(1 for _ in todo()) if len(record) else count
    if left < count:
        _say(f"{count - left:,} of {count:,} are on record as cancelled, and skipped.")
    if dry_run:
        _say(f"Would cancel {left:,} batches at {client.base_url}; nothing was sent.")
        return 0
    if left > 1 and ask and sys.stderr.isatty():
        if not sys.stdin.isatty():
            raise ConfigurationError(f"Nobody can be asked whether to cancel {left:,} batches: pass --yes.")
        # Not by typer.confirm, which writes a space to stdout.
        print(f"Cancel {left:,} batches at {client.base_url}? [y/N]: ", end="", file=sys.stderr, flush=True)
        sure = sys.stdin.readline().strip().lower() in {"y", "yes"}
        if not sure:
            _say("Nothing was sent.")
            return 1
    logging.getLogger("mixpeek_batches").setLevel(logging.ERROR)  # there may be thousands of retries
    halt, tally, unwritten = Halt(), Tally(left), ""
    with _halted_by_signals(halt), tally:
        for result in client._cancel_batches(todo(), concurrency, None, halt):
            entry = _record(client, result)
            for write in (record.add, _print_entry):
                try:
                    write(entry)
                except OSError as error:
                    unwritten = error.strerror or str(error)
                    halt.set()
            tally.add(result)
    if unwritten:
        _say(f"Stopped, because a result could not be written: {unwritten}.")
    _say(("Interrupted: " if halt.is_set and not unwritten else "") + tally.summary())
    if halt.is_set and not unwritten:
        return _INTERRUPTED
    return 1 if unwritten or wrong or tally.canceled < left else 0


def _print_entry(entry: dict[str, Any]) -> None:
    try:
        print(json.dumps(entry), flush=True)
    except OSError:
        # What is left in the buffer would fail again at the end of the process, and change its exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def _halted_by_signals(halt: Halt) -> Iterator[None]:
    """Let a signal end the work in order, so that what was done is on record; a second one ends it as it is."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if halt.is_set:
            raise KeyboardInterrupt
        halt.set()

    old = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@app.command()
def mock(
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 0,
    batches: Annotated[
        Path | None, typer.Option(help="A file of batches to start with: a JSON array, or JSON objects, one a line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the URL and the key as one JSON object.")] = False,
) -> None:
    """Run a mock of the API on this machine, until Ctrl-C. Each request is shown on stderr."""
    try:
        from .mock import MockServer  # noqa: PLC0415 - another extra, and slow to load
    except ModuleNotFoundError as error:
        _say(str(error))
        raise typer.Exit(2) from None

    with _reported():
        server = MockServer(port=port)
        if batches is not None:
            server.add_batches(_batches(batches))
        server.on_request = _say_request
        signal.signal(signal.SIGTERM, _stop)
        try:
            with server:
                if as_json:
                    print(json.dumps({"url": server.url, "api_key": server.api_key}), flush=True)
                else:
                    print(f"A mock of the Mixpeek API, holding {len(server.batches)} batches. Ctrl-C stops it.")
                    print(f"export MIXPEEK_BASE_URL={server.url}")
                    print(f"export MIXPEEK_API_KEY={server.api_key}", flush=True)
                while True:
                    time.sleep(3600)
        except KeyboardInterrupt:
            return


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say_request(request: RecordedRequest) -> None:
    answer = "no answer" if request.status_code is None else request.status_code
    _say(f"{request.method} {request.path} -> {answer}")


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what may go wrong before anything was sent into a sentence and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        _say(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _say("Interrupted.")
        raise typer.Exit(_INTERRUPTED) from None


def _say(text: str) -> None:
    print(f"mixpeek-batches: {_shown(text)}", file=sys.stderr, flush=True)


def _shown(text: str) -> str:
    """Make text harmless for a terminal: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(f"{path} cannot be read: {reason}.") from None


def _key(path: Path) -> str:
    key = _read(path).strip()
    if not key:
        raise ConfigurationError(f"{path} holds no API key.")
    return key


def _batches(path: Path) -> list[Any]:
    text = _read(path)
    try:
        if text.lstrip().startswith("["):
            array: list[Any] = json.loads(text)
            return array
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} holds neither a JSON array nor JSON lines: {error}.") from None


def _record(client: Client, result: CancelResult) -> dict[str, Any]:
    return {
        "bucket_identifier": result.bucket_identifier,
        "batch_id": result.batch_id,
        "namespace": client.namespace if result.namespace is None else result.namespace,
        "canceled": result.canceled,
        "task": None if result.task is None else result.task.to_dict(),
        "error": None if result.error is None else _facts(result.error),
    }


def _facts(error: MixpeekError) -> dict[str, Any]:
    facts: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    if isinstance(error, APIStatusError):
        facts["message"] = error.message
        facts |= {"type": error.type, "details": error.details}
    return facts | {name: getattr(error, name, None) for name in ("status_code", "request_id")}


def _print_plan(client: Client, bucket: str, batch: str, *, as_json: bool) -> None:
    if as_json:
        plan = _record(client, CancelResult(bucket_identifier=bucket, batch_id=batch))
        print(json.dumps({**plan, "dry_run": True}))
        return
    place = "the key's default namespace" if client.namespace is None else f"namespace {_shown(client.namespace)}"
    print(f"Would cancel {_shown(batch)} of {_shown(bucket)} in {place} at {client.base_url}; nothing was sent.")


def _print_task(bucket: str, batch: str, task: TaskResponse) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for JSON
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    done = task.status == "CANCELED"
    console.print(
        Text.assemble(
            f"{_shown(batch)} of {_shown(bucket)}: ", (_shown(task.status), "bold green" if done else "bold yellow")
        )
    )
    table = Table.grid(padding=(0, 2))
    data = task.to_dict()
    rows = {
        "task": task.task_id,
        "type": task.task_type,
        "inputs": _count(data.get("inputs")),
        "outputs": _count(data.get("outputs")),
        "error": data.get("error_message"),
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(Text(f"  {name}", "dim"), Text(_shown(str(value)), overflow="fold"))
    console.print(table)


def _count(items: Any) -> str | None:
    return str(len(items)) if isinstance(items, list) else None


if __name__ == "__main__":
    main()
