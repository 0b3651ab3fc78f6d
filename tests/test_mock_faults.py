"""What goes wrong on request: every fault of the mock, over real sockets."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from mock_support import BEARER, RESPONSES, cancel, check, connect, http_client, is_envelope, path_of, raw, send

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import Fault, MockServer

REQUEST = (
    f"POST {path_of('bkt', 'btch')} HTTP/1.1\r\nHost: mock\r\nAuthorization: {BEARER}\r\nContent-Length: 0\r\n\r\n"
).encode()


@pytest.fixture
def mock(mixpeek_mock: MockServer) -> MockServer:
    """A mock that holds one running batch."""
    mixpeek_mock.add_batch("bkt", "btch", status="IN_PROGRESS")
    return mixpeek_mock


def _status(mock: MockServer) -> str:
    return mock.batch("bkt", "btch").status.value


# --- Answers by status ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status_code", sorted(set(RESPONSES) - {200}))
def test_a_documented_status(mock: MockServer, status_code: int) -> None:
    """A documented status is answered as openapi.yaml describes it, once, and changes nothing."""
    mock.fail_next(status_code)
    assert cancel(mock).status_code == status_code
    assert _status(mock) == "IN_PROGRESS"
    assert cancel(mock).status_code == 200


@pytest.mark.parametrize("status_code", [402, 405, 418, 502, 520, 599])
def test_an_undocumented_status(mock: MockServer, status_code: int) -> None:
    """A status that the contract lacks is answered with the envelope too."""
    mock.fail_next(status_code)
    answer = send(mock)
    assert answer.status_code == status_code
    assert is_envelope(answer)
    assert _status(mock) == "IN_PROGRESS"


@pytest.mark.parametrize("status_code", [201, 202, 302])
def test_a_status_that_is_no_error(mock: MockServer, status_code: int) -> None:
    """A success or a redirect has a body that is no task."""
    mock.fail_next(status_code)
    answer = send(mock)
    assert answer.status_code == answer.json()["status"] == status_code


@pytest.mark.parametrize("status_code", [204, 205, 304])
def test_a_status_without_a_body(mock: MockServer, status_code: int) -> None:
    """A status that may have no body has none, also if one was given, and the connection serves the next request."""
    mock.fail_next(status_code, body={"a": 1})
    with httpx.Client(base_url=mock.url, trust_env=False, headers={"Authorization": BEARER}) as client:
        answer = client.post(path_of("bkt", "btch"))
        assert (answer.status_code, answer.content) == (status_code, b"")
        assert ("content-length" in answer.headers) == (status_code != 204)
        assert client.post(path_of("bkt", "btch")).status_code == 200


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [
        (0, "0"),
        (7, "7"),
        (1.5, "1.5"),
        (2.0, "2"),
        (86_400.0, "86400"),
        (1_234_567.0, "1234567"),
        ("Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 GMT"),
        ("soon", "soon"),
        ("", ""),
    ],
)
def test_retry_after(mock: MockServer, retry_after: float | str, header: str) -> None:
    """Retry-After is sent as it was given, a number of seconds in full or any text."""
    mock.fail_next(500, retry_after=retry_after)
    assert send(mock).headers["retry-after"] == header


@pytest.mark.parametrize(("status_code", "header"), [(429, "1"), (503, "1"), (500, None), (400, None)])
def test_retry_after_of_itself(mock: MockServer, status_code: int, header: str | None) -> None:
    """429 and 503 have a Retry-After because the contract demands it, and no other status does."""
    mock.fail_next(status_code)
    assert cancel(mock).headers.get("retry-after") == header


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ({"a": [1, "ü"]}, {"a": [1, "ü"]}),
        ([1, None], [1, None]),
        (7, 7),
        (False, False),
        ({}, {}),
        ("<html>ü", "<html>ü"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("status_code", [200, 502])
def test_a_body(mock: MockServer, status_code: int, body: Any, content: Any) -> None:
    """A body is sent in place of the usual one, as JSON, or a string as it is."""
    mock.fail_next(status_code, body=body)
    answer = send(mock)
    assert answer.status_code == status_code
    assert (answer.text if isinstance(body, str) else answer.json()) == content


def test_a_body_that_is_no_utf8(mock: MockServer) -> None:
    """Half a surrogate pair in a string becomes bytes that are no UTF-8."""
    mock.fail_next(200, body="\ud800")
    assert send(mock).content == b"\xed\xa0\x80"


# --- How often, in which order, with what effect ----------------------------------------------------------------------


def test_times(mock: MockServer) -> None:
    """A fault comes as many times as was said, and then no more."""
    mock.fail_next(500, times=3)
    assert [send(mock).status_code for _ in range(5)] == [500, 500, 500, 200, 200]


def test_faults_come_in_order(mock: MockServer) -> None:
    """What is planned first goes wrong first, and the plan can be read."""
    mock.fail_next(503, times=2)
    mock.fail_next("malformed")
    mock.fail_next(418)
    assert [(fault.kind, fault.status_code) for fault in mock.faults] == [
        ("status", 503),
        ("status", 503),
        ("malformed", None),
        ("status", 418),
    ]
    assert [send(mock).status_code for _ in range(5)] == [503, 503, 200, 418, 200]
    assert mock.faults == []


def test_a_fault_is_taken_by_any_request(mock: MockServer) -> None:
    """Faults meet unknown paths, other methods and wrong keys too, but not the admin API."""
    mock.fail_next(418, times=3)
    assert http_client().get(mock.url + "/_mock/").status_code == 200
    assert [
        raw(mock, "/nowhere").status_code,
        send(mock, method="GET").status_code,
        send(mock, authorization=None).status_code,
        send(mock, authorization=None).status_code,
    ] == [418, 418, 418, 401]


def test_a_status_that_acted(mock: MockServer) -> None:
    """With `acted` the batch is cancelled although the answer says otherwise."""
    mock.fail_next(500, acted=True)
    assert cancel(mock).status_code == 500
    assert _status(mock) == "CANCELED"


def test_acting_keeps_the_rules(mock: MockServer) -> None:
    """With `acted` a request that may not cancel still does not."""
    mock.fail_next(500, acted=True)
    assert send(mock, authorization=None).status_code == 500
    assert _status(mock) == "IN_PROGRESS"


def test_clear_faults(mock: MockServer) -> None:
    """Nothing goes wrong once the plan is dropped."""
    mock.fail_next("reset", times=9)
    mock.clear_faults()
    assert mock.faults == []
    assert cancel(mock).status_code == 200


def test_each_request_takes_one_fault(mock: MockServer) -> None:
    """Requests at the same time share the plan: none of it is used twice or lost."""
    mock.fail_next(500, times=20)
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: raw(mock, path_of("bkt", "btch")).status_code, range(30)))
    assert sorted(answers) == [200] * 10 + [500] * 20


# --- Faults of the connection -----------------------------------------------------------------------------------------


def test_latency(mock: MockServer) -> None:
    """Latency answers as ever, later, and others are served meanwhile."""
    mock.fail_next("latency", seconds=0.3)
    slow: list[float] = []

    def ask() -> None:
        begin = time.monotonic()
        check(raw(mock, path_of("bkt", "btch")))
        slow.append(time.monotonic() - begin)

    thread = threading.Thread(target=ask)
    thread.start()
    while mock.faults:
        time.sleep(0.001)
    assert cancel(mock).status_code == 200
    assert not slow
    thread.join()
    assert 0.3 <= slow[0] < 5


def test_latency_acts_at_once(mock: MockServer) -> None:
    """The batch is cancelled before the answer comes, as a server does whose answer is late."""
    mock.fail_next("latency", seconds=0.2)
    with connect(mock) as connection:
        connection.sendall(REQUEST)
        while mock.faults:
            time.sleep(0.001)
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert _status(mock) == "CANCELED"
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("acted", "status"), [(False, "IN_PROGRESS"), (True, "CANCELED")])
def test_a_reset(mock: MockServer, acted: bool, status: str) -> None:
    """A reset is a real one, before any byte of an answer; with `acted` the batch is cancelled all the same."""
    mock.fail_next("reset", acted=acted)
    with connect(mock) as connection:
        connection.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert _status(mock) == status
    assert [request.status_code for request in mock.requests] == [None]
    assert cancel(mock).status_code == 200


def test_a_reset_hits_one_connection(mock: MockServer) -> None:
    """A reset leaves other connections alone, open ones too."""
    with connect(mock) as open_one, connect(mock) as unlucky:
        mock.fail_next("reset")
        unlucky.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            unlucky.recv(1)
        open_one.sendall(REQUEST)
        assert open_one.recv(100).startswith(b"HTTP/1.1 200 ")


def test_truncated(mock: MockServer) -> None:
    """A truncated answer says a Content-Length, sends half of it, and ends the connection; the batch is cancelled."""
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
    assert _status(mock) == "CANCELED"


def test_truncated_through_httpx(mock: MockServer) -> None:
    """A client of HTTP notices that the body was cut."""
    mock.fail_next("truncated")
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        send(mock)


def test_malformed(mock: MockServer) -> None:
    """A malformed answer is a whole one whose body is not valid JSON; the batch is cancelled."""
    mock.fail_next("malformed")
    answer = send(mock)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert _status(mock) == "CANCELED"


@pytest.mark.parametrize("kind", ["latency", "truncated", "malformed"])
def test_a_fault_keeps_the_rules(mock: MockServer, kind: str) -> None:
    """A fault that acts does so by the rules: without a key it spoils a 401."""
    mock.fail_next(kind, seconds=0 if kind == "latency" else None)
    if kind == "truncated":
        with pytest.raises(httpx.RemoteProtocolError):
            send(mock, authorization=None)
    else:
        assert send(mock, authorization=None).status_code == 401
    assert [request.status_code for request in mock.requests] == [401]
    assert _status(mock) == "IN_PROGRESS"


# --- Refused arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *(
            ({"fault": fault}, "fault must be an HTTP status code from 200 to 599 or one of latency, reset")
            for fault in [100, 199, 600, 0, -503, 10**30, 503.0, "503", "status", "Reset", "", None, True, [503], {}]
        ),
        ({"fault": "reset", "retry_after": 1}, "retry_after and body go with a status code"),
        ({"fault": "latency", "seconds": 1, "body": {}}, "retry_after and body go with a status code"),
        ({"fault": 200}, "fault 200 needs a body"),
        ({"fault": "latency"}, "seconds is needed for latency"),
        ({"fault": 503, "seconds": 1}, "seconds is needed for latency"),
        ({"fault": "reset", "seconds": 0}, "seconds is needed for latency"),
        *(
            ({"fault": "latency", "seconds": seconds}, "seconds must be a number from 0 to 3600")
            for seconds in [-1, 3601, float("nan"), float("inf"), "1", True, [1]]
        ),
        ({"fault": "reset", "acted": 1}, "acted must be true or false"),
        ({"fault": 503, "acted": None}, "acted must be true or false"),
        *(
            ({"fault": kind, "acted": True, **more}, f"acted goes with a status code or reset; {kind} always acts")
            for kind, more in [("latency", {"seconds": 1}), ("truncated", {}), ("malformed", {})]
        ),
        *(
            (
                {"fault": 503, "retry_after": value},
                "retry_after must be a number up to 1,000,000,000,000, or printable ASCII text",
            )
            for value in [float("nan"), float("inf"), True, [1], "a\r\nX: y", "ü", b"1"]
        ),
        *(
            ({"fault": 503, "times": times}, "times must be a whole number from 1 to 1,000,000")
            for times in [0, -1, 1.0, "2", None, True]
        ),
        ({"fault": 503, "body": {1, 2}}, "body is not JSON"),
        ({"fault": 503, "body": float("nan")}, "body is not JSON"),
        pytest.param({"fault": "latency", "seconds": 10**400}, "seconds must be a number", id="seconds-huge"),
        pytest.param({"fault": 503, "retry_after": 10**400}, "retry_after must be", id="retry_after-huge"),
        pytest.param({"fault": 503, "times": 10**30}, "times must be a whole number", id="times-huge"),
    ],
)
def test_a_fault_that_may_not_be_planned(mock: MockServer, arguments: dict[str, Any], says: str) -> None:
    """A wrong argument is refused in one sentence that says what is allowed, and nothing is planned."""
    with pytest.raises(ConfigurationError, match=says) as refusal:
        mock.fail_next(**arguments)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert mock.faults == []


def test_a_fault_shows_itself() -> None:
    """A fault gives its fields for the admin API."""
    fault = Fault.of(503, retry_after=2, body=[1], acted=True)
    assert fault.to_dict() == {
        "kind": "status",
        "status_code": 503,
        "retry_after": 2,
        "seconds": 0.0,
        "body": [1],
        "acted": True,
    }


def test_a_share_goes_wrong(mock: MockServer) -> None:
    """`fail_randomly` lets about the wanted share go wrong, the same each time with a seed, until told to stop."""
    for _ in range(2):
        mock.fail_randomly(0.5, faults=[{"fault": 503, "retry_after": 0}, {"fault": 500}], seed=7)
        statuses = [cancel(mock).status_code for _ in range(40)]
        assert set(statuses) == {200, 500, 503}
        assert 10 < statuses.count(200) < 30
        mock.clear_requests()
    mock.clear_faults()
    assert {cancel(mock).status_code for _ in range(10)} == {200}


def test_a_planned_fault_goes_before_a_random_one(mock: MockServer) -> None:
    """What `fail_next` plans comes first."""
    mock.fail_randomly(1, faults=[{"fault": 500}])
    mock.fail_next(503)
    assert [cancel(mock).status_code for _ in range(2)] == [503, 500]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rate": 2}, "rate must be"),
        ({"rate": True}, "rate must be"),
        ({"rate": "1"}, "rate must be"),
        ({"rate": 1, "faults": []}, "faults must be"),
        ({"rate": 1, "faults": {}}, "faults must be"),
        ({"rate": 1, "faults": [5]}, "A JSON object is needed"),
        ({"rate": 1, "faults": [{"fault": 700}]}, "from 200 to 599"),
        ({"rate": 1, "faults": [{"fault": 500, "times": 2}]}, "Unknown field 'times'"),
        ({"rate": 1, "seed": "x"}, "seed must be"),
        ({}, "'rate' is missing"),
    ],
)
def test_a_share_that_may_not_be(mock: MockServer, arguments: dict[str, Any], said: str) -> None:
    """A wrong argument is told in one sentence, and nothing goes wrong."""
    answer = httpx.post(f"{mock.url}/_mock/random_faults", json=arguments)
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]
    assert cancel(mock).status_code == 200


def test_a_share_by_the_admin_api(mock: MockServer) -> None:
    """Any language can let a share go wrong."""
    answer = httpx.post(f"{mock.url}/_mock/random_faults", json={"rate": 1, "faults": [{"fault": 500}]})
    assert answer.status_code == 204
    assert cancel(mock).status_code == 500
