"""What no schema says: the behaviour of the endpoint, clause by clause.

The order matters. Everything that must be refused comes first, while the batches can still be cancelled; then they
are cancelled; then everything that must hold of cancelled ones.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mixpeek_batches import TaskStatus

from .exchange import KEY_VARIABLE, Exchange, Wire, segment
from .report import Report
from .target import MARK, Place, Session

_SIMULTANEOUS = 4
OTHER_METHODS = ("GET", "PUT", "PATCH", "DELETE")
CANCELABLE_STATUSES = ("PENDING", "IN_PROGRESS", "PROCESSING", "UNKNOWN")
FINISHED_STATUSES = ("DRAFT", "COMPLETED", "FAILED", "SKIPPED")


def wrong_credentials(key: str) -> Iterator[tuple[str, bytes | None, str]]:
    """Give every wrong Authorization header, with the clause that it breaks and how curl spells it."""
    name = "${" + KEY_VARIABLE + "}"
    yield "no-key", None, ""
    for scheme in ("Basic", "Token", "ApiKey", "Digest", "BearerX", "Bear"):
        yield "other-scheme", f"{scheme} {key}".encode(), f"{scheme} {name}"
    basic = base64.b64encode(f"{key}:".encode())
    yield "other-scheme", b"Basic " + basic, f"Basic $(printf %s {name}: | base64)"
    yield (
        "other-scheme",
        b"Basic " + base64.b64encode(f"user:{key}".encode()),
        f"Basic $(printf %s user:{name} | base64)",
    )
    yield "other-scheme", key.encode(), name
    yield "other-scheme", f"Bearer{key}".encode(), f"Bearer{name}"
    yield "key-in-full", b"Bearer", "Bearer"
    for wrong, spelled in (
        (key + "x", f"{name}x"),
        ("x" + key, f"x{name}"),
        (key + key, name + name),
        (key[:-1], "${" + KEY_VARIABLE + "%?}"),
        (key[1:], "${" + KEY_VARIABLE + "#?}"),
        (key[: len(key) // 2], f"the first half of {name}"),
        (key[:3], f"the first three characters of {name}"),
        (key[:-1] + _other(key[-1]), "${" + KEY_VARIABLE + "%?}" + _other(key[-1])),
        (_other(key[0]) + key[1:], _other(key[0]) + "${" + KEY_VARIABLE + "#?}"),
        (
            key[: len(key) // 2] + _other(key[len(key) // 2]) + key[len(key) // 2 + 1 :],
            f"{name} with its middle changed",
        ),
        (key.upper(), "${" + KEY_VARIABLE + "^^}"),
        (key.lower(), "${" + KEY_VARIABLE + ",,}"),
        (key.swapcase(), "${" + KEY_VARIABLE + "~~}"),
        (key[::-1], f"{name} backwards"),
        (f"{MARK}key", f"{MARK}key"),
        ("null", "null"),
        ("*", "*"),
    ):
        if wrong != key:
            yield "key-in-full", f"Bearer {wrong}".encode(), f"Bearer {spelled}"


def _other(character: str) -> str:
    return "A" if character != "A" else "B"


def odd_texts(name: str) -> Iterator[str]:
    """Give texts that trip parsers, each with the name of nobody in it."""
    for odd in ("ü", "日本語", "🗑️", "\u202e", "e\u0301", "İ", "ß", "\ufeff"):
        yield f"{name}{odd}"
    for odd in (
        " ",
        "'",
        '"',
        "\\",
        ";",
        "|",
        "&",
        "=",
        "+",
        "*",
        "$",
        "@",
        ":",
        ",",
        "~",
        "!",
        "()",
        "[]",
        "{}",
        "<>",
        "^",
    ):
        yield f"{name}{odd}"
    for odd in (
        "' OR '1'='1",
        '{"$ne": null}',
        "${7*7}",
        "{{7*7}}",
        "%s%n",
        "../..",
        "?a=b",
        "#a",
        "a/b",
        "%2F",
        "%00",
        "%",
    ):
        yield f"{name}{odd}"
    for length in (64, 256, 1000, 2000):
        yield name + "x" * length


def extreme_segments(name: str) -> Iterator[str]:
    """Give encoded segments that a server may refuse before it looks at the contract, but not with a 5xx."""
    for odd in (
        "%00",
        "%0A",
        "%0D%0AX-Injected:%20yes",
        "%1B",
        "%7F",
        "%FF",
        "%C3%28",
        "%ED%A0%80",
        "%F4%90%80%80",
        "%",
    ):
        yield name + odd
    yield name + "x" * 7000
    yield name + "%C3%BC" * 1000


class Behaviour:
    """Runs the clauses against one target."""

    def __init__(self, session: Session, report: Report, wire: Wire) -> None:
        self.session = session
        self.report = report
        self.wire = wire
        self.target = session.target
        self.known = (*self.target.cancelable, *self.target.finished)
        self.tasks: dict[Place, dict[str, Any]] = {}

    def run(self) -> None:
        """Run them all, in order."""
        self.nowhere()
        self.credentials()
        self.methods()
        self.finished()
        self.places()
        self.odd_input()
        if self.target.door is not None:
            self.refusals_changed_nothing()
        self.cancel()
        self.namespaces()
        self.finished()  # that others were cancelled changes nothing
        self.places()  # nor does it for those that are
        if self.target.door is not None:
            self.mock_only()

    def expect(self, clause: str, status: int, place: Place | str, **options: Any) -> Exchange:
        """Send a request that must get a status."""
        exchange = self.session.send(self.wire, clause, place, **options)
        answer = exchange.answer
        got = answer.failure or f"{answer.status} {answer.body[:200].decode('utf-8', 'replace')}"
        self.report.check(clause, answer.status == status, exchange, str(status), got)
        return exchange

    def nobody(self) -> Place:
        """Make up a place where no batch is."""
        return Place(self.session.made_up(), self.session.made_up())

    def some(self) -> tuple[Place, ...]:
        """Give one cancelable and one finished batch, as far as there are."""
        return (*self.target.cancelable[:1], *self.target.finished[:1])

    def nowhere(self) -> None:
        """What is unknown: 404."""
        self.expect("unknown-batch", 404, self.nobody())
        bucket = self.known[0].bucket if self.known else self.session.made_up()
        self.expect("unknown-batch", 404, Place(bucket, self.session.made_up()))
        path = self.nobody().path
        for unknown in (f"/v1/{self.session.made_up()}", path.removesuffix("cancel") + self.session.made_up()):
            self.expect("unknown-path", 404, unknown)

    def credentials(self) -> None:
        """What is wrong with the key: 401, before anything else."""
        for clause, value, spelled in wrong_credentials(self.target.key):
            for place in self.some()[:1] or [self.nobody()]:
                self.expect(clause, 401, place, authorization=(value, spelled))
        wrong = (f"Bearer {MARK}key".encode(), f"Bearer {MARK}key")
        for credentials in (wrong, (None, "")):
            self.expect("key-before-batch", 401, self.nobody(), authorization=credentials)
            self.expect(
                "key-before-batch", 401, self.nobody(), authorization=credentials, namespace=self.session.made_up()
            )
            for place in self.target.finished[:1]:
                self.expect("key-before-status", 401, place, authorization=credentials)
        key = self.target.key.encode()
        nobody = self.nobody()
        place = self.some()[0] if self.some() else nobody
        for header, value in (
            (b"X-API-Key", key),
            (b"Cookie", b"api_key=" + key),
            (b"Proxy-Authorization", b"Bearer " + key),
        ):
            more = [(header.decode(), value)]
            self.expect("key-elsewhere", 401, place, authorization=(None, ""), more=more)
        if not _has_odd(self.target.key):
            path = f"{place.path}?api_key={self.target.key}&authorization=Bearer%20{self.target.key}"
            self.expect("key-elsewhere", 401, path, authorization=(None, ""))
        for scheme in ("bearer", "BEARER", "bEaReR"):
            value, spelled = f"{scheme} ".encode() + key, f"{scheme} ${KEY_VARIABLE}"
            exchange = self.session.send(self.wire, "scheme-any-case", nobody, authorization=(value, spelled))
            status = exchange.answer.status
            self.report.check("scheme-any-case", status == 404, exchange, "404, as for Bearer", status)

    def methods(self) -> None:
        """Another method: 405, before anything else."""
        place = self.some()[0] if self.some() else self.nobody()
        for method in OTHER_METHODS:
            self.expect("method", 405, place, method=method)
            self.expect("method-before-key", 405, place, method=method, authorization=(None, ""))
        self.expect("method", 405, self.nobody(), method="GET")

    def finished(self) -> None:
        """A finished batch refuses, says why, and stays as it is."""
        for place in self.target.finished:
            exchanges = [self.expect("finished", 400, place) for _ in range(2)]
            said = [_details(exchange) for exchange in exchanges]
            named = [self._status_in(details) for details in said]
            for exchange, status, details in zip(exchanges, named, said, strict=True):
                self.report.check(
                    "finished-details", status in FINISHED_STATUSES, exchange, "the batch's status in details", details
                )
            before = self.tasks.setdefault(place, {"status": named[0]})["status"]
            same = [exchange.answer.status for exchange in exchanges] == [400, 400] and set(named) == {before}
            self.report.check("finished-unchanged", same, exchanges[1], f"400 and {before}, each time", named)

    @staticmethod
    def _status_in(details: Any) -> str | None:
        text = str(details)
        return next((status.value for status in TaskStatus if f"'{status.value}'" in text), None)

    def places(self) -> None:
        """A batch is where it is and nowhere else."""
        for place in self.some():
            made_up = self.session.made_up()
            self.expect("unknown-bucket", 404, Place(made_up, place.batch))
            for wrong in (Place(place.bucket, place.batch + made_up), Place(place.bucket + made_up, place.batch)):
                self.expect("identifier-in-full", 404, wrong)
            for wrong in (Place(place.bucket, made_up + place.batch), Place(made_up + place.bucket, place.batch)):
                self.expect("identifier-in-full", 404, wrong)
            self.expect("unknown-namespace", 404, place, namespace=made_up)
            if self.target.namespace is not None:
                self.expect("unknown-namespace", 404, place, namespace=self.target.namespace + made_up)
            if self.target.other_namespace is not None:
                self.expect("other-namespace", 404, place, namespace=self.target.other_namespace)
            others = [known for known in self.known if known.bucket != place.bucket]
            for other in others[:1]:
                wrong = Place(other.bucket, place.batch)
                if wrong not in self.known:
                    self.expect("other-bucket", 404, wrong)
        if self.target.forbidden_namespace is not None:
            for place in (*self.some(), self.nobody()):
                self.expect("forbidden-namespace", 403, place, namespace=self.target.forbidden_namespace)

    def odd_input(self) -> None:
        """Whatever an identifier or a namespace holds, it is only unknown."""
        bucket = segment(self.known[0].bucket) if self.known else self.session.made_up()
        for number, text in enumerate(odd_texts(self.session.made_up())):
            pair = (bucket, segment(text)) if number % 2 else (segment(text), self.session.made_up())
            self.expect("odd-identifiers", 404, "/v1/buckets/{}/batches/{}/cancel".format(*pair))
        for text in extreme_segments(self.session.made_up()):
            path = f"/v1/buckets/{bucket}/batches/{text}/cancel"
            exchange = self.session.send(self.wire, "odd-identifiers", path, extreme=True)
            self._refused("odd-identifiers", exchange)
        place = self.some()[0] if self.some() else self.nobody()
        name = self.session.made_up()
        for text in ("a b", '"', "'; --", "{}", "\\", "%00", "*", "x" * 300, "x" * 2000, "a,b", "a;b=c"):
            self.expect("odd-namespaces", 404, place, namespace=f"{name}{text}")
        for raw in (f"{name}ü".encode(), f"{name}日本".encode(), name.encode() + b"\xff", name.encode() + b"x" * 5000):
            exchange = self.session.send(self.wire, "odd-namespaces", place, namespace=raw, extreme=True)
            self._refused("odd-namespaces", exchange)

    def _refused(self, clause: str, exchange: Exchange) -> None:
        status = exchange.answer.status
        ok = exchange.answer.failure is not None or 400 <= status < 500
        self.report.check(clause, ok, exchange, "404, or another 4xx", status)

    def cancel(self) -> None:
        """The batches are cancelled: one alone, the second by many at once; and again."""
        for number, place in enumerate(self.target.cancelable):
            if number == 1:
                exchanges = self._at_once(place)
                clause = "idempotent-simultaneous"
                tasks = [exchange.answer.object() for exchange in exchanges]
                ok = all(exchange.answer.status == 200 for exchange in exchanges) and all(t == tasks[0] for t in tasks)
                self.report.check(clause, ok, exchanges[0], "200 and one task", [e.answer.status for e in exchanges])
                first = exchanges[0]
            else:
                first = self.expect("cancel", 200, place)
            self.tasks[place] = first.answer.object()
        for _ in range(2):
            for place in self.target.cancelable:
                self._again(place)
        ids = [task.get("task_id") for place, task in self.tasks.items() if place in self.target.cancelable]
        if len(ids) > 1:
            self.report.check("one-task-each", len({str(i) for i in ids}) == len(ids), None, "one task_id a batch", ids)

    def _at_once(self, place: Place) -> list[Exchange]:
        def send(_: int) -> Exchange:
            with Wire(self.target.base_url) as wire:
                return self.session.send(wire, "idempotent-simultaneous", place)

        with ThreadPoolExecutor(_SIMULTANEOUS) as pool:
            exchanges = list(pool.map(send, range(_SIMULTANEOUS)))
        for exchange in exchanges:
            self.report.check("cancel", exchange.answer.status == 200, exchange, "200", exchange.answer.status)
        return exchanges

    def _again(self, place: Place) -> None:
        again = self.session.send(self.wire, "idempotent", place)
        first, second = self.tasks[place], again.answer.object()
        differ = sorted(name for name in {*first, *second} if first.get(name, ...) != second.get(name, ...))
        ok = again.answer.status == 200 and not differ
        self.report.check("idempotent", ok, again, "200 and the same task", f"{again.answer.status}, other: {differ}")

    def namespaces(self) -> None:
        """A namespace is meant by its name, by its id, and by saying nothing where it is the default."""
        for place in self.target.cancelable[:1]:
            if self.target.namespace_id is not None:
                self.expect("namespace-by-id", 200, place, namespace=self.target.namespace_id)
            if self.target.namespace is None:
                self.expect("default-namespace", 200, place, namespace=None)

    # What follows needs a mock whose state the tests can read.

    def refusals_changed_nothing(self) -> None:
        """After everything that was refused, every batch is as it was."""
        door = self.target.door
        assert door is not None
        for place in self.target.cancelable:
            status = str(door.batch(place.bucket, place.batch, namespace=self.target.namespace).status)
            self.report.check(
                "refusal-changes-nothing", status != "CANCELED", None, "not CANCELED", f"{place}: {status}"
            )

    def mock_only(self) -> None:
        """What needs batches of our own making, faults on request, and a look behind the server."""
        door, namespace = self.target.door, self.target.namespace
        assert door is not None
        bucket = self.session.made_up()
        for place in self.target.cancelable:
            status = str(door.batch(place.bucket, place.batch, namespace=namespace).status)
            self.report.check("canceled-afterwards", status == "CANCELED", None, "CANCELED", f"{place}: {status}")

        errors: tuple[Any, ...] = (None, "plain", {"message": "of an object", "code": 5}, {"code": 5}, ["a", 1], 0, "")
        for status in CANCELABLE_STATUSES:
            for error in errors:
                place = Place(bucket, self.session.made_up())
                data = {"job_id": "j", "error": error}
                inputs: list[str | dict[str, Any]] = ["a", {"b": [1, None]}]
                before = door.add_batch(
                    place.bucket, place.batch, status=status, namespace=namespace, inputs=inputs, outputs=["o"],
                    additional_data=data,
                ).task()  # fmt: skip
                exchange = self.expect("cancel-every-status", 200, place)
                task, now = exchange.answer.object(), door.batch(place.bucket, place.batch, namespace=namespace)
                self.report.check("canceled-afterwards", now.status == "CANCELED", exchange, "CANCELED", now.status)
                kept = ("task_id", "inputs", "outputs", "additional_data")
                differ = [name for name in kept if task.get(name) != before[name] or now.task()[name] != before[name]]
                self.report.check("task-kept", not differ, exchange, "the task kept", f"other: {differ}")
        for status in FINISHED_STATUSES:
            place = Place(bucket, self.session.made_up())
            door.add_batch(place.bucket, place.batch, status=status, namespace=namespace)
            exchange = self.expect("finished-every-status", 400, place)
            details, now = _details(exchange), door.batch(place.bucket, place.batch, namespace=namespace)
            self.report.check("finished-details", status in str(details), exchange, f"{status} in details", details)
            self.report.check("finished-unchanged", now.status == status, exchange, status, now.status)
        place = Place(bucket, self.session.made_up())
        door.add_batch(place.bucket, place.batch)
        self.expect("default-namespace", 200, place, namespace=None)
        for odd in ("a/b", "a?b#c", "100%", "%2F", "a b", "ü/日本語", "..", "+&=;"):
            place = Place(bucket + odd, odd)
            door.add_batch(place.bucket, place.batch, namespace=namespace)
            if odd != "..":
                self.expect("opaque-identifiers", 200, place)
        for status_code in (422, 429, 500, 503):
            door.fail_next(status_code)
            self.expect("every-status-seen", status_code, self.nobody())


def _details(exchange: Exchange) -> Any:
    error = exchange.answer.object().get("error")
    return error.get("details") if isinstance(error, dict) else None


def _has_odd(key: str) -> bool:
    return any(character in key for character in "&#%+?=;")
