"""What the tests of the mock share: requests to it over real sockets."""

from __future__ import annotations

import functools
import http.client
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

from mixpeek_batches.mock import MockServer
from mixpeek_batches.mock.state import DEFAULT_KEY

BEARER = f"Bearer {DEFAULT_KEY}"

FUZZ = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Whole numbers are small: a large one for `times` would take all memory.
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def path_of(bucket: str, batch: str) -> str:
    """Return the path of the endpoint, each identifier one percent-encoded segment."""
    return f"/v1/buckets/{quote(bucket, safe='')}/batches/{quote(batch, safe='')}/cancel"


PATH = path_of("bkt", "btch")
REQUEST = f"POST {PATH} HTTP/1.1\r\nHost: mock\r\nAuthorization: {BEARER}\r\nContent-Length: 0\r\n\r\n".encode()


@functools.cache
def http_client() -> httpx.Client:
    """Return the httpx client of the test run, which keeps no connection open."""
    return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def send(
    mock: MockServer,
    path: str = PATH,
    *,
    method: str = "POST",
    authorization: str | None = BEARER,
    namespace: str | bytes | None = None,
) -> httpx.Response:
    """Send a request to the endpoint."""
    headers = {"Authorization": authorization, "X-Namespace": namespace}
    given = {name: value.encode() if isinstance(value, str) else value for name, value in headers.items() if value}
    return http_client().request(method, mock.url + path, headers=[(name.encode(), given[name]) for name in given])


def connect(mock: MockServer) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", port_of(mock)), timeout=10)


def port_of(mock: MockServer) -> int:
    """Return the port of a running mock."""
    return httpx.URL(mock.url).port or 0


def raw(mock: MockServer, target: str, *headers: tuple[str, str], method: str = "POST") -> httpx.Response:
    """Send a request with the target exactly as it is given, which httpx does not."""
    lines = [f"{method} {target} HTTP/1.1", "Host: mock", f"Authorization: {BEARER}", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers]
    with connect(mock) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        with http.client.HTTPResponse(connection, method=method) as response:
            response.begin()
            return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


def is_envelope(response: httpx.Response) -> bool:
    """Check whether a response is the error envelope with its own status code."""
    body = response.json()
    return bool(
        (body["success"], body["status"], {*body["error"]})
        == (False, response.status_code, {"message", "type", "details"})
    )


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, at most 10 seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.001)
