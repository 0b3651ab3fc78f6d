"""`mixpeek-batches cancel`: its options, and one batch."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixpeek_batches.errors import ConfigurationError, MixpeekError

from .terminal import escaped, namespace_text, print_json, read_text, say

if TYPE_CHECKING:
    from mixpeek_batches import Client, TaskResponse

_file_option = partial(click.option, type=click.Path(path_type=Path), metavar="FILE")
_count_option = partial(click.option, metavar="N", show_default=True)


@click.command
@click.argument("bucket", required=False)
@click.argument("batch", required=False)
@click.option("--namespace", metavar="NAME", help="Namespace of the buckets, by name or id.  [env: MIXPEEK_NAMESPACE]")
@click.option(
    "--from",
    "source",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Cancel all batches of a file: a spreadsheet saved as CSV, JSON lines, or results of this command; - is "
    "standard input.",
)
@click.option(
    "--columns",
    metavar="BUCKET,BATCH[,NAMESPACE]",
    help="With --from: which columns to read, as numbers from 1 or as names from the first line.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, show what would be cancelled, and send nothing.")
@click.option("--yes", "-y", is_flag=True, help="With --from: do not ask before the start.")
@_file_option(
    "--resume",
    help="With --from: keep a record in this file and skip what it lists as cancelled, so that the same command "
    "continues where it stopped.",
)
@_file_option("--output", help="With --from: write results to this file; with --resume, append to it.")
@click.option("--skip-invalid", is_flag=True, help="With --from: skip lines that cannot be used.")
@_count_option(
    "--concurrency", type=click.IntRange(1, 1000), default=16, help="With --from: how many requests may be in flight."
)
@_count_option(
    "--max-rate",
    type=click.FloatRange(0, min_open=True),
    help="With --from: at most this many requests per second; the server's own limit is found in any case.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="Seconds that one attempt may take.",
)
@_count_option("--max-retries", type=click.IntRange(0), default=2, help="How often to retry a transient failure.")
@_file_option("--api-key-file", help="A file that holds the API key, instead of MIXPEEK_API_KEY.")
@click.option("--base-url", metavar="URL", help="The URL of the API.  [env: MIXPEEK_BASE_URL]")
@click.option("--allow-http", is_flag=True, help="Send the key unencrypted to another machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per batch, as --from always does.")
def cancel(
    bucket: str | None,
    batch: str | None,
    source: str | None,
    namespace: str | None,
    api_key_file: Path | None,
    base_url: str | None,
    allow_http: bool,
    timeout: float,
    max_retries: int,
    dry_run: bool,
    as_json: bool,
    **many: Any,
) -> None:
    """Cancel a batch, or all batches of a file. A batch that is cancelled already stays so.

    The API key is read from MIXPEEK_API_KEY or a file, never from an argument, which other users of this machine could
    see.

    \b
    Examples:
      mixpeek-batches cancel bkt_products btch_123 --namespace netflix_prod
      mixpeek-batches cancel --from batches.csv --resume done.jsonl
    """  # noqa: D301 - \b is click's: it keeps the following lines as they are
    if (source is None) == (bucket is None) or (bucket is None) != (batch is None):
        raise click.UsageError("Name a bucket and a batch, or a file with --from.")
    if source is None:
        for name in ("columns", "resume", "output", "skip_invalid", "max_rate"):
            if many[name]:
                raise click.UsageError(f"--{name.replace('_', '-')} needs --from.")

    from mixpeek_batches import Client, _settings  # noqa: PLC0415 - slow to load, and not needed for --help

    _settings.checked_namespace(namespace, "--namespace")
    if bucket is not None and batch is not None:
        _settings.checked_identifier(bucket, "BUCKET")
        _settings.checked_identifier(batch, "BATCH")
    with Client(
        api_key=None if api_key_file is None else _read_key(api_key_file),
        namespace=namespace,
        base_url=base_url,
        timeout=timeout,
        max_retries=max_retries,
        allow_http=allow_http,
    ) as client:
        key = "MIXPEEK_API_KEY" if api_key_file is None else f"the key in {api_key_file}"
        if source is not None:
            from .many import Options, cancel_many  # noqa: PLC0415 - not needed for one batch

            code = cancel_many(client, Options(source=source, dry_run=dry_run, **many), key)
        else:
            assert bucket is not None
            assert batch is not None
            if dry_run:
                _print_plan(client, bucket, batch, as_json)
                code = 0
            else:
                code = _cancel_one(client, bucket, batch, key, as_json)
    if code:
        raise click.exceptions.Exit(code)


def _read_key(path: Path) -> str:
    key = read_text(path).strip()
    if not key:
        raise ConfigurationError(f"{path} holds no API key.")
    return key


class _RetryMessages(logging.Handler):
    """Shows the warnings of the client, which it logs before each retry."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _cancel_one(client: Client, bucket: str, batch: str, key: str, as_json: bool) -> int:
    from mixpeek_batches.results import CancelResult  # noqa: PLC0415 - slow to load

    logging.getLogger("mixpeek_batches").handlers = [_RetryMessages()]
    outcome, attempts = client._cancel(bucket, batch)
    task, error = (None, outcome) if isinstance(outcome, MixpeekError) else (outcome, None)
    result = CancelResult(
        bucket_identifier=bucket,
        batch_id=batch,
        namespace=client.namespace,
        task=task,
        error=error,
        attempts=attempts,
    )
    name = f"{batch} of {bucket}"
    try:
        if as_json:
            print_json(result.to_dict())
        elif task is not None:
            _print_task(name, task)
    except OSError:
        if task is not None:
            say(f"{name} is {task.status}.")
        raise
    if error is not None:
        from .summary import find_cause  # noqa: PLC0415 - needed for failures alone

        advice = find_cause(result, key, client.base_url).advice
        say(f"{name}: {error}" + (f" {advice[0].upper()}{advice[1:]}." if advice else ""))
    elif task is not None and not result.canceled:
        say(f"{name} is {task.status}, not CANCELED.")
    return 0 if result.canceled else 1


def _print_plan(client: Client, bucket: str, batch: str, as_json: bool) -> None:
    from mixpeek_batches.results import CancelResult  # noqa: PLC0415 - slow to load

    if as_json:
        plan = CancelResult(bucket_identifier=bucket, batch_id=batch, namespace=client.namespace).to_dict()
        print_json({**plan, "dry_run": True})
    else:
        where = f"in {namespace_text(client.namespace)} at {client.base_url}"
        print(escaped(f"Would cancel {batch} of {bucket} {where}; nothing was sent."))


def _print_task(name: str, task: TaskResponse) -> None:
    color = False if os.environ.get("NO_COLOR") else None  # None: if stdout is a terminal
    status = click.style(escaped(task.status), fg="green" if task.status == "CANCELED" else "yellow", bold=True)
    click.echo(f"{escaped(name)}: {status}", color=color)
    data = task.to_dict()
    rows: dict[str, object] = {"task": task.task_id, "type": task.task_type}
    rows |= {name: len(data[name]) for name in ("inputs", "outputs") if isinstance(data.get(name), list)}
    if data.get("error_message") is not None:
        rows["error"] = data["error_message"]
    for label, value in rows.items():
        click.echo(f"{click.style(f'  {label:<7}', dim=True)}  {escaped(str(value))}", color=color)
