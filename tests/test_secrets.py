"""The API key, which nothing may show, whatever the server does with it."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import logging
import pickle
import ssl
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from bulk import Caller
from hypothesis import given
from hypothesis import strategies as st
from peer import CLOSE, HANG, RESET, TASK, Peer, Script, response

from mixpeek_batches import APIResponseValidationError, APIStatusError, ConfigurationError, MixpeekError
from mixpeek_batches._secrets import Secret

Connect = Callable[..., Caller]
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
# Ways in which a server repeats the key in the body, or fails without repeating it.
BODIES: dict[str, Script] = {
    "400": response(400, ECHO),
    "401-html": response(401, f"<p>{KEY}</p>"),
    "422-fastapi": response(422, {"detail": [{"loc": ["header", KEY], "msg": f"bad {KEY}", "input": KEY}]}),
    "500-gzip": response(500, gzip.compress(json.dumps(ECHO).encode()), {"Content-Encoding": "gzip"}),
    "no-task": response(200, {"message": KEY}),
    "no-task-escaped": response(200, json.dumps(ECHO).replace("S", "\\u0053").encode()),
    "no-json": response(200, f"<p>{KEY}</p>"),
    "key-as-status": response(200, TASK | {"status": [KEY]}),
    "escaped-slash": response(400, json.dumps(ECHO).replace("/", "\\/").encode()),
    "escaped-letter": response(400, json.dumps(ECHO).replace("S", "\\u0053").encode()),
    "utf-16": response(200, json.dumps(ECHO).encode("utf-16")),
    "reset": [RESET],
    "cut-short": [response(200, KEY, length=999), CLOSE],
    "time-out": [HANG],
    "time-out-in-the-body": [response(400, KEY, length=999), HANG],
}
# In the head, or in what should be one; httpcore logs the head of a response at DEBUG, see SECURITY.md.
HEADS: dict[str, Script] = {
    "400-in-head": response(400, ECHO, ECHO_HEADERS),
    "302-in-head": response(302, KEY, ECHO_HEADERS),
    "no-task-in-head": response(200, {}, ECHO_HEADERS),
    "reason-phrase": f"HTTP/1.1 401 {KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "key-as-status-line": [f"{KEY}\r\n\r\n".encode(), CLOSE],
    "key-as-header-line": [f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(), CLOSE],
    "key-as-length": [f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(), CLOSE],
    "key-as-chunk": [response(200, f"{KEY}\r\n", CHUNKED), CLOSE],
    "key-as-bad-location": response(302, b"", {"Location": f"https://host:{KEY}"}),
}
ALL = BODIES | HEADS


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def printed(error: BaseException) -> str:
    """Return an error's traceback with the local variables in it, except those of the tests."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    inner: traceback.TracebackException | None = trace
    while inner is not None:
        inner.stack[:] = [frame for frame in inner.stack if not frame.filename.startswith(TESTS)]
        inner = inner.__cause__ or inner.__context__
    return "".join(trace.format())


def texts(error: MixpeekError) -> Iterator[str]:
    """Yield every text that an error may end up as."""
    yield printed(error)
    for inner in chain(error):
        yield from (str(inner), repr(inner), repr(inner.args), repr(vars(inner)))
    yield repr(pickle.dumps(error))
    if isinstance(error, APIStatusError | APIResponseValidationError):
        yield repr((error.response, error.response.headers.raw, error.response.content, error.response.extensions))
        yield repr((error.response.request, error.response.request.headers.raw, error.response.request.url))
        yield repr(error.request_id)
        with contextlib.suppress(ValueError):  # JSON has more than one spelling of a string
            yield repr(json.loads(error.response.content))
    if isinstance(error, APIStatusError):
        yield repr((error.message, error.type, error.details))


def check(error: MixpeekError) -> None:
    """Check that neither an error nor a copy of it shows the key, and that a copy knows all that it knows."""
    copies: list[Any] = [error, copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))]
    for again in copies:
        assert not [text for text in texts(again) if KEY in text]
        assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
        for name, value in vars(error).items():
            if name != "response":
                assert getattr(again, name) == value
            else:
                assert again.response.status_code == value.status_code
                assert again.response.content == value.content
                assert again.response.headers == value.headers
                assert again.response.request.url == value.request.url


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the text of every record of every logger."""
    return [f"{record.name}: {record.getMessage()} {vars(record)}" for record in caplog.records]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Set the key in the environment, where no frame of a test holds it, and log all there is."""
    monkeypatch.setenv("MIXPEEK_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "mixpeek_batches", "asyncio"):
        caplog.set_level(logging.DEBUG, name)


def test_client(connect: Connect) -> None:
    """Neither a client nor its attributes show the key."""
    with connect("http://127.0.0.1:1", api_key=None) as client:
        assert KEY not in f"{client.client!r} {client.client} {vars(client.client)}"
        assert KEY not in str(client.client._secret)


@pytest.mark.parametrize("name", ALL)
def test_error(failure: Failure, waits: list[float], caplog: pytest.LogCaptureFixture, name: str) -> None:
    """No error and no line of a log shows the key, even if the server repeats it."""
    with Peer(ALL[name]) as peer:
        error = failure(peer.url, api_key=None, timeout=0.15, max_retries=1)
    assert peer.requests[0].header("Authorization") == f"Bearer {KEY}".encode()
    assert "cancel_batch" in printed(error), "frames of this package are looked at"
    check(error)
    lines = logged(caplog)
    ours = [line for line in lines if line.startswith("mixpeek_batches: ")]
    assert ours
    assert [line for line in (ours if name in HEADS else lines) if KEY in line] == []


def test_results(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a bulk result."""
    with (
        Peer(lambda request: ALL[request.batch_id]) as peer,
        connect(peer.url, api_key=None, timeout=0.15, max_retries=0) as client,
    ):
        results = list(client.cancel_batches([("bkt_1", name) for name in ALL]))
    assert len(results) == len(ALL)
    for result in results:
        assert result.error is not None
        check(result.error)
        assert KEY not in f"{result!r}{pickle.dumps(result)!r}{result.to_dict()}"
    assert [line for line in logged(caplog) if KEY in line and line.startswith("mixpeek_batches: ")] == []


@pytest.mark.parametrize("http_options", [None, {}])
def test_log_of_httpx(connect: Connect, caplog: pytest.LogCaptureFixture, http_options: dict[str, Any] | None) -> None:
    """httpx and httpcore log what SECURITY.md describes, and no more."""
    with Peer(response()) as peer, connect(peer.url, api_key=None, http_options=http_options) as client:
        client.cancel_batch("bkt_1", "btch_1")
    line = f'HTTP Request: POST {peer.url}/v1/buckets/bkt_1/batches/btch_1/cancel "HTTP/1.1 200 Whatever"'
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "httpx"]
    assert lines == ([] if http_options is None else [("INFO", line)])
    httpcore = [record for record in caplog.records if record.name.startswith("httpcore.")]
    assert {record.levelname for record in httpcore} == {"DEBUG"}
    text = " ".join(record.getMessage() for record in httpcore)
    assert ("User-Agent" in text, "task_1" in text, "Content-Length" in text) == (False, False, True)
    assert KEY not in "".join(logged(caplog))


@pytest.mark.parametrize("url", ["https://name.invalid", "http://127.0.0.1:1", "http://localhost:1"])
def test_failed_connection(failure: Failure, caplog: pytest.LogCaptureFixture, url: str) -> None:
    """An unknown host or a refused port, on one address or two, shows no key."""
    check(failure(url, api_key=None))
    assert KEY not in "".join(logged(caplog))


def test_refused_certificate(failure: Failure, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a certificate that is not trusted."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with Peer(response(), tls=tls) as peer:
        check(failure(peer.url, api_key=None))
    assert KEY not in "".join(logged(caplog))


JSON = st.recursive(
    st.none() | st.integers() | st.text() | st.builds("{}{}{}".format, st.text(), st.just(KEY), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just(f"a {KEY}"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_redacted_json(value: Any) -> None:
    """The key is removed wherever it is in JSON, and nothing else is."""
    redacted = Secret(KEY).redact(value)
    assert KEY not in repr(redacted)
    assert repr(redacted) == repr(value).replace(KEY, "[API key]")
    assert Secret("").redact(value) == value


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
