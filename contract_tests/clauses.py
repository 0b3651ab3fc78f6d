"""Every clause of the contract: its name, its sentence and its check are one function.

To add one, write a function here: its docstring is what the contract states, its decorator names the source and what a
target must offer, and `phases` when it is called: before any batch is cancelled, if it is left out. Clauses are
called in the order of this file. Then add a mutant that breaks the clause to mutants.py.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import re
import string
from collections.abc import Iterable, Iterator
from email.message import Message
from typing import Any
from urllib.parse import unquote

import attrs

from mixpeek_batches import ConfigurationError
from mixpeek_batches.mock import MockState

from . import decisions, inputs, spec
from . import requirements as need
from .api import Api, named_statuses
from .clause import CLAUSES, Check, Phase, clause, of_each_response, of_schemathesis, of_the_run
from .report import Report, key_forms
from .session import LIMITED
from .target import MARK, BatchRef, Target, endpoint
from .wire import KEY_VARIABLE, MANY_KILOBYTES, Exchange, Request, Response, Wire, segment

__all__ = ["CLAUSES"]

METHODS = ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND")
BEFORE_AND_AFTER: tuple[Phase, ...] = ("before", "after")
"""That a batch is cancelled, or others are, makes it visible nowhere else."""

WRONG_KEY = f"Bearer {MARK}key"
_JSON = ("Content-Type", b"application/json")
_FORM = ("Content-Type", b"application/x-www-form-urlencoded")
_PREFLIGHT = (("Origin", b"https://example.org"), ("Access-Control-Request-Method", b"POST"))
_ONCE = ("content-type", "content-length", "retry-after", "location", "date", "etag")

# Each response.


@of_each_response("documented")
def answers(request: Request, response: Response, check: Check) -> None:
    """Every request gets a whole HTTP response."""
    check(response.failure is None, "a whole response", response.failure)


@of_each_response("published")
def no_server_error(request: Request, response: Response, check: Check) -> None:
    """No input, however long or odd, leads to a 5xx."""
    check(response.status < 500 or request.induced, "a status code below 500", response)


@of_each_response("published")
def documented_status(request: Request, response: Response, check: Check) -> None:
    """Every status code is one that the contract has for the request."""
    known = {*spec.CANCEL.responses} if request.method == spec.CANCEL.method else {404, 405, *LIMITED}
    if request.gateway_reason == MANY_KILOBYTES:
        known |= {413, 414, 431}  # as a gateway's, which count for nothing
    if response.status:
        check(response.status in known, f"one of {sorted(known)}", response.status)


@of_each_response("documented", scope="limiter")
def content_type(request: Request, response: Response, check: Check) -> None:
    """Every body is application/json."""
    if _has_body(request, response):
        media_type = response.header("content-type")
        header = Message()
        header["Content-Type"] = media_type or ""
        ok = header.get_content_type() == "application/json" and _is_utf8(header.get_content_charset("utf-8"))
        check(ok, "application/json", media_type)


@of_each_response("documented", scope="limiter")
def json_(request: Request, response: Response, check: Check) -> None:
    """Every body is one whole JSON value in UTF-8, and nothing else."""
    if _has_body(request, response):
        try:
            response.json()
        except ValueError as error:
            check(False, "JSON", f"{error}: {response}")
        else:
            check(True, "JSON", "")


@of_each_response("documented")
def headers_once(request: Request, response: Response, check: Check) -> None:
    """A header that holds one value occurs once."""
    names = [name for name, _ in response.headers]
    twice = [name for name in _ONCE if names.count(name) > 1]
    check(not twice, "each once", twice)


@of_each_response("documented", need.CANCELABLE)
def task_schema(request: Request, response: Response, check: Check) -> None:
    """The body of a 200 is a TaskResponse."""
    if _has_body(request, response) and response.status == 200 and _is_json(response):
        wrong = spec.mismatch("TaskResponse", _body(response))
        check(wrong is None, "a TaskResponse", wrong)


@of_each_response("published", need.CANCELABLE)
def task_canceled(request: Request, response: Response, check: Check) -> None:
    """The task of a 200 is CANCELED."""
    if task := _task(response):
        check(task.get("status") == decisions.CANCELED, f"status {decisions.CANCELED}", task.get("status"))


@of_each_response("assumed", need.CANCELABLE)
def task_type(request: Request, response: Response, check: Check) -> None:
    """The task's type is api_buckets_batches_process."""
    if task := _task(response):
        check(task.get("task_type") == decisions.TASK_TYPE, decisions.TASK_TYPE, task.get("task_type"))


@of_each_response("documented", need.AN_ERROR)
def error_message_due(request: Request, response: Response, check: Check) -> None:
    """error_message is derived from additional_data["error"]: a string, an object's message, else its JSON."""
    error, message = _error(_task(response)), _task(response).get("error_message")
    if error is not None:
        expected = error["message"] if isinstance(error, dict) and isinstance(error.get("message"), str) else error
        ok = message == expected if isinstance(expected, str) else _is_compact_json(message, expected)
        check(ok, f"error_message {expected!r}", repr(message))


@of_each_response("documented", need.NO_ERROR)
def error_message_absent(request: Request, response: Response, check: Check) -> None:
    """Without additional_data["error"], error_message is null or absent."""
    task = _task(response)
    if task and _error(task) is None:
        check(task.get("error_message") is None, "error_message null", repr(task.get("error_message")))


@of_each_response("published", scope="limiter")
def error_envelope(request: Request, response: Response, check: Check) -> None:
    """The body of every error is the error envelope."""
    if _has_body(request, response) and not 200 <= response.status < 300:
        wrong = spec.mismatch("ErrorResponse", _body(response))
        check(wrong is None, "the error envelope", wrong)


@of_each_response("published")
def envelope_status(request: Request, response: Response, check: Check) -> None:
    """In the envelope, status is the HTTP status code and success is false."""
    body, status = response.json_object(), response.status
    if body and not 200 <= status < 300 and request.method != "HEAD":
        got = f"success {body.get('success')!r}, status {body.get('status')!r}"
        check(body.get("status") == status and body.get("success") is False, f"success false, status {status}", got)


@of_each_response("published")
def www_authenticate(request: Request, response: Response, check: Check) -> None:
    """A 401 carries WWW-Authenticate: Bearer."""
    if response.status == 401:
        _check_header(response, check, "WWW-Authenticate")


@of_each_response("assumed")
def allow(request: Request, response: Response, check: Check) -> None:
    """A 405 carries Allow: POST."""
    if response.status == 405:
        value = response.header("allow")
        allowed = {method.strip().upper() for method in (value or "").split(",")}
        # Frameworks may add the two methods that say nothing about the endpoint.
        check(allowed - {"HEAD", "OPTIONS"} == {spec.CANCEL.method}, f"Allow: {spec.CANCEL.method}", value)


@of_each_response("assumed", need.A_LIMIT, scope="limiter")
def retry_after(request: Request, response: Response, check: Check) -> None:
    """A 429 and a 503 carry Retry-After."""
    if response.status in LIMITED:
        _check_header(response, check, "Retry-After")


@of_each_response("assumed", scope="anybody")
def key_not_repeated(request: Request, response: Response, check: Check) -> None:
    """No response, header or body, repeats the key."""
    keys = {value.decode("latin-1").rpartition(" ")[2] for value, _ in request.bash}
    secrets = {form for key in keys if len(key) >= 12 for form in (key_forms(key) if key.isascii() else [key])}
    texts = [response.reason, response.text, *(text for header in response.headers for text in header)]
    texts += [unquote(text) for text in texts if "%" in text]
    with contextlib.suppress(ValueError, RecursionError):
        texts += _strings(json.loads(response.text))  # what JSON may have escaped
    # Header names are in lower case here.
    shown = any(secret in text or secret.lower() == text for text in texts for secret in secrets)
    check(not shown, "no key in the response", "the key, in some form")


def _has_body(request: Request, response: Response) -> bool:
    """Check whether there is a whole response that must have a body."""
    return response.failure is None and request.method != "HEAD"


def _is_json(response: Response) -> bool:
    try:
        response.json()
    except ValueError:
        return False
    return True


def _is_utf8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name == "utf-8"
    except LookupError:
        return False


def _body(response: Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _task(response: Response) -> dict[str, Any]:
    return response.json_object() if response.status == 200 else {}


def _error(task: dict[str, Any]) -> Any:
    data = task.get("additional_data")
    return data.get("error") if isinstance(data, dict) else None


def _is_compact_json(text: object, value: object) -> bool:
    try:
        if not isinstance(text, str) or re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", text)):
            return False
        return json.dumps(json.loads(text), sort_keys=True) == json.dumps(value, sort_keys=True)  # 1 is not true
    except ValueError:
        return False


def _check_header(response: Response, check: Check, name: str) -> None:
    schema = spec.CANCEL.headers(response.status).get(name)
    value = response.header(name.lower())
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
        yield from (text for item in value.items() for text in _strings([*item]))
    elif isinstance(value, list):
        yield from (text for item in value for text in _strings(item))


# The form of requests and responses.


@clause("documented", phases=BEFORE_AND_AFTER)
def framing(api: Api) -> None:
    """A body is as long as its Content-Length says, also where the request announces no length; HEAD gets none."""
    for batch, method, key in (
        (api.next_reference()[0], "POST", ""), (api.unknown(), "POST", ""), (api.next_reference()[0], "GET", ""),
        (api.unknown(), "HEAD", ""), (api.next_batch(), "POST", WRONG_KEY),
    ):  # fmt: skip
        request = api.request(batch, method=method, key=key, send_length=False)
        problem = api.framing_problem(request)
        api.check(problem is None, Exchange(request, Response()), "as announced", problem)


@clause("documented")
def style(api: Api) -> None:
    """Header names in any case, an unknown query, another method or path in a header: all the same."""
    batch, status = api.next_reference()
    for spell in (str.lower, str.upper):
        key = (spell("Authorization"), f"Bearer {api.target.key}".encode())
        namespace = (spell("X-Namespace"), (api.target.namespace or "").encode())
        plain = {"key": None, "namespace": None}
        api.expect(status, batch, **plain, more=[key, namespace] if api.target.namespace is not None else [key])
        api.expect(404, batch, **plain, more=[key, (spell("X-Namespace"), MARK.encode())])
    query = "&".join(f"{name}={api.made_up()}" for name in ("bucket_identifier", "batch_id", "bucket", "id"))
    api.expect(status, f"{batch.path}?{query}&force=true&x=1")
    unknown = api.unknown()
    api.expect(404, f"{unknown.path}?bucket_identifier={segment(batch.bucket)}&batch_id={segment(batch.batch)}&x=1")
    api.expect(404, f"{BatchRef(batch.bucket, unknown.batch).path}?batch_id={segment(batch.batch)}")
    other_site = [("Origin", b"https://example.org"), ("Sec-Fetch-Site", b"cross-site")]
    override = [(name, b"GET") for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")]
    api.expect(status, batch, more=[*override, *other_site])
    api.expect(404, unknown, more=[(name, batch.path.encode()) for name in ("X-Original-URL", "X-Rewrite-URL")])
    first = segment(batch.batch[0])
    if len(first) == 1 and batch in api.target.known:
        api.expect(status, batch.path.replace(f"/batches/{first}", f"/batches/%{ord(first):02X}"))


@clause("documented")
def namespace_elsewhere(api: Api) -> None:
    """X-Namespace may be left out; a namespace in another header, the query, the body or a cookie has no effect."""
    batch = api.next_reference()[0]
    api.expect(404, api.unknown(), namespace=None)
    without = api.ask(batch, namespace=None).response.status
    for name in dict.fromkeys((api.target.namespace or api.made_up(), api.made_up())):
        value = name.encode()
        more = [(header, value) for header in ("Namespace", "X-Namespace-Id", "X-Namespace-Name", "X-Tenant")]
        more += [("Cookie", b"namespace=%b; ns=%b; x-namespace=%b" % (value, value, value))]
        exchange = api.ask(f"{batch.path}?namespace={segment(name)}&ns={segment(name)}", namespace=None, more=more)
        api.check(exchange.response.status == without, exchange, f"{without}, as without", exchange.response)


@clause("documented")
def accept(api: Api) -> None:
    """Whatever Accept says, or nothing, the response is the same, and JSON."""
    browser, problem = b"text/html,application/xhtml+xml,*/*;q=0.8", b"application/problem+json;version=2"
    for value in (browser, b"application/xml", problem, None):
        api.expect_no_effect(accept=value)
    api.expect(404, f"/v1/{api.made_up()}", accept=b"text/html")
    api.expect(405, method="GET", accept=b"text/html")
    plain = _error_type(api.ask(api.unknown()).response)
    for header in (("Accept-Language", b"de"), ("Accept-Encoding", b"gzip"), ("User-Agent", b"Mozilla/5.0")):
        exchange = api.expect(404, api.unknown(), more=[header])
        found = _error_type(exchange.response)
        api.check(found == plain, exchange, f"the error's type as ever, {plain}", found)


@clause("assumed")
def body_means_nothing(api: Api) -> None:
    """A body, of whatever media type and content, changes nothing."""
    batch, _ = api.next_reference()
    other = {name: api.made_up() for name in ("bucket_identifier", "batch_id", "namespace")}
    for media_type, body in (
        (_JSON, b"[1]"), (_JSON, json.dumps(other).encode()), (_JSON, b"{not json"),
        (_JSON, b'{"status": "PENDING", "force": true, "api_key": "' + MARK.encode() + b'"}'),
        (_FORM, b"_method=DELETE&batch_id=" + batch.batch.encode()), (("Content-Type", b"text/plain"), b"x" * 100),
    ):  # fmt: skip
        api.expect_no_effect(body=body, more=[media_type])
    for headers, body in (
        ([_JSON], b""), ([_JSON], b"null"), ([_JSON], b"\xff\xfe"), ([], b"x"),
        ([("Content-Type", b"multipart/form-data")], b"x"),
        ([("Content-Type", b"application/json; charset=none"), ("Content-Encoding", b"gzip")], b"x"),
    ):  # fmt: skip
        api.expect(404, api.unknown(), body=body, more=headers)
    named = {"namespace": api.target.namespace, "x_namespace": api.target.namespace, "batch_id": batch.batch}
    options: dict[str, Any] = {"body": json.dumps(named).encode(), "more": [_JSON]}
    api.expect(404, BatchRef(batch.bucket, api.made_up()), **options)
    api.expect(404, batch, namespace=api.made_up(), **options)


@clause("documented")
def length_unannounced(api: Api) -> None:
    """A request without Content-Length, or in chunks, is as good as one with it."""
    api.expect_no_effect(send_length=False)
    api.expect_no_effect(send_length=False, body=b"{}", more=[_JSON])


@clause("assumed", phases=("after",))
def header_twice(api: Api) -> None:
    """Of two keys or namespaces in one request, the same one counts whichever is right, or none: 401 or 404, or 400."""
    batch = api.next_batch()
    plain = _refusal(api.ask(batch))
    pairs = [("Authorization", "key", f"Bearer {api.target.key}", f"Bearer {api.made_up()}", 401)]
    if api.target.namespace and batch in api.target.known:
        pairs.append(("X-Namespace", "namespace", api.target.namespace, api.made_up(), 404))
    for header, option, right, wrong, refused in pairs:
        orders: list[dict[str, Any]] = [
            {option: right, "more": [(header, wrong.encode())]}, {option: wrong, "more": [(header, right.encode())]}
        ]  # fmt: skip
        exchanges = [api.ask(batch, **options) for options in orders]
        others = [exchange for exchange in exchanges if _refusal(exchange) != plain]
        for exchange in others:
            api.check_status(exchange, refused, 400)
        api.check(bool(others), exchanges[0], "a refusal of one of the two orders", exchanges[0].response)


def _error_type(response: Response) -> object:
    """Return the type of an error, or the whole body if it is none."""
    body = response.json_object()
    error = body.get("error")
    return error.get("type") if isinstance(error, dict) else body


def _refusal(exchange: Exchange) -> object:
    return exchange.response.status, named_statuses(exchange.response)


# The key.


@clause("published", phases=BEFORE_AND_AFTER)
def no_key(api: Api) -> None:
    """Without Authorization: 401."""
    api.expect(401, key=None)
    for empty in ("Bearer", "Bearer ", b""):
        api.expect(401, key=empty)


@clause("published")
def key_in_any_namespace(api: Api) -> None:
    """A missing or wrong key is the same 401 in any namespace, an empty one or none; on an odd path 401 or 404."""
    namespaces = (None, b"", api.target.namespace_id, api.target.other_namespace, api.target.forbidden_namespace)
    for key in (None, WRONG_KEY):
        real = [{"namespace": name} for name in dict.fromkeys(namespaces)]
        api.expect_alike(401, real, lambda: {"namespace": api.made_up()}, key=key)
        path = api.next_batch().path
        for odd in (path.replace("/buckets/", "/b%75ckets/"), path.replace("/v1/", "/v1//")):
            api.expect(401, odd, 404, key=key)


@clause("published")
def other_scheme(api: Api) -> None:
    """With another scheme than Bearer: 401."""
    for value, bash in inputs.other_schemes(api.target.key):
        api.expect(401, key=value, bash=bash)


@clause("published")
def key_in_full(api: Api) -> None:
    """Keys are compared in full, case included: 401, which does not tell how near a key is."""
    key = api.target.key
    prefix = key[: key.rfind("_", 0, -8) + 1]  # which may show that a key is of another sort
    length = len(key) - len(prefix)
    some = api.random.sample(range(length), min(6 if api.target.unlimited else 4, length))
    positions = sorted({len(prefix) + at for at in (0, length // 2, length - 1, *some)})
    for wrong, bash in (*inputs.wrong_keys(key), *inputs.one_character_changed(key, range(len(prefix))[:1])):
        api.expect(401, key=f"Bearer {wrong}", bash=f"Bearer {bash}")

    def wrong_key() -> dict[str, Any]:
        others = (string.ascii_letters.replace(character, "") for character in key[len(prefix) :])
        return {"key": f"Bearer {prefix}{''.join(map(api.random.choice, others))}"}

    near = inputs.one_character_changed(key, positions)
    api.expect_alike(401, [{"key": f"Bearer {wrong}", "bash": f"Bearer {bash}"} for wrong, bash in near], wrong_key)
    for odd in (b"Bearer \xff\xfe", b"Bearer " + b"x" * 5000):
        api.expect(401, key=odd)
    for scheme in ("bearer", "BEARER"):
        api.expect(401, key=f"{scheme} {key}x", bash=f"{scheme} ${{{KEY_VARIABLE}}}x")
        api.expect(401, key=f"{scheme} {MARK}")


@clause("assumed")
def key_elsewhere(api: Api) -> None:
    """A key in another header, the query or a cookie is no key, nor is another header a way around it: 401."""
    text, key = api.target.key, api.target.key.encode()
    plain = ("X-API-Key", "Api-Key", "ApiKey", "X-Auth-Token", "X-Access-Token", "X-Token", "X-Goog-Api-Key",
             "Ocp-Apim-Subscription-Key")  # fmt: skip
    bearer = ("X-Authorization", "Proxy-Authorization", "X-Original-Authorization")
    trusted = {
        "Origin": b"http://localhost", "X-Forwarded-User": b"admin", "X-Remote-User": b"admin", "Remote-User": b"admin",
        "X-Real-IP": b"127.0.0.1", "X-Forwarded-For": b"127.0.0.1", "Forwarded": b"for=127.0.0.1", "X-Debug": b"1",
        "X-Internal": b"true", "X-Original-URL": b"/health", "X-Middleware-Subrequest": b"middleware",
        "Access-Control-Request-Method": b"POST", "Access-Control-Request-Headers": b"authorization",
    }  # fmt: skip
    api.expect(401, key=None, more=[*((name, key) for name in plain), *((name, b"Bearer " + key) for name in bearer)])
    api.expect(401, key=None, more=[*trusted.items()])
    names = ("api_key", "access_token", "token", "key", "apikey", "session")
    parameters = [f"{name}={text}" for name in names]
    if not set(text) & set('"\\;'):
        api.expect(401, key=None, more=[("Cookie", "; ".join(parameters).encode())])
        api.expect(401, key=None, more=[_JSON], body=json.dumps(dict.fromkeys(names, text)).encode())
    if not set(text) & set("&#%+?=;"):
        api.expect(401, key=None, more=[_FORM], body="&".join(parameters).encode())
        api.expect(401, f"{api.next_batch().path}?{'&'.join(parameters)}", key=None)


@clause("assumed")
def connection_remembers_nothing(api: Api) -> None:
    """What an earlier request on the same connection said, or a cookie from its response, counts for no later one."""
    batch, status = api.next_reference()
    with Wire(api.target.base_url) as wire:
        without = api.ask(batch, namespace=None, wire=wire).response.status
        good = api.expect(status, batch, wire=wire)
        api.expect(401, batch, key=None, wire=wire)
        api.expect(401, batch, key=f"Bearer {api.made_up()}", wire=wire)
        for name in ("", api.made_up(), api.target.other_namespace):
            if name is not None:
                api.expect(404 if name else status, batch, namespace=name, wire=wire)
                again = api.ask(batch, namespace=None, wire=wire)
                ok = again.response.status == without
                api.check(ok, again, f"{without}, as before a namespace was named", again.response)
        api.expect(status, batch, wire=wire)
        cookies = [value.partition(";")[0] for name, value in good.response.headers if name == "set-cookie"]
        api.expect(401, batch, key=None, wire=wire, more=[("Cookie", "; ".join([*cookies, "a=b"]).encode())])


@clause("published", phases=BEFORE_AND_AFTER)
def scheme_any_case(api: Api) -> None:
    """The name of the scheme is case-insensitive."""
    batch, status = api.next_reference()
    for scheme in ("bearer", "BEARER", "bEaReR"):
        api.expect(status, batch, key=f"{scheme} {api.target.key}")


# The order of the checks.


@clause("assumed")
def method(api: Api) -> None:
    """Another method on the path: 405."""
    for name in METHODS:
        api.expect(405, method=name)
    for name in METHODS[1:4]:
        api.expect(405, api.unknown(), method=name)
    api.expect(405, method="GET", more=[("X-HTTP-Method-Override", b"POST")])
    api.expect(405, f"{api.next_batch().path}?_method=POST", method="GET")
    for key in ("", None):
        api.expect(405, method="OPTIONS", more=_PREFLIGHT, key=key)
    api.expect(405, endpoint(api.made_up(), api.made_up() + "x" * 2000), method="PUT")
    api.expect(405, api.next_batch(), 501, method="FOO")


@clause("assumed", need.CANCELABLE, phases=("after",))
def method_after_cancel(api: Api) -> None:
    """Another method on a cancelled batch is 405, and changes nothing about it."""
    for batch, task in [*api.tasks.items()][:1]:
        for name in ("GET", "PUT", "DELETE"):
            api.expect(405, batch, method=name)
        _expect_task(api, batch, task)


@clause("assumed", need.NAMED, phases=("after",))
def request_id_means_nothing(api: Api) -> None:
    """An Idempotency-Key or X-Request-Id that came before, for another batch, namespace or key, changes nothing."""
    value = api.made_up().encode()
    more = [(name, value) for name in ("Idempotency-Key", "X-Idempotency-Key", "X-Request-Id", "X-Correlation-Id")]
    for batch, task in [*api.tasks.items()][:2]:
        _expect_task(api, batch, task, more=more)
    api.expect_no_effect(more=more)
    batch = api.next_batch()
    api.expect(401, batch, more=more, key=None)
    api.expect(404, batch, more=more, namespace=api.made_up())


def _expect_task(api: Api, batch: BatchRef, task: object, **options: Any) -> None:
    """Expect the task that a batch had when it was cancelled."""
    exchange = api.expect(200, batch, **options)
    api.check(exchange.response.json_object() == task, exchange, "the same task", exchange.response)


@clause("assumed")
def method_before_key(api: Api) -> None:
    """Another method is 405 also without a key, or in a namespace that is unknown or not allowed."""
    for name in METHODS[:6]:
        api.expect(405, method=name, key=None)
    for name in METHODS[:4]:
        api.expect(405, method=name, key=WRONG_KEY)
        api.expect(405, method=name, namespace=api.made_up())
    if api.target.forbidden_namespace is not None:
        api.expect(405, method="GET", namespace=api.target.forbidden_namespace)


@clause("assumed", need.NAMED)
def method_tells_nothing(api: Api) -> None:
    """The response to another method tells nothing about a batch, not even whether it exists."""
    for name, more in (("GET", ()), ("HEAD", ()), ("OPTIONS", _PREFLIGHT)):
        api.expect_unseen(405, [api.next_batch(), api.next_batch()], api.unknown, method=name, more=more)


@clause("assumed")
def key_before_batch(api: Api) -> None:
    """A wrong key is 401 also where namespace, bucket or batch are unknown, and never tells which are."""
    for key in (WRONG_KEY, None):
        api.expect(401, api.unknown(), key=key, namespace=api.made_up())
        api.expect_unseen(401, api.samples, api.unknown, key=key)


@clause("assumed", need.FINISHED)
def key_before_status(api: Api) -> None:
    """A wrong key is 401 also for a finished batch."""
    for batch in api.target.finished:
        api.expect(401, batch, key=WRONG_KEY)


# Finished batches.


@clause("assumed", need.FINISHED, phases=BEFORE_AND_AFTER)
def finished(api: Api) -> None:
    """A finished batch: 400."""
    for batch in api.target.finished:
        api.expect(400, batch)
        if api.target.namespace_id is not None:
            api.expect(400, batch, namespace=api.target.namespace_id)


@clause("assumed", need.FINISHED)
def finished_details(api: Api) -> None:
    """The details of that 400 name the batch's status."""
    for batch in api.target.finished:
        exchange = api.ask(batch)
        named, status = named_statuses(exchange.response), api.target.statuses.get(batch)
        ok = named == [status] if status else len(named) == 1
        api.check(ok, exchange, f"{status or 'one status'} in details", exchange.response)
        api.refused_as[batch] = named


@clause("assumed", need.FINISHED, phases=BEFORE_AND_AFTER)
def finished_unchanged(api: Api) -> None:
    """A finished batch stays as it was."""
    for batch in api.target.finished:
        exchange, status = api.ask(batch), api.refused_as[batch]
        ok = exchange.response.status == 400 and named_statuses(exchange.response) == status
        api.check(ok, exchange, f"400 and {status}, each time", exchange.response)


# Where batches are.


@clause("published")
def unknown_path(api: Api) -> None:
    """An unknown path: 404."""
    path = api.unknown().path
    for wrong in (
        f"/v1/{api.made_up()}", path.removesuffix("cancel") + api.made_up(), path.removesuffix("/cancel"), f"{path}/",
        path.replace("/batches/", "//batches/"), f"/v1/buckets/{api.made_up()}/./batches/x/cancel",
    ):  # fmt: skip
        api.expect(404, wrong)
    for odd in ("%22%27%3Cb%3E", "%5C", "%0A"):
        api.expect(404, f"/v1/{api.made_up()}{odd}", *(() if api.target.mock else (400, 422)))
    api.expect(404, f"/v1/{api.made_up()}", method="GET")


@clause("published", need.NAMED, need.OWN_ACCOUNT)
def near_path(api: Api) -> None:
    """What is nearly the path of a batch is unknown: 404."""
    name = api.made_up()
    for part, wrong in (
        ("/cancel", "/CANCEL"), ("/v1/", "/v2/"), ("/v1/", "/V1/"), ("/v1/", "/x/v1/"), ("/cancel", "/cancel/x"),
        ("/cancel", "/cancelx"), ("/cancel", "/cancel.json"), ("/cancel", "/cancel;x=1"), ("/buckets/", "/bucket/"),
        ("/v1", ""), ("/cancel", "/%63ancel/x"), ("/cancel", ""), ("/cancel", ":cancel"),
        ("/buckets/", f"/buckets/{name}/"), ("/batches/", f"/batches/{name}/"),
    ):  # fmt: skip
        api.expect(404, api.next_reference()[0].path.replace(part, wrong))
    batch, _ = api.next_reference()
    odd = batch.path.replace("/cancel", "%FF/cancel")
    exchange = api.expect(404, odd, *(() if api.target.mock else (400, 422)))
    api.check(_refusal(exchange) != _refusal(api.ask(batch)), exchange, "another batch", exchange.response)
    # A gateway or a framework may take these two for the plain path.
    for merged in (batch.path.replace("/batches/", "//batches/"), f"{batch.path}/"):
        api.expect(404, merged, *api.merged_slashes)


@clause("published")
def unknown_batch(api: Api) -> None:
    """An unknown batch in a known bucket: 404."""
    api.expect(404, api.unknown())
    bucket = api.next_batch().bucket
    api.expect(404, BatchRef(bucket, api.made_up()))
    if api.target.own_account:
        for batch in ("12345", "00000000-0000-4000-8000-000000000000", "constructor", "__proto__"):
            api.expect(404, BatchRef(bucket, batch))
        api.expect(404, BatchRef("constructor", "constructor"))
        api.expect(404, BatchRef(bucket, api.made_up()), namespace="constructor")


@clause("published", need.NAMED, phases=BEFORE_AND_AFTER)
def unknown_bucket(api: Api) -> None:
    """A known batch in an unknown bucket: 404."""
    for batch in api.samples:
        api.expect(404, BatchRef(api.made_up(), batch.batch))


@clause("published", need.TWO_BUCKETS, phases=BEFORE_AND_AFTER)
def other_bucket(api: Api) -> None:
    """A batch of another known bucket: 404."""
    for wrong in _in_other_buckets(api, api.target.known[:6]):
        api.expect(404, wrong)


@clause("published", need.NAMED)
def identifier_in_full(api: Api) -> None:
    """Identifiers are compared in full: 404 for a longer one."""
    for end in inputs.ENDS:
        more = f"{end}{api.made_up()}"
        for place in ("batch", "bucket"):
            batch = api.next_batch()
            api.expect(404, attrs.evolve(batch, **{place: getattr(batch, place) + more}))
    for batch in api.samples[:2]:
        api.expect(404, BatchRef(batch.bucket, api.made_up() + batch.batch))
        api.expect(404, BatchRef(api.made_up() + batch.bucket, batch.batch))


@clause("published", need.FINISHED, need.OWN_ACCOUNT)
def identifier_exact(api: Api) -> None:
    """What is nearly an identifier is another one, in case, accents, digits, spaces or slashes; so is a word: 404."""
    finished, first = api.target.finished, api.target.finished[0]

    def usable(batch: BatchRef) -> bool:
        return batch not in api.target.known and not {batch.bucket, batch.batch} & {"", ".", ".."}

    for wrong in (
        *inputs.in_turn([[BatchRef(one.bucket, text) for text in inputs.near(one.batch)] for one in finished], usable),
        *inputs.in_turn([[BatchRef(text, one.batch) for text in inputs.near(one.bucket)] for one in finished], usable),
        BatchRef(first.batch, first.bucket),
        BatchRef(first.bucket + first.batch[0], first.batch[1:] or MARK),
    ):
        api.expect(404, wrong, *(api.merged_slashes if "/" in f"{wrong.bucket}{wrong.batch}" else ()))


@clause("published", need.NAMED, phases=BEFORE_AND_AFTER)
def unknown_namespace(api: Api) -> None:
    """A known batch in an unknown namespace: 404."""
    for batch in api.samples:
        api.expect(404, batch, namespace=api.made_up())
    names = [name for name in (api.target.namespace, api.target.namespace_id) if name is not None]
    ends = filter(str.isprintable, inputs.ENDS[-1:] if api.tasks else inputs.ENDS)
    for name, end in zip(itertools.cycle(names or [api.made_up()]), ends, strict=False):
        api.expect(404, api.samples[-1], namespace=f"{name}{end}{api.made_up()}")
    for name in names:
        api.expect(404, api.samples[-1], namespace=f"{api.made_up()},{name}")


@clause("published", need.NAMED, need.OWN_ACCOUNT)
def namespace_exact(api: Api) -> None:
    """What is nearly a namespace is another one, in case, accents, digits, suffixes or slashes; so is a word: 404."""
    target = api.target
    names = [name for name in (target.namespace_id, target.namespace) if name is not None]

    def usable(text: str) -> bool:
        others = target.other_namespace, target.forbidden_namespace
        return text == text.strip().strip("\0") != "" and text not in {*names, *others}

    near = inputs.in_turn([inputs.near(name) for name in names], usable)
    for text in (*near, *(text for name in names for text in (f"{name}, {name}x", f"ns_{name}"))):
        api.expect(404, api.next_reference()[0], namespace=text)


@clause("published", need.OTHER_NAMESPACE, need.NAMED, phases=BEFORE_AND_AFTER)
def other_namespace(api: Api) -> None:
    """A batch of another namespace: 404."""
    for batch in api.samples:
        api.expect(404, batch, namespace=api.target.other_namespace)


@clause("published", need.FORBIDDEN_NAMESPACE, phases=BEFORE_AND_AFTER)
def forbidden_namespace(api: Api) -> None:
    """A namespace that the key may not use: 403, whatever is requested there."""
    for batch in (*api.samples, api.unknown()):
        api.expect(403, batch, namespace=api.target.forbidden_namespace)


@clause("assumed", need.NAMED, phases=BEFORE_AND_AFTER)
def elsewhere_tells_nothing(api: Api) -> None:
    """A 404 does not tell whether a batch of this name is in another bucket or namespace, nor what else there is."""
    api.expect_unseen(404, [BatchRef(api.made_up(), batch.batch) for batch in api.samples], api.unknown)
    in_others = _in_other_buckets(api, api.samples)
    api.expect_unseen(404, in_others, lambda: BatchRef(api.next_batch().bucket, api.made_up()))
    if api.target.other_namespace is not None:
        api.expect_unseen(404, api.samples, api.unknown, namespace=api.target.other_namespace)
    for exchange in api.report.exchanges:
        if exchange.response.status in {401, 404, 405}:
            shown = _names_beyond(api.target, exchange)
            api.check(not shown, exchange, "no name that was not requested", shown)


def _in_other_buckets(api: Api, batches: Iterable[BatchRef]) -> list[BatchRef]:
    """Return batches in another bucket that there is, where they are not."""
    buckets = {batch: [known.bucket for known in api.target.known if known.bucket != batch.bucket] for batch in batches}
    wrong = [BatchRef(others[0], batch.batch) for batch, others in buckets.items() if others]
    return [batch for batch in wrong if batch not in api.target.known]


def _names_beyond(target: Target, exchange: Exchange) -> list[str]:
    """Return the names of what there is that a response has, but for those that the request has or that lead to it."""
    request, response = exchange.request, exchange.response
    own = {target.namespace, target.namespace_id}
    names = {target.other_namespace, target.forbidden_namespace, *(batch.batch for batch in target.known)}
    if (request.header("x-namespace") or b"").decode("latin-1") not in {"", *own}:
        names |= own
    sent = " ".join(text for part in request.texts for text in (part, unquote(part))) + request.body.decode("latin-1")
    told = "\n".join([response.text, *(value for _, value in response.headers)])
    words = [name for name in names if name and len(name) >= 6 and not name.isalpha()]
    return [name for name in words if name not in sent and re.search(rf"\b{re.escape(name)}\b", told)]


@clause("published")
def odd_identifiers(api: Api) -> None:
    """Odd, long and non-ASCII identifiers that no batch has: 404."""
    bucket = segment(api.next_batch().bucket)
    key = api.target.key
    if api.target.mock is not None:  # elsewhere an error may repeat the name that was requested
        for path in (endpoint(bucket, MARK + key), endpoint(MARK + key, f"{MARK}x")):
            api.expect(404, f"{path}?key={key}")
        api.expect(404, namespace=MARK + key)
    for number, text in enumerate(inputs.odd_texts(api.made_up())):
        api.expect(404, endpoint(*((bucket, segment(text)) if number % 2 else (segment(text), api.made_up()))))
    for text in inputs.extreme_segments(api.made_up()):
        for path in (endpoint(bucket, text), endpoint(text, f"{MARK}x")):
            exchange = api.expect(404, path, *(() if api.target.mock else (400, 414, 422)))
            injected = exchange.response.header("x-injected")
            api.check(injected is None, exchange, "no X-Injected header", injected)


@clause("published")
def odd_namespaces(api: Api) -> None:
    """Odd, long and non-ASCII namespaces that do not exist: 404."""
    name = api.made_up()
    for odd in ("a b", '"', "'; --", "{}", "%00", "*$", "../x", "__proto__", "x" * 300, "x" * 2000, "a;b"):
        api.expect(404, namespace=f"{name}{odd}")
    others = () if api.target.mock else (400, 422, 431)
    for raw in ("ü日本".encode(), b"\xff", b"x" * 5000, b"\tx"):
        api.expect(404, None, *others, namespace=name.encode() + raw)
    api.expect(404, api.unknown(), 400, 422, namespace=b"")


@clause("published", need.A_MOCK)
def refusal_changes_nothing(api: Api) -> None:
    """A request that is refused cancels nothing."""
    exchange, what = api.report.changed[0] if api.report.changed else (None, "")
    api.check(exchange is None, exchange, "nothing changed", what)


# Cancelling.


@clause("documented", need.CANCELABLE, phases=("cancelling",))
def cancel(api: Api) -> None:
    """A batch that can be cancelled: 200."""
    for number, batch in enumerate(api.target.cancelable):
        if number != 1:  # that one is cancelled by several requests at once
            _keep_task(api, batch, api.expect(200, batch))


def _keep_task(api: Api, batch: BatchRef, exchange: Exchange) -> None:
    """Keep the task of a batch, if the response has one: there is nothing to compare an error with."""
    if task := _task(exchange.response):
        api.tasks.setdefault(batch, task)


@clause("assumed", need.SECOND, phases=("cancelling",))
def idempotent_simultaneous(api: Api) -> None:
    """Of many simultaneous cancels all get 200 and the same task."""
    batch = api.target.cancelable[1]
    for exchange in api.send_at_once([api.request(batch) for _ in range(4)]):
        _keep_task(api, batch, exchange)
        ok = exchange.response.status == 200 and exchange.response.json_object() == api.tasks.get(batch)
        api.check(ok, exchange, "200 and one task", exchange.response)


@clause("assumed", need.CANCELABLE, phases=("cancelling",))
def idempotent(api: Api) -> None:
    """Cancelled again, it gets 200 and the same task, field by field."""
    for batch, first in [*api.tasks.items()] * 2:
        again = api.expect(200, batch)
        second = _task(again.response) or first
        differ = sorted(name for name in {*first, *second} if first.get(name, ...) != second.get(name, ...))
        api.check(not differ, again, "the same task", f"other: {differ}")


@clause("assumed", need.SECOND, phases=("cancelling",))
def one_task_each(api: Api) -> None:
    """Two batches have two tasks."""
    exchanges = [api.ask(batch) for batch in api.target.cancelable]
    ids = [task["task_id"] for exchange in exchanges if (task := _task(exchange.response)).get("task_id")]
    if len(ids) > 1:
        api.check(len({*map(str, ids)}) == len(ids), exchanges[-1], "one task_id for each batch", ids)


@clause("published", need.CANCELABLE, need.OWN_ACCOUNT, phases=("cancelling",))
def task_is_no_batch(api: Api) -> None:
    """The task's id in place of the batch's is unknown: 404."""
    for batch, task in [*api.tasks.items()][:1]:
        if isinstance(task.get("task_id"), str) and task["task_id"] not in {"", ".", "..", batch.batch}:
            api.expect(404, BatchRef(batch.bucket, task["task_id"]))


@clause("assumed", need.NAMED, phases=("cancelling",))
def no_mixing(api: Api) -> None:
    """Requested at the same moment, different batches, namespaces and keys each get their own response."""
    asked: list[dict[str, Any]] = [
        {"batch": batch} for batch in (api.unknown(), *api.target.cancelable[:2], *api.target.finished[:1])
    ]
    asked += [{"batch": api.next_batch(), "namespace": api.made_up()}, {"batch": api.next_batch(), "key": WRONG_KEY}]
    alone = [api.ask(**options).response for options in asked]
    for _ in range(2 if api.target.unlimited else 1):
        many = api.send_at_once([api.request(**options) for options in (*asked, *asked[::-1])])
        for exchange, response in zip(many, (*alone, *alone[::-1]), strict=True):
            same = exchange.response.status == response.status
            same = same and _error_type(exchange.response) == _error_type(response)
            api.check(same, exchange, f"as alone: {response}", exchange.response)


@clause("documented", need.NAMESPACE_ID, need.CANCELABLE, phases=("after",))
def namespace_by_id(api: Api) -> None:
    """A namespace may be named by its id."""
    for batch, task in [*api.tasks.items()][:1]:
        _expect_task(api, batch, task, namespace=api.target.namespace_id)


@clause("documented", need.CANCELABLE, need.DEFAULT_NAMESPACE, phases=("after",))
def default_namespace(api: Api) -> None:
    """Without X-Namespace, the key's default namespace is used."""
    batch = api.target.cancelable[0]
    if api.target.mock is not None:
        batch = api.unknown()
        api.target.mock.add_batch(batch.bucket, batch.batch)
    api.expect(200, batch, namespace=None)


# What needs more batches, and the state behind the server.


def _mock(api: Api) -> MockState:
    assert api.target.mock is not None
    return api.target.mock


def _added(api: Api, statuses: Iterable[str], **fields: Any) -> Iterator[tuple[str, BatchRef]]:
    """Add a batch in each status to the mock; one that it refuses breaks the clause."""
    for status in statuses:
        batch = api.unknown()
        try:
            _mock(api).add_batch(batch.bucket, batch.batch, namespace=api.target.namespace, status=status, **fields)
            yield status, batch
        except ConfigurationError as error:
            what = f"a mock that knows {status} (make generate; src/mixpeek_batches/mock/)"
            api.check(False, None, what, error)


def _state(api: Api, batch: BatchRef) -> dict[str, Any]:
    """Return the task of a batch as the mock has it now."""
    return _mock(api).batch(batch.bucket, batch.batch, namespace=api.target.namespace).task()


@clause("assumed", need.A_MOCK, phases=("after",))
def opaque_identifiers(api: Api) -> None:
    """Identifiers with / ? # % and any Unicode arrive as sent."""
    bucket = api.made_up()
    for odd in ("a/b", "a?b#c", "100%", "%2F", "a b", "ü/日本語", "+&=;"):
        _mock(api).add_batch(bucket + odd, odd, namespace=api.target.namespace)
        api.expect(200, BatchRef(bucket + odd, odd))


@clause("published", need.A_MOCK, phases=("after",))
def cancel_every_status(api: Api) -> None:
    """A batch in any status that contract_tests/decisions.py calls CANCELABLE: 200."""
    for _, batch in _added(api, decisions.CANCELABLE):
        api.expect(200, batch)


@clause("assumed", need.A_MOCK, phases=("after",))
def finished_every_status(api: Api) -> None:
    """A batch in any status that contract_tests/decisions.py calls FINISHED: 400 with that status, and it keeps it."""
    for status, batch in _added(api, decisions.FINISHED):
        exchange = api.expect(400, batch)
        named, now = named_statuses(exchange.response), _state(api, batch)["status"]
        api.check(named == [status], exchange, f"{status} in details", exchange.response)
        api.check(now == status, exchange, status, now)


@clause("published", need.A_MOCK, phases=("after",))
def canceled_afterwards(api: Api) -> None:
    """After a 200 the batch is CANCELED."""
    for _, batch in _added(api, decisions.CANCELABLE):
        exchange, now = api.ask(batch), _state(api, batch)["status"]
        api.check(now == decisions.CANCELED, exchange, decisions.CANCELED, now)


@clause("assumed", need.A_MOCK, phases=("after",))
def task_kept(api: Api) -> None:
    """The task keeps its task_id, inputs, outputs and additional data, and with them why it failed."""
    kept = ("task_id", "inputs", "outputs", "additional_data", "error_message")
    for error in (None, "plain", {"message": "of an object", "code": 5}, {"code": 5}, ["a", 1], 0, ""):
        data = {"job_id": "j", "error": error}
        fields: dict[str, Any] = {"inputs": ["a", {"b": [1, None]}], "outputs": ["o"], "additional_data": data}
        for _, batch in _added(api, decisions.CANCELABLE[:1], **fields):
            before = _state(api, batch)
            for _ in range(2):
                exchange, now = api.expect(200, batch), _state(api, batch)
                task = exchange.response.json_object()
                differ = [name for name in kept if task.get(name) != before[name] or now[name] != before[name]]
                api.check(not differ, exchange, "the task kept", f"other: {differ}")


@clause("suite", need.A_MOCK, phases=("after",))
def faults(api: Api) -> None:
    """What only a planned fault leads to is as the contract says."""
    for status in decisions.ONLY_BY_FAULT:
        _mock(api).fail_next(status)
        api.expect(status, api.unknown(), induced=True)


# What makes a run mean something.


_DECISIONS = "contract_tests/decisions.py"


@of_the_run()
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


@of_the_run()
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


@of_the_run(need.A_MOCK)
def everything_seen(report: Report, check: Check) -> None:
    """Each status code, header and property of the contract was in a response or is exempted; no other property was."""
    documented, seen = report.documented(), report.seen
    exempted = {*decisions.NEVER_SEEN, *map(str, decisions.ONLY_BY_FAULT)}
    wrong = []
    for name in sorted(documented - seen - exempted):
        kind = "status code" if name.isdecimal() else "header" if " " in name else "property"
        table = "ONLY_BY_FAULT" if name.isdecimal() else "NEVER_SEEN"
        wrong.append(
            f"The {kind} {name} of openapi.yaml was in no response: let the mock send it (src/mixpeek_batches/mock/) "
            f"and a clause ask for it (contract_tests/clauses.py), or exempt it under {table} in {_DECISIONS}."
        )
    wrong += [
        f"The mock sends the property {name}, which openapi.yaml does not have: take it out of "
        "src/mixpeek_batches/mock/, or put it into the contract."
        for name in sorted({name for name in seen if "." in name} - documented)
    ]
    wrong += [
        f"{name} is not in openapi.yaml any more: take it out of {_DECISIONS}."
        for name in sorted(exempted - documented)
    ]
    check(not wrong, "all that is in the contract, and nothing else", "\n".join(wrong))


@of_the_run(need.NAMED)
def not_blind(report: Report, check: Check) -> None:
    """At least half of the generated requests address batches that exist."""
    share = report.reached / max(report.generated, 1)
    check(share >= 0.5, "half or more", f"{report.reached} of {report.generated}")


# Checks of schemathesis.

for _check, _sentence in {
    "not_a_server_error": "no generated request leads to a 5xx.",
    "status_code_conformance": "generated requests get documented status codes.",
    "content_type_conformance": "generated requests get documented content types.",
    "response_headers_conformance": "generated requests get the documented headers.",
    "response_schema_conformance": "generated requests get bodies of the documented schemas.",
    "negative_data_rejection": "invalid data is refused.",
    "positive_data_acceptance": "valid data is not refused as invalid.",
    "unsupported_method": "other methods get 405 with Allow.",
    "ignored_auth": "requests without the key, or with a wrong one, are refused.",
}.items():
    of_schemathesis(_check, f"Schemathesis: {_sentence}")
