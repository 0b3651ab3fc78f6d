"""One contestant, run in an environment that holds nothing but it and what it needs.

Usage: python benchmarks/worker.py CONTESTANT URL [CONCURRENCY]

Each line of standard input is a number of batches to cancel; each line of standard output says how that went.
"""

import asyncio
import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
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


def call_vendor(url: str, _: int) -> Measure:
    """Use the vendor's SDK."""
    api = _vendor(url)
    return one_by_one(lambda: api.cancel_batch_buckets_batches(BUCKET, "btch_123"))


def in_all(job: Callable[[int], int]) -> Measure:
    """Make a measure of a whole job, from making the client to closing it."""

    def measure(count: int) -> dict[str, float]:
        started = time.perf_counter()
        done = job(count)
        took = time.perf_counter() - started
        if done != count:
            raise RuntimeError(f"{done} of {count} were cancelled")
        return {"rate": count / took}

    return measure


def pairs(count: int) -> list[tuple[str, str]]:
    """Name so many batches."""
    return [(BUCKET, f"btch_{number}") for number in range(count)]


def bulk_async(url: str, concurrency: int) -> Measure:
    """Use AsyncClient.cancel_batches."""
    ours = importlib.import_module("mixpeek_batches")

    async def run(count: int) -> int:
        async with ours.AsyncClient(api_key=KEY, base_url=url) as client:
            return sum([r.canceled async for r in client.cancel_batches(pairs(count), concurrency=concurrency)])

    return in_all(lambda count: asyncio.run(run(count)))


def bulk_sync(url: str, concurrency: int) -> Measure:
    """Use Client.cancel_batches."""
    ours = importlib.import_module("mixpeek_batches")

    def run(count: int) -> int:
        with ours.Client(api_key=KEY, base_url=url) as client:
            return sum(result.canceled for result in client.cancel_batches(pairs(count), concurrency=concurrency))

    return in_all(run)


def bulk_httpx(url: str, concurrency: int, transport: str | None = None) -> Measure:
    """Use bare httpx.AsyncClient, with as many tasks as may be under way."""
    httpx = importlib.import_module("httpx")

    async def run(count: int) -> int:
        options = {} if transport is None else {"transport": importlib.import_module(transport).AiohttpTransport()}
        todo = iter(pairs(count))
        async with httpx.AsyncClient(headers=HEADERS, timeout=30, **options) as client:

            async def work() -> int:
                done = 0
                for bucket, batch in todo:
                    answer = await client.post(f"{url}/v1/buckets/{bucket}/batches/{batch}/cancel")
                    done += answer.json()["status"] == "CANCELED"
                return done

            return sum(await asyncio.gather(*(work() for _ in range(concurrency))))

    return in_all(lambda count: asyncio.run(run(count)))


def bulk_httpx_aiohttp(url: str, concurrency: int) -> Measure:
    """Use bare httpx.AsyncClient with httpx-aiohttp's transport."""
    return bulk_httpx(url, concurrency, "httpx_aiohttp")


def bulk_vendor(url: str, concurrency: int) -> Measure:
    """Use the vendor's SDK in threads."""

    def run(count: int) -> int:
        api = _vendor(url)
        with ThreadPoolExecutor(concurrency) as pool:
            tasks = list(pool.map(lambda pair: api.cancel_batch_buckets_batches(*pair), pairs(count)))
        return sum(task.to_dict()["status"] == "CANCELED" for task in tasks)

    return in_all(run)


def memory(url: str, concurrency: int) -> Measure:
    """Send a stream of pairs through AsyncClient.cancel_batches, of which every fiftieth is a request.

    The others hold an identifier that is refused before anything is sent, since a million requests take too long.
    """
    ours = importlib.import_module("mixpeek_batches")
    peak_memory = importlib.import_module("importing").peak_memory

    def stream(count: int) -> Iterator[tuple[str, str]]:
        for number in range(count):
            yield BUCKET, ".." if number % 50 else f"btch_{number}"

    async def run(count: int) -> dict[str, float]:
        canceled, at_tenth = 0, 0.0
        started = time.perf_counter()
        numbers = itertools.count(1)
        async with ours.AsyncClient(api_key=KEY, base_url=url) as client:
            async for result in client.cancel_batches(stream(count), concurrency=concurrency):
                canceled += result.canceled
                if next(numbers) == count // 10:
                    at_tenth = peak_memory()
        if canceled != count // 50:
            raise RuntimeError(f"{canceled} of {count // 50} were cancelled")
        return {"early": at_tenth, "late": peak_memory(), "rate": count / (time.perf_counter() - started)}

    return lambda count: asyncio.run(run(count))


CONTESTANTS: dict[str, Callable[[str, int], Measure]] = {
    "bulk_async": bulk_async,
    "bulk_httpx": bulk_httpx,
    "bulk_httpx_aiohttp": bulk_httpx_aiohttp,
    "bulk_sync": bulk_sync,
    "bulk_vendor": bulk_vendor,
    "call_httpx": call_httpx,
    "call_ours": call_ours,
    "call_stock": call_stock,
    "call_vendor": call_vendor,
    "memory": memory,
}


def main() -> None:
    """Run the contestant that the arguments name."""
    name, url, *more = sys.argv[1:]
    measure = CONTESTANTS[name](url, int(more[0]) if more else 1)
    for line in sys.stdin:
        print(json.dumps(measure(int(line))), flush=True)


if __name__ == "__main__":
    main()
