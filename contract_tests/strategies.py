"""Hypothesis strategies for values of a schema of an OpenAPI document, by schemathesis."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st


def values_of(name: str, document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Make a strategy for the values that a schema allows.

    Args:
        name: The schema, by its name under `components/schemas`.
        document: The OpenAPI 3.1 document that holds it.
    """
    # Schemathesis has no public strategy for a schema, but one for a request whose body has it.
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
    carrier = {
        "openapi": "3.1.0",
        "info": {"title": "carrier", "version": "0"},
        "paths": {"/": {"post": {"requestBody": body, "responses": {"200": {"description": "any"}}}}},
        "components": {"schemas": document["components"]["schemas"]},
    }
    operation = schemathesis.openapi.from_dict(carrier)["/"]["POST"]
    strategy: st.SearchStrategy[Any] = operation.as_strategy().map(lambda case: case.body)
    return strategy
