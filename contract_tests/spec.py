"""openapi.yaml, as the tests read it: nothing that it says is written down again elsewhere."""

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
        """Give the schemas of the headers that an answer with this code carries, by name."""
        headers = self.responses.get(code, {}).get("headers", {})
        return {name: resolved(header)["schema"] for name, header in headers.items()}

    def schema(self, code: int) -> str | None:
        """Name the schema of the body of an answer with this code."""
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
    """Make a validator for a schema of the contract, by name."""
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": SPEC["components"]},
    )


def mismatch(name: str, value: object) -> str | None:
    """Say where a value differs from a schema of the contract, or nothing."""
    errors = sorted(validator(name).iter_errors(value), key=lambda error: len(error.path))
    if not errors:
        return None
    error = min(jsonschema.exceptions.best_match(errors) or errors[0], errors[0], key=lambda e: -len(e.path))
    place = "/".join(str(part) for part in error.absolute_path) or "the body"
    return f"{place}: {error.message[:200]}"


def properties(name: str) -> set[str]:
    """Name every property that a value of a schema may have, as `Schema.property`, those of its parts included."""
    return set(_named(name, SCHEMAS[name], None, everything=True))


def carried(name: str, value: object) -> set[str]:
    """Name every property that a value has, whether its schema knows it or not."""
    return set(_named(name, SCHEMAS[name], value, everything=False))


def _named(name: str, schema: dict[str, Any], value: object, *, everything: bool) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = resolved(schema)
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _named(name, part, value, everything=everything)
    if "items" in schema and (everything or isinstance(value, list)):
        for item in [None] if everything else value if isinstance(value, list) else []:
            yield from _named(name, schema["items"], item, everything=everything)
    if "properties" in schema:
        known = schema["properties"]
        present = value if isinstance(value, dict) else {}
        for field in known if everything else present:
            yield f"{name}.{field}"
            if field in known:
                inner = present.get(field)
                yield from _named(f"{name}.{field}", known[field], inner, everything=everything)
