"""Whatever a peer may send, over every transport of cancel_batches; the tables are those of the single calls."""

from __future__ import annotations

import datetime
import gc
import json
import logging
import os
import pickle
import resource
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
import test_client
import test_secrets
import trustme
from bulk import KINDS, OWN_KINDS, Bulk, our_threads, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixpeek_batches_api import __version__
from peer import CLOSE, HANG, TASK, UNREAD, Drip, Peer, Script, response

from mixpeek_batches import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    CancelResult,
)

KEY = test_secrets.KEY


@pytest.fixture(params=OWN_KINDS)
def bulk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, one_root: Path) -> Iterator[Bulk]:
    """Run the test over each transport of our own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_root))
    yield Bulk(request.param)
    wait_until(lambda: our_threads() == [])


each_kind = pytest.mark.parametrize("bulk", KINDS, indirect=True)


# What is sent


@each_kind
def test_request(bulk: Bulk) -> None:
    """The request is the contract's, and the transport adds nothing that matters."""
    with Peer(response()) as peer:
        bulk.one(peer.url, namespace="netflix_prod")
    (request,) = peer.requests
    headers = dict(request.headers)
    assert request.line == b"POST /v1/buckets/bkt_1/batches/btch_1/cancel HTTP/1.1"
    assert headers.pop("connection", b"keep-alive") == b"keep-alive"
    assert headers.pop("user-agent").startswith(f"mixpeek-batches/{__version__} python/3.".encode())
    assert headers == {
        "host": f"127.0.0.1:{peer.port}".encode(),
        "authorization": b"Bearer sk_test",
        "x-namespace": b"netflix_prod",
        "accept": b"application/json",
        "accept-encoding": b"gzip",
        "content-length": b"0",
    }
    assert len(request.headers) - len(dict(request.headers)) == 0, "a header was sent twice"


IDENTIFIERS = st.text(min_size=1, max_size=50).filter(lambda text: text not in {".", ".."})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(IDENTIFIERS, IDENTIFIERS), min_size=1, max_size=20))
def test_identifiers_arrive_as_given(bulk: Bulk, pairs: list[tuple[str, str]]) -> None:
    """Any text that is not refused reaches the server unchanged, each identifier as one segment of the path."""
    tempting = [(text, "x") for text in ("a/b", "../x", "%2F", "%2e%2e", "a+b", "a;b", "\r\n", "@", "\\", "🎬", "~")]
    with Peer(response()) as peer:
        bulk.run(peer.url, pairs + tempting, concurrency=1)
    arrived = []
    for request in peer.requests:
        _, v1, buckets, bucket, batches, batch, verb = request.line.split(b" ")[1].split(b"/")
        assert (v1, buckets, batches, verb) == (b"v1", b"buckets", b"batches", b"cancel")
        arrived.append((unquote_to_bytes(bucket).decode(), unquote_to_bytes(batch).decode()))
    assert arrived == pairs + tempting


@pytest.mark.parametrize("namespace", ["Ünïcode", "名前空間", "🎬", "a\u00a0", '"a": b, c'])
def test_namespace_arrives_in_utf_8(bulk: Bulk, namespace: str) -> None:
    """A namespace is sent as its UTF-8 bytes."""
    with Peer(response()) as peer:
        assert bulk.one(peer.url, namespace=namespace).canceled
    assert peer.requests[0].header("X-Namespace") == namespace.encode()


def test_cookies_are_not_kept(bulk: Bulk) -> None:
    """A server's cookies do not come back to it."""
    with Peer(response(200, TASK, {"Set-Cookie": "a=b; Path=/"})) as peer:
        bulk.run(f"http://localhost:{peer.port}", [("bkt_1", "a"), ("bkt_1", "b")], concurrency=1)
    assert [request.header("Cookie") for request in peer.requests] == [None, None]


def test_proxy_from_the_environment(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is used for other machines, and not for this one."""
    with Peer(response()) as proxy, Peer(response()) as peer:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert bulk.one("http://name.invalid", allow_http=True).canceled
        assert bulk.one(peer.url).canceled
    assert [request.line.split(b"/v1")[0] for request in proxy.requests] == [b"POST http://name.invalid"]
    assert len(peer.requests) == 1


# What comes back


@pytest.mark.parametrize("script", test_client.CUT.values(), ids=test_client.CUT)
def test_connection_lost(bulk: Bulk, script: Script) -> None:
    """Wherever an answer breaks off, or stops being HTTP, the error is that of the connection, and no time-out."""
    with Peer(script) as peer:
        error = bulk.error(peer.url, timeout=10)
    assert type(error) is APIConnectionError
    assert str(error).startswith("The connection to 127.0.0.1 failed: ")
    assert len(str(error).splitlines()) == 1
    assert peer.connections == 1


@pytest.mark.parametrize("script", test_client.SLOW.values(), ids=test_client.SLOW)
def test_timeout(bulk: Bulk, script: Script) -> None:
    """However slowly an answer comes, the attempt ends at the time-out."""
    with Peer(script) as peer:
        started = time.monotonic()
        error = bulk.error(peer.url, timeout=0.3)
        assert time.monotonic() - started < 5
    assert type(error) is APITimeoutError
    assert str(error) == "No complete response from 127.0.0.1 within 0.3 s."


@pytest.mark.parametrize("script", test_client.TOO_LARGE.values(), ids=test_client.TOO_LARGE)
def test_body_too_large(bulk: Bulk, script: Script) -> None:
    """More than 10 MiB are neither read nor unpacked, and the rest is not waited for."""
    with Peer(script) as peer:
        error = bulk.error(peer.url, timeout=10)
    assert type(error) is APIResponseValidationError
    assert "it is larger than 10,485,760 bytes" in str(error)


HUGE: dict[str, Script] = {
    "declared": [response(200, b"", length=300 * 2**20), *[b" " * 2**20] * 300],
    "undeclared": [response(200, b"", {"Connection": "close"}), *[b" " * 2**20] * 300, CLOSE],
    "chunked": [
        response(200, b"", {"Transfer-Encoding": "chunked"}),
        *[b"100000\r\n" + b" " * 2**20 + b"\r\n"] * 300,
    ],
    "error": [response(500, b"", {"Connection": "close"}), *[b" " * 2**20] * 300, CLOSE],
}


@each_kind
@pytest.mark.parametrize("script", HUGE.values(), ids=HUGE)
def test_body_of_300_mb(bulk: Bulk, script: Script) -> None:
    """A body of 300 MB is refused early, with bounded memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Peer(script) as peer:
        error = bulk.error(peer.url, timeout=20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert not isinstance(error, APIConnectionError)


def test_long_header(bulk: Bulk) -> None:
    """A header of 20 KB, as proxies send them, is no reason to fail."""
    with Peer(response(200, TASK, {"Content-Security-Policy": "x" * 20_000})) as peer:
        assert bulk.one(peer.url).canceled


@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"10\r\n" + json.dumps(TASK).encode()[:16] + b"\r\n", {"Transfer-Encoding": "chunked"})
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(TASK)) - 16, json.dumps(TASK).encode()[16:]),
        response(200, TASK, {"Connection": "close"}),
        b"HTTP/1.1 100 Continue\r\n\r\n" + response(),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(),
        b"HTTP/1.0" + response().removeprefix(b"HTTP/1.1"),
    ],
    ids=["chunked", "until-close", "100-first", "103-first", "http-1.0"],
)
def test_framing(bulk: Bulk, answer: bytes) -> None:
    """However HTTP may wrap a task, it comes out."""
    with Peer([answer, CLOSE]) as peer:
        assert bulk.one(peer.url).canceled


@each_kind
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect(bulk: Bulk, status: int) -> None:
    """A redirect to another host is not followed, and the key stays here."""
    with Peer(response()) as other:
        with Peer(response(status, b"", {"Location": f"{other.url}/x"})) as peer:
            error = bulk.error(peer.url, http_options={"follow_redirects": True})
        assert type(error) is APIStatusError
        assert other.connections == 0


@each_kind
@pytest.mark.parametrize("status", [400, 520, 599, 999])
def test_error_by_status(bulk: Bulk, status: int) -> None:
    """Every status that is no success tells all that the server did."""
    headers = {"X-Request-ID": "req_7", "Retry-After": "7"}
    with Peer(response(status, test_client.ENVELOPE, headers)) as peer:
        error = bulk.error(peer.url)
    assert (error.status_code, error.message, error.request_id) == (status, "It is finished.", "req_7")
    assert error.retry_after == 7.0
    assert error.response.json() == test_client.ENVELOPE


def test_unknown_host(bulk: Bulk) -> None:
    """There is no such host."""
    error = bulk.error("https://name.invalid")
    assert type(error) is APIConnectionError
    assert "name.invalid" in str(error)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make an authority that nobody trusts by default."""
    return trustme.CA()


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
DATES = {"not_before": PAST, "not_after": PAST + datetime.timedelta(1)}


@pytest.mark.parametrize(
    ("host", "dates", "trusted"),
    [("127.0.0.1", {}, False), ("127.0.0.1", DATES, True), ("127.0.0.2", {}, True)],
    ids=["self-signed", "expired", "of-another-host"],
)
def test_certificate_that_is_refused(
    bulk: Bulk,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    dates: dict[str, Any],
    trusted: bool,
) -> None:
    """A certificate that is refused stays refused: nothing is sent, and nothing tried again."""
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = server_side(authority.issue_cert(host, **dates))
    with Peer(response(), tls=tls) as peer:
        error = bulk.error(peer.url, max_retries=2)
    assert type(error) is APIConnectionError
    assert "certificate verify failed" in str(error)
    assert (peer.connections, peer.requests) == (1, [])


def test_certificate_that_is_trusted(
    bulk: Bulk, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that SSL_CERT_FILE's authority has signed is accepted."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Peer(response(), tls=server_side(authority.issue_cert("127.0.0.1"))) as peer:
        assert bulk.one(peer.url).canceled


def test_timeout_of_the_tls_handshake(bulk: Bulk) -> None:
    """The handshake counts as well, and its connection is closed when it is over."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with Peer([HANG]) as peer:
            error = bulk.error(f"https://127.0.0.1:{peer.port}", timeout=0.3)
        gc.collect()
    assert type(error) is APITimeoutError
    assert [str(warning.message) for warning in caught] == []


def test_tls_to_a_server_without(bulk: Bulk) -> None:
    """A server that answers a handshake with text is a failed connection."""
    with Peer([UNREAD, b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]) as peer:
        assert type(bulk.error(f"https://127.0.0.1:{peer.port}", timeout=10)) is APIConnectionError


# Secrets


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Give the key by the environment, log all there is, and give a function that tells the lines with the key."""
    monkeypatch.setenv("MIXPEEK_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "mixpeek_batches", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    # httpcore logs the head of a response at DEBUG, and so a key that a server repeats there; see SECURITY.md.
    return lambda: [text for text in test_secrets.logged(caplog) if KEY in text and "receive_response" not in text]


@pytest.mark.parametrize("script", test_secrets.ALL.values(), ids=test_secrets.ALL)
def test_key_is_not_shown(bulk: Bulk, logged: Callable[[], list[str]], script: Script) -> None:
    """No result, error or line of a logger shows the key, even if the server repeats it."""
    with Peer(script) as peer:
        result: CancelResult = bulk.one(peer.url, api_key=None, timeout=0.3)
    assert peer.requests[0].header("Authorization") == f"Bearer {KEY}".encode()
    assert result.error is not None
    for text in test_secrets.shown(result.error):
        assert KEY not in text
    assert KEY not in f"{result!r}{pickle.dumps(result)!r}"
    assert logged() == []


def test_key_in_a_cookie(bulk: Bulk, logged: Callable[[], list[str]]) -> None:
    """Nor does a cookie that a server makes of it."""
    with Peer(response(200, TASK, {"Set-Cookie": f"{KEY}=x; {KEY}"})) as peer:
        assert bulk.one(peer.url, api_key=None).canceled
    assert logged() == []


@pytest.mark.parametrize(
    "url", ["https://name.invalid", "http://127.0.0.1:1", "http://localhost:1"], ids=["host", "port", "two-addresses"]
)
def test_key_of_a_connection_that_fails(bulk: Bulk, logged: Callable[[], list[str]], url: str) -> None:
    """Nor does a connection that cannot be made."""
    error = bulk.error(url, api_key=None)
    assert type(error) is APIConnectionError
    for text in test_secrets.shown(error):
        assert KEY not in text
    assert logged() == []


def test_drip_while_others_go_on(bulk: Bulk) -> None:
    """One connection that drips holds up none of the others."""
    slow = Drip(response()[:200], 0.01)
    with Peer([slow, HANG], response(400), response()) as peer:
        results = bulk.run(peer.url, [("b", str(n)) for n in range(30)], concurrency=2, timeout=1, max_retries=0)
    errors = [type(result.error) for result in results if result.error]
    assert sorted(map(str, errors)) == sorted(map(str, [APITimeoutError, BadRequestError]))
    assert type(results[-1].error) is APITimeoutError


def test_descriptors_after_faults(bulk: Bulk) -> None:
    """However connections end, none stays open."""
    scripts = [script for script in test_client.CUT.values() if isinstance(script, list)]
    with Peer(*scripts, response()) as peer:
        bulk.run(peer.url, [("b", str(n)) for n in range(40)], max_retries=0, timeout=5)
        wait_until(lambda: peer.open == 0)
        time.sleep(0.1)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself counts once each time
    with Peer(*scripts, response()) as peer:
        bulk.run(peer.url, [("b", str(n)) for n in range(40)], max_retries=0, timeout=5)
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208


def test_refused_port(bulk: Bulk) -> None:
    """Nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = bulk.error(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert type(error) is APIConnectionError
