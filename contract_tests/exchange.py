"""One request and what came back, byte for byte: no HTTP library in between that would tidy up either."""

from __future__ import annotations

import http.client
import json
import math
import re
import shlex
import socket
import ssl
from typing import Any, Self
from urllib.parse import quote, urlsplit

import attrs

KEY_VARIABLE = "MIXPEEK_API_KEY"
PATIENCE = 15.0  # seconds for one answer


@attrs.frozen(kw_only=True)
class Request:
    """A request.

    Attributes:
        method: The HTTP method.
        path: The path, percent-encoded as it is sent.
        headers: The headers, without Host and Content-Length.
        authorization: How `curl` would spell the Authorization header without the key in it; None for no header.
        clause: The clause that it is for.
        extreme: Why a server may refuse it before it looks at the contract: "long", "odd" or "path"; else empty.
    """

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    authorization: str | None = None
    clause: str = ""
    extreme: str = ""

    def header(self, name: str) -> bytes | None:
        """Give the value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def curl(self, base_url: str) -> str:
        """Give the command that repeats it, with the key left out."""
        words = ["curl", "-sS", "-i", "-X", self.method]
        for name, value in self.headers:
            if name.lower() == "authorization" and self.authorization is not None:
                words += ["-H", f'"{name}: {self.authorization}"']
            else:
                words += ["-H", shlex.quote(f"{name}: {value.decode('utf-8', 'backslashreplace')}")]
        path = self.path if len(self.path) <= 400 else f"{self.path[:200]}…{len(self.path) - 200} more"
        return " ".join([*words, "--path-as-is", shlex.quote(base_url + path)])


@attrs.frozen(kw_only=True)
class Answer:
    """An answer, or the lack of one.

    Attributes:
        status: The HTTP status code; 0 where there is no whole answer.
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

    def json(self) -> Any:
        """Read the body as the JSON that RFC 8259 allows.

        Raises:
            ValueError: It is something else: `NaN`, a name twice, a number beyond all bounds, half a surrogate pair and
                other encodings than UTF-8 included.
        """
        try:
            value = json.loads(
                self.body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique
            )
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


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


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


class Wire:
    """A connection that is kept open between requests."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._prefix = parts.path.rstrip("/")
        self._base_url = base_url
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(parts.netloc, timeout=PATIENCE, context=context)
        else:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)

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
            connection.putheader("Content-Length", "0")
            connection.endheaders()
            response = connection.getresponse()
        except TimeoutError:
            return Answer(status=0, failure=f"no answer within {PATIENCE:g} s", timed_out=True)
        except (OSError, http.client.HTTPException) as error:
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
        parts = urlsplit(self._base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        lines = [f"{request.method} {self._prefix}{request.path} HTTP/1.1".encode(), f"Host: {parts.netloc}".encode()]
        lines += [name.encode() + b": " + value for name, value in request.headers]
        head = b"\r\n".join([*lines, b"Connection: close", b"", b""])
        data = b""
        try:
            with socket.create_connection((str(parts.hostname), port), timeout=PATIENCE) as plain:
                context = ssl.create_default_context() if parts.scheme == "https" else None
                connection = context.wrap_socket(plain, server_hostname=parts.hostname) if context else plain
                connection.sendall(head)
                while chunk := connection.recv(65536):
                    data += chunk
        except OSError as error:
            return None if data else f"no answer: {error}"  # some keep it open, or end it with a reset
        sent, _, body = data.partition(b"\r\n\r\n")
        if re.match(rb"HTTP/1\.[01] 5", sent):
            return "a 5xx, without Content-Length in the request"
        announced = re.search(rb"(?im)^content-length: *([0-9]+)\r?$", sent)
        if announced and int(announced[1]) != len(body):
            return f"{len(body)} bytes, {int(announced[1])} announced"
        return None


def segment(identifier: str) -> str:
    """Encode an identifier as one path segment."""
    return quote(identifier, safe="")
