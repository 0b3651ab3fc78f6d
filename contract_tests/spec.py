"""openapi.yaml, as the tests read it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema
import yaml

PATH = Path(__file__).parent.parent / "openapi.yaml"
SPEC: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
ENDPOINT = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"
RESPONSES: dict[int, dict[str, Any]] = {
    int(code): SPEC["components"]["responses"][reference["$ref"].rsplit("/", 1)[1]]
    for code, reference in SPEC["paths"][ENDPOINT]["post"]["responses"].items()
}
SCHEMAS: dict[str, Any] = SPEC["components"]["schemas"]


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


def header_schema(code: int, name: str) -> dict[str, Any]:
    """Give the schema of a documented header of an answer."""
    reference = RESPONSES[code]["headers"][name]["$ref"].rsplit("/", 1)[1]
    schema: dict[str, Any] = SPEC["components"]["headers"][reference]["schema"]
    return schema
