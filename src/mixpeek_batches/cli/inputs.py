"""Input files: which batches to cancel, as spreadsheets, scripts and this command itself write them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from mixpeek_batches._settings import checked_identifier, checked_namespace
from mixpeek_batches.errors import ConfigurationError

Pair = tuple[str, str, str | None]
"""Bucket, batch and namespace; None is the key's default namespace."""

_SAMPLE = 50  # records from which the separator is found
_MOST_LINES = 100  # of one quoted field; if it is longer, its closing quote is missing
_ALIASES = {
    "bucket": ("bucket_identifier", "bucket", "bucket_id"),
    "batch": ("batch_id", "batch"),
    "namespace": ("namespace",),
}
_KNOWN = {alias for aliases in _ALIASES.values() for alias in aliases}
_CHOOSE = "Choose columns by number, such as --columns 1,2, or by name, such as --columns Bucket,Batch."
_NOT_UTF8 = "it is not UTF-8: save the file as “CSV UTF-8”."
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how .xlsx, .ods and .xls begin

LINE_FORMAT = (
    "A line holds a bucket, a batch and optionally a namespace, with commas, semicolons or tabs between them, or is a "
    f"JSON object. {_CHOOSE}"
)


class Found(NamedTuple):
    """The content of a file.

    Attributes:
        pairs: Its batches in order, each once.
        repeated: How many lines name a batch again.
        invalid: For each line that cannot be used, where it is and why.
    """

    pairs: list[Pair]
    repeated: int
    invalid: list[str]


_Record = list[str] | dict[str, Any] | str
"""The fields of a CSV record, a JSON object, or why a line is neither."""


def read_batches(path: str, columns: str | None = None, namespace: str | None = None) -> Found:
    """Read a file of batches.

    Args:
        path: A file, or `-` for standard input.
        columns: The value of --columns.
        namespace: The namespace of lines that name none.

    Raises:
        ConfigurationError: If the file cannot be read, it lacks the columns, or `columns` is malformed.
    """
    name = "standard input" if path == "-" else path
    wanted = None if columns is None else _parse_columns(columns)
    lines = _lines(path, name)
    head = list(islice(lines, _SAMPLE * _MOST_LINES))
    separators: tuple[str, ...] = (",", ";", "\t")
    if head and (declared := re.fullmatch(r"sep=([,;\t])\s*", head[0])):  # written by Excel
        head[0], separators = "", (declared[1],)
    samples = {separator: list(islice(_records(head, separator), _SAMPLE)) for separator in separators}
    separator = max(separators, key=lambda each: _score([record for _, record in samples[each]], wanted))
    # Text that is not UTF-8 may be the header.
    starts = ((n, record) for n, record in samples[separator] if isinstance(record, list) or record == _NOT_UTF8)
    first_line, first = next(starts, (0, []))
    try:
        indexes, is_header = _find_columns(first, wanted)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}, line {first_line}: {error} Nothing was sent.") from None

    pairs: dict[Pair, None] = {}
    repeated, invalid = 0, []
    for number, record in _records(chain(head, lines), separator):
        if is_header and number == first_line:
            continue
        try:
            pair = _pair(record, indexes, namespace)
        except ConfigurationError as error:
            invalid.append(f"{name}, line {number}: {error}")
        else:
            repeated += pair in pairs
            pairs[pair] = None
    return Found(list(pairs), repeated, invalid)


def _parse_columns(columns: str) -> list[str]:
    parts = [part.strip() for part in re.split(r"[,;]", columns)]
    if len(parts) not in {2, 3} or not all(parts) or "0" in parts:
        raise ConfigurationError(
            f"--columns needs the bucket, the batch and optionally the namespace, as numbers from 1 or as names from "
            f"the first line, such as 1,2 or Bucket,Batch, not {columns!r}."
        )
    return parts


def _are_numbers(columns: list[str]) -> bool:
    return all(column.isascii() and column.isdigit() for column in columns)


def _lines(path: str, name: str) -> Iterator[str]:
    """Read a file, and yield its lines; in memory it stays as the bytes that it is."""
    if path == "-" and sys.stdin is None:
        raise ConfigurationError(f"{name} is closed.")
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}.") from None
    if content.startswith(_SPREADSHEETS):
        raise ConfigurationError(f"{name} is not a text file: save the spreadsheet as “CSV UTF-8”.")
    encoding, errors = "utf-8-sig", "surrogateescape"  # lines that are not UTF-8 are reported by _records
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # "Unicode text" of Excel
        encoding, errors = "utf-16", "strict"
    try:
        yield from io.TextIOWrapper(io.BytesIO(content), encoding, errors, newline="")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name} is not valid UTF-16: save it as “CSV UTF-8”.") from None


def _records(lines: Iterable[str], separator: str) -> Iterator[tuple[int, _Record]]:
    """Split lines into records, each with the number of its first line. Blank lines are skipped."""
    lines = iter(lines)
    ahead = deque(islice(lines, _MOST_LINES))
    number = 1
    while ahead:
        line, length = ahead[0], 1
        record: _Record
        try:
            line.encode()
            if re.match(r"\s*\[\s*(\{|$)", line):
                record = "it starts a JSON array: write one JSON object per line instead."
            elif line.lstrip().startswith("{"):
                record = json.loads(line)
                if "server" in record and "batch_id" not in record:  # the first line of a record of this command
                    record = []
            else:
                record, length = _read_csv(ahead, separator)
        except UnicodeEncodeError:
            record = _NOT_UTF8
        except csv.Error:
            record = f"a quote is missing or misplaced: {_shortened(line)}"
        except (ValueError, RecursionError):
            record = "it is not valid JSON."
        if not isinstance(record, list) or any(record):
            yield number, record
        number += length
        for _ in range(length):
            ahead.popleft()
        ahead.extend(islice(lines, length))


def _read_csv(lines: Iterable[str], separator: str) -> tuple[list[str], int]:
    """Read one CSV record; return its fields and how many lines it takes."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        fields = next(reader)
    except csv.Error:  # perhaps for a space after a closing quote
        lines = [re.sub(rf'" +(?={separator}|\s*$)', '"', line) for line in lines]
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        fields = next(reader)
    return [field.strip() for field in fields], reader.line_num


def _score(records: list[_Record], wanted: list[str] | None) -> tuple[int, int, int]:
    """Rate a separator by the first records: how many columns have a known name, and how many records equal width.

    With as many of equal width, more columns win: the comma in 3,5 may be that of a number.
    """
    rows = [record for record in records if isinstance(record, list)]
    widths = Counter(len(row) for row in rows if len(row) > 1)
    count, width = max(((count, width) for width, count in widths.items()), default=(0, 0))
    names = {*rows[0], *map(_normalized, rows[0])} if rows else set()
    known = _KNOWN if wanted is None or _are_numbers(wanted) else set(wanted)
    return len(names & known), count, width


def _find_columns(first: _Record, wanted: list[str] | None) -> tuple[list[int] | None, bool]:
    """Find bucket, batch and perhaps namespace by the first record.

    Returns:
        Their indexes, or None if a line has no other columns; and whether the record is a header.
    """
    if isinstance(first, str):
        raise ConfigurationError(first)
    if isinstance(first, dict) or not first:  # every line is JSON
        return None, False
    names = [_normalized(name) for name in first]
    listed = _shortened(", ".join(first))
    if wanted is not None and _are_numbers(wanted):
        indexes = [int(number) - 1 for number in wanted]
        return indexes, any(name in _KNOWN for index, name in enumerate(names) if index in indexes)
    if wanted is not None:
        for name in wanted:
            if name not in first:
                raise ConfigurationError(f"no column is called {name}; there are: {listed}.")
        return [first.index(name) for name in wanted], True
    header = {part: next((name for name in aliases if name in names), "") for part, aliases in _ALIASES.items()}
    if header["bucket"] and header["batch"]:
        for name in header.values():
            if names.count(name) > 1:
                raise ConfigurationError(f"more than one column is called {name}. {_CHOOSE}")
        return [names.index(name) for name in header.values() if name], True
    missing = [part for part in ("bucket", "batch") if not header[part]]
    if (len(missing) == 1 and len(first) > 1) or len(_trimmed(first)) > 3:
        raise ConfigurationError(f"no column is called {' or '.join(missing)}; there are: {listed}. {_CHOOSE}")
    return None, False


def _pair(record: _Record, indexes: list[int] | None, namespace: str | None) -> Pair:
    """Read bucket, batch and namespace from a record.

    Raises:
        ConfigurationError: If it cannot be used.
    """
    if isinstance(record, str):
        raise ConfigurationError(record)
    fields: list[Any]
    if isinstance(record, dict):
        fields = [
            next((record[alias] for alias in aliases if record.get(alias) is not None), None)
            for aliases in _ALIASES.values()
        ]
        for value, name in zip(fields, ("bucket_identifier", "batch_id"), strict=False):
            if value is None:
                raise ConfigurationError(f"the JSON object has no {name}.")
    elif indexes is not None:
        if max(indexes) >= len(record):
            raise ConfigurationError(f"there is no column {max(indexes) + 1}: {_shortened(', '.join(record))}")
        fields = [record[index] for index in indexes]
    else:
        fields = _trimmed(record)
        if len(fields) not in {2, 3}:
            what = "one column" if len(fields) == 1 else f"{len(fields)} columns"
            raise ConfigurationError(f"it has {what}: {_shortened(', '.join(fields))}")
    if isinstance(record, list) and fields[2:] == [""]:
        fields.pop()
    named = fields[2] if len(fields) == 3 else None
    return (
        sys.intern(checked_identifier(fields[0], "the bucket")),  # which a million batches may have in common
        checked_identifier(fields[1], "the batch"),
        namespace if named is None else checked_namespace(named, "the namespace"),
    )


def _normalized(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name).lower()


def _trimmed(row: list[str]) -> list[str]:
    """Remove empty columns at the end, which spreadsheets write where another line has more."""
    end = len(row)
    while end > 3 and not row[end - 1]:
        end -= 1
    return row[:end]


def _shortened(text: str) -> str:
    text = text.rstrip()
    return text if len(text) <= 80 else text[:79] + "…"
