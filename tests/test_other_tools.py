"""What users' test tools, hooks and httpx clients do with single calls and with bulk work."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import respx
import trio
import vcr  # type: ignore[import-untyped]
from bulk import our_threads
from httpx_aiohttp import HttpxAiohttpClient
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from peer import HANG, TASK, Peer, Request, response
from pytest_httpx import HTTPXMock

from mixpeek_batches import APIConnectionError, AsyncClient, Client, ConfigurationError, MixpeekError

HOST = "https://api.mixpeek.com"
PAIRS = [("bkt_1", f"btch_{number}") for number in range(5)]
BOTH = [f"{HOST}/v1/buckets/bkt_1/batches/{batch}/cancel" for batch in ("single", *(batch for _, batch in PAIRS))]

Answer = Callable[[httpx.Request], httpx.Response]
Use = Callable[..., Any]


@pytest.fixture(params=["threads", "asyncio", "trio"])
def runner(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def use(runner: str) -> Use:
    """Give a function that calls another with a client, or with an asynchronous one, and gives the result.

    `http` is what to make a httpx client with, for the client to send with.
    """

    def use(call: Callable[[Any], Any], http: dict[str, Any] | None = None, **options: Any) -> Any:
        options = {"api_key": "sk_secret", "max_retries": 1, **options}
        if runner == "threads":
            with contextlib.ExitStack() as stack:
                if http is not None:
                    options["http_client"] = stack.enter_context(httpx.Client(**http))
                return call(stack.enter_context(Client(**options)))

        async def run() -> Any:
            async with contextlib.AsyncExitStack() as stack:
                if http is not None:
                    options["http_client"] = await stack.enter_async_context(httpx.AsyncClient(**http))
                return await call(await stack.enter_async_context(AsyncClient(**options)))

        return trio.run(run) if runner == "trio" else asyncio.run(run())

    return use


def single(client: Any) -> Any:
    return client.cancel_batch("bkt_1", "single")


def bulk(client: Any) -> Any:
    """Cancel many, and raise the first error."""
    if isinstance(client, Client):
        return [result.unwrap() for result in client.cancel_batches(PAIRS)]

    async def run() -> Any:
        async with contextlib.aclosing(client.cancel_batches(PAIRS)) as results:  # as trio asks for
            return [result.unwrap() async for result in results]

    return run()


EACH_WAY = pytest.mark.parametrize(("call", "urls"), [(single, BOTH[:1]), (bulk, BOTH[1:])], ids=["single", "bulk"])


def hooks(runner: str, function: Callable[[Any], object]) -> dict[str, Any]:
    """Make an event hook of a function, and give what a httpx client is made with."""

    async def run(argument: Any) -> None:
        function(argument)

    return {"event_hooks": {"response": [function if runner == "threads" else run]}}


def line(url: str) -> bytes:
    return f"POST {url.removeprefix(HOST)} HTTP/1.1".encode()


# Test tools


@EACH_WAY
def test_respx(use: Use, respx_mock: respx.MockRouter, call: Any, urls: list[str]) -> None:
    for url in urls:
        respx_mock.post(url).mock(httpx.Response(200, json=TASK))
    use(call)
    assert all(route.call_count == 1 for route in respx_mock.routes)


@EACH_WAY
def test_pytest_httpx(use: Use, httpx_mock: HTTPXMock, call: Any, urls: list[str]) -> None:
    for url in urls:
        httpx_mock.add_response(method="POST", url=url, json=TASK)
    use(call)  # and each was asked for, or the fixture fails


@EACH_WAY
def test_failure_that_a_tool_makes_up(
    use: Use, respx_mock: respx.MockRouter, monkeypatch: pytest.MonkeyPatch, call: Any, urls: list[str]
) -> None:
    """A made-up failure of the network costs a retry, like a real one."""
    monkeypatch.setattr("mixpeek_batches._retries._FIRST_BACKOFF", 0.0)
    for url in urls:
        respx_mock.post(url).mock(side_effect=httpx.ReadError("made up"))
    with pytest.raises(APIConnectionError, match="made up"):
        use(call)
    assert max(route.call_count for route in respx_mock.routes) == 2


def test_vcrpy(use: Use, tmp_path: Path) -> None:
    """What was recorded is replayed, and the key can be kept out of the cassette."""
    recorder = vcr.VCR(cassette_library_dir=str(tmp_path), filter_headers=["authorization"])
    for call in (single, bulk):
        with Peer(response()) as peer:
            with recorder.use_cassette(f"{call.__name__}.yaml"):
                recorded = use(call, base_url=peer.url)
            sent = len(peer.requests)
            with recorder.use_cassette(f"{call.__name__}.yaml", record_mode="none"):
                assert use(call, base_url=peer.url) == recorded
            assert len(peer.requests) == sent > 0
        assert "sk_secret" not in (tmp_path / f"{call.__name__}.yaml").read_text()


@EACH_WAY
def test_mock_transport(use: Use, call: Any, urls: list[str]) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json=TASK)

    use(call, http={"transport": httpx.MockTransport(answer)})
    assert sorted(seen) == urls


@EACH_WAY
def test_opentelemetry(use: Use, call: Any, urls: list[str]) -> None:
    """Each request is a span, of the trace in which the work was begun, and shows no key."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor: Any = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with Peer(response()) as peer, provider.get_tracer("test").start_as_current_span("ours"):
            use(call, base_url=peer.url)
    finally:
        instrumentor.uninstrument()
    *spans, ours = exporter.get_finished_spans()
    assert sorted(str((span.attributes or {})["http.url"]) for span in spans) == [
        url.replace(HOST, peer.url) for url in urls
    ]
    assert {span.parent and span.parent.span_id for span in spans} == {ours.context and ours.context.span_id}
    assert "sk_secret" not in "".join(span.to_json() for span in spans)


# Hooks


@EACH_WAY
def test_hook_that_raises_for_status(use: Use, runner: str, call: Any, urls: list[str]) -> None:
    """What it raises comes out as it is, at once."""
    with Peer(response(503)) as peer, pytest.raises(httpx.HTTPStatusError):
        use(call, base_url=peer.url, http=hooks(runner, lambda response: response.raise_for_status()))
    assert {request.line for request in peer.requests} <= {line(url) for url in urls}
    assert len({request.line for request in peer.requests}) == len(peer.requests)
    assert our_threads() == []


@EACH_WAY
@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_hook_with_a_bug(use: Use, runner: str, call: Any, urls: list[str], error: type[BaseException]) -> None:
    """So does whatever else a hook raises, a cancelled task of its own too."""

    def fail(_: object) -> None:
        raise error

    if runner == "trio" and error is asyncio.CancelledError:
        return
    with Peer(response()) as peer, pytest.raises(error):
        use(call, base_url=peer.url, http=hooks(runner, fail))
    assert len({request.line for request in peer.requests}) == len(peer.requests)


@EACH_WAY
def test_hook_that_reads_the_response(use: Use, runner: str, call: Any, urls: list[str]) -> None:
    read = (lambda response: response.read()) if runner == "threads" else (lambda response: response.aread())

    async def aread(response: httpx.Response) -> None:
        await read(response)  # type: ignore[no-untyped-call]

    event_hooks = {"response": [read if runner == "threads" else aread]}
    with Peer(response()) as peer:
        use(call, base_url=peer.url, http={"event_hooks": event_hooks})
    assert len(peer.requests) == len(urls)


# httpx clients of users


@EACH_WAY
def test_small_pool(use: Use, call: Any, urls: list[str]) -> None:
    """Waiting for a connection is no part of `timeout`."""

    def slow(_: Request) -> list[bytes]:
        time.sleep(0.25)
        return [response()]

    with Peer(slow) as peer:
        use(call, base_url=peer.url, http={"limits": httpx.Limits(max_connections=1)}, timeout=0.4, max_retries=0)
    assert (len(peer.requests), peer.connections) == (len(urls), 1)


@EACH_WAY
def test_what_a_users_client_brings(use: Use, call: Any, urls: list[str]) -> None:
    """Its auth takes the place of a key, its cookies are sent, and its base URL is where requests go."""
    with Peer(response()) as peer:
        http = {"auth": ("user", "password"), "cookies": {"a": "b"}, "base_url": f"{peer.url}/gateway"}
        use(call, http=http, api_key=None)
        with pytest.raises(ConfigurationError, match="both"):
            use(call, http=http, base_url=peer.url)
    assert len(peer.requests) == len(urls)
    for request in peer.requests:
        assert request.line.startswith(b"POST /gateway/v1/buckets/bkt_1/batches/")
        assert (request.header("Authorization"), request.header("Cookie")) == (b"Basic dXNlcjpwYXNzd29yZA==", b"a=b")


@EACH_WAY
def test_httpx_aiohttp(call: Any, urls: list[str]) -> None:
    async def run(url: str) -> None:
        async with HttpxAiohttpClient() as http, AsyncClient(api_key="sk_1", base_url=url, http_client=http) as client:
            await call(client)

    with Peer(response()) as peer:
        asyncio.run(run(peer.url))
    assert len(peer.requests) == len(urls)


@EACH_WAY
def test_users_client_that_is_closed_under_way(use: Use, call: Any, urls: list[str]) -> None:
    """That ends the work with an error of ours, or one that names the cause, and nothing goes on."""

    def close(client: Any) -> Any:
        if isinstance(client, Client):
            assert client._http is not None
            threading.Timer(0.1, client._http.close).start()
            return call(client)

        async def run() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close_soon)
                await call(client)

        async def close_soon() -> None:
            await anyio.sleep(0.1)
            await client._http.aclose()

        return run()

    started = time.monotonic()
    with Peer([HANG]) as peer, pytest.raises((MixpeekError, ExceptionGroup)):
        use(close, base_url=peer.url, http={}, timeout=1, max_retries=0)
    assert time.monotonic() - started < 3
    assert our_threads() == []
