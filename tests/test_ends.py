"""However bulk work ends, nothing of it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trio
from bulk import our_threads, wait_until
from peer import HANG, Drip, Peer, Request, Script, response

from mixpeek_batches import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    CancelResult,
    Client,
    ConfigurationError,
)

STUCK: dict[str, Script] = {
    "silent": [HANG],
    "dripping": [Drip(response(), 0.2)],
    "handshake": [HANG],  # asked for https, it says nothing
}
ALL_RUNNERS = ["threads", "asyncio", "trio"]


def endless() -> Iterator[tuple[str, str]]:
    return (("bkt_1", str(number)) for number in itertools.count())


def number_of(request: Request) -> int:
    return int(request.line.split(b"/")[5])


def then(script: Script, answered: int = 4) -> Callable[[Request], Script]:
    """Answer the first batches, and do something else to all that follow."""
    return lambda request: response() if number_of(request) < answered else script


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def nothing_left(*scripts: Any) -> Iterator[Peer]:
    """Serve, and see that soon after the block nothing is sent, open or running."""
    with Peer(*scripts) as peer:
        wait_until(lambda: peer.port > 0)
        before = descriptors(), threading.active_count()
        yield peer
        wait_until(lambda: not peer.open and (descriptors(), threading.active_count()) == before, 2)
        sent = peer.connections, len(peer.requests)
        time.sleep(0.1)
        assert (peer.connections, len(peer.requests)) == sent


def run(runner: str, call: Callable[[Any], Any], url: str, **options: Any) -> Any:
    """Call a function with a client, or with an asynchronous one in an event loop, and close the client."""
    options = {"api_key": "sk_test", "base_url": url, **options}
    if runner == "threads":
        with Client(**options) as client:
            return call(client)

    async def main() -> Any:
        async with AsyncClient(**options) as client:
            return await call(client)

    return trio.run(main) if runner == "trio" else asyncio.run(main())


# Ended from outside, while it waits for a server that is stuck


@pytest.fixture(params=STUCK)
def stuck(request: pytest.FixtureRequest, one_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the URL of a server that leaves requests open; a test that ends has left nothing behind."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_root))
    started = time.monotonic()
    with nothing_left(STUCK[request.param]) as peer:
        yield peer.url.replace("http:", "https:") if request.param == "handshake" else peer.url
        assert time.monotonic() - started < 3


def single(client: Any) -> Any:
    return client.cancel_batch("bkt_1", "0")


def bulk(client: Any) -> Any:
    if isinstance(client, Client):
        return list(client.cancel_batches(endless()))

    async def run() -> Any:
        return [result async for result in client.cancel_batches(endless())]

    return run()


each_runner = pytest.mark.parametrize("runner", ALL_RUNNERS)
each_call = pytest.mark.parametrize("call", [single, bulk])


@each_runner
@each_call
def test_closed_client(runner: str, call: Any, stuck: str) -> None:
    def closed(client: Any) -> Any:
        if runner == "threads":
            threading.Timer(0.3, client.close).start()
            return call(client)

        async def close() -> None:
            await anyio.sleep(0.3)
            await client.close()

        async def run() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                with pytest.raises((ConfigurationError, APIConnectionError), match="closed"):
                    await call(client)

        return run()

    with contextlib.ExitStack() as stack:
        if runner == "threads":
            stack.enter_context(pytest.raises((ConfigurationError, APIConnectionError), match="closed"))
        run(runner, closed, stuck)


@each_runner
@each_call
def test_ctrl_c(runner: str, call: Any, stuck: str) -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run(runner, call, stuck)


@pytest.mark.parametrize("runner", ["asyncio", "trio"])
@each_call
def test_cancelled_task(runner: str, call: Any, stuck: str) -> None:
    async def cancelled(client: AsyncClient) -> None:
        with anyio.move_on_after(0.3) as scope:
            await call(client)
        assert scope.cancelled_caught

    run(runner, cancelled, stuck)


# Ended from inside, by whoever reads the results


def leave(results: Generator[CancelResult]) -> None:
    for _ in results:
        break


def fail(results: Generator[CancelResult]) -> None:
    for _ in results:
        raise ZeroDivisionError


def interrupt(results: Generator[CancelResult]) -> None:
    for _ in results:
        raise KeyboardInterrupt


def throw(results: Generator[CancelResult]) -> None:
    next(results)
    results.throw(ZeroDivisionError)


def in_another_thread(results: Generator[CancelResult]) -> None:
    next(results)
    thread = threading.Thread(target=lambda: (next(results), results.close()))
    thread.start()
    thread.join()


@pytest.mark.parametrize("end", [leave, fail, interrupt, throw, in_another_thread])
def test_end_by_whoever_reads(end: Callable[[Generator[CancelResult]], None]) -> None:
    """However it is let go of, the generator ends its work, though the client stays open."""
    with nothing_left(then([HANG], answered=8)) as peer, contextlib.ExitStack() as stack:
        client = Client(api_key="sk_test", base_url=peer.url)
        with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):
            end(client.cancel_batches(endless(), concurrency=4))
        gc.collect()
        wait_until(lambda: not our_threads(), 2)
        sent = len(peer.requests)
        time.sleep(0.1)
        assert len(peer.requests) == sent
        stack.callback(client.close)


def test_end_while_kept_connections_wait() -> None:
    """What is aborted on a connection that was used before is not taken for lost, and sent again."""
    with nothing_left(then([HANG])) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches(endless(), concurrency=4)
        assert len(list(itertools.islice(results, 4))) == 4
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
        wait_until(lambda: not our_threads(), 2)
        assert len(peer.requests) == 8


def test_generator_of_which_a_loop_is_left_with_results() -> None:
    """An event loop that ends while somebody holds the generator ends the work."""
    held: list[Any] = []

    async def begin(client: AsyncClient) -> None:
        held.append(client.cancel_batches(endless()))
        await anext(held[0])

    with nothing_left(then([HANG])) as peer:
        run("asyncio", begin, peer.url)


def test_task_of_the_event_loop_that_is_cancelled() -> None:
    """Who cancels all tasks but the one that reads, as some do to shut down, ends the work too."""

    async def begin(client: AsyncClient) -> None:
        results = client.cancel_batches(endless())
        await anext(results)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        async for _ in results:
            pass

    with nothing_left(then([HANG])) as peer, pytest.raises(asyncio.CancelledError):
        run("asyncio", begin, peer.url)


@each_runner
def test_close_wakes_who_waits_to_retry(runner: str) -> None:
    """Nothing is sent after the client was closed, and nobody waits for the time of the retry."""

    def close_at_the_first_retry(client: Any) -> Any:
        if runner == "threads":
            threading.Timer(0.3, client.close).start()
            return client.cancel_batch("bkt_1", "0")

        async def close() -> None:
            await anyio.sleep(0.3)
            await client.close()

        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                await client.cancel_batch("bkt_1", "0")

        return both()

    started = time.monotonic()
    with (
        nothing_left(response(503, headers={"Retry-After": "30"})) as peer,
        pytest.raises((APIStatusError, ExceptionGroup)),
    ):
        run(runner, close_at_the_first_retry, peer.url)
    assert time.monotonic() - started < 2
    assert len(peer.requests) == 1

_SCRIPT = """
import itertools, sys
from mixpeek_batches import Client
client = Client(api_key="sk_test", base_url=sys.argv[1])
results = client.cancel_batches(("bkt_1", str(number)) for number in itertools.count())
"""


@pytest.mark.parametrize(
    "body", ["next(results)", "for _ in results: raise ZeroDivisionError", "for _ in results: raise KeyboardInterrupt"]
)
def test_a_script_that_leaves_its_results_behind_exits(body: str) -> None:
    with Peer(response()) as peer:
        subprocess.run(
            [sys.executable, "-c", _SCRIPT + body, peer.url], check=False, timeout=5, stderr=subprocess.DEVNULL
        )


@pytest.mark.parametrize("answer", [response(), [HANG]])
def test_ctrl_c_ends_the_process(answer: bytes) -> None:
    with Peer(answer) as peer:
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT + "for _ in results: pass", peer.url], stderr=subprocess.DEVNULL
        )
        wait_until(lambda: len(peer.requests) > 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == -signal.SIGINT


@pytest.mark.parametrize("answer", [response(), [HANG]])
def test_close_in_another_thread_ends_the_work(answer: bytes) -> None:
    with Peer(answer) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        threading.Timer(0.2, client.close).start()
        with pytest.raises(ConfigurationError, match="closed"):
            for _ in client.cancel_batches(("bkt_1", str(number)) for number in range(10**6)):
                pass
        wait_until(lambda: not our_threads() and not peer.open, 2)
        sent = len(peer.requests)
        time.sleep(0.2)
        assert len(peer.requests) == sent


def test_one_pair_takes_one_thread_and_one_connection() -> None:
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches([("bkt_1", "btch_1")], concurrency=1000)
        assert next(results).canceled
        assert (len(our_threads()), peer.connections) == (1, 1)
        results.close()


def test_a_result_can_be_hashed() -> None:
    assert hash(CancelResult(bucket_identifier="bkt_1", batch_id="btch_1"))


def test_a_forked_child_opens_its_own_connection() -> None:
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        client.cancel_batch("bkt_1", "parent")
        child = os.fork()
        if not child:
            client.cancel_batch("bkt_1", "child")
            client.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.cancel_batch("bkt_1", "parent")
        assert peer.connections == 2
