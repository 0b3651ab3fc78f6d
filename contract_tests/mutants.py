"""Small named breaches of the contract, to prove that the tests would notice each.

A mutant is a function that changes an answer, or what the mock is asked. `python -m contract_tests.mutants NAME` serves
one on a port of this machine; without a name it lists them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import attrs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixpeek_batches.mock import MockServer, MockState

from .suite import MOCK_KEY, furnish


@attrs.define
class Reply:
    """An answer of the mock, to be changed.

    Attributes:
        request: The ASGI scope of the request.
        state: The state behind the mock.
        status: The HTTP status code.
        headers: Names in lower case.
        body: The body's JSON.
        raw: The body's bytes, where they are to be others than those of `body`.
    """

    request: Scope
    state: MockState
    status: int
    headers: dict[str, str]
    body: Any
    raw: bytes | None = None

    @property
    def path(self) -> str:
        """The path as it was sent."""
        raw: bytes = self.request["raw_path"]
        return raw.decode()

    def sent(self, name: str) -> str:
        """Give a header of the request."""
        headers: dict[bytes, bytes] = dict(self.request["headers"])
        return headers.get(name.encode(), b"").decode("latin-1")


@attrs.frozen
class Mutant:
    """A breach.

    Attributes:
        name: Names it.
        clauses: The clauses that it breaks; one of them must notice.
        ask: Changes the request before the mock sees it.
        answer: Changes the answer.
        door: Whether only a look behind the server shows it.
        tail: Bytes that follow each answer, behind its announced length.
    """

    name: str
    clauses: tuple[str, ...]
    ask: Callable[[Scope, MockState], Scope | None] | None = None
    answer: Callable[[Reply], None] | None = None
    door: bool = False
    tail: bytes = b""

    def wrap(self, app: ASGIApp, state: MockState) -> ASGIApp:
        """Put the breach in front of the mock."""

        async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith("/_mock"):
                await app(scope, receive, send)
                return
            asked = (self.ask(dict(scope), state) if self.ask else None) or scope
            if self.answer is None and not self.tail:
                await app(asked, receive, send)
                return
            messages: list[Message] = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await app(asked, receive, keep)
            if self.tail:  # by hand, since uvicorn keeps what it sends to its announced length
                lines = [f"HTTP/1.1 {messages[0]['status']} x".encode(), b"connection: close"]
                lines += [name + b": " + value for name, value in messages[0]["headers"]]
                body = b"".join(message.get("body", b"") for message in messages[1:])
                transport = send.__self__.transport  # type: ignore[attr-defined] # see the mock
                transport.write(b"\r\n".join([*lines, b"", body + self.tail]))
                transport.close()
                return
            headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
            body = b"".join(message.get("body", b"") for message in messages[1:])
            reply = Reply(scope, state, messages[0]["status"], headers, json.loads(body) if body else None)
            if self.answer is not None:
                self.answer(reply)
            raw = json.dumps(reply.body).encode() if reply.raw is None else reply.raw
            if reply.status in {204, 304}:
                raw = b""
            reply.headers["content-length"] = str(len(raw))
            encoded = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
            await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
            await send({"type": "http.response.body", "body": raw})

        return mutated


MUTANTS: dict[str, Mutant] = {}
ChangeAnswer = Callable[[Reply], None]
ChangeRequest = Callable[[Scope, MockState], Scope | None]


def answering(
    name: str, *clauses: str, status: int | None = 200, door: bool = False
) -> Callable[[ChangeAnswer], ChangeAnswer]:
    """Register a mutant that changes answers of a status; None for all."""

    def register(change: ChangeAnswer) -> ChangeAnswer:
        def answer(reply: Reply) -> None:
            if status is None or reply.status == status:
                change(reply)

        MUTANTS[name] = Mutant(name, clauses, answer=answer, door=door)
        return change

    return register


def asking(name: str, *clauses: str, door: bool = False) -> Callable[[ChangeRequest], ChangeRequest]:
    """Register a mutant that changes requests."""

    def register(change: ChangeRequest) -> ChangeRequest:
        MUTANTS[name] = Mutant(name, clauses, ask=change, door=door)
        return change

    return register


def _field(name: str, value: object) -> Callable[[Reply], None]:
    def change(reply: Reply) -> None:
        reply.body[name] = value

    return change


def _without(name: str) -> Callable[[Reply], None]:
    def change(reply: Reply) -> None:
        del reply.body[name]

    return change


# The task.

for _name in ("task_id", "task_type", "status"):
    answering(f"200 without {_name}", "task-schema")(_without(_name))
    answering(f"200 with null {_name}", "task-schema")(_field(_name, None))
for _label, _name, _value in (
    ("a status outside the enum", "status", "STOPPED"),
    ("British CANCELLED", "status", "CANCELLED"),
    ("a lower-case status", "status", "canceled"),
    ("a type outside the enum", "task_type", "api_buckets_batches_cancel"),
    ("a number for task_id", "task_id", 7),
    ("null inputs", "inputs", None),
    ("null outputs", "outputs", None),
    ("an object for inputs", "inputs", {"a": 1}),
    ("numbers in inputs", "inputs", ["a", 1]),
    ("lists in outputs", "outputs", [["a"]]),
    ("a string for additional_data", "additional_data", "none"),
    ("a list for additional_data", "additional_data", []),
    ("an object for error_message", "error_message", {"message": "x"}),
):
    answering(f"200 with {_label}", "task-schema")(_field(_name, _value))
answering("200 with another known type", "task-type")(_field("task_type", "thumbnail"))
answering("200 with status IN_PROGRESS", "task-canceled")(_field("status", "IN_PROGRESS"))
answering("error_message where none is due", "error-message-absent")(
    lambda reply: _field("error_message", reply.body["error_message"] or "stale")(reply)
)
answering("error_message never there", "error-message-due")(_without("error_message"))
answering("error_message is the whole error as text", "error-message-due")(
    lambda reply: _field("error_message", str((reply.body["additional_data"] or {}).get("error") or "") or None)(reply)
)
answering("the task wrapped in data", "task-schema")(lambda reply: setattr(reply, "body", {"data": reply.body}))
answering("the task in a list", "task-schema")(lambda reply: setattr(reply, "body", [reply.body]))
answering("201 for 200", "documented-status", "cancel")(lambda reply: setattr(reply, "status", 201))
answering("202 for 200", "documented-status", "cancel")(lambda reply: setattr(reply, "status", 202))
answering("204 for 200", "documented-status", "cancel")(lambda reply: setattr(reply, "status", 204))


@answering("inputs lost on cancelling", "task-kept", door=True)
def _(reply: Reply) -> None:
    reply.body["inputs"] = []


@answering("outputs dropped from the answer", "task-kept", door=True)
def _(reply: Reply) -> None:
    reply.body["outputs"] = []


@answering("a new task_id with each answer", "idempotent", "idempotent-simultaneous")
def _(reply: Reply) -> None:
    reply.body["task_id"] = f"task_{time.monotonic_ns()}"


@answering("one task_id for all", "one-task-each")
def _(reply: Reply) -> None:
    reply.body["task_id"] = "task_1"


def _again(reply: Reply) -> bool:
    """Tell whether the path was asked for before."""
    seen = reply.state.__dict__.setdefault("seen", set())
    again = reply.path in seen
    seen.add(reply.path)
    return again


@answering("a field more in the second answer", "idempotent", "idempotent-simultaneous")
def _(reply: Reply) -> None:
    if _again(reply):
        reply.body["already"] = True


@answering("second cancel 409", "idempotent", "idempotent-simultaneous")
def _(reply: Reply) -> None:
    if _again(reply):
        reply.status, reply.body = 409, _envelope(409)


@answering("second cancel 400", "idempotent", "idempotent-simultaneous")
def _(reply: Reply) -> None:
    if _again(reply):
        reply.status, reply.body = 400, _envelope(400)


@answering("200, but not cancelled", "canceled-afterwards", door=True)
def _(reply: Reply) -> None:
    _put(reply, "IN_PROGRESS")


def _put(reply: Reply, status: str) -> None:
    """Give the batch of a request another status behind the mock's back."""
    parts = reply.path.split("/")
    bucket, batch, namespace = unquote(parts[3]), unquote(parts[5]), reply.sent("x-namespace") or None
    old = reply.state.batch(bucket, batch, namespace=namespace).to_dict()
    reply.state.add_batch(**{**old, "status": status})


def _envelope(status: int, **changes: Any) -> dict[str, Any]:
    error = {"message": "no", "type": "SomeError", "details": None}
    return {"success": False, "status": status, "error": error, **changes}


# The form of every answer.

MUTANTS["bytes behind the body"] = Mutant("bytes behind the body", ("framing",), tail=b"\n")


@answering("text/plain", "content-type", status=None)
def _(reply: Reply) -> None:
    reply.headers["content-type"] = "text/plain"


@answering("no content type on errors", "content-type", status=404)
def _(reply: Reply) -> None:
    del reply.headers["content-type"]


@answering("JSON cut short", "json")
def _(reply: Reply) -> None:
    reply.raw = json.dumps(reply.body).encode()[:-2]


@answering("NaN in JSON", "json")
def _(reply: Reply) -> None:
    reply.raw = json.dumps({**reply.body, "additional_data": {"score": float("nan")}}).encode()


@answering("JSON in Latin-1", "json")
def _(reply: Reply) -> None:
    reply.raw = json.dumps({**reply.body, "note": "ü"}, ensure_ascii=False).encode("latin-1")


@answering("HTML 404", "content-type", "error-envelope", status=404)
def _(reply: Reply) -> None:
    reply.headers["content-type"], reply.raw = "text/html", b"<h1>Not Found</h1>"


@answering("an empty 404", "json", "error-envelope", status=404)
def _(reply: Reply) -> None:
    reply.raw = b""


@answering("FastAPI's detail", "error-envelope", status=404)
def _(reply: Reply) -> None:
    reply.body = {"detail": "Not Found"}


@answering("error as a string", "error-envelope", status=401)
def _(reply: Reply) -> None:
    reply.body["error"] = "unauthorized"


@answering("an error without a type", "error-envelope", status=400)
def _(reply: Reply) -> None:
    del reply.body["error"]["type"]


@answering("an error without success", "error-envelope", status=404)
def _(reply: Reply) -> None:
    del reply.body["success"]


@answering("details as text", "error-envelope", status=400)
def _(reply: Reply) -> None:
    reply.body["error"]["details"] = "COMPLETED"


@answering("the envelope's status is always 500", "envelope-status", status=404)
def _(reply: Reply) -> None:
    reply.body["status"] = 500


@answering("success true in an error", "error-envelope", "envelope-status", status=404)
def _(reply: Reply) -> None:
    reply.body["success"] = True


@answering("errors with status 200", "unknown-batch", status=404)
def _(reply: Reply) -> None:
    reply.status = 200


@answering("404 for a wrong key", "key-in-full", status=401)
def _(reply: Reply) -> None:
    reply.status, reply.body = 404, _envelope(404)


@answering("403 for a wrong key", "key-in-full", status=401)
def _(reply: Reply) -> None:
    reply.status, reply.body = 403, _envelope(403)


@answering("401 without WWW-Authenticate", "www-authenticate", status=401)
def _(reply: Reply) -> None:
    del reply.headers["www-authenticate"]


@answering("401 that asks for Basic", "www-authenticate", status=401)
def _(reply: Reply) -> None:
    reply.headers["www-authenticate"] = 'Basic realm="api"'


@answering("405 without Allow", "allow", status=405)
def _(reply: Reply) -> None:
    del reply.headers["allow"]


@answering("405 that allows GET", "allow", status=405)
def _(reply: Reply) -> None:
    reply.headers["allow"] = "GET"


@answering("404 for another method", "method", status=405)
def _(reply: Reply) -> None:
    reply.status, reply.body = 404, _envelope(404)


@answering("503 without Retry-After", "retry-after", status=503, door=True)
def _(reply: Reply) -> None:
    del reply.headers["retry-after"]


@answering("the key in a 401", "key-not-repeated", status=401)
def _(reply: Reply) -> None:
    reply.body["error"]["message"] = f"unknown: {reply.sent('authorization')}"


@answering("the key in a header", "key-not-repeated", status=None)
def _(reply: Reply) -> None:
    reply.headers["x-debug"] = reply.sent("authorization") or "none"


@answering("the key in the task", "key-not-repeated")
def _(reply: Reply) -> None:
    reply.body["by"] = reply.sent("authorization")[7:]


# Finished batches.


@answering("a finished batch is cancelled", "finished", status=400)
def _(reply: Reply) -> None:
    _put(reply, "CANCELED")
    parts = reply.path.split("/")
    batch = reply.state.batch(unquote(parts[3]), unquote(parts[5]), namespace=reply.sent("x-namespace") or None)
    reply.status, reply.body = 200, batch.task()


@answering("a finished batch is refused, and cancelled", "finished-unchanged", "finished", status=400)
def _(reply: Reply) -> None:
    _put(reply, "CANCELED")


@answering("409 for a finished batch", "finished", status=400)
def _(reply: Reply) -> None:
    reply.status, reply.body = 409, _envelope(409)


@answering("404 for a finished batch", "finished", status=400)
def _(reply: Reply) -> None:
    reply.status, reply.body = 404, _envelope(404)


@answering("details do not name the status", "finished-details", status=400)
def _(reply: Reply) -> None:
    reply.body["error"]["details"] = {}


@answering("SKIPPED can be cancelled", "finished-every-status", status=400, door=True)
def _(reply: Reply) -> None:
    if "SKIPPED" in str(reply.body):
        reply.status = 200


@asking("UNKNOWN cannot be cancelled", "cancel-every-status", door=True)
def _(scope: Scope, state: MockState) -> Scope | None:
    parts = [unquote(part) for part in scope["raw_path"].decode().split("/")]
    at = [batch for batch in state.batches if [batch.bucket_identifier, batch.batch_id] == parts[3:6:2]]
    if at and at[0].status == "UNKNOWN":
        return {**scope, "raw_path": b"/v1/buckets/none/batches/none/cancel"}
    return None


# Who may, and where.


@asking("only Accept: application/json", "style")
def _(scope: Scope, _: MockState) -> Scope | None:
    if dict(scope["headers"]).get(b"accept") != b"application/json":
        return {**scope, "raw_path": b"/v1/none"}
    return None


@asking("half of each body", "answers")
def _(_: Scope, state: MockState) -> None:
    state.fail_next("truncated")


@asking("every connection is reset", "answers")
def _(_: Scope, state: MockState) -> None:
    state.fail_next("reset")


@asking("no default namespace", "default-namespace", door=True)
def _(scope: Scope, _: MockState) -> Scope | None:
    return None if b"x-namespace" in dict(scope["headers"]) else _header(scope, b"x-namespace", b"nowhere")


@answering("400 for an unknown path", "unknown-path", status=404)
def _(reply: Reply) -> None:
    if not reply.path.endswith("/cancel"):
        reply.status, reply.body = 400, _envelope(400)


def _header(scope: Scope, name: bytes, value: bytes | None) -> Scope:
    others = [(key, old) for key, old in scope["headers"] if key != name]
    return {**scope, "headers": others if value is None else [*others, (name, value)]}


def _with_key(scope: Scope, accept: Callable[[str, str], bool], *, of: str = "bearer ") -> Scope | None:
    """Let a request pass as one with a good key, if its own is accepted."""
    sent = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    if sent.lower().startswith(of) and accept(sent[len(of) :], f"{MOCK_KEY}_some"):
        return _header(scope, b"authorization", f"Bearer {MOCK_KEY}_some".encode())
    return None


asking("the key is not looked at", "no-key")(lambda scope, _: _with_key(scope, lambda *_: True, of=""))
asking("any bearer key will do", "key-in-full")(lambda scope, _: _with_key(scope, lambda sent, _: sent != ""))
asking("a prefix of the key will do", "key-in-full")(
    lambda s, _: _with_key(s, lambda a, b: a != "" and b.startswith(a))
)
asking("more than the key will do", "key-in-full")(lambda s, _: _with_key(s, lambda sent, key: sent.startswith(key)))
asking("the end of the key is not looked at", "key-in-full")(lambda s, _: _with_key(s, lambda a, b: a[:-1] == b[:-1]))
asking("keys in any case", "key-in-full")(lambda s, _: _with_key(s, lambda sent, key: sent.lower() == key.lower()))
asking("Basic with the key will do", "other-scheme")(lambda s, _: _with_key(s, lambda *_: True, of="basic "))
asking("a bare key will do", "other-scheme")(lambda s, _: _with_key(s, lambda sent, key: sent == key, of=""))


@asking("the key in X-API-Key will do", "key-elsewhere")
def _(scope: Scope, _: MockState) -> Scope | None:
    if dict(scope["headers"]).get(b"x-api-key") == f"{MOCK_KEY}_some".encode():
        return _header(scope, b"authorization", f"Bearer {MOCK_KEY}_some".encode())
    return None


@asking("the key in the query will do", "key-elsewhere")
def _(scope: Scope, _: MockState) -> Scope | None:
    if f"api_key={MOCK_KEY}_some".encode() in scope["query_string"]:
        return _header(scope, b"authorization", f"Bearer {MOCK_KEY}_some".encode())
    return None


@asking("only Bearer with a capital", "scheme-any-case")
def _(scope: Scope, _: MockState) -> Scope | None:
    sent = dict(scope["headers"]).get(b"authorization", b"")
    return None if sent.startswith(b"Bearer ") else _header(scope, b"authorization", None)


@asking("the namespace is not looked at", "unknown-namespace", "other-namespace")
def _(scope: Scope, _: MockState) -> Scope:
    return _header(scope, b"x-namespace", b"contract_tests")


@asking("an unknown namespace is the default", "unknown-namespace")
def _(scope: Scope, state: MockState) -> Scope | None:
    name = dict(scope["headers"]).get(b"x-namespace", b"").decode("latin-1")
    return _header(scope, b"x-namespace", b"contract_tests") if name.startswith("contract-test-") else None


@asking("other namespaces see the batches", "other-namespace")
def _(scope: Scope, _: MockState) -> Scope | None:
    name = dict(scope["headers"]).get(b"x-namespace")
    return _header(scope, b"x-namespace", b"contract_tests") if name == b"empty_one" else None


@asking("a forbidden namespace is unknown", "forbidden-namespace")
def _(scope: Scope, _: MockState) -> Scope | None:
    name = dict(scope["headers"]).get(b"x-namespace")
    return _header(scope, b"x-namespace", b"nowhere") if name == b"forbidden" else None


@asking("no namespace by id", "namespace-by-id")
def _(scope: Scope, _: MockState) -> Scope | None:
    name = dict(scope["headers"]).get(b"x-namespace", b"")
    return _header(scope, b"x-namespace", b"nowhere") if name.startswith(b"ns_") else None


def _path(scope: Scope, change: Callable[[str, str], tuple[str, str]]) -> Scope | None:
    parts = scope["raw_path"].decode().split("/")
    if len(parts) != 7:
        return None
    parts[3], parts[5] = change(parts[3], parts[5])
    return {**scope, "raw_path": "/".join(parts).encode()}


_HOMES = {"btch_1": "bkt_a", "btch_2": "bkt_b", "btch_9": "bkt_a"}


@asking("the bucket is not looked at", "unknown-bucket", "other-bucket")
def _(scope: Scope, _: MockState) -> Scope | None:
    return _path(scope, lambda bucket, batch: (_HOMES.get(batch, bucket), batch))


@asking("batches of other buckets are found", "other-bucket")
def _(scope: Scope, _: MockState) -> Scope | None:
    known = set(_HOMES.values())
    return _path(scope, lambda bucket, batch: (_HOMES.get(batch, bucket) if bucket in known else bucket, batch))


@asking("batch ids compared by their beginning", "identifier-in-full")
def _(scope: Scope, _: MockState) -> Scope | None:
    return _path(scope, lambda bucket, batch: (bucket, next((b for b in _HOMES if batch.startswith(b)), batch)))


@asking("an encoded slash ends the segment", "opaque-identifiers", door=True)
def _(scope: Scope, _: MockState) -> Scope:
    return {**scope, "raw_path": scope["raw_path"].replace(b"%2F", b"/")}


@asking("GET will do", "method")
def _(scope: Scope, _: MockState) -> Scope:
    return {**scope, "method": "POST" if scope["method"] == "GET" else scope["method"]}


@asking("any method will do", "method")
def _(scope: Scope, _: MockState) -> Scope:
    return {**scope, "method": "POST"}


@answering("the key before the method", "method-before-key", status=405)
def _(reply: Reply) -> None:
    if not reply.sent("authorization"):
        reply.status, reply.body = 401, _envelope(401)
        reply.headers["www-authenticate"] = "Bearer"


@answering("the batch before the key", "key-before-batch", status=401)
def _(reply: Reply) -> None:
    if "contract-test-" in reply.path:
        reply.status, reply.body = 404, _envelope(404)


@answering("the status before the key", "key-before-status", status=401)
def _(reply: Reply) -> None:
    if "btch_9" in reply.path:
        reply.status, reply.body = 400, _envelope(400, details={"status": "COMPLETED"})


@answering("a refusal that cancels", "refusal-changes-nothing", status=401, door=True)
def _(reply: Reply) -> None:
    if "btch_1/" in reply.path:
        _put(reply, "CANCELED")


@answering("a batch of another namespace is cancelled behind a 404", "refusal-changes-nothing", status=404, door=True)
def _(reply: Reply) -> None:
    if "/bkt_a/batches/btch_1/" in reply.path and reply.sent("x-namespace") == "empty_one":
        old = reply.state.batch("bkt_a", "btch_1", namespace="contract_tests").to_dict()
        reply.state.add_batch(**{**old, "status": "CANCELED"})


# Odd input.


def _fails_on(name: str, clause: str, odd: Callable[[Reply], bool]) -> None:
    @answering(name, clause, "no-server-error", status=None)
    def _(reply: Reply) -> None:
        if odd(reply):
            reply.status, reply.body = 500, _envelope(500)


_fails_on("500 on a long identifier", "odd-identifiers", lambda reply: len(reply.path) > 500)
_fails_on("500 on a very long identifier", "odd-identifiers", lambda reply: len(reply.path) > 4000)
_fails_on("500 on a non-ASCII identifier", "odd-identifiers", lambda reply: not unquote(reply.path).isascii())
_fails_on("500 on an emoji", "odd-identifiers", lambda reply: any(ord(c) > 0xFFFF for c in unquote(reply.path)))
_fails_on("500 on a NUL", "odd-identifiers", lambda reply: "%00" in reply.path)
_fails_on("500 on invalid UTF-8", "odd-identifiers", lambda reply: "\ufffd" in unquote(reply.path))
_fails_on("500 on a quote", "odd-identifiers", lambda reply: "%27" in reply.path)
_fails_on("500 on a long namespace", "odd-namespaces", lambda reply: len(reply.sent("x-namespace")) > 250)
_fails_on("500 on a non-ASCII namespace", "odd-namespaces", lambda reply: not reply.sent("x-namespace").isascii())


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
        target = furnish(server)
        print(json.dumps({"url": server.url, "api_key": target.key}), flush=True)
        sys.stdin.read()  # the end of the process that started this is the end of this


if __name__ == "__main__":
    main()
