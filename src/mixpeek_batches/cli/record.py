"""Files of results, one JSON object per line; each line is on disk even if the process is killed right after."""

from __future__ import annotations

import io
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from mixpeek_batches.errors import ConfigurationError

from .inputs import Pair

_STARTS = (b'{"bucket_identifier": ', b'{"server": ')  # of a result, and of the first line of a record


class ResultFile:
    """A file that results are appended to, locked while it is open.

    With a server it is a record: the results of all runs so far, from which the next run goes on. Its first line
    names the server.

    Args:
        path: The file; it is created if it does not exist.
        server: The base URL of this run, if the file is a record.
        new: Whether the file must be empty.

    Attributes:
        canceled: The batches that the record lists as cancelled.

    Raises:
        ConfigurationError: If the file cannot be used, is in use, or is not a record of this server.
    """

    def __init__(self, path: Path, server: str | None = None, *, new: bool = False) -> None:
        self.canceled: set[Pair] = set()
        with ExitStack() as stack:
            try:
                path.touch()
                if not path.is_file():
                    raise ConfigurationError(f"{path} cannot be used: it is not a regular file.")
                # Unbuffered, so that nothing is left to be written at exit when the disk is full.
                self._file = stack.enter_context(path.open("rb+", buffering=0))
                _lock(self._file, path)
                content = self._file.readall()
                if new and content:
                    raise ConfigurationError(f"{path} is not empty: name another file, or go on with --resume.")
                lines = content.split(b"\n")
                if any(lines[-1].startswith(start[: len(lines[-1])]) for start in _STARTS):
                    lines[-1] = b""  # the process was killed while it wrote this
                is_empty = lines == [b""]
                if server is not None and not is_empty:
                    self._read(path, lines if lines[-1] else lines[:-1], server)
                self._file.truncate(len(b"\n".join(lines)))
                self._file.seek(0, os.SEEK_END)
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be used: {error.strerror}.") from None
            self._open = stack.pop_all()
        self._head = {"server": server} if server is not None and is_empty else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _read(self, path: Path, lines: list[bytes], server: str) -> None:
        recorded = ""
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    recorded = entry["server"]
                elif entry["canceled"]:
                    self.canceled.add((entry["bucket_identifier"], entry["batch_id"], entry["namespace"]))
            except (ValueError, LookupError, TypeError, RecursionError):
                raise ConfigurationError(
                    f"{path}, line {number}, was not written by this command: name another file with --resume."
                ) from None
        if recorded != server:
            raise ConfigurationError(
                f"{path} is the record of {recorded}, but this run is for {server}: name another file with --resume."
            )

    def add(self, entry: dict[str, Any]) -> None:
        """Append a result.

        Raises:
            OSError: If it cannot be written.
        """
        lines = json.dumps(entry).encode() + b"\n"
        if self._head is not None:
            lines = json.dumps(self._head).encode() + b"\n" + lines
            self._head = None
        while lines:
            lines = lines[self._file.write(lines) :]


def _lock(file: io.FileIO, path: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - Windows lacks it; nothing is locked there
    except ModuleNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(f"{path} is in use by another run of this command.") from None
