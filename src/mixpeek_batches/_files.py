"""The files of the command: batches to cancel, line by line, and the record of what became of them."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ._settings import checked_identifier, checked_namespace
from .errors import ConfigurationError

Place = tuple[str, str, str | None]
"""Bucket, batch, and namespace if the line names one."""


def parse(line: bytes) -> Place:
    """Read a line of `bucket,batch`, or a JSON object of bucket_identifier, batch_id and perhaps namespace.

    Raises:
        ConfigurationError: It is neither, or names what may not be sent.
    """
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError("it is not UTF-8.") from None
    if text.lstrip().startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigurationError("it is not JSON.") from None
        bucket, batch, namespace = (fields.get(name) for name in ("bucket_identifier", "batch_id", "namespace"))
    else:
        try:
            row = next(csv.reader([text], strict=True))
        except csv.Error as error:
            raise ConfigurationError(f"{error}.") from None
        if len(row) != 2:
            raise ConfigurationError("it is neither bucket,batch nor a JSON object.")
        bucket, batch, namespace = *row, None
    return (
        checked_identifier(bucket, "bucket_identifier"),
        checked_identifier(batch, "batch_id"),
        checked_namespace(namespace),
    )


class Batches:
    """Batches to cancel, in a file that is read twice: once to find what is wrong with it, once to work."""

    def __init__(self, path: str) -> None:
        """Open it.

        Args:
            path: A file, or `-` for standard input. What cannot be read twice is kept in a temporary file.

        Raises:
            ConfigurationError: It cannot be read.
        """
        self._name = "standard input" if path == "-" else path
        if path == "-" and sys.stdin is None:
            raise ConfigurationError(f"{self._name} is closed.")
        try:
            self._file: IO[bytes] = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115
            if path == "-" or not Path(path).is_file():
                spool = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
                shutil.copyfileobj(self._file, spool)
                self._file = spool
        except OSError as error:
            raise ConfigurationError(f"{self._name} cannot be read: {error.strerror}.") from None

    def scan(self, *, skip_invalid: bool) -> tuple[int, list[str]]:
        """Read every line.

        Returns:
            How many batches there are, and what is wrong with lines that are to be skipped.

        Raises:
            ConfigurationError: A line may not be used, and is not to be skipped.
        """
        count, wrong = 0, []
        for number, line in self._lines():
            try:
                parse(line)
            except ConfigurationError as error:
                wrong.append(f"{self._name}, line {number}: {error}")
                if not skip_invalid:
                    raise ConfigurationError(f"{wrong[0]} Nothing was sent; --skip-invalid passes over it.") from None
            else:
                count += 1
        return count, wrong

    def __iter__(self) -> Iterator[Place]:
        for _, line in self._lines():
            try:
                place = parse(line)
            except ConfigurationError:
                continue  # `scan` has said so
            yield place

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield number, text


_START = b'{"bucket_identifier": '  # of each line of a record


class Record:
    """The results so far, a JSON object a line, in a file that outlives the process at whatever moment it ends."""

    def __init__(self, path: Path | None) -> None:
        """Read it, if it is there, and get ready to add to it.

        Args:
            path: The file; None for none.

        Raises:
            ConfigurationError: It cannot be used, or is no record.
        """
        self._canceled: set[bytes] = set()
        self._file: io.FileIO | None = None
        if path is None:
            return
        try:
            path.touch()
            if not path.is_file():
                raise ConfigurationError(f"{path} cannot be used: it is no regular file.")
            whole = 0
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n") and line[: len(_START)] == _START[: len(line)]:
                        break  # the process was ended while it wrote this
                    whole += len(line)
                    self._read(line, f"{path}, line {number}")
            # Unbuffered, so that nothing is left to be written at exit where a disk is full.
            self._file = path.open("rb+", buffering=0)
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be used: {error.strerror}.") from None

    def _read(self, line: bytes, where: str) -> None:
        try:
            entry = json.loads(line)
            place = entry["bucket_identifier"], entry["batch_id"], entry["namespace"]
            canceled = entry["canceled"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ConfigurationError(f"{where} is no record of this command: name another file.") from None
        if canceled:
            self._canceled.add(_digest(*place))

    def __len__(self) -> int:
        return len(self._canceled)

    def has(self, bucket: str, batch: str, namespace: str | None) -> bool:
        """Tell whether a batch is on record as cancelled."""
        return bool(self._canceled) and _digest(bucket, batch, namespace) in self._canceled

    def add(self, entry: dict[str, Any]) -> None:
        """Add a result; it is there even if the process is killed right after.

        Raises:
            OSError: It could not be written.
        """
        line = json.dumps(entry).encode() + b"\n"
        while self._file is not None and line:
            line = line[self._file.write(line) :]


def _digest(bucket: str, batch: str, namespace: str | None) -> bytes:
    # A few bytes for each, whatever the identifiers, as there may be millions.
    return hashlib.blake2b(json.dumps([bucket, batch, namespace]).encode(), digest_size=16).digest()
