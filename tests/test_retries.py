"""What is retried, how often, and how long after."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from bulk import Caller
from hypothesis import example, given
from hypothesis import strategies as st
from peer import CLOSE, HANG, RESET, UNREAD, Peer, Script, response

from mixpeek_batches import APITimeoutError, NotFoundError, RateLimitError, TaskResponse
from mixpeek_batches._retries import retry_after

Cancel = Callable[..., TaskResponse]
Connect = Callable[..., Caller]
Failure = Callable[..., Any]
WHOLE = response()
TRANSIENT: dict[str, Script] = {
    "503": response(503),  # test_client.py has the other statuses
    "reset-before-reading": [UNREAD, RESET],
    "reset-after-reading": [RESET],
    "reset-in-the-body": [WHOLE[:-1], RESET],
    "close-in-the-head": [WHOLE[:20], CLOSE],
    "no-http": [b"oops\r\n\r\n", CLOSE],
}


@pytest.mark.parametrize("script", TRANSIENT.values(), ids=TRANSIENT)
def test_transient_failure(cancel: Cancel, failure: Failure, waits: list[float], script: Script) -> None:
    """It is retried up to max_retries times; then it is raised."""
    with Peer(script, script, response()) as peer:
        assert cancel(peer.url, max_retries=2).task_id == "task_1"
    assert len(waits) == 2
    with Peer(script, script, response()) as peer:
        failure(peer.url, max_retries=1)
    assert (max(len(peer.requests), peer.connections), len(waits)) == (2, 3)
    with Peer(script, response()) as peer:
        failure(peer.url, max_retries=0)
    assert (peer.connections, len(waits)) == (1, 3)


def test_timeout_is_retried(cancel: Cancel, waits: list[float]) -> None:
    """Each attempt has the whole time-out."""
    with Peer([HANG], response()) as peer:
        cancel(peer.url, timeout=0.2, max_retries=1)
    assert (len(peer.requests), len(waits)) == (2, 1)


def test_last_error_counts(failure: Failure, waits: list[float]) -> None:
    """The error of the last attempt is raised, even if it is of another kind."""
    with Peer([response(503), CLOSE], [RESET], response(404)) as peer:
        assert type(failure(peer.url, max_retries=9)) is NotFoundError
    assert len(waits) == 2


def test_defaults(connect: Connect, waits: list[float]) -> None:
    """Two retries, each with the same request; an attempt may take half a minute."""
    with Peer(response(429)) as peer, connect(peer.url) as client:
        assert client.client._timeout == 30.0
        with pytest.raises(RateLimitError):
            client.cancel_batch("bkt_1", "btch_1", namespace="ns")
    assert (len(peer.requests), len(waits)) == (3, 2)
    assert len({request.head for request in peer.requests}) == 1


def test_call_overrides_client(connect: Connect, waits: list[float]) -> None:
    """The time-out and the retries of a call win over the client's."""
    within = pytest.raises(APITimeoutError, match=r"within 0\.1 s")
    with Peer([HANG]) as peer, connect(peer.url, timeout=30, max_retries=5) as client, within:
        client.cancel_batch("bkt_1", "btch_1", timeout=0.1, max_retries=1)
    assert (len(peer.requests), len(waits)) == (2, 1)


def test_backoff_grows_and_varies(failure: Failure, waits: list[float]) -> None:
    """The waits are random, between a bound that doubles up to 8 s and half that bound."""
    with Peer(response(503)) as peer:
        failure(peer.url, max_retries=30)
    bounds = [min(8, 0.5 * 2**retry) for retry in range(30)]
    assert all(bound / 2 <= wait <= bound for bound, wait in zip(bounds, waits, strict=True))
    assert len(set(waits)) == 30


# Retry-After


def read(text: str) -> float | None:
    return retry_after(httpx.Headers([(b"Retry-After", text.encode("latin-1"))]))


@given(st.integers(0, 10**12) | st.decimals(0, 10**6, places=3))
@example(0)
def test_retry_after_in_seconds(seconds: float) -> None:
    """A number of seconds may have a fraction; 0 counts as no header."""
    assert read(f" {seconds} ") == (float(seconds) or None)


@given(st.text(st.characters(codec="latin-1")).filter(lambda text: not text.strip()[:1].isdecimal()))
@example("-5")
@example("nan")
@example("Mon, 99 Foo 2026 00:00:00 GMT")
@example("Sun, 06 Nov 1994 08:49:37 GMT")
def test_invalid_retry_after(text: str) -> None:
    """Neither a number nor a future date counts as no header."""
    assert read(text) is None


@pytest.mark.parametrize("value", ["1e3", "2 s", "10, 20", "1.", "5.-5"])
def test_retry_after_that_begins_like_a_number(value: str) -> None:
    """So does text that only begins with a number."""
    assert read(value) is None


def http_date(seconds: float) -> str:
    """Write the moment that is some seconds ahead as HTTP does."""
    return formatdate(time.time() + seconds, usegmt=True)


def rfc_850_date(seconds: float) -> str:
    return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


def asctime_date(seconds: float) -> str:
    return time.asctime(time.gmtime(time.time() + seconds))


@pytest.fixture
def set_zone() -> Iterator[Callable[[str], None]]:
    """Return a function that moves this process to another time zone, until the test is over."""
    with pytest.MonkeyPatch.context() as patch:

        def set_zone(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield set_zone
    time.tzset()


@pytest.mark.parametrize("write", [http_date, rfc_850_date, asctime_date])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_retry_after_a_date(
    monkeypatch: pytest.MonkeyPatch, set_zone: Callable[[str], None], zone: str, write: Callable[[float], str]
) -> None:
    """A date is UTC in all three forms of RFC 9110, section 5.6.7, wherever the client is; only a future one counts."""
    set_zone(zone)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert [read(write(seconds)) for seconds in (30, 1, 0, -2)] == [30.0, 1.0, None, None]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize(("value", "wait"), [("0.25", 0.25), ("60", 60.0)])
def test_retry_after_is_waited_for(cancel: Cancel, waits: list[float], status: int, value: str, wait: float) -> None:
    """Retry-After is waited for, up to a minute, with any status that is retried."""
    with Peer(response(status, headers={"Retry-After": value}), response()) as peer:
        cancel(peer.url, max_retries=1)
    assert waits == [wait]


@pytest.mark.parametrize("value", ["0", "soon"])
def test_retry_after_that_asks_for_no_wait(failure: Failure, waits: list[float], value: str) -> None:
    """Then the client backs off."""
    with Peer(response(503, headers={"Retry-After": value})) as peer:
        assert failure(peer.url, max_retries=1).retry_after is None
    assert len(waits) == 1
    assert 0.25 <= waits[0] <= 0.5


@pytest.mark.parametrize(
    "value", ["60.001", "9" * 400, "Wed, 01 Jan 2200 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_retry_after_too_long(failure: Failure, waits: list[float], value: str) -> None:
    """A longer Retry-After is not waited for: the error is raised at once, with `retry_after`."""
    with Peer(response(429, headers={"Retry-After": value})) as peer:
        error = failure(peer.url, max_retries=5)
    assert isinstance(error, RateLimitError)
    assert 60 < (error.retry_after or 0) < float("inf")
    assert (len(peer.requests), waits) == (1, [])


# Logging


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    ours = [record for record in caplog.records if record.name == "mixpeek_batches"]
    return [(record.levelname, record.getMessage()) for record in ours]


def test_log(cancel: Cancel, waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt is logged at DEBUG and each retry at WARNING, under `mixpeek_batches`."""
    caplog.set_level(logging.DEBUG)
    headers = {"X-Request-ID": "req_7", "Retry-After": "3", "Connection": "close"}
    with Peer([response(503, headers=headers), CLOSE], [RESET], [HANG], response()) as peer:
        cancel(peer.url, max_retries=3, timeout=0.2)
    log = records(caplog)
    assert [level for level, _ in log] == ["DEBUG", "WARNING"] * 3 + ["DEBUG"]
    attempts, retries = [text for _, text in log[::2]], [text for _, text in log[1::2]]
    path = "POST /v1/buckets/bkt_1/batches/btch_1/cancel -> "
    assert attempts[0].startswith(f"{path}503 in 0.")
    assert attempts[0].endswith(" s, request req_7")
    assert attempts[1].startswith(f"{path}The connection to 127.0.0.1 failed: ")
    assert attempts[2].startswith(f"{path}No complete response from 127.0.0.1 within 0.2 s. in 0.")
    assert attempts[3].startswith(f"{path}200 in 0.")
    assert attempts[3].endswith(" s, request -")
    place = "Batch 'btch_1' of bucket 'bkt_1': "
    assert retries[0].startswith(f"{place}attempt 1 of 4 failed, next in 3.00 s: ")
    assert "Service Unavailable" in retries[0]
    assert retries[1].startswith(f"{place}attempt 2 of 4 failed, next in ")


def test_log_of_a_success(cancel: Cancel, caplog: pytest.LogCaptureFixture) -> None:
    """Above DEBUG nothing is logged for a success, or for an error that is raised."""
    caplog.set_level(logging.INFO, "mixpeek_batches")
    with Peer(response(), response(404)) as peer:
        cancel(peer.url)
        with pytest.raises(NotFoundError):
            cancel(peer.url)
    assert records(caplog) == []
