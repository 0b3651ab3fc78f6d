"""One call: what is sent, and what becomes of whatever comes back."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import ssl
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import pytest
import trustme
from bulk import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixpeek_batches_api import __version__
from peer import CLOSE, HANG, RESET, TASK, UNREAD, Drip, Peer, Request, Script, response

from mixpeek_batches import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    InternalServerError,
    MixpeekError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    TaskResponse,
    TaskStatus,
    TaskType,
    UnprocessableEntityError,
)

Cancel = Callable[..., TaskResponse]
Failure = Callable[..., Any]
MEGABYTES_10 = 10 * 1024 * 1024


# A task comes back


def test_task(cancel: Cancel) -> None:
    """A success gives the task, typed."""
    with Peer(response()) as peer:
        task = cancel(peer.url)
    assert task.status is TaskStatus.CANCELED
    assert task.task_type is TaskType.API_BUCKETS_BATCHES_PROCESS
    assert (task.task_id, task.inputs, task.outputs, task.error_message) == ("task_1", ["obj_1"], [], None)


@pytest.mark.parametrize(
    "body",
    [
        TASK | {"progress": 0.5, "owner": {"id": 7}},
        TASK | {"inputs": None, "outputs": None},
        TASK | {"status": "QUEUED", "task_type": "api_new"},
        TASK | {"inputs": [{"object_id": "o"}, 3, None], "additional_data": ["odd"], "error_message": {"code": 1}},
        {name: TASK[name] for name in ("task_id", "task_type", "status")},
    ],
    ids=["extra-fields", "null-arrays", "unknown-values", "odd-fields", "required-only"],
)
def test_task_of_another_version(cancel: Cancel, body: dict[str, Any]) -> None:
    """What the contract does not know is read, kept, and written back as it came."""
    with Peer(response(200, body)) as peer:
        task = cancel(peer.url)
    assert task.to_dict() == body
    assert task.status == body["status"]


@pytest.mark.parametrize("status", [200, 201, 202, 206])
def test_task_with_any_2xx(cancel: Cancel, status: int) -> None:
    """A task is a task, whichever success comes with it."""
    with Peer(response(status)) as peer:
        assert cancel(peer.url).task_id == "task_1"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("identity", bytes),
        ("br", bytes),
    ],
)
def test_content_encoding(cancel: Cancel, encoding: str, encode: Callable[[bytes], bytes]) -> None:
    """A compressed body is unpacked, and one in an encoding that was not asked for is tried as it is."""
    with Peer(response(200, encode(json.dumps(TASK).encode()), {"Content-Encoding": encoding})) as peer:
        assert cancel(peer.url).to_dict() == TASK


@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"10\r\n" + json.dumps(TASK).encode()[:16] + b"\r\n", {"Transfer-Encoding": "chunked"})
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(TASK)) - 16, json.dumps(TASK).encode()[16:]),
        response(200, TASK, {"Connection": "close"}),
        b"HTTP/1.1 100 Continue\r\n\r\n" + response(),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(),
        b"HTTP/1.0" + response().removeprefix(b"HTTP/1.1"),
        response(200, json.dumps(TASK, indent=4), {"Content-Type": "text/plain"}),
    ],
    ids=["chunked", "until-close", "100-first", "103-first", "http-1.0", "text/plain"],
)
def test_framing(cancel: Cancel, answer: bytes) -> None:
    """However HTTP may wrap a task, it comes out."""
    with Peer([answer, CLOSE]) as peer:
        assert cancel(peer.url).to_dict() == TASK


def test_connection_is_kept(connect: Callable[..., Any]) -> None:
    """The calls of one client share a connection, also after an error."""
    with Peer(response(), response(404), response()) as peer, connect(peer.url) as client:
        client.cancel_batch("bkt_1", "btch_1")
        with pytest.raises(NotFoundError):
            client.cancel_batch("bkt_1", "btch_2")
        client.cancel_batch("bkt_1", "btch_3")
    assert (len(peer.requests), peer.connections) == (3, 1)


def test_connection_that_the_server_closed_between_calls(connect: Callable[..., Any]) -> None:
    """A connection that went stale is replaced, and that is no attempt."""
    with Peer([response(), CLOSE]) as peer, connect(peer.url, max_retries=0) as client:
        client.cancel_batch("bkt_1", "btch_1")
        wait_until(lambda: peer.open == 0)
        client.cancel_batch("bkt_1", "btch_1")
    assert (len(peer.requests), peer.connections) == (2, 2)


def test_connection_that_ends_as_it_is_used(connect: Callable[..., Any], waits: list[float]) -> None:
    """So is one that ends without a byte of an answer, and only such a one, at once."""
    with Peer(response(), [RESET], response()) as peer, connect(peer.url, max_retries=0) as client:
        client.cancel_batch("bkt_1", "btch_1")
        client.cancel_batch("bkt_1", "btch_1")
    assert (len(peer.requests), peer.connections, waits) == (3, 2, [])
    with Peer(response(), [b"H", RESET], response()) as peer, connect(peer.url, max_retries=0) as client:
        client.cancel_batch("bkt_1", "btch_1")
        with pytest.raises(APIConnectionError):
            client.cancel_batch("bkt_1", "btch_1")


# What is sent


def test_request(cancel: Cancel) -> None:
    """The request is the contract's, says who sends it, and says nothing else."""
    with Peer(response()) as peer:
        cancel(peer.url, api_key="sk_key", namespace="netflix_prod")
    (request,) = peer.requests
    headers = dict(request.headers)
    assert request.line == b"POST /v1/buckets/bkt_1/batches/btch_1/cancel HTTP/1.1"
    assert request.body == b""
    assert headers.pop("user-agent").startswith(f"mixpeek-batches/{__version__} python/3.".encode())
    assert headers == {
        "host": f"127.0.0.1:{peer.port}".encode(),
        "authorization": b"Bearer sk_key",
        "x-namespace": b"netflix_prod",
        "accept": b"application/json",
        "accept-encoding": b"gzip",
        "content-length": b"0",
    }
    assert len(request.headers) == len(headers) + 1, "a header was sent twice"


def test_request_without_namespace(cancel: Cancel) -> None:
    """Where nobody names a namespace, the server chooses."""
    with Peer(response()) as peer:
        cancel(peer.url)
    assert peer.requests[0].header("X-Namespace") is None


IDENTIFIERS = st.text(min_size=1, max_size=50).filter(lambda text: text not in {".", ".."})


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(IDENTIFIERS, IDENTIFIERS), min_size=1, max_size=5))
def test_identifiers_arrive_as_given(connect: Callable[..., Any], pairs: list[tuple[str, str]]) -> None:
    """Any text that is not refused reaches the server unchanged, each identifier as one segment of the path."""
    with Peer(response()) as peer, connect(peer.url) as client:
        for pair in pairs:
            client.cancel_batch(*pair)
    arrived = []
    for request in peer.requests:
        method, target, version = request.line.split(b" ")
        empty, v1, buckets, bucket, batches, batch, verb = target.split(b"/")
        assert (method, version) == (b"POST", b"HTTP/1.1")
        assert (empty, v1, buckets, batches, verb) == (b"", b"v1", b"buckets", b"batches", b"cancel")
        arrived.append((unquote_to_bytes(bucket).decode(), unquote_to_bytes(batch).decode()))
    assert arrived == pairs


@pytest.mark.parametrize(
    "identifier", ["a/b", "../x", "a?b#c", "100%", "%2F", "%2e%2e", " ", "a\r\nX: y", "\0", "...", "バッチ", "🎬"]
)
def test_identifier_that_tempts(connect: Callable[..., Any], identifier: str) -> None:
    """Nothing in an identifier reaches past its segment."""
    with Peer(response()) as peer, connect(peer.url) as client:
        client.cancel_batch(identifier, "btch_1")
    _, target, _ = peer.requests[0].line.split(b" ")
    assert [unquote_to_bytes(part).decode() for part in target.split(b"/")][3:5] == [identifier, "batches"]
    assert peer.requests[0].header("x") is None


@pytest.mark.parametrize("namespace", ["ns_1234567890", "Ünïcode", "名前空間", "🎬", "a b", "a\u00a0", '"a": b, c'])
def test_namespace_arrives_in_utf_8(cancel: Cancel, namespace: str) -> None:
    """A namespace is sent as its UTF-8 bytes."""
    with Peer(response()) as peer:
        cancel(peer.url, namespace=namespace)
    assert peer.requests[0].header("X-Namespace") == namespace.encode()


def test_namespace_of_the_call_wins(connect: Callable[..., Any]) -> None:
    """The namespace of a call stands in place of the client's, for that call."""
    with Peer(response()) as peer, connect(peer.url, namespace="of_client") as client:
        client.cancel_batch("bkt_1", "btch_1", namespace="of_call")
        client.cancel_batch("bkt_1", "btch_1")
    assert [request.header("X-Namespace") for request in peer.requests] == [b"of_call", b"of_client"]


def test_base_url_with_a_path(cancel: Cancel) -> None:
    """A base URL may have a path, which comes first, with or without a slash at its end."""
    with Peer(response()) as peer:
        cancel(f"{peer.url}/proxy/mixpeek/")
        cancel(f"{peer.url}/")
    assert [request.line.split(b" ")[1] for request in peer.requests] == [
        b"/proxy/mixpeek/v1/buckets/bkt_1/batches/btch_1/cancel",
        b"/v1/buckets/bkt_1/batches/btch_1/cancel",
    ]


def test_users_client(connect: Callable[..., Any]) -> None:
    """An httpx client of the user's sends with its headers and cookies, and with our key, and follows no redirect."""
    headers = {"X-Trace": "7", "Authorization": "Bearer other"}
    http_options = {"headers": headers, "cookies": {"a": "b"}, "follow_redirects": True}
    redirect = response(307, b"", {"Location": "/elsewhere", "Set-Cookie": "c=d"})
    with Peer(redirect, response()) as peer, connect(peer.url, http_options=http_options) as client:
        with pytest.raises(APIStatusError, match="redirect"):
            client.cancel_batch("bkt_1", "btch_1")
        client.cancel_batch("bkt_1", "btch_1")
    assert len(peer.requests) == 2
    assert (peer.requests[0].header("X-Trace"), peer.requests[0].header("Authorization")) == (b"7", b"Bearer sk_test")
    assert [request.header("Cookie") for request in peer.requests] == [b"a=b", b"c=d; a=b"]


@pytest.mark.parametrize("api_key", [None, "sk_test"])
def test_auth_of_the_users_client(cancel: Cancel, api_key: str | None) -> None:
    """The auth of a user's httpx client takes the place of a key."""
    with Peer(response()) as peer:
        cancel(peer.url, api_key=api_key, http_options={"auth": ("u", "p")})
    assert peer.requests[0].header("Authorization") == b"Basic dTpw"


def test_base_url_of_the_users_client(cancel: Cancel, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does its base URL, which wins over the environment, and may not stand beside another."""
    monkeypatch.setenv("MIXPEEK_BASE_URL", "https://name.invalid")
    with Peer(response()) as peer:
        cancel(http_options={"base_url": f"{peer.url}/x"})
        assert type(failure(peer.url, http_options={"base_url": f"{peer.url}/x"})) is ConfigurationError
    assert [request.line for request in peer.requests] == [b"POST /x/v1/buckets/bkt_1/batches/btch_1/cancel HTTP/1.1"]


@pytest.mark.parametrize(
    "error",
    [
        LookupError("a bug"),
        httpx.HTTPStatusError("x", request=httpx.Request("POST", "/"), response=httpx.Response(500)),
    ],
)
def test_hook_that_fails(connect: Callable[..., Any], waits: list[float], error: Exception) -> None:
    """What a hook of the user's raises, and is no failure of the network, comes out as it is, once."""

    def hook(_: object) -> None:
        raise error

    async def async_hook(_: object) -> None:
        raise error

    with Peer(response()) as peer, connect(peer.url, http_options={}) as client:
        client.http.event_hooks["response"] = [async_hook if isinstance(client.client, AsyncClient) else hook]
        with pytest.raises(type(error)) as caught:
            client.cancel_batch("bkt_1", "btch_1")
    assert caught.value is error
    assert (len(peer.requests), waits) == (1, [])


def test_hook_that_reads_the_body(connect: Callable[..., Any]) -> None:
    """A response that a hook has read, or that a transport made, is used as it is."""

    def hook(response: httpx.Response) -> None:
        response.read()

    async def async_hook(response: httpx.Response) -> None:
        await response.aread()

    packed = gzip.compress(json.dumps(TASK).encode())
    with (
        Peer(response(200, packed, {"Content-Encoding": "gzip"})) as peer,
        connect(peer.url, http_options={}) as client,
    ):
        client.http.event_hooks["response"] = [async_hook if isinstance(client.client, AsyncClient) else hook]
        assert client.cancel_batch("bkt_1", "btch_1").to_dict() == TASK
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=TASK))
    with connect("https://name.invalid", http_options={"transport": transport}) as client:
        assert client.cancel_batch("bkt_1", "btch_1").to_dict() == TASK


# The server refuses or fails

ENVELOPE = {
    "success": False,
    "status": 400,
    "error": {"message": "It is finished.", "type": "BatchStateError", "details": {"status": "COMPLETED"}},
}


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, APIStatusError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (418, APIStatusError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (499, APIStatusError),
        (500, InternalServerError),
        (502, InternalServerError),
        (503, InternalServerError),
        (520, InternalServerError),
        (599, InternalServerError),
        (600, APIStatusError),
        (999, APIStatusError),
    ],
)
def test_error_by_status(failure: Failure, status: int, error_class: type[APIStatusError]) -> None:
    """Every status that is no success has its class, and the error tells all that the server did."""
    headers = {"X-Request-ID": "req_7", "Retry-After": "7"}
    with Peer(response(status, ENVELOPE, headers)) as peer:
        error = failure(peer.url)
    assert type(error) is error_class
    assert (error.status_code, error.message, error.type) == (status, "It is finished.", "BatchStateError")
    assert (error.details, error.request_id, error.retry_after) == ({"status": "COMPLETED"}, "req_7", 7.0)
    assert str(error) == f"It is finished. ({status}, BatchStateError, request req_7)"
    assert error.response.status_code == status
    assert error.response.json() == ENVELOPE
    assert error.response.headers["X-Request-ID"] == "req_7"
    assert error.response.request.url.path == "/v1/buckets/bkt_1/batches/btch_1/cancel"


@pytest.mark.parametrize(
    ("body", "message", "details"),
    [
        ({"detail": [{"loc": ["path", 1], "msg": "too long", "type": "x"}, {"loc": "body", "msg": "bad"}, 3, {}]},
         "path.1: too long; body: bad", ...),
        ({"detail": []}, None, ...),
        ({"detail": "No such batch."}, "No such batch.", None),
        ({"error": "Broken."}, "Broken.", None),
        ({"message": "Slow down."}, "Slow down.", None),
        ({"message": " ", "detail": 7}, None, None),
        ({"error": {"message": 5, "type": ["x"], "details": "none"}}, None, None),
        ({"error": {"message": " "}}, None, None),
        ({"error": {}}, None, None),
        ({}, None, None),
        ([ENVELOPE], None, None),
        (None, None, None),
        ("<html><h1>422</h1></html>", None, None),
        (b"", None, None),
        (b'{"error": ', None, None),
        (b"\xff\xfe\xfa", None, None),
        (b"[" * 200_000, None, None),
        (b'{"error": ' * 100_000, None, None),
    ],
    ids=["fastapi", "fastapi-empty", "detail", "error-text", "message", "odd-texts", "odd-envelope", "blank-message",
         "empty-envelope", "empty-object", "array", "null", "html", "empty", "cut", "not-utf-8", "deep", "deep-too"],
)  # fmt: skip
def test_error_body(failure: Failure, body: Any, message: str | None, details: Any) -> None:
    """An explanation is found in whatever form it comes, and where there is none the error says so."""
    with Peer(response(422, body)) as peer:
        error = failure(peer.url)
    assert type(error) is UnprocessableEntityError
    assert error.message == message or "The server answered Unprocessable" in error.message
    assert error.type is None
    assert error.details == (body if details is ... else details)


def test_error_page(failure: Failure) -> None:
    """The page of a proxy is kept for whoever wants to see it, and is not the message."""
    page = "<html><title>502 Bad Gateway</title></html>"
    with Peer(response(502, page, {"Content-Type": "text/html"})) as peer:
        error = failure(peer.url)
    assert str(error) == "The server answered Bad Gateway and gave no reason. (502)"
    assert error.response.text == page


def test_error_with_a_long_message(failure: Failure) -> None:
    """A message without end is cut where it is printed, and whole where it is read."""
    with Peer(response(400, {"message": "x" * 100_000})) as peer:
        error = failure(peer.url)
    assert len(error.message) == 100_000
    assert len(str(error)) < 600


def test_error_body_in_gzip(failure: Failure) -> None:
    """The response of an error is unpacked."""
    packed = gzip.compress(json.dumps(ENVELOPE).encode())
    with Peer(response(400, packed, {"Content-Encoding": "gzip"})) as peer:
        error = failure(peer.url)
    assert error.response.json() == ENVELOPE
    assert "content-encoding" not in error.response.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect(failure: Failure, status: int) -> None:
    """A redirect is not followed, because the key would go along."""
    with Peer(response(status, b"", {"Location": "/elsewhere"})) as peer:
        error = failure(peer.url, max_retries=2)
    assert type(error) is APIStatusError
    assert "redirects are not followed" in error.message
    assert error.status_code == status
    assert len(peer.requests) == 1


@pytest.mark.parametrize(("status", "headers"), [(302, {}), (304, {})])
def test_3xx_that_leads_nowhere(failure: Failure, status: int, headers: dict[str, str]) -> None:
    """A 3xx that names no place is an error like others."""
    with Peer(response(status, b"", headers, length=0)) as peer:
        error = failure(peer.url)
    assert type(error) is APIStatusError
    assert "gave no reason" in error.message


@pytest.mark.parametrize("location", ["http://[::", "https://host:port/", "http://a\u0080b/"])
def test_redirect_to_a_bad_url(failure: Failure, location: str) -> None:
    """Nor does it matter where a redirect leads."""
    with Peer(response(302, b"", {"Location": location})) as peer:
        error = failure(peer.url)
    assert type(error) is APIStatusError
    assert error.status_code == 302


def test_status_101(failure: Failure) -> None:
    """A server that switches protocols unasked has broken the connection."""
    with Peer([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", HANG]) as peer:
        assert type(failure(peer.url, timeout=5)) is APIConnectionError


# A success that is no task


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        ([TASK], "it is valid JSON, but an array rather than an object"),
        (None, "it is valid JSON, but null rather than an object"),
        (True, "it is valid JSON, but a boolean rather than an object"),
        (1.5, "it is valid JSON, but a number rather than an object"),
        ('"CANCELED"', "it is valid JSON, but a string rather than an object"),
        ("<html>Welcome</html>", "it is not valid JSON, or was cut short"),
        (b'{"task_id": "\xff"}', "it is not valid JSON, or was cut short"),
        (json.dumps(TASK)[:-9], "it is not valid JSON, or was cut short"),
        (b"[" * 200_000, "it is not valid JSON, or was cut short"),
        (b'{"inputs": ' * 100_000, "it is not valid JSON, or was cut short"),
        (b'{"task_id": ' + b"9" * 5000 + b"}", "it is not valid JSON, or was cut short"),
        ({}, "it lacks 'task_id'"),
        ({"task_id": "t", "task_type": "x"}, "it lacks 'status'"),
        (TASK | {"task_id": 7}, "its task_id is a number rather than a string"),
        (TASK | {"task_id": None}, "its task_id is null rather than a string"),
        (TASK | {"task_id": {}}, "its task_id is an object rather than a string"),
        (TASK | {"status": 7}, "7 is not a valid TaskStatus"),
        (TASK | {"status": None}, "None is not a valid TaskStatus"),
        (TASK | {"status": ["CANCELED"]}, "['CANCELED'] is not a valid TaskStatus"),
        (TASK | {"task_type": {}}, "{} is not a valid TaskType"),
    ],
    ids=["empty", "blank", "array", "null", "boolean", "number", "string", "html", "not-utf-8", "cut", "deep",
         "deep-objects", "huge-number", "empty-object", "no-status", "number-as-id", "null-as-id", "object-as-id",
         "number-as-status", "null-as-status", "array-as-status", "object-as-type"],
)  # fmt: skip
def test_success_without_a_task(failure: Failure, body: Any, reason: str) -> None:
    """A success whose body is no task is an error of its own, which says what is wrong with it."""
    with Peer(response(200, body, {"X-Request-ID": "req_7"})) as peer:
        error = failure(peer.url, max_retries=2)
    assert type(error) is APIResponseValidationError
    assert str(error) == f"The server answered 200, but its body is not a task: {reason}."
    assert (error.status_code, error.request_id) == (200, "req_7")
    assert error.response.content == response(200, body).partition(b"\r\n\r\n")[2]
    assert len(peer.requests) == 1


def test_204(failure: Failure) -> None:
    """No content is no task."""
    with Peer(response(204)) as peer:
        assert "it is empty" in str(failure(peer.url))


@pytest.mark.parametrize(
    "body", [b"not gzip", gzip.compress(b"{}", mtime=0)[:15], gzip.compress(json.dumps(TASK).encode(), mtime=0)[:40]]
)
def test_gzip_that_is_none(failure: Failure, body: bytes) -> None:
    """A body that cannot be unpacked, or not to its end, is no task."""
    with Peer(response(200, body, {"Content-Encoding": "gzip"})) as peer:
        assert type(failure(peer.url)) is APIResponseValidationError


# Too much


ENDLESS: Script = [response(200, b"", {"Connection": "close"}), *[b" " * 1024 * 1024] * 12, HANG]
TOO_LARGE: dict[str, Script] = {
    "declared": [response(200, b"{", length=MEGABYTES_10 + 1), HANG],
    "declared-beyond-reason": [response(200, b"{", length=10**19 - 1), HANG],
    "undeclared": ENDLESS,
    "gzip-bomb": response(200, gzip.compress(b" " * (MEGABYTES_10 + 1), mtime=0), {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("script", TOO_LARGE.values(), ids=TOO_LARGE)
def test_body_too_large(failure: Failure, script: Script) -> None:
    """More than 10 MiB are neither read nor unpacked, and the rest is not waited for."""
    with Peer(script) as peer:
        error = failure(peer.url, timeout=10, max_retries=2)
    assert type(error) is APIResponseValidationError
    assert "it is larger than 10,485,760 bytes" in str(error)
    assert error.response.content == b""
    assert len(peer.requests) == 1


def test_gzip_bomb_is_not_unpacked(failure: Failure) -> None:
    """A small body that unpacks to 100 MiB takes no such memory."""
    bomb = gzip.compress(b" " * (10 * MEGABYTES_10), compresslevel=1, mtime=0)
    with Peer(response(200, bomb, {"Content-Encoding": "gzip"})) as peer:
        tracemalloc.start()
        failure(peer.url, timeout=10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * MEGABYTES_10


def test_error_body_too_large(failure: Failure) -> None:
    """An error stays the error that its status says, however much comes with it."""
    with Peer([response(400, b"{", length=MEGABYTES_10 + 1), HANG]) as peer:
        assert type(failure(peer.url, timeout=10)) is BadRequestError


def test_body_of_exactly_10_mib(cancel: Cancel) -> None:
    """Ten MiB are not too large."""
    body = json.dumps(TASK).encode().ljust(MEGABYTES_10)
    with Peer(response(200, body), response(200, gzip.compress(body, mtime=0), {"Content-Encoding": "gzip"})) as peer:
        assert cancel(peer.url).task_id == cancel(peer.url).task_id == "task_1"


# The connection fails

WHOLE = response()
HEAD = WHOLE.index(b"\r\n\r\n") + 4
CUT: dict[str, Script] = {
    "reset-before-reading": [UNREAD, RESET],
    "reset-after-reading": [RESET],
    "reset-after-half-the-head": [WHOLE[:20], RESET],
    "reset-after-the-head": [WHOLE[:HEAD], RESET],
    "reset-after-half-the-body": [WHOLE[: HEAD + 30], RESET],
    "close-before-reading": [UNREAD, CLOSE],
    "close-after-reading": [CLOSE],
    "close-after-half-the-head": [WHOLE[:20], CLOSE],
    "close-after-the-head": [WHOLE[:HEAD], CLOSE],
    "close-before-the-last-byte": [WHOLE[:-1], CLOSE],
    "close-in-a-chunk": [response(200, b"ff\r\n{", {"Transfer-Encoding": "chunked"}), CLOSE],
    "close-before-the-last-chunk": [response(200, b"2\r\n{}\r\n", {"Transfer-Encoding": "chunked"}), CLOSE],
    "no-http": [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE],
    "bad-header": [b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", CLOSE],
    "bad-length": [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", CLOSE],
    "bad-chunk": [response(200, b"zz\r\n", {"Transfer-Encoding": "chunked"}), CLOSE],
    "bad-status": [b"HTTP/1.1 2000 OK\r\n\r\n", CLOSE],
    "endless-header": [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, HANG],
}


@pytest.mark.parametrize("script", CUT.values(), ids=CUT)
def test_connection_lost(failure: Failure, script: Script) -> None:
    """Wherever an answer breaks off, or stops being HTTP, the error is that of the connection."""
    with Peer(script) as peer:
        error = failure(peer.url, timeout=10)
    assert type(error) is APIConnectionError
    assert str(error).startswith("The connection to 127.0.0.1 failed: ")
    assert error.__cause__ is None
    assert peer.connections == 1


def test_refused_port(failure: Failure) -> None:
    """Nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert type(error) is APIConnectionError


def test_unknown_host(failure: Failure) -> None:
    """There is no such host."""
    error = failure("https://name.invalid")
    assert type(error) is APIConnectionError
    assert "name.invalid" in str(error)


# Time

SLOW: dict[str, Script] = {
    "hang": [HANG],
    "hang-after-the-head": [WHOLE[:HEAD], HANG],
    "hang-in-the-body": [WHOLE[:-1], HANG],
    "drip-of-the-head": [Drip(WHOLE)],
    "drip-of-headers": [b"HTTP/1.1 200 OK\r\n", Drip(b"X: y\r\n" * 25)],
    "drip-of-the-body": [WHOLE[:HEAD], Drip(WHOLE[HEAD:])],
    "drip-of-100s": [Drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 6)],
    "drip-of-chunks": [response(200, b"", {"Transfer-Encoding": "chunked"}), Drip(b"1\r\n \r\n" * 25)],
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_timeout(failure: Failure, script: Script) -> None:
    """However slowly an answer comes, the attempt ends at the time-out."""
    with Peer(script) as peer:
        started = time.monotonic()
        error = failure(peer.url, timeout=0.3)
        assert time.monotonic() - started < 5
    assert type(error) is APITimeoutError
    assert str(error) == "No complete response from 127.0.0.1 within 0.3 s."


def test_timeout_of_the_tls_handshake(failure: Failure) -> None:
    """The handshake counts as well, and its connection is closed when it is over."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with Peer([HANG]) as peer:
            error = failure(f"https://127.0.0.1:{peer.port}", timeout=0.3)
        gc.collect()
    assert type(error) is APITimeoutError
    assert [str(warning.message) for warning in caught] == []


def test_timeout_with_the_users_client(failure: Failure) -> None:
    """The body is bounded as a whole with an httpx client of the user's too."""
    with Peer([WHOLE[:HEAD], Drip(WHOLE[HEAD:])]) as peer:
        assert type(failure(peer.url, timeout=0.3, http_options={})) is APITimeoutError


def test_timeout_shorter_than_anything(failure: Failure) -> None:
    """A time-out that is over before it began is still only a time-out."""
    with Peer([HANG]) as peer:
        assert type(failure(peer.url, timeout=1e-9)) is APITimeoutError


def test_client_after_a_timeout(connect: Callable[..., Any]) -> None:
    """What one call waited for in vain does not come out of the next."""
    late = response(200, TASK | {"task_id": "late"})
    with Peer([late[:-1], HANG], response()) as peer, connect(peer.url, timeout=0.3, max_retries=0) as client:
        with pytest.raises(APITimeoutError):
            client.cancel_batch("bkt_1", "btch_1")
        assert client.cancel_batch("bkt_1", "btch_1").task_id == "task_1"


def test_cancelled_coroutine() -> None:
    """Who cancels the coroutine gets asyncio's own error, at once."""

    async def run(url: str) -> None:
        async with AsyncClient(api_key="sk_test", base_url=url) as client, asyncio.timeout(0.2):
            await client.cancel_batch("bkt_1", "btch_1")

    with Peer([HANG]) as peer, pytest.raises(TimeoutError):
        asyncio.run(run(peer.url))
    assert len(peer.requests) == 1


# TLS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Make an authority that nobody trusts by default."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Make the server's side, with a certificate for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_untrusted_certificate(failure: Failure, server_tls: ssl.SSLContext, waits: list[float]) -> None:
    """A certificate that is refused stays refused: nothing is sent, and nothing tried again."""
    with Peer(response(), tls=server_tls) as peer:
        error = failure(peer.url, max_retries=2)
    assert type(error) is APIConnectionError
    assert "certificate verify failed" in str(error)
    assert (peer.connections, peer.requests, waits) == (1, [], [])


def test_trusted_certificate(cancel: Cancel, authority: trustme.CA, server_tls: ssl.SSLContext) -> None:
    """An httpx client that trusts the server's certificate gets through."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Peer(response(), tls=server_tls) as peer:
        assert cancel(peer.url, http_options={"verify": trusting}).task_id == "task_1"


def test_trusted_certificate_from_the_environment(
    cancel: Cancel,
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So does our own, if SSL_CERT_FILE names the authority, and it reads and writes by TLS."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Peer(response(), tls=server_tls) as peer:
        assert cancel(peer.url).task_id == "task_1"


def test_tls_to_a_server_without(failure: Failure) -> None:
    """A server that answers a handshake with text is a failed connection."""
    with Peer([UNREAD, b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]) as peer:
        error = failure(f"https://127.0.0.1:{peer.port}", timeout=10)
    assert type(error) is APIConnectionError


# Proxies


def test_proxy_from_the_environment(cancel: Cancel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is used for other machines."""
    with Peer(response()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        cancel("http://name.invalid", allow_http=True)
    assert proxy.requests[0].line.startswith(b"POST http://name.invalid/v1/buckets/")


def test_timeout_through_a_proxy(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time-out bounds the whole attempt through a proxy as well."""
    with Peer([Drip(WHOLE)]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert type(failure("http://name.invalid", allow_http=True, timeout=0.3)) is APITimeoutError


def test_choice_by_request(connect: Callable[..., Any]) -> None:
    """Each call gets the answer to its own request."""

    def answer(request: Request) -> bytes:
        return response(200, TASK | {"task_id": request.line.split(b"/")[5].decode()})

    with Peer(answer) as peer, connect(peer.url) as client:
        assert [client.cancel_batch("bkt_1", batch).task_id for batch in ("a", "b", "c")] == ["a", "b", "c"]


def test_error_is_a_mixpeek_error() -> None:
    """One class catches all of them."""
    assert issubclass(APIStatusError, MixpeekError)
    assert issubclass(APIResponseValidationError, MixpeekError)
    assert issubclass(APITimeoutError, APIConnectionError)
    assert issubclass(APIConnectionError, MixpeekError)
