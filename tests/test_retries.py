"""What is tried again, how often, and how long after."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from peer import CLOSE, HANG, RESET, UNREAD, Peer, Script, response

from mixpeek_batches import APITimeoutError, NotFoundError, RateLimitError, TaskResponse

Cancel = Callable[..., TaskResponse]
Failure = Callable[..., Any]
WHOLE = response()
PASSING: dict[str, Script] = {
    **{str(status): response(status) for status in (408, 429, 500, 502, 503, 504)},
    "reset-before-reading": [UNREAD, RESET],
    "reset-after-reading": [RESET],
    "reset-in-the-head": [WHOLE[:20], RESET],
    "reset-in-the-body": [WHOLE[:-1], RESET],
    "cut-head": [WHOLE[:20], CLOSE],
    "cut-body": [WHOLE[:-1], CLOSE],
    "no-http": [b"oops\r\n\r\n", CLOSE],
}
LASTING = {
    **{str(status): response(status) for status in (400, 401, 402, 403, 404, 405, 409, 418, 422, 499)},
    **{str(status): response(status) for status in (501, 505, 520, 599, 302)},
    "no-task": response(200, {}),
    "no-json": response(200, "<html>"),
    "no-content": response(204),
}


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
def test_passing_failure(cancel: Cancel, waits: list[float], script: Script) -> None:
    """What may pass is tried again, and the success that follows is all that the caller sees."""
    with Peer(script, script, response()) as peer:
        assert cancel(peer.url, max_retries=2).task_id == "task_1"
    assert len(waits) == 2
    assert all(0 <= wait <= 8 for wait in waits)


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
def test_passing_failure_that_stays(failure: Failure, waits: list[float], script: Script) -> None:
    """After max_retries more attempts the last error comes out."""
    with Peer(script) as peer:
        failure(peer.url, max_retries=2)
    assert max(len(peer.requests), peer.connections) == 3
    assert len(waits) == 2


@pytest.mark.parametrize("script", LASTING.values(), ids=LASTING)
def test_lasting_failure(failure: Failure, waits: list[float], script: Script) -> None:
    """What would only be refused again is not sent again."""
    with Peer(script, response()) as peer:
        failure(peer.url, max_retries=5)
    assert len(peer.requests) == 1
    assert waits == []


def test_timeout_is_tried_again(cancel: Cancel, waits: list[float]) -> None:
    """The time-out is that of an attempt, and the next has all of it."""
    with Peer([HANG], response()) as peer:
        cancel(peer.url, timeout=0.3, max_retries=1)
    assert (len(peer.requests), len(waits)) == (2, 1)


def test_last_error_counts(failure: Failure, waits: list[float]) -> None:
    """The error is that of the last attempt, be it of another kind."""
    with Peer([response(503), CLOSE], [RESET], response(404)) as peer:
        assert type(failure(peer.url, max_retries=9)) is NotFoundError
    assert len(waits) == 2


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
def test_no_retries(failure: Failure, waits: list[float], script: Script) -> None:
    """With max_retries=0 there is one attempt."""
    with Peer(script) as peer:
        failure(peer.url, max_retries=0)
    assert (peer.connections, waits) == (1, [])


def test_two_retries_by_default(connect: Callable[..., Any], waits: list[float]) -> None:
    """Who says nothing gets three attempts, each with the same request."""
    with Peer(response(429)) as peer, connect(peer.url) as client, pytest.raises(RateLimitError):
        client.cancel_batch("bkt_1", "btch_1", namespace="ns")
    assert (len(peer.requests), len(waits)) == (3, 2)
    assert len({request.head for request in peer.requests}) == 1


def test_default_timeout(connect: Callable[..., Any]) -> None:
    """Without a word about it, an attempt may take half a minute."""
    with connect("http://127.0.0.1:1") as client:
        assert client.client._timeout == 30.0


def test_backoff_grows_and_varies(failure: Failure, waits: list[float]) -> None:
    """The waits are random, between a bound that doubles up to 8 s and half of it."""
    with Peer(response(503)) as peer:
        failure(peer.url, max_retries=30)
    bounds = [min(8, 0.5 * 2**n) for n in range(30)]
    assert all(bound / 2 <= wait <= bound for bound, wait in zip(bounds, waits, strict=True))
    assert len(set(waits)) == 30


# Retry-After


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize(("value", "wait"), [("2", 2.0), ("0.25", 0.25), (" 60 ", 60.0)])
def test_retry_after_in_seconds(cancel: Cancel, waits: list[float], status: int, value: str, wait: float) -> None:
    """The server says how long to wait, with any status that is tried again."""
    with Peer(response(status, headers={"Retry-After": value}), response()) as peer:
        cancel(peer.url, max_retries=1)
    assert waits == [wait]


def http_date(seconds: float) -> str:
    """Write the moment that lies some seconds ahead as HTTP does."""
    return formatdate(time.time() + seconds, usegmt=True)


def rfc_850_date(seconds: float) -> str:
    return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


def asctime_date(seconds: float) -> str:
    return time.asctime(time.gmtime(time.time() + seconds))


@pytest.fixture
def set_zone() -> Iterator[Callable[[str], None]]:
    """Give a function that moves this process to another time zone, until the test is over."""
    with pytest.MonkeyPatch.context() as patch:

        def set_zone(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield set_zone
    time.tzset()


@pytest.mark.parametrize("write", [http_date, rfc_850_date, asctime_date])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_retry_after_a_date(
    cancel: Cancel, waits: list[float], set_zone: Callable[[str], None], zone: str, write: Callable[[float], str]
) -> None:
    """A date is Greenwich's in all three forms of RFC 9110, section 5.6.7, wherever the client is."""
    with Peer(response(503, headers={"Retry-After": write(30)}), response()) as peer:
        set_zone(zone)
        cancel(peer.url, max_retries=1)
    assert 20 < waits[0] <= 30


@pytest.mark.parametrize(
    "value",
    [
        *["", "0", "0.0", "-5", "1e3", "soon", "2 s", "10, 20", "nan", "inf", "٣"],
        *["Mon, 99 Foo 2026 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"],
    ],
)
def test_retry_after_without_sense(failure: Failure, waits: list[float], value: str) -> None:
    """What is neither a number nor a date, or asks for no wait, is as good as nothing."""
    with Peer(response(503, headers={"Retry-After": value})) as peer:
        error = failure(peer.url, max_retries=1)
    assert error.retry_after is None
    assert len(waits) == 1
    assert 0.25 <= waits[0] <= 0.5


@pytest.mark.parametrize(
    "value", ["61", "60.001", "86400", "9" * 400, "Wed, 01 Jan 2200 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_retry_after_too_long(failure: Failure, waits: list[float], value: str) -> None:
    """More than a minute is not waited for: the caller learns at once how long it would have been."""
    with Peer(response(429, headers={"Retry-After": value})) as peer:
        error = failure(peer.url, max_retries=5)
    assert isinstance(error, RateLimitError)
    assert (error.retry_after or 0) > 60
    assert (len(peer.requests), waits) == (1, [])


# Logging


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    ours = [record for record in caplog.records if record.name == "mixpeek_batches"]
    return [(record.levelname, record.getMessage()) for record in ours]


def test_log(cancel: Cancel, waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """An attempt is a debug line and a retry a warning, under `mixpeek_batches`."""
    caplog.set_level(logging.DEBUG)
    headers = {"X-Request-ID": "req_7", "Retry-After": "3", "Connection": "close"}
    with Peer([response(503, headers=headers), CLOSE], [RESET], response()) as peer:
        cancel(peer.url, max_retries=2)
    first, first_wait, second, second_wait, third = records(caplog)
    path = "POST /v1/buckets/bkt_1/batches/btch_1/cancel -> "
    assert (first[0], second[0], third[0]) == ("DEBUG",) * 3
    assert first[1].startswith(f"{path}503 in 0.")
    assert first[1].endswith(" s, request req_7")
    assert second[1].startswith(f"{path}The connection to 127.0.0.1 failed: ")
    assert third[1].startswith(f"{path}200 in 0.")
    assert third[1].endswith(" s, request -")
    assert first_wait[0] == second_wait[0] == "WARNING"
    place = "Batch 'btch_1' of bucket 'bkt_1': "
    assert first_wait[1].startswith(f"{place}attempt 1 of 3 failed, next in 3.00 s: The server answered Service Unav")
    assert second_wait[1].startswith(f"{place}attempt 2 of 3 failed, next in ")


def test_log_of_a_success(cancel: Cancel, caplog: pytest.LogCaptureFixture) -> None:
    """Where all goes well, nothing is said above debug, and of an error only what is raised."""
    caplog.set_level(logging.INFO, "mixpeek_batches")
    with Peer(response(), response(404)) as peer:
        cancel(peer.url)
        with pytest.raises(NotFoundError):
            cancel(peer.url)
    assert records(caplog) == []


def test_log_of_a_timeout(failure: Failure, caplog: pytest.LogCaptureFixture) -> None:
    """An attempt without an answer has its line too."""
    caplog.set_level(logging.DEBUG)
    with Peer([HANG]) as peer:
        assert type(failure(peer.url, timeout=0.2)) is APITimeoutError
    ((level, text),) = records(caplog)
    assert level == "DEBUG"
    assert "No complete response from 127.0.0.1 within 0.2 s." in text
