"""What the tests of the mock share: requests to it, each answer held against openapi.yaml."""

from __future__ import annotations

import functools
import http.client
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import hypothesis.strategies as st
import yaml
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator

from mixpeek_batches.mock import MockServer
from mixpeek_batches.mock.state import DEFAULT_KEY

CONTRACT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "openapi.yaml").read_text("utf-8"))
((_PATH, _OPERATIONS),) = CONTRACT["paths"].items()
RESPONSES = {int(code): ref["$ref"].rpartition("/")[2] for code, ref in _OPERATIONS["post"]["responses"].items()}
BEARER = f"Bearer {DEFAULT_KEY}"

FUZZ = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Whole numbers are small: as `times`, a large one would ask for all memory.
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def validate(value: object, schema: str) -> None:
    """Hold a value against a schema of openapi.yaml."""
    ref = {"$ref": f"#/components/schemas/{schema}", "components": CONTRACT["components"]}
    Draft202012Validator(ref).validate(value)


def is_envelope(response: httpx.Response) -> bool:
    """Hold an answer against the error envelope."""
    validate(response.json(), "ErrorResponse")
    return bool(response.json()["status"] == response.status_code)


def check(response: httpx.Response) -> httpx.Response:
    """Hold an answer against what openapi.yaml says of its status; 405 is the envelope with `Allow: POST`."""
    assert DEFAULT_KEY not in response.text + repr(response.headers.raw)
    assert response.headers["content-type"] == "application/json"
    if response.status_code == 405:
        assert response.headers["allow"] == "POST"
        validate(response.json(), "ErrorResponse")
        return response
    documented = CONTRACT["components"]["responses"][RESPONSES[response.status_code]]
    schema = documented["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    validate(response.json(), schema)
    assert response.status_code == 200 or is_envelope(response)
    for name in documented.get("headers", {}):
        Draft202012Validator(CONTRACT["components"]["headers"][name]["schema"]).validate(response.headers[name])
    return response


@functools.cache
def http_client() -> httpx.Client:
    """Give the one httpx client of a test run; it keeps no connection open."""
    return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def path_of(bucket: str, batch: str) -> str:
    """Give the path of the endpoint, each identifier one percent-encoded segment."""
    return f"/v1/buckets/{quote(bucket, safe='')}/batches/{quote(batch, safe='')}/cancel"


def headers_of(authorization: str | None = BEARER, namespace: str | bytes | None = None) -> httpx.Headers:
    """Give the headers of a request to the endpoint."""
    given = {b"Authorization": authorization, b"X-Namespace": namespace}
    return httpx.Headers(
        [
            (name, value.encode() if isinstance(value, str) else value)
            for name, value in given.items()
            if value is not None
        ]
    )


def send(
    mock: MockServer,
    bucket: str = "bkt",
    batch: str = "btch",
    *,
    method: str = "POST",
    authorization: str | None = BEARER,
    namespace: str | bytes | None = None,
) -> httpx.Response:
    """Ask for a batch to be cancelled; the answer is not looked at."""
    return http_client().request(
        method, mock.url + path_of(bucket, batch), headers=headers_of(authorization, namespace)
    )


def cancel(
    mock: MockServer,
    bucket: str = "bkt",
    batch: str = "btch",
    *,
    method: str = "POST",
    authorization: str | None = BEARER,
    namespace: str | bytes | None = None,
) -> httpx.Response:
    """Ask for a batch to be cancelled; the answer is held against openapi.yaml."""
    return check(send(mock, bucket, batch, method=method, authorization=authorization, namespace=namespace))


def connect(mock: MockServer) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", httpx.URL(mock.url).port or 0), timeout=10)


def raw(mock: MockServer, target: str | bytes, *headers: tuple[str, str], method: str = "POST") -> httpx.Response:
    """Send a request exactly as it is given, which httpx does not; headers are sent besides the usual key."""
    line = target if isinstance(target, bytes) else target.encode()
    lines = [method.encode() + b" " + line + b" HTTP/1.1", b"Host: mock", b"Content-Length: 0", b"Connection: close"]
    lines += [f"{name}: {value}".encode() for name, value in headers or [("Authorization", BEARER)]]
    with connect(mock) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        with http.client.HTTPResponse(connection, method=method) as answer:
            answer.begin()
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
