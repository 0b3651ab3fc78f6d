"""Inputs that trip servers: wrong keys, odd texts, near misses of names."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from .target import MARK
from .wire import KEY_VARIABLE

T = TypeVar("T")
_KEY = "${" + KEY_VARIABLE + "}"


def _bash(text: str) -> str:
    """Replace what stands for the key in the rows below: `{}` for the whole, `{:…}` for an expansion of bash."""
    return text.replace("{}", _KEY).replace("{:", "${" + KEY_VARIABLE)


def other_schemes(key: str) -> Iterator[tuple[bytes, str]]:
    """Yield Authorization headers with the key in another scheme than Bearer, each with how bash writes it."""
    for scheme in ("Basic ", "Token ", "ApiKey ", "Digest ", "OAuth ", "BearerX ", "Bear ", "Bearer: ", "Bearer=",
                   "Bearer:", "Bearer", ""):  # fmt: skip
        yield f"{scheme}{key}".encode(), f"{scheme}{_KEY}"
    for before, after in (("", ""), ("user:", ""), ("", ":")):
        coded = base64.b64encode(f"{before}{key}{after}".encode())
        yield b"Basic " + coded, f"Basic $(printf %s {before}{_KEY}{after} | base64 -w0)"


def wrong_keys(key: str) -> Iterator[tuple[str, str]]:
    """Yield keys that are nearly the right one, or no key at all, each with how bash writes it."""
    last, half = key[-1], len(key) // 2
    rows = [
        (key + "x", "{}x"), ("x" + key, "x{}"), (key + key, "{}{}"), (f"{key} x", "{} x"), (f"x {key}", "x {}"),
        (f"{key},x", "{},x"), (f"{key};x", "{};x"), (f"{key}, Bearer x", "{}, Bearer x"), (f"{key}.x", "{}.x"),
        (f"Bearer {key}", "Bearer {}"), (f'token="{key}"', 'token=\\"{}\\"'), (f'"{key}"', '\\"{}\\"'),
        (base64.b64encode(key.encode()).decode(), "$(printf %s {} | base64 -w0)"),
        (key[:-1], "{:%?}"), (key[1:], "{:#?}"), (key[:half], f"{{::0:{half}}}"), (key[:3], "{::0:3}"),
        (key.rpartition("_")[2], "{:##*_}"),
        (f"{key[:-1]}%{ord(last):02X}", '{:%?}$(printf %%%02X \\\'"{:: -1}")'),
        (key.replace("_", "-"), "{://_/-}"),
        ("".join(c for c in key if c.isalnum()), "{://[^[:alnum:]]}"),
        (key.upper(), "{:^^}"), (key.lower(), "{:,,}"), (key.swapcase(), "{:~~}"), (key[::-1], "$(rev <<< {})"),
    ]  # fmt: skip
    rows += [(text, text) for text in (f"{MARK}key", "null", "undefined", "true", "*", "%", ".*", "' OR '1'='1")]
    for wrong, bash in rows:
        if wrong not in {key, ""}:
            yield wrong, _bash(bash)


def one_character_changed(key: str, positions: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Yield keys that differ from the right one in one character, each with how bash writes it."""
    for at in positions:
        other = "A" if key[at] != "A" else "B"
        yield key[:at] + other + key[at + 1 :], _bash(f"{{::0:{at}}}{other}{{::{at + 1}}}")


def odd_texts(name: str) -> Iterator[str]:
    """Yield texts that trip parsers, each with a name in it that nothing has."""
    for odd in (
        "ü日本語ßİe\u0301", "🗑️", "\u202e\ufeff", "'", '"', "=*$~^", "()[]{}<>", "' OR '1'='1", '{"$ne": null}',
        "${7*7}{{7*7}}%s%n", "../..", "%2F", "%00", "%", *("x" * length for length in (64, 256, 1000, 2000)),
    ):  # fmt: skip
        yield f"{name}{odd}"


def extreme_segments(name: str) -> Iterator[str]:
    """Yield encoded segments that are not text, or far too long."""
    for odd in ("%09%1B%7F", "%00", "%0A", "%0D%0AX-Injected:%20yes", "%FF", "%C3%28", "%ED%A0%80", "%"):
        yield name + odd
    yield name + "x" * 7000
    yield name + "%C3%BC" * 1000


ENDS = (";", ".json", " ", "/", ",", ":", "@", "?", "#", "&", "|", "+", "\\", "\n", "\0", "")
"""What a parser may take for the end of a name."""

WORDS = ("*", "%", "-", "0", "all", "latest", "null", "undefined")
"""What may stand for a name, for any, or for none."""


def near(name: str) -> list[str]:
    """Return what a sloppy comparison would take for a name: other case, accents, digits, spaces, quotes, slashes.

    The list has the same length and order for every name; a text may be the name itself.
    """
    digits = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
    number = next((at for at, character in enumerate(name) if character.isdigit()), len(name))
    prefix, underscore, rest = name.partition("_")
    return [
        name.swapcase(), prefix.swapcase() + underscore + rest, prefix + underscore + rest.swapcase(),
        name[:-1], name[1:], rest, f"{name} ", f" {name}", f"{name}\n", f'"{name}"',
        f"{name}.json", f"{name}*", f"{name}%", f"{name}\\", f"{name}/", f"/{name}", f"./{name}", f"x/../{name}",
        f"{name}\u200b", f"{name}\u0301", f"{name[:number]}0{name[number:]}", f"{name}.0", name.translate(digits),
        name.replace("_", "-"), name.replace("_", "%"), name.replace("_", ""),
        f"{name[:-1]}_", f"{name[:-1]}?", f"{name[:-1]}.",
        f"{name[:-1]}%{ord(name[-1]):02X}",
        f"{chr(ord(name[0]) + 0xFEE0)}{name[1:]}",
        unicodedata.normalize("NFC", f"{name[0]}\u0301{name[1:]}"),
        *WORDS,
    ]  # fmt: skip


def in_turn(rows: Sequence[Sequence[T]], usable: Callable[[T], bool] = lambda _: True) -> Iterator[T]:
    """Yield one of each column that can be used: of the first row, of the second, and so on, and over again."""
    for number, column in enumerate(zip(*rows, strict=True)):
        at = number % len(rows)
        yield from list(filter(usable, (*column[at:], *column[:at])))[:1]
