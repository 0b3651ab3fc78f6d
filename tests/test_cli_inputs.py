"""Files of batches: what spreadsheets and scripts write is read as it was meant, or refused with a reason."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixpeek_batches import ConfigurationError
from mixpeek_batches.cli.inputs import Batches, Pair, Scan

DATA = Path(__file__).parent / "data"
# Python's csv writes a bare carriage return without quotes, and does not read it back itself.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=12)
IDENTIFIERS = TEXT.map(str.strip).filter(lambda text: text not in {"", ".", ".."})
NAMESPACES = st.just("") | st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)


def read(content: bytes, columns: str | None = None) -> tuple[list[Pair], Scan]:
    """Read a file of this content: its batches, and what else was found."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with Batches(file.name, columns) as batches:
            found = batches.scan(None, lambda _: False)
            return list(batches), found


def refused(content: bytes, columns: str | None = None) -> str:
    """Give the reason why a file of this content is refused, without its name."""
    with pytest.raises(ConfigurationError) as caught:
        read(content, columns)
    return str(caught.value).partition(", ")[2]


def written(rows: list[list[str]], separator: str, quoting: Literal[0, 1, 2], end: str) -> str:
    """Write rows as Python's csv module does."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    return text.getvalue()


SEPARATORS = st.sampled_from(",;\t")
QUOTINGS: st.SearchStrategy[Literal[0, 1, 2]] = st.sampled_from(
    [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]
)
ENDS = st.sampled_from(["\n", "\r\n"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


@settings(deadline=None, max_examples=50)
@example(
    [("b", 'x, "', "", "n")], ["note", "bucket_identifier", "batch_id", "namespace"], ",", csv.QUOTE_ALL, "\n", "utf-8"
)  # which looks like a space before a quote
@given(
    st.lists(st.tuples(IDENTIFIERS, IDENTIFIERS, NAMESPACES, TEXT), min_size=1, max_size=6),
    st.permutations(["bucket_identifier", "batch_id", "namespace", "note"]),
    SEPARATORS,
    QUOTINGS,
    ENDS,
    ENCODINGS,
)
def test_what_is_written_with_a_header_is_read_back(
    rows: list[tuple[str, str, str, str]],
    order: list[str],
    separator: str,
    quoting: Literal[0, 1, 2],
    end: str,
    encoding: str,
) -> None:
    """Any text in any order of columns, with any separator and any quoting; what stands twice is read once."""
    names = ["bucket_identifier", "batch_id", "namespace", "note"]
    lines = [[row[names.index(name)] for name in order] for row in rows if not _is_json(row[names.index(order[0])])]
    places, found = read(written([order, *lines], separator, quoting, end).encode(encoding))
    expected = [tuple(line[order.index(name)] for name in names[:3]) for line in lines]
    assert places == list(dict.fromkeys((bucket, batch, space or None) for bucket, batch, space in expected))
    assert (found.left, found.repeated, found.wrong) == (len(places), len(lines) - len(places), [])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(IDENTIFIERS, IDENTIFIERS), min_size=1, max_size=6),
    SEPARATORS,
    QUOTINGS,
    ENDS,
    ENCODINGS,
)
def test_what_is_written_without_a_header_is_read_back(
    rows: list[tuple[str, str]], separator: str, quoting: Literal[0, 1, 2], end: str, encoding: str
) -> None:
    """Two columns, as long as their text holds no other separator, by which it could as well be read."""
    others = str.maketrans(dict.fromkeys(",;\t", "_"))
    clean = [(bucket.translate(others), batch.translate(others)) for bucket, batch in rows if not _is_json(bucket)]
    places, _ = read(written([list(row) for row in clean], separator, quoting, end).encode(encoding))
    assert places == list(dict.fromkeys((bucket, batch, None) for bucket, batch in clean))


def _is_json(text: str) -> bool:
    """Tell whether a line that begins like this is read as JSON."""
    return text.lstrip()[:1] in {"{", "["}


@settings(deadline=None)
@given(st.binary(max_size=200) | TEXT.map(str.encode), st.none() | st.sampled_from(["1,2", "2,1,3", "a,b"]))
def test_any_file_is_read_or_refused(content: bytes, columns: str | None) -> None:
    """Whatever the file holds, each line is a batch, or nothing, or has a reason why it cannot be used."""
    with contextlib.suppress(ConfigurationError):
        places, found = read(content, columns)
        assert len(places) == found.left
        assert len(found.wrong) == min(found.wrong_count, 20)


@pytest.mark.parametrize("name", ["commas", "semicolons", "tabs-utf16"])
def test_libreoffice(name: str) -> None:
    """What LibreOffice saves: quotes, umlauts, a field of two lines, a blank row, a number with a comma."""
    places, found = read((DATA / f"libreoffice-{name}.csv").read_bytes())
    assert places == [
        ("bkt_products", "btch_1", None),
        ("bkt_products", "btch 2", "netflix_prod"),
        ("bkt_products", "btch_ü", None),
    ]
    assert (found.repeated, found.wrong_count) == (1, 0)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("Batch-ID,Bucket Identifier\nx,b\n", None),
        (" BATCH , BUCKET_ID\nx,b\n", None),
        ("n;3,5;x;b\n", "4,3"),
        ("n;3,5;x;b\nn;4,5;x;b\n", "4,3"),
        ("Batch;Bucket\nx;b\n", "2,1"),
        ("Konto;Datum;Stapel\nb;3,5;x\n", "Konto, Stapel"),
        ("b,x,,,\n,,,,\n", None),
    ],
    ids=["names", "more-names", "numbers", "decimal-commas", "numbers-with-header", "own-names", "empty-columns"],
)
def test_columns_are_found(content: str, columns: str | None) -> None:
    assert read(content.encode(), columns)[0] == [("b", "x", None)]


@pytest.mark.parametrize(
    ("content", "columns", "reason"),
    [
        ("Konto;Datum;Text;Stapel\nb;1;2;x\n", None, "line 1: no column is called bucket or batch; there are: Konto, "),
        ("Bucket,Stapel\nb,x\n", None, "line 1: no column is called batch_id or batch; there are: Bucket, Stapel. "),
        ("Konto,Batch\nb,x\n", None, "line 1: no column is called bucket_identifier or bucket; there are: "),
        ("batch,bucket,batch\nx,b,y\n", None, "line 1: more than one column is called batch: "),
        ("Konto,Stapel\nb,x\n", "Konto,Nix", "line 1: no column is called Nix; there are: Konto, Stapel. "),
        ("Größe,Bucket,Batch\n1,b,x\n".encode("latin-1"), None, "line 1: it is not UTF-8: save the file as "),
    ],
)
def test_columns_that_are_not_found(content: str | bytes, columns: str | None, reason: str) -> None:
    """The sentence shows what there is, and how to choose."""
    said = refused(content if isinstance(content, bytes) else content.encode(), columns)
    assert said.startswith(reason)
    assert said.endswith("Nothing was sent.")
    assert ("--columns 1,2" in said) == (columns is None and isinstance(content, str))


@pytest.mark.parametrize("columns", ["1", "1,0", "1,2,3,4", "a,,b"])
def test_columns_that_make_no_sense(columns: str) -> None:
    with pytest.raises(ConfigurationError, match="--columns needs bucket, batch and perhaps namespace"):
        read(b"b,x\n", columns)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x", "it has one column: x"),
        ('[{"bucket": "b", "batch": "x"}]', "a JSON array, where each line is to be a JSON object of its own."),
        ('"b" c,x', 'after the end of a quoted field more follows: "b" c,x'),
        ('b,"x', "a quote is opened in it, and never closed."),
    ],
)
def test_reasons(line: str, reason: str) -> None:
    """A line that cannot be used says why, and the others are read."""
    places, found = read(f"b,x\n{line}\nb,y\n".encode())
    assert places == [("b", "x", None), ("b", "y", None)]
    assert [text.partition(", ")[2] for text in found.wrong] == [f"line 2: {reason}"]


def test_spreadsheet_that_was_not_saved_as_text() -> None:
    with pytest.raises(ConfigurationError, match="is no text file: save the spreadsheet as “CSV UTF-8”"):
        read(b"PK\x03\x04\x14\x00")
