"""openapi.yaml, as the tests read it: nothing that it states is repeated elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import yaml

PATH = Path(__file__).parent.parent / "openapi.yaml"
SPEC: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
SCHEMAS: dict[str, Any] = SPEC["components"]["schemas"]
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def resolved(item: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference inside the document."""
    while "$ref" in item:
        found: Any = SPEC
        for name in item["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        item = found
    return item


@attrs.frozen
class Operation:
    """An operation of the contract, such as `POST /v1/…/cancel`."""

    name: str
    method: str
    path: str
    parameters: tuple[dict[str, Any], ...]
    responses: dict[int, dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def headers(self, code: int) -> dict[str, dict[str, Any]]:
        """Return the schemas of the headers of a response with this status code, by name."""
        headers = self.responses.get(code, {}).get("headers", {})
        return {name: resolved(header)["schema"] for name, header in headers.items()}

    def schema(self, code: int) -> str | None:
        """Return the name of the schema of the body of a response with this status code."""
        content = self.responses.get(code, {}).get("content", {}).get("application/json", {})
        reference: str = content.get("schema", {}).get("$ref", "")
        return reference.rpartition("/")[2] or None


def _operations() -> Iterator[Operation]:
    for path, item in SPEC["paths"].items():
        for method in METHODS:
            if method in item:
                given = item[method]
                parameters = [*item.get("parameters", []), *given.get("parameters", [])]
                responses = {int(code): resolved(one) for code, one in given["responses"].items() if code.isdecimal()}
                name = given.get("operationId", f"{method} {path}")
                yield Operation(name, method.upper(), path, tuple(map(resolved, parameters)), responses)


OPERATIONS = {operation.name: operation for operation in _operations()}
CANCEL = OPERATIONS["cancel_batch"]
STATUSES: tuple[str, ...] = tuple(SCHEMAS["TaskStatus"]["enum"])


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """Return a validator for a schema of the contract."""
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": SPEC["components"]},
    )


def mismatch(name: str, value: object) -> str | None:
    """Return where a value differs from a schema of the contract, or None if it does not."""
    error = jsonschema.exceptions.best_match(validator(name).iter_errors(value))
    if error is None:
        return None
    place = "/".join(map(str, error.absolute_path)) or "the body"
    return f"{place}: {error.message[:200]}"


_EVERYTHING = object()  # stands for a value that has every property of its schema


def properties(name: str) -> set[str]:
    """Return every property of a schema as `Schema.property`, nested ones included."""
    return set(_properties(name, SCHEMAS[name], _EVERYTHING))


def properties_of(name: str, value: object) -> set[str]:
    """Return every property that a value has, whether its schema knows it or not."""
    return set(_properties(name, SCHEMAS[name], value))


def _properties(name: str, schema: dict[str, Any], value: Any) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = resolved(schema)
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _properties(name, part, value)
    known = schema.get("properties", {})
    if value is _EVERYTHING:
        items, fields = [_EVERYTHING], dict.fromkeys(known, _EVERYTHING)
    else:
        items = value if isinstance(value, list) else []
        fields = value if isinstance(value, dict) and known else {}
    for item in items if "items" in schema else ():
        yield from _properties(name, schema["items"], item)
    for field, inner in fields.items():
        yield f"{name}.{field}"
        yield from _properties(f"{name}.{field}", known.get(field, {}), inner)
