"""What the mock is given, checked and copied before it is kept."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from mixpeek_batches.errors import ConfigurationError

_DEEPEST_JSON = 100


def call_with_fields(function: Callable[..., Any], fields: object) -> Any:
    """Call a function with the fields of a JSON object as its arguments.

    Raises:
        ConfigurationError: It is no object, a field is unknown or missing, or the function refuses one.
    """
    parameters = _parameters(getattr(function, "__func__", function))
    known = f"the fields are {', '.join(parameters)}"
    if not isinstance(fields, dict):
        raise ConfigurationError(f"A JSON object is needed; {known}.")
    for name in fields:
        if name not in parameters:
            raise ConfigurationError(f"Unknown field {name!r}: {known}.")
    for name, required in parameters.items():
        if required and name not in fields:
            raise ConfigurationError(f"The field {name!r} is missing: {known}.")
    return function(**fields)


@functools.cache  # a file may hold 100,000 batches
def _parameters(function: Callable[..., Any]) -> Mapping[str, bool]:
    """Tell by name which parameters of a function or method are required."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default is each.empty for each in parameters if each.name not in {"self", "cls"}}


def checked_text(value: object, name: str) -> str:
    """Hold a value to be a text that a request can carry.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a string that is not empty, not {value!r}.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigurationError(f"{name} {value!r} holds half a surrogate pair, which no request can name.")
    return value


def checked_items(items: Any, name: str) -> list[str | dict[str, Any]]:
    """Copy the inputs or outputs of a task.

    Raises:
        ConfigurationError: They are no list of strings and JSON objects.
    """
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | dict) for item in items):
        raise ConfigurationError(f"{name} must be a list of strings and JSON objects.")
    copied: list[str | dict[str, Any]] = checked_json(list(items), name)
    return copied


def checked_json(value: Any, name: str) -> Any:
    """Copy a JSON value, so that later changes to the original do not reach the mock.

    Raises:
        ConfigurationError: It is not JSON, or nested too deep.
    """
    try:
        copied = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is not JSON: {error}.") from None
    level, depth = [copied], 0
    while level:
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
        if depth > _DEEPEST_JSON:
            raise ConfigurationError(f"{name} is nested more than {_DEEPEST_JSON} deep.")
    return copied


def is_number(value: object, least: float, most: float) -> TypeGuard[float]:
    """Tell whether a value is a number within bounds; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_whole(value: object, least: int, most: int) -> TypeGuard[int]:
    """Tell whether a value is a whole number within bounds; a bool is none."""
    return isinstance(value, int) and is_number(value, least, most)
