"""One call: what is sent, and what it returns or raises for any response."""

from __future__ import annotations

import contextlib
import datetime
import gc
import gzip
import json
import socket
import ssl
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import pytest
import trustme
from bulk import Caller, wait_until
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mixpeek_batches_api import __version__
from peer import CLOSE, HANG, RESET, TASK, UNREAD, Action, Drip, Peer, Script, response

from mixpeek_batches import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    Client,
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
Connect = Callable[..., Caller]
Failure = Callable[..., Any]
MEGABYTES_10 = 10 * 1024 * 1024
TEXT = json.dumps(TASK).encode()
CHUNKED = {"Transfer-Encoding": "chunked"}
WHOLE = response()
HEAD = WHOLE.index(b"\r\n\r\n") + 4
IN_CHUNKS = response(200, b"10\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (TEXT[:16], len(TEXT) - 16, TEXT[16:]), CHUNKED)


# A task comes back


def test_task(cancel: Cancel) -> None:
    """A success returns a typed task."""
    with Peer(response()) as peer:
        task = cancel(peer.url)
    assert task.status is TaskStatus.CANCELED
    assert task.task_type is TaskType.API_BUCKETS_BATCHES_PROCESS
    assert (task.task_id, task.inputs, task.outputs, task.error_message) == ("task_1", ["obj_1"], [], None)


FRAMES = {
    "chunked": IN_CHUNKS,
    "until-close": response(200, TASK, {"Connection": "close"}),
    "100-first": b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    "103-first": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + WHOLE,
    "http-1.0": b"HTTP/1.0" + WHOLE.removeprefix(b"HTTP/1.1"),
    "text/plain": response(200, json.dumps(TASK, indent=4), {"Content-Type": "text/plain"}),
    "long-header": response(200, TASK, {"Content-Security-Policy": "x" * 20_000}),
    **{name: response(200, gzip.compress(TEXT), {"Content-Encoding": name}) for name in ("gzip", "x-gzip", "GZIP")},
    **{name: response(200, TASK, {"Content-Encoding": name}) for name in ("identity", "br")},  # br was not asked for
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_framing(cancel: Cancel, frame: bytes) -> None:
    """A task is read however HTTP wraps it."""
    with Peer([frame, CLOSE]) as peer:
        assert cancel(peer.url).to_dict() == TASK


def test_connection_is_kept(connect: Connect) -> None:
    """The calls of one client share a connection, also after an error."""
    with Peer(response(), response(404), response()) as peer, connect(peer.url) as client:
        client.cancel_batch("bkt_1", "btch_1")
        with pytest.raises(NotFoundError):
            client.cancel_batch("bkt_1", "btch_2")
        client.cancel_batch("bkt_1", "btch_3")
    assert (len(peer.requests), peer.connections) == (3, 1)


def test_connection_that_the_server_closed_between_calls(connect: Connect) -> None:
    """A stale connection is replaced, which costs no retry."""
    with Peer([response(), CLOSE]) as peer, connect(peer.url, max_retries=0) as client:
        client.cancel_batch("bkt_1", "btch_1")
        wait_until(lambda: peer.open == 0)
        client.cancel_batch("bkt_1", "btch_1")
    assert (len(peer.requests), peer.connections) == (2, 2)


def test_connection_that_ends_as_it_is_used(connect: Connect, waits: list[float]) -> None:
    """So is one that ends before the first byte of the response, at once; after that it is a failure."""
    with Peer(response(), [RESET], response()) as peer, connect(peer.url, max_retries=0) as client:
        client.cancel_batch("bkt_1", "btch_1")
        client.cancel_batch("bkt_1", "btch_1")
    assert (len(peer.requests), peer.connections, waits) == (3, 2, [])
    with Peer(response(), [b"H", RESET], response()) as peer, connect(peer.url, max_retries=0) as client:
        client.cancel_batch("bkt_1", "btch_1")
        with pytest.raises(APIConnectionError):
            client.cancel_batch("bkt_1", "btch_1")


# What is sent


@pytest.mark.parametrize("http_options", [None, {}], ids=["own-transport", "users-client"])
def test_request(connect: Connect, http_options: dict[str, Any] | None) -> None:
    """The request is the contract's plus a User-Agent, and the same in bulk."""
    options = {"api_key": "sk_key", "namespace": "netflix_prod", "http_options": http_options}
    with Peer(response()) as peer, connect(peer.url, **options) as client:
        client.cancel_batch("bkt_1", "btch_1")
        list(client.cancel_batches([("bkt_1", "btch_1")]))
    request, in_bulk = peer.requests
    assert in_bulk == request
    headers = dict(request.headers)
    assert len(request.headers) == len(headers), "a header was sent twice"
    assert request.line == b"POST /v1/buckets/bkt_1/batches/btch_1/cancel HTTP/1.1"
    assert headers.pop("connection", b"keep-alive") == b"keep-alive"
    assert headers.pop("user-agent").startswith(f"mixpeek-batches/{__version__} python/3.".encode())
    assert headers == {
        "host": f"127.0.0.1:{peer.port}".encode(),
        "authorization": b"Bearer sk_key",
        "x-namespace": b"netflix_prod",
        "accept": b"application/json",
        "accept-encoding": b"gzip",
        "content-length": b"0",
    }


IDENTIFIERS = st.text(min_size=1, max_size=50).filter(lambda text: text not in {".", ".."})
TEMPTING = [
    "a/b",
    "../x",
    "a?b#c",
    "100%",
    "%2F",
    "%2e%2e",
    " ",
    "a+b",
    "a;b",
    "a\r\nX: y",
    "\0",
    "...",
    "\\",
    "バッチ",
    "🎬",
]


@settings(max_examples=50)
@given(st.lists(st.tuples(IDENTIFIERS, IDENTIFIERS), min_size=1, max_size=5))
@example([(text, "x") for text in TEMPTING])
def test_identifiers_arrive_as_given(connect: Connect, pairs: list[tuple[str, str]]) -> None:
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
        assert request.header("x") is None
        arrived.append((unquote_to_bytes(bucket).decode(), unquote_to_bytes(batch).decode()))
    assert arrived == pairs


def test_namespace(connect: Connect) -> None:
    """A call's namespace wins over the client's; without either, no header is sent."""
    with Peer(response()) as peer:
        with connect(peer.url, namespace="of_client") as client:
            client.cancel_batch("bkt_1", "btch_1", namespace="of_call")
            client.cancel_batch("bkt_1", "btch_1")
        with connect(peer.url) as client:
            client.cancel_batch("bkt_1", "btch_1")
    assert [request.header("X-Namespace") for request in peer.requests] == [b"of_call", b"of_client", None]


def test_base_url_with_a_path(cancel: Cancel) -> None:
    """A base URL may have a path, with or without a trailing slash."""
    with Peer(response()) as peer:
        cancel(f"{peer.url}/proxy/mixpeek/")
        cancel(f"{peer.url}/")
    assert [request.line.split(b" ")[1] for request in peer.requests] == [
        b"/proxy/mixpeek/v1/buckets/bkt_1/batches/btch_1/cancel",
        b"/v1/buckets/bkt_1/batches/btch_1/cancel",
    ]


def test_cookies_are_not_kept(connect: Connect) -> None:
    """A server's cookies are not sent back to it."""
    with Peer(response(200, TASK, {"Set-Cookie": "a=b; Path=/"})) as peer, connect(peer.url) as client:
        client.cancel_batch("bkt_1", "btch_1")
        client.cancel_batch("bkt_1", "btch_1")
    assert [request.header("Cookie") for request in peer.requests] == [None, None]


# The server refuses or fails

ENVELOPE = {
    "success": False,
    "status": 400,
    "error": {"message": "It is finished.", "type": "BatchStateError", "details": {"status": "COMPLETED"}},
}
CLASSES: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    **dict.fromkeys(range(500, 600), InternalServerError),
}
REDIRECTS = {301, 302, 303, 307, 308}


def test_every_status(connect: Connect, waits: list[float]) -> None:
    """A 2xx is a task; every other status raises its class, and only one that may be transient is retried."""
    sent: list[int] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(int(request.url.path.split("/")[5]))
        return httpx.Response(sent[-1], json=TASK if sent[-1] < 300 else None, headers={"Location": "/elsewhere"})

    http_options = {"transport": httpx.MockTransport(respond), "follow_redirects": True}
    with connect("https://name.invalid", http_options=http_options, max_retries=1) as client:
        for status in range(200, 300):
            assert client.cancel_batch("bkt_1", str(status)).task_id == "task_1"
        for status in [*range(300, 601), 999]:
            with pytest.raises(APIStatusError) as caught:
                client.cancel_batch("bkt_1", str(status))
            assert type(caught.value) is CLASSES.get(status, APIStatusError)
            assert caught.value.status_code == status
            reason = "redirects are not followed" if status in REDIRECTS else "without a reason"
            assert reason in caught.value.message
    assert {status for status in sent if sent.count(status) == 2} == {408, 429, 500, 502, 503, 504}
    assert (len(sent), len(waits)) == (100 + 302 + 6, 6)


def test_error(failure: Failure) -> None:
    """An error has everything that the response says about it."""
    headers = {"X-Request-ID": "req_7", "Retry-After": "7"}
    with Peer(response(400, ENVELOPE, headers)) as peer:
        error = failure(peer.url)
    assert type(error) is BadRequestError
    assert (error.status_code, error.message, error.type) == (400, "It is finished.", "BatchStateError")
    assert (error.details, error.request_id, error.retry_after) == ({"status": "COMPLETED"}, "req_7", 7.0)
    assert str(error) == "It is finished. (400, BatchStateError, request req_7)"
    assert error.response.status_code == 400
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
        ([ENVELOPE], None, None),
        ("<html><h1>422</h1></html>", None, None),
        (b"", None, None),
        (b'{"error": ', None, None),
        (b"\xff\xfe\xfa", None, None),
        (b"[" * 200_000, None, None),
    ],
    ids=["fastapi", "fastapi-empty", "detail", "error-text", "message", "odd-texts", "odd-envelope", "blank-message",
         "array", "html", "empty", "cut", "not-utf-8", "deep"],
)  # fmt: skip
def test_error_body(failure: Failure, body: Any, message: str | None, details: Any) -> None:
    """The message is taken from whichever error format the body has, else made from the status."""
    with Peer(response(422, body)) as peer:
        error = failure(peer.url)
    assert type(error) is UnprocessableEntityError
    assert error.message == message or (message is None and "Unprocessable" in error.message)
    assert error.type is None
    assert error.details == (body if details is ... else details)


def test_error_page(failure: Failure) -> None:
    """The page of a proxy is not the message; it is kept, decompressed, in the response."""
    page = "<html><title>502 Bad Gateway</title></html>"
    with Peer(response(502, gzip.compress(page.encode()), {"Content-Encoding": "gzip"})) as peer:
        error = failure(peer.url)
    assert "Bad Gateway" in error.message
    assert str(error) == f"{error.message} (502)"
    assert error.response.text == page
    assert "content-encoding" not in error.response.headers


def test_error_with_a_long_message(failure: Failure) -> None:
    """A long message is cut where it is printed, and whole in the attribute."""
    with Peer(response(400, {"message": "x" * 501}), response(400, {"message": "x" * 500})) as peer:
        long, just_fits = failure(peer.url), failure(peer.url)
    assert (len(long.message), str(long)) == (501, f"{'x' * 500}… (400)")
    assert str(just_fits) == f"{'x' * 500} (400)"


@pytest.mark.parametrize("http_options", [None, {"follow_redirects": True}], ids=["own-transport", "users-client"])
def test_redirect(connect: Connect, http_options: dict[str, Any] | None) -> None:
    """A redirect is not followed, because the key would be sent along."""
    with Peer(response()) as other, Peer(response(307, b"", {"Location": f"{other.url}/x"})) as peer:
        with connect(peer.url, http_options=http_options) as client:
            with pytest.raises(APIStatusError, match="redirects are not followed"):
                client.cancel_batch("bkt_1", "btch_1")
            (result,) = client.cancel_batches([("bkt_1", "btch_1")])
        assert type(result.error) is APIStatusError
        assert (len(peer.requests), other.connections) == (2, 0)


@pytest.mark.parametrize("location", [None, "http://[::"])
def test_redirect_that_leads_nowhere(failure: Failure, location: str | None) -> None:
    """A 3xx with no Location, or an invalid one, raises an error like any other."""
    with Peer(response(302, b"", {} if location is None else {"Location": location})) as peer:
        error = failure(peer.url)
    assert type(error) is APIStatusError
    assert error.status_code == 302


# A success whose body is not a task


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b" \r\n", "it is empty"),
        ([TASK], "it is valid JSON, but an array rather than an object"),
        (None, "it is valid JSON, but null rather than an object"),
        (True, "it is valid JSON, but a boolean rather than an object"),
        (1.5, "it is valid JSON, but a number rather than an object"),
        ('"CANCELED"', "it is valid JSON, but a string rather than an object"),
        ("<html>Welcome</html>", "it is not valid JSON, or was cut short"),
        (b'{"task_id": "\xff"}', "it is not valid JSON, or was cut short"),
        (TEXT[:-9], "it is not valid JSON, or was cut short"),
        (b'{"inputs": ' * 100_000, "it is not valid JSON, or was cut short"),
        (b'{"task_id": ' + b"9" * 5000 + b"}", "it is not valid JSON, or was cut short"),
        ({"task_id": "t", "task_type": "x"}, "it lacks 'status'"),
        (TASK | {"task_id": {}}, "its task_id is an object rather than a string"),
        (TASK | {"status": ["CANCELED"]}, "['CANCELED'] is not a valid TaskStatus"),
        (TASK | {"task_type": {}}, "{} is not a valid TaskType"),
    ],
    ids=["blank", "array", "null", "boolean", "number", "string", "html", "not-utf-8", "cut", "deep", "huge-number",
         "no-status", "object-as-id", "array-as-status", "object-as-type"],
)  # fmt: skip
def test_success_without_a_task(failure: Failure, body: Any, reason: str) -> None:
    """A success whose body is not a task raises an error of its own, with the reason, and is not retried."""
    with Peer(response(200, body, {"X-Request-ID": "req_7"})) as peer:
        error = failure(peer.url, max_retries=2)
    assert type(error) is APIResponseValidationError
    assert str(error).endswith(f"its body is not a task: {reason}.")
    assert (error.status_code, error.request_id) == (200, "req_7")
    assert error.response.content == response(200, body).partition(b"\r\n\r\n")[2]
    assert len(peer.requests) == 1


def test_success_without_a_readable_body(failure: Failure) -> None:
    """An empty 204 is not a task, nor is a body that cannot be decompressed."""
    bad = [response(200, body, {"Content-Encoding": "gzip"}) for body in (b"not gzip", gzip.compress(TEXT)[:40])]
    with Peer(response(204), *bad) as peer:
        assert [type(failure(peer.url)) for _ in range(3)] == [APIResponseValidationError] * 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
REQUIRED = ["task_id", "task_type", "status"]
OPTIONAL = ["inputs", "outputs", "additional_data", "error_message", "progress"]
ALMOST_TASKS = st.fixed_dictionaries(dict.fromkeys(REQUIRED, st.text() | JSON), optional=dict.fromkeys(OPTIONAL, JSON))
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Type", "Location", "Retry-After", "X-Request-ID"]),
    st.sampled_from(["gzip", "text/html", "", "-1", "1e999"]) | st.from_regex("[!-~]{,9}", fullmatch=True),
)


@settings(max_examples=60)
@given(body=JSON | ALMOST_TASKS)
def test_any_json(connect: Connect, body: Any) -> None:
    """An object with the three required strings is a task and keeps all its fields; anything else raises."""
    with Peer(response(200, body)) as peer, connect(peer.url) as client:
        if isinstance(body, dict) and all(isinstance(body.get(name), str) for name in REQUIRED):
            assert client.cancel_batch("bkt_1", "btch_1").to_dict() == body
        else:
            with pytest.raises(APIResponseValidationError):
                client.cancel_batch("bkt_1", "btch_1")


@settings(max_examples=60)
@given(script=st.binary(min_size=1) | st.builds(response, st.integers(100, 999), st.binary() | JSON, HEADERS))
def test_any_bytes(connect: Connect, script: bytes) -> None:
    """Whatever the peer sends, a call returns a task or raises a MixpeekError."""
    with (
        Peer([script, CLOSE]) as peer,
        connect(peer.url, max_retries=0, timeout=5) as client,
        contextlib.suppress(MixpeekError),
    ):
        assert client.cancel_batch("bkt_1", "btch_1")


# Too much

TOO_LARGE: dict[str, Script] = {
    "declared": [response(200, b"{", length=MEGABYTES_10 + 1), HANG],
    "declared-beyond-reason": [response(200, b"{", length=10**19 - 1), HANG],
    "undeclared": [response(200, b"", {"Connection": "close"}), *[b" " * 1024 * 1024] * 12, HANG],
    "gzip-bomb": response(200, gzip.compress(b" " * (MEGABYTES_10 + 1), mtime=0), {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("script", TOO_LARGE.values(), ids=TOO_LARGE)
def test_body_too_large(failure: Failure, script: Script) -> None:
    """No more than 10 MiB are read or decompressed; the rest is not waited for."""
    with Peer(script) as peer:
        error = failure(peer.url, timeout=10, max_retries=2)
    assert type(error) is APIResponseValidationError
    assert "it is larger than 10,485,760 bytes" in str(error)
    assert error.response.content == b""
    assert len(peer.requests) == 1


@pytest.mark.parametrize("kind", [Client], indirect=True)
def test_gzip_bomb_is_not_decompressed(failure: Failure) -> None:
    """A small body that decompresses to 100 MiB takes no such memory."""
    bomb = gzip.compress(b" " * (10 * MEGABYTES_10), compresslevel=1, mtime=0)
    with Peer(response(200, bomb, {"Content-Encoding": "gzip"})) as peer:
        tracemalloc.start()
        failure(peer.url, timeout=10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * MEGABYTES_10


def test_error_body_too_large(failure: Failure) -> None:
    """The status still determines the error when its body is too large."""
    with Peer([response(400, b"{", length=MEGABYTES_10 + 1), HANG]) as peer:
        assert type(failure(peer.url, timeout=10)) is BadRequestError


@pytest.mark.parametrize("kind", [Client], indirect=True)
def test_body_of_exactly_10_mib(cancel: Cancel) -> None:
    """Ten MiB are not too large, declared, undeclared or compressed."""
    body = TEXT.ljust(MEGABYTES_10)
    undeclared = response(200, body, {"Connection": "close"})
    packed = response(200, gzip.compress(body, mtime=0), {"Content-Encoding": "gzip"})
    with Peer(response(200, body), [undeclared, CLOSE], packed) as peer:
        assert [cancel(peer.url).task_id for _ in range(3)] == ["task_1"] * 3


# The connection fails

CUT: dict[str, Script] = {
    "reset-before-reading": [UNREAD, RESET],
    "close-before-reading": [UNREAD, CLOSE],
    "no-http": [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE],
    "bad-header": [b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", CLOSE],
    "bad-length": [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", CLOSE],
    "bad-chunk": [response(200, b"zz\r\n", CHUNKED), CLOSE],
    "bad-status": [b"HTTP/1.1 2000 OK\r\n\r\n", CLOSE],
    "unasked-101": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", HANG],
    "endless-header": [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, HANG],
}


@pytest.mark.parametrize("script", CUT.values(), ids=CUT)
def test_connection_lost(failure: Failure, script: Script) -> None:
    """No response, or bytes that are not HTTP, are a failed connection."""
    with Peer(script) as peer:
        error = failure(peer.url, timeout=10)
    assert type(error) is APIConnectionError
    assert str(error).startswith("The connection to 127.0.0.1 failed: ")
    assert len(str(error).splitlines()) == 1
    assert error.__cause__ is None
    assert peer.connections == 1


@settings(max_examples=40)
@given(whole=st.sampled_from([WHOLE, IN_CHUNKS]), part=st.floats(0, 1), end=st.sampled_from([RESET, CLOSE]))
@example(WHOLE, 0, RESET)
@example(WHOLE, 0, CLOSE)
@example(WHOLE, 1, CLOSE)
@example(IN_CHUNKS, 1, CLOSE)
def test_response_cut_short(connect: Connect, whole: bytes, part: float, end: Action) -> None:
    """So is a response that is cut short, at whichever byte."""
    begun = whole[: int(part * (len(whole) - 1))]
    with Peer([begun, end]) as peer, connect(peer.url, max_retries=0, timeout=10) as client:
        with pytest.raises(APIConnectionError) as caught:
            client.cancel_batch("bkt_1", "btch_1")
        assert type(caught.value) is APIConnectionError


def test_refused_port(failure: Failure) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert type(error) is APIConnectionError


def test_unknown_host(failure: Failure) -> None:
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
    "drip-of-chunks": [response(200, b"", CHUNKED), Drip(b"1\r\n \r\n" * 25)],
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_timeout(failure: Failure, script: Script) -> None:
    """The time-out bounds the whole attempt, however slowly the response arrives."""
    with Peer(script) as peer:
        started = time.monotonic()
        error = failure(peer.url, timeout=0.15)
        assert 0.15 <= time.monotonic() - started < 2
    assert type(error) is APITimeoutError
    assert isinstance(error, APIConnectionError)
    assert str(error) == "No complete response from 127.0.0.1 within 0.15 s."


def test_timeout_of_the_tls_handshake(failure: Failure) -> None:
    """It includes the TLS handshake, whose connection is closed then."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with Peer([HANG]) as peer:
            error = failure(f"https://127.0.0.1:{peer.port}", timeout=0.15)
        gc.collect()
    assert type(error) is APITimeoutError
    assert [str(warning.message) for warning in caught] == []


def test_timeout_of_another_sender(failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """It bounds the whole body with a user's httpx client too, and the whole response through a proxy."""
    with Peer([WHOLE[:HEAD], Drip(WHOLE[HEAD:])], [Drip(WHOLE)]) as peer:
        assert type(failure(peer.url, timeout=0.15, http_options={})) is APITimeoutError
        monkeypatch.setenv("HTTP_PROXY", peer.url)
        assert type(failure("http://name.invalid", allow_http=True, timeout=0.15)) is APITimeoutError


def test_timeout_shorter_than_anything(failure: Failure) -> None:
    """A time-out that has passed before anything is sent is still a time-out."""
    with Peer([HANG]) as peer:
        assert type(failure(peer.url, timeout=1e-9)) is APITimeoutError


def test_client_after_a_timeout(connect: Connect) -> None:
    """A late response is not returned by the next call."""
    late = response(200, TASK | {"task_id": "late"})
    with Peer([late[:-1], HANG], response()) as peer, connect(peer.url, timeout=0.15, max_retries=0) as client:
        with pytest.raises(APITimeoutError):
            client.cancel_batch("bkt_1", "btch_1")
        assert client.cancel_batch("bkt_1", "btch_1", timeout=5).task_id == "task_1"


# TLS


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def authority(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Make an authority that SSL_CERT_FILE names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


def test_refused_certificate(failure: Failure, waits: list[float], authority: trustme.CA) -> None:
    """A certificate that is refused stays refused: nothing is sent or retried."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    for reason, certificate in {
        "unable to get local issuer": trustme.CA().issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_before=past, not_after=past + datetime.timedelta(1)),
        "not valid for '127.0.0.1'": authority.issue_cert("127.0.0.2"),
    }.items():
        with Peer(response(), tls=server_side(certificate)) as peer:
            error = failure(peer.url, max_retries=2)
        assert type(error) is APIConnectionError
        assert "certificate verify failed" in str(error)
        assert reason in str(error)
        assert (peer.connections, peer.requests, waits) == (1, [], [])


def test_trusted_certificate(cancel: Cancel, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate is accepted if SSL_CERT_FILE, or the httpx client of the user, trusts the authority behind it."""
    with Peer(response(), tls=server_side(authority.issue_cert("127.0.0.1"))) as peer:
        assert cancel(peer.url).task_id == "task_1"
        monkeypatch.delenv("SSL_CERT_FILE")
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        assert cancel(peer.url, http_options={"verify": trusting}).task_id == "task_1"


def test_tls_to_a_server_without(failure: Failure) -> None:
    """A server that responds to a handshake with text is a failed connection."""
    with Peer([UNREAD, b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]) as peer:
        assert type(failure(f"https://127.0.0.1:{peer.port}", timeout=10)) is APIConnectionError
