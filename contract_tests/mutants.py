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
from .scenario import MOCK_KEY, NAMESPACE, prepared_target

KEY = f"{MOCK_KEY}_some"
BUCKETS = {"btch_1": "bkt_a", "btch_2": "bkt_b", "btch_9": "bkt_a"}


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

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name]

    def __getitem__(self, name: str) -> str:
        return ", ".join(self.all(name))

    def __setitem__(self, name: str, value: str | None) -> None:
        self.headers = [pair for pair in self.headers if pair[0] != name]
        self.headers += [] if value is None else [(name, value)]

    @property
    def batch(self) -> tuple[str, str]:
        """The bucket and the batch that the path names; empty if it names none."""
        match = re.fullmatch(r"/v1/buckets/([^/]+)/batches/([^/]+)/cancel", self.path)
        return (unquote(match[1]), unquote(match[2])) if match else ("", "")

    @batch.setter
    def batch(self, batch: tuple[str, str]) -> None:
        self.path = "/v1/buckets/{}/batches/{}/cancel".format(*(quote(text, safe="") for text in batch))

    @property
    def exists(self) -> bool:
        """Whether a batch of this name is in any bucket."""
        return self.batch[1] in BUCKETS

    def key(self, scheme: str = "bearer ") -> str:
        """Return the key that it has in a scheme; empty if it has none."""
        value = self["authorization"]
        return value[len(scheme) :] if value.lower().startswith(scheme) else ""


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

    def error(self, status: int) -> None:
        """Respond with an error instead."""
        self.status = status
        self.body = {"success": False, "status": status, "error": {"message": "no", "type": "E", "details": None}}
        self.headers.pop("allow", None)
        if status == 401:
            self.headers["www-authenticate"] = "Bearer"

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


Condition = Callable[[Incoming], object]
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


# Changes of a response.


def when(condition: Condition, change: Change) -> Change:
    """Change the responses to some requests only."""
    return lambda response: change(response) if condition(response.asked) else None


def fields(**values: Any) -> Change:
    return lambda response: response.body.update(values)


def without(name: str) -> Change:
    return lambda response: response.body.pop(name)


def in_error(name: str, value: Any) -> Change:
    return lambda response: response.body["error"].__setitem__(name, value)


def body(make: Callable[[Any], Any]) -> Change:
    return lambda response: setattr(response, "body", make(response.body))


def raw(make: Callable[[bytes], bytes], media_type: str = "application/json") -> Change:
    """Replace the body's bytes by others made of them."""

    def change(response: Outgoing) -> None:
        response.headers["content-type"] = media_type
        response.raw = make(json.dumps(response.body).encode())

    return change


def header(name: str, value: str | None) -> Change:
    return lambda response: response.headers.update({name: value}) if value else response.headers.pop(name, None)


def twice(name: str, value: str) -> Change:
    return lambda response: response.more.append((name, value))


def tail(data: bytes) -> Change:
    return lambda response: setattr(response, "tail", data)


def code(status: int) -> Change:
    return lambda response: setattr(response, "status", status)


def refuse(status: int, condition: Condition = lambda _: True) -> Change:
    """Respond with an error, to some requests."""
    return when(condition, lambda response: response.error(status))


def put(status: str, namespace: str | None = None, *, show: bool = False) -> Change:
    """Give the batch of the request another status behind the mock's back, and show it if asked to."""

    def change(response: Outgoing) -> None:
        server, asked = response.asked.server, response.asked
        batch = server.batch(*asked.batch, namespace=namespace or asked["x-namespace"] or None).to_dict()
        task = server.add_batch(**{**batch, "status": status}).task()
        if show:
            response.status, response.body = 200, task

    return change


# Changes of a request.


def set_header(name: str, value: str | None, condition: Condition) -> Ask:
    """Send a header once, or not at all, in some requests."""
    return lambda asked: asked.__setitem__(name, value) if condition(asked) else None


def accept(condition: Condition) -> Ask:
    """Let some requests pass as ones with a good key."""
    return set_header("authorization", f"Bearer {KEY}", condition)


def find(condition: Condition) -> Ask:
    """Let some requests pass as ones in the namespace of the batches."""
    return set_header("x-namespace", NAMESPACE, condition)


def lose(condition: Condition) -> Ask:
    """Let some requests pass as ones in an unknown namespace."""
    return set_header("x-namespace", "nowhere", condition)


def as_method(method: str, condition: Condition) -> Ask:
    return lambda asked: setattr(asked, "method", method) if condition(asked) else None


def path(make: Callable[[str], str]) -> Ask:
    return lambda asked: setattr(asked, "path", make(asked.path))


def at(bucket: str, batch: str, condition: Condition) -> Ask:
    """Take some requests for ones for another batch."""
    return lambda asked: setattr(asked, "batch", (bucket, batch)) if condition(asked) else None


def in_its_bucket(condition: Condition) -> Ask:
    """Find a batch whatever its bucket, in some requests."""

    def ask(asked: Incoming) -> None:
        batch = asked.batch[1]
        if asked.exists and condition(asked):
            asked.batch = BUCKETS[batch], batch

    return ask


def pick(position: int, name: str) -> Ask:
    """Take one of the values of a header that occurs more than once."""
    return lambda asked: asked.__setitem__(name, asked.all(name)[position]) if asked.all(name) else None


def remember(name: str, condition: Condition, by: Callable[[Incoming], object] = lambda _: "last") -> Ask:
    """Keep a header of some requests for later ones that lack it."""

    def ask(asked: Incoming) -> None:
        if condition(asked):
            asked.server.memory[by(asked)] = asked[name]
        elif not asked[name]:
            asked[name] = asked.server.memory.get(by(asked))

    return ask


def alike(normalize: Callable[[str], str]) -> Ask:
    """Take identifiers for equal that are so once normalized."""
    known = {normalize(text): text for text in (*BUCKETS, *BUCKETS.values())}

    def ask(asked: Incoming) -> None:
        bucket, batch = asked.batch
        if batch:
            asked.batch = known.get(normalize(bucket), bucket), known.get(normalize(batch), batch)

    return ask


def alike_namespace(normalize: Callable[[str], str]) -> Ask:
    """Take namespaces for equal that are so once normalized."""

    def ask(asked: Incoming) -> None:
        sent = asked["x-namespace"].encode("latin-1").decode("utf-8", "replace")
        known = {normalize(text): text for text in (NAMESPACE, asked.server.add_namespace(NAMESPACE))}
        if normalize(sent) in known:
            asked["x-namespace"] = known[normalize(sent)]

    return ask


def up_to(end: str) -> Callable[[str], str]:
    return lambda text: text.partition(end)[0]


def unaccented(text: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", text) if not unicodedata.combining(part))


def numbered(text: str) -> str:
    """Read the digits of a text as a number, however they are written."""
    return re.sub(r"\d+", lambda match: str(int(match[0])), text)


def unpunctuated(text: str) -> str:
    return re.sub("[-_]", "", text)


# What takes more than a line.


def again(asked: Incoming) -> bool:
    """Check whether the path was requested before."""
    seen: set[str] = asked.server.memory.setdefault("seen", set())
    before = asked.path in seen
    seen.add(asked.path)
    return before


def fault(name: str) -> Ask:
    """Let a fault of the mock happen to requests for batches."""
    return lambda asked: asked.server.fail_next(name) if asked.exists else None


def by_task_id(asked: Incoming) -> None:
    """Find batches by the id of their task."""
    for batch in asked.server.batches:
        if batch.task_id == asked.batch[1]:
            asked.batch = batch.bucket_identifier, batch.batch_id


def batch_of_the_body(asked: Incoming) -> None:
    """Find the batch that a JSON object in the body names, in the bucket of the path."""
    if asked.batch[1] and asked.body[:1] == b"{" and b'"batch_id"' in asked.body:
        asked.batch = asked.batch[0], json.loads(asked.body)["batch_id"]


def has_status(asked: Incoming, status: str) -> bool:
    """Check whether the batch of a request has a status."""
    return any(
        (one.bucket_identifier, one.batch_id, one.status) == (*asked.batch, status) for one in asked.server.batches
    )


def change_message(make: Callable[[str, Any], object]) -> Change:
    """Replace error_message by what is made of it and of the error."""

    def change(response: Outgoing) -> None:
        error = (response.body["additional_data"] or {}).get("error")
        response.body["error_message"] = make(response.body["error_message"], error)

    return change


def trace(response: Outgoing) -> None:
    """Respond with the headers of the request."""
    response.status = 200
    raw(lambda _: repr(response.asked.headers).encode(), "message/http")(response)


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
        memory["shared"] = [getattr(response, name) for name in names]
        await asyncio.sleep(0.01)
        for name, value in zip(names, memory["shared"], strict=True):
            setattr(response, name, value)

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


responses(200, {
    **{f"200 without {name}": without(name) for name in ("task_id", "task_type", "status")},
    **{f"200 with null {name}": fields(**{name: None})
       for name in ("task_id", "task_type", "status", "inputs", "outputs")},
    "a status outside the enum": fields(status="STOPPED"),
    "British CANCELLED": fields(status="CANCELLED"),
    "a lower-case status": fields(status="canceled"),
    "a type outside the enum": fields(task_type="api_buckets_batches_cancel"),
    "a number for task_id": fields(task_id=7),
    "an object for inputs": fields(inputs={"a": 1}),
    "numbers in inputs": fields(inputs=["a", 1]),
    "lists in outputs": fields(outputs=[["a"]]),
    "a string for additional_data": fields(additional_data="none"),
    "a list for additional_data": fields(additional_data=[]),
    "an object for error_message": fields(error_message={"message": "x"}),
    "the task wrapped in data": body(lambda task: {"data": task}),
    "the task in a list": body(lambda task: [task]),
}, c.task_schema)
responses(200, {
    "another known type": (fields(task_type="thumbnail"), c.task_type),
    "200 with status IN_PROGRESS": (fields(status="IN_PROGRESS"), c.task_canceled),
    "error_message where none is due": (change_message(lambda text, _: text or "stale"), c.error_message_absent),
    "error_message never there": (without("error_message"), c.error_message_due),
    "error_message cut short": (change_message(lambda text, _: text and text[:3]), c.error_message_due),
    "error_message is the whole error as text": (
        change_message(lambda _, error: str(error or "") or None), c.error_message_due),
    "201 for 200": (code(201), c.documented_status, c.cancel),
    "202 for 200": (code(202), c.documented_status, c.cancel),
    "204 for 200": (code(204), c.documented_status, c.cancel),
    "one task_id for all": (fields(task_id="task_1"), c.one_task_each),
    "a new task_id with each answer": (lambda r: r.body.update(task_id=f"t_{time.monotonic_ns()}"), *SAME_TASK),
    "the error is in the first answer only": (when(again, fields(additional_data={}, error_message=None)), *SAME_TASK),
    "a field more in the second answer": (when(again, fields(already=True)), *SAME_TASK),
    "second cancel 409": (refuse(409, again), *SAME_TASK),
    "second cancel 400": (refuse(400, again), *SAME_TASK),
    "JSON cut short": (raw(lambda text: text[:-2]), c.json_),
    "NaN in JSON": (raw(lambda text: text[:-1] + b', "score": NaN}'), c.json_),
    "a name twice in JSON": (raw(lambda text: text[:-1] + b', "status": "CANCELED"}'), c.json_),
    "JSON in Latin-1": (raw(lambda text: text[:-1] + b', "note": "\xfc"}'), c.json_),
    "the key in an answer, percent-encoded": (
        fields(debug="".join(f"%{ord(character):02x}" for character in KEY)), c.key_not_repeated),
    "the key in the task": (lambda r: r.body.update(by=r.asked["authorization"][7:]), c.key_not_repeated),
    "under load, one gets the task of another": (shared("body"), c.no_mixing),
})
responses(None, {
    "bytes behind the body": (tail(b"\n"), c.framing),
    "HEAD gets a body": (when(lambda a: a.method == "HEAD", tail(b"{}")), c.framing),
    "text/plain": (header("content-type", "text/plain"), c.content_type),
    "HTML errors for browsers": (
        when(lambda a: "html" in a["accept"], raw(lambda _: b"<h1>no</h1>", "text/html")),
        c.content_type, c.error_envelope),
    "problem+json for who asks for it": (
        when(lambda a: "problem" in a["accept"], header("content-type", "application/problem+json")), c.content_type),
    "two content types": (twice("content-type", "application/json"), c.headers_once),
    "X-Namespace must be given": (
        lambda r: r.error(422) if not r.asked["x-namespace"] and r.status == 404 else None, c.namespace_elsewhere),
    "the key in a header": (
        lambda r: r.headers.update({"x-debug": r.asked["authorization"].encode("ascii", "replace").decode() or "none"}),
        c.key_not_repeated),
    "400 for an unknown query": (refuse(400, lambda a: "x=1" in a.query), c.style),
    "X-HTTP-Method-Override counts": (refuse(405, lambda a: a["x-http-method-override"] == "GET"), c.style),
    "406 for XML": (refuse(406, lambda a: "xml" in a["accept"]), c.accept),
    "406 without Accept": (refuse(406, lambda a: not a["accept"]), c.accept),
    "400 for a body that is not valid JSON": (refuse(400, lambda a: b"{not" in a.body), c.body_means_nothing),
    "415 for plain text": (refuse(415, lambda a: "text/plain" in a["content-type"]), c.body_means_nothing),
    "411 without a length": (
        refuse(411, lambda a: not a["content-length"] and a.method == "POST"), c.length_unannounced, c.framing),
    "501 for chunks": (
        refuse(501, lambda a: "chunked" in a["transfer-encoding"]), c.length_unannounced, c.no_server_error),
    "a cookie stands for the key": (session_cookie, c.connection_remembers_nothing),
    "under load, one gets the answer of another": (shared("status", "body"), c.no_mixing, c.idempotent_simultaneous),
    "under load, one gets in with the key of another": (key_of_another, c.no_mixing),
    "under load, errors become others": (
        under_load(4, lambda r: r.error(404) if r.status == 400 else None), c.no_mixing, c.idempotent_simultaneous),
})
for _name, _condition, _clause in (
    ("a long identifier", lambda a: len(a.path) > 500, c.odd_identifiers),
    ("a very long identifier", lambda a: len(a.path) > 4000, c.odd_identifiers),
    ("a non-ASCII identifier", lambda a: not unquote(a.path).isascii(), c.odd_identifiers),
    ("an emoji", lambda a: max(map(ord, unquote(a.path))) > 0xFFFF, c.odd_identifiers),
    ("a NUL", lambda a: "%00" in a.path, c.odd_identifiers),
    ("invalid UTF-8", lambda a: "\ufffd" in unquote(a.path), c.odd_identifiers),
    ("a quote", lambda a: "%27" in a.path, c.odd_identifiers),
    ("a long namespace", lambda a: len(a["x-namespace"]) > 250, c.odd_namespaces),
    ("a non-ASCII namespace", lambda a: not a["x-namespace"].isascii(), c.odd_namespaces),
    ("what every object has", lambda a: a.batch[1] == "constructor", c.unknown_batch),
    ("a namespace that every object has", lambda a: a["x-namespace"] == "constructor", c.unknown_batch),
    ("an array", lambda a: a.body[:1] == b"[", c.body_means_nothing),
    ("a body", lambda a: a.body, c.body_means_nothing),
):
    responses(None, {f"500 on {_name}": refuse(500, _condition)}, _clause, c.no_server_error)
responses(400, {
    "an error without a type": (lambda r: r.body["error"].pop("type"), c.error_envelope),
    "details as text": (in_error("details", "COMPLETED"), c.error_envelope),
    "a finished batch is cancelled": (put("CANCELED", show=True), c.finished),
    "a finished batch is refused, and cancelled": (put("CANCELED"), c.finished_unchanged, c.finished),
    "409 for a finished batch": (refuse(409), c.finished),
    "404 for a finished batch": (refuse(404), c.finished),
    "details do not name the status": (in_error("details", {}), c.finished_details),
    "details name another status": (in_error("details", {"status": "FAILED"}), c.finished_details),
    "a finished batch changes its status": (
        when(lambda a: any(batch.status == "CANCELED" for batch in a.server.batches),
             in_error("details", {"status": "FAILED"})), c.finished_unchanged),
    "a query forces it": (when(lambda a: "force=true" in a.query, put("CANCELED", show=True)), c.style),
})
responses(401, {
    "error as a string": (fields(error="unauthorized"), c.error_envelope),
    "404 for a wrong key": (refuse(404), c.key_in_full),
    "403 for a wrong key": (refuse(403), c.key_in_full),
    "401 without WWW-Authenticate": (header("www-authenticate", None), c.www_authenticate),
    "401 that asks for Basic": (header("www-authenticate", 'Basic realm="api"'), c.www_authenticate),
    "the key in a 401": (lambda r: r.body["error"].update(message=r.asked["authorization"]), c.key_not_repeated),
    "the batch before the key": (refuse(404, lambda a: "contract-test-" in a.path), c.key_before_batch),
    "the status before the key": (refuse(400, lambda a: "btch_9" in a.path), c.key_before_status),
    "a 401 tells whether the batch is there": (
        when(lambda a: a.exists, in_error("details", {"batch": "known"})), c.key_before_batch),
})
responses(404, {
    "no content type on errors": (header("content-type", None), c.content_type),
    "HTML 404": (raw(lambda _: b"<h1>Not Found</h1>", "text/html"), c.content_type, c.error_envelope),
    "an empty 404": (raw(lambda _: b""), c.json_, c.error_envelope),
    "FastAPI's detail": (body(lambda _: {"detail": "Not Found"}), c.error_envelope),
    "an error without success": (without("success"), c.error_envelope),
    "the envelope's status is always 500": (fields(status=500), c.envelope_status),
    "success true in an error": (fields(success=True), c.error_envelope, c.envelope_status),
    "errors with status 200": (code(200), c.unknown_batch),
    "400 for an unknown path": (refuse(400, lambda a: not a.path.endswith("/cancel")), c.unknown_path),
    "422 for any body": (refuse(422, lambda a: a.body), c.body_means_nothing),
    "the type of an error in another language": (
        when(lambda a: a["accept-language"] == "de", in_error("type", "NichtGefunden")), c.accept),
    "under load, one looks in the namespace of another": (
        under_load(2, when(lambda a: a.exists and a["x-namespace"] != NAMESPACE,
                           put("CANCELED", NAMESPACE, show=True))), c.no_mixing),
})
responses(404, {
    "a 404 lists what there is":
        when(lambda a: a.batch[0] in BUCKETS.values(), in_error("details", {"known": [*BUCKETS]})),
    "a 404 says where the batch is": when(lambda a: a.exists, in_error("message", "It is in another bucket.")),
    "a 404 says that the batch is somewhere": when(lambda a: a.exists, in_error("details", {"exists": True})),
    "a 404 of another type for what is elsewhere":
        when(lambda a: a.exists and a["x-namespace"] == "empty_one", in_error("type", "WrongNamespaceError")),
    "a 404 has a header for what is elsewhere": when(lambda a: a.exists, header("x-shard", "3")),
}, c.elsewhere_tells_nothing)
responses(405, {
    "405 without Allow": (header("allow", None), c.allow),
    "405 that allows GET": (header("allow", "GET"), c.allow),
    "404 for another method": (refuse(404), c.method),
    "the key before the method": (refuse(401, lambda a: not a["authorization"]), c.method_before_key),
    "OPTIONS gives 200": (when(lambda a: a.method == "OPTIONS", code(200)), c.method),
    "OPTIONS gives 204 to whoever asks": (when(lambda a: a.method == "OPTIONS", code(204)), c.method),
    "HEAD gives 200": (when(lambda a: a.method == "HEAD", code(200)), c.method),
    "TRACE repeats the request": (when(lambda a: a.method == "TRACE", trace), c.key_not_repeated, c.method),
    "HEAD tells by a header": (
        when(lambda a: a.method == "HEAD" and a.exists, header("x-batch", "here")), c.method_tells_nothing),
    "GET tells in its details": (
        lambda r: in_error("details", {"found": r.asked.exists})(r), c.method_tells_nothing),
    "OPTIONS tells by its Allow": (when(lambda a: a.exists, header("allow", "POST, OPTIONS")), c.method_tells_nothing),
    "OPTIONS asks for the batch first": (refuse(404, lambda a: a.method == "OPTIONS" and not a.exists), c.method),
})

# Those that only the state behind the server shows.
responses(200, {
    "inputs lost on cancelling": fields(inputs=[]),
    "outputs dropped from the answer": fields(outputs=[]),
    "the error lost on cancelling": fields(additional_data={"job_id": "j"}, error_message=None),
    "an object's error flattened on cancelling":
        lambda r: (r.body["additional_data"] or {}).update(error=r.body["error_message"]),
    "additional data lost on cancelling": fields(additional_data=None, error_message=None),
}, c.task_kept, needs_state=True)
responses(200, {"200, but not cancelled": put("IN_PROGRESS")}, c.canceled_afterwards, needs_state=True)
responses(400, {
    "SKIPPED can be cancelled": lambda r: code(200)(r) if "SKIPPED" in str(r.body) else None,
}, c.finished_every_status, needs_state=True)
responses(401, {
    "a refusal that cancels": when(lambda a: a.batch[1] == "btch_1", put("CANCELED", NAMESPACE)),
}, c.refusal_changes_nothing, needs_state=True)
responses(404, {
    "a batch of another namespace is cancelled behind a 404":
        when(lambda a: a.batch == ("bkt_a", "btch_1") and a["x-namespace"] == "empty_one", put("CANCELED", NAMESPACE)),
}, c.refusal_changes_nothing, needs_state=True)
responses(405, {
    "another method cancels behind a 405": when(lambda a: a.batch == ("bkt_a", "btch_1"), put("CANCELED", NAMESPACE)),
}, c.refusal_changes_nothing, needs_state=True)
responses(429, {"two Retry-Afters": twice("retry-after", "9")}, c.headers_once, needs_state=True)
responses(503, {"503 without Retry-After": header("retry-after", None)}, c.retry_after, needs_state=True)
requests({
    "no default namespace": (lose(lambda a: not a["x-namespace"]), c.default_namespace),
    "an encoded slash ends the segment": (path(lambda text: text.replace("%2F", "/")), c.opaque_identifiers),
    "UNKNOWN cannot be cancelled": (at("none", "none", lambda a: has_status(a, "UNKNOWN")), c.cancel_every_status),
}, needs_state=True)

# The key.
requests({
    "any bearer key will do": accept(lambda a: a.key()),
    "a prefix of the key will do": accept(lambda a: a.key() and KEY.startswith(a.key())),
    "more than the key will do": accept(lambda a: a.key().startswith(KEY)),
    "the end of the key is not looked at": accept(lambda a: a.key()[:-1] == KEY[:-1]),
    "keys in any case": accept(lambda a: a.key().lower() == KEY.lower()),
    "a key up to a dot": accept(lambda a: a.key().partition(".")[0] == KEY),
    "Bearer twice": accept(lambda a: a.key() == f"Bearer {KEY}"),
    "a key in base64": accept(lambda a: a.key() == base64.b64encode(KEY.encode()).decode()),
    "a key as a parameter": accept(lambda a: a.key() == f'token="{KEY}"'),
}, c.key_in_full)
requests({
    "the key in X-API-Key will do": accept(lambda a: a["x-api-key"] == KEY),
    "the key in the query will do": accept(lambda a: f"api_key={KEY}" in a.query),
    "the key in a cookie will do": accept(lambda a: KEY in a["cookie"]),
    "a form has the key": accept(lambda a: f"api_key={KEY}".encode() in a.body),
    "a proxy's user needs no key": accept(lambda a: a["x-forwarded-user"]),
    "a page of this machine needs no key": accept(lambda a: "localhost" in a["origin"]),
}, c.key_elsewhere)
requests({
    "the key is not looked at": (accept(lambda _: True), c.no_key),
    "cancelled batches need no key": (accept(lambda a: has_status(a, "CANCELED")), c.no_key),
    "Basic with the key will do": (accept(lambda a: a.key("basic ")), c.other_scheme),
    "a bare key will do": (accept(lambda a: a["authorization"] == KEY), c.other_scheme),
    "only Bearer with a capital": (
        set_header("authorization", None, lambda a: not a["authorization"].startswith("Bearer ")), c.scheme_any_case),
    "any of the keys counts": (accept(lambda a: f"Bearer {KEY}" in a.all("authorization")), c.header_twice),
    "any of the namespaces counts": (find(lambda a: NAMESPACE in a.all("x-namespace")), c.header_twice),
})
requests({
    "the connection keeps the key":
        (remember("authorization", lambda a: KEY in a["authorization"], by=lambda a: a.client), c.no_key),
    "the machine keeps the key": (remember("authorization", lambda a: KEY in a["authorization"]), c.no_key),
    "the connection keeps the namespace":
        remember("x-namespace", lambda a: a["x-namespace"] == NAMESPACE, by=lambda a: a.client),
    "everybody keeps the last namespace":
        remember("x-namespace", lambda a: a["x-namespace"] in {NAMESPACE, "empty_one"}),
}, c.connection_remembers_nothing)

# The request.
requests({
    "half of each body": (fault("truncated"), c.answers),
    "connections are reset": (fault("reset"), c.answers),
    "only Accept: application/json": (at("none", "none", lambda a: a["accept"] != "application/json"), c.accept),
    "GET will do": (as_method("POST", lambda a: a.method == "GET"), c.method),
    "QUERY will do": (as_method("POST", lambda a: a.method == "QUERY"), c.method),
    "any method will do": (as_method("POST", lambda _: True), c.method),
    "another header has the path": (lambda a: setattr(a, "path", a["x-original-url"] or a.path), c.style),
    "the query names the bucket": (at("none", "none", lambda a: "identifier=contract" in a.query), c.style),
    "the query names the batch": (at("bkt_a", "none", lambda a: "batch_id=" in a.query), c.style),
})
requests({
    "a body names the namespace": find(lambda a: b'"namespace"' in a.body),
    "a body names the batch": at("bkt_a", "btch_9", lambda a: b'"batch_id"' in a.body and a.batch[1]),
    "a body names a batch in the bucket": batch_of_the_body,
    "a form changes the method": as_method("DELETE", lambda a: b"_method=DELETE" in a.body),
}, c.body_means_nothing)
requests({
    "any version of the API": path(lambda text: text.replace("/v2/", "/v1/")),
    "the path in any case": path(lambda text: text.replace("CANCEL", "cancel")),
    "a path without cancel": path(lambda text: re.sub(r"(/batches/[^/]+)$", r"\1/cancel", text)),
    "a path with a colon": path(lambda text: re.sub(":cancel$", "/cancel", text)),
    "a path with an ending": path(lambda text: text.removesuffix(".json")),
    "a bucket in a folder": path(lambda text: re.sub("/buckets/[^/]+/([^/]+/batches)", r"/buckets/\1", text)),
    "a batch in a folder": path(lambda text: re.sub("/batches/[^/]+/([^/]+/cancel)", r"/batches/\1", text)),
    "bytes that are no UTF-8 are left out": path(lambda text: text.replace("%FF", "")),
}, c.near_path)

# Where batches are.
requests({
    "a namespace in another header": (
        lambda a: a.__setitem__("x-namespace", a["x-namespace"] or a["x-tenant"] or None), c.namespace_elsewhere),
    "a namespace in the query": (find(lambda a: f"ns={NAMESPACE}" in a.query), c.namespace_elsewhere),
    "a namespace in a cookie": (find(lambda a: f"namespace={NAMESPACE}" in a["cookie"]), c.namespace_elsewhere),
    "the namespace is not looked at": (find(lambda _: True), c.unknown_namespace, c.other_namespace),
    "an unknown namespace is the default": (
        find(lambda a: a["x-namespace"].startswith("contract-test-")), c.unknown_namespace),
    "other namespaces see the batches": (find(lambda a: a["x-namespace"] == "empty_one"), c.other_namespace),
    "a forbidden namespace is unknown": (lose(lambda a: a["x-namespace"] == "forbidden"), c.forbidden_namespace),
    "no namespace by id": (lose(lambda a: a["x-namespace"].startswith("ns_")), c.namespace_by_id),
    "the bucket is not looked at": (in_its_bucket(lambda _: True), c.unknown_bucket, c.other_bucket),
    "batches of other buckets are found": (in_its_bucket(lambda a: a.batch[0] in BUCKETS.values()), c.other_bucket),
    "any bucket, by a dash": (in_its_bucket(lambda a: a.batch[0] == "-"), c.identifier_exact),
    "the id of its task will do": (by_task_id, c.task_is_no_batch),
})
requests({
    "identifiers in any case": alike(str.lower),
    "identifiers without accents": alike(unaccented),
    "identifiers in any width": alike(lambda text: unicodedata.normalize("NFKC", text)),
    "identifiers by their number": alike(numbered),
    "identifiers without spaces around": alike(str.strip),
    "identifiers without what cannot be seen": alike(lambda text: text.replace("\u200b", "")),
    "identifiers decoded twice": alike(unquote),
    "identifiers without slashes": alike(lambda text: text.strip("/")),
    "identifiers without the last newline": alike(lambda text: text.removesuffix("\n")),
    "identifiers in quotes": alike(lambda text: text.strip('"')),
    "identifiers without their prefix": alike(lambda text: text.removeprefix("btch_").removeprefix("bkt_")),
    "identifiers behind a dot segment": alike(lambda text: text.rpartition("/../")[2]),
    "identifiers with any punctuation": alike(unpunctuated),
    "identifiers without .json": (alike(lambda text: text.removesuffix(".json")), c.identifier_in_full),
    "identifiers without parameters": (alike(up_to(";")), c.identifier_in_full),
    "identifiers up to a comma": (alike(up_to(",")), c.identifier_in_full),
    "identifiers up to a NUL": (alike(up_to("\0")), c.identifier_in_full),
}, c.identifier_exact)
requests({
    "batch ids compared by their beginning":
        alike(lambda text: next((known for known in BUCKETS if text.startswith(known)), text)),
    "buckets compared by their end": alike(lambda text: text[-5:] if text.endswith(("bkt_a", "bkt_b")) else text),
    "identifiers without a query": alike(up_to("?")),
    "identifiers up to a colon": alike(up_to(":")),
    "identifiers up to an at sign": alike(up_to("@")),
    "identifiers up to a backslash": alike(up_to("\\")),
}, c.identifier_in_full)
requests({
    "namespaces in any case": alike_namespace(str.lower),
    "namespaces without accents": alike_namespace(unaccented),
    "namespaces by their number": alike_namespace(numbered),
    "namespaces without parameters": alike_namespace(up_to(";")),
    "namespaces without slashes": alike_namespace(lambda text: text.strip("/")),
    "namespaces with any punctuation": alike_namespace(unpunctuated),
    "namespaces with or without ns_": alike_namespace(lambda text: text.removeprefix("ns_")),
    "namespaces in quotes": alike_namespace(lambda text: text.strip('"')),
    "a namespace called null": find(lambda a: a["x-namespace"] == "null"),
}, c.namespace_exact)
requests({
    "the first of several namespaces": alike_namespace(up_to(",")),
    "the last of several namespaces": alike_namespace(lambda text: text.rpartition(",")[2]),
    "namespaces up to a colon": alike_namespace(up_to(":")),
}, c.unknown_namespace)
# fmt: on

HARMLESS: dict[str, Mutant] = {
    "the first key counts": Mutant(ask=pick(0, "authorization")),
    "the last key counts": Mutant(ask=pick(-1, "authorization")),
    "the first namespace counts": Mutant(ask=pick(0, "x-namespace")),
    "the last namespace counts": Mutant(ask=pick(-1, "x-namespace")),
    "bodies are compressed": Mutant(change=compress),
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
