"""Checks of the arguments that the mock is given, in Python or by the admin API; each raises ConfigurationError."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from mixpeek_batches.errors import ConfigurationError

_MAX_JSON_DEPTH = 100


def call_with_fields(function: Callable[..., Any], fields: object) -> Any:
    """Call a function with the fields of a JSON object as its arguments; none may be unknown or missing."""
    parameters = _parameters(getattr(function, "__func__", function))
    known = f"the fields are {', '.join(parameters)}"
    if not isinstance(fields, Mapping):
        raise ConfigurationError(f"A JSON object is needed; {known}.")
    for name in fields:
        if name not in parameters:
            raise ConfigurationError(f"Unknown field {name!r}: {known}.")
    for name, required in parameters.items():
        if required and name not in fields:
            raise ConfigurationError(f"The field {name!r} is missing: {known}.")
    return function(**fields)


@functools.cache  # a file may hold 100,000 batches
def _parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """Return by name whether each parameter of a function or method is required."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default is each.empty for each in parameters if each.name != "self"}


def check_text(value: object, name: str) -> str:
    """Return a non-empty string that a request can carry."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a non-empty string, not {value!r}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} must be valid Unicode; {value!r} contains a lone surrogate.") from None
    return value


def text_field(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Validate a field of an attrs class with `check_text`."""
    check_text(value, attribute.name)


def check_number(value: object, name: str, least: float, most: float, *, whole: bool = False, hint: str = "") -> None:
    """Check that a value is a number within bounds, which a bool is not. The hint ends the message."""
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"{name} must be {kind} from {least} to {most}{hint}.")


def check_items(items: Any, name: str) -> list[str | dict[str, Any]]:
    """Return a copy of the inputs or outputs of a task, a list of strings and JSON objects."""
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | dict) for item in items):
        raise ConfigurationError(f"{name} must be a list of strings and JSON objects.")
    copy: list[str | dict[str, Any]] = check_json(items, name) if items else []
    return copy


def check_json(value: Any, name: str) -> Any:
    """Return a copy of a JSON value, so that later changes to the original do not reach the mock."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} must be JSON: {error}.") from None
    level = [copy]
    for _ in range(_MAX_JSON_DEPTH + 1):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        if not inner:
            return copy
        level = [item for items in inner for item in items]
    raise ConfigurationError(f"{name} must not be nested more than {_MAX_JSON_DEPTH} levels deep.")
