"""The record of a run, and the file of its results: a JSON object a line, there at whatever moment the process ends."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from mixpeek_batches.errors import ConfigurationError

from .inputs import digest

_RESULT = b'{"bucket_identifier": '  # begins each line of a result
_HEAD = b'{"server": '  # begins the first line of a record


class ResultFile:
    """A file of results that is added to, and locked meanwhile.

    Args:
        path: The file.
        read: Takes each line that is there, with its number; None if there must not be any.

    Raises:
        ConfigurationError: It cannot be used.
    """

    def __init__(self, path: Path, read: Callable[[bytes, int], None] | None) -> None:
        with ExitStack() as stack:
            try:
                path.touch()
                if not path.is_file():
                    raise ConfigurationError(f"{path} cannot be used: it is no regular file.")
                # Unbuffered, so that nothing is left to be written at exit where a disk is full.
                self._file = stack.enter_context(path.open("rb+", buffering=0))
                _lock(self._file, path)
                if read is None:
                    if path.stat().st_size:
                        raise ConfigurationError(f"{path} is not empty: name another file, or go on by --resume.")
                else:
                    self._file.truncate(_read_whole(path, read))
                self._file.seek(0, os.SEEK_END)
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be used: {error.strerror}.") from None
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, entry: dict[str, Any]) -> None:
        """Add a line; it is there even if the process is killed right after.

        Raises:
            OSError: It could not be written.
        """
        line = json.dumps(entry).encode() + b"\n"
        while line:
            line = line[self._file.write(line) :]


class Record:
    """The results so far of all runs with one file, by which the next one goes on.

    Its first line names the server, each other one is a `CancelResult.to_dict()`.

    Args:
        path: The file.
        server: The base URL of this run.

    Raises:
        ConfigurationError: It cannot be used, is no record, or is that of another server.
    """

    def __init__(self, path: Path, server: str) -> None:
        self._path = path
        self._server = server
        self._canceled: set[bytes] = set()
        self._begun = False
        self._file = ResultFile(path, self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__()

    def _read(self, line: bytes, number: int) -> None:
        try:
            entry = json.loads(line)
            if number > 1:
                if entry["canceled"]:
                    self._canceled.add(digest(entry["bucket_identifier"], entry["batch_id"], entry["namespace"]))
                return
            server = str(entry["server"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ConfigurationError(
                f"{self._path}, line {number}, is not from a run of this command: name another file by --resume."
            ) from None
        self._begun = True
        if server != self._server:
            raise ConfigurationError(
                f"{self._path} is the record of {server}, and this run is for {self._server}: "
                "name another file by --resume."
            )

    def has(self, key: bytes) -> bool:
        """Tell whether a batch, by its digest, is on record as cancelled."""
        return key in self._canceled

    def add(self, entry: dict[str, Any]) -> None:
        """Add a result.

        Raises:
            OSError: It could not be written.
        """
        if not self._begun:
            self._begun = True
            self._file.add({"server": self._server})
        self._file.add(entry)


def _read_whole(path: Path, read: Callable[[bytes, int], None]) -> int:
    """Hand each line of a file to `read`, and give the length of all that are whole."""
    length = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n") and any(line[: len(s)] == s[: len(line)] for s in (_RESULT, _HEAD)):
                break  # the process was ended while it wrote this
            length += len(line)
            read(line, number)
    return length


def _lock(file: io.FileIO, path: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - Windows has none; there, nothing is locked
    except ModuleNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(f"{path} is in use by another run of this command.") from None
