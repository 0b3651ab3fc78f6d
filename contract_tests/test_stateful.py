"""The mock against a model of it that fits on a page, driven by Hypothesis over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from mixpeek_batches.mock import MockServer

from .decisions import CANCELABLE, CANCELED, TASK_TYPE
from .spec import STATUSES, mismatch
from .target import BatchRef
from .wire import Request, Response, Wire

NAMESPACES = ("default", "one", "two")
KEYS = {"sk_all": NAMESPACES, "sk_one": ("one",), "sk_none": None}
ERRORS: tuple[tuple[Any, str | None], ...] = (
    (None, None),
    ("text", "text"),
    ({"message": "of it", "code": 1}, "of it"),
    ({"code": 1}, '{"code":1}'),
    ([1, "a"], '[1,"a"]'),
    (0, "0"),
)
"""Errors in additional data, and the error message that follows."""

Task = dict[str, Any]


@attrs.define
class Model:
    """What the endpoint is: a dictionary of batches, with the fields that decide, and a response to each request."""

    batches: dict[tuple[str, BatchRef], Task] = attrs.Factory(dict)

    def cancel(self, key: str, namespace: str | None, batch: BatchRef) -> tuple[int, Task | None]:
        """Return the status code of the response, and the task of a 200."""
        allowed = KEYS[key]
        if allowed is None:
            return 401, None
        name = allowed[0] if namespace is None else namespace
        if name in NAMESPACES and name not in allowed:
            return 403, None
        task = self.batches.get((name, batch))
        if task is None:
            return 404, None
        if task["status"] not in {CANCELED, *CANCELABLE}:
            return 400, None
        task["status"] = CANCELED
        return 200, dict(task)


keys = st.sampled_from([*KEYS])
identifiers = st.sampled_from(["a", "b", "a/b", "%2F", "ü", ".", " "])
batches = st.builds(BatchRef, identifiers, identifiers)


class Machine(RuleBasedStateMachine):
    """Adds, cancels, cancels again and at once, in any order; every response must be the model's."""

    mock: MockServer
    added = Bundle("added")

    @initialize()
    def start(self) -> None:
        self.mock.reset()
        self.wire = Wire(self.mock.url)
        self.model = Model()
        self.ids = {name: self.mock.add_namespace(name) for name in NAMESPACES}
        self.mock.add_key("sk_one", namespaces=["one"])

    def teardown(self) -> None:
        if hasattr(self, "wire"):
            self.wire.__exit__()

    @rule(
        target=added,
        namespace=st.sampled_from(NAMESPACES),
        batch=batches,
        status=st.sampled_from(STATUSES),
        error=st.sampled_from(ERRORS),
        outputs=st.lists(st.text(max_size=3), max_size=2),
    )
    def add(
        self, namespace: str, batch: BatchRef, status: str, error: tuple[Any, str | None], outputs: list[str]
    ) -> object:
        data = None if error[0] is None else {"error": error[0]}
        fields: Task = {"status": status, "outputs": outputs, "additional_data": data}
        task_id = self.mock.add_batch(batch.bucket, batch.batch, namespace=namespace, **fields).task_id
        fixed: Task = {"task_id": task_id, "task_type": TASK_TYPE, "inputs": [], "error_message": error[1]}
        self.model.batches[namespace, batch] = {**fields, **fixed}
        return namespace, batch

    @rule(where=added, key=keys, by_id=st.booleans())
    def cancel(self, where: tuple[str, BatchRef], key: str, by_id: bool) -> None:
        self._cancel(key, where[0], where[1], by_id=by_id)

    @rule(where=added, key=keys, namespace=st.sampled_from([*NAMESPACES, "nowhere", None]))
    def cancel_elsewhere(self, where: tuple[str, BatchRef], key: str, namespace: str | None) -> None:
        self._cancel(key, namespace, where[1])

    @rule(batch=batches, key=keys, namespace=st.sampled_from([*NAMESPACES, None]))
    def cancel_anything(self, batch: BatchRef, key: str, namespace: str | None) -> None:
        self._cancel(key, namespace, batch)

    @rule(where=added)
    def cancel_at_once(self, where: tuple[str, BatchRef]) -> None:
        expected = self.model.cancel("sk_all", *where)

        def send(_: int) -> Response:
            with Wire(self.mock.url) as wire:
                return wire.send(_request("sk_all", *where))

        with ThreadPoolExecutor(4) as pool:
            for response in pool.map(send, range(4)):
                _check(response, *expected)

    @rule(where=added, status=st.sampled_from([429, 500, 503]))
    def fail_before(self, where: tuple[str, BatchRef], status: int) -> None:
        self.mock.fail_next(status)
        assert self.wire.send(_request("sk_all", *where)).status == status

    @invariant()
    def batches_are_the_models(self) -> None:
        for (namespace, batch), task in self.model.batches.items():
            found = self.mock.batch(batch.bucket, batch.batch, namespace=namespace).task()
            assert task.items() <= found.items()

    def _cancel(self, key: str, namespace: str | None, batch: BatchRef, *, by_id: bool = False) -> None:
        sent = self.ids[namespace] if by_id and namespace is not None else namespace
        _check(self.wire.send(_request(key, sent, batch)), *self.model.cancel(key, namespace, batch))


def _request(key: str, namespace: str | None, batch: BatchRef) -> Request:
    headers = [("Authorization", f"Bearer {key}".encode())]
    if namespace is not None:
        headers.append(("X-Namespace", namespace.encode()))
    return Request(method="POST", path=batch.path, headers=tuple(headers))


def _check(response: Response, status: int, task: Task | None) -> None:
    assert (response.status, response.failure) == (status, None)
    if task is not None:
        assert task.items() <= response.json().items()
    else:
        assert mismatch("ErrorResponse", response.json()) is None
        assert response.json_object()["status"] == status


@pytest.fixture(scope="module", autouse=True)
def mock() -> Iterator[None]:
    """The server of all examples, each of which resets it."""
    with MockServer(api_key="sk_all") as Machine.mock:
        yield


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestMachine = Machine.TestCase
