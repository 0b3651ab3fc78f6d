"""The mock's endpoint by itself: the table under "Behaviour of the endpoint", row by row, over real sockets."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from mock_support import BEARER, FUZZ, JSON, cancel, check, headers_of, http_client, path_of, raw, validate

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockServer
from mixpeek_batches.mock.state import DEFAULT_KEY

RUNNING = ["PENDING", "IN_PROGRESS", "PROCESSING", "UNKNOWN"]
ENDED = ["DRAFT", "COMPLETED", "FAILED", "SKIPPED"]
OTHER_METHODS = ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]
IDENTIFIERS = [
    "a/b",
    "a?b",
    "a#b",
    "a%b",
    "a%2Fb",
    "%2F",
    "a b",
    " ",
    ".",
    "..",
    "../..",
    "a+b",
    "a;b=c",
    "a\\b",
    "\x00",
    "\r\n",
    "Ünï",
    "日本語",
    "👩‍👩‍👧",
    "e\u0301",
    "\u202e",
    "\ufffd",
    "cancel",
    "_mock",
]


def _details(response: httpx.Response) -> Any:
    return response.json()["error"]["details"]


# --- The rows, and their order ----------------------------------------------------------------------------------------


def test_the_earliest_row_answers(mixpeek_mock: MockServer) -> None:
    """A request that breaks several rules gets the answer of the earliest one."""
    mock = mixpeek_mock
    mock.add_batch("bkt", "btch", status="COMPLETED", namespace="secret")
    mock.add_key("sk_narrow", namespaces=["narrow"])

    everything_wrong = cancel(mock, "no", "no", method="GET", authorization=None, namespace="secret")
    no_key = cancel(mock, "no", "no", authorization=None, namespace="secret")
    no_right = cancel(mock, "no", "no", authorization="Bearer sk_narrow", namespace="secret")
    no_namespace = cancel(mock, "no", "no", namespace="no")
    no_bucket = cancel(mock, "no", "no", namespace="secret")
    no_batch = cancel(mock, "bkt", "no", namespace="secret")
    ended = cancel(mock, namespace="secret")

    answers = [everything_wrong, no_key, no_right, no_namespace, no_bucket, no_batch, ended]
    assert [answer.status_code for answer in answers] == [405, 401, 403, 404, 404, 404, 400]
    assert [_details(answer) for answer in answers[3:6]] == [
        {"resource": "namespace"},
        {"resource": "bucket"},
        {"resource": "batch"},
    ]


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_another_method(mixpeek_mock: MockServer, method: str) -> None:
    """Another method on the path is 405, with the envelope and `Allow: POST`, and cancels nothing."""
    mixpeek_mock.add_batch("bkt", "btch")
    assert cancel(mixpeek_mock, method=method).status_code == 405
    assert mixpeek_mock.batch("bkt", "btch").status == "PENDING"


@pytest.mark.parametrize("method", ["HEAD", "BREW"])
def test_an_unusual_method(mixpeek_mock: MockServer, method: str) -> None:
    """HEAD is answered without a body and a method that nobody knows with one, both with 405."""
    answer = raw(mixpeek_mock, path_of("bkt", "btch"), method=method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert bool(answer.content) == (method != "HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/buckets/bkt/batches/btch",
        "/v1/buckets/bkt/batches/btch/cancel/",
        "/v1/buckets/bkt/batches/btch/cancel/more",
        "/v1/buckets//batches/btch/cancel",
        "/v1/buckets/bkt/batches//cancel",
        "/v1/buckets/a/b/batches/btch/cancel",
        "/v1/Buckets/bkt/batches/btch/cancel",
        "/v2/buckets/bkt/batches/btch/cancel",
        "//v1/buckets/bkt/batches/btch/cancel",
        "/v1/buckets/bkt/batches/btch%2Fcancel",
        "/%5Fmock/",
        "*",
    ],
)
def test_an_unknown_path(mixpeek_mock: MockServer, path: str) -> None:
    """A path that is not the endpoint's is 404 with the envelope, whatever the method and without a key too."""
    for method in ("POST", *OTHER_METHODS):
        assert check(raw(mixpeek_mock, path, ("X-No", "key"), method=method)).status_code == 404, method


@pytest.mark.parametrize("status", RUNNING)
def test_a_running_batch_is_cancelled(mixpeek_mock: MockServer, status: str) -> None:
    """A batch on its way becomes CANCELED, and its task keeps everything else."""
    mixpeek_mock.add_batch(
        "bkt",
        "btch",
        status=status,
        inputs=["obj_1", {"object_id": "obj_2"}],
        outputs=["doc_1", {"n": [1, None]}],
        additional_data={"job": {"id": 4.5}},
        task_id="task_1",
    )
    assert cancel(mixpeek_mock).json() == {
        "task_id": "task_1",
        "task_type": "api_buckets_batches_process",
        "status": "CANCELED",
        "inputs": ["obj_1", {"object_id": "obj_2"}],
        "outputs": ["doc_1", {"n": [1, None]}],
        "additional_data": {"job": {"id": 4.5}},
        "error_message": None,
    }
    assert mixpeek_mock.batch("bkt", "btch").status == "CANCELED"


@pytest.mark.parametrize("status", [*RUNNING, "CANCELED"])
def test_cancelling_is_idempotent(mixpeek_mock: MockServer, status: str) -> None:
    """A batch that is cancelled already answers with the same task, field by field."""
    mixpeek_mock.add_batch("bkt", "btch", status=status, inputs=["a"], additional_data={"error": {"code": 1}})
    first, second, third = (cancel(mixpeek_mock) for _ in range(3))
    assert first.status_code == 200
    assert first.json() == second.json() == third.json()


@pytest.mark.parametrize("status", ENDED)
def test_an_ended_batch_refuses(mixpeek_mock: MockServer, status: str) -> None:
    """A batch that cannot be cancelled is 400, the details name its status, and nothing changes."""
    before = mixpeek_mock.add_batch("bkt", "btch", status=status, additional_data={"a": 1})
    answer = cancel(mixpeek_mock)
    assert (answer.status_code, _details(answer)) == (400, {"status": status})
    assert status in answer.json()["error"]["message"]
    assert mixpeek_mock.batches == [before]


def test_a_batch_of_its_own_bucket_only(mixpeek_mock: MockServer) -> None:
    """A batch is not found in another bucket, though both exist."""
    mixpeek_mock.add_batch("bkt", "btch")
    mixpeek_mock.add_batch("other", "more")
    answer = cancel(mixpeek_mock, "other", "btch")
    assert (answer.status_code, _details(answer)) == (404, {"resource": "batch"})


def test_a_default_task(mixpeek_mock: MockServer) -> None:
    """A batch of which nothing is said is PENDING, with empty lists, no data, and a task identifier of its own."""
    one, two = mixpeek_mock.add_batch("bkt", "1"), mixpeek_mock.add_batch("bkt", "2")
    assert (one.status, one.namespace, one.inputs, one.outputs, one.additional_data) == (
        "PENDING",
        "default",
        [],
        [],
        None,
    )
    assert one.task_id != two.task_id


def test_a_query_is_ignored(mixpeek_mock: MockServer) -> None:
    """A query behind the path changes nothing."""
    mixpeek_mock.add_batch("bkt", "btch")
    assert check(raw(mixpeek_mock, path_of("bkt", "btch") + "?a=/b#c")).status_code == 200


def test_a_body_is_ignored(mixpeek_mock: MockServer) -> None:
    """A request body, also a large one, changes nothing, and the connection serves the next request."""
    mixpeek_mock.add_batch("bkt", "btch")
    with httpx.Client(base_url=mixpeek_mock.url, trust_env=False, headers=headers_of()) as client:
        for content in (b"{", b"x" * 3_000_000, b""):
            assert check(client.post(path_of("bkt", "btch"), content=content)).status_code == 200


def test_every_answer_has_an_id_of_its_own(mixpeek_mock: MockServer) -> None:
    """Every answer carries another X-Request-ID, errors included."""
    ids = {cancel(mixpeek_mock, authorization=key).headers["x-request-id"] for key in (BEARER, None, BEARER)}
    assert len(ids) == 3


def test_simultaneous_cancels(mixpeek_mock: MockServer) -> None:
    """32 clients that cancel one batch at once all get 200 with the same task."""
    mixpeek_mock.add_batch("bkt", "btch", status="IN_PROGRESS")
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: raw(mixpeek_mock, path_of("bkt", "btch")), range(32)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert {request.status_code for request in mixpeek_mock.requests} == {200}


# --- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
def test_the_scheme_in_any_case(mixpeek_mock: MockServer, scheme: str) -> None:
    """The scheme counts in any case, and any number of spaces may follow."""
    mixpeek_mock.add_batch("bkt", "btch")
    assert cancel(mixpeek_mock, authorization=f"{scheme} {DEFAULT_KEY}").status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        DEFAULT_KEY,
        f"Basic {DEFAULT_KEY}",
        f"Token {DEFAULT_KEY}",
        f"Bearer{DEFAULT_KEY}",
        f"Bearer: {DEFAULT_KEY}",
        f"Bearer\t{DEFAULT_KEY}",
        f"X Bearer {DEFAULT_KEY}",
        "Bearer sk_other",
        f"Bearer {DEFAULT_KEY[:-1]}",
        f"Bearer {DEFAULT_KEY[1:]}",
        f"Bearer {DEFAULT_KEY}x",
        f"Bearer x{DEFAULT_KEY}",
        f"Bearer {DEFAULT_KEY.upper()}",
        f'Bearer "{DEFAULT_KEY}"',
        f"Bearer {DEFAULT_KEY} {DEFAULT_KEY}",
        f"Bearer {DEFAULT_KEY},{DEFAULT_KEY}",
        f"Bearer {DEFAULT_KEY}, Bearer {DEFAULT_KEY}",
        "Bearer schlüssel",
    ],
)
def test_no_key_or_another(mixpeek_mock: MockServer, authorization: str | None) -> None:
    """Anything but one known key in full, behind Bearer, is 401 and cancels nothing."""
    mixpeek_mock.add_batch("bkt", "btch")
    answer = cancel(mixpeek_mock, authorization=authorization)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert mixpeek_mock.batch("bkt", "btch").status == "PENDING"


@pytest.mark.parametrize("first", [DEFAULT_KEY, "sk_unknown"])
def test_two_authorization_headers(mixpeek_mock: MockServer, first: str) -> None:
    """Two Authorization headers with different keys are 401 in either order: they mean `a, b`, which is no key."""
    mixpeek_mock.add_batch("bkt", "btch")
    second = "sk_unknown" if first == DEFAULT_KEY else DEFAULT_KEY
    headers = [("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")]
    assert raw(mixpeek_mock, path_of("bkt", "btch"), *headers).status_code == 401


def test_a_key_beyond_ascii(mixpeek_mock: MockServer) -> None:
    """A key may hold any text, sent as UTF-8."""
    mixpeek_mock.add_key("schlüssel", namespaces=["default"])
    mixpeek_mock.add_batch("bkt", "btch")
    assert cancel(mixpeek_mock, authorization="Bearer schlüssel").status_code == 200


def test_no_answer_repeats_the_key(mixpeek_mock: MockServer) -> None:
    """The key is in no answer, wherever in the request it was put."""
    key = DEFAULT_KEY
    mixpeek_mock.add_batch("bkt", "btch", status="FAILED")
    answers = [
        cancel(mixpeek_mock, key),
        cancel(mixpeek_mock, "bkt", key),
        cancel(mixpeek_mock, namespace=key),
        cancel(mixpeek_mock, method="PUT", namespace=key),
        cancel(mixpeek_mock, authorization=f"Basic {key}"),
        check(raw(mixpeek_mock, f"{path_of('bkt', 'btch')}?key={key}")),
        check(raw(mixpeek_mock, f"/{key}")),
        check(raw(mixpeek_mock, path_of("bkt", "btch"), ("X-Request-ID", key))),
        check(http_client().post(mixpeek_mock.url + path_of("bkt", "btch"), headers=headers_of(), json={"key": key})),
    ]
    assert not [answer for answer in answers if key in answer.text or key in str(answer.headers)]


# --- Namespaces -------------------------------------------------------------------------------------------------------


def test_a_namespace_by_name_and_by_id(mixpeek_mock: MockServer) -> None:
    """X-Namespace is the name or the id of a namespace, whichever way its id came about."""
    mixpeek_mock.add_namespace("prod", namespace_id="ns_1234567890")
    made = mixpeek_mock.add_namespace("stage")
    for namespace, given_id in (("prod", "ns_1234567890"), ("stage", made)):
        mixpeek_mock.add_batch("bkt", namespace, namespace=namespace)
        assert cancel(mixpeek_mock, "bkt", namespace, namespace=namespace).status_code == 200
        assert cancel(mixpeek_mock, "bkt", namespace, namespace=given_id).status_code == 200


def test_a_batch_added_by_the_namespace_id(mixpeek_mock: MockServer) -> None:
    """A batch added under a namespace's id is in the namespace of that id."""
    mixpeek_mock.add_namespace("prod", namespace_id="ns_1")
    assert mixpeek_mock.add_batch("bkt", "btch", namespace="ns_1").namespace == "prod"
    assert mixpeek_mock.batch("bkt", "btch", namespace="prod") == mixpeek_mock.batch("bkt", "btch", namespace="ns_1")


def test_no_namespace_means_the_default(mixpeek_mock: MockServer) -> None:
    """Without X-Namespace the key's default namespace counts, and batches of other namespaces are not found."""
    mixpeek_mock.add_batch("bkt", "btch", namespace="prod")
    assert cancel(mixpeek_mock).status_code == 404
    mixpeek_mock.add_batch("bkt", "btch")
    assert cancel(mixpeek_mock).status_code == 200
    assert mixpeek_mock.batch("bkt", "btch", namespace="prod").status == "PENDING"


def test_a_batch_of_another_namespace(mixpeek_mock: MockServer) -> None:
    """A batch is not found from a namespace that exists but is not its own."""
    mixpeek_mock.add_batch("bkt", "btch", namespace="prod")
    mixpeek_mock.add_batch("bkt", "more", namespace="stage")
    answer = cancel(mixpeek_mock, namespace="stage")
    assert (answer.status_code, _details(answer)) == (404, {"resource": "batch"})


def test_a_key_of_some_namespaces(mixpeek_mock: MockServer) -> None:
    """A restricted key is 403 in other namespaces, by name and by id, and 404 in one that nobody knows."""
    mixpeek_mock.add_key("sk_narrow", namespaces=["mine", "ours"])
    made = mixpeek_mock.add_namespace("theirs")
    mixpeek_mock.add_batch("bkt", "btch", namespace="theirs")
    mixpeek_mock.add_batch("bkt", "btch", namespace="ours")

    def status(namespace: str) -> int:
        return cancel(mixpeek_mock, authorization="Bearer sk_narrow", namespace=namespace).status_code

    assert [status(name) for name in ("theirs", made, "default", "nobody's", "ours")] == [403, 403, 403, 404, 200]


@pytest.mark.parametrize(("default", "found"), [(None, "mine"), ("ours", "ours")])
def test_the_default_of_a_key(mixpeek_mock: MockServer, default: str | None, found: str) -> None:
    """A restricted key's default is its first namespace unless another is named."""
    mixpeek_mock.add_key("sk_narrow", namespaces=("mine", "ours"), default=default)
    mixpeek_mock.add_batch("bkt", "btch", namespace=found)
    assert cancel(mixpeek_mock, authorization="Bearer sk_narrow").status_code == 200


def test_a_key_added_by_the_namespace_id(mixpeek_mock: MockServer) -> None:
    """A key added with a namespace's id may use the namespace of that id, as a batch so added is in it."""
    mixpeek_mock.add_namespace("prod", namespace_id="ns_1")
    mixpeek_mock.add_batch("bkt", "btch", namespace="prod")
    mixpeek_mock.add_key("sk_narrow", namespaces=["ns_1"])
    answers = [
        cancel(mixpeek_mock, authorization="Bearer sk_narrow", namespace=name) for name in (None, "prod", "ns_1")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_a_key_added_again(mixpeek_mock: MockServer) -> None:
    """A key added again has the namespaces of the last time, as a batch added again has its new status."""
    mixpeek_mock.add_key("sk_narrow", namespaces=["old"])
    mixpeek_mock.add_key("sk_narrow", namespaces=["new"])
    mixpeek_mock.add_batch("bkt", "btch", namespace="new")
    assert cancel(mixpeek_mock, authorization="Bearer sk_narrow", namespace="new").status_code == 200


def test_a_batch_added_again(mixpeek_mock: MockServer) -> None:
    """A batch added again takes the place of the first one."""
    mixpeek_mock.add_batch("bkt", "btch", status="COMPLETED")
    mixpeek_mock.add_batch("bkt", "btch", status="PENDING")
    assert cancel(mixpeek_mock).status_code == 200
    assert len(mixpeek_mock.batches) == 1


def test_a_namespace_beyond_ascii(mixpeek_mock: MockServer) -> None:
    """A namespace may hold any text, sent as UTF-8, and the record shows it decoded."""
    mixpeek_mock.add_batch("bkt", "btch", namespace="naïve 日本")
    assert cancel(mixpeek_mock, namespace="naïve 日本").status_code == 200
    assert mixpeek_mock.requests[-1].namespace == "naïve 日本"


@pytest.mark.parametrize("namespace", [b"", b"\xff", b"\xc3\x28", b"na\xefve", b"\xed\xa0\x80", b"a, b", b"x" * 9000])
def test_a_strange_namespace(mixpeek_mock: MockServer, namespace: bytes) -> None:
    """An X-Namespace of any bytes is a namespace that is not known."""
    mixpeek_mock.add_batch("bkt", "btch")
    answer = cancel(mixpeek_mock, namespace=namespace)
    assert (answer.status_code, _details(answer)) == (404, {"resource": "namespace"})


# --- error_message ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("additional_data", "expected"),
    [
        (None, None),
        ({}, None),
        ({"error": None}, None),
        ({"error": "out of memory"}, "out of memory"),
        ({"error": ""}, ""),
        ({"error": {"message": "out of memory", "code": 7}}, "out of memory"),
        ({"error": {"message": ""}}, ""),
        ({"error": {"message": 7}}, '{"message":7}'),
        ({"error": {"message": None}}, '{"message":null}'),
        ({"error": {"code": 7, "at": "ü"}}, '{"code":7,"at":"ü"}'),
        ({"error": {}}, "{}"),
        ({"error": []}, "[]"),
        ({"error": ["a", {"b": 1}]}, '["a",{"b":1}]'),
        ({"error": 7}, "7"),
        ({"error": 0}, "0"),
        ({"error": -1.5}, "-1.5"),
        ({"error": True}, "true"),
        ({"error": False}, "false"),
        ({"message": "not an error"}, None),
    ],
)
def test_the_error_message(mixpeek_mock: MockServer, additional_data: dict[str, Any], expected: str | None) -> None:
    """The error message is the error's text, else its message, else compact JSON, else null."""
    mixpeek_mock.add_batch("bkt", "btch", additional_data=additional_data)
    task = cancel(mixpeek_mock).json()
    assert (task["error_message"], task["additional_data"]) == (expected, additional_data)


@FUZZ
@given(error=JSON | st.fixed_dictionaries({"message": JSON}))
def test_the_error_message_of_anything(mixpeek_mock: MockServer, error: Any) -> None:
    """Whatever JSON the error is, the task is valid, and its message is a text from which the error can be told."""
    batch = mixpeek_mock.add_batch("bkt", "btch", additional_data={"error": error})
    validate(batch.task(), "TaskResponse")
    message = batch.error_message
    text = error.get("message") if isinstance(error, dict) else error
    if error is None or isinstance(text, str):
        assert message == text
    else:
        assert message is not None
        assert json.loads(message) == error
        assert message == json.dumps(error, ensure_ascii=False, separators=(",", ":"))


# --- Identifiers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_identifier_is_opaque(mixpeek_mock: MockServer, identifier: str) -> None:
    """An identifier of any characters arrives as sent, as bucket and as batch, and is no other identifier."""
    mixpeek_mock.add_batch(identifier, "decoy")
    mixpeek_mock.add_batch(identifier, identifier)
    assert check(raw(mixpeek_mock, path_of(identifier, identifier))).status_code == 200
    assert [batch.status.value for batch in mixpeek_mock.batches] == ["PENDING", "CANCELED"]
    request = mixpeek_mock.requests[-1]
    assert (request.bucket_identifier, request.batch_id) == (identifier, identifier)
    assert request.path == path_of(identifier, identifier)


@FUZZ
@given(bucket=st.text(min_size=1), batch=st.text(min_size=1))
@example("%2F", "/")
def test_any_text_is_an_identifier(mixpeek_mock: MockServer, bucket: str, batch: str) -> None:
    """What is added under any text is found under its percent-encoded path, and nothing else is."""
    mixpeek_mock.reset()
    mixpeek_mock.add_batch(bucket, batch)
    assert check(raw(mixpeek_mock, path_of(bucket, batch))).status_code == 200
    assert check(raw(mixpeek_mock, path_of(bucket, batch + "x"))).status_code == 404


@pytest.mark.parametrize(("added", "asked"), [("a/b", "a%2Fb"), ("a%2Fb", "a/b"), ("a b", "a+b"), ("é", "e\u0301")])
def test_identifiers_are_equal_in_full(mixpeek_mock: MockServer, added: str, asked: str) -> None:
    """Two spellings that could be taken for each other are two identifiers."""
    mixpeek_mock.add_batch("bkt", added)
    assert check(raw(mixpeek_mock, path_of("bkt", asked))).status_code == 404


@pytest.mark.parametrize("segment", ["%FF", "%C3%28", "%ED%A0%80", "%C0%AF", "%", "%zz", "%u1234", "%EF%BF%BD%FF"])
def test_a_path_that_is_not_utf8(mixpeek_mock: MockServer, segment: str) -> None:
    """Escapes that are wrong or no UTF-8 name a batch that is not there, not one that looks alike."""
    for identifier in ("\ufffd", "\ufffd(", "/", "\ufffd\ufffd"):
        mixpeek_mock.add_batch("bkt", identifier)
        mixpeek_mock.add_batch(identifier, "btch")
    for path in (f"/v1/buckets/bkt/batches/{segment}/cancel", f"/v1/buckets/{segment}/batches/btch/cancel"):
        assert check(raw(mixpeek_mock, path)).status_code == 404


def test_a_path_of_raw_bytes(mixpeek_mock: MockServer) -> None:
    """A path that is no ASCII is the sender's fault."""
    assert 400 <= raw(mixpeek_mock, b"/v1/buckets/\xc3\xbc/batches/\xff/cancel").status_code < 500


@pytest.mark.parametrize("length", [1_000, 7_000, 40_000])
def test_a_very_long_identifier(mixpeek_mock: MockServer, length: int) -> None:
    """Identifiers as long as the server takes are found; longer ones are the sender's fault."""
    mixpeek_mock.add_batch("b" * length, "c" * length)
    answer = raw(mixpeek_mock, path_of("b" * length, "c" * length))
    assert answer.status_code == 200 or (length > 7_000 and 400 <= answer.status_code < 500)


# --- What may not be added --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bucket_identifier": ""}, "bucket_identifier must be a string that is not empty"),
        ({"bucket_identifier": 7}, "bucket_identifier must be a string"),
        ({"bucket_identifier": "\ud800"}, "surrogate"),
        ({"batch_id": None}, "batch_id must be a string"),
        ({"batch_id": "a\udfff"}, "surrogate"),
        ({"status": "RUNNING"}, "not one of PENDING, "),
        ({"status": "pending"}, "not one of PENDING, "),
        ({"status": None}, "not one of PENDING, "),
        ({"status": ["PENDING"]}, "not one of PENDING, "),
        ({"namespace": ""}, "namespace must be"),
        ({"namespace": 7}, "namespace must be"),
        ({"inputs": "text"}, "inputs must be a list"),
        ({"inputs": [1]}, "inputs must be a list"),
        ({"inputs": [None]}, "inputs must be a list"),
        ({"inputs": None}, "inputs must be a list"),
        ({"inputs": [{"a": object()}]}, "inputs is not JSON"),
        ({"outputs": [{"a": float("nan")}]}, "outputs is not JSON"),
        ({"outputs": [["a"]]}, "outputs must be a list"),
        ({"additional_data": []}, "additional_data must be"),
        ({"additional_data": {"a": {1, 2}}}, "additional_data is not JSON"),
        ({"task_id": ""}, "task_id must be"),
        ({"task_id": 7}, "task_id must be"),
    ],
)
def test_a_batch_that_may_not_be_added(mixpeek_mock: MockServer, wrong: dict[str, Any], says: str) -> None:
    """A batch with a wrong argument is refused in one sentence that names the argument, and nothing is added."""
    arguments: dict[str, Any] = {"bucket_identifier": "bkt", "batch_id": "btch", **wrong}
    with pytest.raises(ConfigurationError, match=says) as refusal:
        mixpeek_mock.add_batch(**arguments)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert mixpeek_mock.batches == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"key": ""}, "key must be a string"),
        ({"key": 7}, "key must be a string"),
        ({"namespaces": []}, "at least one"),
        ({"namespaces": "mine"}, "must be a list"),
        ({"namespaces": {"mine"}}, "must be a list"),
        ({"namespaces": [7]}, "a name in namespaces must be"),
        ({"default": "other"}, "not one of namespaces"),
        ({"default": ""}, "not one of namespaces"),
        ({"default": []}, "not one of namespaces"),
    ],
)
def test_a_key_that_may_not_be_added(mixpeek_mock: MockServer, wrong: dict[str, Any], says: str) -> None:
    """A key with a wrong argument is refused and opens nothing."""
    arguments: dict[str, Any] = {"key": "sk_narrow", "namespaces": ["mine"], **wrong}
    with pytest.raises(ConfigurationError, match=says):
        mixpeek_mock.add_key(**arguments)
    assert cancel(mixpeek_mock, authorization="Bearer sk_narrow").status_code == 401


@pytest.mark.parametrize(("name", "namespace_id"), [("", None), ("a", ""), (7, None), ("a", 7), ("\ud800", None)])
def test_a_namespace_that_may_not_be_added(mixpeek_mock: MockServer, name: Any, namespace_id: Any) -> None:
    """A namespace needs a name, and an id if one is given."""
    with pytest.raises(ConfigurationError, match=r"name.*\.$"):
        mixpeek_mock.add_namespace(name, namespace_id=namespace_id)
    assert cancel(mixpeek_mock, namespace="a").status_code == 404


def test_an_id_of_two_namespaces(mixpeek_mock: MockServer) -> None:
    """An id is that of one namespace; one that was given up may be used again."""
    mixpeek_mock.add_namespace("prod", namespace_id="ns_1")
    with pytest.raises(ConfigurationError, match=r"^namespace_id 'ns_1' is the id of namespace 'prod' already\.$"):
        mixpeek_mock.add_namespace("stage", namespace_id="ns_1")
    assert cancel(mixpeek_mock, namespace="stage").json()["error"]["details"] == {"resource": "namespace"}
    mixpeek_mock.add_namespace("prod", namespace_id="ns_2")
    mixpeek_mock.add_namespace("stage", namespace_id="ns_1")
    assert mixpeek_mock.add_batch("bkt", "btch", namespace="ns_1").namespace == "stage"


def test_a_list_of_batches_is_added_whole(mixpeek_mock: MockServer) -> None:
    """A list is added in its order, or, if one may not be used, not at all; the refusal says which one."""
    good = {"bucket_identifier": "bkt", "batch_id": "1"}
    with pytest.raises(ConfigurationError, match=r"^Batch 2: status 'X' is not one of"):
        mixpeek_mock.add_batches([good, {**good, "status": "X"}])
    assert mixpeek_mock.batches == []
    added = mixpeek_mock.add_batches(iter([good, {**good, "batch_id": "2", "namespace": "prod"}]))
    assert mixpeek_mock.batches == added


def test_a_batch_that_is_not_there(mixpeek_mock: MockServer) -> None:
    """Asking the mock for a batch that it does not hold is refused in one sentence that says where it looked."""
    with pytest.raises(ConfigurationError, match=r"no batch 'b' in bucket 'a' of namespace 'c': add it"):
        mixpeek_mock.batch("a", "b", namespace="c")
