"""The mock as a server, as an ASGI app and as a state: starting, stopping, threads, snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import uvicorn
from mock_support import BEARER, cancel, check, connect, headers_of, path_of, raw

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockApp, MockServer, MockState, RecordedRequest, create_app, server
from mixpeek_batches.mock import app as app_module
from mixpeek_batches.mock.state import DEFAULT_KEY, KEPT_REQUESTS

PATH = path_of("bkt", "btch")


def _port(mock: MockServer) -> int:
    return httpx.URL(mock.url).port or 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _refused(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) != 0


# --- Starting and stopping --------------------------------------------------------------------------------------------


def test_a_free_port() -> None:
    """Without a port the mock takes a free one, on loopback."""
    with MockServer() as mock:
        assert httpx.URL(mock.url).host == "127.0.0.1"
        assert _port(mock) > 0
        mock.add_batch("bkt", "btch")
        assert cancel(mock).status_code == 200


def test_a_given_port() -> None:
    """A given port is the one that is used, also a second time at once."""
    port = _free_port()
    for _ in range(2):
        with MockServer(port=port) as mock:
            assert mock.url == f"http://127.0.0.1:{port}"
            assert check(raw(mock, PATH)).status_code == 404


def test_a_taken_port() -> None:
    """A taken port is refused in one sentence, and what listened there goes on."""
    with MockServer() as mock:
        with pytest.raises(ConfigurationError) as refusal:
            MockServer(port=_port(mock)).start()
        assert str(refusal.value) == (
            f"Port {_port(mock)} on 127.0.0.1 cannot be used (Address already in use): "
            "take another, or 0 for a free one."
        )
        assert cancel(mock).status_code == 404


@pytest.mark.parametrize("port", ["80", 1.0, None, True, -1, 65536])
def test_a_port_that_is_none(port: Any) -> None:
    """A port must be a whole number that a port can be."""
    with pytest.raises(ConfigurationError, match=r"^port must be a whole number from 0 to 65535, not "):
        MockServer(port=port)


@pytest.mark.parametrize("api_key", ["", None, 7, "\ud800"])
def test_a_key_that_is_none(api_key: Any) -> None:
    """The mock's own key must be a string that can be sent."""
    with pytest.raises(ConfigurationError, match="api_key"):
        MockServer(api_key=api_key)


def test_a_key_of_ones_own() -> None:
    """The mock's own key can be chosen, and the usual one is then unknown."""
    with MockServer(api_key="sk_mine") as mock:
        mock.add_batch("bkt", "btch", namespace="prod")
        assert mock.api_key == "sk_mine"
        assert cancel(mock, namespace="prod").status_code == 401
        assert cancel(mock, authorization="Bearer sk_mine", namespace="prod").status_code == 200


@pytest.mark.parametrize(
    ("host", "url", "opens"),
    [
        ("127.0.0.1", "http://127.0.0.1:", False),
        ("127.0.0.2", "http://127.0.0.2:", False),
        ("localhost", "http://127.0.0.1:", False),
        ("::1", "http://[::1]:", False),
        ("0.0.0.0", "http://127.0.0.1:", True),
        ("::", "http://[::1]:", True),
    ],
)
def test_a_host(host: str, url: str, opens: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The URL works on this machine whatever the host, and a host that is not loopback is warned of."""
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with MockServer(host=host) as mock:
        assert mock.url.startswith(url)
        assert cancel(mock).status_code == 404
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == opens * [
            f"The mock listens on {host}, port {_port(mock)}: "
            "whoever reaches it there can use it and its admin API without a key."
        ]


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a b", "x" * 300, "."])
def test_a_host_of_another_machine(host: str) -> None:
    """A host that is no address of this machine is refused in one sentence."""
    with pytest.raises(ConfigurationError, match=r"^\S.* is no address of this machine \(.+\)\.$"):
        MockServer(host=host).start()


@pytest.mark.parametrize("host", ["", None, 7])
def test_a_host_that_is_none(host: Any) -> None:
    """A host must be a string that says something."""
    with pytest.raises(ConfigurationError, match="host must be a string"):
        MockServer(host=host)


def test_no_url_unless_running() -> None:
    """Before the start and after the stop there is no URL, and the refusal says what to do."""
    mock = MockServer()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not running: use it in a `with` block, or call start"):
            _ = mock.url
        with mock:
            assert mock.url


def test_starting_twice() -> None:
    """A mock that runs is not started again, and goes on."""
    with MockServer() as mock:
        with pytest.raises(ConfigurationError, match="running already"):
            mock.start()
        assert cancel(mock).status_code == 404


def test_stopping_twice() -> None:
    """Stopping a mock that does not run does nothing."""
    mock = MockServer()
    mock.stop()
    mock.start()
    mock.stop()
    mock.stop()


def test_starting_again() -> None:
    """A mock that was stopped starts again with what it held, on a free port."""
    mock = MockServer()
    with mock:
        mock.add_batch("bkt", "btch")
    with mock:
        assert cancel(mock).status_code == 200


def test_many_in_one_process() -> None:
    """Mocks side by side know nothing of each other."""
    mocks = [MockServer().start() for _ in range(8)]
    try:
        for number, mock in enumerate(mocks):
            mock.add_batch("bkt", str(number))
        found = [[cancel(mock, "bkt", str(n)).status_code == 200 for n in range(8)] for mock in mocks]
        assert found == [[n == number for n in range(8)] for number in range(8)]
    finally:
        for mock in mocks:
            mock.stop()


def test_nothing_is_left_behind() -> None:
    """After the block no thread runs, the port is closed, and so is a connection that was open."""
    threads = set(threading.enumerate())
    with MockServer() as mock:
        port = _port(mock)
        idle = connect(mock)
        idle.sendall(f"POST {PATH} HTTP/1.1\r\nHost: mock\r\n\r\n".encode())
        assert idle.recv(10).startswith(b"HTTP/1.1 401"[:10])
    assert set(threading.enumerate()) == threads
    assert _refused(port)
    with idle:
        while idle.recv(65536):
            pass
    gc.collect()  # a socket left open would warn here


def test_stopping_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    """A stop in the middle of a slow answer, whose client has long gone, is quick and logs no error."""
    with MockServer() as mock:
        mock.fail_next("latency", seconds=3600)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(mock.url + PATH, timeout=httpx.Timeout(5, read=0.1))
        begin = time.monotonic()
    assert time.monotonic() - begin < 3
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_stopping_answers_nothing() -> None:
    """A client that waits for a slow answer when the mock stops gets none, not one that no fault asked for."""
    with MockServer() as mock:
        mock.fail_next("latency", seconds=3600)
        waiting = connect(mock)
        waiting.sendall(f"POST {PATH} HTTP/1.1\r\nHost: mock\r\n\r\n".encode())
        while mock.faults:
            time.sleep(0.001)
    with waiting, contextlib.suppress(ConnectionResetError):
        assert waiting.recv(100) == b""


def test_an_exception_stops_it() -> None:
    """An exception inside the block comes through, and the mock is stopped."""
    ports = []

    def fail() -> None:
        with MockServer() as mock:
            ports.append(_port(mock))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _refused(ports[0])


def test_a_start_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends instead of starting is reported, and leaves nothing behind."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda _self, sockets: [listener.close() for listener in sockets])
    mock = MockServer()
    with pytest.raises(ConfigurationError, match="did not start"):
        mock.start()
    with pytest.raises(ConfigurationError, match="not running"):
        _ = mock.url


def test_a_start_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never starts is given up."""

    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        while not self.should_exit:
            time.sleep(0.001)
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(server, "_START_OR_STOP_TIMEOUT", 0.05)
    with pytest.raises(ConfigurationError, match="did not start"):
        MockServer().start()


# --- State ------------------------------------------------------------------------------------------------------------


def test_requests_are_bounded() -> None:
    """The mock remembers the last requests, not all of them."""
    state = MockState()
    for number in range(KEPT_REQUESTS + 5):
        state.record(
            RecordedRequest(
                method="POST", path=str(number), bucket_identifier=None, batch_id=None, namespace=None, headers={}
            )
        )
    assert [request.path for request in (state.requests[0], state.requests[-1])] == ["5", str(KEPT_REQUESTS + 4)]
    assert len(state.requests) == KEPT_REQUESTS


def test_batches_to_start_with() -> None:
    """A reset comes back to the batches that were given at the start, and to nothing else."""
    given: dict[str, Any] = {"bucket_identifier": "bkt", "batch_id": "btch", "status": "IN_PROGRESS"}
    state = MockState(batches=(dict(given, namespace=namespace) for namespace in ("default", "prod")))
    start = state.batches
    assert [batch.status.value for batch in start] == ["IN_PROGRESS"] * 2
    for _ in range(2):
        state.add_namespace("more")
        state.add_namespace("prod", namespace_id="ns_1")
        state.add_batch("bkt", "more")
        assert state.cancel(BEARER.encode(), "prod", "bkt", "btch").status_code == 200
        state.batches[0].inputs.append("changed")
        assert state.batches != start
        state.reset()
        assert state.batches == start
        assert state.cancel(BEARER.encode(), "more", "bkt", "more").status_code == 404


def test_batches_that_may_not_start() -> None:
    """A wrong batch is refused when the mock is made, which says which one."""
    with pytest.raises(ConfigurationError, match=r"^Batch 1: The field 'batch_id' is missing"):
        MockServer(batches=[{"bucket_identifier": "bkt"}])


def test_a_reset_forgets_what_is_in_flight(mixpeek_mock: MockServer) -> None:
    """A slow request from before a reset cancels no batch that was added after it."""
    mixpeek_mock.add_batch("bkt", "btch")
    mixpeek_mock.fail_next("latency", seconds=0.2)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(mixpeek_mock.url + PATH, headers=headers_of(), timeout=httpx.Timeout(5, read=0.05))
    mixpeek_mock.reset()
    mixpeek_mock.add_batch("bkt", "btch")
    time.sleep(0.3)
    assert mixpeek_mock.batch("bkt", "btch").status == "PENDING"


def test_requests_are_told(mixpeek_mock: MockServer) -> None:
    """Whoever sets `on_request` is told of every request once it is answered."""
    told: list[tuple[str, int | None]] = []
    mixpeek_mock.on_request = lambda request: told.append((request.path, request.status_code))
    try:
        cancel(mixpeek_mock)
        raw(mixpeek_mock, "/no")
    finally:
        mixpeek_mock.on_request = None
    assert told == [(PATH, 404), ("/no", 404)]


def test_adding_while_cancelling() -> None:
    """Threads that add, cancel and read at once lose nothing and meet no error."""
    state = MockState()
    interval = sys.getswitchinterval()

    def add(thread: int) -> None:
        for number in range(50):
            state.add_batch("bkt", f"{thread}-{number}", namespace=f"ns {number % 20}")

    def cancel_all(thread: int) -> None:
        for number in range(50):
            place = f"ns {number % 20}", "bkt", f"{thread}-{number}"
            while state.cancel(BEARER.encode(), *place).status_code != 200:
                time.sleep(0.001)

    def read(_: int) -> None:
        for _ in range(20):
            assert len({batch.batch_id for batch in state.batches}) <= 200

    sys.setswitchinterval(1e-5)  # so that threads meet in as many places as in a long run
    try:
        with ThreadPoolExecutor(12) as pool:
            tasks = [pool.submit(work, thread) for work in (cancel_all, add, read) for thread in range(4)]
            for task in tasks:
                task.result()
    finally:
        sys.setswitchinterval(interval)
    assert [batch.status for batch in state.batches] == ["CANCELED"] * 200


def test_what_was_passed_may_change() -> None:
    """Changing what was given to add_batch does not change the batch."""
    state = MockState()
    item: dict[str, Any] = {"a": [1]}
    inputs: list[str | dict[str, Any]] = [item]
    state.add_batch("bkt", "btch", inputs=inputs, outputs=inputs, additional_data=item)
    body = {"b": item}
    state.fail_next(503, body=body)
    item["a"].append(2)
    inputs.append("more")
    batch = state.batch("bkt", "btch")
    assert (batch.inputs, batch.outputs, batch.additional_data) == ([{"a": [1]}], [{"a": [1]}], {"a": [1]})
    assert state.faults[0].body == {"b": {"a": [1]}}


@pytest.mark.parametrize("way", ["add_batch", "add_batches", "batch", "batches", "task", "to_dict"])
def test_what_was_returned_may_change(way: str) -> None:
    """Changing what the mock gave out does not change the batch that it holds."""
    state = MockState()
    data: dict[str, Any] = {"additional_data": {"a": [1]}, "inputs": [{"b": [1]}]}
    added = state.add_batch("bkt", "btch", **data)
    ways: dict[str, Callable[[], Any]] = {
        "add_batch": lambda: added,
        "add_batches": lambda: state.add_batches([added.to_dict()])[0],
        "batch": lambda: state.batch("bkt", "btch"),
        "batches": lambda: state.batches[0],
        "task": lambda: state.batch("bkt", "btch").task(),
        "to_dict": lambda: state.batch("bkt", "btch").to_dict(),
    }
    given = ways[way]()
    inputs, additional_data = (
        (given["inputs"], given["additional_data"])
        if isinstance(given, dict)
        else (given.inputs, given.additional_data)
    )
    inputs.append("more")
    additional_data["a"].append(2)
    task = json.loads(state.cancel(BEARER.encode(), None, "bkt", "btch").body)
    assert {name: task[name] for name in data} == data


def test_a_batch_is_a_snapshot(mixpeek_mock: MockServer) -> None:
    """A batch that was read stays as it was when it was read."""
    before = mixpeek_mock.add_batch("bkt", "btch")
    cancel(mixpeek_mock)
    assert before.status == "PENDING"
    assert mixpeek_mock.batch("bkt", "btch").status == "CANCELED"
    with pytest.raises(AttributeError):
        before.status = "FAILED"  # type: ignore[misc,assignment]


def test_the_lists_are_snapshots(mixpeek_mock: MockServer) -> None:
    """Changing a list that the mock gave out does not change what the mock holds."""
    mixpeek_mock.add_batch("bkt", "btch")
    cancel(mixpeek_mock)
    mixpeek_mock.fail_next(503)
    for given in (mixpeek_mock.batches, mixpeek_mock.requests, mixpeek_mock.faults):
        given.clear()
    assert (len(mixpeek_mock.batches), len(mixpeek_mock.requests), len(mixpeek_mock.faults)) == (1, 1, 1)


# --- As an ASGI app ---------------------------------------------------------------------------------------------------


def _ask(app: Any, path: str = PATH) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
            return await client.post(path, headers=headers_of())

    return asyncio.run(ask())


def test_the_app_without_a_server() -> None:
    """The app answers under any ASGI transport, with its state at hand."""
    app = create_app()
    app.state.add_batch("a/b", "ü", status="IN_PROGRESS")
    assert check(_ask(app, path_of("a/b", "ü"))).status_code == 200
    assert _ask(app, "/_mock/reset").status_code == 204
    assert app.state.batches == []


def test_the_app_with_a_state_of_ones_own() -> None:
    """A given state is the app's, also an empty one."""
    state = MockState(api_key="sk_mine")
    assert create_app(state).state is state
    assert check(_ask(create_app(state))).status_code == 401


@pytest.mark.parametrize("kind", ["reset", "truncated"])
def test_cutting_without_a_server(kind: str) -> None:
    """A fault that cuts the connection raises where there is none to cut, and truncated has acted."""
    app = create_app()
    app.state.add_batch("bkt", "btch")
    app.state.fail_next(kind)
    with pytest.raises(ConnectionResetError, match="asked to cut the connection"):
        _ask(app)
    assert app.state.batch("bkt", "btch").status == ("PENDING" if kind == "reset" else "CANCELED")


@pytest.mark.parametrize("raw_path", [{}, {"raw_path": None}, {"raw_path": b""}])
def test_a_server_that_gives_no_raw_path(raw_path: dict[str, Any]) -> None:
    """Under a server that gives the decoded path only, identifiers without a slash are found all the same."""
    state = MockState()
    state.add_batch("b %", "ü")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/buckets/b %/batches/ü/cancel", **raw_path}
    headers = [(b"authorization", BEARER.encode())]
    asyncio.run(create_app(state)({**scope, "headers": headers}, _no_body, send))
    assert sent[0]["status"] == 200


async def _no_body() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("path", [PATH, "/no", "/_mock/", "/_mock/no", "/_mock/reset"])
@pytest.mark.parametrize("limited", [False, True])
def test_a_body_is_read(path: str, limited: bool) -> None:
    """The mock reads what it is sent, whatever the path, since HTTP/2 sends nothing more where nobody reads."""
    app = create_app()
    if limited:
        app.state.limit_rate(0.01)
        app.state.limits.admit(time.monotonic())
    sent, unread = _serve(app, path, [b"a", b"", b"b" * 100_000])
    assert unread == 0
    assert sent[0]["type"] == "http.response.start"


@pytest.mark.parametrize("path", [PATH, "/_mock/batches"])
def test_a_body_that_never_ends(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mock reads so much and no more, answers 413, and does not act."""
    monkeypatch.setattr(app_module, "_LARGEST_BODY", 10_000)
    app = create_app()
    app.state.add_batch("bkt", "btch")
    sent, unread = _serve(app, path, [b"x" * 1_000] * 100)
    assert sent[0]["status"] == json.loads(sent[1]["body"])["status"] == 413
    assert unread == 89
    assert app.state.batch("bkt", "btch").status == "PENDING"


def test_a_client_that_leaves_in_a_body() -> None:
    """A request whose body breaks off is not answered, and does nothing."""
    app = create_app()
    app.state.add_batch("bkt", "btch")
    assert _serve(app, PATH, [b"x", None]) == ([], 0)
    assert app.state.batch("bkt", "btch").status == "PENDING"


def _serve(app: MockApp, path: str, chunks: list[bytes | None]) -> tuple[list[Any], int]:
    """Send a body in chunks, None for a client that leaves; give what was sent back, and how many were not read."""
    chunks, sent = list(chunks), []

    async def receive() -> Any:
        chunk = chunks.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", BEARER.encode())]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    return sent, len(chunks)


def test_a_websocket_is_refused() -> None:
    """A websocket is closed at once: the mock speaks HTTP only."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(create_app()({"type": "websocket", "path": "/", "headers": []}, _no_body, send))
    assert sent == ["websocket.close"]


# --- Without its dependencies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_dependency(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without the extra's packages the mock says what to install."""
    for name in [name for name in sys.modules if name.startswith("mixpeek_batches.mock")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"^The mock needs {missing}: pip install 'mixpeek-batches\[mock\]'$"
    ):
        __import__("mixpeek_batches.mock")


def test_the_client_needs_no_extra() -> None:
    """Where the extra is not installed the client can be imported, and the mock fails with one clear line."""
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"starlette", "uvicorn", "typer", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
import mixpeek_batches
print("imported")
import mixpeek_batches.mock
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "imported\n")
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: The mock needs starlette: pip install 'mixpeek-batches[mock]'"
    )
    assert "During handling" not in done.stderr


def test_the_key_is_a_constant() -> None:
    """The mock's usual key is the same everywhere, so that other people's settings can hold it."""
    assert MockState().api_key == DEFAULT_KEY == "sk_mock_0123456789abcdef"
