"""However work ends, nothing of it continues."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from bulk import (
    Caller,
    call_while,
    each_driver,
    each_loop,
    many,
    our_threads,
    run,
    single,
    wait_in_loop_until,
    wait_until,
    when,
)
from peer import CLOSE, HANG, TASK, Drip, Peer, ReceivedRequest, Script, echo, response

from mixpeek_batches import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    CancelResult,
    Client,
    ConfigurationError,
)

Connect = Callable[..., Caller]


def endless() -> Iterator[tuple[str, str]]:
    return (("bkt_1", str(number)) for number in itertools.count())


def endless_many(client: Any) -> Any:
    return many(client, endless())


def first_then_hang(first: Script, count: int = 4) -> Callable[[ReceivedRequest], Script]:
    """Return a script for the first batches that leaves all that follow without a response."""
    return lambda request: first if int(request.batch_id) < count else [HANG]


def interrupt() -> None:
    """Send Ctrl-C, once all that was begun waits: trio raises it in whichever code is running, as part of a group."""
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def nothing_left(script: Any) -> Iterator[Peer]:
    """Serve, and check that soon after the block no connection, descriptor or thread is left that could send."""

    def left() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    with Peer(script) as peer:
        descriptors, threads = left()
        yield peer
        wait_until(lambda: not peer.open and left()[0] <= descriptors and left()[1] <= threads, 2)


# Ended from outside, while it is in flight

BUSY: dict[str, tuple[Callable[[Any], Any], Script]] = {
    "silent": (single, [HANG]),
    "dripping": (single, [Drip(response())]),
    "handshake": (single, [HANG]),  # of https, to which it sends nothing
    "silent-many": (endless_many, [HANG]),
    "responding-many": (endless_many, response()),
}
Busy = tuple[Callable[[Any], Any], str, Callable[[], bool]]


@pytest.fixture(params=BUSY)
def busy(request: pytest.FixtureRequest, one_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    """Return a call, the URL that keeps it in flight, and whether it is; afterwards nothing is left of it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_root))
    call, script = BUSY[request.param]
    started = time.monotonic()
    with nothing_left(script) as peer:
        if request.param == "handshake":
            yield call, f"https://127.0.0.1:{peer.port}", lambda: peer.connections > 0
        else:
            yield call, peer.url, lambda: len(peer.requests) > 0
        assert time.monotonic() - started < 3


@each_driver
def test_closed_client(driver: str, busy: Busy) -> None:
    """Closing a client in another thread or task ends its calls at once, with one of our errors."""
    call, url, ready = busy
    with pytest.raises((ConfigurationError, APIConnectionError), match="closed"):
        run(driver, lambda client: call_while(client, call, ready, client.close), base_url=url)


# ssl.SSLContext leaves a socket to the garbage collector where Ctrl-C ends its handshake.
@pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
@each_driver
@pytest.mark.parametrize("busy", ["silent", "dripping", "handshake", "silent-many"], indirect=True)
def test_ctrl_c(driver: str, busy: Busy) -> None:
    """So does Ctrl-C."""
    call, url, ready = busy
    with pytest.raises(KeyboardInterrupt), when(ready, interrupt):
        run(driver, call, base_url=url)


@each_loop
def test_cancelled_task(driver: str, busy: Busy) -> None:
    """So does cancelling the task."""
    call, url, ready = busy

    async def cancelled(client: AsyncClient) -> None:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                scope.cancel()

            await call_while(client, call, ready, cancel)
        assert scope.cancelled_caught

    run(driver, cancelled, base_url=url)


@each_driver
def test_close_ends_the_wait_for_a_retry(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """A closed client sends nothing more, and a call that waits to retry raises at once."""

    def close_after_the_first(client: Any) -> Any:
        return call_while(client, single, lambda: "next in" in caplog.text, client.close)

    started = time.monotonic()
    with nothing_left(response(503, headers={"Retry-After": "30"})) as peer, pytest.raises(APIStatusError):
        run(driver, close_after_the_first, base_url=peer.url)
    assert time.monotonic() - started < 3
    assert len(peer.requests) == 1


def test_close_between_two_steps_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that has its transport, but has not sent yet, does not send."""
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


def test_end_while_kept_connections_wait() -> None:
    """A request aborted on a kept connection is not mistaken for a stale one and sent again."""
    with nothing_left(first_then_hang(response())) as peer, Client(api_key="sk_test", base_url=peer.url) as client:
        results = client.cancel_batches(endless(), concurrency=4)
        assert len(list(itertools.islice(results, 4))) == 4
        with pytest.raises(KeyboardInterrupt), when(lambda: len(peer.requests) == 8, interrupt):
            next(results)
        wait_until(lambda: not our_threads(), 2)
        assert len(peer.requests) == 8


# Ended by the code that reads the results

AND_CLOSE: Script = [response(200, TASK, {"Connection": "close"}), CLOSE]


def leave(results: Generator[CancelResult]) -> None:
    for _ in results:
        break


def fail(results: Generator[CancelResult]) -> None:
    for _ in results:
        raise KeyboardInterrupt


def throw(results: Generator[CancelResult]) -> None:
    next(results)
    results.throw(ZeroDivisionError)


def close_in_another_thread(results: Generator[CancelResult]) -> None:
    next(results)
    thread = threading.Thread(target=results.close)
    thread.start()
    thread.join()


@pytest.mark.parametrize("end", [leave, fail, throw, close_in_another_thread])
def test_end_by_the_reader(connect: Connect, end: Callable[[Generator[CancelResult]], None]) -> None:
    """However the generator is left, its work ends, though the client stays open."""
    with nothing_left(first_then_hang(AND_CLOSE, 8)) as peer, connect(peer.url) as client:
        with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):
            end(client.cancel_batches(endless(), concurrency=4))
        wait_until(lambda: not our_threads() and not peer.open, 2)
    assert len(peer.requests) <= 12


@each_loop
def test_close_in_another_task(driver: str) -> None:
    """A generator may be closed in another task than the one that reads."""

    async def close(client: AsyncClient) -> None:
        results = client.cancel_batches(endless(), concurrency=4)
        await anext(results)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(results.aclose)
        await wait_in_loop_until(lambda: not peer.open, 2)

    with nothing_left(first_then_hang(AND_CLOSE, 8)) as peer:
        run(driver, close, base_url=peer.url)
    assert len(peer.requests) <= 12


@each_loop
def test_end_while_asynchronous_pairs_wait(driver: str) -> None:
    """Results may be left while asynchronous pairs wait."""

    async def pairs() -> AsyncGenerator[tuple[str, str]]:
        yield "bkt_1", "0"
        await anyio.sleep(30)

    async def consume(client: AsyncClient) -> None:
        async with contextlib.aclosing(client.cancel_batches(pairs())) as results:
            assert (await anext(results)).canceled

    started = time.monotonic()
    with nothing_left(response()) as peer:
        run(driver, consume, base_url=peer.url)
    assert time.monotonic() - started < 3


def test_event_loop_that_ends_while_the_generator_is_held() -> None:
    held: list[Any] = []

    async def begin(client: AsyncClient) -> None:
        held.append(client.cancel_batches(endless()))
        await anext(held[0])

    with nothing_left(first_then_hang(response())) as peer:
        run("asyncio", begin, base_url=peer.url)


def test_tasks_of_the_loop_are_cancelled() -> None:
    """Cancelling all tasks but the one that reads, as some do to shut down, ends the work too."""

    async def begin(client: AsyncClient) -> None:
        results = client.cancel_batches(endless())
        await anext(results)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        async for _ in results:
            pass

    with nothing_left(first_then_hang(response())) as peer, pytest.raises(asyncio.CancelledError):
        run("asyncio", begin, base_url=peer.url)


# Processes that end

SCRIPT = """
import itertools, sys
from mixpeek_batches import Client
client = Client(api_key="sk_test", base_url=sys.argv[1])
results = client.cancel_batches(("bkt_1", str(number)) for number in itertools.count())
"""


@pytest.mark.parametrize(
    ("body", "code", "last_lines"),
    [
        ("next(results)", 0, []),
        ("for _ in results: raise ZeroDivisionError", 1, ["ZeroDivisionError"]),
        ("for _ in results: pass", -signal.SIGINT, ["KeyboardInterrupt"]),
    ],
    ids=["exit", "exception", "ctrl-c"],
)
def test_script_that_leaves_its_results_exits(body: str, code: int, last_lines: list[str]) -> None:
    """At once, whatever is in flight, and with nothing about threads on stderr."""
    with Peer(lambda request: [HANG] if request.batch_id.endswith("9") else response()) as peer:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT + body, peer.url], stderr=subprocess.PIPE, text=True)
        if code < 0:
            wait_until(lambda: len(peer.requests) > 20)
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == code
    assert errors.splitlines()[-1:] == last_lines
    assert errors.count("Traceback") == len(last_lines)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_event_loop_after_another() -> None:
    """An AsyncClient may be used in another event loop once the first is over."""
    with Peer(response()) as peer:
        client = AsyncClient(api_key="sk_test", base_url=peer.url)

        async def cancel(_: AsyncClient) -> None:
            await client.cancel_batch("bkt_1", "1")
            assert len(await many(client)) == 5

        for driver in ("asyncio", "asyncio", "trio"):
            run(driver, cancel)
        asyncio.run(client.close())
        gc.collect()  # the connections of the loops that are over, which could not be closed


# Processes that are forked


def in_a_fork(call: Callable[[], object]) -> str:
    """Call a function in a child process, and return the text of what it returns, or the name of what it raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(5)
        try:
            text = str(call())
        except BaseException as error:
            text = type(error).__name__
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return text


def test_client_in_a_forked_child(connect: Connect) -> None:
    """It opens its own connection, and leaves the parent's alone, even if it is closed at once."""
    with Peer(echo) as peer, connect(peer.url) as client:

        def cancel() -> str:
            client.use_new_loop()
            return client.cancel_batch("bkt_1", "2").task_id

        def close() -> None:
            client.use_new_loop()
            client.close()

        assert client.cancel_batch("bkt_1", "1").task_id == "1"
        assert in_a_fork(cancel) == "2"
        assert in_a_fork(close) == "None"
        assert client.cancel_batch("bkt_1", "3").task_id == "3"
        assert peer.connections == 2


@pytest.mark.parametrize("begun", [True, False])
def test_generator_in_a_forked_child(connect: Connect, begun: bool) -> None:
    """One that has begun cannot be used in a child, but a new one can; the parent's continues."""
    with Peer(echo) as peer, connect(peer.url) as client:
        results = client.cancel_batches(("bkt_1", str(number)) for number in range(50))
        seen = [next(results).unwrap().task_id] if begun else []

        def use() -> int:
            client.use_new_loop()
            return len({result.unwrap().task_id for result in results})

        def use_another() -> int:
            client.use_new_loop()
            return len({result.unwrap().task_id for result in client.cancel_batches([("b", "1"), ("b", "2")])})

        assert in_a_fork(use) == ("ConfigurationError" if begun else "50")
        assert in_a_fork(use_another) == "2"
        seen += [result.unwrap().task_id for result in results]
        assert sorted(seen, key=int) == [str(number) for number in range(50)]


# Unusual threads and addresses


def test_system_out_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that exist do the work; without any, the error is raised."""
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
        assert len(many(client, [("bkt_1", "0")] * 20)) == 20
        assert peer.connections <= 2
        with pytest.raises(RuntimeError, match="thread"):
            many(client)


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from mixpeek_batches import Client, ConfigurationError
def run(count):
    with Client(api_key="sk_test", base_url=sys.argv[1]) as client:
        return sum(result.canceled for result in client.cancel_batches([("bkt_1", "1")] * count))
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
    """Runs in greenlets, two at once, end as runs in threads do."""
    with Peer(response()) as peer, Peer([HANG]) as stuck:
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", GREENLETS, peer.url, stuck.url],
            check=False,
            timeout=15,
            capture_output=True,
            text=True,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_timeout_of_connecting_to_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time-out bounds the attempt, however many addresses of the host do not respond."""
    look_up = socket.getaddrinfo

    def five(host: str, *args: Any, **options: Any) -> Any:
        return look_up(host, *args, **options) * (5 if host == "localhost" else 1)

    monkeypatch.setattr(socket, "getaddrinfo", five)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(3):  # they fill its backlog, so that it accepts no more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        url = f"http://localhost:{server.getsockname()[1]}"
        client = stack.enter_context(Client(api_key="sk_test", base_url=url, timeout=0.3, max_retries=0))
        started = time.monotonic()
        with pytest.raises(APITimeoutError):
            client.cancel_batch("bkt_1", "btch_1")
        assert time.monotonic() - started < 1
