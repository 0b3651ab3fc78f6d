"""Input files: which batches to cancel, as spreadsheets, scripts and this command itself write them."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from mixpeek_batches._settings import checked_identifier, checked_namespace
from mixpeek_batches.errors import ConfigurationError

Pair = tuple[str, str, str | None]
"""Bucket, batch, and namespace if the line names one."""

_SEPARATORS = ",;\t"
_SAMPLE = 50  # lines that the separator is found by
_LONGEST = 100  # lines of one quoted field; more is a quote that somebody forgot
_LISTED = 20  # lines that cannot be used, of those that are shown
_EXAMPLES = 3  # batches of a plan
_NAMES = {
    "bucket": ("bucket_identifier", "bucket", "bucket_id"),
    "batch": ("batch_id", "batch"),
    "namespace": ("namespace",),
}
_CHOOSE = (
    "choose columns by number, as in --columns 1,2, or by their names in the first line, as in --columns Bucket,Batch"
)
_HINT = (
    "A line is a bucket, a batch and perhaps a namespace, with commas, semicolons or tabs between them. "
    f"If there is more, {_CHOOSE}."
)
_NOT_UTF8 = "it is not UTF-8: save the file as “CSV UTF-8”."
_NO_TEXT = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # what a spreadsheet begins with that was not saved as CSV


class _ColumnsError(ConfigurationError):
    """A line has other columns than a batch."""


class Scan:
    """What a whole file holds.

    Attributes:
        left: Batches to cancel.
        recorded: Batches that were left out, as they are on record as cancelled.
        repeated: Lines that name a batch once more.
        buckets: The buckets of what is left.
        namespaces: Their namespaces.
        examples: The first few of what is left.
        wrong: What is wrong with the first lines that cannot be used.
        wrong_count: How many lines cannot be used.
        hint: What may help with them.
    """

    def __init__(self) -> None:
        self.left = self.recorded = self.repeated = self.wrong_count = 0
        self.buckets: set[str] = set()
        self.namespaces: set[str | None] = set()
        self.examples: list[Pair] = []
        self.wrong: list[str] = []
        self.hint = ""


def digest(bucket: str, batch: str, namespace: str | None) -> bytes:
    """Stand for a batch in a few bytes, whatever its identifiers, as there may be millions."""
    return hashlib.blake2b(repr((bucket, batch, namespace)).encode(), digest_size=16).digest()


class Batches:
    """Batches to cancel, in a file that is read twice: once to find what is wrong with it, once to work.

    Args:
        path: A file, or `-` for standard input. What cannot be read twice is kept in a temporary file.
        columns: What --columns says: two or three numbers or names, with commas.

    Raises:
        ConfigurationError: It cannot be read, or `columns` makes no sense.
    """

    def __init__(self, path: str, columns: str | None = None) -> None:
        self._name = "standard input" if path == "-" else path
        if path == "-" and sys.stdin is None:
            raise ConfigurationError(f"{self._name} is closed.")
        with ExitStack() as stack:
            try:
                self._file: IO[bytes] = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
                if path == "-" or not Path(path).is_file():
                    spool = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(self._file, spool)
                    self._file = spool
                self._file.seek(0)
                start = self._file.read(4)
                if start in _NO_TEXT:
                    raise ConfigurationError(f"{self._name} is no text file: save the spreadsheet as “CSV UTF-8”.")
                if start[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:  # "Unicode text" of Excel
                    spool = stack.enter_context(tempfile.TemporaryFile())
                    _copy_as_utf8(self._file, spool)
                    self._file = spool
            except OSError as error:
                raise ConfigurationError(f"{self._name} cannot be read: {error.strerror}.") from None
            self._layout = self._find_layout(_chosen(columns))
            self._use = bytearray()  # 1 for each record that is to be sent
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def scan(self, namespace: str | None, is_recorded: Callable[[bytes], bool]) -> Scan:
        """Read every line.

        Args:
            namespace: The namespace of lines that name none.
            is_recorded: Whether the record has a batch, by its digest, as cancelled.
        """
        found, seen = Scan(), set()
        self._use.clear()
        for number, content in self._records():
            self._use.append(0)
            try:
                pair = self._layout.pair(content)
            except ConfigurationError as error:
                found.wrong_count += 1
                if len(found.wrong) < _LISTED:
                    found.wrong.append(f"{self._name}, line {number}: {error}")
                if isinstance(error, _ColumnsError):
                    found.hint = _HINT
                continue
            own = namespace if pair[2] is None else pair[2]
            key = digest(pair[0], pair[1], own)
            if key in seen:
                found.repeated += 1
                continue
            seen.add(key)
            if is_recorded(key):
                found.recorded += 1
                continue
            self._use[-1] = 1
            found.left += 1
            found.buckets.add(pair[0])
            found.namespaces.add(own)
            if len(found.examples) < _EXAMPLES:
                found.examples.append((pair[0], pair[1], own))
        return found

    def __iter__(self) -> Iterator[Pair]:
        """Give what the scan found to be left."""
        # The file may grow meanwhile: a record that is read to be gone on with.
        for wanted, (_, content) in zip(self._use, self._records(), strict=False):
            if wanted:
                yield self._layout.pair(content)

    def _records(self) -> Iterator[tuple[int, _Content]]:
        """Give the records of the file, each with the number of its line, and without header and blank lines."""
        skip = self._layout.skip
        for number, content in _records(self._lines(), self._layout.separator):
            if number not in skip:
                yield number, content

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line

    def _find_layout(self, columns: list[str] | None) -> _Layout:
        """Find separator and columns by the first lines."""
        sample = [(n, line) for (n, line), _ in zip(self._lines(), range(_SAMPLE), strict=False)]
        skip: set[int] = set()
        layouts = []
        if sample and (told := re.fullmatch(rb"sep=([,;\t])\s*", sample[0][1])):  # Excel's own first line
            skip.add(1)
            separators = [told[1].decode()]
        else:
            separators = list(_SEPARATORS)
        for separator in separators:
            rows = [
                (n, content)
                for n, content in _records(iter(sample), separator)
                if n not in skip and isinstance(content, list)
            ]
            layouts.append(_Layout.of(rows, separator, skip, columns))
        best = max(layouts, key=lambda layout: layout.fits)
        number, first = next(_records(iter(sample), best.separator), (0, ""))
        problem = f"line {number}: {_NOT_UTF8}" if first == _NOT_UTF8 else best.problem  # it may be the header
        if problem:
            raise ConfigurationError(f"{self._name}, {problem} Nothing was sent.")
        return best


_Content = list[str] | dict[str, Any] | str
"""The fields of a line, a JSON object, or what is wrong with it."""


class _Layout(NamedTuple):
    """How to read a file.

    Attributes:
        separator: Stands between two fields.
        skip: The numbers of lines that are none of a batch, such as the header.
        columns: Where bucket, batch and namespace are, from 0; None: two or three columns, as the line has.
        problem: Why it cannot be read like this.
        fits: How well it fits the file, to be compared.
    """

    separator: str
    skip: frozenset[int]
    columns: tuple[int, int, int | None] | None
    problem: str = ""
    fits: tuple[int, tuple[int, int]] = (0, (0, 0))

    @classmethod
    def of(
        cls, rows: list[tuple[int, list[str]]], separator: str, skip: set[int], columns: list[str] | None
    ) -> _Layout:
        """Read the first rows."""
        widths = [len(row) for _, row in rows if len(row) > 1]
        # The more lines have the same columns the better, and then the more columns: 3,5 is a number in some places.
        usual = max(((widths.count(width), width) for width in widths), default=(0, 0))
        if not rows:
            return cls(separator, frozenset(skip), None, fits=(1, (0, 0)))
        number, first = rows[0]
        listed = f"{_quoted(first, ', ')}."
        names = [re.sub(r"[\s-]+", "_", name.strip()).lower() for name in first]
        header = {
            part: names.index(name) for part, known in _NAMES.items() for name in reversed(known) if name in names
        }
        if columns is not None:
            if all(column.isascii() and column.isdigit() for column in columns):
                at = [int(column) - 1 for column in columns]
                labels = {names[index] for index in at if index < len(names)}
                if labels & {name for known in _NAMES.values() for name in known}:
                    skip = {*skip, number}  # it names what they are
            else:
                exact = [name.strip() for name in first]
                unknown = [column for column in columns if column not in exact]
                if unknown:
                    text = f"line {number}: no column is called {unknown[0]}; there are: {listed}"
                    return cls(separator, frozenset(skip), None, text, fits=(0, usual))
                at = [exact.index(column) for column in columns]
                skip = {*skip, number}
            indexes = (at[0], at[1], at[2] if len(at) > 2 else None)
            return cls(separator, frozenset(skip), indexes, fits=(2, usual))
        if "bucket" in header and "batch" in header:
            twice = [name.strip() for name, known in zip(first, names, strict=True) if names.count(known) > 1]
            if any(names.count(names[index]) > 1 for index in header.values()):
                text = f"line {number}: more than one column is called {twice[0]}: {_CHOOSE}."
                return cls(separator, frozenset(skip), None, text, fits=(3, usual))
            indexes = (header["bucket"], header["batch"], header.get("namespace"))
            return cls(separator, frozenset({*skip, number}), indexes, fits=(3, usual))
        if ("bucket" in header or "batch" in header) and len(first) > 1:
            missing = "batch_id or batch" if "bucket" in header else "bucket_identifier or bucket"
            text = f"line {number}: no column is called {missing}; there are: {listed} C{_CHOOSE[1:]}."
            return cls(separator, frozenset(skip), None, text, fits=(2, usual))
        if len(_trimmed(first)) > 3:
            text = f"line {number}: no column is called bucket or batch; there are: {listed} C{_CHOOSE[1:]}."
            return cls(separator, frozenset(skip), None, text, fits=(1, usual))
        return cls(separator, frozenset(skip), None, fits=(1, usual))

    def pair(self, content: _Content) -> Pair:
        """Read a line.

        Raises:
            ConfigurationError: It cannot be used.
        """
        if isinstance(content, str):
            raise ConfigurationError(content)
        if isinstance(content, dict):
            bucket, batch, namespace = (
                next((content[name] for name in known if content.get(name) is not None), None)
                for known in _NAMES.values()
            )
            if bucket is None or batch is None:
                missing = "bucket_identifier" if bucket is None else "batch_id"
                raise ConfigurationError(f"the JSON object has no {missing}.")
        elif self.columns is not None:
            last = max(index for index in self.columns if index is not None)
            if last >= len(content):
                raise _ColumnsError(f"there is no column {last + 1}: {_quoted(content, self.separator)}")
            at = self.columns
            bucket, batch, namespace = content[at[0]], content[at[1]], None if at[2] is None else content[at[2]] or None
        else:
            row = _trimmed(content)
            if len(row) not in {2, 3}:
                what = "one column" if len(row) == 1 else f"{len(row)} columns"
                raise _ColumnsError(f"it has {what}: {_quoted(row, self.separator)}")
            bucket, batch, namespace = row[0], row[1], (row[2] or None) if len(row) == 3 else None
        return (
            checked_identifier(bucket, "the bucket"),
            checked_identifier(batch, "the batch"),
            checked_namespace(namespace, "the namespace"),
        )


def _trimmed(row: list[str]) -> list[str]:
    """Leave out empty columns at the end, which spreadsheets write where another line has more."""
    end = len(row)
    while end > 3 and not row[end - 1]:
        end -= 1
    return row[:end]


def _quoted(row: list[str], separator: str) -> str:
    text = separator.join(row)
    return text if len(text) <= 80 else text[:79] + "…"


def _chosen(columns: str | None) -> list[str] | None:
    if columns is None:
        return None
    parts = [part.strip() for part in re.split(r"[,;]", columns)]
    if len(parts) not in {2, 3} or not all(parts) or "0" in parts:
        raise ConfigurationError(
            f"--columns needs bucket, batch and perhaps namespace, as numbers from 1 or as names of the first line, "
            f"with commas, such as 1,2 or Bucket,Batch, not {columns!r}."
        )
    return parts


def _records(lines: Iterator[tuple[int, bytes]], separator: str) -> Iterator[tuple[int, _Content]]:
    """Read lines; what is quoted may go on over some of them."""
    waiting: list[tuple[int, bytes]] = []  # read in vain, for the end of a quoted field
    while True:
        try:
            number, line = waiting.pop(0) if waiting else next(lines)
        except StopIteration:
            return
        content = _content(line, separator)
        if content is not None:
            if content:
                yield number, content
            continue
        more: list[tuple[int, bytes]] = []
        whole = line
        while content is None and len(more) < _LONGEST:
            following = waiting.pop(0) if waiting else next(lines, None)
            if following is None:
                break
            more.append(following)
            whole += following[1]
            # Only a quote can end it.
            content = _content(whole, separator) if b'"' in following[1] else None
            if isinstance(content, str):  # what ends there is another field
                content = None
                break
        if content is None:
            waiting = [*more, *waiting]
            content = "a quote is opened in it, and never closed."
        if content:
            yield number, content


def _content(line: bytes, separator: str) -> _Content | None:
    """Read a line; None if a quoted field goes on in the next one, and an empty list for a blank one."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return _NOT_UTF8
    if "[" in text and re.match(r"\s*\[\s*(\{|$)", text):
        return "a JSON array, where each line is to be a JSON object of its own."
    if '"' not in text:
        row = [field.strip() for field in text.split(separator)]
        if not any(row):
            return []
        return "it is not valid JSON." if text.lstrip().startswith("{") else row
    if text.lstrip().startswith("{"):
        return _object(text)
    try:
        row = _fields(text, separator)
    except csv.Error as error:
        if "unexpected end" in str(error):
            return None
        loose = re.sub(rf'"[ \t]+(?={separator}|$)' if separator != "\t" else r'" +(?=\t|$)', '"', text)
        try:
            row = _fields(loose, separator)
        except csv.Error:
            return f"after the end of a quoted field more follows: {_quoted([text], separator)}"
    row = [field.strip() for field in row]
    return row if any(row) else []


def _fields(text: str, separator: str) -> list[str]:
    lines = io.StringIO(text, newline="")
    return next(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True), [])


def _object(text: str) -> _Content:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not valid JSON."
    if isinstance(found, dict):
        return [] if "server" in found and "batch_id" not in found else found  # the first line of a record
    return "it is not a JSON object."


def _copy_as_utf8(file: IO[bytes], copy: IO[bytes]) -> None:
    file.seek(0)
    try:
        for line in codecs.getreader("utf-16")(file):
            copy.write(line.encode())
    except UnicodeError:
        raise ConfigurationError("The file begins as UTF-16, and is not: save it as “CSV UTF-8”.") from None
