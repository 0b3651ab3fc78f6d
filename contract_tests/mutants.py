"""Small named breaches of the contract, to prove that the tests would notice each.

A mutant changes an answer of the mock, or what the mock is asked. `python -m contract_tests.mutants NAME` serves one on
a port of this machine; without a name it lists them.
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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixpeek_batches.mock import MockServer, MockState

from . import clauses as c
from .clause import Clause
from .scenario import MOCK_KEY, prepared_target

KEY = f"{MOCK_KEY}_some"
HOMES = {"btch_1": "bkt_a", "btch_2": "bkt_b", "btch_9": "bkt_a"}
NAMESPACE = "contract_tests"


@attrs.define
class Asked:
    """A request on its way to the mock, to be changed.

    Attributes:
        state: The state behind the mock; `memory` is kept between requests.
        sent: The headers as they came.
    """

    state: MockState
    method: str
    path: str
    sent: list[tuple[str, str]]
    body: bytes
    client: tuple[str, int]

    @property
    def memory(self) -> dict[Any, Any]:
        """What this mutant remembers of earlier requests."""
        memory: dict[Any, Any] = self.state.__dict__.setdefault("memory", {})
        return memory

    def __getitem__(self, name: str) -> str:
        return ", ".join(value for key, value in self.sent if key == name)

    def all(self, name: str) -> list[str]:
        """Give every value of a header."""
        return [value for key, value in self.sent if key == name]

    def set(self, name: str, value: str | None) -> None:
        """Send a header once, or not at all."""
        self.sent = [pair for pair in self.sent if pair[0] != name]
        self.sent += [] if value is None else [(name, value)]

    @property
    def place(self) -> tuple[str, str]:
        """The bucket and the batch that the path names; empty where it names none."""
        match = re.fullmatch(r"/v1/buckets/([^/]+)/batches/([^/]+)/cancel", self.path)
        return (unquote(match[1]), unquote(match[2])) if match else ("", "")

    @place.setter
    def place(self, place: tuple[str, str]) -> None:
        self.path = "/v1/buckets/{}/batches/{}/cancel".format(*(quote(text, safe="") for text in place))

    @property
    def exists(self) -> bool:
        """Whether a batch of this name is anywhere."""
        return self.place[1] in HOMES


@attrs.define
class Reply:
    """An answer of the mock, to be changed.

    Attributes:
        asked: What was asked, before the mutant changed it.
        body: The body's JSON.
        raw: The body's bytes, where they are to be others than those of `body`.
        more: More headers, besides those that come once.
    """

    asked: Asked
    status: int
    headers: dict[str, str]
    body: Any
    raw: bytes | None = None
    more: list[tuple[str, str]] = attrs.Factory(list)

    def error(self, status: int, **details: Any) -> None:
        """Answer with an error instead."""
        error = {"message": "no", "type": "SomeError", "details": details or None}
        self.status, self.body = status, {"success": False, "status": status, "error": error}
        self.headers.pop("allow", None)
        if status == 401:
            self.headers["www-authenticate"] = "Bearer"

    def put(self, status: str, namespace: str | None = None, *, answer: int | None = None) -> None:
        """Give the batch of the request another status behind the mock's back, and answer with its task."""
        state = self.asked.state
        namespace = namespace or self.asked["x-namespace"] or None
        old = state.batch(*self.asked.place, namespace=namespace).to_dict()
        state.add_batch(**{**old, "status": status})
        if answer is not None:
            self.status, self.body = answer, state.batch(*self.asked.place, namespace=namespace).task()


Ask = Callable[[Asked], object]
Change = Callable[[Reply], object]


@attrs.frozen
class Mutant:
    """A breach.

    Attributes:
        clauses: The clauses that it breaks; one of them must notice.
        ask: Changes the request before the mock sees it.
        answer: Changes the answer.
        status: Of which answers; None for all.
        look_behind: Whether only a look behind the server shows it.
        tail: Gives bytes that follow an answer, behind its announced length.
    """

    clauses: tuple[Clause, ...]
    ask: Ask | None = None
    answer: Change | None = None
    status: int | None = None
    look_behind: bool = False
    tail: Callable[[Asked], bytes] | None = None

    def wrap(self, app: ASGIApp, state: MockState) -> ASGIApp:
        """Put the breach in front of the mock."""

        async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith("/_mock"):
                await app(scope, receive, send)
                return
            body, more = b"", True
            while more:
                part = await receive()
                body, more = body + part.get("body", b""), part.get("more_body", False)
            sent = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
            asked = Asked(state, scope["method"], scope["raw_path"].decode(), sent, body, tuple(scope["client"]))
            asked.memory["query"] = scope["query_string"].decode()
            before = attrs.evolve(asked, sent=list(sent))
            if self.ask:
                self.ask(asked)
            encoded = [(name.encode(), value.encode("latin-1")) for name, value in asked.sent]
            changed = {**scope, "method": asked.method, "raw_path": asked.path.encode(), "headers": encoded}
            unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive_again() -> Message:
                return unread.pop() if unread else await receive()

            if self.answer is None and not self.tail:
                await app(changed, receive_again, send)
                return
            messages: list[Message] = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await app(changed, receive_again, keep)
            await self._answered(before, messages, send)

        return mutated

    async def _answered(self, asked: Asked, messages: list[Message], send: Send) -> None:
        body = b"".join(message.get("body", b"") for message in messages[1:])
        if self.tail:  # by hand, since uvicorn keeps what it sends to its announced length
            lines = [f"HTTP/1.1 {messages[0]['status']} x".encode(), b"connection: close"]
            lines += [name + b": " + value for name, value in messages[0]["headers"]]
            transport = send.__self__.transport  # type: ignore[attr-defined] # see the mock
            transport.write(b"\r\n".join([*lines, b"", (body if asked.method != "HEAD" else b"") + self.tail(asked)]))
            transport.close()
            return
        headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        reply = Reply(asked, messages[0]["status"], headers, json.loads(body) if body else None)
        if self.answer is not None and self.status in {None, reply.status}:
            waiting = self.answer(reply)
            if asyncio.iscoroutine(waiting):
                await waiting
        raw = json.dumps(reply.body).encode() if reply.raw is None else reply.raw
        if reply.status in {204, 304}:
            raw = b""
        reply.headers["content-length"] = str(len(raw))
        pairs = [*reply.headers.items(), *reply.more]
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
        await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
        await send({"type": "http.response.body", "body": raw})


MUTANTS: dict[str, Mutant] = {
    "bytes behind the body": Mutant((c.framing,), tail=lambda _: b"\n"),
    "HEAD gets a body": Mutant((c.framing,), tail=lambda asked: b"{}" if asked.method == "HEAD" else b""),
}


def answering(
    name: str, *clauses: Clause, status: int | None = 200, look_behind: bool = False
) -> Callable[[Change], Change]:
    """Register a mutant that changes answers of a status; None for all."""

    def register(change: Change) -> Change:
        assert name not in MUTANTS
        MUTANTS[name] = Mutant(clauses, answer=change, status=status, look_behind=look_behind)
        return change

    return register


def asking(name: str, *clauses: Clause, look_behind: bool = False) -> Callable[[Ask], Ask]:
    """Register a mutant that changes requests."""

    def register(change: Ask) -> Ask:
        assert name not in MUTANTS
        MUTANTS[name] = Mutant(clauses, ask=change, look_behind=look_behind)
        return change

    return register


# What rows are made of.


def field(name: str, value: Any) -> Change:
    """Set a field of the body."""
    return lambda reply: reply.body.__setitem__(name, value)


def inner(name: str, value: Any) -> Change:
    """Set a field of the error in the body."""
    return lambda reply: reply.body["error"].__setitem__(name, value)


def without(name: str) -> Change:
    """Take a field out of the body."""
    return lambda reply: reply.body.pop(name)


def body(make: Callable[[Any], Any]) -> Change:
    """Make another body of the body."""
    return lambda reply: setattr(reply, "body", make(reply.body))


def raw(make: Callable[[bytes], bytes], media: str = "application/json") -> Change:
    """Make other bytes of the body's."""

    def change(reply: Reply) -> None:
        reply.headers["content-type"] = media
        reply.raw = make(json.dumps(reply.body).encode())

    return change


def header(name: str, value: str | None) -> Change:
    """Set a header, or leave it out."""

    def change(reply: Reply) -> None:
        reply.headers.pop(name, None)
        reply.headers.update({} if value is None else {name: value})

    return change


def code(status: int) -> Change:
    """Set the status and leave the rest."""
    return lambda reply: setattr(reply, "status", status)


def refuse(status: int, when: Callable[[Asked], object] = lambda _: True, **details: Any) -> Change:
    """Answer with an error, for some requests."""
    return lambda reply: reply.error(status, **details) if when(reply.asked) else None


def pick(at: int, name: str) -> Ask:
    """Take one of the values of a header that comes more than once."""
    return lambda asked: asked.set(name, asked.all(name)[at]) if asked.all(name) else None


def good(when: Callable[[Asked], object]) -> Ask:
    """Let some requests pass as ones with a good key."""
    return lambda asked: asked.set("authorization", f"Bearer {KEY}") if when(asked) else None


def sent_key(asked: Asked, scheme: str = "bearer ") -> str | None:
    """Give the key that a request has in a scheme."""
    value = asked["authorization"]
    return value[len(scheme) :] if value.lower().startswith(scheme) else None


def alike(norm: Callable[[str], str]) -> Ask:
    """Take identifiers for equal that are so after a change to both."""
    known = {norm(text): text for text in (*HOMES, *HOMES.values())}

    def change(asked: Asked) -> None:
        bucket, batch = asked.place
        if batch:
            asked.place = known.get(norm(bucket), bucket), known.get(norm(batch), batch)

    return change


def alike_namespace(norm: Callable[[str], str]) -> Ask:
    """Likewise for namespaces."""

    def change(asked: Asked) -> None:
        sent = asked["x-namespace"].encode("latin-1").decode("utf-8", "replace")
        known = {norm(text): text for text in (NAMESPACE, asked.state.add_namespace(NAMESPACE))}
        if norm(sent) in known:
            asked.set("x-namespace", known[norm(sent)])

    return change


def unaccented(text: str) -> str:
    """Take accents off."""
    return "".join(part for part in unicodedata.normalize("NFKD", text) if not unicodedata.combining(part))


def number(text: str) -> str:
    """Read the digits of a text as a number, as they are written anywhere in the world."""
    return re.sub(r"\d+", lambda match: str(int(match[0])), text)


def again(reply: Reply) -> bool:
    """Tell whether the path was asked for before."""
    seen = reply.asked.memory.setdefault("seen", set())
    before = reply.asked.path in seen
    seen.add(reply.asked.path)
    return before


ANSWERS: tuple[tuple[str, tuple[Clause, ...], int | None, Change], ...] = (
    # The task.
    *((f"200 without {name}", (c.task_schema,), 200, without(name)) for name in ("task_id", "task_type", "status")),
    *((f"200 with null {name}", (c.task_schema,), 200, field(name, None))
      for name in ("task_id", "task_type", "status", "inputs", "outputs")),
    ("a status outside the enum", (c.task_schema,), 200, field("status", "STOPPED")),
    ("British CANCELLED", (c.task_schema,), 200, field("status", "CANCELLED")),
    ("a lower-case status", (c.task_schema,), 200, field("status", "canceled")),
    ("a type outside the enum", (c.task_schema,), 200, field("task_type", "api_buckets_batches_cancel")),
    ("a number for task_id", (c.task_schema,), 200, field("task_id", 7)),
    ("an object for inputs", (c.task_schema,), 200, field("inputs", {"a": 1})),
    ("numbers in inputs", (c.task_schema,), 200, field("inputs", ["a", 1])),
    ("lists in outputs", (c.task_schema,), 200, field("outputs", [["a"]])),
    ("a string for additional_data", (c.task_schema,), 200, field("additional_data", "none")),
    ("a list for additional_data", (c.task_schema,), 200, field("additional_data", [])),
    ("an object for error_message", (c.task_schema,), 200, field("error_message", {"message": "x"})),
    ("another known type", (c.task_type,), 200, field("task_type", "thumbnail")),
    ("200 with status IN_PROGRESS", (c.task_canceled,), 200, field("status", "IN_PROGRESS")),
    ("error_message where none is due", (c.error_message_absent,), 200,
     lambda r: field("error_message", r.body["error_message"] or "stale")(r)),
    ("error_message never there", (c.error_message_due,), 200, without("error_message")),
    ("error_message cut short", (c.error_message_due,), 200,
     lambda r: field("error_message", r.body["error_message"] and r.body["error_message"][:3])(r)),
    ("error_message is the whole error as text", (c.error_message_due,), 200,
     lambda r: field("error_message", str((r.body["additional_data"] or {}).get("error") or "") or None)(r)),
    ("a query forces it", (c.style,), 400,
     lambda r: r.put("CANCELED", answer=200) if "force=true" in r.asked.memory["query"] else None),
    ("the type of an error in another language", (c.accept,), 404,
     lambda r: inner("type", "NichtGefunden")(r) if r.asked["accept-language"] == "de" else None),
    ("a 404 lists what there is", (c.elsewhere_tells_nothing,), 404,
     lambda r: inner("details", {"known": [*HOMES]})(r) if r.asked.place[0] in HOMES.values() else None),
    ("X-Namespace must be given", (c.namespace_elsewhere,), None,
     lambda r: r.error(422) if not r.asked["x-namespace"] and r.status == 404 else None),
    ("the key in an answer, percent-encoded", (c.key_not_repeated,), 200,
     field("debug", "".join(f"%{ord(character):02x}" for character in KEY))),
    ("the error is in the first answer only", (c.idempotent, c.idempotent_simultaneous), 200,
     lambda r: r.body.update(additional_data={}, error_message=None) if again(r) else None),
    ("the task wrapped in data", (c.task_schema,), 200, body(lambda task: {"data": task})),
    ("the task in a list", (c.task_schema,), 200, body(lambda task: [task])),
    ("201 for 200", (c.documented_status, c.cancel), 200, code(201)),
    ("202 for 200", (c.documented_status, c.cancel), 200, code(202)),
    ("204 for 200", (c.documented_status, c.cancel), 200, code(204)),
    ("a new task_id with each answer", (c.idempotent, c.idempotent_simultaneous), 200,
     lambda r: r.body.update(task_id=f"task_{time.monotonic_ns()}")),
    ("one task_id for all", (c.one_task_each,), 200, field("task_id", "task_1")),
    ("a field more in the second answer", (c.idempotent, c.idempotent_simultaneous), 200,
     lambda r: again(r) and field("already", True)(r)),
    ("second cancel 409", (c.idempotent, c.idempotent_simultaneous), 200, lambda r: r.error(409) if again(r) else None),
    ("second cancel 400", (c.idempotent, c.idempotent_simultaneous), 200, lambda r: r.error(400) if again(r) else None),
    # The form of every answer.
    ("text/plain", (c.content_type,), None, header("content-type", "text/plain")),
    ("no content type on errors", (c.content_type,), 404, header("content-type", None)),
    ("two content types", (c.headers_once,), None, lambda r: r.more.append(("content-type", "application/json"))),
    ("JSON cut short", (c.json_,), 200, raw(lambda text: text[:-2])),
    ("NaN in JSON", (c.json_,), 200, raw(lambda text: text[:-1] + b', "score": NaN}')),
    ("a name twice in JSON", (c.json_,), 200, raw(lambda text: text[:-1] + b', "status": "CANCELED"}')),
    ("JSON in Latin-1", (c.json_,), 200, raw(lambda text: text[:-1] + b', "note": "\xfc"}')),
    ("HTML 404", (c.content_type, c.error_envelope), 404, raw(lambda _: b"<h1>Not Found</h1>", "text/html")),
    ("an empty 404", (c.json_, c.error_envelope), 404, raw(lambda _: b"")),
    ("FastAPI's detail", (c.error_envelope,), 404, body(lambda _: {"detail": "Not Found"})),
    ("error as a string", (c.error_envelope,), 401, field("error", "unauthorized")),
    ("an error without a type", (c.error_envelope,), 400, lambda r: r.body["error"].pop("type")),
    ("an error without success", (c.error_envelope,), 404, without("success")),
    ("details as text", (c.error_envelope,), 400, inner("details", "COMPLETED")),
    ("the envelope's status is always 500", (c.envelope_status,), 404, field("status", 500)),
    ("success true in an error", (c.error_envelope, c.envelope_status), 404, field("success", True)),
    ("errors with status 200", (c.unknown_batch,), 404, code(200)),
    ("404 for a wrong key", (c.key_in_full,), 401, refuse(404)),
    ("403 for a wrong key", (c.key_in_full,), 401, refuse(403)),
    ("401 without WWW-Authenticate", (c.www_authenticate,), 401, header("www-authenticate", None)),
    ("401 that asks for Basic", (c.www_authenticate,), 401, header("www-authenticate", 'Basic realm="api"')),
    ("405 without Allow", (c.allow,), 405, header("allow", None)),
    ("405 that allows GET", (c.allow,), 405, header("allow", "GET")),
    ("404 for another method", (c.method,), 405, refuse(404)),
    ("the key in a 401", (c.key_not_repeated,), 401,
     lambda r: inner("message", f"unknown: {r.asked['authorization']}")(r)),
    ("the key in a header", (c.key_not_repeated,), None,
     lambda r: header("x-debug", r.asked["authorization"].encode("ascii", "replace").decode() or "none")(r)),
    ("the key in the task", (c.key_not_repeated,), 200, lambda r: field("by", r.asked["authorization"][7:])(r)),
    # Finished batches.
    ("a finished batch is cancelled", (c.finished,), 400, lambda r: r.put("CANCELED", answer=200)),
    ("a finished batch is refused, and cancelled", (c.finished_unchanged, c.finished), 400,
     lambda r: r.put("CANCELED")),
    ("409 for a finished batch", (c.finished,), 400, refuse(409)),
    ("404 for a finished batch", (c.finished,), 400, refuse(404)),
    ("details do not name the status", (c.finished_details,), 400, inner("details", {})),
    ("details name another status", (c.finished_details,), 400, inner("details", {"status": "FAILED"})),
    ("a finished batch changes its status", (c.finished_unchanged,), 400,
     lambda r: inner("details", {"status": "FAILED"})(r)
     if any(batch.status == "CANCELED" for batch in r.asked.state.batches) else None),
    # The order of the checks.
    ("the key before the method", (c.method_before_key,), 405, refuse(401, lambda a: not a["authorization"])),
    ("the batch before the key", (c.key_before_batch,), 401, refuse(404, lambda a: "contract-test-" in a.path)),
    ("the status before the key", (c.key_before_status,), 401, refuse(400, lambda a: "btch_9" in a.path)),
    ("400 for an unknown path", (c.unknown_path,), 404, refuse(400, lambda a: not a.path.endswith("/cancel"))),
    # Other methods, and what they give away.
    ("OPTIONS gives 200", (c.method,), 405, lambda r: code(200)(r) if r.asked.method == "OPTIONS" else None),
    ("OPTIONS gives 204 to whoever asks", (c.method,), 405,
     lambda r: code(204)(r) if r.asked.method == "OPTIONS" else None),
    ("HEAD gives 200", (c.method,), 405, lambda r: code(200)(r) if r.asked.method == "HEAD" else None),
    ("TRACE repeats the request", (c.key_not_repeated, c.method), 405,
     lambda r: [code(200)(r), raw(lambda _: repr(r.asked.sent).encode(), "message/http")(r)]
     if r.asked.method == "TRACE" else None),
    ("HEAD tells by a header", (c.method_tells_nothing,), 405,
     lambda r: header("x-batch", "here")(r) if r.asked.method == "HEAD" and r.asked.exists else None),
    ("GET tells in its details", (c.method_tells_nothing,), 405,
     lambda r: inner("details", {"found": r.asked.exists})(r)),
    ("OPTIONS tells by its Allow", (c.method_tells_nothing,), 405,
     lambda r: header("allow", "POST, OPTIONS")(r) if r.asked.exists else None),
    ("OPTIONS asks for the batch first", (c.method,), 405,
     refuse(404, lambda a: a.method == "OPTIONS" and not a.exists)),
    # What a refusal gives away.
    ("a 404 says where the batch is", (c.elsewhere_tells_nothing,), 404,
     lambda r: inner("message", "It is in another bucket.")(r) if r.asked.exists else None),
    ("a 404 says that the batch is somewhere", (c.elsewhere_tells_nothing,), 404,
     lambda r: inner("details", {"exists": True})(r) if r.asked.exists else None),
    ("a 404 of another type for what is elsewhere", (c.elsewhere_tells_nothing,), 404,
     lambda r: inner("type", "WrongNamespaceError")(r) if r.asked.exists and r.asked["x-namespace"] == "empty_one"
     else None),
    ("a 404 has a header for what is elsewhere", (c.elsewhere_tells_nothing,), 404,
     lambda r: header("x-shard", "3")(r) if r.asked.exists else None),
    ("a 401 tells whether the batch is there", (c.key_before_batch,), 401,
     lambda r: inner("details", {"batch": "known"})(r) if r.asked.exists else None),
    # Style, Accept, and bodies.
    ("400 for an unknown query", (c.style,), None, refuse(400, lambda a: "x=1" in a.memory["query"])),
    ("X-HTTP-Method-Override counts", (c.style,), None, refuse(405, lambda a: a["x-http-method-override"] == "GET")),
    ("HTML errors for browsers", (c.content_type, c.error_envelope), None,
     lambda r: raw(lambda _: b"<h1>no</h1>", "text/html")(r) if "html" in r.asked["accept"] else None),
    ("problem+json for who asks for it", (c.content_type,), None,
     lambda r: header("content-type", "application/problem+json")(r) if "problem" in r.asked["accept"] else None),
    ("406 for XML", (c.accept,), None, refuse(406, lambda a: "xml" in a["accept"])),
    ("406 without Accept", (c.accept,), None, refuse(406, lambda a: not a["accept"])),
    ("400 for a body that is not valid JSON", (c.body_means_nothing,), None, refuse(400, lambda a: b"{not" in a.body)),
    ("422 for any body", (c.body_means_nothing,), 404, refuse(422, lambda a: a.body)),
    ("415 for plain text", (c.body_means_nothing,), None, refuse(415, lambda a: "text/plain" in a["content-type"])),
    ("411 without a length", (c.length_unannounced, c.framing), None,
     refuse(411, lambda a: not a["content-length"] and a.method == "POST")),
    ("501 for chunks", (c.length_unannounced, c.no_server_error), None,
     refuse(501, lambda a: "chunked" in a["transfer-encoding"])),
)  # fmt: skip
for _name, _clauses, _status, _change in ANSWERS:
    answering(_name, *_clauses, status=_status)(_change)

BEHIND: tuple[tuple[str, Clause, int, Change], ...] = (
    ("inputs lost on cancelling", c.task_kept, 200, field("inputs", [])),
    ("outputs dropped from the answer", c.task_kept, 200, field("outputs", [])),
    ("the error lost on cancelling", c.task_kept, 200,
     lambda r: r.body.update(additional_data={"job_id": "j"}, error_message=None)),
    ("an object's error flattened on cancelling", c.task_kept, 200,
     lambda r: (r.body["additional_data"] or {}).update(error=r.body["error_message"])),
    ("additional data lost on cancelling", c.task_kept, 200, lambda r: r.body.update(additional_data=None,
                                                                                   error_message=None)),
    ("200, but not cancelled", c.canceled_afterwards, 200, lambda r: r.put("IN_PROGRESS")),
    ("503 without Retry-After", c.retry_after, 503, header("retry-after", None)),
    ("two Retry-Afters", c.headers_once, 429, lambda r: r.more.append(("retry-after", "9"))),
    ("SKIPPED can be cancelled", c.finished_every_status, 400,
     lambda r: code(200)(r) if "SKIPPED" in str(r.body) else None),
    ("a refusal that cancels", c.refusal_changes_nothing, 401,
     lambda r: r.put("CANCELED", NAMESPACE) if "btch_1/" in r.asked.path else None),
    ("another method cancels behind a 405", c.refusal_changes_nothing, 405,
     lambda r: r.put("CANCELED", NAMESPACE) if r.asked.place == ("bkt_a", "btch_1") else None),
    ("a batch of another namespace is cancelled behind a 404", c.refusal_changes_nothing, 404,
     lambda r: r.put("CANCELED", NAMESPACE)
     if r.asked.place == ("bkt_a", "btch_1") and r.asked["x-namespace"] == "empty_one" else None),
)  # fmt: skip
for _name, _clause, _of, _change in BEHIND:
    answering(_name, _clause, status=_of, look_behind=True)(_change)

ASKS: tuple[tuple[str, tuple[Clause, ...], Ask], ...] = (
    # The key.
    ("the key is not looked at", (c.no_key,), good(lambda a: True)),
    ("any bearer key will do", (c.key_in_full,), good(sent_key)),
    ("a prefix of the key will do", (c.key_in_full,), good(lambda a: sent_key(a) and KEY.startswith(str(sent_key(a))))),
    ("more than the key will do", (c.key_in_full,), good(lambda a: (sent_key(a) or "").startswith(KEY))),
    ("the end of the key is not looked at", (c.key_in_full,), good(lambda a: (sent_key(a) or "")[:-1] == KEY[:-1])),
    ("keys in any case", (c.key_in_full,), good(lambda a: (sent_key(a) or "").lower() == KEY.lower())),
    ("Basic with the key will do", (c.other_scheme,), good(lambda a: sent_key(a, "basic "))),
    ("a bare key will do", (c.other_scheme,), good(lambda a: a["authorization"] == KEY)),
    ("the key in X-API-Key will do", (c.key_elsewhere,), good(lambda a: a["x-api-key"] == KEY)),
    ("the key in the query will do", (c.key_elsewhere,), good(lambda a: f"api_key={KEY}" in a.memory["query"])),
    ("the key in a cookie will do", (c.key_elsewhere,), good(lambda a: KEY in a["cookie"])),
    ("only Bearer with a capital", (c.scheme_any_case,),
     lambda a: None if a["authorization"].startswith("Bearer ") else a.set("authorization", None)),
    # A header that comes twice.
    ("any of the keys counts", (c.header_twice,), good(lambda a: f"Bearer {KEY}" in a.all("authorization"))),
    ("any of the namespaces counts", (c.header_twice,),
     lambda a: a.set("x-namespace", NAMESPACE) if NAMESPACE in a.all("x-namespace") else None),
    # What an earlier request leaves behind.
    ("the connection keeps the key", (c.connection_remembers_nothing, c.no_key),
     lambda a: a.memory.__setitem__(a.client, a["authorization"]) if KEY in a["authorization"]
     else None if a["authorization"] else a.set("authorization", a.memory.get(a.client))),
    ("the connection keeps the namespace", (c.connection_remembers_nothing,),
     lambda a: a.memory.__setitem__(a.client, a["x-namespace"]) if a["x-namespace"] == NAMESPACE
     else None if a["x-namespace"] else a.set("x-namespace", a.memory.get(a.client))),
    ("the machine keeps the key", (c.connection_remembers_nothing, c.no_key),
     lambda a: a.memory.__setitem__(a.client[0], a["authorization"]) if KEY in a["authorization"]
     else None if a["authorization"] else a.set("authorization", a.memory.get(a.client[0]))),
    # Bodies.
    ("a body names the namespace", (c.body_means_nothing,),
     lambda a: a.set("x-namespace", NAMESPACE) if b'"namespace"' in a.body else None),
    ("a body names the batch", (c.body_means_nothing,),
     lambda a: setattr(a, "place", ("bkt_a", "btch_9")) if b'"batch_id"' in a.body and a.place[1] else None),
    ("a body names a batch in the bucket", (c.body_means_nothing,),
     lambda a: setattr(a, "place", (a.place[0], json.loads(a.body)["batch_id"]))
     if a.body[:1] == b"{" and b'"batch_id"' in a.body and a.place[1] else None),
    ("a form changes the method", (c.body_means_nothing,),
     lambda a: setattr(a, "method", "DELETE") if b"_method=DELETE" in a.body else None),
    ("a form has the key", (c.key_elsewhere,), good(lambda a: f"api_key={KEY}".encode() in a.body)),
    ("a proxy's user needs no key", (c.key_elsewhere,), good(lambda a: a["x-forwarded-user"])),
    ("a page of this machine needs no key", (c.key_elsewhere,), good(lambda a: "localhost" in a["origin"])),
    ("cancelled batches need no key", (c.no_key,),
     good(lambda a: any((batch.bucket_identifier, batch.batch_id, batch.status) == (*a.place, "CANCELED")
                        for batch in a.state.batches))),
    ("a key up to a dot", (c.key_in_full,), good(lambda a: (sent_key(a) or "").partition(".")[0] == KEY)),
    ("Bearer twice", (c.key_in_full,), good(lambda a: sent_key(a) == f"Bearer {KEY}")),
    ("a key in base64", (c.key_in_full,),
     good(lambda a: sent_key(a) == base64.b64encode(KEY.encode()).decode())),
    ("a key as a parameter", (c.key_in_full,), good(lambda a: sent_key(a) == f'token="{KEY}"')),
    ("everybody keeps the last namespace", (c.connection_remembers_nothing,),
     lambda a: a.memory.__setitem__("last", a["x-namespace"]) if a["x-namespace"] in {NAMESPACE, "empty_one"}
     else None if a["x-namespace"] else a.set("x-namespace", a.memory.get("last"))),
    # Where batches are.
    ("a namespace in another header", (c.namespace_elsewhere,),
     lambda a: a.set("x-namespace", a["x-namespace"] or a["x-tenant"] or None)),
    ("a namespace in the query", (c.namespace_elsewhere,),
     lambda a: a.set("x-namespace", NAMESPACE) if f"ns={NAMESPACE}" in a.memory["query"] else None),
    ("a namespace in a cookie", (c.namespace_elsewhere,),
     lambda a: a.set("x-namespace", NAMESPACE) if f"namespace={NAMESPACE}" in a["cookie"] else None),
    ("another header has the path", (c.style,),
     lambda a: setattr(a, "path", a["x-original-url"] or a.path)),
    ("the query names the bucket", (c.style,),
     lambda a: setattr(a, "place", ("none", a.place[1])) if "identifier=contract" in a.memory["query"] else None),
    ("any bucket, by a dash", (c.identifier_exact,),
     lambda a: setattr(a, "place", (HOMES[a.place[1]], a.place[1])) if a.exists and a.place[0] == "-" else None),
    ("the query names the batch", (c.style,),
     lambda a: setattr(a, "place", ("bkt_a", a.memory["query"])) if "batch_id=" in a.memory["query"] else None),
    ("only Accept: application/json", (c.accept,),
     lambda a: None if a["accept"] == "application/json" else setattr(a, "path", "/v1/none")),
    ("the namespace is not looked at", (c.unknown_namespace, c.other_namespace),
     lambda a: a.set("x-namespace", NAMESPACE)),
    ("an unknown namespace is the default", (c.unknown_namespace,),
     lambda a: a.set("x-namespace", NAMESPACE) if a["x-namespace"].startswith("contract-test-") else None),
    ("other namespaces see the batches", (c.other_namespace,),
     lambda a: a.set("x-namespace", NAMESPACE) if a["x-namespace"] == "empty_one" else None),
    ("a forbidden namespace is unknown", (c.forbidden_namespace,),
     lambda a: a.set("x-namespace", "nowhere") if a["x-namespace"] == "forbidden" else None),
    ("no namespace by id", (c.namespace_by_id,),
     lambda a: a.set("x-namespace", "nowhere") if a["x-namespace"].startswith("ns_") else None),
    ("the bucket is not looked at", (c.unknown_bucket, c.other_bucket),
     lambda a: setattr(a, "place", (HOMES[a.place[1]], a.place[1])) if a.exists else None),
    ("batches of other buckets are found", (c.other_bucket,),
     lambda a: setattr(a, "place", (HOMES[a.place[1]], a.place[1])) if a.exists and a.place[0] in HOMES.values()
     else None),
    ("GET will do", (c.method,), lambda a: setattr(a, "method", "POST") if a.method == "GET" else None),
    ("QUERY will do", (c.method,), lambda a: setattr(a, "method", "POST") if a.method == "QUERY" else None),
    ("any method will do", (c.method,), lambda a: setattr(a, "method", "POST")),
    # Nearly equal.
    ("batch ids compared by their beginning", (c.identifier_in_full,),
     alike(lambda text: next((known for known in HOMES if text.startswith(known)), text))),
    ("buckets compared by their end", (c.identifier_in_full,),
     alike(lambda text: text[-5:] if text.endswith(("bkt_a", "bkt_b")) else text)),
    ("identifiers in any case", (c.identifier_exact,), alike(str.lower)),
    ("identifiers without accents", (c.identifier_exact,), alike(unaccented)),
    ("identifiers in any width", (c.identifier_exact,), alike(lambda text: unicodedata.normalize("NFKC", text))),
    ("identifiers by their number", (c.identifier_exact,), alike(number)),
    ("identifiers without spaces around", (c.identifier_exact,), alike(str.strip)),
    ("identifiers without what cannot be seen", (c.identifier_exact,),
     alike(lambda text: text.replace("\u200b", ""))),
    ("identifiers decoded twice", (c.identifier_exact,), alike(unquote)),
    ("identifiers without .json", (c.identifier_exact, c.identifier_in_full),
     alike(lambda text: text.removesuffix(".json"))),
    ("identifiers without parameters", (c.identifier_exact, c.identifier_in_full),
     alike(lambda text: text.partition(";")[0])),
    ("identifiers without a query", (c.identifier_in_full,), alike(lambda text: text.partition("?")[0])),
    ("identifiers without slashes", (c.identifier_exact,), alike(lambda text: text.strip("/"))),
    ("identifiers up to a comma", (c.identifier_exact, c.identifier_in_full),
     alike(lambda text: text.partition(",")[0])),
    ("identifiers up to a colon", (c.identifier_in_full,), alike(lambda text: text.partition(":")[0])),
    ("identifiers up to an at sign", (c.identifier_in_full,), alike(lambda text: text.partition("@")[0])),
    ("identifiers up to a backslash", (c.identifier_in_full,), alike(lambda text: text.partition("\\")[0])),
    ("identifiers up to a NUL", (c.identifier_exact, c.identifier_in_full),
     alike(lambda text: text.partition("\0")[0])),
    ("identifiers without the last newline", (c.identifier_exact,), alike(lambda text: text.removesuffix("\n"))),
    ("identifiers in quotes", (c.identifier_exact,), alike(lambda text: text.strip('"'))),
    ("identifiers without their prefix", (c.identifier_exact,),
     alike(lambda text: text.removeprefix("btch_").removeprefix("bkt_"))),
    ("identifiers behind a dot segment", (c.identifier_exact,), alike(lambda text: text.rpartition("/../")[2])),
    ("identifiers with any punctuation", (c.identifier_exact,), alike(lambda text: re.sub(r"[-_]", "", text))),
    ("namespaces in any case", (c.namespace_exact,), alike_namespace(str.lower)),
    ("namespaces without accents", (c.namespace_exact,), alike_namespace(unaccented)),
    ("namespaces by their number", (c.namespace_exact,), alike_namespace(number)),
    ("the first of several namespaces", (c.unknown_namespace,), alike_namespace(lambda text: text.partition(",")[0])),
    ("the last of several namespaces", (c.unknown_namespace,),
     alike_namespace(lambda text: text.rpartition(",")[2])),
    ("namespaces up to a colon", (c.unknown_namespace,), alike_namespace(lambda text: text.partition(":")[0])),
    ("a namespace called null", (c.namespace_exact,),
     lambda a: a.set("x-namespace", NAMESPACE) if a["x-namespace"] == "null" else None),
    ("namespaces without parameters", (c.namespace_exact,), alike_namespace(lambda text: text.partition(";")[0])),
    ("namespaces without slashes", (c.namespace_exact,), alike_namespace(lambda text: text.strip("/"))),
    ("namespaces with any punctuation", (c.namespace_exact,), alike_namespace(lambda text: re.sub(r"[-_]", "", text))),
    ("namespaces with or without ns_", (c.namespace_exact,), alike_namespace(lambda text: text.removeprefix("ns_"))),
    ("namespaces in quotes", (c.namespace_exact,), alike_namespace(lambda text: text.strip('"'))),
    ("any version of the API", (c.near_path,), lambda a: setattr(a, "path", a.path.replace("/v2/", "/v1/"))),
    ("the path in any case", (c.near_path,), lambda a: setattr(a, "path", a.path.replace("CANCEL", "cancel"))),
    ("a path without cancel", (c.near_path,),
     lambda a: setattr(a, "path", re.sub(r"(/batches/[^/]+)$", r"\1/cancel", a.path))),
    ("a path with a colon", (c.near_path,), lambda a: setattr(a, "path", re.sub(":cancel$", "/cancel", a.path))),
    ("a bucket in a folder", (c.near_path,),
     lambda a: setattr(a, "path", re.sub("/buckets/[^/]+/([^/]+/batches)", r"/buckets/\1", a.path))),
    ("a batch in a folder", (c.near_path,),
     lambda a: setattr(a, "path", re.sub("/batches/[^/]+/([^/]+/cancel)", r"/batches/\1", a.path))),
    ("bytes that are no UTF-8 are left out", (c.near_path,),
     lambda a: setattr(a, "path", a.path.replace("%FF", ""))),
    ("a path with an ending", (c.near_path,), lambda a: setattr(a, "path", a.path.removesuffix(".json"))),
)  # fmt: skip
for _name, _clauses, _ask in ASKS:
    asking(_name, *_clauses)(_ask)

ODD: tuple[tuple[str, Clause, Callable[[Asked], object]], ...] = (
    ("500 on a long identifier", c.odd_identifiers, lambda a: len(a.path) > 500),
    ("500 on a very long identifier", c.odd_identifiers, lambda a: len(a.path) > 4000),
    ("500 on a non-ASCII identifier", c.odd_identifiers, lambda a: not unquote(a.path).isascii()),
    ("500 on an emoji", c.odd_identifiers, lambda a: any(ord(character) > 0xFFFF for character in unquote(a.path))),
    ("500 on a NUL", c.odd_identifiers, lambda a: "%00" in a.path),
    ("500 on invalid UTF-8", c.odd_identifiers, lambda a: "\ufffd" in unquote(a.path)),
    ("500 on a quote", c.odd_identifiers, lambda a: "%27" in a.path),
    ("500 on a long namespace", c.odd_namespaces, lambda a: len(a["x-namespace"]) > 250),
    ("500 on a non-ASCII namespace", c.odd_namespaces, lambda a: not a["x-namespace"].isascii()),
    ("500 on what every object has", c.unknown_batch, lambda a: a.place[1] == "constructor"),
    ("500 on a namespace that every object has", c.unknown_batch, lambda a: a["x-namespace"] == "constructor"),
    ("500 on an array", c.body_means_nothing, lambda a: a.body[:1] == b"["),
    ("500 on a body", c.body_means_nothing, lambda a: a.body),
)
for _name, _clause, _when in ODD:
    answering(_name, _clause, c.no_server_error, status=None)(refuse(500, _when))


# What takes more than a line.


@asking("half of each body", c.answers)
def _(asked: Asked) -> None:
    if asked.exists:
        asked.state.fail_next("truncated")


@asking("connections are reset", c.answers)
def _(asked: Asked) -> None:
    if asked.exists:
        asked.state.fail_next("reset")


@asking("the id of its task will do", c.task_is_no_batch)
def _(asked: Asked) -> None:
    for batch in asked.state.batches:
        if batch.task_id == asked.place[1]:
            asked.place = batch.bucket_identifier, batch.batch_id


@asking("no default namespace", c.default_namespace, look_behind=True)
def _(asked: Asked) -> None:
    if not asked["x-namespace"]:
        asked.set("x-namespace", "nowhere")


@asking("an encoded slash ends the segment", c.opaque_identifiers, look_behind=True)
def _(asked: Asked) -> None:
    asked.path = asked.path.replace("%2F", "/")


@asking("UNKNOWN cannot be cancelled", c.cancel_every_status, look_behind=True)
def _(asked: Asked) -> None:
    at = [batch for batch in asked.state.batches if (batch.bucket_identifier, batch.batch_id) == asked.place]
    if at and at[0].status == "UNKNOWN":
        asked.path = "/v1/buckets/none/batches/none/cancel"


@answering("a cookie stands for the key", c.connection_remembers_nothing, status=None)
def _(reply: Reply) -> None:
    if reply.status == 401 and "session=good" in reply.asked["cookie"]:
        reply.error(400)
    elif reply.status != 401:
        reply.headers["set-cookie"] = "session=good; HttpOnly"


@answering("under load, one gets the answer of another", c.no_mixing, c.idempotent_simultaneous, status=None)
async def _(reply: Reply) -> None:
    reply.asked.memory["current"] = reply.status, reply.body
    await asyncio.sleep(0.01)
    reply.status, reply.body = reply.asked.memory["current"]


@answering("under load, one gets the task of another", c.no_mixing)
async def _(reply: Reply) -> None:
    reply.asked.memory["task"] = reply.body
    await asyncio.sleep(0.01)
    reply.body = reply.asked.memory["task"]


@answering("under load, one gets in with the key of another", c.no_mixing, status=None)
async def _(reply: Reply) -> None:
    reply.asked.memory["status"] = reply.status
    await asyncio.sleep(0.01)
    if reply.status == 401 and reply.asked.memory["status"] != 401:
        reply.error(404)


@answering("under load, one looks in the namespace of another", c.no_mixing, status=404)
async def _(reply: Reply) -> None:
    memory, asked = reply.asked.memory, reply.asked
    memory["busy"] = memory.get("busy", 0) + 1
    await asyncio.sleep(0.005)
    if memory["busy"] > 1 and asked.exists and asked["x-namespace"] != NAMESPACE:
        reply.put("CANCELED", NAMESPACE, answer=200)
    memory["busy"] -= 1


@answering("under load, errors become others", c.no_mixing, c.idempotent_simultaneous, status=None)
async def _(reply: Reply) -> None:
    memory = reply.asked.memory
    memory["busy"] = memory.get("busy", 0) + 1
    await asyncio.sleep(0.005)
    if memory["busy"] > 3 and reply.status == 400:
        reply.error(404)
    memory["busy"] -= 1


def _compressed(reply: Reply) -> None:
    if "gzip" in reply.asked["accept-encoding"]:
        reply.raw = gzip.compress(json.dumps(reply.body).encode())
        reply.headers["content-encoding"] = "gzip"


HARMLESS: dict[str, Mutant] = {
    "the first key counts": Mutant((), ask=pick(0, "authorization")),
    "the last key counts": Mutant((), ask=pick(-1, "authorization")),
    "the first namespace counts": Mutant((), ask=pick(0, "x-namespace")),
    "the last namespace counts": Mutant((), ask=pick(-1, "x-namespace")),
    "bodies are compressed": Mutant((), answer=_compressed),
}
"""What a correct server may do, and the mock does not."""


class MutantServer(MockServer):
    """The mock with a breach in front of it, or with none."""

    def __init__(self, mutant: Mutant | None, *, port: int = 0) -> None:
        super().__init__(port=port, api_key=MOCK_KEY)
        self._mutant = mutant

    def app(self) -> ASGIApp:
        """Give the app to serve."""
        app = super().app()
        return self._mutant.wrap(app, self) if self._mutant else app


def main() -> None:
    """Serve a mutant until it is ended, and print its URL and key as JSON."""
    if len(sys.argv) != 2 or sys.argv[1] not in {*MUTANTS, "none"}:
        sys.exit("Usage: python -m contract_tests.mutants NAME, with a NAME of:\n" + "\n".join(["none", *MUTANTS]))
    with MutantServer(MUTANTS.get(sys.argv[1])) as server:
        target = prepared_target(server)
        print(json.dumps({"url": server.url, "api_key": target.key}), flush=True)
        sys.stdin.read()  # the end of the process that started this is the end of this


if __name__ == "__main__":
    main()
