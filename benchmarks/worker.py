"""One contestant, run in an environment that holds nothing but it and what it needs.

Usage: python benchmarks/worker.py CONTESTANT URL [IN_FLIGHT]

Each line of standard input is a number of batches to cancel; each line of standard output is the figures of that.
"""

import asyncio
import contextlib
import http.client
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

KEY = "sk_mock_0123456789abcdef"
BUCKET = "bkt_products"
HEADERS = {"Authorization": f"Bearer {KEY}"}

Measure = Callable[[int], dict[str, float]]
"""Cancels so many batches, and returns figures."""


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


def _httpx() -> Any:
    return importlib.import_module("httpx").AsyncClient(timeout=30)


def _aiohttp() -> Any:
    return importlib.import_module("httpx_aiohttp").HttpxAiohttpClient(timeout=30)


def bulk_httpx(url: str, in_flight: int, make: Callable[[], Any] = _httpx, attempts: int = 1) -> Measure:
    """Use httpx.AsyncClient as people do: a task each, a semaphore, and attempts that honour Retry-After in seconds."""

    async def run(count: int) -> int:
        semaphore = asyncio.Semaphore(in_flight)
        async with make() as client:

            async def cancel(bucket: str, batch: str) -> bool:
                address = f"{url}/v1/buckets/{bucket}/batches/{batch}/cancel"
                async with semaphore:
                    response = await client.post(address, headers=HEADERS)
                    for attempt in range(1, attempts):
                        if response.status_code != 429:
                            break
                        await asyncio.sleep(float(response.headers.get("retry-after", 0.25 * 2**attempt)))
                        response = await client.post(address, headers=HEADERS)
                return bool(response.is_success and response.json()["status"] == "CANCELED")

            return sum(await asyncio.gather(*(cancel(*pair) for pair in pairs(count))))

    return in_all(run)


def retrying_httpx(url: str, in_flight: int) -> Measure:
    """Use httpx.AsyncClient with three attempts."""
    return bulk_httpx(url, in_flight, attempts=3)


def bulk_async_given(url: str, in_flight: int) -> Measure:
    """Use AsyncClient.cancel_batches with httpx-aiohttp's client."""
    return bulk_async(url, in_flight, _aiohttp)


def bulk_httpx_aiohttp(url: str, in_flight: int) -> Measure:
    """Use httpx-aiohttp's client as httpx.AsyncClient is used."""
    return bulk_httpx(url, in_flight, _aiohttp)


def bulk_vendor(url: str, in_flight: int) -> Measure:
    """Use the vendor's SDK in threads."""
    sdk = importlib.import_module("mixpeek")
    configuration = sdk.Configuration(host=url, access_token=KEY)
    client = sdk.ApiClient(configuration, header_name="Authorization", header_value=HEADERS["Authorization"])
    api = sdk.BucketBatchesApi(client)

    def run(count: int) -> int:
        with ThreadPoolExecutor(in_flight) as pool:
            tasks = list(pool.map(lambda pair: api.cancel_batch_buckets_batches(*pair), pairs(count)))
        return sum(task.to_dict()["status"] == "CANCELED" for task in tasks)

    return in_all(run)


def load(url: str, connections: int) -> Measure:
    """Load a server over kept connections, each in turn: its response, and then its next request."""
    path = f"/v1/buckets/{BUCKET}/batches/btch_{{}}/cancel"

    def run(count: int) -> int:
        opened = [http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2])) for _ in range(connections)]
        with contextlib.ExitStack() as stack:
            for connection in opened:
                stack.callback(connection.close)
            for number in range(count + connections):
                connection = opened[number % connections]
                if number >= connections:
                    response = connection.getresponse()
                    response.read()
                    if response.status != 200:
                        raise RuntimeError(response.status)
                if number < count:
                    connection.request("POST", path.format(number % 10), headers=HEADERS)
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
