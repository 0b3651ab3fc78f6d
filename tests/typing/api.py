"""The public API as a user would call it, for mypy --strict and pyright; nothing runs this."""

import httpx
import pytest

import mixpeek_batches
from mixpeek_batches import (
    UNSET,
    APIConnectionError,
    APIStatusError,
    AsyncClient,
    CancelResult,
    Client,
    ConfigurationError,
    MixpeekError,
    RateLimitError,
    TaskResponse,
    TaskStatus,
    TaskType,
    Unset,
)
from mixpeek_batches.mock import Batch, MockApp, MockServer, RecordedRequest, create_app


def sync_use() -> TaskStatus:
    with Client(api_key="k", namespace="n", base_url="https://x", timeout=1, max_retries=0) as client:
        task: TaskResponse = client.cancel_batch("bkt_products", "btch_123", namespace="netflix_prod")
    if task.status is TaskStatus.CANCELED and task.task_type is TaskType.API_BUCKETS_BATCHES_PROCESS:
        print(task.task_id.upper())
    if not isinstance(task.inputs, Unset):
        for item in task.inputs:
            name: str = item if isinstance(item, str) else str(item.get("name"))
            print(name)
    if task.additional_data:
        print(task.additional_data.get("job_id"))
    if task.error_message is not UNSET:
        print(task.error_message)
    return TaskStatus("QUEUED")


async def async_use() -> TaskResponse:
    async with AsyncClient(http_client=httpx.AsyncClient(), allow_http=False) as client:
        return await client.cancel_batch("bkt_products", "btch_123")


def bulk_use(client: Client) -> list[CancelResult]:
    pairs: list[tuple[str, str]] = [("bkt_products", "btch_123")]
    return [result for result in client.cancel_batches(pairs, concurrency=4, max_rate=2.5) if not result.canceled]


async def async_bulk_use(client: AsyncClient) -> None:
    async for result in client.cancel_batches(("bkt_products", str(number), "n") for number in range(9)):
        print(result.unwrap().task_id if result.error is None else result.error, result.attempts, result.to_dict())


def errors(client: Client) -> float | None:
    try:
        client.cancel_batch("b", "x")
    except RateLimitError as error:
        return error.retry_after
    except APIStatusError as error:
        text: str = error.message + (error.type or "") + (error.request_id or "")
        code: int = error.status_code
        details: dict[str, object] | None = error.details
        response: httpx.Response = error.response
        print(text, code, details, response)
    except APIConnectionError as error:
        print(error)
    except MixpeekError as error:
        raise ValueError from error
    value_error: type[ValueError] = ConfigurationError
    print(value_error, mixpeek_batches.__version__)
    client.close()
    return None


def mock_use(mixpeek_mock: MockServer) -> None:
    batch: Batch = mixpeek_mock.add_batch("b", "x", status="IN_PROGRESS", inputs=["a", {"b": 1}], additional_data={})
    mixpeek_mock.fail_next(503, times=2, retry_after=1)
    mixpeek_mock.fail_next("latency", seconds=0.1)
    mixpeek_mock.limit_rate(0.5, burst=2)
    mixpeek_mock.limit_rate(None)
    mixpeek_mock.limit_concurrency(4)
    with Client(api_key=mixpeek_mock.api_key, base_url=mixpeek_mock.url) as client, pytest.raises(APIStatusError):
        client.cancel_batch("b", "x")
    requests: list[RecordedRequest] = mixpeek_mock.requests
    app: MockApp = create_app()
    print(batch.status, requests[0].status_code, app.state.batches)
