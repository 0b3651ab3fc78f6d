"""Faults: what goes wrong on request, over real sockets."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from mock_support import BEARER, PATH, REQUEST, connect, http_client, is_envelope, raw, send, wait_until

from mixpeek_batches.mock import MockServer


@pytest.fixture
def mock(mixpeek_mock: MockServer) -> MockServer:
    """A mock that holds one running batch."""
    mixpeek_mock.add_batch("bkt", "btch", status="IN_PROGRESS")
    return mixpeek_mock


def _status(mock: MockServer) -> str:
    return mock.batch("bkt", "btch").status.value


# --- Responses by status code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status_code", [201, 302, 401, 404, 405, 418, 429, 500, 502, 503, 599])
def test_status_code(mock: MockServer, status_code: int) -> None:
    """A status code is sent once, with the error envelope and the headers that it demands, and changes nothing."""
    mock.fail_next(status_code)
    response = send(mock)
    assert response.status_code == status_code
    assert is_envelope(response)
    expected = {
        401: ("www-authenticate", "Bearer"),
        405: ("allow", "POST"),
        429: ("retry-after", "1"),
        503: ("retry-after", "1"),
    }
    for name, value in expected.values():
        assert response.headers.get(name) == (value if expected.get(status_code) == (name, value) else None)
    assert _status(mock) == "IN_PROGRESS"
    assert send(mock).status_code == 200


@pytest.mark.parametrize("status_code", [204, 205, 304])
def test_status_code_without_a_body(mock: MockServer, status_code: int) -> None:
    """A status code that allows no body has none, and the connection serves the next request."""
    mock.fail_next(status_code, body={"a": 1})
    with httpx.Client(base_url=mock.url, trust_env=False, headers={"Authorization": BEARER}) as client:
        response = client.post(PATH)
        assert (response.status_code, response.content) == (status_code, b"")
        assert ("content-length" in response.headers) == (status_code != 204)
        assert client.post(PATH).status_code == 200


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(0, "0"), (1.5, "1.5"), (2.0, "2"), (1_234_567.0, "1234567"), ("Wed, 21 Oct 2099 07:28:00 GMT",) * 2, ("", "")],
)
def test_retry_after(mock: MockServer, retry_after: float | str, header: str) -> None:
    """Retry-After is sent as it was given, a number of seconds in full or any text."""
    mock.fail_next(500, retry_after=retry_after)
    assert send(mock).headers["retry-after"] == header


@pytest.mark.parametrize("status_code", [200, 502])
def test_body(mock: MockServer, status_code: int) -> None:
    """A body is sent as JSON, a string as it is, and a lone surrogate as bytes that are not UTF-8."""
    bodies: list[Any] = [{"a": [1, "ü"]}, [], 7, False, "<html>ü", "", "\ud800"]
    for body in bodies:
        mock.fail_next(status_code, body=body)
        response = send(mock)
        expected = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else json.dumps(body).encode()
        assert (response.status_code, response.content) == (status_code, expected)


# --- How many requests, in which order, with what effect --------------------------------------------------------------


def test_faults_come_in_order(mock: MockServer) -> None:
    """Each fault affects as many requests as it should, in the order of the plan, which can be read and cancelled."""
    mock.fail_next(503, times=2)
    mock.fail_next("malformed")
    mock.fail_next(418)
    assert [fault.kind for fault in mock.faults] == ["status", "status", "malformed", "status"]
    mock.faults.clear()  # a copy
    assert [send(mock).status_code for _ in range(5)] == [503, 503, 200, 418, 200]
    mock.fail_next("reset", times=9)
    mock.clear_faults()
    assert (mock.faults, send(mock).status_code) == ([], 200)


def test_any_request_to_the_api_takes_a_fault(mock: MockServer) -> None:
    """Unknown paths, other methods and wrong keys take faults, but not the admin API."""
    mock.fail_next(418, times=3)
    assert http_client().get(mock.url + "/_mock/").status_code == 200
    responses = [send(mock, "/no"), send(mock, method="GET"), *(send(mock, authorization=None) for _ in range(2))]
    assert [response.status_code for response in responses] == [418, 418, 418, 401]


@pytest.mark.parametrize(("authorization", "status"), [(BEARER, "CANCELED"), (None, "IN_PROGRESS")])
def test_status_code_that_acted(mock: MockServer, authorization: str | None, status: str) -> None:
    """With `acted` the batch is cancelled although the response says otherwise, but only with a valid key."""
    mock.fail_next(500, acted=True)
    assert send(mock, authorization=authorization).status_code == 500
    assert _status(mock) == status


def test_simultaneous_requests(mock: MockServer) -> None:
    """Simultaneous requests share the plan: no fault is used twice or lost."""
    mock.fail_next(500, times=20)
    with ThreadPoolExecutor(30) as pool:
        codes = list(pool.map(lambda _: raw(mock, PATH).status_code, range(30)))
    assert sorted(codes) == [200] * 10 + [500] * 20


# --- Faults of the connection -----------------------------------------------------------------------------------------


def test_latency(mock: MockServer) -> None:
    """With latency the batch is cancelled at once and the response comes later; others are served meanwhile."""
    mock.fail_next("latency", seconds=0.3)
    with connect(mock) as connection:
        begin = time.monotonic()
        connection.sendall(REQUEST)
        wait_until(lambda: _status(mock) == "CANCELED")
        assert send(mock).status_code == 200
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize(("acted", "status"), [(False, "IN_PROGRESS"), (True, "CANCELED")])
def test_reset(mock: MockServer, acted: bool, status: str) -> None:
    """The one connection is reset before any byte of a response; with `acted` the batch is cancelled all the same."""
    with connect(mock) as other, connect(mock) as connection:
        mock.fail_next("reset", acted=acted)
        connection.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert _status(mock) == status
        assert [request.status_code for request in mock.requests] == [None]
        other.sendall(REQUEST)
        assert other.recv(100).startswith(b"HTTP/1.1 200 ")


def test_truncated(mock: MockServer) -> None:
    """A truncated response has a Content-Length, half of its body, and the end of the connection after it."""
    mock.fail_next("truncated")
    received = b""
    with connect(mock) as connection:
        connection.sendall(REQUEST)
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    (length,) = (int(line.split()[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == length // 2 > 0


@pytest.mark.parametrize("fault", ["latency", "truncated", "malformed"])
@pytest.mark.parametrize(
    ("authorization", "status_code", "status"), [(BEARER, 200, "CANCELED"), (None, 401, "IN_PROGRESS")]
)
def test_faults_that_act(
    mock: MockServer, fault: str, authorization: str | None, status_code: int, status: str
) -> None:
    """These faults affect the response that the request would get anyway, and clients notice two of them."""
    mock.fail_next(fault, seconds=0 if fault == "latency" else None)
    if fault == "truncated":
        with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
            send(mock, authorization=authorization)
    else:
        response = send(mock, authorization=authorization)
        assert (response.status_code, response.headers["content-type"]) == (status_code, "application/json")
    if fault == "malformed":
        with pytest.raises(json.JSONDecodeError):
            response.json()
    assert [request.status_code for request in mock.requests] == [status_code]
    assert _status(mock) == status


# --- Random faults ----------------------------------------------------------------------------------------------------


def test_fail_randomly(mock: MockServer) -> None:
    """About the given share fails, reproducibly with a seed, until the faults are cleared; planned ones come first."""
    runs = []
    for _ in range(2):
        mock.fail_randomly(0.5, faults=[{"fault": 503, "retry_after": 0}, {"fault": 500}], seed=7)
        runs.append([send(mock).status_code for _ in range(40)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500, 503}
    assert 10 < runs[0].count(200) < 30
    mock.fail_randomly(1, faults=[{"fault": 500}])
    mock.fail_next(418)
    assert [send(mock).status_code for _ in range(3)] == [418, 500, 500]
    mock.clear_faults()
    assert send(mock).status_code == 200
