"""What is tested: a server at a base URL, and what may be done there."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from mixpeek_batches import ConfigurationError
from mixpeek_batches._settings import checked_base_url, checked_identifier, checked_namespace, is_loopback
from mixpeek_batches.mock import MockState

from .exchange import KEY_VARIABLE, Answer, Exchange, Request, Wire, segment

MARK = "contract-test-"
"""What every identifier that the tests make up begins with or ends in."""

_PORTS = {"http": 80, "https": 443}
_SILENCES = 3
_PATIENCE_WITH_429 = 180.0  # seconds in all
_LONGEST_WAIT = 60.0  # seconds that a 429 may ask for
_SETTINGS = (
    "base_url",
    "namespace",
    "namespace_id",
    "other_namespace",
    "forbidden_namespace",
    "cancelable",
    "finished",
    "max_requests",
    "requests_per_second",
)


class ConfigError(Exception):
    """The configuration cannot be used; nothing was sent."""


@attrs.frozen
class Place:
    """Where a batch is."""

    bucket: str
    batch: str

    @classmethod
    def read(cls, text: object) -> Place:
        """Read `bucket/batch`."""
        bucket, slash, batch = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not (bucket and slash and batch):
            raise ConfigError(f"{text!r} is not of the form bucket/batch.")
        try:
            return cls(checked_identifier(bucket, "the bucket"), checked_identifier(batch, "the batch"))
        except ConfigurationError as error:
            raise ConfigError(f"{text!r} cannot be used: {error}") from None

    def __str__(self) -> str:
        return f"{self.bucket}/{self.batch}"

    @property
    def path(self) -> str:
        """The path of the endpoint for it."""
        return f"/v1/buckets/{segment(self.bucket)}/batches/{segment(self.batch)}/cancel"


@attrs.frozen(kw_only=True)
class Target:
    """A server, and what may be done there.

    Attributes:
        name: What reports call it.
        base_url: Where it is.
        key: A key that it knows.
        namespace: The namespace of the batches below; None for the key's default.
        namespace_id: The id of that namespace.
        other_namespace: One that the key may use and that holds none of the batches.
        forbidden_namespace: One that exists and that the key may not use.
        cancelable: Batches that will be cancelled.
        finished: Batches in a terminal status other than CANCELED, which must stay as they are.
        local: Whether it is on this machine, so that identifiers without a mark can do no harm there.
        max_requests: How many requests may be sent in all.
        requests_per_second: How fast; 0 for as fast as it goes.
        door: The state behind the server, where it is a mock that we started.
    """

    name: str
    base_url: str
    key: str = attrs.field(repr=False)
    namespace: str | None = None
    namespace_id: str | None = None
    other_namespace: str | None = None
    forbidden_namespace: str | None = None
    cancelable: tuple[Place, ...] = ()
    finished: tuple[Place, ...] = ()
    local: bool = True
    max_requests: int = 1000
    requests_per_second: float = 0.0
    door: MockState | None = attrs.field(default=None, repr=False)


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Target:
    """Read a configuration file, and the key from the environment.

    Raises:
        ConfigError: Something is missing or may not be; in one sentence.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from None
    unknown = [name for name in settings if name not in _SETTINGS]
    if unknown:
        raise ConfigError(f"{path} has an unknown setting {unknown[0]!r}: there are {', '.join(_SETTINGS)}.")
    for name in ("base_url", "namespace", "namespace_id", "other_namespace", "forbidden_namespace"):
        if name in settings and not (isinstance(settings[name], str) and settings[name]):
            raise ConfigError(f"{name} in {path} must be a string that is not empty.")
    if "base_url" not in settings:
        raise ConfigError(f"{path} lacks base_url, such as https://api.mixpeek.com.")
    places = {name: _places(settings.get(name, []), name, path) for name in ("cancelable", "finished")}
    both = set(places["cancelable"]) & set(places["finished"])
    if both:
        raise ConfigError(f"{both.pop()} is under both cancelable and finished in {path}.")
    try:
        url = checked_base_url(settings["base_url"], allow_http=False)
        for name in ("namespace", "namespace_id", "other_namespace", "forbidden_namespace"):
            checked_namespace(settings.get(name), name)
    except ConfigurationError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not settings["base_url"].isascii():
        raise ConfigError(f"base_url in {path} must be in ASCII.")
    named = [settings[name] for name in _SETTINGS[1:5] if name in settings]
    if len(set(named)) < len(named):
        raise ConfigError(f"Two of the namespaces in {path} are the same.")
    if "namespace_id" in settings and "namespace" not in settings:
        raise ConfigError(f"namespace_id in {path} goes with namespace.")
    local = is_loopback(url)
    target = Target(
        name=settings["base_url"],
        base_url=settings["base_url"].rstrip("/"),
        key=_key(environment),
        namespace=settings.get("namespace"),
        namespace_id=settings.get("namespace_id"),
        other_namespace=settings.get("other_namespace"),
        forbidden_namespace=settings.get("forbidden_namespace"),
        cancelable=places["cancelable"],
        finished=places["finished"],
        local=local,
        max_requests=_number(settings.get("max_requests", 1000), "max_requests", path, int, least=1),
        # Gentle with somebody else's server; one on this machine is ours.
        requests_per_second=_number(
            settings.get("requests_per_second", 0 if local else 5), "requests_per_second", path, int | float, least=0
        ),
    )
    _knock(target.base_url)
    return target


def _key(environment: Mapping[str, str]) -> str:
    key = environment.get(KEY_VARIABLE, "")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{KEY_VARIABLE} must hold the API key.")
    return key


def _places(texts: object, name: str, path: Path) -> tuple[Place, ...]:
    if not isinstance(texts, list):
        raise ConfigError(f"{name} in {path} must be a list of bucket/batch.")
    return tuple(dict.fromkeys(Place.read(text) for text in texts))


def _number(value: Any, name: str, path: Path, kind: Any, *, least: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind) or not (value == least or least < value < 10**9):
        raise ConfigError(f"{name} in {path} must be a number from {least} up.")
    if isinstance(value, float) and 0 < value < 0.01:
        raise ConfigError(f"{name} in {path} is too slow to get anywhere.")
    return value


def _knock(base_url: str) -> None:
    parts = urlsplit(base_url)
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), timeout=5).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"No server answers at {base_url}: {reason}.") from None


class Exhausted(Exception):
    """No more requests may, or need, be sent; says why."""


class Session:
    """Sends requests to a target, no faster and no more than it allows, and shows each exchange to an observer."""

    def __init__(self, target: Target, observe: Callable[[Exchange], None], seed: int) -> None:
        self.target = target
        self.random = random.Random(seed)  # noqa: S311 - names of things that do not exist
        self.exchanges: list[Exchange] = []
        self._observe = observe
        self._lock = threading.Lock()
        self.exhausted: str | None = None
        self._next = 0.0
        self._sent = self._silences = 0
        self._waited = 0.0

    def made_up(self) -> str:
        """Make up an identifier that is nobody's."""
        return f"{MARK}{self.random.getrandbits(48):012x}"

    def acquire(self) -> None:
        """Wait until another request may be sent.

        Raises:
            Exhausted: None may.
        """
        with self._lock:
            if self._sent >= self.target.max_requests:
                self.exhausted = f"more than max_requests, which is {self.target.max_requests}"
            if self._silences >= _SILENCES:
                self.exhausted = f"a server that answers: {_SILENCES} requests in a row got nothing in time"
            if self.exhausted is not None:
                raise Exhausted(self.exhausted)
            self._sent += 1
            rate = self.target.requests_per_second
            if rate:
                wait = self._next - time.monotonic()
                self._next = max(self._next, time.monotonic()) + 1 / rate
                if wait > 0:
                    time.sleep(wait)

    def note(self, exchange: Exchange) -> None:
        """Take an exchange into the record."""
        with self._lock:
            self.exchanges.append(exchange)
            self._silences = self._silences + 1 if exchange.answer.timed_out else 0
            self._observe(exchange)

    def send(
        self,
        wire: Wire,
        clause: str,
        place: Place | str,
        *,
        method: str = "POST",
        authorization: tuple[bytes | None, str] | None = None,
        namespace: str | bytes | None = "",
        more: Sequence[tuple[str, bytes]] = (),
        extreme: str = "",
        accept: bytes | None = b"application/json",
    ) -> Exchange:
        """Send a request and note what came back. A 429 is waited out.

        Args:
            wire: The connection.
            clause: The clause that it is for.
            place: The batch, or a whole path.
            method: The HTTP method.
            authorization: The header's value and how curl spells it; None for the right one.
            namespace: The X-Namespace header; "" for the target's own, None for no header.
            more: More headers.
            extreme: See Request.
            accept: The Accept header; None for none.
        """
        value, spelled = authorization or (b"Bearer " + self.target.key.encode(), f"Bearer ${KEY_VARIABLE}")
        headers = [*([] if accept is None else [("Accept", accept)]), *more]
        if value is not None:
            headers.append(("Authorization", value))
        if namespace == "":
            namespace = self.target.namespace
        if namespace is not None:
            headers.append(("X-Namespace", namespace.encode() if isinstance(namespace, str) else namespace))
        request = Request(
            method=method,
            path=place.path if isinstance(place, Place) else place,
            headers=tuple(headers),
            authorization=spelled,
            clause=clause,
            extreme=extreme,
        )
        for _ in range(3):
            self.acquire()
            exchange = Exchange(request, wire.send(request))
            self.note(exchange)
            if exchange.answer.status != 429 or self.target.door is not None or self._waited > _PATIENCE_WITH_429:
                break
            wait = _wait(exchange.answer)
            self._waited += wait
            time.sleep(wait)
        return exchange


def _wait(answer: Answer) -> float:
    text = answer.header("retry-after") or ""
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() else 1.0
