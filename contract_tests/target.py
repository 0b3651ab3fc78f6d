"""What is tested: a server at a base URL, and what may be done there."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from mixpeek_batches import ConfigurationError
from mixpeek_batches._settings import checked_base_url, checked_identifier, checked_namespace, is_loopback
from mixpeek_batches.mock import MockState

from .spec import CANCEL, STATUSES
from .wire import KEY_VARIABLE, segment

MARK = "contract-test-"
"""What every identifier that the tests make up begins with or ends in."""

_SETTINGS = (
    "base_url",
    "namespace",
    "namespace_id",
    "other_namespace",
    "forbidden_namespace",
    "cancelable",
    "finished",
    "own_account",
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
        return endpoint(segment(self.bucket), segment(self.batch))


def endpoint(bucket: str, batch: str) -> str:
    """Give the path of the endpoint for two identifiers that are encoded already."""
    return CANCEL.path.format(bucket_identifier=bucket, batch_id=batch)


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
        statuses: Which status a finished batch has, where that is known.
        own_account: Whether all that the key can reach is a sandbox, so that near misses of identifiers can do no harm.
        max_requests: How many requests may be sent in all.
        requests_per_second: How fast; 0 for as fast as it goes.
        mock: The state behind the server, where it is a mock that we started.
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
    statuses: Mapping[Place, str] = attrs.Factory(dict)
    own_account: bool = True
    max_requests: int = 1000
    requests_per_second: float = 0.0
    mock: MockState | None = attrs.field(default=None, repr=False)

    @property
    def known(self) -> tuple[Place, ...]:
        """The batches that exist."""
        return (*self.cancelable, *self.finished)

    @property
    def thorough(self) -> bool:
        """Whether requests are cheap."""
        return not self.requests_per_second


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
    statuses = _statuses(settings.get("finished", []))
    settings["finished"] = (
        list(statuses) if isinstance(settings.get("finished"), list) else settings.get("finished", [])
    )
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
    own_account = settings.get("own_account", local)
    if not isinstance(own_account, bool):
        raise ConfigError(f"own_account in {path} must be true or false.")
    return Target(
        name=settings["base_url"],
        base_url=settings["base_url"].rstrip("/"),
        key=_key(environment),
        namespace=settings.get("namespace"),
        namespace_id=settings.get("namespace_id"),
        other_namespace=settings.get("other_namespace"),
        forbidden_namespace=settings.get("forbidden_namespace"),
        cancelable=places["cancelable"],
        finished=places["finished"],
        statuses={Place.read(text): status for text, status in statuses.items() if status},
        own_account=own_account,
        max_requests=_number(settings.get("max_requests", 1000), "max_requests", path, int, least=1),
        # Gentle with somebody else's server; one on this machine is ours.
        requests_per_second=_number(
            settings.get("requests_per_second", 0 if local else 5), "requests_per_second", path, int | float, least=0
        ),
    )


def _key(environment: Mapping[str, str]) -> str:
    key = environment.get(KEY_VARIABLE, "")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{KEY_VARIABLE} must hold the API key.")
    return key


def _statuses(texts: object) -> dict[Any, str]:
    """Read `bucket/batch=STATUS`, where the part behind the last = may be absent."""
    found: dict[Any, str] = {}
    for text in texts if isinstance(texts, list) else []:
        place, _, status = text.rpartition("=") if isinstance(text, str) else (text, "", "")
        found.update({place: status} if status in STATUSES else {str(text): ""})
    return found


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
