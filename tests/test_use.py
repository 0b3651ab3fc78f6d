"""One call at a time from many places at once, and what it leaves behind."""

from __future__ import annotations

import asyncio
import datetime
import resource
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from bulk import wait_until
from peer import CLOSE, HANG, TASK, Peer, ReceivedRequest, Script, response

from mixpeek_batches import APIConnectionError, AsyncClient, Client, MixpeekError

Failure = Callable[..., Any]
WHOLE = response()


def echo(request: ReceivedRequest) -> bytes:
    """Answer with a task that tells of which batch it is."""
    return response(200, TASK | {"task_id": request.line.split(b"/")[5].decode()})


def test_many_threads() -> None:
    """Many threads share one Client, and each gets the answers to its own calls."""
    wrong: list[object] = []

    def run(client: Client, number: int) -> None:
        for count in range(20):
            batch = f"btch_{number}_{count}"
            task = client.cancel_batch("bkt_1", batch)
            if task.task_id != batch:
                wrong.append(task)

    with Peer(echo) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        threads = [threading.Thread(target=run, args=(client, number)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert peer.connections <= 32
    assert (wrong, len(peer.requests)) == ([], 320)


def test_many_tasks() -> None:
    """Many tasks share one AsyncClient, and each gets the answer to its own call."""

    async def run(url: str) -> list[str]:
        async with AsyncClient(api_key="sk_test", base_url=url) as client:
            calls = (client.cancel_batch("bkt_1", str(number)) for number in range(200))
            return [task.task_id for task in await asyncio.gather(*calls)]

    with Peer(echo) as peer:
        assert asyncio.run(run(peer.url)) == [str(number) for number in range(200)]


@pytest.mark.parametrize(
    "script", [[HANG], [WHOLE[:20], HANG], [WHOLE[:-1], HANG]], ids=["no-answer", "half-a-head", "half-a-body"]
)
def test_cancelled_call_leaks_no_connection(script: Script) -> None:
    """Calls that are cancelled in the middle leave no connection behind, and the client can go on."""

    async def run(peer: Peer) -> None:
        async with AsyncClient(api_key="sk_test", base_url=peer.url) as client:
            calls = [asyncio.create_task(client.cancel_batch("bkt_1", "slow")) for _ in range(10)]
            await asyncio.to_thread(wait_until, lambda: len(peer.requests) == 10)
            for call in calls:
                call.cancel()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends)
            await asyncio.to_thread(wait_until, lambda: peer.open == 0)
            assert (await client.cancel_batch("bkt_1", "next")).task_id == "next"

    with Peer(lambda request: script if b"slow" in request.line else echo(request)) as peer:
        asyncio.run(asyncio.wait_for(run(peer), 10))


def test_close_while_a_call_is_in_flight() -> None:
    """Closing a client ends the call that another thread has in flight with one of our errors, or lets it complete."""
    errors: list[BaseException] = []

    def run(client: Client) -> None:
        try:
            client.cancel_batch("bkt_1", "btch_1")
        except MixpeekError as error:
            errors.append(error)

    with Peer([HANG]) as peer:
        client = Client(api_key="sk_test", base_url=peer.url, timeout=1, max_retries=0)
        thread = threading.Thread(target=run, args=(client,))
        thread.start()
        wait_until(lambda: len(peer.requests) == 1)
        client.close()
        thread.join(10)
        wait_until(lambda: peer.open == 0)
    assert [isinstance(error, APIConnectionError) for error in errors] == [True]


@pytest.mark.parametrize("head", [{"Connection": "close"}, {"Content-Length": str(300 * 2**20)}], ids=["open", "told"])
def test_body_of_300_mb(failure: Failure, head: dict[str, str]) -> None:
    """A body of 300 MB is refused early, with bounded memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Peer([response(200, b"", head, length=300 * 2**20), *[b" " * 2**20] * 300, CLOSE]) as peer:
        error = failure(peer.url, timeout=20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert "it is larger than 10,485,760 bytes" in str(error)


def test_expired_certificate(failure: Failure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that was good once is refused, and not tried again."""
    authority, past = trustme.CA(), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    until = past + datetime.timedelta(1)
    authority.issue_cert("127.0.0.1", not_before=past, not_after=until).configure_cert(tls)
    with Peer(response(), tls=tls) as peer:
        error = failure(peer.url, max_retries=2)
    assert type(error) is APIConnectionError
    assert "expired" in str(error)
    assert (peer.connections, peer.requests) == (1, [])
