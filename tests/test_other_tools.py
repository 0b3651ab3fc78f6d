"""What users' test tools, hooks and httpx clients do, with single calls and in bulk."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import vcr  # type: ignore[import-untyped]
from bulk import PAIRS, Caller, call_while, each_driver, many, our_threads, run, single, wait_until
from httpx_aiohttp import HttpxAiohttpClient
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from peer import HANG, TASK, Peer, ReceivedRequest, response
from pytest_httpx import HTTPXMock

from mixpeek_batches import APIConnectionError, AsyncClient, Client, ConfigurationError, MixpeekError

HOST = "https://api.mixpeek.com"
URLS = [f"{HOST}/v1/buckets/bkt_1/batches/{number}/cancel" for number in range(5)]

each_call = pytest.mark.parametrize(("call", "urls"), [(single, URLS[:1]), (many, URLS)], ids=["single", "many"])


def hook(driver: str, function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what makes an httpx client call a function with each response."""

    async def run(response: httpx.Response) -> None:
        outcome = function(response)
        if outcome is not None:
            await outcome

    return {"event_hooks": {"response": [function if driver == "threads" else run]}}


# Test tools


@each_driver
@each_call
def test_respx(driver: str, respx_mock: respx.MockRouter, call: Any, urls: list[str]) -> None:
    for url in urls:
        respx_mock.post(url).mock(httpx.Response(200, json=TASK))
    run(driver, call)
    assert all(route.call_count == 1 for route in respx_mock.routes)


@each_driver
@each_call
def test_pytest_httpx(driver: str, httpx_mock: HTTPXMock, call: Any, urls: list[str]) -> None:
    for url in urls:
        httpx_mock.add_response(method="POST", url=url, json=TASK)
    run(driver, call)  # the fixture fails if one was not requested


@each_driver
@each_call
def test_mock_transport(driver: str, monkeypatch: pytest.MonkeyPatch, call: Any, urls: list[str]) -> None:
    """A failure that the transport makes up costs a retry, like a real one."""
    monkeypatch.setattr("mixpeek_batches._retries.backoff", lambda _: 0.0)
    seen: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        if seen.count(seen[-1]) == 1:
            raise httpx.ReadError("made up")
        return httpx.Response(200, json=TASK)

    http = {"transport": httpx.MockTransport(respond)}
    run(driver, call, http=http, max_retries=1)
    assert sorted(seen) == sorted(urls * 2)
    seen.clear()
    with pytest.raises(APIConnectionError, match="made up"):
        run(driver, call, http=http, max_retries=0)


@each_driver
def test_vcrpy(driver: str, tmp_path: Path) -> None:
    """What was recorded is replayed, and the key can be kept out of the cassette."""
    recorder = vcr.VCR(cassette_library_dir=str(tmp_path), filter_headers=["authorization"])
    for call in (single, many):
        with Peer(response()) as peer:
            with recorder.use_cassette(f"{call.__name__}.yaml"):
                recorded = run(driver, call, base_url=peer.url, api_key="sk_secret")
            sent = len(peer.requests)
            with recorder.use_cassette(f"{call.__name__}.yaml", record_mode="none"):
                assert run(driver, call, base_url=peer.url) == recorded
            assert len(peer.requests) == sent > 0
        assert "sk_secret" not in (tmp_path / f"{call.__name__}.yaml").read_text()


@each_driver
@each_call
def test_opentelemetry(driver: str, call: Any, urls: list[str]) -> None:
    """Each request is a span of the trace in which the work was begun, and shows no key."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor: Any = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with Peer(response()) as peer, provider.get_tracer("test").start_as_current_span("ours"):
            run(driver, call, base_url=peer.url, api_key="sk_secret")
    finally:
        instrumentor.uninstrument()
    *spans, ours = exporter.get_finished_spans()
    requested = sorted(str((span.attributes or {})["http.url"]) for span in spans)
    assert requested == [url.replace(HOST, peer.url) for url in urls]
    assert {span.parent and span.parent.span_id for span in spans} == {ours.context and ours.context.span_id}
    assert "sk_secret" not in "".join(span.to_json() for span in spans)


# Hooks


@each_call
@pytest.mark.parametrize(
    ("driver", "error"),
    [
        *itertools.product(["threads", "asyncio", "trio"], [ZeroDivisionError, httpx.HTTPStatusError]),
        *itertools.product(["threads", "asyncio"], [asyncio.CancelledError]),
    ],
)
def test_hook_that_raises(driver: str, call: Any, urls: list[str], error: type[BaseException]) -> None:
    """What a hook raises, and is no failure of the network, comes out as it is, at once."""

    def fail(response: httpx.Response) -> None:
        if error is httpx.HTTPStatusError:
            response.raise_for_status()
        raise error

    with Peer(response(503)) as peer, pytest.raises(error):
        run(driver, call, base_url=peer.url, http=hook(driver, fail))
    assert len({request.line for request in peer.requests}) == len(peer.requests) <= len(urls)
    assert our_threads() == []


@each_driver
@each_call
def test_hook_that_reads_the_response(driver: str, call: Any, urls: list[str]) -> None:
    """A body that a hook has read already, and decompressed, is used as it is."""

    def read(response: httpx.Response) -> Any:
        return response.aread() if driver != "threads" else response.read()

    packed = response(200, gzip.compress(json.dumps(TASK).encode()), {"Content-Encoding": "gzip"})
    with Peer(packed) as peer:
        run(driver, call, base_url=peer.url, http=hook(driver, read))
    assert len(peer.requests) == len(urls)


# httpx clients of users


@each_driver
@each_call
def test_what_a_users_client_brings(driver: str, call: Any, urls: list[str]) -> None:
    """Its base URL is where requests go, its headers and cookies are sent, and its auth takes the place of a key."""
    with Peer(response(200, TASK, {"Set-Cookie": "c=d"})) as peer:
        headers = {"X-Trace": "7", "Authorization": "Bearer other"}
        http = {"base_url": f"{peer.url}/gateway", "headers": headers, "cookies": {"a": "b"}}
        run(driver, call, http=http)
        for api_key in (None, "sk_test"):
            run(driver, call, http=http | {"auth": ("user", "password")}, api_key=api_key)
        with pytest.raises(ConfigurationError, match="both"):
            run(driver, call, http=http, base_url=peer.url)
    assert len(peer.requests) == 3 * len(urls)
    for request in peer.requests:
        assert request.line.startswith(b"POST /gateway/v1/buckets/bkt_1/batches/")
        assert request.header("X-Trace") == b"7"
        assert (request.header("Cookie") or b"").endswith(b"a=b")
    sent = [request.header("Authorization") for request in peer.requests]
    assert sent == [b"Bearer sk_test"] * len(urls) + [b"Basic dXNlcjpwYXNzd29yZA=="] * 2 * len(urls)


@each_driver
def test_small_pool(driver: str) -> None:
    """Waiting for a connection is no part of `timeout`."""

    def slow(_: ReceivedRequest) -> bytes:
        time.sleep(0.15)
        return response()

    with Peer(slow) as peer:
        http = {"limits": httpx.Limits(max_connections=1)}
        assert len(run(driver, many, base_url=peer.url, http=http, timeout=0.4, max_retries=0)) == 5
    assert (len(peer.requests), peer.connections) == (5, 1)


@each_call
def test_httpx_aiohttp(call: Any, urls: list[str]) -> None:
    async def main(url: str) -> None:
        async with HttpxAiohttpClient() as http, AsyncClient(api_key="sk_1", base_url=url, http_client=http) as client:
            await call(client)

    with Peer(response()) as peer:
        asyncio.run(main(peer.url))
    assert len(peer.requests) == len(urls)


def test_leaving_while_a_users_client_hangs(connect: Callable[..., Caller]) -> None:
    """A thread that the user's httpx client blocks does not hold up the caller."""
    leaving = threading.Event()

    def respond(request: ReceivedRequest) -> bytes:
        if request.batch_id != "0":
            leaving.wait(10)
        return response()

    with Peer(respond) as peer, connect(peer.url, http_options={}) as client:
        results = client.cancel_batches(PAIRS)
        assert next(results).canceled
        started = time.monotonic()
        results.close()
        assert time.monotonic() - started < 3
        leaving.set()


@each_driver
@each_call
def test_users_client_that_is_closed_under_way(driver: str, call: Any, urls: list[str]) -> None:
    """That ends the work with an error of ours, and nothing goes on."""

    def close_under_way(client: Any) -> Any:
        http: Any = client._http
        close = http.close if isinstance(client, Client) else http.aclose
        return call_while(client, call, lambda: len(peer.requests) > 0, close)

    started = time.monotonic()
    with Peer([HANG]) as peer, pytest.raises(MixpeekError):
        run(driver, close_under_way, base_url=peer.url, http={}, timeout=0.5, max_retries=0)
    wait_until(lambda: our_threads() == [])
    assert time.monotonic() - started < 3
