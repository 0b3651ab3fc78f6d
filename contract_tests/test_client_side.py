"""Spec ⇄ client: what the contract allows, and what it does not, through the client and back."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from mixpeek_batches_api import models
from mixpeek_batches_api.api.batches import cancel_batch as operation

from mixpeek_batches import AsyncClient, Client, MixpeekError, TaskResponse, TaskStatus, TaskType
from mixpeek_batches.mock import MockServer

from .spec import CANCEL, OPERATIONS, SCHEMAS, SPEC, validator
from .strategies import values_of
from .wire import segment

OBJECTS = [name for name, schema in SCHEMAS.items() if schema.get("type") == "object"]
ENUMS = [name for name, schema in SCHEMAS.items() if "enum" in schema]

task_payloads = values_of("TaskResponse", SPEC)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def drifted(draw: st.DrawFn) -> dict[str, Any]:
    """Payloads that differ from the contract as the live API's do: enum values, nulls, fields gone and fields more."""
    payload: dict[str, Any] = draw(task_payloads)
    task = SCHEMAS["TaskResponse"]
    for name in draw(st.sets(st.sampled_from(["task_type", "status"]))):
        payload[name] = draw(st.text())
    for name in draw(st.sets(st.sampled_from(sorted({*task["properties"]} - {*task["required"]})))):
        if draw(st.booleans()):
            payload.pop(name, None)
        else:
            payload[name] = None
    payload.update(draw(st.dictionaries(st.sampled_from(["error", "cancellation", "queue"]), json_values, max_size=2)))
    return payload


@pytest.mark.parametrize("name", OBJECTS)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_payload_of_the_schema_round_trips(name: str, data: st.DataObject) -> None:
    """What a schema of the contract allows comes out of to_dict as it went into from_dict."""
    payload = data.draw(values_of(name, SPEC))
    validator(name).validate(payload)
    assert getattr(models, name).from_dict(payload).to_dict() == payload


@given(payload=drifted())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_drifted_payload_round_trips(payload: dict[str, Any]) -> None:
    """What the live API may send instead loses nothing."""
    task = TaskResponse.from_dict(payload)
    assert isinstance(task.status, TaskStatus)
    assert isinstance(task.task_type, TaskType)
    assert task.to_dict() == payload


@pytest.fixture(scope="module")
def mock() -> Any:
    with MockServer() as server:
        yield server


statuses = st.integers(200, 599)
bodies = drifted().map(json.dumps) | json_values.map(json.dumps) | st.text(max_size=50)


@given(status=statuses, body=bodies, data=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_answer_gives_a_task_or_an_error(mock: MockServer, status: int, body: str, data: bool) -> None:
    """For any status and body, cancel_batch returns a task or raises a MixpeekError."""

    async def asynchronously() -> TaskResponse:
        async with AsyncClient(api_key=mock.api_key, base_url=mock.url, max_retries=0) as client:
            return await client.cancel_batch("b", "x")

    mock.fail_next(status, body=body)
    try:
        if data:
            task = asyncio.run(asynchronously())
        else:
            with Client(api_key=mock.api_key, base_url=mock.url, max_retries=0) as client:
                task = client.cancel_batch("b", "x")
    except MixpeekError:
        return
    assert 200 <= status < 300
    assert task.to_dict() == json.loads(body)


@pytest.mark.parametrize("name", ENUMS)
def test_enum_members_are_the_contracts(name: str) -> None:
    """Every member of an enum is the contract's, in its order, and there is no other."""
    assert [member.value for member in getattr(models, name)] == SCHEMAS[name]["enum"]


def test_every_operation_and_parameter_is_on_both_clients() -> None:
    """The clients have each operation of the contract under its operationId, with its parameters under their names."""
    for contract in OPERATIONS.values():
        names = [_python_name(parameter["name"]) for parameter in contract.parameters]
        for client in (Client, AsyncClient):
            method = getattr(client, contract.name, None)
            assert method is not None, f"{client.__name__} in src/mixpeek_batches/client.py lacks {contract.name}"
            assert set(names) <= set(inspect.signature(method).parameters)


def _python_name(name: str) -> str:
    return name.removeprefix("X-").replace("-", "_").lower()


@given(bucket=st.text(min_size=1), batch=st.text(min_size=1), namespace=st.text() | st.none())
def test_request_is_the_contracts(bucket: str, batch: str, namespace: str | None) -> None:
    """What the generated operation would send is the contract's method, path and header."""
    more = {} if namespace is None else {"x_namespace": namespace}
    request = operation._get_kwargs(bucket, batch, **more)
    assert request["method"] == CANCEL.method.lower()
    assert request["url"] == CANCEL.path.format(bucket_identifier=segment(bucket), batch_id=segment(batch))
    assert request["headers"] == ({} if namespace is None else {"X-Namespace": namespace})
