"""What is tested: a server at a base URL, and what may be done there."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import jsonschema

from mixpeek_batches import ConfigurationError
from mixpeek_batches._settings import checked_base_url, checked_identifier, checked_namespace, is_loopback
from mixpeek_batches.mock import MockState

from .spec import CANCEL, STATUSES
from .wire import KEY_VARIABLE, finite, segment

MARK = "contract-test-"
"""What every made-up identifier begins with or ends in."""

_TEXT = {"type": "string", "minLength": 1}
_BATCHES = {"type": "array", "items": {"type": "string"}}
_NAMESPACES = ("namespace", "namespace_id", "other_namespace", "forbidden_namespace")
_SETTINGS: dict[str, dict[str, Any]] = {
    "base_url": _TEXT,
    **dict.fromkeys(_NAMESPACES, _TEXT),
    "cancelable": _BATCHES,
    "finished": _BATCHES,
    "own_account": {"type": "boolean"},
    "max_requests": {"type": "integer", "minimum": 1, "maximum": 10**9},
    "requests_per_second": {"type": "number", "anyOf": [{"const": 0}, {"minimum": 0.01, "maximum": 10**9}]},
}
_SCHEMA = {"type": "object", "properties": _SETTINGS, "required": ["base_url"], "additionalProperties": False}


class ConfigError(Exception):
    """The configuration cannot be used; nothing was checked."""


@attrs.frozen
class BatchRef:
    """The two identifiers that address a batch."""

    bucket: str
    batch: str

    @classmethod
    def parse(cls, text: str) -> BatchRef:
        """Parse `bucket/batch`.

        Raises:
            ConfigError: If it is something else.
        """
        bucket, _, batch = text.partition("/")
        if not (bucket and batch):
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
    """Return the path of the endpoint for two identifiers that are encoded already."""
    return CANCEL.path.format(bucket_identifier=bucket, batch_id=batch)


@attrs.frozen(kw_only=True)
class Target:
    """A server, and what may be done there.

    Attributes:
        name: Its name in reports.
        base_url: Where it is.
        key: A valid key.
        namespace: The namespace of the batches below; None for the key's default.
        namespace_id: The id of that namespace.
        other_namespace: One that the key may use and that holds none of the batches.
        forbidden_namespace: One that exists and that the key may not use.
        cancelable: Batches that will be cancelled.
        finished: Batches in a terminal status other than CANCELED, which must stay as they are.
        statuses: The status of a finished batch, where it is known.
        own_account: Whether all that the key can reach is a sandbox, so that near misses of identifiers do no harm.
        max_requests: How many requests may be sent in all.
        requests_per_second: The highest rate; 0 for no limit.
        mock: The state behind the server, if it is a mock that the tests started.
    """

    name: str
    base_url: str
    key: str = attrs.field(repr=False)
    namespace: str | None = None
    namespace_id: str | None = None
    other_namespace: str | None = None
    forbidden_namespace: str | None = None
    cancelable: tuple[BatchRef, ...] = ()
    finished: tuple[BatchRef, ...] = ()
    statuses: Mapping[BatchRef, str] = attrs.Factory(dict)
    own_account: bool = True
    max_requests: int = 1000
    requests_per_second: float = 0.0
    mock: MockState | None = attrs.field(default=None, repr=False)

    @property
    def known(self) -> tuple[BatchRef, ...]:
        """The batches that exist."""
        return (*self.cancelable, *self.finished)

    @property
    def unlimited(self) -> bool:
        """Whether requests cost nothing, so that more of them may be sent."""
        return not self.requests_per_second


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Target:
    """Read a configuration file, and the key from the environment.

    Raises:
        ConfigError: If something is missing or not allowed; its message is one sentence.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=finite)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    try:
        return _target(settings, environment)
    except (ConfigError, ConfigurationError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _target(settings: dict[str, Any], environment: Mapping[str, str]) -> Target:
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(_SCHEMA).iter_errors(settings))
    if wrong is not None:
        raise ConfigError(f"{' '.join(map(str, [*wrong.absolute_path, wrong.message]))}.")
    url = checked_base_url(settings["base_url"], allow_http=False)
    if not settings["base_url"].isascii():
        raise ConfigError("base_url must be ASCII.")
    namespaces: dict[str, Any] = {name: settings[name] for name in _NAMESPACES if name in settings}
    for name, namespace in namespaces.items():
        checked_namespace(namespace, name)
    if len(set(namespaces.values())) < len(namespaces):
        raise ConfigError("two of the namespaces are the same.")
    if "namespace_id" in namespaces and "namespace" not in namespaces:
        raise ConfigError("namespace_id goes with namespace.")
    cancelable = tuple(dict.fromkeys(map(BatchRef.parse, settings.get("cancelable", []))))
    statuses = dict(map(_finished, settings.get("finished", [])))
    for batch in cancelable:
        if batch in statuses:
            raise ConfigError(f"{batch} is under both cancelable and finished.")
    key = environment.get(KEY_VARIABLE, "")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{KEY_VARIABLE} must hold the API key.")
    local = is_loopback(url)
    return Target(
        name=settings["base_url"],
        base_url=settings["base_url"].rstrip("/"),
        key=key,
        **namespaces,
        cancelable=cancelable,
        finished=tuple(statuses),
        statuses={batch: status for batch, status in statuses.items() if status},
        own_account=settings.get("own_account", local),
        max_requests=settings.get("max_requests", 1000),
        # Gentle with somebody else's server; one on this machine is ours.
        requests_per_second=settings.get("requests_per_second", 0 if local else 5),
    )


def _finished(text: str) -> tuple[BatchRef, str]:
    """Parse `bucket/batch=STATUS`, where the last `=` and the status may be left out."""
    batch, _, status = text.rpartition("=")
    return (BatchRef.parse(batch), status) if status in STATUSES else (BatchRef.parse(text), "")
