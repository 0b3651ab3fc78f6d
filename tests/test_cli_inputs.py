"""Files of batches: what spreadsheets and scripts write is read as it was meant, or refused with a reason."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixpeek_batches import ConfigurationError
from mixpeek_batches.cli.inputs import Found, Pair, read_batches

DATA = Path(__file__).parent / "data"
TWO: list[Pair] = [("b", "x1", None), ("b", "x2", None)]


def read(content: str | bytes, columns: str | None = None) -> Found:
    """Read a file of this content."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        found = read_batches(file.name, columns)
    return found._replace(invalid=[reason.removeprefix(f"{file.name}, ") for reason in found.invalid])


# What the csv module writes. It writes a bare carriage return without quotes, and does not read it back itself.

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=12)
IDENTIFIERS = TEXT.map(str.strip).filter(lambda text: text not in {"", ".", ".."})
NAMESPACES = st.just("") | st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)
UNNAMED = IDENTIFIERS.filter(lambda text: not re.search("bucket|batch", text.lower()))  # no header
NAMES = ["bucket_identifier", "batch_id", "namespace", "note"]

Quoting = Literal[0, 1, 2]
QUOTINGS: st.SearchStrategy[Quoting] = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
FORMATS = st.tuples(
    st.sampled_from(",;\t"),
    QUOTINGS,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)


def written(rows: list[list[str]], form: tuple[str, Quoting, str, str]) -> bytes:
    """Write rows with a separator, a quoting, a line end and an encoding."""
    separator, quoting, end, encoding = form
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    return text.getvalue().encode(encoding)


def is_json(text: str) -> bool:
    """Check whether a line that starts with this is read as JSON."""
    return text.startswith(("{", "["))


@settings(deadline=None, max_examples=50)
@example([("b", 'x, "', "", "n")], ["note", *NAMES[:3]], (",", csv.QUOTE_ALL, "\n", "utf-8"))  # a space by a quote
@given(
    st.lists(st.tuples(IDENTIFIERS, IDENTIFIERS, NAMESPACES, TEXT), min_size=1, max_size=6),
    st.permutations(NAMES),
    FORMATS,
)
def test_columns_with_a_header_are_read_back(
    rows: list[tuple[str, str, str, str]], order: list[str], form: tuple[str, Quoting, str, str]
) -> None:
    """Any text, in any order of columns and any format; a batch that is repeated is read once."""
    lines = [[row[NAMES.index(name)] for name in order] for row in rows]
    lines = [line for line in lines if not is_json(line[0].lstrip())]
    found = read(written([order, *lines], form))
    expected = [tuple(line[order.index(name)] or None for name in NAMES[:3]) for line in lines]
    assert found.pairs == list(dict.fromkeys(expected))
    assert (found.repeated, found.invalid) == (len(lines) - len(found.pairs), [])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(UNNAMED, UNNAMED), min_size=1, max_size=6), FORMATS)
def test_two_columns_without_a_header_are_read_back(
    rows: list[tuple[str, str]], form: tuple[str, Quoting, str, str]
) -> None:
    """Separators are left out of the text, as a line with two of them could be read in two ways."""
    others = str.maketrans(dict.fromkeys(",;\t", "_"))
    lines = [[bucket.translate(others), batch.translate(others)] for bucket, batch in rows if not is_json(bucket)]
    assert read(written(lines, form)).pairs == list(dict.fromkeys((bucket, batch, None) for bucket, batch in lines))


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200) | TEXT.map(str.encode), st.none() | st.sampled_from(["1,2", "2,1,3", "a,b"]))
def test_any_content_is_read_or_refused(content: bytes, columns: str | None) -> None:
    with contextlib.suppress(ConfigurationError):
        read(content, columns)


@pytest.mark.parametrize("name", ["commas", "semicolons", "tabs-utf16"])
def test_libreoffice(name: str) -> None:
    """What LibreOffice saves: quotes, umlauts, a field of two lines, a blank row, a number with a comma."""
    assert read((DATA / f"libreoffice-{name}.csv").read_bytes()) == Found(
        [
            ("bkt_products", "btch_1", None),
            ("bkt_products", "btch 2", "netflix_prod"),
            ("bkt_products", "btch_ü", None),
        ],
        repeated=1,
        invalid=[],
    )


FORMS: dict[str, tuple[str, str | None]] = {
    "cr": ("b,x1\rb,x2\r", None),
    "no-last-end": ("b,x1\nb,x2", None),
    "blank-lines": ("\n\nb,x1\n   \n\r\nb,x2\n,,,\n", None),
    "json": ('{"bucket_identifier":"b","batch_id":"x1"}\n {"batch_id":"x2","bucket_identifier":"b","n":[1]}\n', None),
    "mixed": ('b,x1\n{"bucket_identifier": "b", "batch_id": "x2", "namespace": null}\n', None),
    "json-aliases": ('{"bucket": "b", "batch": "x1"}\n{"bucket_id": "b", "batch": "x2"}\n', "Konto,Stapel"),
    "record": ('{"server": "https://api.mixpeek.com"}\n{"bucket_identifier": "b", "batch_id": "x1"}\nb,x2\n', None),
    "sep": ("sep=;\r\nb;x1\r\nb;x2\r\n", None),
    "spaces": (' b , x1\n b, "x2" \n"b" ,"x1"\n', None),
    "empty-columns": ("b,x1,,,\nb,x2,,,\n", None),
    "names": ("Batch-ID,Bucket Identifier\nx1,b\nx2,b\n", None),
    "more-names": (" BATCH , BUCKET_ID\nx1,b\nx2,b\n", None),
    "names-before-commas": ("Batch;Bucket;A,B,C,D\nx1;b;1,2,3,4\nx2;b;1,2,3,4\n", None),
    "most-lines-before-commas": ("b;x1;n\nb;x2;a,b,c,d,e\n", "1,2"),
    "numbers": ("n;3,5;x1;b\nn;4,5;x2;b\n", "4,3"),
    "numbers-with-header": ("Batch;Bucket\nx1;b\nx2;b\n", "2,1"),
    "own-names": ("Konto;Datum;Stapel\nb;3,5;x1\nb;3,5;x2\n", "Konto, Stapel"),
}


@pytest.mark.parametrize(("content", "columns"), FORMS.values(), ids=FORMS)
def test_form(content: str, columns: str | None) -> None:
    assert read(content, columns).pairs == TWO


CHOOSE = (
    "Choose columns by number, such as --columns 1,2, or by name, such as --columns Bucket,Batch. Nothing was sent."
)
REFUSED: list[tuple[str | bytes, str | None, str]] = [
    (
        "Konto;Datum;Text;Stapel\n",
        None,
        "1: no column is called bucket or batch; there are: Konto, Datum, Text, Stapel. ",
    ),
    ("Bucket,Stapel\nb,x\n", None, f"1: no column is called batch; there are: Bucket, Stapel. {CHOOSE}"),
    ("Konto,Batch\nb,x\n", None, "1: no column is called bucket; there are: Konto, Batch. "),
    ("batch,bucket,batch\nx,b,y\n", None, f"1: more than one column is called batch. {CHOOSE}"),
    ("Konto,Stapel\nb,x\n", "Konto,Nix", "1: no column is called Nix; there are: Konto, Stapel. Nothing was sent."),
    (
        "Größe,Bucket,Batch\n1,b,x\n".encode("latin-1"),
        None,
        "1: it is not UTF-8: save the file as “CSV UTF-8”. Nothing",
    ),
    (b"PK\x03\x04\x14\x00", None, " is not a text file: save the spreadsheet as “CSV UTF-8”."),
    (b"\xff\xfeb", None, " is not valid UTF-16: save it as “CSV UTF-8”."),
    *[("b,x", columns, "--columns needs the bucket, the batch and") for columns in ("1", "1,0", "1,2,3,4", "a,,b")],
]


@pytest.mark.parametrize(("content", "columns", "message"), REFUSED)
def test_file_that_is_refused(content: str | bytes, columns: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read(content, columns)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x", "it has one column: x"),
        ("b,x,n,m", "it has 4 columns: b, x, n, m"),
        ("b,", "the batch is empty."),
        ("b,..", "the batch may not be '..': in a URL that leads to another endpoint."),
        ("b,x,a\tb", "the namespace 'a\\tb' holds a control character."),
        ('[{"bucket": "b", "batch": "x"}]', "it starts a JSON array: write one JSON object per line instead."),
        ('"b" c,x', 'a quote is missing or misplaced: "b" c,x'),
        ('b,"x', 'a quote is missing or misplaced: b,"x'),
        ('{"bucket_identifier": "b"', "it is not valid JSON."),
        ('{"a":' * 10_000, "it is not valid JSON."),
        ('{"bucket_identifier": "b"}', "the JSON object has no batch_id."),
        ('{"batch_id": "x"}', "the JSON object has no bucket_identifier."),
        ('{"bucket": "b", "batch": 7}', "the batch must be a string, not int."),
        ('{"bucket": "b", "batch": "x", "namespace": ""}', "the namespace is empty."),
        (b"b,\xfc", "it is not UTF-8: save the file as “CSV UTF-8”."),
    ],
)
def test_lines_that_cannot_be_used(line: str | bytes, reason: str) -> None:
    """Each has a reason with the number of the line, and the lines around it are read."""
    content = line if isinstance(line, bytes) else line.encode()
    assert read(b"b,x1\n\n" + content + b"\nb,x2\n") == Found(TWO, 0, [f"line 3: {reason}"])


def test_column_that_a_line_lacks() -> None:
    assert read("b,n,x1\nb\nb,n,x2\n", "1,3") == Found(TWO, 0, ["line 2: there is no column 3: b"])


def test_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigurationError, match="standard input is closed"):
        read_batches("-")
