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
from peer import HANG, TASK, Drip, Peer, Request, Script, response

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
PAIRS = [("bkt_1", str(number)) for number in range(20)]
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
        gc.collect()
        before = descriptors(), threading.active_count()
        yield peer
        wait_until(lambda: not peer.open and descriptors() <= before[0] and threading.active_count() <= before[1], 2)
        nothing_more(peer)


def nothing_more(peer: Peer) -> None:
    """See that nothing is sent."""
    time.sleep(0.1)  # until the peer has read what was sent before
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


# ssl.SSLContext leaves a socket to the garbage collector where Ctrl-C ends its handshake.
@pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
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
    def run() -> None:
        next(results)
        results.close()

    next(results)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.mark.parametrize("end", [leave, fail, interrupt, throw, in_another_thread])
def test_end_by_whoever_reads(end: Callable[[Generator[CancelResult]], None]) -> None:
    """However it is let go of, the generator ends its work, though the client stays open."""
    with nothing_left(then([HANG], answered=8)) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):
            end(client.cancel_batches(endless(), concurrency=4))
        gc.collect()
        wait_until(lambda: not our_threads(), 2)
        nothing_more(peer)


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


def test_close_between_two_steps_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that had its transport already, but had not sent yet, does not send."""
    with Peer([HANG]) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        take = client._pool.take

        def take_and_close() -> Any:
            transport = take()
            client.close()
            return transport

        monkeypatch.setattr(client._pool, "take", take_and_close)
        with pytest.raises(APIConnectionError, match="closed"):
            client.cancel_batch("bkt_1", "0")
    assert peer.connections == 0


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
@pytest.mark.parametrize("answer", [response(), then([HANG])])
def test_a_script_that_leaves_its_results_behind_exits(body: str, answer: Any) -> None:
    """Whether it fails or just ends, and without a word about threads."""
    with Peer(answer) as peer:
        ended = subprocess.run(
            [sys.executable, "-c", _SCRIPT + body, peer.url],
            check=False,
            timeout=5,
            capture_output=True,
            text=True,
        )
    lines = ended.stderr.splitlines()
    if "raise" in body:
        assert lines[0].startswith("Traceback")
        assert lines[-1] in {"ZeroDivisionError", "KeyboardInterrupt"}
    else:
        assert (ended.returncode, lines) == (0, [])


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
        nothing_more(peer)


def test_one_pair_takes_one_thread_and_one_connection() -> None:
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches([("bkt_1", "btch_1")], concurrency=1000)
        assert next(results).canceled
        assert (len(our_threads()), peer.connections) == (1, 1)
        results.close()


def test_a_result_can_be_hashed() -> None:
    assert hash(CancelResult(bucket_identifier="bkt_1", batch_id="btch_1"))


# Processes that are forked


def in_a_fork(call: Callable[[], str]) -> str:
    """Call a function in a child process, and give what it gives, or the name of what it raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(3)
        try:
            text = call()
        except BaseException as error:
            text = type(error).__name__
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    assert os.waitpid(child, 0)[1] == 0
    return text


def by_batch(request: Request) -> bytes:
    return response(200, TASK | {"task_id": str(number_of(request))})


def test_a_forked_child_opens_its_own_connection() -> None:
    with Peer(by_batch) as peer, Client(api_key="sk_test", base_url=peer.url) as client:

        def child() -> str:
            task_id = client.cancel_batch("bkt_1", "2").task_id
            client.close()
            return task_id

        assert client.cancel_batch("bkt_1", "1").task_id == "1"
        assert in_a_fork(child) == "2"
        assert client.cancel_batch("bkt_1", "3").task_id == "3"
        assert peer.connections == 2


def test_an_asynchronous_client_in_a_forked_child() -> None:
    """What the child does, to close the client at once too, leaves the parent's connection alone."""
    with Peer(by_batch) as peer:
        client = AsyncClient(api_key="sk_test", base_url=peer.url)

        async def cancel(batch: str) -> str:
            return (await client.cancel_batch("bkt_1", batch)).task_id

        with asyncio.Runner() as runner:
            assert runner.run(cancel("1")) == "1"
            assert in_a_fork(lambda: asyncio.run(cancel("2"))) == "2"
            assert in_a_fork(lambda: str(asyncio.run(client.close()))) == "None"
            assert runner.run(cancel("3")) == "3"
            runner.run(client.close())
        assert peer.connections == 2


_LOOPS = """
import asyncio, sys, trio
from mixpeek_batches import AsyncClient
client = AsyncClient(api_key="sk_test", base_url=sys.argv[1])
async def cancel():
    await client.cancel_batch("bkt_1", "1")
    assert [result.error async for result in client.cancel_batches([("bkt_1", "1")] * 9)] == [None] * 9
asyncio.run(cancel())
asyncio.run(cancel())
trio.run(cancel)
asyncio.run(client.close())
"""


def test_one_event_loop_after_another() -> None:
    """An AsyncClient may be used in another event loop once the first is over."""
    with Peer(response()) as peer:
        subprocess.run([sys.executable, "-c", _LOOPS, peer.url], check=True, timeout=10)


@pytest.mark.parametrize("begun", [True, False])
def test_a_generator_in_a_forked_child(begun: bool) -> None:
    """One that has begun is not to be used in a child, and one that has not begins anew; the parent's goes on."""
    with Peer(by_batch) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches(("bkt_1", str(number)) for number in range(50))
        seen = [next(results)] if begun else []

        def child() -> str:
            own = list(results)
            assert all(result.unwrap().task_id == result.batch_id for result in own)
            return str(len(own))

        assert in_a_fork(child) == ("ConfigurationError" if begun else "50")
        seen += results
        assert sorted(int(result.unwrap().task_id) for result in seen) == list(range(50))


def test_an_asynchronous_generator_in_a_forked_child() -> None:
    with Peer(by_batch) as peer:
        client = AsyncClient(api_key="sk_test", base_url=peer.url)
        results = client.cancel_batches(("bkt_1", str(number)) for number in range(50))

        async def rest() -> list[CancelResult]:
            return [result async for result in results]

        async def first() -> list[CancelResult]:
            return [await anext(results)]

        with asyncio.Runner() as runner:
            seen = runner.run(first())
            # A loop of its own: a loop of before the fork shares what it polls with the parent.
            assert in_a_fork(lambda: str(len(asyncio.run(rest())))) == "ConfigurationError"
            seen += runner.run(rest())
            runner.run(client.close())
    assert sorted(int(result.unwrap().task_id) for result in seen) == list(range(50))


def test_multiprocessing_by_fork() -> None:
    """A pool that is forked while a generator is held works, with connections of its own."""
    with Peer(by_batch) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches(endless())
        next(results)
        queue = multiprocessing.get_context("fork").SimpleQueue()

        def work() -> None:
            pairs = [("bkt_1", str(number)) for number in range(1000, 1020)]
            queue.put(sorted(int(result.unwrap().task_id) for result in client.cancel_batches(pairs)))

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(5)
        assert process.exitcode == 0
        assert queue.get() == list(range(1000, 1020))
        assert next(results).error is None
        results.close()


# Odd threads


def test_pairs_from_a_cursor() -> None:
    """Pairs are advanced in the caller's own thread, as sqlite3 demands."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE batches (bucket, batch)")
    database.executemany("INSERT INTO batches VALUES (?, ?)", [("bkt_1", str(number)) for number in range(100)])
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = list(client.cancel_batches(database.execute("SELECT bucket, batch FROM batches")))
    database.close()
    assert [result.error for result in results] == [None] * 100


@each_runner
def test_context_variables(runner: str) -> None:
    """A hook sees those of whoever asked for the results."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    seen: set[str] = set()

    def hook(_: object) -> None:
        seen.add(tenant.get("none"))

    async def async_hook(_: object) -> None:
        hook(None)

    async def main() -> None:
        async with httpx.AsyncClient(event_hooks={"request": [async_hook]}) as http:
            client = AsyncClient(api_key="sk_test", base_url=peer.url, http_client=http)
            assert [result.error async for result in client.cancel_batches(PAIRS)] == [None] * len(PAIRS)

    token = tenant.set("ours")
    with Peer(response()) as peer:
        if runner == "threads":
            with httpx.Client(event_hooks={"request": [hook]}) as http:
                client = Client(api_key="sk_test", base_url=peer.url, http_client=http)
                assert [result.error for result in client.cancel_batches(PAIRS)] == [None] * len(PAIRS)
        else:
            trio.run(main) if runner == "trio" else asyncio.run(main())
    tenant.reset(token)
    assert seen == {"ours"}


def test_a_system_that_has_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that there are do the work; without any, the error says so, and nothing is stuck."""
    start, left = threading.Thread.start, 2

    def limited(thread: threading.Thread) -> None:
        nonlocal left
        if thread.name.startswith("mixpeek-batches"):
            left -= 1
            if left < 0:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with Peer(response()) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        assert [result.error for result in client.cancel_batches(PAIRS)] == [None] * len(PAIRS)
        assert peer.connections <= 2
        with pytest.raises(RuntimeError, match="thread"):
            list(client.cancel_batches(PAIRS))


_GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from mixpeek_batches import Client, ConfigurationError
def run(count):
    with Client(api_key="sk_test", base_url=sys.argv[1]) as client:
        results = list(client.cancel_batches([("bkt_1", str(number)) for number in range(count)]))
    assert all(result.canceled for result in results)
    return len(results)
assert run(20) == 20
runs = [gevent.spawn(run, count) for count in (50, 60)]
gevent.joinall(runs, raise_error=True)
assert [one.value for one in runs] == [50, 60]
client = Client(api_key="sk_test", base_url=sys.argv[2], max_retries=0)
def wait():
    try:
        list(client.cancel_batches([("bkt_1", "1")] * 20))
    except ConfigurationError as error:
        return str(error)
stuck = gevent.spawn(wait)
gevent.sleep(0.2)
client.close()
assert "closed" in stuck.get(timeout=2)
client = Client(api_key="sk_test", base_url=sys.argv[1])
results = client.cancel_batches([("bkt_1", "1")] * 100)
next(results)
"""


def test_gevent() -> None:
    """Runs in greenlets, two at once, end as those in threads do."""
    with Peer(response()) as peer, Peer([HANG]) as stuck:
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", _GREENLETS, peer.url, stuck.url],
            check=False,
            timeout=15,
            capture_output=True,
            text=True,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


# Connecting


def test_timeout_of_connecting_to_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time-out is that of the attempt, however many addresses of the host stay silent."""
    look_up = socket.getaddrinfo

    def three(host: str, *args: Any, **options: Any) -> Any:
        return look_up(host, *args, **options) * (3 if host == "localhost" else 1)

    monkeypatch.setattr(socket, "getaddrinfo", three)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(3):  # they fill its queue, and it answers no more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        client = Client(
            api_key="sk_test", base_url=f"http://localhost:{server.getsockname()[1]}", timeout=0.4, max_retries=0
        )
        started = time.monotonic()
        with pytest.raises(APITimeoutError):
            client.cancel_batch("bkt_1", "btch_1")
        assert time.monotonic() - started < 0.7
        client.close()
