"""The admin API under `/_mock/`, which any language can use."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given
from mock_support import CONTRACT, FUZZ, JSON, cancel, connect, http_client, is_envelope, raw, send

from mixpeek_batches.mock import MockServer, app
from mixpeek_batches.mock.state import DEFAULT_KEY

Admin = Callable[..., httpx.Response]
GOOD = {"bucket_identifier": "bkt", "batch_id": "btch"}
POSTED = [
    *("/_mock/batches", "/_mock/namespaces", "/_mock/keys", "/_mock/faults", "/_mock/random_faults", "/_mock/limits"),
    "/_mock/reset",
]
READING = [path for path in POSTED if path != "/_mock/reset"]
FIELDS = [
    *("bucket_identifier", "batch_id", "status", "namespace", "inputs", "outputs", "additional_data", "task_id"),
    *("name", "namespace_id", "key", "namespaces", "default"),
    *("fault", "times", "retry_after", "seconds", "body", "acted"),
    *("rate", "faults", "seed", "requests_per_second", "burst", "concurrency"),
]


@pytest.fixture
def admin(mixpeek_mock: MockServer) -> Admin:
    """A way to ask the admin API."""

    def ask(method: str, path: str, **arguments: Any) -> httpx.Response:
        return http_client().request(method, mixpeek_mock.url + path, **arguments)

    return ask


def _message(response: httpx.Response, status_code: int) -> str:
    assert response.status_code == status_code, response.text
    assert is_envelope(response)
    return str(response.json()["error"]["message"])


# --- Batches ----------------------------------------------------------------------------------------------------------


def test_add_one_batch(mixpeek_mock: MockServer, admin: Admin) -> None:
    """One object adds one batch, which is answered with 201 as it is, and can be cancelled."""
    batch = {
        **GOOD,
        "status": "IN_PROGRESS",
        "namespace": "prod",
        "inputs": ["a", {"b": 1}],
        "outputs": [{"c": None}],
        "additional_data": {"error": "e"},
        "task_id": "task_1",
    }
    answer = admin("POST", "/_mock/batches", json=batch)
    assert (answer.status_code, answer.json()) == (201, batch)
    assert cancel(mixpeek_mock, namespace="prod").json()["task_id"] == "task_1"


def test_add_a_list_of_batches(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A list adds batches in its order, and an empty one adds none."""
    answer = admin("POST", "/_mock/batches", json=[{**GOOD, "batch_id": name} for name in ("2", "1")])
    assert answer.status_code == 201
    assert [batch["batch_id"] for batch in answer.json()] == ["2", "1"]
    assert [batch.to_dict() for batch in mixpeek_mock.batches] == answer.json()
    assert admin("POST", "/_mock/batches", json=[]).json() == []


def test_a_list_is_added_whole_or_not_at_all(mixpeek_mock: MockServer, admin: Admin) -> None:
    """One batch of a list that may not be used keeps all of them out, and the answer says which."""
    answer = admin("POST", "/_mock/batches", json=[GOOD, {**GOOD, "statis": "PENDING"}])
    assert _message(answer, 422).startswith("Batch 2: Unknown field 'statis': the fields are bucket_identifier, ")
    assert mixpeek_mock.batches == []


def test_read_batches(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Batches are read as they are now, and what is read can be added to another mock."""
    mixpeek_mock.add_batch("bkt", "1", inputs=["a"])
    mixpeek_mock.add_batch("bkt", "2", status="FAILED", namespace="prod")
    cancel(mixpeek_mock, "bkt", "1")
    read = admin("GET", "/_mock/batches").json()
    assert [batch["status"] for batch in read] == ["CANCELED", "FAILED"]
    mixpeek_mock.reset()
    assert admin("POST", "/_mock/batches", json=read).json() == read


@pytest.mark.parametrize("identifier", ["1", "a/b", "a?b", "a%2Fb", "..", "日本", " "])
def test_read_one_batch(mixpeek_mock: MockServer, identifier: str) -> None:
    """One batch is read under its percent-encoded identifiers, in the namespace that the query names."""
    path = f"/_mock/batches/{quote(identifier, safe='')}/{quote(identifier, safe='')}"
    mixpeek_mock.add_batch(identifier, identifier)
    mixpeek_mock.add_batch(identifier, identifier, namespace="a b", status="FAILED")
    answers = [raw(mixpeek_mock, path + query, method="GET") for query in ("", "?namespace=a%20b")]
    assert [answer.json()["status"] for answer in answers] == ["PENDING", "FAILED"]


@pytest.mark.parametrize("path", ["bkt/no", "no/btch", "bkt/btch?namespace=no", "bkt/%FF", "%FF/%ED%A0%80"])
def test_read_a_batch_that_is_not_there(mixpeek_mock: MockServer, admin: Admin, path: str) -> None:
    """A batch that is not there is 404, in a sentence that says where the mock looked."""
    mixpeek_mock.add_batch("bkt", "btch")
    assert "The mock holds no batch" in _message(admin("GET", f"/_mock/batches/{path}"), 404)


# --- Everything else --------------------------------------------------------------------------------------------------


def test_the_index(mixpeek_mock: MockServer, admin: Admin) -> None:
    """The index tells the key, counts what there is, and lists every path of the admin API."""
    mixpeek_mock.add_batch("bkt", "btch")
    mixpeek_mock.fail_next(503, times=2)
    send(mixpeek_mock)
    index = admin("GET", "/_mock/").json()
    assert {name: index[name] for name in ("api_key", "batches", "faults", "requests")} == {
        "api_key": DEFAULT_KEY,
        "batches": 1,
        "faults": 1,
        "requests": 1,
    }
    assert {"/_mock/requests", *POSTED} < set(index["paths"])


def test_the_index_of_many_batches(mixpeek_mock: MockServer, admin: Admin) -> None:
    """The index copies no batch, so it answers at once however many there are."""
    mixpeek_mock.add_batches({**GOOD, "batch_id": str(number)} for number in range(20_000))
    begin = time.monotonic()
    assert admin("GET", "/_mock/").json()["batches"] == 20_000
    assert time.monotonic() - begin < 0.2  # a copy of them takes 0.5 s


def test_the_index_without_its_slash(mixpeek_mock: MockServer) -> None:
    """Without the slash at its end the index is found too."""
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert client.get(mixpeek_mock.url + "/_mock").json()["api_key"] == DEFAULT_KEY


def test_add_a_namespace(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A namespace is added with an id, given or made."""
    answer = admin("POST", "/_mock/namespaces", json={"name": "prod", "namespace_id": "ns_1"})
    assert (answer.status_code, answer.json()) == (201, {"name": "prod", "namespace_id": "ns_1"})
    made = admin("POST", "/_mock/namespaces", json={"name": "stage"}).json()["namespace_id"]
    mixpeek_mock.add_batch("bkt", "btch", namespace="stage")
    assert cancel(mixpeek_mock, namespace=made).status_code == 200


def test_add_a_key(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A key is added with its namespaces, and the answer does not repeat it."""
    answer = admin("POST", "/_mock/keys", json={"key": "sk_narrow", "namespaces": ["a", "b"], "default": "b"})
    assert (answer.status_code, answer.content) == (201, b"")
    mixpeek_mock.add_batch("bkt", "btch", namespace="b")
    assert cancel(mixpeek_mock, authorization="Bearer sk_narrow").status_code == 200
    assert cancel(mixpeek_mock, authorization="Bearer sk_narrow", namespace="default").status_code == 403


def test_plan_faults(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Faults are planned, read, and dropped; each answer shows the plan."""
    plan = {"fault": 429, "times": 2, "retry_after": 3, "body": {"a": 1}, "acted": True}
    shown = {
        "kind": "status",
        "status_code": 429,
        "retry_after": 3,
        "seconds": 0.0,
        "body": {"a": 1},
        "acted": True,
    }
    answer = admin("POST", "/_mock/faults", json=plan)
    assert (answer.status_code, answer.json()) == (201, [shown, shown])
    admin("POST", "/_mock/faults", json={"fault": "latency", "seconds": 0.5})
    send(mixpeek_mock)
    assert [fault["kind"] for fault in admin("GET", "/_mock/faults").json()] == ["status", "latency"]
    answer = admin("DELETE", "/_mock/faults")
    assert (answer.status_code, answer.json(), mixpeek_mock.faults) == (200, [], [])


def test_set_limits(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Limits are set in place of those before, read, and taken away; what is read can be set again."""
    none = {"requests_per_second": None, "burst": None, "concurrency": None}
    both = {"requests_per_second": 0.5, "burst": 1, "concurrency": 4}
    assert admin("GET", "/_mock/limits").json() == none
    assert admin("POST", "/_mock/limits", json={"requests_per_second": 0.5, "concurrency": 4}).json() == both
    assert admin("POST", "/_mock/limits", json=both).json() == admin("GET", "/_mock/limits").json() == both
    assert [send(mixpeek_mock).status_code for _ in range(2)] == [404, 429]
    assert admin("POST", "/_mock/limits", json={"concurrency": 4}).json() == {**none, "concurrency": 4}
    assert send(mixpeek_mock).status_code == 404
    assert admin("POST", "/_mock/limits", json=none).json() == none
    mixpeek_mock.limit_rate(1)
    assert admin("DELETE", "/_mock/limits").json() == none


def test_limits_are_set_whole_or_not_at_all(mixpeek_mock: MockServer, admin: Admin) -> None:
    """One limit that may not be used keeps both as they were."""
    mixpeek_mock.limit_rate(5)
    mixpeek_mock.limit_concurrency(6)
    for wrong in ({"requests_per_second": 1, "concurrency": 0}, {"requests_per_second": 0, "concurrency": 1}):
        _message(admin("POST", "/_mock/limits", json=wrong), 422)
    assert admin("GET", "/_mock/limits").json() == {"requests_per_second": 5, "burst": 1, "concurrency": 6}


def test_read_requests(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Requests on the API's side are read, all but the key, and forgotten; those of the admin API are not kept."""
    mixpeek_mock.add_batch("a/b", "ü")
    cancel(mixpeek_mock, "a/b", "ü", namespace="näm")
    cancel(mixpeek_mock, authorization=f"Basic {DEFAULT_KEY}")
    raw(mixpeek_mock, "/no?a=1", method="GET")
    mixpeek_mock.fail_next("reset")
    with pytest.raises(httpx.NetworkError):
        send(mixpeek_mock)

    answer = admin("GET", "/_mock/requests")
    assert DEFAULT_KEY not in answer.text
    requests = answer.json()
    assert [request["status_code"] for request in requests] == [404, 401, 404, None]
    assert requests[0]["headers"]["authorization"] == ""
    assert {name: requests[0][name] for name in requests[0] if name != "headers"} == {
        "method": "POST",
        "path": "/v1/buckets/a%2Fb/batches/%C3%BC/cancel",
        "bucket_identifier": "a/b",
        "batch_id": "ü",
        "namespace": "näm",
        "status_code": 404,
    }
    assert [requests[2][name] for name in ("method", "path", "bucket_identifier", "batch_id", "namespace")] == [
        *("GET", "/no"),
        *(None, None, None),
    ]
    assert admin("DELETE", "/_mock/requests").json() == admin("GET", "/_mock/requests").json() == []
    assert mixpeek_mock.requests == []


def test_requests_that_are_no_utf8(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Requests whose path or headers are no UTF-8 can be read too."""
    raw(mixpeek_mock, "/v1/buckets/%FF/batches/%ED%A0%80/cancel")
    send(mixpeek_mock, namespace=b"\xff")
    assert [(request["batch_id"], request["namespace"]) for request in admin("GET", "/_mock/requests").json()] == [
        ("\udced\udca0\udc80", None),
        ("btch", "\udcff"),
    ]


def test_reset(mixpeek_mock: MockServer, admin: Admin) -> None:
    """A reset forgets batches, namespaces, keys, faults, limits and requests, and keeps the mock's own key."""
    mixpeek_mock.add_batch("bkt", "btch", namespace="prod")
    mixpeek_mock.add_key("sk_narrow", namespaces=["prod"])
    mixpeek_mock.fail_next(503)
    send(mixpeek_mock)
    mixpeek_mock.fail_next(503)
    mixpeek_mock.limit_rate(1)
    answer = admin("POST", "/_mock/reset")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (mixpeek_mock.batches, mixpeek_mock.faults, mixpeek_mock.requests) == ([], [], [])
    assert mixpeek_mock.limits.to_dict() == {"requests_per_second": None, "burst": None, "concurrency": None}
    assert cancel(mixpeek_mock, namespace="prod").json()["error"]["details"] == {"resource": "namespace"}
    assert cancel(mixpeek_mock, authorization="Bearer sk_narrow").status_code == 401


def test_the_admin_api_is_no_part_of_the_contract() -> None:
    """openapi.yaml does not know the admin API."""
    assert "_mock" not in json.dumps(CONTRACT)


# --- Wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["no", "batches/a", "batches/a/b/c", "faults/1", "requests/1", "%2e%2e", "Batches"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path(admin: Admin, path: str, method: str) -> None:
    """An unknown path under the admin API is 404, with a hint where the paths are listed."""
    assert "GET /_mock/" in _message(admin(method, f"/_mock/{path}"), 404)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("", {"GET", "HEAD"}),
        ("batches", {"GET", "HEAD", "POST"}),
        ("batches/bkt/btch", {"GET", "HEAD"}),
        ("namespaces", {"POST"}),
        ("keys", {"POST"}),
        ("faults", {"GET", "HEAD", "POST", "DELETE"}),
        ("limits", {"GET", "HEAD", "POST", "DELETE"}),
        ("requests", {"GET", "HEAD", "DELETE"}),
        ("reset", {"POST"}),
    ],
)
def test_a_wrong_method(mixpeek_mock: MockServer, admin: Admin, path: str, allowed: set[str]) -> None:
    """A method that a path of the admin API does not have is 405, and Allow names those that it has."""
    mixpeek_mock.add_batch("bkt", "btch")
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed:
        answer = admin(method, f"/_mock/{path}", json=GOOD)
        assert "Method" in _message(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == allowed
    assert len(mixpeek_mock.batches) == 1


@pytest.mark.parametrize("path", READING)
def test_a_body_that_is_not_valid_json(admin: Admin, path: str) -> None:
    """A body that is not valid JSON is 400 and says what is wrong with it."""
    for content in (b"", b"{", b"\xff", b"a: 1", b"[" * 100_000, b"1" * 5_000, b'{"a": 1}}'):
        message = _message(admin("POST", path, content=content), 400)
        assert message.startswith("The body is not JSON: "), content[:10]


@pytest.mark.parametrize("depth", [100, 400, 600, 900, 990])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("batches", '{"bucket_identifier": "bkt", "batch_id": "btch", "additional_data": {"error": %s}}'),
        ("faults", '{"fault": 200, "body": %s}'),
    ],
    ids=["batches", "faults"],
)
def test_a_deep_body(mixpeek_mock: MockServer, admin: Admin, path: str, body: str, depth: int) -> None:
    """JSON however deep is taken, or refused with a 4xx; what was taken can be read and answered with."""
    answer = admin("POST", f"/_mock/{path}", content=body % ("[" * depth + "]" * depth))
    assert answer.status_code == 201 or (answer.is_client_error and is_envelope(answer))
    assert admin("GET", f"/_mock/{path}").status_code == 200
    assert send(mixpeek_mock).status_code == (200 if answer.is_success else 404)


@pytest.mark.parametrize("path", READING)
def test_json_that_is_not_an_object(admin: Admin, path: str) -> None:
    """JSON that is not an object, nor a list where one may be, is 422 and names the fields."""
    for value in (None, True, 7, 1.5, "text", [], [GOOD]):
        sent = [value] if path == "/_mock/batches" and isinstance(value, list) else value
        message = _message(admin("POST", path, content=json.dumps(sent)), 422)
        assert "A JSON object is needed; the fields are " in message, value


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("batches", {"batch_id": "b"}, "The field 'bucket_identifier' is missing: the fields are"),
        ("batches", {"bucket_identifier": "b"}, "The field 'batch_id' is missing: the fields are"),
        ("batches", {**GOOD, "priority": 1}, "Unknown field 'priority': the fields are bucket_identifier, batch_id"),
        ("batches", {**GOOD, "self": 1}, "Unknown field 'self'"),
        ("batches", {**GOOD, "status": "RUNNING"}, "status 'RUNNING' is not one of PENDING"),
        ("batches", {**GOOD, "inputs": {}}, "inputs must be a list"),
        ("batches", {**GOOD, "batch_id": 7}, "batch_id must be a string"),
        ("batches", {**GOOD, "batch_id": "\ud800"}, "half a surrogate pair"),
        ("batches", {**GOOD, "additional_data": "a"}, "additional_data must be a JSON object"),
        ("namespaces", {}, "The field 'name' is missing: the fields are name, namespace_id"),
        ("namespaces", {"name": []}, "name must be a string"),
        ("namespaces", {"name": "a", "id": "b"}, "Unknown field 'id'"),
        ("keys", {"key": "k"}, "The field 'namespaces' is missing: the fields are key, namespaces, default"),
        ("keys", {"key": "k", "namespaces": "a"}, "namespaces must be a list"),
        ("keys", {"key": "k", "namespaces": ["a"], "default": {}}, "is not one of namespaces"),
        ("faults", {}, "The field 'fault' is missing: the fields are fault, times"),
        ("faults", {"fault": 503, "after": 1}, "Unknown field 'after'"),
        ("faults", {"fault": {}}, "fault must be"),
        ("faults", {"fault": 503, "times": 0}, "times must be"),
        ("faults", {"fault": 503, "retry_after": {}}, "retry_after must be"),
        ("faults", {"fault": "latency", "seconds": "1"}, "seconds must be"),
        ("limits", {"rate": 1}, "Unknown field 'rate': the fields are requests_per_second, burst, concurrency"),
        ("limits", {"requests_per_second": 0}, "requests_per_second must be"),
        ("limits", {"burst": 2}, "burst goes with requests_per_second"),
        ("limits", {"requests_per_second": 1, "concurrency": "4"}, "concurrency must be"),
    ],
)
def test_wrong_fields(admin: Admin, path: str, body: Any, says: str) -> None:
    """A field that is unknown, missing or wrong is 422, in a sentence that names it."""
    assert says in _message(admin("POST", f"/_mock/{path}", content=json.dumps(body)), 422)


@pytest.mark.parametrize("field", ["retry_after", "times"])
def test_a_number_beyond_all_bounds(admin: Admin, field: str) -> None:
    """A number too large for the machine is refused like any other wrong one."""
    body = '{"fault": 503, "%s": 1%s}' % (field, "0" * 400)  # noqa: UP031
    assert f"{field} must be" in _message(admin("POST", "/_mock/faults", content=body), 422)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_lacks(admin: Admin, number: str) -> None:
    """NaN and infinities, which Python reads but JSON lacks, are refused."""
    body = '{"fault": 200, "body": [%s]}' % number  # noqa: UP031
    assert 400 <= admin("POST", "/_mock/faults", content=body).status_code < 500


@FUZZ
@given(value=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON) | st.lists(st.just(GOOD) | JSON, max_size=3))
def test_any_json(mixpeek_mock: MockServer, value: Any) -> None:
    """Whatever JSON is posted to whichever path, the answer is a success or a 4xx envelope."""
    for path in POSTED:
        answer = http_client().post(mixpeek_mock.url + path, content=json.dumps(value))
        assert answer.is_success or (answer.is_client_error and is_envelope(answer))


@FUZZ
@given(
    batch=st.fixed_dictionaries(
        {"bucket_identifier": st.text(min_size=1), "batch_id": st.text(min_size=1)},
        optional={
            "inputs": st.lists(st.text() | st.dictionaries(st.text(), JSON)),
            "outputs": st.lists(st.text() | st.dictionaries(st.text(), JSON)),
            "additional_data": st.none() | st.dictionaries(st.text() | st.just("error"), JSON),
        },
    )
)
def test_any_batch(mixpeek_mock: MockServer, batch: dict[str, Any]) -> None:
    """Whatever a batch holds comes back from the admin API as it went in."""
    answer = http_client().post(mixpeek_mock.url + "/_mock/batches", content=json.dumps(batch))
    assert answer.status_code == 201
    assert {name: answer.json()[name] for name in batch} == batch


def test_a_body_too_large(mixpeek_mock: MockServer, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the limit is 413, with the limit, and the mock stays as it was."""
    monkeypatch.setattr(app, "_LARGEST_BODY", 10_000)
    batches = json.dumps([{**GOOD, "batch_id": str(number)} for number in range(1_000)])
    assert "larger than 10,000 bytes" in _message(admin("POST", "/_mock/batches", content=batches), 413)
    assert mixpeek_mock.batches == []


def test_a_body_that_is_large(mixpeek_mock: MockServer, admin: Admin) -> None:
    """Ten thousand batches fit in one body."""
    batches = json.dumps([{**GOOD, "batch_id": str(number)} for number in range(10_000)])
    assert admin("POST", "/_mock/batches", content=batches).status_code == 201
    assert len(mixpeek_mock.batches) == 10_000


def test_a_body_that_breaks_off(mixpeek_mock: MockServer, admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in the middle of a body adds nothing, and no error is logged."""
    with connect(mixpeek_mock) as connection:
        connection.sendall(b'POST /_mock/batches HTTP/1.1\r\nHost: mock\r\nContent-Length: 100\r\n\r\n[{"bucket')
        time.sleep(0.1)
    time.sleep(0.1)
    assert admin("GET", "/_mock/batches").json() == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
