"""A client that many threads or tasks share."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bulk import wait_until
from peer import HANG, TASK, Peer, Script, response

from mixpeek_batches import AsyncClient, Client

BATCHES = [f"btch_{number}" for number in range(300)]


def echo(request: Any) -> bytes:
    """Respond with a task whose id is the batch in the path."""
    return response(200, TASK | {"task_id": request.line.split(b"/")[5].decode()})


def test_many_threads() -> None:
    """Threads that share a Client get the responses to their own calls, over one connection each."""
    with Peer(echo) as peer, Client(api_key="sk_test", base_url=peer.url) as client, ThreadPoolExecutor(16) as threads:
        tasks = threads.map(lambda batch: client.cancel_batch("bkt_1", batch), BATCHES)
        assert [task.task_id for task in tasks] == BATCHES
        assert peer.connections <= 16


def test_many_tasks() -> None:
    """So do tasks that share an AsyncClient."""

    async def run(url: str) -> list[str]:
        async with AsyncClient(api_key="sk_test", base_url=url) as client:
            tasks = await asyncio.gather(*(client.cancel_batch("bkt_1", batch) for batch in BATCHES))
        return [task.task_id for task in tasks]

    with Peer(echo) as peer:
        assert asyncio.run(run(peer.url)) == BATCHES


@pytest.mark.parametrize(
    "script",
    [[HANG], [response()[:20], HANG], [response()[:-1], HANG]],
    ids=["no-response", "half-a-head", "half-a-body"],
)
def test_cancelled_call_leaks_no_connection(script: Script) -> None:
    """Calls that are cancelled in flight leave no connection behind, and the client can be used again."""

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
