"""What is sent to trip a server: wrong keys, odd texts, near misses of names. Each by itself, without a network."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Iterator

from .session import MARK
from .wire import KEY_VARIABLE

_KEY = "${" + KEY_VARIABLE + "}"


def _bash(text: str) -> str:
    """Write what stands for the key in the rows below as bash does: `{}` whole, `{:…}` with an expansion."""
    return text.replace("{}", _KEY).replace("{:", "${" + KEY_VARIABLE)


def other_schemes(key: str) -> Iterator[tuple[bytes, str]]:
    """Give Authorization headers that have the key in another scheme than Bearer, each with how bash spells it."""
    for scheme in ("Basic ", "Token ", "ApiKey ", "Digest ", "OAuth ", "BearerX ", "Bear ", "Bearer: ", "Bearer=",
                   "Bearer:", "Bearer", ""):  # fmt: skip
        yield f"{scheme}{key}".encode(), f"{scheme}{_KEY}"
    for before, after in (("", ""), ("user:", ""), ("", ":")):
        coded = base64.b64encode(f"{before}{key}{after}".encode())
        yield b"Basic " + coded, f"Basic $(printf %s {before}{_KEY}{after} | base64 -w0)"


def wrong_keys(key: str, places: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Give keys that are nearly the right one, or no key at all, each with how bash spells it.

    Args:
        key: The right one.
        places: Of characters to change.
    """
    last, half = key[-1], len(key) // 2
    rows = [
        (key + "x", "{}x"),
        ("x" + key, "x{}"),
        (key + key, "{}{}"),
        (f"{key} x", "{} x"),
        (f"x {key}", "x {}"),
        (f"{key},x", "{},x"),
        (f"{key};x", "{};x"),
        (f"{key}, Bearer x", "{}, Bearer x"),
        (f"{key}.x", "{}.x"),
        (f"Bearer {key}", "Bearer {}"),
        (f'token="{key}"', 'token=\\"{}\\"'),
        (base64.b64encode(key.encode()).decode(), "$(printf %s {} | base64 -w0)"),
        (f'"{key}"', '\\"{}\\"'),
        (key[:-1], "{:%?}"),
        (key[1:], "{:#?}"),
        (key[:half], f"{{::0:{half}}}"),
        (key[:3], "{::0:3}"),
        (f"{key[:-1]}%{ord(last):02X}", '{:%?}$(printf %%%02X \\\'"{:: -1}")'),
        (key.replace("_", "-"), "{://_/-}"),
        ("".join(c for c in key if c.isalnum()), "{://[^[:alnum:]]}"),
        (key.upper(), "{:^^}"),
        (key.lower(), "{:,,}"),
        (key.swapcase(), "{:~~}"),
        (key[::-1], "$(rev <<< {})"),
    ]
    for at in places:
        other = "A" if key[at] != "A" else "B"
        rows.append((key[:at] + other + key[at + 1 :], f"{{::0:{at}}}{other}{{::{at + 1}}}"))
    rows += [(text, text) for text in (f"{MARK}key", "null", "undefined", "true", "*", "%", ".*", "' OR '1'='1")]
    for wrong, spelled in rows:
        if wrong not in {key, ""}:
            yield wrong, _bash(spelled)


def odd_texts(name: str) -> Iterator[str]:
    """Give texts that trip parsers, each with the name of nobody in it."""
    for odd in ("ü", "日本語", "🗑️", "\u202e", "e\u0301", "İ", "ß", "\ufeff"):
        yield f"{name}{odd}"
    yield from (f"{name}{odd}" for odd in "'\"=*$~^")
    for odd in ("()", "[]", "{}", "<>", "' OR '1'='1", '{"$ne": null}', "${7*7}", "{{7*7}}", "%s%n", "../..",
                "%2F", "%00", "%"):  # fmt: skip
        yield f"{name}{odd}"
    yield from (name + "x" * length for length in (64, 256, 1000, 1000, 2000, 2000))  # the long ones in both places


def extreme_segments(name: str) -> Iterator[str]:
    """Give encoded segments that are no text, or far too long."""
    for odd in ("%09", "%00", "%0A", "%0D%0AX-Injected:%20yes", "%1B", "%7F", "%FF", "%C3%28", "%ED%A0%80", "%"):
        yield name + odd
    yield name + "x" * 7000
    yield name + "%C3%BC" * 1000


ENDS = (";", ".json", " ", "/", ",", ":", "@", "?", "#", "&", "|", "+", "\\", "\n", "\0")
"""What a parser may take for the end of a name."""


def near(name: str) -> list[str]:
    """Give what a sloppy comparison would take for a name: other case, accents, digits, spaces, quotes, slashes."""
    digits = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
    number = next((at for at, character in enumerate(name) if character.isdigit()), len(name))
    texts = [
        name.swapcase(),
        name[:-1],
        name[1:],
        name.partition("_")[2],
        f"{name} ",
        f" {name}",
        f"{name}\n",
        f"{name}\0",
        f'"{name}"',
        f"{name};x=1",
        f"{name}.json",
        f"{name}*",
        f"{name}%",
        f"{name}\\",
        f"{name}/",
        f"/{name}",
        f"./{name}",
        f"x/../{name}",
        f"{name}\u200b",
        f"{name}\u0301",
        f"{name[:number]}0{name[number:]}",
        f"{name}.0",
        name.translate(digits),
        name.replace("_", "-"),
        name.replace("_", "%"),
        name.replace("_", ""),
        f"{name[:-1]}%{ord(name[-1]):02X}",
        f"{chr(ord(name[0]) + 0xFEE0)}{name[1:]}",
        unicodedata.normalize("NFC", f"{name[0]}\u0301{name[1:]}"),
    ]
    return [text for text in dict.fromkeys(texts) if text not in {"", ".", "..", name}]
