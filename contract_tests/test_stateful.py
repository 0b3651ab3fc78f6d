"""The mock against a model of it that fits on a page, driven by Hypothesis over a socket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from mixpeek_batches.mock import MockServer

from .decisions import CANCELABLE, CANCELED, TASK_TYPE
from .spec import STATUSES, mismatch
from .target import Place
from .wire import Answer, Request, Wire

NAMES = ("default", "one", "two")
KEYS = {"sk_all": NAMES, "sk_one": ("one",), "sk_none": None}


@attrs.define
class Model:
    """What the endpoint is: a dictionary of batches, and an answer to each request."""

    batches: dict[tuple[str, Place], dict[str, Any]] = attrs.Factory(dict)

    def cancel(self, key: str, namespace: str | None, place: Place) -> tuple[int, dict[str, Any] | None]:
        """Give the status of the answer, and the task of a 200."""
        allowed = KEYS[key]
        if allowed is None:
            return 401, None
        name = allowed[0] if namespace is None else namespace
        if name in NAMES and name not in allowed:
            return 403, None
        task = self.batches.get((name, place))
        if task is None:
            return 404, None
        if task["status"] not in {CANCELED, *CANCELABLE}:
            return 400, None
        task["status"] = CANCELED
        return 200, dict(task)


identifiers = st.sampled_from(["a", "b", "a/b", "%2F", "ü", ".", " "])
places = st.builds(Place, identifiers, identifiers)
MESSAGES = {
    "None": None,
    "text": "text",
    "{'message': 'of it', 'code': 1}": "of it",
    "{'code': 1}": '{"code":1}',
    "[1, 'a']": '[1,"a"]',
    "0": "0",
}
errors = st.sampled_from([None, "text", {"message": "of it", "code": 1}, {"code": 1}, [1, "a"], 0])


class Machine(RuleBasedStateMachine):
    """Adds, cancels, cancels again and at once, in any order; every answer must be the model's."""

    added = Bundle("added")

    @initialize()
    def start(self) -> None:
        self.mock = MockServer(api_key="sk_all").start()
        self.wire = Wire(self.mock.url)
        self.model = Model()
        self.ids = {name: self.mock.add_namespace(name) for name in NAMES}
        self.mock.add_key("sk_one", namespaces=["one"])

    def teardown(self) -> None:
        if hasattr(self, "mock"):
            self.wire.__exit__()
            self.mock.stop()

    @rule(
        target=added,
        name=st.sampled_from(NAMES),
        place=places,
        status=st.sampled_from(STATUSES),
        error=errors,
        outputs=st.lists(st.text(max_size=3), max_size=2),
    )
    def add(self, name: str, place: Place, status: str, error: object, outputs: list[str]) -> object:
        data = None if error is None else {"error": error}
        batch = self.mock.add_batch(
            place.bucket, place.batch, namespace=name, status=status, outputs=outputs, additional_data=data
        )
        self.model.batches[name, place] = {
            "task_id": batch.task_id,
            "task_type": TASK_TYPE,
            "status": status,
            "inputs": [],
            "outputs": outputs,
            "additional_data": data,
            "error_message": MESSAGES[str(error)],
        }
        return name, place

    @rule(where=added, key=st.sampled_from(list(KEYS)), by_id=st.booleans())
    def cancel(self, where: tuple[str, Place], key: str, by_id: bool) -> None:
        self._cancel(key, where[0], where[1], by_id=by_id)

    @rule(where=added, key=st.sampled_from(list(KEYS)), name=st.sampled_from([*NAMES, "nowhere", None]))
    def cancel_elsewhere(self, where: tuple[str, Place], key: str, name: str | None) -> None:
        self._cancel(key, name, where[1])

    @rule(place=places, key=st.sampled_from(list(KEYS)), name=st.sampled_from([*NAMES, None]))
    def cancel_anything(self, place: Place, key: str, name: str | None) -> None:
        self._cancel(key, name, place)

    @rule(where=added)
    def cancel_at_once(self, where: tuple[str, Place]) -> None:
        name, place = where
        expected = self.model.cancel("sk_all", name, place)

        def send(_: int) -> Answer:
            with Wire(self.mock.url) as wire:
                return wire.send(_request("sk_all", name, place))

        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(send, range(4)):
                _same(answer, expected)

    @rule(where=added, status=st.sampled_from([429, 500, 503]))
    def fail_before(self, where: tuple[str, Place], status: int) -> None:
        self.mock.fail_next(status)
        answer = self.wire.send(_request("sk_all", where[0], where[1]))
        assert answer.status == status

    @invariant()
    def batches_are_the_models(self) -> None:
        for (name, place), task in self.model.batches.items():
            _is_model(self.mock.batch(place.bucket, place.batch, namespace=name).task(), task)

    def _cancel(self, key: str, name: str | None, place: Place, *, by_id: bool = False) -> None:
        sent = self.ids[name] if by_id and name is not None else name
        _same(self.wire.send(_request(key, sent, place)), self.model.cancel(key, name, place))


def _request(key: str, namespace: str | None, place: Place) -> Request:
    headers = [("Authorization", f"Bearer {key}".encode())]
    if namespace is not None:
        headers.append(("X-Namespace", namespace.encode()))
    return Request(method="POST", path=place.path, headers=tuple(headers))


def _is_model(found: dict[str, Any], task: dict[str, Any]) -> None:
    """Compare a task with the model's, which has no more than decides what is answered."""
    assert {name: found.get(name) for name in task} == task


def _same(answer: Answer, expected: tuple[int, dict[str, Any] | None]) -> None:
    status, task = expected
    assert (answer.status, answer.failure) == (status, None)
    if task is not None:
        _is_model(answer.json(), task)
    else:
        assert mismatch("ErrorResponse", answer.json()) is None
        assert answer.object()["status"] == status


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestMachine = Machine.TestCase
