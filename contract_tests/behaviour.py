"""What no schema says: the behaviour of the endpoint, clause by clause.

The order matters. Everything that must be refused comes first, while the batches can still be cancelled; then they
are cancelled; then everything that must hold of cancelled ones.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .exchange import KEY_VARIABLE, Answer, Exchange, Request, Wire, segment
from .report import Report
from .target import MARK, Place, Session

_SIMULTANEOUS = 4
OTHER_METHODS = ("GET", "PUT", "PATCH", "DELETE")
CANCELABLE_STATUSES = ("PENDING", "IN_PROGRESS", "PROCESSING", "UNKNOWN")
FINISHED_STATUSES = ("DRAFT", "COMPLETED", "FAILED", "SKIPPED")


def wrong_credentials(key: str, places: Iterable[int]) -> Iterator[tuple[str, bytes | None, str]]:
    """Give every wrong Authorization header, with the clause that it breaks and how curl spells it."""
    name = "${" + KEY_VARIABLE + "}"
    yield "no-key", None, ""
    for scheme in ("Basic", "Token", "token", "ApiKey", "Digest", "OAuth", "BearerX", "Bear", "Bearer:", "Bearer="):
        yield "other-scheme", f"{scheme} {key}".encode(), f"{scheme} {name}"
    for user in ("", "user:"):
        for text, spelled in ((f"{user}{key}", f"{user}{name}"), (f"{key}:", f"{name}:")):
            coded = base64.b64encode(text.encode())
            yield "other-scheme", b"Basic " + coded, f"Basic $(printf %s {spelled} | base64)"
    yield "other-scheme", key.encode(), name
    yield "other-scheme", f"Bearer{key}".encode(), f"Bearer{name}"
    yield "other-scheme", f"Bearer:{key}".encode(), f"Bearer:{name}"
    yield "other-scheme", f"Bearer={key}".encode(), f"Bearer={name}"
    yield "key-in-full", b"Bearer", "Bearer"
    yield "key-in-full", b"", ""
    without = "${" + KEY_VARIABLE
    punctuated = "".join(character for character in key if character.isalnum())
    changed = [(_changed(key, at), f"{name} with another character {at + 1}") for at in places]
    for wrong, spelled in (
        (key + "x", f"{name}x"),
        ("x" + key, f"x{name}"),
        (key + key, name + name),
        (f"{key} x", f"{name} x"),
        (f"x {key}", f"x {name}"),
        (f"{key},x", f"{name},x"),
        (f"{key};x", f"{name};x"),
        (f"{key}, Bearer x", f"{name}, Bearer x"),
        (f'"{key}"', f'\\"{name}\\"'),
        (key[:-1], without + "%?}"),
        (key[1:], without + "#?}"),
        (key[: len(key) // 2], f"the first half of {name}"),
        (key[:3], f"the first three characters of {name}"),
        *changed,
        (_encoded_once(key), f"{name} with its last character percent-encoded"),
        (key.replace("_", "-"), without + "//_/-}"),
        (punctuated, f"{name} without punctuation"),
        (key.upper(), without + "^^}"),
        (key.lower(), without + ",,}"),
        (key.swapcase(), without + "~~}"),
        (key[::-1], f"{name} backwards"),
        *((text, text) for text in (f"{MARK}key", "null", "None", "undefined", "true", "*", "%", ".*", "' OR '1'='1")),
    ):
        if wrong != key:
            yield "key-in-full", f"Bearer {wrong}".encode(), f"Bearer {spelled}"


def _changed(key: str, at: int) -> str:
    return key[:at] + _other(key[at]) + key[at + 1 :]


def _encoded_once(text: str) -> str:
    return f"{text[:-1]}%{ord(text[-1]):02X}"


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
    for length in (64, 64, 256, 256, 1000, 1000, 2000, 2000):  # each in both places
        yield name + "x" * length


def extreme_segments(name: str) -> Iterator[tuple[str, str]]:
    """Give encoded segments that a server may refuse before it looks at the contract, and why, but not with a 5xx."""
    for odd in (
        "%09",
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
        yield name + odd, "odd"
    yield name + "x" * 7000, "long"
    yield name + "%C3%BC" * 1000, "long"


def named_statuses(answer: Answer) -> list[str]:
    """Find which finished status the details of a refusal name: in `status`, or anywhere as a word."""
    error = answer.object().get("error")
    details = error.get("details") if isinstance(error, dict) else None
    own = details.get("status") if isinstance(details, dict) else None
    words = re.findall(r"[A-Za-z_]+", own if isinstance(own, str) else json.dumps(details))
    return sorted(set(words) & set(FINISHED_STATUSES))


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
        self.framing()
        self.credentials()
        self.style()
        self.methods()
        self.finished()
        self.places()
        self.odd_input()
        if self.target.door is not None:
            self.refusals_changed_nothing()
        self.cancel()
        self.namespaces()
        self.schemes()
        self.framing()
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

    @property
    def place(self) -> Place:
        """Give a batch to ask for what must be refused: one that exists, if there is one."""
        return self.some()[0] if self.known else self.nobody()

    @property
    def usual(self) -> tuple[Place, int]:
        """Give a batch, and what it answers, whatever was done so far."""
        if self.target.finished:
            return self.target.finished[0], 400
        cancelled = [place for place in self.target.cancelable if place in self.tasks]
        return (cancelled[0], 200) if cancelled else (self.nobody(), 404)

    def framing(self) -> None:
        """The length of a body is as announced, in answers of each kind."""
        for place, method, key in (
            (self.usual[0], "POST", self.target.key),
            (self.nobody(), "POST", self.target.key),
            (self.place, "GET", self.target.key),
            (self.place, "POST", f"{MARK}key"),
        ):
            headers = [("Authorization", f"Bearer {key}".encode()), ("Accept", b"application/json")]
            if self.target.namespace is not None:
                headers.append(("X-Namespace", self.target.namespace.encode()))
            request = Request(
                method=method,
                path=place.path,
                headers=tuple(headers),
                authorization=f"Bearer ${KEY_VARIABLE}" if key == self.target.key else f"Bearer {key}",
            )
            self.session.acquire()
            wrong = self.wire.framing(request)
            self.report.check("framing", wrong is None, Exchange(request, Answer(status=0)), "as announced", wrong)

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
        self.expect("unknown-path", 404, f"/v1/{self.session.made_up()}", method="GET")

    def credentials(self) -> None:
        """What is wrong with the key: 401, before anything else."""
        length = len(self.target.key)
        places = set(range(length))  # of characters to change; few where requests are dear
        if not self.target.local:
            places = {0, length // 2, length - 1, *self.session.random.sample(range(length), min(4, length))}
        for clause, value, spelled in wrong_credentials(self.target.key, sorted(places)):
            self.expect(clause, 401, self.place, authorization=(value, spelled))
        wrong = (f"Bearer {MARK}key".encode(), f"Bearer {MARK}key")
        for credentials in (wrong, (None, "")):
            self.expect("key-before-batch", 401, self.nobody(), authorization=credentials)
            self.expect(
                "key-before-batch", 401, self.nobody(), authorization=credentials, namespace=self.session.made_up()
            )
            for place in self.target.finished[:1]:
                self.expect("key-before-status", 401, place, authorization=credentials)
        if self.target.forbidden_namespace is not None:
            forbidden = self.target.forbidden_namespace
            self.expect("key-before-batch", 401, self.place, authorization=wrong, namespace=forbidden)
        self.elsewhere()
        self.schemes()
        for odd in (b"Bearer \xff\xfe", b"Bearer " + b"x" * 5000):
            exchange = self.session.send(
                self.wire, "key-in-full", self.place, authorization=(odd, "an odd or a long one"), extreme="odd"
            )
            self._refused("key-in-full", exchange)

    def elsewhere(self) -> None:
        """A key that is not in the Authorization header is none, and neither is another header a way around it."""
        key = self.target.key.encode()
        for header, value in (
            ("X-API-Key", key),
            ("X-Auth-Token", key),
            ("Cookie", b"api_key=" + key + b"; session=" + key),
            ("Proxy-Authorization", b"Bearer " + key),
            ("X-Forwarded-For", b"127.0.0.1"),
        ):
            self.expect("key-elsewhere", 401, self.place, authorization=(None, ""), more=[(header, value)])
        if not _has_odd(self.target.key):
            path = f"{self.place.path}?api_key={self.target.key}&access_token={self.target.key}"
            self.expect("key-elsewhere", 401, path, authorization=(None, ""))

    def schemes(self) -> None:
        """The scheme's name is good in any case, and no more is allowed by that."""
        key, (place, status) = self.target.key.encode(), self.usual
        for scheme in ("bearer", "BEARER", "bEaReR"):
            value = f"{scheme} ".encode()
            self.expect("scheme-any-case", status, place, authorization=(value + key, f"{scheme} ${KEY_VARIABLE}"))
            for wrong, spelled in ((key + b"x", f"${{{KEY_VARIABLE}}}x"), (MARK.encode(), MARK)):
                self.expect("key-in-full", 401, place, authorization=(value + wrong, f"{scheme} {spelled}"))

    def style(self) -> None:
        """How a request is written changes nothing: headers' names in any case, Accept, a query of no meaning."""
        place, status = self.usual
        key = b"Bearer " + self.target.key.encode()
        for spell in (str.lower, str.upper):
            headers = [(spell("Authorization"), key)]
            if self.target.namespace is not None:
                headers.append((spell("X-Namespace"), self.target.namespace.encode()))
            self.expect(
                "style", status, place, authorization=(None, f"Bearer ${KEY_VARIABLE}"), namespace=None, more=headers
            )
        for accept in (b"*/*", None):
            self.expect("style", status, place, accept=accept)
        for query in ("x=1", f"namespace={self.session.made_up()}"):
            self.expect("style", status, f"{place.path}?{query}")
            self.expect("style", 404, f"{self.nobody().path}?{query}")
        self.expect("style", status, place, more=[("X-HTTP-Method-Override", b"GET")])
        if self.target.finished:
            first = segment(place.batch[0])
            if len(first) == 1:
                encoded = place.path.replace(f"/batches/{first}", f"/batches/%{ord(first):02X}")
                self.expect("style", status, encoded)

    def methods(self) -> None:
        """Another method: 405, before anything else."""
        wrong = (f"Bearer {MARK}key".encode(), f"Bearer {MARK}key")
        for method in OTHER_METHODS:
            self.expect("method", 405, self.place, method=method)
            self.expect("method", 405, self.nobody(), method=method)
            for credentials in ((None, ""), wrong):
                self.expect("method-before-key", 405, self.place, method=method, authorization=credentials)
            self.expect("method-before-key", 405, self.place, method=method, namespace=self.session.made_up())
            if self.target.forbidden_namespace is not None:
                forbidden = self.target.forbidden_namespace
                self.expect("method-before-key", 405, self.place, method=method, namespace=forbidden)
        for place in self.target.finished[:1]:
            self.expect("method", 405, place, method="PUT")
        self.expect("method", 405, self.place, method="HEAD")
        self.expect("method", 405, self.place, method="GET", more=[("X-HTTP-Method-Override", b"POST")])
        self.expect("method", 405, f"{self.place.path}?_method=POST", method="GET")

    def finished(self) -> None:
        """A finished batch refuses, says why, and stays as it is."""
        for place in self.target.finished:
            exchanges = [self.expect("finished", 400, place) for _ in range(2)]
            if self.target.namespace_id is not None:
                exchanges.append(self.expect("finished", 400, place, namespace=self.target.namespace_id))
            named = [named_statuses(exchange.answer) for exchange in exchanges]
            for exchange, statuses in zip(exchanges, named, strict=True):
                got = exchange.answer.object().get("error")
                self.report.check("finished-details", len(statuses) == 1, exchange, "one status in details", got)
            before = self.tasks.setdefault(place, {"statuses": named[0]})["statuses"]
            same = all(exchange.answer.status == 400 for exchange in exchanges) and all(n == before for n in named)
            self.report.check("finished-unchanged", same, exchanges[1], f"400 and {before}, each time", named)

    def places(self) -> None:
        """A batch is where it is and nowhere else."""
        for place in self.some():
            made_up = self.session.made_up()
            self.expect("unknown-bucket", 404, Place(made_up, place.batch))
            for wrong in (
                Place(place.bucket, place.batch + made_up),
                Place(place.bucket + made_up, place.batch),
                Place(place.bucket, made_up + place.batch),
                Place(made_up + place.bucket, place.batch),
                Place(made_up + place.bucket + made_up, place.batch),
            ):
                self.expect("identifier-in-full", 404, wrong)
            self.expect("unknown-namespace", 404, place, namespace=made_up)
            if self.target.namespace is not None:
                self.expect("unknown-namespace", 404, place, namespace=self.target.namespace + made_up)
            if self.target.namespace_id is not None:
                self.expect("unknown-namespace", 404, place, namespace=self.target.namespace_id + made_up)
            if self.target.other_namespace is not None:
                self.expect("other-namespace", 404, place, namespace=self.target.other_namespace)
        for place in (*self.target.finished, *self.target.cancelable)[:6]:
            others = [known.bucket for known in self.known if known.bucket != place.bucket]
            if others and Place(others[0], place.batch) not in self.known:
                self.expect("other-bucket", 404, Place(others[0], place.batch))
        if self.target.forbidden_namespace is not None:
            for at in (*self.some(), self.nobody()):
                self.expect("forbidden-namespace", 403, at, namespace=self.target.forbidden_namespace)
        if self.target.local and self.known:
            self.near_misses()

    def near_misses(self) -> None:
        """What is nearly the name of a batch is not: without a mark, so only where it can be nobody else's."""
        place = self.usual[0]
        if place not in self.known:
            return
        for bucket in _near(place.bucket):
            self.expect("identifier-in-full", 404, Place(bucket, place.batch))
        for batch in _near(place.batch):
            self.expect("identifier-in-full", 404, Place(place.bucket, batch))
        self.expect("identifier-in-full", 404, Place(place.batch, place.bucket))
        for name in filter(None, (self.target.namespace, self.target.namespace_id)):
            near = [near for near in _near(name) if near == near.strip()]
            for text in (*near, f"{name},x", f"{name}, {name}x", "*", f"ns_{name}"):
                if text not in {self.target.namespace, self.target.namespace_id}:
                    self.expect("unknown-namespace", 404, place, namespace=text)
        path = place.path
        for wrong in (
            path.replace("/cancel", "/CANCEL"),
            path.replace("/v1/", "/v2/"),
            f"/x{path}",
            f"{path}/x",
            f"{path}x",
            path.replace("/buckets/", "/bucket/"),
        ):
            self.expect("unknown-path", 404, wrong)
        for batch in ("*", "%", "12345", str(uuid.UUID(int=self.session.random.getrandbits(128)))):
            self.expect("unknown-batch", 404, Place(place.bucket, batch))
        path = self.place.path  # of one that can be cancelled, if there is one
        for method, odd in (
            ("POST", f"{path}/"),
            ("POST", path.replace("/batches/", "//batches/")),
            ("POST", path.replace("/cancel", "%00/cancel")),
            ("POST", f"/v1/buckets/{self.session.made_up()}"),
            ("POST", "/"),
            ("FOO", path),
        ):
            exchange = self.session.send(self.wire, "unknown-path", odd, method=method, extreme="path")
            # A method that HTTP does not know may be a 501 of the server's own.
            ok = 300 <= exchange.answer.status < 500 or (method == "FOO" and exchange.answer.status in {0, 501})
            self.report.check("unknown-path", ok, exchange, "no 2xx and no 5xx", exchange.answer.status)

    def odd_input(self) -> None:
        """Whatever an identifier or a namespace holds, it is only unknown."""
        bucket = segment(self.usual[0].bucket)
        for number, text in enumerate(odd_texts(self.session.made_up())):
            pair = (bucket, segment(text)) if number % 2 else (segment(text), self.session.made_up())
            self.expect("odd-identifiers", 404, "/v1/buckets/{}/batches/{}/cancel".format(*pair))
        for text, why in extreme_segments(self.session.made_up()):
            for path in (f"/v1/buckets/{bucket}/batches/{text}/cancel", f"/v1/buckets/{text}/batches/{MARK}x/cancel"):
                exchange = self.session.send(self.wire, "odd-identifiers", path, extreme=why)
                self._refused("odd-identifiers", exchange)
                injected = exchange.answer.header("x-injected")
                self.report.check("odd-identifiers", injected is None, exchange, "no X-Injected header", injected)
        self.expect(
            "method", 405, f"/v1/buckets/{bucket}/batches/{self.session.made_up()}{'x' * 2000}/cancel", method="PUT"
        )
        name = self.session.made_up()
        for text in (
            "a b",
            '"',
            "'; --",
            "{}",
            "\\",
            "%00",
            "*",
            "$",
            "/",
            "__proto__",
            "x" * 300,
            "x" * 2000,
            "a,b",
            "a;b",
        ):
            self.expect("odd-namespaces", 404, self.place, namespace=f"{name}{text}")
        for raw in (
            f"{name}ü".encode(),
            f"{name}日本".encode(),
            name.encode() + b"\xff",
            name.encode() + b"x" * 5000,
            f"{name}\tx".encode(),
        ):
            exchange = self.session.send(self.wire, "odd-namespaces", self.place, namespace=raw, extreme="odd")
            self._refused("odd-namespaces", exchange)
        exchange = self.session.send(self.wire, "odd-namespaces", self.nobody(), namespace=b"", extreme="odd")
        self._refused("odd-namespaces", exchange)

    def _refused(self, clause: str, exchange: Exchange) -> None:
        status = exchange.answer.status
        ok = not exchange.answer.timed_out and (exchange.answer.failure is not None or 400 <= status < 500)
        self.report.check(clause, ok, exchange, "404, or another 4xx", exchange.answer.failure or status)

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
                exchange = self.expect("namespace-by-id", 200, place, namespace=self.target.namespace_id)
                same = exchange.answer.object() == self.tasks[place]
                self.report.check("namespace-by-id", same, exchange, "the same task", exchange.answer.body[:200])
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
            named, now = named_statuses(exchange.answer), door.batch(place.bucket, place.batch, namespace=namespace)
            self.report.check("finished-details", named == [status], exchange, f"{status} in details", named)
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


def _near(name: str) -> list[str]:
    """Give what a sloppy comparison would take for a name."""
    near = [name.swapcase(), name[:-1], name[1:], f"{name} ", f" {name}", f"{name};x=1", f"{name}.json", f"{name}*"]
    near += [
        name.replace("_", "-"),
        name.replace("_", "%"),
        _encoded_once(name),
        f"{chr(ord(name[0]) + 0xFEE0)}{name[1:]}",
    ]
    return [text for text in dict.fromkeys(near) if text not in {"", ".", "..", name}]


def _has_odd(key: str) -> bool:
    return any(character in key for character in "&#%+?=;")
