"""One request and what came back, byte for byte: no HTTP library in between that would tidy up either."""

from __future__ import annotations

import http.client
import json
import shlex
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
        extreme: The input is such that a server may refuse it before it looks at the contract.
    """

    method: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = ()
    authorization: str | None = None
    clause: str = ""
    extreme: bool = False

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
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: str | None = None

    def header(self, name: str) -> str | None:
        """Give the value of a header; several are joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        """Read the body as the JSON that RFC 8259 allows.

        Raises:
            ValueError: It is something else, `NaN` and other encodings than UTF-8 included.
        """
        return json.loads(self.body.decode("utf-8"), parse_constant=_refuse)

    def object(self) -> dict[str, Any]:
        """Read the body as a JSON object; an empty one where it is something else."""
        try:
            value = self.json()
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


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
        answer = self._send(request)
        if answer.failure is not None and answer.status == 0:
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
        except (OSError, http.client.HTTPException) as error:
            return Answer(status=0, failure=f"no answer: {error or type(error).__name__}")
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        try:
            body = response.read()
        except http.client.IncompleteRead as error:
            failure = f"the body ends after {len(error.partial)} bytes, before its announced length"
            return Answer(status=response.status, headers=headers, body=error.partial, failure=failure)
        except (OSError, http.client.HTTPException) as error:
            return Answer(status=response.status, headers=headers, failure=f"the body broke off: {error}")
        return Answer(status=response.status, headers=headers, body=body)


def segment(identifier: str) -> str:
    """Encode an identifier as one path segment."""
    return quote(identifier, safe="")
