"""The API key, which nothing may show, whatever the server does with it."""

from __future__ import annotations

import copy
import gzip
import json
import logging
import pickle
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from peer import CLOSE, HANG, RESET, TASK, Peer, Script, response

from mixpeek_batches import APIResponseValidationError, APIStatusError, ConfigurationError, MixpeekError

Connect = Callable[..., Any]
Failure = Callable[..., Any]
KEY = "sk_" + "S3CR3T/+key=="
TESTS = str(Path(__file__).parent)

ECHO = {
    "success": False,
    "status": 400,
    "error": {
        "message": f"Bad key {KEY}.",
        "type": KEY,
        "details": {KEY: [{"key": f"Bearer {KEY}"}, KEY.encode().hex()]},
    },
}
ECHO_HEADERS = {"X-Request-ID": f"req-{KEY}", "X-Echo": f"Bearer {KEY}", "Location": f"/login?key={KEY}"}
CHUNKED = {"Transfer-Encoding": "chunked"}
# Ways of a server to repeat the key in the body, or not at all, and in the head or in what should be one.
ANSWERS: dict[str, Script] = {
    "400": response(400, ECHO),
    "401-html": response(401, f"<p>{KEY}</p>"),
    "302": response(302, KEY),
    "422-fastapi": response(422, {"detail": [{"loc": ["header", KEY], "msg": f"bad {KEY}", "input": KEY}]}),
    "500-gzip": response(500, gzip.compress(json.dumps(ECHO).encode()), {"Content-Encoding": "gzip"}),
    "502-text": response(502, KEY),
    "no-task": response(200, {"message": KEY}),
    "no-json": response(200, f"<p>{KEY}</p>"),
    "key-as-status": response(200, TASK | {"status": [KEY]}),
    "key-as-number": response(200, TASK | {"task_id": {KEY: KEY}}),
    "reset": [RESET],
    "cut-body": [response(200, KEY, length=999), CLOSE],
    "time-out": [HANG],
    "time-out-in-the-body": [response(400, KEY, length=999), HANG],
}  # fmt: skip
HEADS: dict[str, Script] = {
    "400": response(400, ECHO, ECHO_HEADERS),
    "302": response(302, KEY, ECHO_HEADERS),
    "503": response(503, ECHO, ECHO_HEADERS),
    "no-task": response(200, {}, ECHO_HEADERS),
    "reason-phrase": f"HTTP/1.1 401 {KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "key-as-status-line": [f"{KEY}\r\n\r\n".encode(), CLOSE],
    "key-as-header-line": [f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(), CLOSE],
    "key-as-length": [f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(), CLOSE],
    "key-as-chunk": [response(200, f"{KEY}\r\n", CHUNKED), CLOSE],
    "key-as-bad-location": response(302, b"", {"Location": f"https://host:{KEY}"}),
}
ALL = ANSWERS | {f"{name}-in-head": script for name, script in HEADS.items()}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def printed(error: BaseException) -> str:
    """Print an error with its traceback and the local variables in it, except those of the tests."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    inner: traceback.TracebackException | None = trace
    while inner is not None:
        inner.stack[:] = [frame for frame in inner.stack if not frame.filename.startswith(TESTS)]
        inner = inner.__cause__ or inner.__context__
    return "".join(trace.format())


def shown(error: MixpeekError) -> Iterator[str]:
    """Give every text that an error may end up as."""
    yield printed(error)
    for inner in chain(error):
        yield from (str(inner), repr(inner), repr(inner.args), repr(vars(inner)))
    yield repr(pickle.dumps(error))
    if isinstance(error, APIStatusError | APIResponseValidationError):
        yield repr((error.response, error.response.headers.raw, error.response.content, error.response.extensions))
        yield repr((error.response.request, error.response.request.headers.raw, error.response.request.url))
        yield repr(error.request_id)
    if isinstance(error, APIStatusError):
        yield repr((error.message, error.type, error.details))


def check(error: MixpeekError) -> None:
    """See that an error shows no key, and that this would be seen."""
    for one in (error, copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        for text in shown(one):
            assert KEY not in text
    assert "cancel_batch" in printed(error)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the text of every record of every logger."""
    return [f"{record.name}: {record.getMessage()} {vars(record)}" for record in caplog.records]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Give the key by the environment, where no frame of a test holds it, and log all there is."""
    monkeypatch.setenv("MIXPEEK_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "mixpeek_batches", "asyncio"):
        caplog.set_level(logging.DEBUG, name)


@contextmanager
def unused_port() -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://localhost:{unused.getsockname()[1]}"


def test_client(connect: Connect) -> None:
    """No text of a client shows the key, nor does that of what it consists of."""
    with connect("http://127.0.0.1:1", api_key=None) as client:
        assert KEY not in f"{client.client!r} {client.client} {vars(client.client)}"
        assert KEY not in str(client.client._secret)


@pytest.mark.parametrize("script", ALL.values(), ids=ALL)
def test_error(failure: Failure, script: Script) -> None:
    """No error shows the key, even if the server repeats it."""
    with Peer(script) as peer:
        error = failure(peer.url, api_key=None, timeout=0.3)
    assert peer.requests[0].header("Authorization") == f"Bearer {KEY}".encode()
    check(error)


@pytest.mark.parametrize("script", ANSWERS.values(), ids=ANSWERS)
def test_log(failure: Failure, waits: list[float], caplog: pytest.LogCaptureFixture, script: Script) -> None:
    """No line of any logger shows the key, even if the server repeats it in the body."""
    with Peer(script) as peer:
        failure(peer.url, api_key=None, timeout=0.3, max_retries=1)
    assert any(text.startswith("mixpeek_batches: ") for text in logged(caplog))
    assert [text for text in logged(caplog) if KEY in text] == []


@pytest.mark.parametrize("script", HEADS.values(), ids=HEADS)
def test_log_of_heads(failure: Failure, waits: list[float], caplog: pytest.LogCaptureFixture, script: Script) -> None:
    """Our own lines do not show it where the server repeats it in the head, which httpcore shows at DEBUG."""
    with Peer(script) as peer:
        failure(peer.url, api_key=None, max_retries=1)
    ours = [text for text in logged(caplog) if text.startswith("mixpeek_batches: ")]
    assert ours
    assert KEY not in "".join(ours)


@pytest.mark.parametrize("http_options", [None, {}])
def test_log_of_httpx(connect: Connect, caplog: pytest.LogCaptureFixture, http_options: dict[str, Any] | None) -> None:
    """httpx and httpcore log what SECURITY.md says, and no more."""
    with Peer(response()) as peer, connect(peer.url, api_key=None, http_options=http_options) as client:
        client.cancel_batch("bkt_1", "btch_1")
    line = f'HTTP Request: POST {peer.url}/v1/buckets/bkt_1/batches/btch_1/cancel "HTTP/1.1 200 Whatever"'
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "httpx"]
    assert lines == ([] if http_options is None else [("INFO", line)])
    httpcore = [record for record in caplog.records if record.name.startswith("httpcore.")]
    assert {record.levelname for record in httpcore} == {"DEBUG"}
    text = " ".join(record.getMessage() for record in httpcore)
    assert (KEY in text, "User-Agent" in text, "task_1" in text, "Content-Length" in text) == (0, 0, 0, 1)


def test_log_of_a_success(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a success."""
    with Peer(response()) as peer, connect(peer.url, api_key=None) as client:
        client.cancel_batch("bkt_1", "btch_1")
    assert [text for text in logged(caplog) if KEY in text] == []


def test_refused_connection(failure: Failure, caplog: pytest.LogCaptureFixture) -> None:
    """A port where nobody listens, on a host with two addresses, gives no key away."""
    with unused_port() as url:
        check(failure(url, api_key=None))
    assert KEY not in "".join(logged(caplog))


def test_unknown_host(failure: Failure, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a host that there is not."""
    check(failure("https://name.invalid", api_key=None))
    assert KEY not in "".join(logged(caplog))


def test_refused_certificate(failure: Failure, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a certificate that is not trusted."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with Peer(response(), tls=tls) as peer:
        check(failure(peer.url, api_key=None))
    assert KEY not in "".join(logged(caplog))


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ECHO).replace("/", "\\/").encode(),
        json.dumps(ECHO).replace("S", "\\u0053").encode(),
        json.dumps(ECHO).encode("utf-16"),
    ],
    ids=["escaped-slash", "escaped-letter", "utf-16"],
)
@pytest.mark.parametrize("status", [200, 400])
def test_key_in_another_spelling(failure: Failure, status: int, body: bytes) -> None:
    """A key that a server repeats in one of JSON's other spellings is not to be read from the response either."""
    with Peer(response(status, body)) as peer:
        error = failure(peer.url, api_key=None)
    assert KEY not in str(error.response.json())
    check(error)


class Holder:
    """Options of a client, the key among them, that a traceback does not show."""

    def __init__(self, **options: Any) -> None:
        self.options = options


@pytest.mark.parametrize(
    "holder",
    [
        Holder(api_key=KEY + "\n"),
        Holder(api_key=KEY + "é"),
        Holder(api_key=KEY.encode()),
        Holder(api_key=[KEY]),
        Holder(api_key=KEY, namespace=""),
        Holder(api_key=KEY, base_url="http://host"),
        Holder(api_key=KEY, timeout=0),
        Holder(api_key=KEY, max_retries=-1),
    ],
    ids=["line-break", "letter", "bytes", "list", "namespace", "base-url", "timeout", "max-retries"],
)
def test_refused_setting(connect: Connect, holder: Holder) -> None:
    """A client that cannot be made does not show the key either, in the frames of this package."""
    with pytest.raises(ConfigurationError) as caught:
        connect(**holder.options)
    text = printed(caught.value)
    assert KEY not in text
    assert "mixpeek_batches/client.py" in text
    assert KEY not in f"{caught.value!r}{pickle.dumps(caught.value)!r}"


def test_refused_argument(connect: Connect) -> None:
    """Nor does a call that cannot be made."""
    with connect("http://127.0.0.1:1", api_key=None) as client, pytest.raises(ConfigurationError) as caught:
        client.cancel_batch("bkt_1", "..")
    check(caught.value)


# Copies


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("script", ANSWERS.values(), ids=ANSWERS)
def test_copy(failure: Failure, script: Script, duplicate: Callable[[Any], Any]) -> None:
    """An error survives copy and pickle with all that it knows."""
    with Peer(script) as peer:
        error = failure(peer.url, api_key=None, timeout=0.2)
    again = duplicate(error)
    assert type(again) is type(error)
    assert (str(again), again.args) == (str(error), error.args)
    assert vars(again).keys() == vars(error).keys()
    for name, value in vars(error).items():
        if name != "response":
            assert getattr(again, name) == value
        else:
            assert again.response.status_code == value.status_code
            assert again.response.content == value.content
            assert again.response.headers == value.headers
            assert again.response.request.url == value.request.url
