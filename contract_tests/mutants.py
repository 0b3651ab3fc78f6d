"""Small named breaches of the contract, to prove that the tests notice each.

A mutant changes what the mock is asked, or how it responds. To add one, add a row to the tables: its name, the change,
and the clauses that it breaks, one of which must notice. `python -m contract_tests.mutants NAME` serves a mutant on a
port of this machine; without a name it lists them.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import operator
import re
import sys
import time
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import attrs
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixpeek_batches.mock import MockServer

from . import clauses as c
from .clause import Clause
from .scenario import KEY, MOCK_KEY, NAMESPACE, prepared_target

BUCKETS = {"btch_1": "bkt_a", "btch_2": "bkt_b", "btch_9": "bkt_a", "btch_8": "bkt_b"}
DRAFT = ("bkt_b", "btch_8")

Done = Any
"""What changes return, so that they can follow a condition in a lambda."""


def set_attributes(self: Any, **attributes: Any) -> Done:
    """Set attributes."""
    for name, value in attributes.items():
        setattr(self, name, value)


@attrs.define
class Incoming:
    """A request on its way to the mock, to be changed.

    Attributes:
        server: The server, whose `memory` is kept between requests.
        headers: The headers as they came.
        query: The query string.
        client: The address and port that it comes from.
    """

    server: MutantServer
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    query: str
    client: tuple[str, int]
    set = set_attributes

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name]

    def __getitem__(self, name: str) -> str:
        return ", ".join(self.all(name))

    def send(self, name: str, value: str | None) -> Done:
        """Send a header once, or not at all."""
        self.headers = [pair for pair in self.headers if pair[0] != name]
        self.headers += [] if value is None else [(name, value)]

    def rewrite(self, pattern: str, replacement: str) -> Done:
        """Replace what a pattern matches in the path."""
        self.path = re.sub(pattern, replacement, self.path)

    @property
    def batch(self) -> tuple[str, str]:
        """The bucket and the batch that the path names; empty if it names none."""
        match = re.fullmatch(r"/v1/buckets/([^/]+)/batches/([^/]+)/cancel", self.path)
        return (unquote(match[1]), unquote(match[2])) if match else ("", "")

    def address(self, bucket: str, batch: str) -> Done:
        """Name another bucket and batch in the path."""
        self.path = f"/v1/buckets/{quote(bucket, safe='')}/batches/{quote(batch, safe='')}/cancel"

    @property
    def exists(self) -> bool:
        """Whether a batch of this name is in any bucket."""
        return self.batch[1] in BUCKETS

    def has_status(self, status: str) -> bool:
        """Check whether the batch has a status."""
        wanted = (*self.batch, status)
        return any((one.bucket_identifier, one.batch_id, one.status) == wanted for one in self.server.batches)

    @property
    def key(self) -> str:
        """The key; empty if there is none."""
        scheme, _, key = self["authorization"].partition(" ")
        return key if scheme.lower() == "bearer" else ""

    @property
    def namespace(self) -> str:
        """The X-Namespace header; empty if there is none."""
        return self["x-namespace"]

    def accept(self) -> Done:
        """Pass as a request with a good key."""
        self.send("authorization", f"Bearer {KEY}")

    def find(self) -> Done:
        """Pass as a request in the namespace of the batches."""
        self.send("x-namespace", NAMESPACE)

    def lose(self) -> Done:
        """Pass as a request in an unknown namespace."""
        self.send("x-namespace", "nowhere")

    def fail(self, fault: str) -> Done:
        """Meet a fault of the mock."""
        self.server.fail_next(fault)

    def find_bucket(self) -> Done:
        """Find a batch whatever its bucket."""
        self.address(BUCKETS[self.batch[1]], self.batch[1])


@attrs.define
class Outgoing:
    """A response of the mock, to be changed.

    Attributes:
        asked: The request, before the mutant changed it.
        body: The body's JSON.
        raw: The body's bytes, where they are not those of `body`.
        more: More headers, besides those that occur once.
        tail: Bytes that follow the body, after its announced length.
    """

    asked: Incoming
    status: int
    headers: dict[str, str]
    body: Any = None
    raw: bytes | None = None
    more: list[tuple[str, str]] = attrs.Factory(list)
    tail: bytes = b""
    set = set_attributes

    def head(self, name: str, value: str) -> Done:
        """Send a header."""
        self.headers[name] = value

    def error(self, status: int) -> Done:
        """Respond with an error instead."""
        self.status = status
        self.body = {"success": False, "status": status, "error": {"message": "no", "type": "E", "details": None}}
        self.headers.pop("allow", None)
        if status == 401:
            self.headers["www-authenticate"] = "Bearer"

    def in_error(self, **values: Any) -> Done:
        """Set fields of the error in the body, if there is one."""
        if self.status >= 400 and self.body:
            self.body["error"].update(values)

    def html(self) -> Done:
        """Respond with a page."""
        self.headers["content-type"] = "text/html"
        self.raw = b"<h1>no</h1>"

    def add_to_json(self, more: bytes) -> Done:
        """Write one more field into the body's bytes."""
        self.raw = json.dumps(self.body).encode()[:-1] + b", " + more + b"}"

    def put(self, status: str, namespace: str | None = None, *, show: bool = False) -> Done:
        """Give the batch of the request another status behind the mock's back, and show it if asked to."""
        server, asked = self.asked.server, self.asked
        batch = server.batch(*asked.batch, namespace=namespace or asked.namespace or None).to_dict()
        task = server.add_batch(**{**batch, "status": status}).task()
        if show:
            self.status, self.body = 200, task

    async def send(self, send: Send) -> None:
        """Send it."""
        body = json.dumps(self.body).encode() if self.raw is None else self.raw
        if self.status in {204, 304}:
            body = b""
        pairs = [*{**self.headers, "content-length": str(len(body))}.items(), *self.more]
        headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if self.tail:
            send.__self__.transport.write(self.tail)  # type: ignore[attr-defined] # uvicorn's, as for the mock's faults
        await send({"type": "http.response.body"})


Ask = Callable[[Incoming], object]
"""Changes a request, or returns an Outgoing, which is sent so that the mock does not see the request."""

Change = Callable[[Outgoing], object]


@attrs.frozen
class Mutant:
    """A breach.

    Attributes:
        clauses: The clauses that it breaks; one of them must notice.
        ask: Changes the request before the mock sees it.
        change: Changes the response.
        status: Of which responses; None for all.
        needs_state: Whether only the state behind the server shows it.
    """

    clauses: tuple[Clause, ...] = ()
    ask: Ask = lambda _: None
    change: Change | None = None
    status: int | None = None
    needs_state: bool = False


class MutantServer(MockServer):
    """The mock with a breach in front of it, or with none."""

    def __init__(self, mutant: Mutant | None = None) -> None:
        super().__init__(api_key=MOCK_KEY)
        self.memory: dict[Any, Any] = {}
        self._mutant = mutant

    def app(self) -> ASGIApp:
        """Return the app to serve."""
        app, mutant = super().app(), self._mutant
        if mutant is None:
            return app

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            asked = Incoming(
                self,
                method=scope["method"],
                path=scope["raw_path"].decode(),
                headers=[(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]],
                body=await Request(scope, receive).body(),
                query=scope["query_string"].decode(),
                client=tuple(scope["client"]),
            )
            before = attrs.evolve(asked, headers=[*asked.headers])
            instead = mutant.ask(asked)
            if isinstance(instead, Outgoing):
                await instead.send(send)
                return

            unread: list[Message] = [{"type": "http.request", "body": asked.body}]

            async def receive_again() -> Message:
                return unread.pop() if unread else await receive()

            headers = [(name.encode(), value.encode("latin-1")) for name, value in asked.headers]
            changed = {**scope, "method": asked.method, "raw_path": asked.path.encode(), "headers": headers}
            if mutant.change is None:
                await app(changed, receive_again, send)  # uvicorn's own, which faults need
                return
            messages: list[Message] = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await app(changed, receive_again, keep)
            body = b"".join(message.get("body", b"") for message in messages[1:])
            plain = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
            response = Outgoing(before, messages[0]["status"], plain, json.loads(body) if body else None)
            if mutant.status in {None, response.status}:
                waiting = mutant.change(response)
                if asyncio.iscoroutine(waiting):
                    await waiting
            await response.send(send)

        return serve


# Changes that take more than a line.


def pick(position: int, name: str) -> Ask:
    """Take one of the values of a header that occurs more than once."""
    return lambda asked: asked.all(name) and asked.send(name, asked.all(name)[position])


def remember(name: str, condition: Callable[[Incoming], object], by: Callable[[Incoming], object]) -> Ask:
    """Keep a header of some requests for later ones that lack it."""

    def ask(asked: Incoming) -> None:
        if condition(asked):
            asked.server.memory[by(asked)] = asked[name]
        elif not asked[name]:
            asked.send(name, asked.server.memory.get(by(asked)))

    return ask


def alike(normalize: Callable[[str], str]) -> Ask:
    """Take identifiers for equal that are so once normalized."""
    known = {normalize(text): text for text in (*BUCKETS, *BUCKETS.values())}

    def ask(asked: Incoming) -> None:
        if asked.batch[1]:
            asked.address(*(known.get(normalize(text), text) for text in asked.batch))

    return ask


def alike_namespace(normalize: Callable[[str], str]) -> Ask:
    """Take namespaces for equal that are so once normalized."""

    def ask(asked: Incoming) -> None:
        sent = asked.namespace.encode("latin-1").decode("utf-8", "replace")
        known = {normalize(text): text for text in (NAMESPACE, asked.server.add_namespace(NAMESPACE))}
        if normalize(sent) in known:
            asked.send("x-namespace", known[normalize(sent)])

    return ask


def called(word: str, name: Callable[[Incoming], object], find: Callable[[Incoming], object]) -> Ask:
    """Find what a word stands for."""
    return lambda asked: name(asked) == word and find(asked)


def up_to(end: str) -> Callable[[str], str]:
    return lambda text: text.partition(end)[0]


def with_field(name: str, value: object) -> Change:
    """Send another value of a field of the task, or none."""
    return lambda response: response.body.pop(name) if value == "missing" else response.body.update({name: value})


def again(response: Outgoing) -> bool:
    """Check whether the path was requested before."""
    seen: set[str] = response.asked.server.memory.setdefault("seen", set())
    before = response.asked.path in seen
    seen.add(response.asked.path)
    return before


def body_stays(asked: Incoming) -> Outgoing | None:
    """Read the body of a request in chunks as the next request on its connection."""
    memory = asked.server.memory
    left, memory[asked.client] = memory.get(asked.client), asked["transfer-encoding"]
    return Outgoing(asked, 400, {"content-type": "text/html"}, raw=b"<h1>no</h1>") if left else None


def session_cookie(response: Outgoing) -> None:
    """Take a cookie, which every response to a good key sets, for the key."""
    if response.status == 401 and "session=good" in response.asked["cookie"]:
        response.error(400)
    elif response.status != 401:
        response.headers["set-cookie"] = "session=good; HttpOnly"


def shared(*names: str) -> Change:
    """Send attributes of the response to whoever asked last."""

    async def change(response: Outgoing) -> None:
        memory = response.asked.server.memory
        memory["shared"] = {name: getattr(response, name) for name in names}
        await asyncio.sleep(0.01)
        response.set(**memory["shared"])

    return change


async def key_of_another(response: Outgoing) -> None:
    """Under load, let a request in if the last one had a good key."""
    response.asked.server.memory["status"] = response.status
    await asyncio.sleep(0.01)
    if response.status == 401 and response.asked.server.memory["status"] != 401:
        response.error(404)


def under_load(number: int, change: Change) -> Change:
    """Change responses while a number of requests are in flight."""

    async def changed(response: Outgoing) -> None:
        memory = response.asked.server.memory
        memory["in flight"] = memory.get("in flight", 0) + 1
        await asyncio.sleep(0.005)
        if memory["in flight"] >= number:
            change(response)
        memory["in flight"] -= 1

    return changed


def refuse_odd(response: Outgoing) -> None:
    """Refuse identifiers with control characters, and long ones."""
    parts = [unquote(part) for part in response.asked.path.split("/")]
    if response.status == 404 and any(len(part) > 255 or re.search(r"[\x00-\x1f\x7f]", part) for part in parts):
        response.error(422)


def compress(response: Outgoing) -> None:
    if "gzip" in response.asked["accept-encoding"]:
        response.raw = gzip.compress(json.dumps(response.body).encode())
        response.headers["content-encoding"] = "gzip"


# The breaches: what is changed, and the clauses that it breaks.

# fmt: off
MUTANTS: dict[str, Mutant] = {}
SAME_TASK = (c.idempotent, c.idempotent_simultaneous)


def responses(
    status: int | None, rows: dict[str, Change | tuple[Change, *tuple[Clause, ...]]], *clauses: Clause, **options: Any
) -> None:
    """Register mutants that change the responses with a status code (None for all), and break clauses."""
    for name, row in rows.items():
        change, *more = row if isinstance(row, tuple) else (row,)
        assert name not in MUTANTS
        MUTANTS[name] = Mutant((*more, *clauses), change=change, status=status, **options)


def requests(rows: dict[str, Ask | tuple[Ask, *tuple[Clause, ...]]], *clauses: Clause, **options: Any) -> None:
    """Register mutants that change requests, and break clauses."""
    for name, row in rows.items():
        ask, *more = row if isinstance(row, tuple) else (row,)
        assert name not in MUTANTS
        MUTANTS[name] = Mutant((*more, *clauses), ask=ask, **options)


# The task.
for field, values in {
    "task_id": ("missing", None, 7), "task_type": ("missing", None, "api_buckets_batches_cancel"),
    "status": ("missing", None, "STOPPED", "CANCELLED", "canceled"), "inputs": (None, {"a": 1}, ["a", 1]),
    "outputs": (None, [["a"]]), "additional_data": ("none", []), "error_message": ({"message": "x"},),
}.items():
    responses(200, {f"{field} {value}": with_field(field, value) for value in values}, c.task_schema)
responses(200, {
    "the task wrapped in data": lambda r: r.set(body={"data": r.body}),
    "the task in a list": lambda r: r.set(body=[r.body]),
}, c.task_schema)
responses(200, {
    "201 for 200": lambda r: r.set(status=201),
    "202 for 200": lambda r: r.set(status=202),
    "204 for 200": lambda r: r.set(status=204),
}, c.documented_status, c.cancel)
responses(200, {
    "a new task_id with each answer": lambda r: r.body.update(task_id=f"task_{time.monotonic_ns()}"),
    "the error is in the first answer only":
        lambda r: again(r) and r.body.update(additional_data={}, error_message=None),
    "a field more in the second answer": lambda r: again(r) and r.body.update(already=True),
    "second cancel 409": lambda r: again(r) and r.error(409),
    "second cancel 400": lambda r: again(r) and r.error(400),
}, c.idempotent, c.idempotent_simultaneous)
responses(200, {
    "JSON cut short": lambda r: r.set(raw=json.dumps(r.body).encode()[:-2]),
    "NaN in JSON": lambda r: r.add_to_json(b'"score": NaN'),
    "a name twice in JSON": lambda r: r.add_to_json(b'"status": "CANCELED"'),
    "JSON in Latin-1": lambda r: r.add_to_json(b'"note": "\xfc"'),
}, c.json_)
responses(200, {
    "another known type": (lambda r: r.body.update(task_type="thumbnail"), c.task_type),
    "200 with status IN_PROGRESS": (lambda r: r.body.update(status="IN_PROGRESS"), c.task_canceled),
    "error_message where none is due": (
        lambda r: r.body.update(error_message=r.body["error_message"] or "stale"), c.error_message_absent),
    "error_message never there": (lambda r: r.body.pop("error_message"), c.error_message_due),
    "error_message cut short": (
        lambda r: r.body.update(error_message=(r.body["error_message"] or "")[:3] or None), c.error_message_due),
    "error_message is the whole error as text": (
        lambda r: r.body.update(error_message=str((r.body["additional_data"] or {}).get("error") or "") or None),
        c.error_message_due),
    "one task_id for all": (lambda r: r.body.update(task_id="task_1"), c.one_task_each),
    "under load, one gets the task of another": (shared("body"), c.no_mixing),
})
# Every response.
responses(None, {
    "bytes behind the body": (lambda r: r.set(tail=b"\n"), c.framing),
    "HEAD gets a body": (lambda r: r.asked.method == "HEAD" and r.set(tail=b"{}"), c.framing),
    "text/plain": (lambda r: r.head("content-type", "text/plain"), c.content_type),
    "HTML errors for browsers": (lambda r: "html" in r.asked["accept"] and r.html(), c.content_type, c.error_envelope),
    "problem+json for who asks for it": (
        lambda r: "problem" in r.asked["accept"] and r.head("content-type", "application/problem+json"),
        c.content_type),
    "two content types": (lambda r: r.more.append(("content-type", "application/json")), c.headers_once),
    "X-Namespace must be given": (
        lambda r: r.status == 404 and not r.asked.namespace and r.error(422), c.namespace_elsewhere),
    "403 for another site": (lambda r: "example.org" in r.asked["origin"] and r.error(403), c.style),
    "an Idempotency-Key gets the first response again": (
        lambda r: r.asked["idempotency-key"]
        and r.set(**r.asked.server.memory.setdefault("first", {"status": r.status, "body": r.body})),
        c.request_id_means_nothing),
    "an Idempotency-Key gets the first task again": (
        lambda r: r.asked["idempotency-key"] and r.set(body=r.asked.server.memory.setdefault("first", r.body)),
        c.request_id_means_nothing),
    "409 for a second Idempotency-Key": (
        lambda r: r.asked["idempotency-key"] and again(r) and r.error(409), c.request_id_means_nothing),
    "GET of a cancelled batch 200": (
        lambda r: r.asked.method == "GET" and r.asked.has_status("CANCELED") and r.set(status=200),
        c.method_after_cancel),
    "400 for an unknown query": (lambda r: "x=1" in r.asked.query and r.error(400), c.style),
    "X-HTTP-Method-Override counts": (lambda r: r.asked["x-http-method-override"] == "GET" and r.error(405), c.style),
    "406 for XML": (lambda r: "xml" in r.asked["accept"] and r.error(406), c.accept),
    "406 without Accept": (lambda r: not r.asked["accept"] and r.error(406), c.accept),
    "411 without a length": (
        lambda r: r.asked.method == "POST" and not r.asked["content-length"] and r.error(411),
        c.length_unannounced, c.framing),
    "501 for chunks": (
        lambda r: "chunked" in r.asked["transfer-encoding"] and r.error(501), c.length_unannounced, c.no_server_error),
    "a cookie stands for the key": (session_cookie, c.connection_remembers_nothing),
    "under load, one gets the answer of another": (shared("status", "body"), c.no_mixing, c.idempotent_simultaneous),
    "under load, one gets in with the key of another": (key_of_another, c.no_mixing),
    "under load, errors become others": (
        under_load(4, lambda r: r.status == 400 and r.error(404)), c.no_mixing, c.idempotent_simultaneous),
})
responses(None, {
    "400 for a body that is not valid JSON": lambda r: b"{not" in r.asked.body and r.error(400),
    "415 for plain text": lambda r: "text/plain" in r.asked["content-type"] and r.error(415),
    "400 for JSON without a body": lambda r: "json" in r.asked["content-type"] and not r.asked.body and r.error(400),
    "415 for multipart": lambda r: "multipart" in r.asked["content-type"] and r.error(415),
    "500 on an array": (lambda r: r.asked.body[:1] == b"[" and r.error(500), c.no_server_error),
    "500 on a body": (lambda r: r.asked.body and r.error(500), c.no_server_error),
}, c.body_means_nothing)
responses(None, {
    "500 on a long identifier": lambda r: len(r.asked.path) > 500 and r.error(500),
    "500 on a very long identifier": lambda r: len(r.asked.path) > 4000 and r.error(500),
    "500 on a non-ASCII identifier": lambda r: not unquote(r.asked.path).isascii() and r.error(500),
    "500 on an emoji": lambda r: max(map(ord, unquote(r.asked.path))) > 0xFFFF and r.error(500),
    "500 on a NUL": lambda r: "%00" in r.asked.path and r.error(500),
    "500 on invalid UTF-8": lambda r: "\ufffd" in unquote(r.asked.path) and r.error(500),
    "500 on a quote": lambda r: "%27" in r.asked.path and r.error(500),
}, c.odd_identifiers, c.no_server_error)
responses(None, {
    "500 on a long namespace": lambda r: len(r.asked.namespace) > 250 and r.error(500),
    "500 on a non-ASCII namespace": lambda r: not r.asked.namespace.isascii() and r.error(500),
}, c.odd_namespaces, c.no_server_error)
responses(None, {
    "500 on what every object has": lambda r: r.asked.batch[1] == "constructor" and r.error(500),
    "500 on a namespace that every object has": lambda r: r.asked.namespace == "constructor" and r.error(500),
}, c.unknown_batch, c.no_server_error)
# Errors.
responses(400, {
    "an error without a type": (lambda r: r.body["error"].pop("type"), c.error_envelope),
    "details as text": (lambda r: r.in_error(details="COMPLETED"), c.error_envelope),
    "a finished batch is cancelled": (lambda r: r.put("CANCELED", show=True), c.finished),
    "a finished batch is refused, and cancelled": (lambda r: r.put("CANCELED"), c.finished_unchanged, c.finished),
    "409 for a finished batch": (lambda r: r.error(409), c.finished),
    "404 for a finished batch": (lambda r: r.error(404), c.finished),
    "details do not name the status": (lambda r: r.in_error(details={}), c.finished_details),
    "details name another status": (lambda r: r.in_error(details={"status": "FAILED"}), c.finished_details),
    "a finished batch changes its status": (
        lambda r: any(batch.status == "CANCELED" for batch in r.asked.server.batches)
        and r.in_error(details={"status": "FAILED"}), c.finished_unchanged),
    "a query forces it": (lambda r: "force=true" in r.asked.query and r.put("CANCELED", show=True), c.style),
})
responses(401, {
    "error as a string": (lambda r: r.body.update(error="unauthorized"), c.error_envelope),
    "404 for a wrong key": (lambda r: r.error(404), c.key_in_full),
    "403 for a wrong key": (lambda r: r.error(403), c.key_in_full),
    "401 without WWW-Authenticate": (lambda r: r.headers.pop("www-authenticate"), c.www_authenticate),
    "401 that asks for Basic": (lambda r: r.head("www-authenticate", 'Basic realm="api"'), c.www_authenticate),
    "the batch before the key": (lambda r: "contract-test-" in r.asked.path and r.error(404), c.key_before_batch),
    "the status before the key": (lambda r: "btch_9" in r.asked.path and r.error(400), c.key_before_status),
    "a 401 tells whether the batch is there": (
        lambda r: r.asked.exists and r.in_error(details={"batch": "known"}), c.key_before_batch),
    "a 401 has the realm of a namespace that is there": (
        lambda r: r.asked.namespace in {"empty_one", "forbidden_one"}
        and r.head("www-authenticate", "Bearer realm=known"), c.key_in_any_namespace),
    "a 401 tells how near the key is": (
        lambda r: r.head("x-right", str(sum(map(operator.eq, r.asked.key, KEY)))), c.key_in_full),
})
responses(404, {
    "no content type on errors": (lambda r: r.headers.pop("content-type"), c.content_type),
    "HTML 404": (lambda r: r.html(), c.content_type, c.error_envelope),
    "an empty 404": (lambda r: r.set(raw=b""), c.json_, c.error_envelope),
    "FastAPI's detail": (lambda r: r.set(body={"detail": "Not Found"}), c.error_envelope),
    "an error without success": (lambda r: r.body.pop("success"), c.error_envelope),
    "the envelope's status is always 500": (lambda r: r.body.update(status=500), c.envelope_status),
    "success true in an error": (lambda r: r.body.update(success=True), c.error_envelope, c.envelope_status),
    "errors with status 200": (lambda r: r.set(status=200), c.unknown_batch),
    "an unknown path is repeated unescaped": (
        lambda r: r.asked.batch[1] or r.add_to_json(b'"path": "%b"' % unquote(r.asked.path).encode()), c.json_),
    "400 for an unknown path": (lambda r: not r.asked.path.endswith("/cancel") and r.error(400), c.unknown_path),
    "422 for any body": (lambda r: r.asked.body and r.error(422), c.body_means_nothing),
    "the type of an error in another language": (
        lambda r: r.asked["accept-language"] == "de" and r.in_error(type="NichtGefunden"), c.accept),
    "under load, one looks in the namespace of another": (
        under_load(2, lambda r: r.asked.exists and r.asked.namespace != NAMESPACE
                   and r.put("CANCELED", NAMESPACE, show=True)), c.no_mixing),
})
responses(404, {
    "a 404 lists what there is":
        lambda r: r.asked.batch[0] in BUCKETS.values() and r.in_error(details={"known": [*BUCKETS]}),
    "a 404 says where the batch is": lambda r: r.asked.exists and r.in_error(message="It is in another bucket."),
    "a 404 says that the batch is somewhere": lambda r: r.asked.exists and r.in_error(details={"exists": True}),
    "a 404 of another type for what is elsewhere":
        lambda r: r.asked.exists and r.asked.namespace == "empty_one" and r.in_error(type="WrongNamespaceError"),
    "a 404 has a header for what is elsewhere": lambda r: r.asked.exists and r.head("x-shard", "3"),
    "a 404 has an ETag for what is elsewhere": lambda r: r.asked.exists and r.head("etag", str(time.monotonic_ns())),
    "a 404 is longer for what is elsewhere": lambda r: r.asked.exists and r.set(raw=json.dumps(r.body).encode() + b" "),
    "a 404 lists the namespaces":
        lambda r: "contract-test-" in r.asked.namespace and r.in_error(details={"known": ["forbidden_one"]}),
    "a 404 proposes a namespace":
        lambda r: r.asked.namespace.startswith(NAMESPACE[:-1]) and r.in_error(message=f"{NAMESPACE}?"),
}, c.elsewhere_tells_nothing)
responses(405, {
    "404 for another method": lambda r: r.error(404),
    "OPTIONS gives 200": lambda r: r.asked.method == "OPTIONS" and r.set(status=200),
    "HEAD gives 200": lambda r: r.asked.method == "HEAD" and r.set(status=200),
}, c.method)
responses(405, {
    "405 without Allow": (lambda r: r.headers.pop("allow"), c.allow),
    "405 that allows GET": (lambda r: r.head("allow", "GET"), c.allow),
    "the key before the method": (lambda r: not r.asked["authorization"] and r.error(401), c.method_before_key),
})
responses(405, {
    "HEAD tells by a header": lambda r: r.asked.method == "HEAD" and r.asked.exists and r.head("x-batch", "here"),
    "OPTIONS asks for the batch first": lambda r: r.asked.method == "OPTIONS" and not r.asked.exists and r.error(404),
    "GET tells in its details": lambda r: r.in_error(details={"found": r.asked.exists}),
    "OPTIONS tells by its Allow": lambda r: r.asked.exists and r.head("allow", "POST, OPTIONS"),
    "a page's OPTIONS tells by its headers": lambda r: r.asked["access-control-request-method"] and r.asked.exists
        and r.head("access-control-allow-origin", "*"),
}, c.method_tells_nothing)
responses(200, {
    "the key in the task": lambda r: r.body.update(by=r.asked.key),
    "the key in an answer, percent-encoded": lambda r: r.body.update(debug="".join(f"%{ord(one):02x}" for one in KEY)),
}, c.key_not_repeated)
responses(None, {
    "the key in a header": lambda r: r.head("x-debug", r.asked["authorization"].encode("ascii", "replace").decode()),
    "the key in an error": lambda r: r.in_error(message=f"unknown: {r.asked['authorization']}"),
    "the key without its prefix in an error": lambda r: r.in_error(message=f"not {KEY.rpartition('_')[2]}"),
    "the query in an error": lambda r: r.in_error(message=f"no {r.asked.query}"),
    "TRACE repeats the request": lambda r: r.asked.method == "TRACE" and r.set(raw=repr(r.asked.headers).encode()),
}, c.key_not_repeated)
# What counts on the mock alone, and what only the state behind it shows.
responses(405, {
    "OPTIONS gives 204 to a page": lambda r: r.asked["access-control-request-method"] and r.set(status=204),
}, c.method, needs_state=True)
responses(None, {
    "the namespace in an error": lambda r: r.in_error(message=f"no {r.asked.namespace}"),
    "the bucket in an error": lambda r: r.in_error(message=f"no {r.asked.batch[0]}"),
    "the batch in an error": lambda r: r.in_error(message=f"no {r.asked.batch[1]}"),
}, c.key_not_repeated, needs_state=True)
responses(200, {
    "inputs lost on cancelling": lambda r: r.body.update(inputs=[]),
    "outputs dropped from the answer": lambda r: r.body.update(outputs=[]),
    "the error lost on cancelling": lambda r: r.body.update(additional_data={"job_id": "j"}, error_message=None),
    "an object's error flattened on cancelling":
        lambda r: (r.body["additional_data"] or {}).update(error=r.body["error_message"]),
    "additional data lost on cancelling": lambda r: r.body.update(additional_data=None, error_message=None),
}, c.task_kept, needs_state=True)
responses(401, {
    "a refusal that cancels": lambda r: r.asked.batch[1] == "btch_1" and r.put("CANCELED", NAMESPACE),
}, c.refusal_changes_nothing, needs_state=True)
responses(404, {
    "a batch of another namespace is cancelled behind a 404":
        lambda r: r.asked.batch == ("bkt_a", "btch_1") and r.asked.namespace == "empty_one"
        and r.put("CANCELED", NAMESPACE),
}, c.refusal_changes_nothing, needs_state=True)
responses(405, {
    "another method cancels behind a 405":
        lambda r: r.asked.batch == ("bkt_a", "btch_1") and r.put("CANCELED", NAMESPACE),
}, c.refusal_changes_nothing, needs_state=True)
responses(200, {"200, but not cancelled": lambda r: r.put("IN_PROGRESS")}, c.canceled_afterwards, needs_state=True)
responses(400, {
    "SKIPPED can be cancelled": lambda r: "SKIPPED" in str(r.body) and r.set(status=200),
}, c.finished_every_status, needs_state=True)
responses(429, {
    "two Retry-Afters": lambda r: r.more.append(("retry-after", "9")),
}, c.headers_once, needs_state=True)
responses(503, {"503 without Retry-After": lambda r: r.headers.pop("retry-after")}, c.retry_after, needs_state=True)
requests({
    "no default namespace": (lambda a: not a.namespace and a.lose(), c.default_namespace),
    "an encoded slash ends the segment": (lambda a: a.rewrite("%2F", "/"), c.opaque_identifiers),
    "UNKNOWN cannot be cancelled": (
        lambda a: a.has_status("UNKNOWN") and a.address("none", "none"), c.cancel_every_status),
}, needs_state=True)
# The key.
requests({
    "any bearer key will do": lambda a: a.key and a.accept(),
    "a prefix of the key will do": lambda a: a.key and KEY.startswith(a.key) and a.accept(),
    "more than the key will do": lambda a: a.key.startswith(KEY) and a.accept(),
    "the end of the key is not looked at": lambda a: a.key[:-1] == KEY[:-1] and a.accept(),
    "keys in any case": lambda a: a.key.lower() == KEY.lower() and a.accept(),
    "the key without its prefix will do": lambda a: a.key == KEY.rpartition("_")[2] and a.accept(),
    "a key up to a dot": lambda a: a.key.partition(".")[0] == KEY and a.accept(),
    "Bearer twice": lambda a: a.key == f"Bearer {KEY}" and a.accept(),
    "a key in base64": lambda a: a.key == base64.b64encode(KEY.encode()).decode() and a.accept(),
    "a key as a parameter": lambda a: a.key == f'token="{KEY}"' and a.accept(),
    "more than the key will do for a draft": lambda a: a.batch == DRAFT and a.key.startswith(KEY) and a.accept(),
}, c.key_in_full)
requests({
    "the key in X-API-Key will do": lambda a: a["x-api-key"] == KEY and a.accept(),
    "the key in the query will do": lambda a: f"api_key={KEY}" in a.query and a.accept(),
    "the key in a cookie will do": lambda a: KEY in a["cookie"] and a.accept(),
    "a form has the key": lambda a: f"api_key={KEY}".encode() in a.body and a.accept(),
    "a proxy's user needs no key": lambda a: a["x-forwarded-user"] and a.accept(),
    "a page's preflight needs no key": lambda a: a["access-control-request-method"] and a.accept(),
    "a page of this machine needs no key": lambda a: "localhost" in a["origin"] and a.accept(),
    "a proxy on this machine needs no key": lambda a: a["x-real-ip"] == "127.0.0.1" and a.accept(),
    "the key in X-Access-Token will do": lambda a: a["x-access-token"] == KEY and a.accept(),
    "the key in JSON will do": lambda a: f'"api_key": "{KEY}"'.encode() in a.body and a.accept(),
}, c.key_elsewhere)
requests({
    "the key is not looked at": (lambda a: a.accept(), c.no_key),
    "no key with an X-Request-Id that was used": (
        remember("authorization", lambda a: a["x-request-id"] and KEY in a["authorization"],
                 lambda a: a["x-request-id"]),
        c.request_id_means_nothing),
    "without a namespace no key is needed": (lambda a: not a.namespace and a.accept(), c.key_in_any_namespace),
    "another namespace needs no key": (lambda a: a.namespace == "empty_one" and a.accept(), c.key_in_any_namespace),
    "cancelled batches need no key": (lambda a: a.has_status("CANCELED") and a.accept(), c.no_key),
    "Basic with the key will do": (lambda a: a["authorization"].startswith("Basic ") and a.accept(), c.other_scheme),
    "a bare key will do": (lambda a: a["authorization"] == KEY and a.accept(), c.other_scheme),
    "only Bearer with a capital": (
        lambda a: a["authorization"].startswith("Bearer ") or a.send("authorization", None), c.scheme_any_case),
    "any of the keys counts": (lambda a: f"Bearer {KEY}" in a.all("authorization") and a.accept(), c.header_twice),
    "any of the namespaces counts": (lambda a: NAMESPACE in a.all("x-namespace") and a.find(), c.header_twice),
})
requests({
    "the connection keeps the key":
        (remember("authorization", lambda a: KEY in a["authorization"], lambda a: a.client), c.no_key),
    "the machine keeps the key":
        (remember("authorization", lambda a: KEY in a["authorization"], lambda a: a.client[0]), c.no_key),
    "the connection keeps the namespace":
        remember("x-namespace", lambda a: a.namespace == NAMESPACE, lambda a: a.client),
    "everybody keeps the last namespace":
        remember("x-namespace", lambda a: a.namespace in {NAMESPACE, "empty_one"}, lambda _: "last"),
}, c.connection_remembers_nothing)
# The request.
requests({
    "half of each body": lambda a: a.exists and a.fail("truncated"),
    "connections are reset": lambda a: a.exists and a.fail("reset"),
}, c.answers)
requests({
    "GET will do": lambda a: a.method == "GET" and a.set(method="POST"),
    "QUERY will do": lambda a: a.method == "QUERY" and a.set(method="POST"),
    "any method will do": lambda a: a.set(method="POST"),
}, c.method)
requests({
    "another header has the path": lambda a: a["x-original-url"] and a.set(path=a["x-original-url"]),
    "the query names the bucket": lambda a: "identifier=contract" in a.query and a.address("none", "none"),
    "the query names the batch": lambda a: "batch_id=" in a.query and a.address("bkt_a", "none"),
}, c.style)
requests({
    "a body names the namespace": lambda a: b'"namespace"' in a.body and a.find(),
    "a body names the batch": lambda a: b'"batch_id"' in a.body and a.batch[1] and a.address("bkt_a", "btch_9"),
    "a body names a batch in the bucket": lambda a: a.batch[1] and b'"batch_id"' in a.body
        and a.address(a.batch[0], json.loads(a.body)["batch_id"]),
    "a form changes the method": lambda a: b"_method=DELETE" in a.body and a.set(method="DELETE"),
}, c.body_means_nothing)
requests({
    "any version of the API": lambda a: a.rewrite("/v2/", "/v1/"),
    "the path in any case": lambda a: a.rewrite("CANCEL", "cancel"),
    "a path without cancel": lambda a: a.rewrite(r"(/batches/[^/]+)$", r"\1/cancel"),
    "a path with a colon": lambda a: a.rewrite(":cancel$", "/cancel"),
    "a path with an ending": lambda a: a.rewrite(r"\.json$", ""),
    "a bucket in a folder": lambda a: a.rewrite("/buckets/[^/]+/([^/]+/batches)", r"/buckets/\1"),
    "a batch in a folder": lambda a: a.rewrite("/batches/[^/]+/([^/]+/cancel)", r"/batches/\1"),
    "bytes that are no UTF-8 are left out": lambda a: a.rewrite("%FF", ""),
}, c.near_path)
requests({
    "only Accept: application/json": (
        lambda a: a["accept"] == "application/json" or a.address("none", "none"), c.accept),
    "a namespace in another header": (
        lambda a: a.namespace or (a["x-tenant"] and a.send("x-namespace", a["x-tenant"])), c.namespace_elsewhere),
    "a namespace in the query": (lambda a: f"ns={NAMESPACE}" in a.query and a.find(), c.namespace_elsewhere),
    "a namespace in a cookie": (lambda a: f"namespace={NAMESPACE}" in a["cookie"] and a.find(), c.namespace_elsewhere),
})
# Where batches are.
requests({
    "the namespace is not looked at": (lambda a: a.find(), c.unknown_namespace, c.other_namespace),
    "an unknown namespace is the default": (
        lambda a: a.namespace.startswith("contract-test-") and a.find(), c.unknown_namespace),
    "other namespaces see the batches": (lambda a: a.namespace == "empty_one" and a.find(), c.other_namespace),
    "a forbidden namespace is unknown": (lambda a: a.namespace == "forbidden_one" and a.lose(), c.forbidden_namespace),
    "no namespace by id": (lambda a: a.namespace.startswith("ns_") and a.lose(), c.namespace_by_id),
    "the bucket is not looked at": (lambda a: a.exists and a.find_bucket(), c.unknown_bucket, c.other_bucket),
    "batches of other buckets are found": (
        lambda a: a.exists and a.batch[0] in BUCKETS.values() and a.find_bucket(), c.other_bucket),
    "any bucket, by a dash": (lambda a: a.exists and a.batch[0] == "-" and a.find_bucket(), c.identifier_exact),
    "drafts are in every bucket": (lambda a: a.batch[1] == DRAFT[1] and a.find_bucket(), c.unknown_bucket),
    "drafts are in another namespace": (
        lambda a: a.batch == DRAFT and a.namespace == "empty_one" and a.find(), c.other_namespace),
    "drafts are in every namespace": (lambda a: a.batch == DRAFT and a.find(), c.unknown_namespace),
    "drafts in any case": (lambda a: a.batch[1].lower() == DRAFT[1] and a.address(*DRAFT), c.identifier_exact),
    "the body of chunks stays in the connection": (body_stays, c.length_unannounced),
    "the id of its task will do": (
        lambda a: [a.address(one.bucket_identifier, one.batch_id) for one in a.server.batches
                   if one.task_id == a.batch[1]], c.task_is_no_batch),
})
requests({
    "identifiers without spaces around": alike(str.strip),
    "identifiers without the last newline": alike(lambda text: text.removesuffix("\n")),
    "identifiers without their prefix": alike(lambda text: text.removeprefix("btch_").removeprefix("bkt_")),
    "identifiers with a wildcard": alike(lambda text: f"{text[:-1]}*" if text[-1:] in "_?.129" else text),
    "identifiers without .json": (alike(lambda text: text.removesuffix(".json")), c.identifier_in_full),
}, c.identifier_exact)
for one_word in ("latest", "all", "null", "undefined", "0"):
    requests({
        f"a batch called {one_word}": called(one_word, lambda a: a.batch[1], lambda a: a.address("bkt_a", "btch_9")),
        f"a bucket called {one_word}": called(one_word, lambda a: a.exists and a.batch[0], lambda a: a.find_bucket()),
    }, c.identifier_exact)
    requests({
        f"a namespace called {one_word}": called(one_word, lambda a: a.namespace, lambda a: a.find()),
    }, c.namespace_exact)
requests({
    "batch ids compared by their beginning":
        alike(lambda text: next((known for known in BUCKETS if text.startswith(known)), text)),
    "buckets compared by their end": alike(lambda text: text[-5:] if text.endswith(("bkt_a", "bkt_b")) else text),
}, c.identifier_in_full)
for how, normalize in {
    "in any case": str.lower,
    "without accents": lambda text: re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text)),
    "in any width": lambda text: unicodedata.normalize("NFKC", text),
    "by their number": lambda text: re.sub(r"\d+", lambda match: str(int(match[0])), text),
    "without what cannot be seen": lambda text: text.replace("\u200b", ""),
    "decoded twice": unquote,
    "without slashes": lambda text: text.strip("/"),
    "in quotes": lambda text: text.strip('"'),
    "behind a dot segment": lambda text: text.rpartition("/../")[2],
    "with any punctuation": lambda text: re.sub("[-_]", "", text),
}.items():
    requests({f"identifiers {how}": alike(normalize)}, c.identifier_exact)
    requests({f"namespaces {how}": alike_namespace(normalize)}, c.namespace_exact)
for end in ";,:?@\\\0":
    requests({f"identifiers up to {end!r}": alike(up_to(end))}, c.identifier_in_full)
    if end.isprintable():
        requests({f"namespaces up to {end!r}": alike_namespace(up_to(end))}, c.unknown_namespace)
requests({
    "namespaces with or without ns_": (alike_namespace(lambda text: text.removeprefix("ns_")), c.namespace_exact),
    "the last of several namespaces": (alike_namespace(lambda text: text.rpartition(",")[2]), c.unknown_namespace),
})
# fmt: on

HARMLESS: dict[str, Mutant] = {
    "the first key counts": Mutant(ask=pick(0, "authorization")),
    "the last key counts": Mutant(ask=pick(-1, "authorization")),
    "the first namespace counts": Mutant(ask=pick(0, "x-namespace")),
    "the last namespace counts": Mutant(ask=pick(-1, "x-namespace")),
    "bodies are compressed": Mutant(change=compress),
    "422 for what no identifier can be": Mutant(change=refuse_odd),
}
"""What a correct server may do, and the mock does not."""


def main() -> None:
    """Serve a mutant until standard input ends, and print its URL and key as JSON."""
    if len(sys.argv) != 2 or sys.argv[1] not in {*MUTANTS, "none"}:
        sys.exit("Usage: python -m contract_tests.mutants NAME, with a NAME of:\n" + "\n".join(["none", *MUTANTS]))
    with MutantServer(MUTANTS.get(sys.argv[1])) as server:
        target = prepared_target(server)
        print(json.dumps({"url": server.url, "api_key": target.key}), flush=True)
        sys.stdin.read()  # the end of the process that started this is the end of this


if __name__ == "__main__":
    main()
