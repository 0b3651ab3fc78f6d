"""Spec ⇄ client: what the contract allows, and what it does not, through the client and back."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
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

BODIES = {name: values_of(name, SPEC) for name in sorted({CANCEL.schema(code) or "" for code in CANCEL.responses})}
ENUMS = [name for name, schema in SCHEMAS.items() if "enum" in schema]

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def drifted(draw: st.DrawFn) -> dict[str, Any]:
    """Payloads that differ from the contract as the live API's do: enum values, nulls, fields missing or new."""
    payload: dict[str, Any] = draw(BODIES["TaskResponse"])
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


@pytest.mark.parametrize("name", BODIES)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_body_of_the_schema_round_trips(name: str, data: st.DataObject) -> None:
    """A body that the contract allows, with all that is inside it, comes out of to_dict as it went in."""
    payload = data.draw(BODIES[name])
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


Cancel = Callable[[], TaskResponse]


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(scope="module")
def cancels(mock: MockServer) -> Iterator[dict[str, Cancel]]:
    """One call of each client, without retries."""
    options: dict[str, Any] = {"api_key": mock.api_key, "base_url": mock.url, "max_retries": 0}
    client = AsyncClient(**options)
    with Client(**options) as sync, asyncio.Runner() as runner:
        yield {
            "sync": lambda: sync.cancel_batch("b", "x"),
            "async": lambda: runner.run(client.cancel_batch("b", "x")),
        }
        runner.run(client.close())


bodies = drifted().map(json.dumps) | json_values.map(json.dumps) | st.text(max_size=50)


@given(status=st.integers(200, 599), body=bodies, client=st.sampled_from(["sync", "async"]))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_response_is_a_task_or_an_error(
    mock: MockServer, cancels: dict[str, Cancel], status: int, body: str, client: str
) -> None:
    """For any status code and body, cancel_batch returns a task or raises a MixpeekError."""
    mock.fail_next(status, body=body)
    try:
        task = cancels[client]()
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
        names = {parameter["name"].removeprefix("X-").replace("-", "_").lower() for parameter in contract.parameters}
        for client in (Client, AsyncClient):
            method = getattr(client, contract.name, None)
            assert method is not None, f"{client.__name__} in src/mixpeek_batches/client.py lacks {contract.name}"
            assert names <= set(inspect.signature(method).parameters)


@given(bucket=st.text(min_size=1), batch=st.text(min_size=1), namespace=st.text() | st.none())
def test_request_is_the_contracts(bucket: str, batch: str, namespace: str | None) -> None:
    """What the generated operation would send is the contract's method, path and header."""
    more = {} if namespace is None else {"x_namespace": namespace}
    request = operation._get_kwargs(bucket, batch, **more)
    assert request["method"] == CANCEL.method.lower()
    assert request["url"] == CANCEL.path.format(bucket_identifier=segment(bucket), batch_id=segment(batch))
    assert request["headers"] == ({} if namespace is None else {"X-Namespace": namespace})
