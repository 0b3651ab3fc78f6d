"""The admin API under `/_mock/`, which any language can use."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mock_support import FUZZ, JSON, PATH, connect, http_client, is_envelope, path_of, raw, send, wait_until

from mixpeek_batches.mock import MockServer
from mixpeek_batches.mock.state import DEFAULT_KEY

Admin = Callable[..., httpx.Response]
GOOD = {"bucket_identifier": "bkt", "batch_id": "btch"}
NO_LIMITS = {"requests_per_second": None, "burst": None, "concurrency": None}
WITH_FIELDS = ["batches", "namespaces", "keys", "faults", "random_faults", "limits"]
FIELDS = [
    *("bucket_identifier", "batch_id", "status", "namespace", "inputs", "outputs", "additional_data", "task_id"),
    *("name", "namespace_id", "key", "namespaces", "default"),
    *("fault", "times", "retry_after", "seconds", "body", "acted"),
    *("rate", "faults", "seed", "requests_per_second", "burst", "concurrency"),
]


@pytest.fixture
def admin(mixpeek_mock: MockServer) -> Admin:
    """A function that sends a request to the admin API."""

    def request(method: str, path: str, **arguments: Any) -> httpx.Response:
        return http_client().request(method, f"{mixpeek_mock.url}/_mock/{path}", **arguments)

    return request


def _message(response: httpx.Response, status_code: int) -> str:
    assert response.status_code == status_code, response.text
    assert is_envelope(response)
    return str(response.json()["error"]["message"])


# --- Each path --------------------------------------------------------------------------------------------------------


def test_add_batches(mixpeek_mock: MockServer, admin: Admin) -> None:
    """One object adds one batch, a list several, and the response shows them; what is read can be added again."""
    batch = {
        **GOOD,
        **{"status": "IN_PROGRESS", "namespace": "prod", "inputs": ["a", {"b": 1}], "outputs": [{"c": None}]},
        **{"additional_data": {"error": "e"}, "task_id": "task_1"},
    }
    response = admin("POST", "batches", json=batch)
    assert (response.status_code, response.json()) == (201, batch)
    assert send(mixpeek_mock, namespace="prod").json()["task_id"] == "task_1"
    assert admin("POST", "batches", json=[{**GOOD, "batch_id": name} for name in ("2", "1")]).status_code == 201
    read = admin("GET", "batches").json()
    assert [(each["batch_id"], each["status"]) for each in read] == [
        ("btch", "CANCELED"), ("2", "PENDING"), ("1", "PENDING")
    ]  # fmt: skip
    mixpeek_mock.reset()
    assert admin("POST", "batches", json=read).json() == read
    assert admin("POST", "batches", json=[]).json() == []


@FUZZ
@given(
    batch=st.fixed_dictionaries(
        {"bucket_identifier": st.text(min_size=1), "batch_id": st.text(min_size=1)},
        optional={
            "inputs": st.lists(st.text() | st.dictionaries(st.text(), JSON)),
            "additional_data": st.none() | st.dictionaries(st.text() | st.just("error"), JSON),
        },
    )
)
def test_any_batch(mixpeek_mock: MockServer, batch: dict[str, Any]) -> None:
    """Whatever a batch contains comes back as it was sent."""
    response = http_client().post(mixpeek_mock.url + "/_mock/batches", content=json.dumps(batch))
    assert response.status_code == 201
    assert {name: response.json()[name] for name in batch} == batch


def test_many_batches_in_one_body(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A large body is read in full."""
    batches = json.dumps([{**GOOD, "batch_id": str(number)} for number in range(3_000)])
    assert admin("POST", "batches", content=batches).status_code == 201
    assert len(mixpeek_mock.batches) == 3_000


def test_body_that_is_cut_off(mixpeek_mock: MockServer, admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in the middle of a body adds nothing, and no error is logged."""
    assert mixpeek_mock._server is not None
    with connect(mixpeek_mock) as connection:
        connection.sendall(b'POST /_mock/batches HTTP/1.1\r\nHost: mock\r\nContent-Length: 100\r\n\r\n[{"bucket')
    connections = mixpeek_mock._server.server_state.connections
    wait_until(lambda: not connections)
    assert admin("GET", "batches").json() == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("identifier", ["1", "a/b", "a?b", "a%2Fb", "..", "日本", " "])
def test_read_one_batch(mixpeek_mock: MockServer, identifier: str) -> None:
    """One batch is read under its percent-encoded identifiers, in the namespace that the query names."""
    path = f"/_mock/batches/{quote(identifier, safe='')}/{quote(identifier, safe='')}"
    mixpeek_mock.add_batch(identifier, identifier)
    mixpeek_mock.add_batch(identifier, identifier, namespace="a b", status="FAILED")
    responses = [raw(mixpeek_mock, path + query, method="GET") for query in ("", "?namespace=a%20b")]
    assert [response.json()["status"] for response in responses] == ["PENDING", "FAILED"]


@pytest.mark.parametrize("path", ["bkt/no", "bkt/btch?namespace=no", "%FF/%ED%A0%80"])
def test_batch_that_does_not_exist(mixpeek_mock: MockServer, admin: Admin, path: str) -> None:
    """A batch that does not exist is 404."""
    mixpeek_mock.add_batch("bkt", "btch")
    assert "The mock holds no batch" in _message(admin("GET", f"batches/{path}"), 404)


def test_index(mixpeek_mock: MockServer, admin: Admin) -> None:
    """The index shows the key and counts, and lists every path with its methods; any other method is 405."""
    mixpeek_mock.add_batch("bkt", "btch")
    mixpeek_mock.fail_next(503, times=2)
    send(mixpeek_mock)
    index = admin("GET", "").json()
    paths = index.pop("paths")
    assert index == {"api_key": DEFAULT_KEY, "batches": 1, "faults": 1, "requests": 1}
    names = ["", "batches", "batches/{bucket_identifier}/{batch_id}", *WITH_FIELDS[1:], "requests", "reset"]
    assert [*paths] == [f"/_mock/{name}" for name in names]
    for name in names:
        listed = {method for method in ("GET", "POST", "DELETE") if f"{method}: " in paths[f"/_mock/{name}"]}
        response = admin("PUT", name, json=GOOD)
        assert "PUT is not allowed on this path: use " in _message(response, 405)
        assert {*response.headers["allow"].split(", ")} - {"HEAD"} == listed
    assert http_client().get(mixpeek_mock.url + "/_mock", follow_redirects=True).json()["paths"] == paths


def test_add_namespace_and_key(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A namespace is added with an id, and a key with its namespaces, which the response does not repeat."""
    response = admin("POST", "namespaces", json={"name": "prod", "namespace_id": "ns_1"})
    assert (response.status_code, response.json()) == (201, {"name": "prod", "namespace_id": "ns_1"})
    response = admin("POST", "keys", json={"key": "sk_some", "namespaces": ["a", "ns_1"], "default": "ns_1"})
    assert (response.status_code, response.content) == (201, b"")
    mixpeek_mock.add_batch("bkt", "btch", namespace="prod")
    assert [send(mixpeek_mock, authorization="Bearer sk_some", namespace=name).status_code for name in
            (None, "default")] == [200, 403]  # fmt: skip


def test_faults(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Faults are planned, read, and cancelled; each response shows the plan."""
    fault = {"fault": 429, "times": 2, "retry_after": 3, "body": {"a": 1}, "acted": True}
    shown = {"kind": "status", "status_code": 429, "seconds": 0.0, "retry_after": 3, "body": {"a": 1}, "acted": True}
    response = admin("POST", "faults", json=fault)
    assert (response.status_code, response.json()) == (201, [shown, shown])
    admin("POST", "faults", json={"fault": "latency", "seconds": 0.5})
    send(mixpeek_mock)
    planned = admin("GET", "faults").json()
    assert [(each["kind"], each["seconds"]) for each in planned] == [("status", 0.0), ("latency", 0.5)]
    response = admin("DELETE", "faults")
    assert (response.status_code, response.json(), mixpeek_mock.faults) == (200, [], [])
    assert admin("POST", "random_faults", json={"rate": 1, "faults": [{"fault": 418}]}).status_code == 204
    assert send(mixpeek_mock).status_code == 418


def test_limits(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Limits are replaced as a whole, or not at all, read, and removed; what is read can be set again."""
    both = {"requests_per_second": 0.5, "burst": 1, "concurrency": 4}
    assert admin("GET", "limits").json() == NO_LIMITS
    assert admin("POST", "limits", json={"requests_per_second": 0.5, "concurrency": 4}).json() == both
    assert [send(mixpeek_mock).status_code for _ in range(2)] == [404, 429]
    for wrong in ({"requests_per_second": 1, "concurrency": 0}, {"requests_per_second": 0, "concurrency": 1}):
        _message(admin("POST", "limits", json=wrong), 422)
    assert admin("POST", "limits", json=both).json() == admin("GET", "limits").json() == both
    assert admin("POST", "limits", json={"concurrency": 4}).json() == {**NO_LIMITS, "concurrency": 4}
    assert send(mixpeek_mock).status_code == 404
    assert admin("POST", "limits", json=NO_LIMITS).json() == NO_LIMITS
    mixpeek_mock.limit_rate(1)
    assert admin("DELETE", "limits").json() == NO_LIMITS


def test_requests(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Requests to the API are shown without the key, also those that are not UTF-8, and forgotten on request."""
    raw(mixpeek_mock, path_of("a/b", "ü"), ("X-Namespace", "näm"))
    send(mixpeek_mock, "/v1/buckets/%FF/batches/%ED%A0%80/cancel", authorization=f"Basic {DEFAULT_KEY}")
    mixpeek_mock.fail_next("reset")
    with pytest.raises(httpx.NetworkError):
        send(mixpeek_mock)
    response = admin("GET", "requests")
    assert DEFAULT_KEY not in response.text
    first, second, third = response.json()
    assert first == {
        **{"method": "POST", "path": "/v1/buckets/a%2Fb/batches/%C3%BC/cancel"},
        **{"bucket_identifier": "a/b", "batch_id": "ü", "namespace": "näm", "status_code": 404},
        "headers": {"host": "mock", "authorization": "", "content-length": "0", "x-namespace": "nÃ¤m"}
        | {"connection": "close"},
    }
    assert (second["batch_id"], second["namespace"]) == ("\udced\udca0\udc80", None)
    assert [each["status_code"] for each in (second, third)] == [401, None]
    assert admin("DELETE", "requests").json() == admin("GET", "requests").json() == mixpeek_mock.requests == []


def test_reset(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A reset forgets batches, namespaces, keys, faults, limits and requests, and keeps the mock's own key."""
    mixpeek_mock.add_batch("bkt", "btch", namespace="prod")
    mixpeek_mock.add_key("sk_some", namespaces=["prod"])
    mixpeek_mock.fail_next(503, times=2)
    send(mixpeek_mock)
    mixpeek_mock.fail_randomly(1)
    mixpeek_mock.limit_rate(1)
    response = admin("POST", "reset")
    assert (response.status_code, response.content) == (204, b"")
    assert (mixpeek_mock.batches, mixpeek_mock.faults, mixpeek_mock.requests) == ([], [], [])
    assert mixpeek_mock.limits.to_dict() == NO_LIMITS
    assert send(mixpeek_mock, namespace="prod").json()["error"]["details"] == {"resource": "namespace"}
    assert send(mixpeek_mock, authorization="Bearer sk_some").status_code == 401


# --- Invalid requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["no", "batches/a", "batches/a/b/c", "faults/1", "%2e%2e", "Batches"])
def test_unknown_path(admin: Admin, path: str) -> None:
    """An unknown path is 404 with any method, and the message says where the paths are listed."""
    for method in ("GET", "POST", "DELETE"):
        assert _message(admin(method, path), 404) == "There is no such path: GET /_mock/ lists all paths."


@pytest.mark.parametrize("path", WITH_FIELDS)
def test_body_that_is_not_an_object(admin: Admin, path: str) -> None:
    """A body that is not valid JSON is 400, and one that is not an object 422 with the names of the fields."""
    for content in (b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5_000, b'{"a": 1}}'):
        message = _message(admin("POST", path, content=content), 400)
        assert message.startswith("The body is not valid JSON: "), content[:10]
    for value in (None, True, 7, "text", [[1]]):
        message = _message(admin("POST", path, content=json.dumps(value)), 422)
        assert "A JSON object is needed; the fields are " in message, value


@pytest.mark.parametrize(("depth", "accepted"), [(90, True), (101, False), (600, False), (990, False)])
@pytest.mark.parametrize(
    ("path", "body"),
    [("batches", {**GOOD, "additional_data": {"error": "%"}}), ("faults", {"fault": 200, "body": "%"})],
    ids=["batches", "faults"],
)
def test_nested_body(
    mixpeek_mock: MockServer, admin: Admin, path: str, body: dict[str, Any], depth: int, accepted: bool
) -> None:
    """JSON is accepted up to a depth at which it can also be read and sent, and refused with a 4xx beyond."""
    response = admin("POST", path, content=json.dumps(body).replace('"%"', "[" * depth + "]" * depth))
    assert response.status_code == 201 if accepted else is_envelope(response)
    assert accepted or response.is_client_error
    assert admin("GET", path).status_code == 200
    assert send(mixpeek_mock).status_code == (200 if accepted else 404)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("batches", {"batch_id": "b"}, "The field 'bucket_identifier' is missing: the fields are bucket_identifier, "),
        ("batches", {**GOOD, "priority": 1}, "Unknown field 'priority': the fields are bucket_identifier, batch_id, "),
        ("batches", {**GOOD, "self": 1}, "Unknown field 'self'"),
        ("batches", {**GOOD, "batch_id": "\ud800"}, "batch_id must be valid Unicode"),
        ("batches", [GOOD, {**GOOD, "statis": "PENDING"}], "Batch 2: Unknown field 'statis'"),
        ("namespaces", {}, "The field 'name' is missing: the fields are name, namespace_id"),
        ("namespaces", {"name": []}, "name must be a non-empty string"),
        ("keys", {"key": "k"}, "The field 'namespaces' is missing: the fields are key, namespaces, default"),
        ("keys", {"key": "k", "namespaces": ["a"], "default": {}}, "default {} is not one of namespaces"),
        ("faults", {}, "The field 'fault' is missing: the fields are fault, times, retry_after, seconds, body, acted"),
        ("faults", {"fault": 503, "times": 10**400}, "times must be a whole number"),
        ("faults", {"fault": 200, "body": [float("inf")]}, "body must be JSON"),
        ("random_faults", {}, "The field 'rate' is missing: the fields are rate, faults, seed"),
        ("random_faults", {"rate": 1, "faults": [5]}, "A JSON object is needed"),
        ("random_faults", {"rate": 1, "faults": [{"fault": 500, "times": 2}]}, "Unknown field 'times'"),
        ("limits", {"rate": 1}, "Unknown field 'rate': the fields are requests_per_second, burst, concurrency"),
        ("limits", {"burst": 2}, "burst goes with requests_per_second"),
    ],
)
def test_invalid_fields(mixpeek_mock: MockServer, admin: Admin, path: str, body: Any, message: str) -> None:
    """A field that is unknown, missing or invalid is 422 in a sentence that names it, and nothing changes."""
    assert _message(admin("POST", path, content=json.dumps(body)), 422).startswith(message)
    assert (mixpeek_mock.batches, mixpeek_mock.faults) == ([], [])
    assert mixpeek_mock.limits.to_dict() == NO_LIMITS
    assert send(mixpeek_mock, PATH).status_code == 404


@FUZZ
@given(
    path=st.sampled_from([*WITH_FIELDS, "reset"]),
    value=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON) | st.lists(st.just(GOOD) | JSON, max_size=3),
)
def test_any_json(mixpeek_mock: MockServer, path: str, value: Any) -> None:
    """Whatever JSON is sent to whichever path, the response is a success or a 4xx envelope."""
    response = http_client().post(f"{mixpeek_mock.url}/_mock/{path}", content=json.dumps(value))
    assert response.is_success or (response.is_client_error and is_envelope(response))
