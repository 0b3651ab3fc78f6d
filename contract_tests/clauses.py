"""Every clause of the contract: its name, its sentence and its check are one function."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from mixpeek_batches import ConfigurationError

from . import decisions, inputs, spec
from .clause import (
    A_LIMIT,
    A_MOCK,
    AN_ERROR,
    CANCELABLE,
    CLAUSES,
    DEFAULT_NAMESPACE,
    FINISHED,
    FORBIDDEN_NAMESPACE,
    NAMED,
    NAMESPACE_ID,
    NO_ERROR,
    OTHER_NAMESPACE,
    OWN_ACCOUNT,
    SECOND,
    TWO_BUCKETS,
    Check,
    at_the_end,
    by_schemathesis,
    clause,
    of_every_answer,
)
from .conversation import Conversation, named_statuses
from .report import Report, key_forms
from .session import LIMITED, MARK
from .target import Place, endpoint
from .wire import KEY_VARIABLE, Answer, Exchange, segment

__all__ = ["CLAUSES"]

METHODS = ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND")
_ONCE = ("content-type", "content-length", "retry-after", "location", "date", "etag")

# What every answer keeps.


@of_every_answer("documented")
def answers(exchange: Exchange, check: Check) -> None:
    """Every request gets a whole HTTP answer."""
    check(exchange.answer.failure is None, "a whole answer", exchange.answer.failure)


@of_every_answer("published")
def no_server_error(exchange: Exchange, check: Check) -> None:
    """No input, however long or odd, brings a 5xx."""
    check(exchange.answer.status < 500 or exchange.request.induced, "a status below 500", exchange.answer)


@of_every_answer("published")
def documented_status(exchange: Exchange, check: Check) -> None:
    """A status is one that the contract has for the request."""
    known = {*spec.CANCEL.responses} if exchange.request.method == spec.CANCEL.method else {404, 405, *LIMITED}
    if exchange.answer.status:
        check(exchange.answer.status in known, f"one of {sorted(known)}", exchange.answer.status)


@of_every_answer("documented", scope="limiter")
def content_type(exchange: Exchange, check: Check) -> None:
    """Every body is application/json."""
    if _has_body(exchange):
        media = exchange.answer.header("content-type")
        good = re.fullmatch(r'application/json(;charset="?utf-8"?)?;?', (media or "").replace(" ", "").lower())
        check(good is not None, "application/json", media)


@of_every_answer("documented", scope="limiter")
def json_(exchange: Exchange, check: Check) -> None:
    """Every body is JSON in UTF-8, whole and nothing after it."""
    if _has_body(exchange):
        try:
            exchange.answer.json()
        except ValueError as error:
            check(False, "JSON", f"{error}: {exchange.answer}")
        else:
            check(True, "JSON", "")


@of_every_answer("documented")
def headers_once(exchange: Exchange, check: Check) -> None:
    """A header that holds one value comes once."""
    names = [name for name, _ in exchange.answer.headers]
    twice = [name for name in _ONCE if names.count(name) > 1]
    check(not twice, "each once", twice)


@of_every_answer("documented", CANCELABLE)
def task_schema(exchange: Exchange, check: Check) -> None:
    """The body of a 200 is a TaskResponse."""
    if _has_body(exchange) and exchange.answer.status == 200:
        wrong = spec.mismatch("TaskResponse", _body(exchange))
        check(wrong is None, "a TaskResponse", wrong)


@of_every_answer("published", CANCELABLE)
def task_canceled(exchange: Exchange, check: Check) -> None:
    """The task of a 200 is CANCELED."""
    if task := _task(exchange):
        check(task.get("status") == decisions.CANCELED, f"status {decisions.CANCELED}", task.get("status"))


@of_every_answer("assumed", CANCELABLE)
def task_type(exchange: Exchange, check: Check) -> None:
    """The task's type is api_buckets_batches_process."""
    if task := _task(exchange):
        check(task.get("task_type") == decisions.TASK_TYPE, decisions.TASK_TYPE, task.get("task_type"))


@of_every_answer("documented", AN_ERROR)
def error_message_due(exchange: Exchange, check: Check) -> None:
    """error_message is derived from additional_data["error"]: a string, an object's message, else its JSON."""
    task = _task(exchange)
    error = _error(task)
    if error is not None:
        expected = error["message"] if isinstance(error, dict) and isinstance(error.get("message"), str) else error
        message = task.get("error_message")
        ok = message == expected if isinstance(expected, str) else _same_json(message, expected)
        check(ok, f"error_message {expected!r}", repr(message))


@of_every_answer("documented", NO_ERROR)
def error_message_absent(exchange: Exchange, check: Check) -> None:
    """Without additional_data["error"], error_message is null or absent."""
    task = _task(exchange)
    if task and _error(task) is None:
        check(task.get("error_message") is None, "error_message null", repr(task.get("error_message")))


@of_every_answer("published", scope="limiter")
def error_envelope(exchange: Exchange, check: Check) -> None:
    """The body of every error is the error envelope."""
    if _has_body(exchange) and not 200 <= exchange.answer.status < 300:
        wrong = spec.mismatch("ErrorResponse", _body(exchange))
        check(wrong is None, "the error envelope", wrong)


@of_every_answer("published")
def envelope_status(exchange: Exchange, check: Check) -> None:
    """In the envelope, status is the HTTP status and success is false."""
    body, status = exchange.answer.object(), exchange.answer.status
    if body and not 200 <= status < 300 and exchange.request.method != "HEAD":
        got = f"success {body.get('success')!r}, status {body.get('status')!r}"
        check(body.get("status") == status and body.get("success") is False, f"success false, status {status}", got)


@of_every_answer("published")
def www_authenticate(exchange: Exchange, check: Check) -> None:
    """A 401 carries WWW-Authenticate: Bearer."""
    if exchange.answer.status == 401:
        _check_header(exchange, check, "WWW-Authenticate")


@of_every_answer("assumed")
def allow(exchange: Exchange, check: Check) -> None:
    """A 405 carries Allow: POST."""
    if exchange.answer.status == 405:
        value = exchange.answer.header("allow")
        allowed = {method.strip().upper() for method in (value or "").split(",")}
        # Frameworks may add the two methods that say nothing about the endpoint.
        check(allowed - {"HEAD", "OPTIONS"} == {spec.CANCEL.method}, f"Allow: {spec.CANCEL.method}", value)


@of_every_answer("assumed", A_LIMIT, scope="limiter")
def retry_after(exchange: Exchange, check: Check) -> None:
    """A 429 and a 503 carry Retry-After."""
    if exchange.answer.status in LIMITED:
        _check_header(exchange, check, "Retry-After")


@of_every_answer("assumed", scope="anybody")
def key_not_repeated(exchange: Exchange, check: Check) -> None:
    """No answer, header or body, repeats the key."""
    answer, sent = exchange.answer, dict(exchange.request.spelled)
    keys = {value.decode("latin-1").rpartition(" ")[2] for value in sent}
    secrets = {form for key in keys if len(key) >= 12 for form in (key_forms(key) if key.isascii() else [key])}
    texts = [answer.reason, answer.text, *(text for header in answer.headers for text in header)]
    texts += [unquote(text) for text in texts if "%" in text]
    with contextlib.suppress(ValueError, RecursionError):
        texts += _strings(json.loads(answer.text))  # what JSON may have escaped
    # Header names come in lower case here.
    shown = any(secret in text or secret.lower() == text for text in texts for secret in secrets)
    check(not shown, "no key in the answer", "the key, in some form")


def _has_body(exchange: Exchange) -> bool:
    """Tell whether there is a whole answer that must have a body."""
    return exchange.answer.failure is None and exchange.request.method != "HEAD"


def _body(exchange: Exchange) -> Any:
    try:
        return exchange.answer.json()
    except ValueError:
        return None


def _task(exchange: Exchange) -> dict[str, Any]:
    return exchange.answer.object() if exchange.answer.status == 200 else {}


def _error(task: dict[str, Any]) -> Any:
    data = task.get("additional_data")
    return data.get("error") if isinstance(data, dict) else None


def _same_json(text: object, value: object) -> bool:
    try:
        if not isinstance(text, str) or re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", text)):
            return False
        return json.dumps(json.loads(text), sort_keys=True) == json.dumps(value, sort_keys=True)  # 1 is not true
    except ValueError:
        return False


def _check_header(exchange: Exchange, check: Check, name: str) -> None:
    schema = spec.CANCEL.headers(exchange.answer.status).get(name)
    value = exchange.answer.header(name.lower())
    if schema is not None:
        ok = value is not None and re.search(schema.get("pattern", ""), value) is not None
        check(ok, f"a valid {name}", repr(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        with contextlib.suppress(ValueError, RecursionError):
            if value[:1] in {"{", "[", '"'}:  # JSON inside a string
                yield from _strings(json.loads(value))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


# The form of requests and answers.


@clause("documented")
def framing(talk: Conversation) -> None:
    """A body is as long as its Content-Length says, also where the request announces no length; HEAD gets none."""
    wrong = f"Bearer {MARK}key"
    for place, method, key in (
        (talk.usual[0], "POST", ""), (talk.nobody(), "POST", ""), (talk.usual[0], "GET", ""),
        (talk.nobody(), "HEAD", ""), (talk.place, "POST", wrong),
    ):  # fmt: skip
        request = talk.session.request(place, method=method, key=key, announced=False)
        got = talk.session.framing(request)
        talk.check(got is None, Exchange(request, Answer(status=0)), "as announced", got)


@clause("documented")
def style(talk: Conversation) -> None:
    """Header names in any case, an unknown query, another method or path in a header: all the same."""
    place, status = talk.usual
    for spell in (str.lower, str.upper):
        headers = [(spell("Authorization"), f"Bearer {talk.target.key}".encode())]
        if talk.target.namespace is not None:
            headers.append((spell("X-Namespace"), talk.target.namespace.encode()))
        talk.expect(status, place, key=None, namespace=None, more=headers)
        talk.expect(404, place, key=None, namespace=None, more=[*headers[:1], (spell("X-Namespace"), MARK.encode())])
    query = "&".join(f"{name}={talk.made_up()}" for name in ("bucket_identifier", "batch_id", "bucket", "id"))
    talk.expect(status, f"{place.path}?{query}&force=true&x=1")
    nobody = talk.nobody()
    talk.expect(404, f"{nobody.path}?bucket_identifier={segment(place.bucket)}&batch_id={segment(place.batch)}&x=1")
    talk.expect(404, f"{Place(place.bucket, nobody.batch).path}?batch_id={segment(place.batch)}")
    talk.expect(status, place, more=[("X-HTTP-Method-Override", b"GET")])
    talk.expect(404, nobody, more=[(name, place.path.encode()) for name in ("X-Original-URL", "X-Rewrite-URL")])
    first = segment(place.batch[0])
    if len(first) == 1 and place in talk.target.known:
        talk.expect(status, place.path.replace(f"/batches/{first}", f"/batches/%{ord(first):02X}"))


@clause("documented")
def namespace_elsewhere(talk: Conversation) -> None:
    """X-Namespace may be left out, and a namespace in another header, the query, the body or a cookie is none."""
    place, nobody = talk.usual[0], talk.nobody()
    talk.expect(404, nobody, namespace=None)
    without = talk.ask(place, namespace=None)
    for name in dict.fromkeys((talk.target.namespace or talk.made_up(), talk.made_up())):
        value = name.encode()
        more = [(header, value) for header in ("Namespace", "X-Namespace-Id", "X-Namespace-Name", "X-Tenant")]
        more += [("Cookie", b"namespace=%b; ns=%b; x-namespace=%b" % (value, value, value))]
        exchange = talk.ask(f"{place.path}?namespace={segment(name)}&ns={segment(name)}", namespace=None, more=more)
        ok = exchange.answer.status == without.answer.status
        talk.check(ok, exchange, f"{without.answer.status}, as without", exchange.answer)


@clause("documented")
def accept(talk: Conversation) -> None:
    """Whatever Accept says, or nothing, the answer is the same, and JSON."""
    for value in (
        b"text/html,application/xhtml+xml,*/*;q=0.8",
        b"application/xml",
        b"application/problem+json;version=2",
        None,
    ):
        talk.same_as_usual(accept=value)
    talk.expect(404, f"/v1/{talk.made_up()}", accept=b"text/html")
    talk.expect(405, talk.place, method="GET", accept=b"text/html")
    usual = _own(talk.ask(talk.nobody()).answer.object())
    for more in ([("Accept-Language", b"de")], [("Accept-Encoding", b"gzip")], [("User-Agent", b"Mozilla/5.0")]):
        exchange = talk.expect(404, talk.nobody(), more=more)
        own = _own(exchange.answer.object())
        talk.check(own == usual, exchange, f"the error's type as ever, {usual}", own)


@clause("assumed")
def body_means_nothing(talk: Conversation) -> None:
    """A body, of whatever kind and with whatever in it, changes nothing."""
    place, _ = talk.usual
    other = {name: talk.made_up() for name in ("bucket_identifier", "batch_id", "namespace")}
    for media, body in (
        (b"application/json", b"[1]"),
        (b"application/json", json.dumps(other).encode()),
        (b"application/json", b'{"status": "PENDING", "force": true, "api_key": "' + MARK.encode() + b'"}'),
        (b"application/json", b"{not json"),
        (b"application/x-www-form-urlencoded", b"_method=DELETE&batch_id=" + place.batch.encode()),
        (b"text/plain", b"x" * 100),
    ):
        talk.same_as_usual(body=body, more=[("Content-Type", media)])
    named = {"namespace": talk.target.namespace, "x_namespace": talk.target.namespace, "batch_id": place.batch}
    more = [("Content-Type", b"application/json")]
    talk.expect(404, Place(place.bucket, talk.made_up()), body=json.dumps(named).encode(), more=more)
    talk.expect(404, place, namespace=talk.made_up(), body=json.dumps(named).encode(), more=more)


@clause("documented")
def length_unannounced(talk: Conversation) -> None:
    """A request without Content-Length, or in chunks, is as good as one with it."""
    talk.same_as_usual(announced=False)
    talk.same_as_usual(announced=False, body=b"{}", more=[("Content-Type", b"application/json")])


@clause("assumed")
def header_twice(talk: Conversation) -> None:
    """Of two keys or namespaces in one request, the same one counts whichever is right, or none: 401 or 404, or 400."""
    place = talk.place
    usual = _gist(talk.ask(place))
    right = {"Authorization": f"Bearer {talk.target.key}", "X-Namespace": talk.target.namespace}
    for name, refused in (("Authorization", 401), ("X-Namespace", 404)):
        own, wrong = (right[name] or "").encode(), (f"Bearer {talk.made_up()}" if refused == 401 else talk.made_up())
        if own and (refused == 401 or place in talk.target.known):
            argument = "key" if refused == 401 else "namespace"
            pairs: list[dict[str, Any]] = [{argument: first, "more": [(name, second)]} for first, second in
                     ((own, wrong.encode()), (wrong.encode(), own))]  # fmt: skip
            exchanges = [talk.ask(place, **pair) for pair in pairs]
            for exchange in exchanges:
                if _gist(exchange) != usual:
                    talk.judge(exchange, refused, 400)
            some = any(_gist(exchange) != usual for exchange in exchanges)
            talk.check(some, exchanges[0], "a refusal of one of the two orders", exchanges[0].answer)


def _gist(exchange: Exchange) -> object:
    return exchange.answer.status, named_statuses(exchange.answer)


# The key.


@clause("published")
def no_key(talk: Conversation) -> None:
    """Without Authorization: 401."""
    talk.expect(401, talk.place, key=None)
    for empty in ("Bearer", "Bearer ", b""):
        talk.expect(401, talk.place, key=empty or b"", spelled="" if isinstance(empty, bytes) else empty)


@clause("published")
def other_scheme(talk: Conversation) -> None:
    """With another scheme than Bearer: 401."""
    for value, spelled in inputs.other_schemes(talk.target.key):
        talk.expect(401, talk.place, key=value, spelled=spelled)


@clause("published")
def key_in_full(talk: Conversation) -> None:
    """Keys are compared in full, case included: 401."""
    key = talk.target.key
    some = talk.random.sample(range(len(key)), min(6 if talk.target.thorough else 4, len(key)))
    places = {0, len(key) // 2, len(key) - 1, *some}  # of characters to change
    for wrong, spelled in inputs.wrong_keys(key, sorted(places)):
        talk.expect(401, talk.place, key=f"Bearer {wrong}", spelled=f"Bearer {spelled}")
    for odd in (b"Bearer \xff\xfe", b"Bearer " + b"x" * 5000):
        talk.expect(401, talk.place, key=odd)
    for scheme in ("bearer", "BEARER"):
        talk.expect(401, talk.place, key=f"{scheme} {key}x", spelled=f"{scheme} ${{{KEY_VARIABLE}}}x")
        talk.expect(401, talk.place, key=f"{scheme} {MARK}")


@clause("assumed")
def key_elsewhere(talk: Conversation) -> None:
    """A key in another header, the query or a cookie is none, nor is another header a way around it: 401."""
    key = talk.target.key.encode()
    for header, value in (
        ("X-API-Key", key),
        ("X-Auth-Token", key),
        ("X-Authorization", b"Bearer " + key),
        ("Cookie", b"api_key=" + key + b"; session=" + key + b"; access_token=" + key),
        ("Proxy-Authorization", b"Bearer " + key),
        ("X-Forwarded-For", b"127.0.0.1"),
        ("X-Original-Authorization", b"Bearer " + key),
    ):
        talk.expect(401, talk.place, key=None, more=[(header, value)])
    trusted = {"Origin": b"http://localhost", "X-Forwarded-User": b"admin", "X-Remote-User": b"admin"}
    talk.expect(401, talk.place, key=None, more=[*trusted.items()])
    if re.fullmatch(r"[\w-]+", talk.target.key, re.ASCII):
        body, media = b"api_key=" + key + b"&access_token=" + key, b"application/x-www-form-urlencoded"
        talk.expect(401, talk.place, key=None, body=body, more=[("Content-Type", media)])
    if not set(talk.target.key) & set("&#%+?=;"):
        query = f"api_key={talk.target.key}&access_token={talk.target.key}&token={talk.target.key}"
        talk.expect(401, f"{talk.place.path}?{query}", key=None)


@clause("assumed")
def connection_remembers_nothing(talk: Conversation) -> None:
    """What an earlier request on the same connection said, or a cookie from its answer, counts for no later one."""
    place, status = talk.usual
    with talk.fresh() as wire:
        without = talk.ask(place, namespace=None, wire=wire)
        good = talk.expect(status, place, wire=wire)
        talk.expect(401, place, key=None, wire=wire)
        talk.expect(401, place, key=f"Bearer {talk.made_up()}", wire=wire)
        for name in ("", talk.made_up(), talk.target.other_namespace):
            if name is not None:
                talk.expect(404 if name else status, place, namespace=name, wire=wire)
                again = talk.ask(place, namespace=None, wire=wire)
                same = without.answer.status == again.answer.status
                talk.check(same, again, f"{without.answer.status}, as before a namespace was named", again.answer)
        talk.expect(status, place, wire=wire)
        cookies = [value.partition(";")[0] for name, value in good.answer.headers if name == "set-cookie"]
        talk.expect(401, place, key=None, wire=wire, more=[("Cookie", "; ".join([*cookies, "a=b"]).encode())])


@clause("published")
def scheme_any_case(talk: Conversation) -> None:
    """The scheme's name is good in any case."""
    place, status = talk.usual
    for scheme in ("bearer", "BEARER", "bEaReR"):
        talk.expect(status, place, key=f"{scheme} {talk.target.key}")


# The order of the checks.


@clause("assumed")
def method(talk: Conversation) -> None:
    """Another method on the path: 405."""
    for name in METHODS:
        talk.expect(405, talk.place, method=name)
    for name in METHODS[:6]:
        talk.expect(405, talk.nobody(), method=name)
    talk.expect(405, talk.place, method="GET", more=[("X-HTTP-Method-Override", b"POST")])
    talk.expect(405, f"{talk.place.path}?_method=POST", method="GET")
    talk.expect(405, endpoint(talk.made_up(), talk.made_up() + "x" * 2000), method="PUT")
    talk.expect(405, talk.place, 501, method="FOO")


@clause("assumed")
def method_before_key(talk: Conversation) -> None:
    """Another method is 405 also without a key, or in a namespace that is unknown or not allowed."""
    for name in METHODS[:6]:
        talk.expect(405, talk.place, method=name, key=None)
    for name in METHODS[:4]:
        talk.expect(405, talk.place, method=name, key=f"Bearer {MARK}key")
        talk.expect(405, talk.place, method=name, namespace=talk.made_up())
    if talk.target.forbidden_namespace is not None:
        talk.expect(405, talk.place, method="GET", namespace=talk.target.forbidden_namespace)


@clause("assumed", NAMED)
def method_tells_nothing(talk: Conversation) -> None:
    """Another method tells nothing of a batch, not even whether it is there."""
    for name in ("GET", "HEAD", "OPTIONS"):
        for place in talk.some[-1:]:
            talk.tells_apart(
                [{"place": place, "method": name}] * 2, [{"place": talk.nobody(), "method": name} for _ in range(2)]
            )


@clause("assumed")
def key_before_batch(talk: Conversation) -> None:
    """A wrong key is 401 also where namespace, bucket or batch are unknown, and never tells which are."""
    wrong = f"Bearer {MARK}key"
    for key in (wrong, None):
        talk.expect(401, talk.nobody(), key=key)
        talk.expect(401, talk.nobody(), key=key, namespace=talk.made_up())
    if talk.target.forbidden_namespace is not None:
        talk.expect(401, talk.place, key=wrong, namespace=talk.target.forbidden_namespace)
    if talk.target.known:
        asked = [[{"place": place, "key": wrong}] * 2 for place in (talk.place, talk.nobody())]
        talk.tells_apart(*asked)


@clause("assumed", FINISHED)
def key_before_status(talk: Conversation) -> None:
    """A wrong key is 401 also for a finished batch."""
    for key in (f"Bearer {MARK}key", None):
        talk.expect(401, talk.target.finished[0], key=key)


# Where batches are.


@clause("published")
def unknown_path(talk: Conversation) -> None:
    """An unknown path: 404."""
    path = talk.nobody().path
    for unknown in (
        f"/v1/{talk.made_up()}",
        path.removesuffix("cancel") + talk.made_up(),
        path.removesuffix("/cancel"),
    ):
        talk.expect(404, unknown)
    talk.expect(404, f"/v1/{talk.made_up()}", method="GET")
    for near in (
        path + "/",
        path.replace("/batches/", "//batches/"),
        f"/v1/buckets/{talk.made_up()}/./batches/x/cancel",
    ):
        talk.expect(404, near)


@clause("published", NAMED, OWN_ACCOUNT)
def near_path(talk: Conversation) -> None:
    """What is nearly the path of a batch is unknown: 404."""
    path = talk.usual[0].path
    for wrong in (
        path.replace("/cancel", "/CANCEL"), path.replace("/v1/", "/v2/"), path.replace("/v1/", "/V1/"), f"/x{path}",
        f"{path}/x", f"{path}x", f"{path}.json", f"{path};x=1", path.replace("/buckets/", "/bucket/"),
        path.removeprefix("/v1"), path.replace("/cancel", "/%63ancel/x"), path.removesuffix("/cancel"),
        path.replace("/cancel", ":cancel"), path.replace("/buckets/", f"/buckets/{talk.made_up()}/"),
        path.replace("/batches/", f"/batches/{talk.made_up()}/"),
    ):  # fmt: skip
        talk.expect(404, wrong)
    exchange = talk.expect(404, path.replace("/cancel", "%FF/cancel"), *(() if talk.target.mock else (400, 422)))
    talk.check(_gist(exchange) != _gist(talk.ask(talk.usual[0])), exchange, "another batch", exchange.answer)
    # A gateway or a framework may take these two for the plain path.
    for merged in (path.replace("/batches/", "//batches/"), f"{path}/"):
        talk.expect(404, merged, *talk.merging)


@clause("published")
def unknown_batch(talk: Conversation) -> None:
    """An unknown batch in a known bucket: 404."""
    talk.expect(404, talk.nobody())
    bucket = talk.target.known[0].bucket if talk.target.known else talk.made_up()
    talk.expect(404, Place(bucket, talk.made_up()))
    if talk.target.own_account:
        for batch in ("*", "%", "12345", "00000000-0000-4000-8000-000000000000", "constructor", "__proto__"):
            talk.expect(404, Place(bucket, batch))
        talk.expect(404, Place("constructor", "constructor"))
        talk.expect(404, Place(bucket, talk.made_up()), namespace="constructor")


@clause("published", NAMED)
def unknown_bucket(talk: Conversation) -> None:
    """A known batch in an unknown bucket: 404."""
    for place in talk.some:
        talk.expect(404, Place(talk.made_up(), place.batch))


@clause("published", TWO_BUCKETS)
def other_bucket(talk: Conversation) -> None:
    """A batch of another known bucket: 404."""
    for place in (*talk.target.finished, *talk.target.cancelable)[:6]:
        for other in [known.bucket for known in talk.target.known if known.bucket != place.bucket][:1]:
            if Place(other, place.batch) not in talk.target.known:
                talk.expect(404, Place(other, place.batch))


@clause("published", NAMED)
def identifier_in_full(talk: Conversation) -> None:
    """Identifiers are compared in full: 404 for a longer one."""
    for bucket, batch in ((place.bucket, place.batch) for place in talk.some):
        more = talk.made_up()
        for wrong in ((bucket, batch + more), (bucket + more, batch), (bucket, more + batch), (more + bucket, batch)):
            talk.expect(404, Place(*wrong))
    bucket, batch = talk.some[-1].bucket, talk.some[-1].batch
    for number, end in enumerate(inputs.ENDS):
        more = f"{end}{talk.made_up()}"
        talk.expect(404, Place(bucket, batch + more))
        if number % 3 == 0:
            talk.expect(404, Place(bucket + more, batch))


@clause("published", NAMED, OWN_ACCOUNT)
def identifier_exact(talk: Conversation) -> None:
    """What is nearly an identifier is another one, in case, accents, digits, spaces, suffixes or slashes: 404."""
    place = talk.usual[0]
    if place in talk.target.known:
        for batch in inputs.near(place.batch):
            talk.expect(404, Place(place.bucket, batch), *(talk.merging if "/" in batch else ()))
        for bucket in (*inputs.near(place.bucket)[::2], "*", "-"):
            talk.expect(404, Place(bucket, place.batch), *(talk.merging if "/" in bucket else ()))
        talk.expect(404, Place(place.batch, place.bucket))


@clause("published", NAMED)
def unknown_namespace(talk: Conversation) -> None:
    """A known batch in an unknown namespace: 404."""
    for place in talk.some:
        talk.expect(404, place, namespace=talk.made_up())
        for name in filter(None, (talk.target.namespace, talk.target.namespace_id)):
            talk.expect(404, place, namespace=name + talk.made_up())
            for pair in (f"{name},{talk.made_up()}", f"{talk.made_up()},{name}"):
                talk.expect(404, place, namespace=pair)
    name = talk.target.namespace or talk.made_up()
    for end in inputs.ENDS if not talk.tasks else ():
        if end.isprintable():
            talk.expect(404, talk.some[-1], namespace=f"{name}{end}{talk.made_up()}")


@clause("published", NAMED, OWN_ACCOUNT)
def namespace_exact(talk: Conversation) -> None:
    """What is nearly a namespace is another one, in case, accents, digits, suffixes or slashes: 404."""
    names = [name for name in (talk.target.namespace, talk.target.namespace_id) if name is not None]
    for every, name in enumerate(reversed(names), start=1):
        near = [text for text in inputs.near(name) if text == text.strip().strip("\0")][every - 1 :: every]
        for text in (*near, f"{name}, {name}x", f"ns_{name}", *(("*", "null", "undefined") if every == 1 else ())):
            if text not in names:
                talk.expect(404, talk.usual[0], namespace=text)


@clause("published", OTHER_NAMESPACE, NAMED)
def other_namespace(talk: Conversation) -> None:
    """A batch of another namespace: 404."""
    for place in talk.some:
        talk.expect(404, place, namespace=talk.target.other_namespace)


@clause("assumed", NAMED)
def elsewhere_tells_nothing(talk: Conversation) -> None:
    """A 404 does not tell whether a batch of this name is in another bucket or namespace, nor what else there is."""
    target = talk.target
    for place in talk.some:
        exchange = talk.expect(404, Place(place.bucket, talk.made_up()))
        text = exchange.answer.text
        told = [known.batch for known in target.known
                if len(known.batch) >= 6 and re.search(rf"\b{re.escape(known.batch)}\b", text)]  # fmt: skip
        talk.check(not told, exchange, "no batch that was not asked for", told)
    for place in talk.some:
        # Beside it: a bucket that is no batch's, a bucket of other batches, and another namespace.
        bucket = talk.made_up()
        others = [Place(known.bucket, place.batch) for known in target.known if known.bucket != place.bucket]
        for wrong in [Place(bucket, place.batch), *[other for other in others if other not in target.known][:1]]:
            talk.tells_apart([{"place": wrong}] * 2, [{"place": Place(wrong.bucket, talk.made_up())} for _ in range(2)])
        if target.other_namespace is not None:
            options = {"namespace": target.other_namespace}
            unreal = [{"place": talk.nobody(), **options} for _ in range(2)]
            talk.tells_apart([{"place": place, **options}] * 2, unreal)


@clause("published", FORBIDDEN_NAMESPACE)
def forbidden_namespace(talk: Conversation) -> None:
    """A namespace that the key may not use: 403, whatever is asked for there."""
    for place in (*talk.some, talk.nobody()):
        talk.expect(403, place, namespace=talk.target.forbidden_namespace)


@clause("documented", NAMESPACE_ID, CANCELABLE)
def namespace_by_id(talk: Conversation) -> None:
    """A namespace may be given by its id."""
    place = talk.target.cancelable[0]
    exchange = talk.expect(200, place, namespace=talk.target.namespace_id)
    talk.check(exchange.answer.object() == talk.tasks[place], exchange, "the same task", exchange.answer)


@clause("documented", CANCELABLE, DEFAULT_NAMESPACE)
def default_namespace(talk: Conversation) -> None:
    """Without X-Namespace, the key's default namespace is meant."""
    place, mock = talk.target.cancelable[0], talk.target.mock
    if mock is not None:
        place = talk.nobody()
        mock.add_batch(place.bucket, place.batch)
    talk.expect(200, place, namespace=None)


@clause("published")
def odd_identifiers(talk: Conversation) -> None:
    """Odd, long and non-ASCII identifiers that nobody has: 404."""
    bucket = segment(talk.usual[0].bucket)
    for number, text in enumerate(inputs.odd_texts(talk.made_up())):
        pair = (bucket, segment(text)) if number % 2 else (segment(text), talk.made_up())
        talk.expect(404, endpoint(*pair))
    for text in inputs.extreme_segments(talk.made_up()):
        for path in (endpoint(bucket, text), endpoint(text, f"{MARK}x")):
            exchange = talk.expect(404, path, *(() if talk.target.mock else (400, 414, 422)))
            injected = exchange.answer.header("x-injected")
            talk.check(injected is None, exchange, "no X-Injected header", injected)


@clause("published")
def odd_namespaces(talk: Conversation) -> None:
    """Odd, long and non-ASCII namespaces that nobody has: 404."""
    name = talk.made_up()
    for text in (
        "a b",
        '"',
        "'; --",
        "{}",
        "%00",
        "*",
        "$",
        "../x",
        "__proto__",
        "x" * 300,
        "x" * 2000,
        "a;b",
    ):
        talk.expect(404, talk.place, namespace=f"{name}{text}")
    for raw in (f"{name}ü".encode(), f"{name}日本".encode(), name.encode() + b"\xff", name.encode() + b"x" * 5000,
                f"{name}\tx".encode()):  # fmt: skip
        talk.expect(404, talk.place, *(() if talk.target.mock else (400, 422, 431)), namespace=raw)
    talk.expect(404, talk.nobody(), 400, 422, namespace=b"")


@clause("assumed", A_MOCK)
def opaque_identifiers(talk: Conversation) -> None:
    """Identifiers with / ? # % and any Unicode arrive as sent."""
    bucket, mock = talk.made_up(), _mock_of(talk)
    for odd in ("a/b", "a?b#c", "100%", "%2F", "a b", "ü/日本語", "+&=;"):
        mock.add_batch(bucket + odd, odd, namespace=talk.target.namespace)
        talk.expect(200, Place(bucket + odd, odd))


# Cancelling.


@clause("documented", CANCELABLE)
def cancel(talk: Conversation) -> None:
    """A batch that can be cancelled: 200."""
    for number, place in enumerate(talk.target.cancelable):
        if number != 1:  # that one is cancelled by many at once
            talk.tasks[place] = talk.expect(200, place).answer.object()


@clause("assumed", SECOND)
def idempotent_simultaneous(talk: Conversation) -> None:
    """Of many simultaneous cancels all give 200 and the same task."""
    place = talk.target.cancelable[1]
    exchanges = talk.at_once([{"place": place}] * 4)
    talk.tasks[place] = exchanges[0].answer.object()
    for exchange in exchanges:
        ok = exchange.answer.status == 200 and exchange.answer.object() == talk.tasks[place]
        talk.check(ok, exchange, "200 and one task", exchange.answer)


@clause("assumed", CANCELABLE)
def idempotent(talk: Conversation) -> None:
    """Cancelled again, it gives 200 and the same task, field by field."""
    for place in (*talk.target.cancelable, *talk.target.cancelable):
        again = talk.ask(place)
        first, second = talk.tasks[place], again.answer.object()
        differ = sorted(name for name in {*first, *second} if first.get(name, ...) != second.get(name, ...))
        ok = again.answer.status == 200 and not differ
        talk.check(ok, again, "200 and the same task", f"{again.answer.status}, other: {differ}")


@clause("assumed", SECOND)
def one_task_each(talk: Conversation) -> None:
    """Two batches have two tasks."""
    exchanges = [talk.ask(place) for place in talk.target.cancelable]
    ids = [str(exchange.answer.object().get("task_id")) for exchange in exchanges]
    talk.check(len(set(ids)) == len(ids), exchanges[-1], "one task_id a batch", ids)


@clause("published", CANCELABLE, OWN_ACCOUNT)
def task_is_no_batch(talk: Conversation) -> None:
    """The task's id in place of the batch's is unknown: 404."""
    for place, task in [*talk.tasks.items()][:1]:
        if isinstance(task.get("task_id"), str) and task["task_id"] not in {"", ".", "..", place.batch}:
            talk.expect(404, Place(place.bucket, task["task_id"]))


@clause("assumed", NAMED)
def no_mixing(talk: Conversation) -> None:
    """Asked for at the same moment, different batches, namespaces and keys get each their own answer."""
    asked: list[dict[str, Any]] = [
        {"place": place} for place in (talk.nobody(), *talk.target.cancelable[:2], *talk.target.finished[:1])
    ]
    asked += [{"place": talk.place, "namespace": talk.made_up()}, {"place": talk.place, "key": f"Bearer {MARK}key"}]
    alone = [talk.ask(**options).answer for options in asked]
    for _ in range(3 if talk.target.thorough else 1):
        many = talk.at_once((*asked, *asked[::-1]))
        for exchange, answer in zip(many, (*alone, *alone[::-1]), strict=True):
            same = exchange.answer.status == answer.status and _own(exchange.answer.object()) == _own(answer.object())
            talk.check(same, exchange, f"as alone: {answer}", exchange.answer)


def _own(body: dict[str, Any]) -> object:
    error = body.get("error")
    return error.get("type") if isinstance(error, dict) else body


@clause("assumed", FINISHED)
def finished(talk: Conversation) -> None:
    """A finished batch: 400."""
    for place in talk.target.finished:
        talk.expect(400, place)
        if talk.target.namespace_id is not None:
            talk.expect(400, place, namespace=talk.target.namespace_id)


@clause("assumed", FINISHED)
def finished_details(talk: Conversation) -> None:
    """The details of that 400 name the batch's status."""
    for place in talk.target.finished:
        exchange = talk.ask(place)
        named, status = named_statuses(exchange.answer), talk.target.statuses.get(place)
        ok = named == [status] if status else len(named) == 1
        talk.check(ok, exchange, f"{status or 'one status'} in details", exchange.answer)
        talk.said.setdefault(place, named)


@clause("assumed", FINISHED)
def finished_unchanged(talk: Conversation) -> None:
    """A finished batch stays as it was."""
    for place in talk.target.finished:
        exchange = talk.ask(place)
        ok = exchange.answer.status == 400 and named_statuses(exchange.answer) == talk.said.get(place)
        talk.check(ok, exchange, f"400 and {talk.said.get(place)}, each time", exchange.answer)


# What needs batches of our own making, and a look behind the server.


def _mock_of(talk: Conversation) -> Any:
    assert talk.target.mock is not None
    return talk.target.mock


def _made(talk: Conversation, exchange_of: str, **given: Any) -> Place | None:
    """Put a batch into the mock; one that it refuses breaks the clause."""
    place = talk.nobody()
    try:
        _mock_of(talk).add_batch(place.bucket, place.batch, namespace=talk.target.namespace, **given)
    except ConfigurationError as error:
        talk.check(False, None, f"a mock that knows {exchange_of} (make generate; src/mixpeek_batches/mock/)", error)
        return None
    return place


@clause("published", A_MOCK)
def cancel_every_status(talk: Conversation) -> None:
    """A batch in any status that contract_tests/decisions.py calls CANCELABLE: 200."""
    for status in decisions.CANCELABLE:
        if place := _made(talk, status, status=status):
            talk.expect(200, place)


@clause("assumed", A_MOCK)
def finished_every_status(talk: Conversation) -> None:
    """A batch in any status that contract_tests/decisions.py calls FINISHED: 400 with that status, and it keeps it."""
    for status in decisions.FINISHED:
        if place := _made(talk, status, status=status):
            exchange = talk.expect(400, place)
            talk.check(named_statuses(exchange.answer) == [status], exchange, f"{status} in details", exchange.answer)
            now = _mock_of(talk).batch(place.bucket, place.batch, namespace=talk.target.namespace).status
            talk.check(now == status, exchange, status, now)


@clause("published", A_MOCK)
def canceled_afterwards(talk: Conversation) -> None:
    """After a 200 the batch is CANCELED."""
    for status in decisions.CANCELABLE:
        if place := _made(talk, status, status=status):
            exchange = talk.ask(place)
            now = _mock_of(talk).batch(place.bucket, place.batch, namespace=talk.target.namespace).status
            talk.check(now == decisions.CANCELED, exchange, decisions.CANCELED, now)


@clause("assumed", A_MOCK)
def task_kept(talk: Conversation) -> None:
    """The task keeps its task_id, inputs, outputs and additional data, and with them why it failed."""
    kept = ("task_id", "inputs", "outputs", "additional_data", "error_message")
    for error in (None, "plain", {"message": "of an object", "code": 5}, {"code": 5}, ["a", 1], 0, ""):
        data = {"job_id": "j", "error": error}
        given: dict[str, Any] = {"inputs": ["a", {"b": [1, None]}], "outputs": ["o"], "additional_data": data}
        place = _made(talk, "tasks", status=decisions.CANCELABLE[0], **given)
        if place is not None:
            before = _mock_of(talk).batch(place.bucket, place.batch, namespace=talk.target.namespace).task()
            for exchange in (talk.expect(200, place), talk.expect(200, place)):
                now = _mock_of(talk).batch(place.bucket, place.batch, namespace=talk.target.namespace).task()
                task = exchange.answer.object()
                differ = [name for name in kept if task.get(name) != before[name] or now[name] != before[name]]
                talk.check(not differ, exchange, "the task kept", f"other: {differ}")


@clause("published", A_MOCK)
def refusal_changes_nothing(talk: Conversation) -> None:
    """A request that is refused cancels nothing."""
    for exchange, what in talk.report.changed:
        talk.check(False, exchange, "nothing changed", what)
    talk.check(True, None, "", "")


@clause("suite", A_MOCK)
def faults(talk: Conversation) -> None:
    """What only a plan brings about is answered as the contract says."""
    for status in decisions.ONLY_WHEN_TOLD:
        _mock_of(talk).fail_next(status)
        talk.expect(status, talk.nobody(), induced=True)


# That the run means something.


_DECISIONS = "contract_tests/decisions.py"


@at_the_end()
def every_status_decided(report: Report, check: Check) -> None:
    """Each value of TaskStatus is CANCELED, CANCELABLE or FINISHED, and nothing else is."""
    decided = [decisions.CANCELED, *decisions.CANCELABLE, *decisions.FINISHED]
    wrong = [
        f"{status} of openapi.yaml must be in CANCELABLE or in FINISHED, in {_DECISIONS}."
        for status in spec.STATUSES
        if decided.count(status) != 1
    ]
    wrong += [
        f"{status} is no TaskStatus of openapi.yaml any more: take it out of {_DECISIONS}."
        for status in sorted(set(decided) - set(spec.STATUSES))
    ]
    check(not wrong, "each in one place", "\n".join(wrong))


@at_the_end()
def every_operation_has_clauses(report: Report, check: Check) -> None:
    """Each operation of the contract has clauses."""
    covered = {*decisions.WITHOUT_CLAUSES, *(one.operation for one in CLAUSES.values() if one.provenance != "suite")}
    wrong = [
        f"{operation} ({name}) has no clause: write some in contract_tests/clauses.py, or exempt it under "
        f"WITHOUT_CLAUSES in {_DECISIONS}."
        for name, operation in spec.OPERATIONS.items()
        if name not in covered
    ]
    check(not wrong, "clauses for each operation", "\n".join(wrong))


@at_the_end(A_MOCK)
def everything_seen(report: Report, check: Check) -> None:
    """Each status code, header and property of the contract was in an answer, or is exempted, and no other property."""
    documented, seen = report.documented(), report.seen
    exempted = {*decisions.NEVER_SEEN, *map(str, decisions.ONLY_WHEN_TOLD)}
    wrong = []
    for name in sorted(documented - seen - exempted):
        kind = "status code" if name.isdecimal() else "header" if " " in name else "property"
        table = "ONLY_WHEN_TOLD" if name.isdecimal() else "NEVER_SEEN"
        wrong.append(
            f"The {kind} {name} of openapi.yaml was in no answer: let the mock answer so (src/mixpeek_batches/mock/) "
            f"and a clause ask for it (contract_tests/clauses.py), or exempt it under {table} in {_DECISIONS}."
        )
    wrong += [
        f"The mock answers the property {name}, which openapi.yaml does not have: take it out of "
        "src/mixpeek_batches/mock/, or put it into the contract."
        for name in sorted({name for name in seen if "." in name} - documented)
    ]
    wrong += [
        f"{name} is not in openapi.yaml any more: take it out of {_DECISIONS}."
        for name in sorted(exempted - documented)
    ]
    check(not wrong, "all that is in the contract, and nothing else", "\n".join(wrong))


@at_the_end(NAMED)
def not_blind(report: Report, check: Check) -> None:
    """At least half of the generated requests address batches that exist."""
    share = report.reached / max(report.generated, 1)
    check(share >= 0.5, "half or more", f"{report.reached} of {report.generated}")


# Checks of schemathesis.


@by_schemathesis("published")
def generated_not_a_server_error() -> None:
    """Schemathesis: no generated request brings a 5xx."""


@by_schemathesis("published")
def generated_status_code_conformance() -> None:
    """Schemathesis: generated requests get documented statuses."""


@by_schemathesis("published")
def generated_content_type_conformance() -> None:
    """Schemathesis: generated requests get documented content types."""


@by_schemathesis("published")
def generated_response_headers_conformance() -> None:
    """Schemathesis: generated requests get the documented headers."""


@by_schemathesis("published")
def generated_response_schema_conformance() -> None:
    """Schemathesis: generated requests get bodies of the documented schemas."""


@by_schemathesis("published")
def generated_negative_data_rejection() -> None:
    """Schemathesis: invalid data is refused."""


@by_schemathesis("published")
def generated_positive_data_acceptance() -> None:
    """Schemathesis: valid data is not refused as invalid."""


@by_schemathesis("published")
def generated_unsupported_method() -> None:
    """Schemathesis: other methods get 405 with Allow."""


@by_schemathesis("published")
def generated_ignored_auth() -> None:
    """Schemathesis: requests without the key, or with a wrong one, are refused."""
