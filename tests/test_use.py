"""One call at a time from many places at once, and what it leaves behind."""

from __future__ import annotations

import asyncio
import threading

import pytest
from bulk import wait_until
from peer import HANG, Peer, Script, echo, response

from mixpeek_batches import AsyncClient, Client

WHOLE = response()


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
