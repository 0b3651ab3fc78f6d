"""One request and what came back, byte for byte: no HTTP library in between that would tidy up either."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import math
import re
import shlex
import socket
import ssl
import zlib
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import quote, unquote_to_bytes, urlsplit

import attrs

KEY_VARIABLE = "MIXPEEK_API_KEY"
PATIENCE = 15.0  # seconds for one answer
_LARGE = 4000  # bytes of a path, or of all headers, that a gateway may find too many
_GATEWAY_MAY_REFUSE = {
    "an encoded slash or backslash": r"(?i)%(25)*(2F|5C)|\\",
    "a NUL or another control character": r"(?i)%[01][0-9A-F]|%7F",
    "a dot segment": r"(?i)(?:/|%2F)(?:\.|%2E){1,2}(?=/|%2F|$)",
    "a double slash": r"//",
    "a slash at the end": r".+/$",
    "a malformed percent-encoding": r"%(?![0-9A-Fa-f]{2})",
}


@attrs.frozen(kw_only=True)
class Request:
    """A request.

    Attributes:
        method: The HTTP method.
        path: The path behind the base URL, percent-encoded as it is sent.
        headers: The headers, without Host and Content-Length.
        spelled: How bash spells what has the key in it (a header's value, the path or the body), by what is sent.
        body: The bytes of the body.
        announced: Whether the length of the body is announced.
        clause: The clause that it is for.
        induced: Whether the mock was told what to answer.
    """

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    spelled: tuple[tuple[bytes, str], ...] = attrs.field(default=(), repr=False)
    body: bytes = b""
    announced: bool = True
    clause: str = ""
    induced: bool = False

    def header(self, name: str) -> bytes | None:
        """Give the value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def gateway(self) -> str:
        """Why a gateway may refuse it before the API sees it; empty if it may not."""
        if self.method != "POST":
            return "another method"
        path = self.path.partition("?")[0]
        for why, pattern in _GATEWAY_MAY_REFUSE.items():
            if re.search(pattern, path):
                return why
        if len(self.path) > _LARGE or sum(len(value) for _, value in self.headers) > _LARGE:
            return "many kilobytes"
        try:
            unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return "a path that is not UTF-8"
        names = [name.lower() for name, _ in self.headers]
        if len(set(names)) < len(names):
            return "a header that comes twice"
        if any(re.search(rb"[^\x20-\x7e]", value) for _, value in self.headers):
            return "a header that is not ASCII"
        return ""

    def curl(self, base_url: str) -> str:
        """Give the command that repeats it in bash, with the key left to its variable."""
        words = ["curl", "-sS", "-i", "-g", "--http1.1", "--path-as-is"]
        words += ["--head"] if self.method == "HEAD" else ["-X", self.method]
        spelled = dict(self.spelled)
        for name, value in self.headers:
            text = spelled.get(value)
            if text is not None:
                words += ["-H", f'"{name}: {text}"']
            else:
                words += ["-H", _bash(name.encode() + (b": " + value if value else b";"))]
        if self.header("accept") is None:
            words += ["-H", "Accept:"]
        if self.body:
            text = spelled.get(self.body)
            words += ["--data-binary", f'"{text}"' if text else _bash(self.body)]
            if self.header("content-type") is None:
                words += ["-H", "Content-Type:"]
        elif self.announced and self.method != "HEAD":
            words += ["-H", "'Content-Length: 0'"]
        path = spelled.get(self.path.encode())
        words.append(f'"{base_url}{path}"' if path else _bash((base_url + self.path).encode()))
        return " ".join(words)


def _bash(raw: bytes) -> str:
    """Quote bytes for bash, and write long repetitions short."""
    parts: list[str] = []
    at = 0
    for match in re.finditer(rb"(.{1,6}?)\1{40,}", raw):
        unit = match[1].decode("latin-1").replace("%", "%%")
        times = len(match[0]) // len(match[1])
        parts += [_quoted(raw[at : match.start()]), f'"$(printf {shlex.quote(unit + "%.0s")} $(seq {times}))"']
        at = match.end()
    parts.append(_quoted(raw[at:]))
    return "".join(part for part in parts if part != "''") or "''"


def _quoted(raw: bytes) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        text = raw.decode()
        if text.isprintable():
            return shlex.quote(text)
    escaped = "".join(chr(b) if 32 <= b < 127 and chr(b) not in "\\'" else f"\\x{b:02x}" for b in raw)
    return f"$'{escaped}'"


@attrs.frozen(kw_only=True)
class Answer:
    """An answer, or the lack of one.

    Attributes:
        status: The HTTP status code; 0 where there is none.
        headers: The headers, in lower case.
        body: The bytes of the body.
        failure: Why there is no whole answer.
        reason: The reason phrase.
        timed_out: Whether there is none because it took too long.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: str | None = None
    reason: str = ""
    timed_out: bool = False

    def header(self, name: str) -> str | None:
        """Give the value of a header; several are joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @property
    def content(self) -> bytes:
        """The body as it was before it was compressed.

        Raises:
            ValueError: It is not compressed as Content-Encoding says.
        """
        coding = self.header("content-encoding")
        try:
            if coding in {"gzip", "x-gzip"}:
                return gzip.decompress(self.body)
            return zlib.decompress(self.body) if coding == "deflate" else self.body
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"it is no {coding}: {error}") from None

    @property
    def text(self) -> str:
        """The body for reading, whatever it is."""
        with contextlib.suppress(ValueError):
            return self.content.decode("utf-8", "replace")
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Read the body as the JSON that RFC 8259 allows.

        Raises:
            ValueError: It is something else: `NaN`, a name twice, a number beyond all bounds, half a surrogate pair and
                other encodings than UTF-8 included.
        """
        try:
            value = json.loads(
                self.content.decode("utf-8"),
                parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique,
            )  # fmt: skip
            json.dumps(value, ensure_ascii=False).encode()
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        return value

    def object(self) -> dict[str, Any]:
        """Read the body as a JSON object; an empty one where it is something else."""
        try:
            value = self.json()
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def __str__(self) -> str:
        return self.failure or f"{self.status} {self.text[:200]}"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else float(_refuse(text))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name stands twice in an object")
    return dict(pairs)


@attrs.frozen
class Exchange:
    """A request and its answer."""

    request: Request
    answer: Answer


def address(base_url: str) -> tuple[str, int]:
    """Give the host and the port of a URL."""
    parts = urlsplit(base_url)
    return str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)


@contextlib.contextmanager
def connected(base_url: str, timeout: float = PATIENCE) -> Iterator[socket.socket]:
    """Open a connection, with TLS for https. Certificates are trusted as OpenSSL does, so SSL_CERT_FILE counts."""
    host, port = address(base_url)
    with socket.create_connection((host, port), timeout=timeout) as plain:
        if urlsplit(base_url).scheme != "https":
            yield plain
            return
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped:
            yield wrapped


class Wire:
    """A connection that is kept open between requests."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._prefix = parts.path.rstrip("/")
        self._base_url = base_url
        host, port = address(base_url)
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, request: Request) -> Answer:
        """Send a request; one that a kept connection swallowed is sent again on a new one."""
        kept = self._connection.sock is not None
        answer = self._send(request)
        if kept and answer.failure is not None and answer.status == 0 and not answer.timed_out:
            self._connection.close()
            answer = self._send(request)
        if answer.failure is not None:
            self._connection.close()
        return answer

    def _send(self, request: Request) -> Answer:
        connection = self._connection
        try:
            connection.putrequest(request.method, self._prefix + request.path, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.announced:
                connection.putheader("Content-Length", str(len(request.body)))
            elif request.body:
                connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(request.body or None, encode_chunked=not request.announced)
            response = connection.getresponse()
        except TimeoutError:
            return Answer(status=0, failure=f"no answer within {PATIENCE:g} s", timed_out=True)
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            return Answer(status=0, failure=f"no answer: {error or type(error).__name__}")
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        try:
            body = response.read()
        except http.client.IncompleteRead as error:
            failure = f"the body ends after {len(error.partial)} bytes, before its announced length"
            return Answer(status=response.status, headers=headers, body=error.partial, failure=failure)
        except (OSError, http.client.HTTPException) as error:
            slow = isinstance(error, TimeoutError)
            return Answer(
                status=response.status, headers=headers, failure=f"the body broke off: {error}", timed_out=slow
            )
        return Answer(status=response.status, headers=headers, body=body, reason=response.reason)

    def framing(self, request: Request) -> str | None:
        """Send a request on a connection that ends with it, as curl does, and say what is wrong with the answer."""
        lines = [f"{request.method} {self._prefix}{request.path} HTTP/1.1".encode()]
        lines += [f"Host: {urlsplit(self._base_url).netloc}".encode()]
        lines += [name.encode() + b": " + value for name, value in request.headers]
        head = b"\r\n".join([*lines, b"Connection: close", b"", b""])
        data = b""
        try:
            with connected(self._base_url) as connection:
                connection.sendall(head)
                while chunk := connection.recv(65536):
                    data += chunk
        except OSError as error:
            return None if data else f"no answer: {error}"  # some keep it open, or end it with a reset
        sent, _, body = data.partition(b"\r\n\r\n")
        if request.method == "HEAD":
            return f"{len(body)} bytes after the headers" if body else None
        if re.match(rb"HTTP/1\.[01] 5(?!03)", sent):
            return "a 5xx, without Content-Length in the request"
        announced = re.search(rb"(?im)^content-length: *([0-9]+)\r?$", sent)
        if announced and int(announced[1]) != len(body):
            return f"{len(body)} bytes, {int(announced[1])} announced"
        return None


def segment(identifier: str) -> str:
    """Encode an identifier as one path segment."""
    return quote(identifier, safe="")
