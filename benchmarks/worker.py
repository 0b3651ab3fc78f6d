"""One contestant, run in an environment that holds nothing but it and what it needs.

Usage: python benchmarks/worker.py CONTESTANT URL [IN_FLIGHT]

Each line of standard input is a number of batches to cancel; each line of standard output says how that went.
"""

import asyncio
import contextlib
import email.utils
import importlib
import json
import socket
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

KEY = "sk_mock_0123456789abcdef"
BUCKET = "bkt_products"
HEADERS = {"Authorization": f"Bearer {KEY}"}

Measure = Callable[[int], dict[str, float]]
"""Cancels so many batches, and gives figures."""


def one_by_one(call: Callable[[], object]) -> Measure:
    """Make a measure of one call at a time: the median of them."""

    def measure(count: int) -> dict[str, float]:
        took = []
        for _ in range(count):
            started = time.perf_counter()
            call()
            took.append(time.perf_counter() - started)
        return {"seconds": statistics.median(took)}

    return measure


def call_ours(url: str, _: int) -> Measure:
    """Use Client.cancel_batch."""
    client = importlib.import_module("mixpeek_batches").Client(api_key=KEY, base_url=url)
    return one_by_one(lambda: client.cancel_batch(BUCKET, "btch_123"))


def call_httpx(url: str, _: int) -> Measure:
    """Use bare httpx, with no check of anything."""
    client = importlib.import_module("httpx").Client(headers=HEADERS, timeout=30)
    address = f"{url}/v1/buckets/{BUCKET}/batches/btch_123/cancel"
    return one_by_one(lambda: client.post(address).json())


def call_stock(url: str, _: int) -> Measure:
    """Use what openapi-python-client makes of openapi.yaml by itself."""
    client = importlib.import_module("stock_client").AuthenticatedClient(base_url=url, token=KEY)
    operation = importlib.import_module("stock_client.api.batches.cancel_batch")
    return one_by_one(lambda: operation.sync(BUCKET, "btch_123", client=client))


def _vendor(url: str) -> Any:
    sdk = importlib.import_module("mixpeek")
    configuration = sdk.Configuration(host=url, access_token=KEY)
    client = sdk.ApiClient(configuration, header_name="Authorization", header_value=HEADERS["Authorization"])
    return sdk.BucketBatchesApi(client)


def in_all(job: Callable[[int], int | Coroutine[Any, Any, int]]) -> Measure:
    """Make a measure of a whole job, from making the client to closing it."""

    def measure(count: int) -> dict[str, float]:
        started = time.perf_counter()
        done = job(count)
        canceled = done if isinstance(done, int) else asyncio.run(done)
        return {"seconds": time.perf_counter() - started, "canceled": canceled}

    return measure


def pairs(count: int) -> list[tuple[str, str]]:
    """Name so many batches."""
    return [(BUCKET, f"btch_{number}") for number in range(count)]


def bulk_async(url: str, in_flight: int, make: Callable[[], Any] = contextlib.nullcontext) -> Measure:
    """Use AsyncClient.cancel_batches."""
    ours = importlib.import_module("mixpeek_batches")

    async def run(count: int) -> int:
        async with make() as http, ours.AsyncClient(api_key=KEY, base_url=url, http_client=http) as client:
            return sum([r.canceled async for r in client.cancel_batches(pairs(count), concurrency=in_flight)])

    return in_all(run)


def bulk_sync(url: str, in_flight: int) -> Measure:
    """Use Client.cancel_batches."""
    ours = importlib.import_module("mixpeek_batches")

    def run(count: int) -> int:
        with ours.Client(api_key=KEY, base_url=url) as client:
            return sum(result.canceled for result in client.cancel_batches(pairs(count), concurrency=in_flight))

    return in_all(run)


def bulk_httpx(url: str, in_flight: int, make: Callable[[], Any] | None = None) -> Measure:
    """Use httpx.AsyncClient as people do: a task each, a semaphore, and no retries."""
    httpx = importlib.import_module("httpx")

    async def run(count: int) -> int:
        semaphore = asyncio.Semaphore(in_flight)
        async with make() if make else httpx.AsyncClient(timeout=30) as client:

            async def cancel(bucket: str, batch: str) -> bool:
                async with semaphore:
                    answer = await client.post(f"{url}/v1/buckets/{bucket}/batches/{batch}/cancel", headers=HEADERS)
                return bool(answer.json()["status"] == "CANCELED")

            return sum(await asyncio.gather(*(cancel(*pair) for pair in pairs(count))))

    return in_all(run)


def retrying_httpx(url: str, in_flight: int) -> Measure:
    """Use httpx.AsyncClient with a semaphore and retries: three attempts, which honour Retry-After."""
    httpx = importlib.import_module("httpx")

    def seconds(header: str | None, attempt: int) -> float:
        if header is None:
            return 0.5 * float(2**attempt)
        if header.isdecimal():
            return float(header)
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())

    async def run(count: int) -> int:
        semaphore = asyncio.Semaphore(in_flight)
        async with httpx.AsyncClient(headers=HEADERS, timeout=30) as client:

            async def cancel(bucket: str, batch: str) -> bool:
                async with semaphore:
                    for attempt in range(3):
                        answer = await client.post(f"{url}/v1/buckets/{bucket}/batches/{batch}/cancel")
                        if answer.status_code not in {429, 503}:
                            break
                        if attempt < 2:
                            await asyncio.sleep(seconds(answer.headers.get("retry-after"), attempt))
                    return bool(answer.is_success)

            return sum(await asyncio.gather(*(cancel(*pair) for pair in pairs(count))))

    return in_all(run)


def _aiohttp() -> Any:
    return importlib.import_module("httpx_aiohttp").HttpxAiohttpClient(timeout=30)


def bulk_async_given(url: str, in_flight: int) -> Measure:
    """Use AsyncClient.cancel_batches with httpx-aiohttp's client."""
    return bulk_async(url, in_flight, _aiohttp)


def bulk_httpx_aiohttp(url: str, in_flight: int) -> Measure:
    """Use httpx-aiohttp's client as httpx.AsyncClient is used."""
    return bulk_httpx(url, in_flight, _aiohttp)


def bulk_vendor(url: str, in_flight: int) -> Measure:
    """Use the vendor's SDK in threads."""

    def run(count: int) -> int:
        api = _vendor(url)
        with ThreadPoolExecutor(in_flight) as pool:
            tasks = list(pool.map(lambda pair: api.cancel_batch_buckets_batches(*pair), pairs(count)))
        return sum(task.to_dict()["status"] == "CANCELED" for task in tasks)

    return in_all(run)


def memory(url: str, in_flight: int) -> Measure:
    """Send a stream of pairs through AsyncClient.cancel_batches, of which every fiftieth is a request.

    The others hold an identifier that is refused before anything is sent, since a million requests take too long.
    """
    ours = importlib.import_module("mixpeek_batches")
    peak_memory = importlib.import_module("importing").peak_memory

    def stream(count: int) -> Iterator[tuple[str, str]]:
        for number in range(count):
            yield BUCKET, ".." if number % 50 else f"btch_{number}"

    async def run(count: int) -> dict[str, float]:
        async with ours.AsyncClient(api_key=KEY, base_url=url) as client:
            async for _ in client.cancel_batches(stream(count), concurrency=in_flight):
                pass
        return {"mebibytes": peak_memory()}

    return lambda count: asyncio.run(run(count))


def load(url: str, batches: int) -> Measure:
    """Load a server over 16 kept connections, on bare sockets so that this takes little of the machine."""
    address = "127.0.0.1", int(url.rpartition(":")[2])
    requests = [
        f"POST /v1/buckets/{BUCKET}/batches/btch_{number * 7919 % batches}/cancel HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n".encode()
        for number in range(min(batches, 1000))
    ]

    def receive(connection: socket.socket) -> None:
        received = b""
        while True:
            received += connection.recv(65536)
            head, found, body = received.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head)
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if found and (len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n")):
                return

    def run(count: int) -> int:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(socket.create_connection(address)) for _ in range(16)]
            for number in range(count + 16):  # each in turn: its answer, and then its next request
                connection = connections[number % 16]
                if number >= 16:
                    receive(connection)
                if number < count:
                    connection.sendall(requests[number % len(requests)])
        return count

    return in_all(run)


def main() -> None:
    """Run the contestant that the arguments name."""
    name, url, *more = sys.argv[1:]
    measure: Measure = globals()[name](url, int(more[0]) if more else 1)
    for line in sys.stdin:
        print(json.dumps(measure(int(line))), flush=True)


if __name__ == "__main__":
    main()
