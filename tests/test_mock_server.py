"""The mock as a server and as an ASGI app: its life cycle, what it records, and the requests that only a mock gets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from mock_support import BEARER, FUZZ, PATH, REQUEST, connect, path_of, port_of, raw, send, wait_until

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockApp, MockServer, MockState, create_app, server
from mixpeek_batches.mock import app as app_module
from mixpeek_batches.mock.state import DEFAULT_KEY

# --- Starting and stopping --------------------------------------------------------------------------------------------


def test_restart_on_the_same_port() -> None:
    """A given port is used, at once again after a stop, and a mock that is started again still holds its batches."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    mock = MockServer(port=port)
    mock.stop()  # does nothing
    mock.add_batch("bkt", "btch")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not running: use it in a `with` block, or call start"):
            _ = mock.url
        with mock:
            assert mock.url == f"http://127.0.0.1:{port}"
            assert send(mock).status_code == 200
            with pytest.raises(ConfigurationError, match="running already"):
                mock.start()
        mock.stop()  # does nothing


def test_two_at_once() -> None:
    """Mocks take a free port each, and share nothing."""
    with MockServer() as first, MockServer() as second:
        first.add_batch("bkt", "btch")
        assert [send(mock).status_code for mock in (first, second)] == [200, 404]
        with pytest.raises(ConfigurationError) as error:
            MockServer(port=port_of(second)).start()
        assert str(error.value) == (
            f"Port {port_of(second)} on 127.0.0.1 cannot be used (Address already in use): "
            "take another, or 0 for a free one."
        )
        assert send(second).status_code == 404


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "url", "warned"),
    [
        ("localhost", "http://127.0.0.1:", False),
        ("127.0.0.2", "http://127.0.0.2:", False),
        ("::1", "http://[::1]:", False),
        ("0.0.0.0", "http://127.0.0.1:", True),
        ("::", "http://[::1]:", True),
    ],
)
def test_host(host: str, url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The URL works on this machine whatever the host, and a host that is not loopback is logged as a warning."""
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with MockServer(host=host) as mock:
        assert mock.url.startswith(url)
        assert send(mock).status_code == 404
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == warned * [
            f"The mock listens on {host}, port {port_of(mock)}: "
            "whoever reaches it there can use it and its admin API without a key."
        ]


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a b", "x" * 300, "."])
def test_host_of_another_machine(host: str) -> None:
    """A host that is not an address of this machine is refused in one sentence."""
    with pytest.raises(ConfigurationError, match=r"^\S.* is not an address of this machine \(.+\)\.$"):
        MockServer(host=host).start()


def test_nothing_is_left_behind() -> None:
    """After the block, here left by an exception, no thread runs, and the port and open connections are closed."""
    threads = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), MockServer() as mock:  # noqa: PT012
        port = port_of(mock)
        idle = connect(mock)
        idle.sendall(REQUEST)
        assert idle.recv(12) == b"HTTP/1.1 404"
        raise ZeroDivisionError
    assert set(threading.enumerate()) == threads
    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", port)) != 0
    with idle:
        while idle.recv(65536):
            pass
    gc.collect()  # an open socket would warn here


def test_stop_while_requests_are_in_flight(caplog: pytest.LogCaptureFixture) -> None:
    """A stop does not wait for slow responses, sends none to a client that waits for one, and logs no error."""
    with MockServer() as mock:
        mock.fail_next("latency", seconds=3600, times=2)
        with connect(mock) as gone:
            gone.sendall(REQUEST)
            wait_until(lambda: len(mock.faults) == 1)
        waiting = connect(mock)
        waiting.sendall(REQUEST)
        wait_until(lambda: not mock.faults)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    with waiting, contextlib.suppress(ConnectionResetError):
        assert waiting.recv(100) == b""
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_stop_while_connections_arrive() -> None:
    """Connections that the mock has just accepted are closed, which asyncio from Python 3.12 on would leave open."""
    for _ in range(10):
        with MockServer() as mock:
            arriving = [connect(mock) for _ in range(5)]
        for connection in arriving:
            connection.close()
    gc.collect()  # an open socket would warn here


@pytest.mark.parametrize("ends", [True, False])
def test_failed_start(monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """A server that ends instead of starting, or never starts, is reported, and leaves nothing behind."""

    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        while not (ends or self.should_exit):
            time.sleep(0.001)
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(server, "_START_OR_STOP_TIMEOUT", 10 if ends else 0.05)
    mock, begin = MockServer(), time.monotonic()
    with pytest.raises(ConfigurationError, match="did not start"):
        mock.start()
    assert not mock.running
    assert time.monotonic() - begin < 5


# --- Requests ---------------------------------------------------------------------------------------------------------


@FUZZ
@given(bucket=st.text(min_size=1), batch=st.text(min_size=1))
@example("%2F", "/")
@example("..", "\ufffd")
def test_any_text_is_an_identifier(mixpeek_mock: MockServer, bucket: str, batch: str) -> None:
    """A batch added under any text is found under its percent-encoded path, which is recorded, and no other is."""
    mixpeek_mock.reset()
    mixpeek_mock.add_batch(bucket, batch)
    assert raw(mixpeek_mock, path_of(bucket, batch + "x")).status_code == 404
    assert raw(mixpeek_mock, path_of(bucket, batch)).status_code == 200
    request = mixpeek_mock.requests[-1]
    assert (request.path, request.bucket_identifier, request.batch_id) == (path_of(bucket, batch), bucket, batch)


@pytest.mark.parametrize("segment", ["%FF", "%C3%28", "%ED%A0%80", "%C0%AF", "%", "%zz", "%u1234", "%EF%BF%BD%FF"])
def test_path_that_is_not_utf8(mixpeek_mock: MockServer, segment: str) -> None:
    """Escapes that are malformed or not UTF-8 name a batch that does not exist, not one that looks alike."""
    for identifier in ("\ufffd", "\ufffd(", "/", "\ufffd\ufffd"):
        mixpeek_mock.add_batch("bkt", identifier)
        mixpeek_mock.add_batch(identifier, "btch")
    for path in (f"/v1/buckets/bkt/batches/{segment}/cancel", f"/v1/buckets/{segment}/batches/btch/cancel"):
        assert raw(mixpeek_mock, path).status_code == 404


@pytest.mark.parametrize("path", ["*", "/%5Fmock/", "//_mock/", "/_mockery"])
def test_path_that_is_not_the_admin_api(mixpeek_mock: MockServer, path: str) -> None:
    """Only the plain prefix leads to the admin API."""
    assert raw(mixpeek_mock, path).status_code == 404
    assert [request.path for request in mixpeek_mock.requests] == [path]


def test_no_response_repeats_the_key(mixpeek_mock: MockServer) -> None:
    """The key is in no response and in no record of a header, wherever in the request it was sent."""
    mixpeek_mock.add_batch("bkt", "btch", status="FAILED")
    responses = [
        send(mixpeek_mock, f"/{DEFAULT_KEY}"),
        send(mixpeek_mock, path_of(DEFAULT_KEY, DEFAULT_KEY)),
        send(mixpeek_mock, namespace=DEFAULT_KEY),
        send(mixpeek_mock, authorization=f"Basic {DEFAULT_KEY}"),
        raw(mixpeek_mock, PATH, ("Authorization", BEARER), ("X-Request-ID", DEFAULT_KEY)),
    ]
    assert [response.status_code for response in responses] == [404, 404, 404, 401, 401]
    assert not [response for response in responses if DEFAULT_KEY in response.text + str(response.headers)]
    assert {request.headers["authorization"] for request in mixpeek_mock.requests} == {""}
    assert len({response.headers["x-request-id"] for response in responses}) == len(responses)


def test_recorded_request(mixpeek_mock: MockServer) -> None:
    """A request is recorded with the namespace decoded and headers that come twice joined; `on_request` is called."""
    calls: list[tuple[str, int | None]] = []
    mixpeek_mock.on_request = lambda request: calls.append((request.path, request.status_code))
    send(mixpeek_mock, namespace="naïve 日本")
    send(mixpeek_mock, namespace=b"\xff")
    raw(mixpeek_mock, "/no", ("X-Twice", "a"), ("x-twice", "b"), method="GET")
    assert [request.namespace for request in mixpeek_mock.requests] == ["naïve 日本", "\udcff", None]
    last = mixpeek_mock.requests[-1]
    assert (last.method, last.path, last.bucket_identifier, last.batch_id) == ("GET", "/no", None, None)
    assert last.headers["x-twice"] == "a, b"
    assert calls == [(PATH, 404), (PATH, 404), ("/no", 404)]


def test_large_body(mixpeek_mock: MockServer) -> None:
    """A large body of a request is read, so that the connection serves the next request."""
    mixpeek_mock.add_batch("bkt", "btch")
    with httpx.Client(base_url=mixpeek_mock.url, trust_env=False, headers={"Authorization": BEARER}) as client:
        assert [client.post(PATH, content=b"x" * size).status_code for size in (3_000_000, 0)] == [200, 200]


# --- As an ASGI app ---------------------------------------------------------------------------------------------------


def _post(app: MockApp, path: str = PATH) -> httpx.Response:
    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mock") as client:
            return await client.post(path, headers={"Authorization": BEARER})

    return asyncio.run(post())


def test_app_without_a_server() -> None:
    """The app responds under any ASGI server; its state is at hand, also a given one."""
    app = create_app()
    app.state.add_batch("a/b", "ü")
    assert _post(app, path_of("a/b", "ü")).status_code == 200
    assert _post(app, "/_mock/reset").status_code == 204
    assert app.state.batches == []
    own = MockState(api_key="sk_own")
    assert create_app(own).state is own
    assert _post(create_app(own)).status_code == 401


@pytest.mark.parametrize(("fault", "status"), [("reset", "PENDING"), ("truncated", "CANCELED")])
def test_ending_a_connection_without_uvicorn(fault: str, status: str) -> None:
    """A fault that ends the connection raises where the mock cannot do that."""
    app = create_app()
    app.state.add_batch("bkt", "btch")
    app.state.fail_next(fault)
    with pytest.raises(ConnectionResetError, match="can do only under uvicorn"):
        _post(app)
    assert app.state.batch("bkt", "btch").status == status


def _serve(app: MockApp, path: str, chunks: list[bytes | None], **scope: Any) -> tuple[int | None, list[bytes | None]]:
    """Send a body in chunks, None for a client that leaves; return the status code and the chunks left unread."""
    unread, sent = list(chunks), []

    async def receive() -> Any:
        chunk = unread.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(unread)}

    async def send(message: Any) -> None:
        sent.append(message)

    fields = {"type": "http", "method": "POST", "path": path, "query_string": b"", **scope}
    asyncio.run(app({**fields, "headers": [(b"authorization", BEARER.encode())]}, receive, send))
    return (sent[0]["status"] if sent else None), unread


@pytest.mark.parametrize("raw_path", [{}, {"raw_path": None}, {"raw_path": b""}])
def test_server_without_a_raw_path(raw_path: dict[str, Any]) -> None:
    """Under a server that passes the decoded path only, identifiers without a slash are found all the same."""
    app = create_app()
    app.state.add_batch("b %41", "ü")
    assert _serve(app, "/v1/buckets/b %41/batches/ü/cancel", [b""], **raw_path) == (200, [])


@pytest.mark.parametrize("path", [PATH, "/no", "/_mock/", "/_mock/no", "/_mock/reset"])
@pytest.mark.parametrize("limited", [False, True])
def test_body_is_read(path: str, limited: bool) -> None:
    """The mock reads every body in full, whatever the response, since HTTP/2 stalls otherwise."""
    app = create_app()
    if limited:
        app.state.limit_rate(0.01)
        app.state.limits.admit(time.monotonic())
    status, unread = _serve(app, path, [b"a", b"", b"b" * 100_000])
    assert (status is not None, unread) == (True, [])


@pytest.mark.parametrize("path", [PATH, "/_mock/batches"])
def test_body_that_never_ends(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mock stops reading a body that is too large, responds with 413, and does not act."""
    monkeypatch.setattr(app_module, "_MAX_BODY", 10_000)
    app = create_app()
    app.state.add_batch("bkt", "btch")
    status, unread = _serve(app, path, [b"x" * 1_000] * 100)
    assert (status, len(unread)) == (413, 89)
    assert app.state.batch("bkt", "btch").status == "PENDING"


def test_client_that_leaves_in_a_body() -> None:
    """A request whose body is cut off gets no response, and does nothing."""
    app = create_app()
    app.state.add_batch("bkt", "btch")
    assert _serve(app, PATH, [b"x", None]) == (None, [])
    assert app.state.batch("bkt", "btch").status == "PENDING"


def test_websocket_is_refused() -> None:
    """A websocket is closed at once: the mock is HTTP only."""
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(create_app()({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == ["websocket.close"]


# --- Without its dependencies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_missing_dependency(missing: str) -> None:
    """Without the extra the client can be imported, and the mock raises one clear line that says what to install."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None; import mixpeek_batches; print(1); import mixpeek_batches.mock"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "1\n")
    message = f"ModuleNotFoundError: The mock needs {missing}: pip install 'mixpeek-batches[mock]'"
    assert done.stderr.splitlines()[-1] == message
    assert "During handling" not in done.stderr
