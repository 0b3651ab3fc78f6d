"""The mock's Python API: what it takes and refuses, and that nothing it took or returned can change it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mock_support import BEARER, FUZZ, JSON

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import Batch, MockServer, MockState, RecordedRequest
from mixpeek_batches.mock.requests import MAX_REQUESTS
from mixpeek_batches.mock.state import DEFAULT_KEY

GOOD: dict[str, Any] = {"bucket_identifier": "bkt", "batch_id": "btch"}


@pytest.fixture
def state() -> MockState:
    return MockState()


def cancel(state: MockState, namespace: str | None = None, place: str = "bkt/btch", key: str = DEFAULT_KEY) -> int:
    """Cancel a batch, and return the status code."""
    return state.cancel(f"Bearer {key}".encode(), namespace, *place.split("/")).status_code


def task_of(state: MockState) -> Any:
    return json.loads(state.cancel(BEARER.encode(), None, "bkt", "btch").body)


# --- Batches ----------------------------------------------------------------------------------------------------------


def test_defaults_of_a_batch(state: MockState) -> None:
    """A batch is PENDING by default, with empty lists, no data, and a task identifier of its own."""
    first, second = state.add_batch("bkt", "1"), state.add_batch("bkt", "2")
    assert (first.status, first.namespace) == ("PENDING", "default")
    assert (first.inputs, first.outputs, first.additional_data) == ([], [], None)
    assert first.task_id != second.task_id


def test_batch_added_again(state: MockState) -> None:
    """A batch added again replaces the first one, also once that is cancelled."""
    state.add_batch("bkt", "btch", status="COMPLETED")
    for item in ("a", "b"):
        state.add_batch("bkt", "btch", inputs=[item])
        assert [batch.status for batch in state.batches] == ["PENDING"]
        assert task_of(state)["inputs"] == [item]
        assert state.batch("bkt", "btch").status == "CANCELED"


def test_list_of_batches_is_added_whole(state: MockState) -> None:
    """A list is added in its order or, if one batch is invalid, not at all; the message says which one."""
    with pytest.raises(ConfigurationError, match=r"^Batch 2: status 'X' is not one of"):
        state.add_batches([GOOD, {**GOOD, "status": "X"}])
    assert state.batches == []
    added = state.add_batches(iter([GOOD, {**GOOD, "batch_id": "2", "namespace": "prod"}]))
    assert state.batches == added


def test_batch_that_does_not_exist(state: MockState) -> None:
    """The message says where the mock looked, and what to do."""
    with pytest.raises(ConfigurationError, match=r"no batch 'b' in bucket 'a' of namespace 'c': add it with add_batch"):
        state.batch("a", "b", namespace="c")


def test_initial_batches(state: MockState) -> None:
    """A reset returns to the batches that were given at the start, and to nothing else."""
    state = MockState(batches=(dict(GOOD, namespace=namespace) for namespace in ("default", "prod")))
    start = state.batches
    assert len(start) == 2
    for _ in range(2):
        state.add_namespace("prod", namespace_id="ns_1")
        state.add_batch("bkt", "more", namespace="more")
        state.add_key("sk_more", namespaces=["prod"])
        assert cancel(state, "prod", key="sk_more") == cancel(state, "more", "bkt/more") == 200
        state.reset()
        assert state.batches == start
        assert cancel(state, "more", "bkt/more") == 404
        assert cancel(state, "prod", key="sk_more") == 401


def test_invalid_initial_batches() -> None:
    """An invalid batch is refused when the mock is created."""
    with pytest.raises(ConfigurationError, match=r"^Batch 1: The field 'batch_id' is missing"):
        MockServer(batches=[{"bucket_identifier": "bkt"}])


@FUZZ
@given(error=JSON | st.fixed_dictionaries({"message": JSON}))
def test_error_message_of_any_json(error: Any) -> None:
    """The error message is the error's text, else its message, else compact JSON, else null."""
    message = Batch("bkt", "btch", additional_data={"error": error}).error_message
    text = error.get("message") if isinstance(error, dict) else error
    if error is None or isinstance(text, str):
        assert message == text
    else:
        assert message == json.dumps(error, ensure_ascii=False, separators=(",", ":"))


# --- Namespaces and keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_id", [None, "ns_1"])
def test_namespace_by_name_and_by_id(state: MockState, given_id: str | None) -> None:
    """A namespace's id is as good as its name everywhere, whether it was given or derived."""
    namespace_id = state.add_namespace("prod", namespace_id=given_id)
    assert namespace_id == (given_id or state.add_namespace("prod"))
    added = state.add_batch("bkt", "btch", namespace=namespace_id)
    assert added.namespace == "prod"
    assert added == state.batch("bkt", "btch", namespace="prod") == state.batch("bkt", "btch", namespace=namespace_id)
    state.add_key("sk_some", namespaces=[namespace_id])
    for namespace in (None, "prod", namespace_id):
        assert cancel(state, namespace, key="sk_some") == 200


def test_id_of_two_namespaces(state: MockState) -> None:
    """An id belongs to one namespace; one that was given up is available again."""
    state.add_namespace("prod", namespace_id="ns_1")
    with pytest.raises(ConfigurationError, match=r"^namespace_id 'ns_1' belongs to namespace 'prod' already\.$"):
        state.add_namespace("stage", namespace_id="ns_1")
    assert cancel(state, "stage") == 404
    state.add_namespace("prod", namespace_id="ns_2")
    state.add_namespace("stage", namespace_id="ns_1")
    assert state.add_batch("bkt", "btch", namespace="ns_1").namespace == "stage"


@pytest.mark.parametrize(("default", "expected"), [(None, "mine"), ("ours", "ours")])
def test_default_namespace_of_a_key(state: MockState, default: str | None, expected: str) -> None:
    """A key's default is its first namespace unless another is given; without it 403, in an unknown one 404."""
    state.add_key("schlüssel", namespaces=("mine", "ours"), default=default)
    state.add_batch("bkt", "btch", namespace=expected)
    assert cancel(state, key="schlüssel") == 200
    assert [cancel(state, name, key="schlüssel") for name in ("default", "nobody's")] == [403, 404]


def test_key_added_again(state: MockState) -> None:
    """A key added again may use the namespaces of the last time."""
    state.add_key("sk_some", namespaces=["old"])
    state.add_key("sk_some", namespaces=["new"])
    assert [cancel(state, name, key="sk_some") for name in ("old", "new")] == [403, 404]


def test_own_api_key() -> None:
    """The API key can be chosen, and the default one, which other people's settings may hold, is then unknown."""
    assert MockState().api_key == DEFAULT_KEY == "sk_mock_0123456789abcdef"
    state = MockState(api_key="sk_own")
    state.add_batch("bkt", "btch", namespace="prod")
    assert (state.api_key, cancel(state, "prod"), cancel(state, "prod", key="sk_own")) == ("sk_own", 401, 200)


def test_details_say_what_was_not_found(state: MockState) -> None:
    """The details of a 404 and a 403 name the resource, those of a 400 the status."""
    state.add_batch("bkt", "btch", status="FAILED", namespace="prod")
    state.add_key("sk_some", namespaces=["default"])
    details = {}
    for case, key, *place in (
        ("namespace", DEFAULT_KEY, "no", "bkt", "btch"), ("bucket", DEFAULT_KEY, "prod", "no", "btch"),
        ("batch", DEFAULT_KEY, "prod", "bkt", "no"), ("status", DEFAULT_KEY, "prod", "bkt", "btch"),
        ("forbidden", "sk_some", "prod", "bkt", "btch"),
    ):  # fmt: skip
        details[case] = json.loads(state.cancel(f"Bearer {key}".encode(), *place).body)["error"]["details"]
    assert details == {
        **{name: {"resource": name} for name in ("namespace", "bucket", "batch")},
        "status": {"status": "FAILED"},
        "forbidden": {"resource": "namespace"},
    }


# --- Invalid arguments ------------------------------------------------------------------------------------------------


def _server(state: MockState, **arguments: Any) -> None:
    MockServer(**arguments)


NAN, HUGE = float("nan"), 10**400
ADD, FAIL, RANDOM = MockState.add_batch, MockState.fail_next, MockState.fail_randomly
INVALID: dict[str, tuple[Callable[..., Any], list[dict[str, Any]]]] = {
    "bucket_identifier must be a non-empty string, not ": (ADD, [{"bucket_identifier": ""}, {"bucket_identifier": 7}]),
    "batch_id must be a non-empty string, not None": (ADD, [{"batch_id": None}]),
    "batch_id must be valid Unicode; .* contains a lone surrogate": (ADD, [{"batch_id": "a\udfff"}]),
    r"status .* is not one of PENDING, ": (ADD, [{"status": status} for status in ("pending", None, ["PENDING"])]),
    "namespace must be a non-empty string": (ADD, [{"namespace": ""}]),
    "inputs must be a list of strings and JSON objects": (ADD, [{"inputs": x} for x in ("text", [1], None, {"a"})]),
    "inputs must be JSON: Object of type object": (ADD, [{"inputs": [{"a": object()}]}]),
    "outputs must be a list": (ADD, [{"outputs": [["a"]]}]),
    "outputs must be JSON": (ADD, [{"outputs": [{"a": NAN}]}]),
    "additional_data must be a JSON object or null": (ADD, [{"additional_data": "a"}]),
    "additional_data must be JSON": (ADD, [{"additional_data": {"a": {1, 2}}}]),
    "task_id must be a non-empty string": (ADD, [{"task_id": 7}]),
    "key must be a non-empty string": (MockState.add_key, [{"key": "", "namespaces": ["a"]}]),
    "namespaces must be a list of at least one name": (
        MockState.add_key, [{"key": "k", "namespaces": namespaces} for namespaces in ((), "a", {"a"})],
    ),
    "a name in namespaces must be a non-empty string": (MockState.add_key, [{"key": "k", "namespaces": ["a", 7]}]),
    "default .* is not one of namespaces": (
        MockState.add_key, [{"key": "k", "namespaces": ["a"], "default": default} for default in ("b", "", {"a": 1})],
    ),
    "name must be a non-empty string": (MockState.add_namespace, [{"name": ""}]),
    "namespace_id must be a non-empty string": (MockState.add_namespace, [{"name": "a", "namespace_id": 7}]),
    "fault must be an HTTP status code from 200 to 599 or one of latency, reset, truncated, malformed, not ": (
        FAIL, [{"fault": x} for x in (100, 199, 600, -503, 10**30, 503.0, "503", "status", "", None, True, {"a": 1})],
    ),
    "retry_after does not go with the fault 'reset'": (FAIL, [{"fault": "reset", "retry_after": 1}]),
    "body does not go with the fault 'latency'": (FAIL, [{"fault": "latency", "seconds": 1, "body": False}]),
    "seconds does not go with the fault 503": (FAIL, [{"fault": 503, "seconds": 0}]),
    "acted does not go with the fault 'truncated'": (FAIL, [{"fault": "truncated", "acted": True}]),
    "acted must be true or false": (FAIL, [{"fault": "reset", "acted": 1}, {"fault": 503, "acted": None}]),
    "The fault 200 needs a body": (FAIL, [{"fault": 200}]),
    "seconds must be a number from 0 to 3600 for latency": (
        FAIL, [{"fault": "latency", "seconds": seconds} for seconds in (None, -1, 3601, NAN, "1", HUGE)],
    ),
    "retry_after must be a number from -1000000000000 to 1000000000000, or printable ASCII text": (
        FAIL, [{"fault": 503, "retry_after": value} for value in (float("inf"), True, "a\r\nX: y", "ü", b"1", HUGE)],
    ),
    "times must be a whole number from 1 to 1000000": (
        FAIL, [{"fault": 503, "times": times} for times in (0, 1.0, "2", None, True, HUGE)],
    ),
    "body must be JSON": (FAIL, [{"fault": 503, "body": {1, 2}}, {"fault": 503, "body": NAN}]),
    "rate must be a number from 0 to 1": (RANDOM, [{"rate": rate} for rate in (2, -0.1, True, "1")]),
    "faults must be a non-empty list": (RANDOM, [{"rate": 1, "faults": x} for x in ((), {"fault": 500}, "reset")]),
    "fault must be an HTTP status code": (RANDOM, [{"rate": 1, "faults": [{"fault": 700}]}]),
    "seed must be a whole number": (RANDOM, [{"rate": 1, "seed": "x"}]),
    r"requests_per_second must be a number from 1e-06 to 1000000, or None \(null in JSON\) for no limit": (
        MockState.limit_rate,
        [{"requests_per_second": rate} for rate in (0, -1, True, "5", NAN, float("inf"), HUGE, 1e-9)],
    ),
    "burst must be a whole number from 1 to 1000000": (
        MockState.limit_rate, [{"requests_per_second": 1, "burst": burst} for burst in (0, 1.5, True, None, 10**7)],
    ),
    "concurrency must be a whole number from 1 to 1000000, or None": (
        MockState.limit_concurrency, [{"concurrency": concurrency} for concurrency in (0, -1, 1.5, True, "2", 10**7)],
    ),
    "api_key must be valid Unicode": (_server, [{"api_key": "\ud800"}]),
    "host must be a non-empty string": (_server, [{"host": ""}, {"host": None}]),
    "port must be a whole number from 0 to 65535": (_server, [{"port": port} for port in ("80", 1.0, True, -1, 65536)]),
}  # fmt: skip


@pytest.mark.parametrize("message", INVALID)
def test_invalid_arguments(state: MockState, message: str) -> None:
    """An invalid argument is refused in one sentence that names it and says what is valid, and nothing changes."""
    call, invalid = INVALID[message]
    for arguments in invalid:
        with pytest.raises(ConfigurationError, match=rf"^{message}[^\n]*\.$"):
            call(state, **(GOOD | arguments if call is ADD else arguments))
    assert (state.batches, state.faults, state.take_fault()) == ([], [], None)
    assert {*state.limits.to_dict().values()} == {None}
    assert (cancel(state, key="k"), cancel(state, "a")) == (401, 404)


# --- Copies -----------------------------------------------------------------------------------------------------------


def test_changing_what_was_passed(state: MockState) -> None:
    """Changing what was passed in does not change what the mock holds."""
    item: dict[str, Any] = {"a": [1]}
    inputs: list[str | dict[str, Any]] = [item]
    state.add_batch("bkt", "btch", inputs=inputs, outputs=inputs, additional_data=item)
    state.fail_next(503, body={"b": item})
    item["a"].append(2)
    inputs.append("more")
    batch = state.batch("bkt", "btch")
    assert (batch.inputs, batch.outputs, batch.additional_data) == ([{"a": [1]}], [{"a": [1]}], {"a": [1]})
    assert state.faults[0].body == {"b": {"a": [1]}}


@pytest.mark.parametrize("way", ["add_batch", "add_batches", "batch", "batches", "task", "to_dict"])
@pytest.mark.parametrize("canceled", [False, True])
def test_changing_what_was_returned(way: str, canceled: bool) -> None:
    """Changing what the mock returned does not change what it holds, the initial batches included."""
    data: dict[str, Any] = {"inputs": [{"b": [1]}], "additional_data": {"a": [1]}}
    state = MockState(batches=[GOOD | data])
    if canceled:
        assert cancel(state) == 200
    ways: dict[str, Callable[[], Any]] = {
        "add_batch": lambda: state.add_batch("bkt", "btch", **data),
        "add_batches": lambda: state.add_batches([GOOD | data])[0],
        "batch": lambda: state.batch("bkt", "btch"),
        "batches": lambda: state.batches[0],
        "task": lambda: state.batch("bkt", "btch").task(),
        "to_dict": lambda: state.batch("bkt", "btch").to_dict(),
    }
    returned = ways[way]()
    fields = returned if isinstance(returned, dict) else {name: getattr(returned, name) for name in data}
    fields["inputs"][0]["b"].append(2)
    fields["additional_data"]["a"].append(2)
    for _ in range(2):
        task = task_of(state)
        assert {name: task[name] for name in data} == data
        state.reset()


def test_batch_is_a_snapshot(state: MockState) -> None:
    """A batch stays as it was when it was read."""
    before = state.add_batch("bkt", "btch")
    cancel(state)
    assert (before.status, state.batch("bkt", "btch").status) == ("PENDING", "CANCELED")
    with pytest.raises(AttributeError):
        before.status = "FAILED"  # type: ignore[misc,assignment]


# --- Requests and threads ---------------------------------------------------------------------------------------------


def test_requests_are_bounded(state: MockState) -> None:
    """The mock remembers the last requests, not all of them; the list of them is a copy."""
    for number in range(MAX_REQUESTS + 5):
        state.record(
            RecordedRequest(
                method="POST", path=str(number), bucket_identifier=None, batch_id=None, namespace=None, headers={}
            )
        )
    assert [request.path for request in (state.requests[0], state.requests[-1])] == ["5", str(MAX_REQUESTS + 4)]
    state.requests.clear()
    assert len(state.requests) == MAX_REQUESTS


def test_adding_while_cancelling(state: MockState) -> None:
    """Threads that add, cancel and read at once lose nothing and raise nothing."""
    interval = sys.getswitchinterval()

    def add(thread: int) -> None:
        for number in range(50):
            state.add_batch("bkt", f"{thread}-{number}", namespace=f"ns {number % 20}")

    def cancel_all(thread: int) -> None:
        for number in range(50):
            while cancel(state, f"ns {number % 20}", f"bkt/{thread}-{number}") != 200:
                time.sleep(0.001)

    def read(_: int) -> None:
        for _ in range(20):
            assert len({batch.batch_id for batch in state.batches}) <= 200

    sys.setswitchinterval(1e-5)  # so that threads meet in as many places as in a long run
    try:
        with ThreadPoolExecutor(12) as pool:
            for future in [pool.submit(work, thread) for work in (cancel_all, add, read) for thread in range(4)]:
                future.result()
    finally:
        sys.setswitchinterval(interval)
    assert [batch.status for batch in state.batches] == ["CANCELED"] * 200
