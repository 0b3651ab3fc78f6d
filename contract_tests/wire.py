"""One request and its response, byte for byte: no HTTP library tidies up either."""

from __future__ import annotations

import contextlib
import functools
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
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

import attrs

KEY_VARIABLE = "MIXPEEK_API_KEY"
TIMEOUT = 15.0  # seconds for one response
_MOST_INFORMATIONAL = 20  # responses before the final one
_LARGE = 4000  # bytes of a path, or of all headers, that a gateway may find too many
_LONG = 255  # characters of an identifier that an API may find too many
MANY_KILOBYTES = "many kilobytes"
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
        bash: How bash writes the values that hold the key (a header, the path or the body), by what is sent.
        body: The bytes of the body.
        send_length: Whether Content-Length is sent.
        clause: The name of the clause that it is for.
        induced: Whether it is to meet a planned fault of the mock.
    """

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    bash: tuple[tuple[bytes, str], ...] = attrs.field(default=(), repr=False)
    body: bytes = b""
    send_length: bool = True
    clause: str = ""
    induced: bool = False

    def header(self, name: str) -> bytes | None:
        """Return the value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @functools.cached_property
    def texts(self) -> frozenset[str]:
        """What a response may repeat of it: the segments of its path and the values of its headers, encoded or not."""
        parts = [*self.path.split("/"), *(value.decode("latin-1").removeprefix("Bearer ") for _, value in self.headers)]
        return frozenset(text for part in parts for text in (part, unquote(part)) if text)

    @functools.cached_property
    def may_be_invalid(self) -> bool:
        """Whether it names something with a control character, or with more than 255 characters."""
        return any(len(text) > _LONG or re.search(r"[\x00-\x1f\x7f]", text) for text in self.texts)

    @functools.cached_property
    def gateway_reason(self) -> str:
        """Why a gateway may refuse it before the API sees it; empty if it may not."""
        if self.method != "POST":
            return "another method"
        path = self.path.partition("?")[0]
        for reason, pattern in _GATEWAY_MAY_REFUSE.items():
            if re.search(pattern, path):
                return reason
        if len(self.path) > _LARGE or sum(len(value) for _, value in self.headers) > _LARGE:
            return MANY_KILOBYTES
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
        """Return the command that repeats it in bash, with the key left to its variable."""
        words = ["curl", "-sS", "-i", "-g", "--http1.1", "--path-as-is"]
        words += ["--head"] if self.method == "HEAD" else ["-X", self.method]
        with_key = dict(self.bash)
        for name, value in self.headers:
            if value in with_key:
                words += ["-H", f'"{name}: {with_key[value]}"']
            else:
                words += ["-H", _quoted(name.encode() + (b": " + value if value else b";"))]
        if self.header("accept") is None:
            words += ["-H", "Accept:"]
        if self.body:
            words += [] if self.send_length else ["-H", "'Transfer-Encoding: chunked'"]
            words += ["--data-binary", f'"{with_key[self.body]}"' if self.body in with_key else _quoted(self.body)]
            if self.header("content-type") is None:
                words += ["-H", "Content-Type:"]
        elif self.send_length and self.method != "HEAD":
            words += ["-H", "'Content-Length: 0'"]
        path = self.path.encode()
        words.append(f'"{base_url}{with_key[path]}"' if path in with_key else _quoted(base_url.encode() + path))
        return " ".join(words)


def _quoted(raw: bytes) -> str:
    """Quote bytes for bash, long repetitions in a short form."""
    parts: list[str] = []
    at = 0
    for match in re.finditer(rb"(.{1,6}?)\1{40,}", raw):
        unit = match[1].decode("latin-1").replace("%", "%%")
        times = len(match[0]) // len(match[1])
        parts += [_literal(raw[at : match.start()]), f'"$(printf {shlex.quote(unit + "%.0s")} $(seq {times}))"']
        at = match.end()
    parts.append(_literal(raw[at:]))
    return "".join(part for part in parts if part != "''") or "''"


def _literal(raw: bytes) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        text = raw.decode()
        if text.isprintable():
            return shlex.quote(text)
    escaped = "".join(chr(b) if 32 <= b < 127 and chr(b) not in "\\'" else f"\\x{b:02x}" for b in raw)
    return f"$'{escaped}'"


@attrs.frozen(kw_only=True)
class Response:
    """A response, or the lack of one.

    Attributes:
        status: The HTTP status code; 0 if there is none.
        headers: The headers, names in lower case.
        body: The bytes of the body.
        failure: Why the response is not whole.
        reason: The reason phrase.
        timed_out: Whether it is not whole because it took too long.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: str | None = None
    reason: str = ""
    timed_out: bool = False

    def header(self, name: str) -> str | None:
        """Return the value of a header; several are joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @property
    def content(self) -> bytes:
        """The body, decompressed.

        Raises:
            ValueError: If it is not compressed as Content-Encoding says.
        """
        coding = self.header("content-encoding")
        try:
            if coding in {"gzip", "x-gzip"}:
                return gzip.decompress(self.body)
            return zlib.decompress(self.body) if coding == "deflate" else self.body
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"not {coding}: {error}") from None

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        with contextlib.suppress(ValueError):
            return self.content.decode("utf-8", "replace")
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Parse the body as the JSON that RFC 8259 allows.

        Raises:
            ValueError: If it is something else: `NaN`, a name twice, a number out of range, half a surrogate pair and
                encodings other than UTF-8 included.
        """
        try:
            value = json.loads(
                self.content.decode("utf-8"),
                parse_constant=finite, parse_float=finite, object_pairs_hook=_unique,
            )  # fmt: skip
            json.dumps(value, ensure_ascii=False).encode()
        except RecursionError:
            raise ValueError("nested too deep") from None
        return value

    def json_object(self) -> dict[str, Any]:
        """Parse the body as a JSON object; return an empty one if it is something else."""
        try:
            value = self.json()
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def __str__(self) -> str:
        return self.failure or f"{self.status} {self.text[:200]}"


def finite(text: str) -> float:
    """Parse a finite number.

    Raises:
        ValueError: If it is infinite or not a number.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return value


@attrs.frozen
class Exchange:
    """A request and its response."""

    request: Request
    response: Response


def _address(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    return str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)


@contextlib.contextmanager
def connected(base_url: str, timeout: float = TIMEOUT) -> Iterator[socket.socket]:
    """Open a connection, with TLS for https. Certificates are trusted as OpenSSL does, so SSL_CERT_FILE counts."""
    with socket.create_connection(_address(base_url), timeout=timeout) as plain:
        if urlsplit(base_url).scheme != "https":
            yield plain
            return
        with ssl.create_default_context().wrap_socket(plain, server_hostname=_address(base_url)[0]) as wrapped:
            yield wrapped


class _FinalResponse(http.client.HTTPResponse):
    """Skips each informational response (RFC 9110, section 15.2); http.client skips none but 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MOST_INFORMATIONAL} informational responses")


class Wire:
    """A connection that is kept open between requests.

    Attributes:
        unread: The last request, if the server took its body for the beginning of the next request.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self.unread: Request | None = None
        self._last: Request | None = None
        self._base_url = base_url
        self._prefix = parts.path.rstrip("/")
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connection(*_address(base_url), timeout=TIMEOUT)
        self._connection.response_class = _FinalResponse

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, request: Request) -> Response:
        """Send a request; one that a kept connection swallowed, or the last body spoiled, again on a new one."""
        last, self._last, self.unread = self._last, request, None
        kept = self._connection.sock is not None
        response = self._send(request)
        swallowed = response.failure is not None and response.status == 0 and not response.timed_out
        if kept and (swallowed or (last and last.body and _looks_misread(request, response))):
            self._connection.close()
            first, response = response, self._send(request)
            self.unread = last if not swallowed and response.status != first.status else None
        if response.failure is not None:
            self._connection.close()
        return response

    def _send(self, request: Request) -> Response:
        connection = self._connection
        try:
            connection.putrequest(request.method, self._prefix + request.path, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.send_length:
                connection.putheader("Content-Length", str(len(request.body)))
            elif request.body:
                connection.putheader("Transfer-Encoding", "chunked")
            # A server may respond and close before it has the whole request (RFC 9112, section 9.5).
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.endheaders(request.body or None, encode_chunked=not request.send_length)
            response = connection.getresponse()
        except TimeoutError:
            return Response(failure=f"no response within {TIMEOUT:g} s", timed_out=True)
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            return Response(failure=f"no response: {error or type(error).__name__}")
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        head = Response(status=response.status, headers=headers, reason=response.reason)
        try:
            return attrs.evolve(head, body=response.read())
        except http.client.IncompleteRead as error:
            failure = f"the body ends after {len(error.partial)} bytes, before its announced length"
            return attrs.evolve(head, body=error.partial, failure=failure)
        except (OSError, http.client.HTTPException) as error:
            failure = f"the body broke off: {error}"
            return attrs.evolve(head, failure=failure, timed_out=isinstance(error, TimeoutError))

    def framing_problem(self, request: Request) -> str | None:
        """Send a request on a connection of its own, as curl does; return what is wrong with the response's length."""
        lines = [f"{request.method} {self._prefix}{request.path} HTTP/1.1".encode()]
        lines += [f"Host: {urlsplit(self._base_url).netloc}".encode()]
        lines += [name.encode() + b": " + value for name, value in request.headers]
        data = b""
        try:
            with connected(self._base_url) as connection:
                connection.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
                while chunk := connection.recv(65536):
                    data += chunk
        except OSError as error:
            return None if data else f"no response: {error}"  # some servers keep it open, or end it with a reset
        head, _, body = re.sub(rb"^(HTTP/1\.[01] 1.*?\r\n\r\n)+", b"", data, flags=re.DOTALL).partition(b"\r\n\r\n")
        if request.method == "HEAD":
            return f"{len(body)} bytes after the headers" if body else None
        if re.match(rb"HTTP/1\.[01] 5(?!03)", head):
            return "a 5xx, without Content-Length in the request"
        length = re.search(rb"(?im)^content-length: *([0-9]+)\r?$", head)
        if length and int(length[1]) != len(body):
            return f"{len(body)} bytes, {int(length[1])} announced"
        return None


def _looks_misread(request: Request, response: Response) -> bool:
    """Check whether a server may have seen something else in front of a request."""
    if response.status == 405:
        return request.method == "POST"
    return response.status in {400, 414, 431, 501, 505} and response.json_object().get("success") is not False


def segment(identifier: str) -> str:
    """Encode an identifier as one path segment."""
    return quote(identifier, safe="")
