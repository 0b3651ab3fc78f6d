"""`mixpeek-batches cancel`: its options, and one batch."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mixpeek_batches.errors import ConfigurationError, MixpeekError

from .terminal import namespace_text, print_json, read, reported, say, shown

if TYPE_CHECKING:
    from mixpeek_batches import Client, TaskResponse


@click.command
@click.argument("bucket", required=False)
@click.argument("batch", required=False)
@click.option("--namespace", metavar="NAME", help="Name or id of the buckets' namespace.  [env: MIXPEEK_NAMESPACE]")
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
    help="With --from: which columns to read, as numbers from 1 or as names of the first line.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be cancelled, and send nothing.")
@click.option("--yes", "-y", is_flag=True, help="With --from: do not ask before the start.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --from: keep a record in this file, and leave out what it has as cancelled, so that the same line again "
    "goes on.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --from: write results to this file in place of standard output; with --resume, add to it.",
)
@click.option("--skip-invalid", is_flag=True, help="With --from: leave out lines that cannot be used.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=16,
    show_default=True,
    help="With --from: how many requests may be in flight at a time.",
)
@click.option(
    "--max-rate",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="With --from: how many requests to send in a second at most; the server's own limit is found in any case.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="Seconds that one attempt may take.",
)
@click.option(
    "--max-retries",
    type=click.IntRange(0),
    metavar="N",
    default=2,
    show_default=True,
    help="How often a transient failure is retried.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file that holds the API key, in place of MIXPEEK_API_KEY.",
)
@click.option("--base-url", metavar="URL", help="Where the API is.  [env: MIXPEEK_BASE_URL]")
@click.option("--allow-http", is_flag=True, help="Send the key unencrypted to another machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a batch, as --from always does.")
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
    """Cancel a batch, or all batches of a file. What is cancelled already stays so.

    The API key is read from MIXPEEK_API_KEY or a file, never from an argument, which others on this machine could see.

    \b
    Examples:
      mixpeek-batches cancel bkt_products btch_123 --namespace netflix_prod
      mixpeek-batches cancel --from batches.csv --resume done.jsonl
    """  # noqa: D301 - \b is click's, which leaves the lines after it as they are
    if (source is None) == (bucket is None) or (bucket is None) != (batch is None):
        raise click.UsageError("Name a bucket and a batch, or a file by --from.")
    if source is None:
        for name in ("columns", "resume", "output", "skip_invalid", "max_rate"):
            if many[name]:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --from.")
    with reported():
        from mixpeek_batches import Client, _settings  # noqa: PLC0415 - slow to load, and not needed for --help

        _settings.checked_namespace(namespace, "--namespace")
        if bucket is not None and batch is not None:
            _settings.checked_identifier(bucket, "BUCKET")
            _settings.checked_identifier(batch, "BATCH")
        client = Client(
            api_key=None if api_key_file is None else _key(api_key_file),
            namespace=namespace,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            allow_http=allow_http,
        )
        key = "MIXPEEK_API_KEY" if api_key_file is None else f"the key in {shown(str(api_key_file))}"
        with client:
            if source is not None:
                from .many import Options, cancel_many  # noqa: PLC0415 - not needed for one

                code = cancel_many(client, Options(source=source, key=key, timeout=timeout, dry_run=dry_run, **many))
            else:
                assert bucket is not None
                assert batch is not None
                if dry_run:
                    _print_plan(client, bucket, batch, as_json=as_json)
                    code = 0
                else:
                    code = _cancel_one(client, bucket, batch, key, timeout, as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)


class _Retries(logging.Handler):
    """Says what the client warns of: that it tries again."""

    def emit(self, record: logging.LogRecord) -> None:
        say(shown(record.getMessage()))


def _cancel_one(client: Client, bucket: str, batch: str, key: str, timeout: float, *, as_json: bool) -> int:
    from mixpeek_batches.results import CancelResult  # noqa: PLC0415 - slow to load

    logging.getLogger("mixpeek_batches").addHandler(_Retries())
    outcome, attempts = client._cancel(bucket, batch)
    error = outcome if isinstance(outcome, MixpeekError) else None
    task = None if isinstance(outcome, MixpeekError) else outcome
    result = CancelResult(
        bucket_identifier=bucket,
        batch_id=batch,
        namespace=client.namespace,
        task=task,
        error=error,
        attempts=attempts,
    )
    name = f"{shown(batch)} of {shown(bucket)}"
    try:
        if as_json:
            print_json(result.to_dict())
        elif task is not None:
            _print_task(bucket, batch, task)
    except OSError:
        if task is not None:
            say(f"{name} is {shown(task.status)}.")
        raise
    if error is not None:
        from .summary import Settings, kind  # noqa: PLC0415 - for failures alone

        advice = kind(result, Settings(key, client.base_url, timeout)).advice
        say(f"{name}: {shown(str(error))}" + (f" {advice[0].upper()}{advice[1:]}." if advice else ""))
    elif task is not None and not result.canceled:
        say(f"{name} is {shown(task.status)}, not CANCELED.")
    return 0 if result.canceled else 1


def _key(path: Path) -> str:
    key = read(path).strip()
    if not key:
        raise ConfigurationError(f"{path} holds no API key.")
    return key


def _print_plan(client: Client, bucket: str, batch: str, *, as_json: bool) -> None:
    from mixpeek_batches.results import CancelResult  # noqa: PLC0415 - slow to load

    if as_json:
        plan = CancelResult(bucket_identifier=bucket, batch_id=batch, namespace=client.namespace).to_dict()
        print_json({**plan, "dry_run": True})
        return
    where = f"in {namespace_text(client.namespace)} at {client.base_url}"
    print(f"Would cancel {shown(batch)} of {shown(bucket)} {where}; nothing was sent.")


def _print_task(bucket: str, batch: str, task: TaskResponse) -> None:
    color = False if os.environ.get("NO_COLOR") else None  # None: if stdout is a terminal
    status = click.style(shown(task.status), fg="green" if task.status == "CANCELED" else "yellow", bold=True)
    click.echo(f"{shown(batch)} of {shown(bucket)}: {status}", color=color)
    data = task.to_dict()
    rows = {
        "task": task.task_id,
        "type": task.task_type,
        "inputs": _count(data.get("inputs")),
        "outputs": _count(data.get("outputs")),
        "error": data.get("error_message"),
    }
    width = max(len(name) for name, value in rows.items() if value is not None)
    for name, value in rows.items():
        if value is not None:
            click.echo(f"{click.style(f'  {name:<{width}}', dim=True)}  {shown(str(value))}", color=color)


def _count(items: Any) -> str | None:
    return str(len(items)) if isinstance(items, list) else None
