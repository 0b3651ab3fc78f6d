"""scripts/compare.py: the same schema in another spelling is no difference, and each difference has a direction."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from scripts.compare import CompareError, SpecDifference, compare, parse

STRING: dict[str, Any] = {"type": "string"}
NULL: dict[str, Any] = {"type": "null"}
POST = "/things/{id}"


def document(schema: Any, components: dict[str, Any] | None = None, **operation: Any) -> dict[str, Any]:
    """An OpenAPI document with one operation, whose 200 has a schema."""
    response = {"description": "", "content": {"application/json": {"schema": schema}}}
    paths = {POST: {"post": {"responses": {"200": response}, **operation}}}
    return {"openapi": "3.1.0", "info": {"version": "1"}, "paths": paths, "components": {"schemas": components or {}}}


def brief(differences: list[SpecDifference]) -> list[tuple[str, str, str]]:
    return [(difference.place, difference.aspect, difference.kind) for difference in differences]


NULLABLE = [
    {"type": "string", "nullable": True},
    {"type": ["null", "string"], "description": "Words."},
    {"anyOf": [STRING, NULL]},
    {"oneOf": [NULL, STRING]},
    {"anyOf": [{"type": "string", "title": "A title"}, {"const": None}]},
    {"anyOf": [STRING, {"enum": [None]}]},
    {"allOf": [{"type": "string"}], "nullable": True},
    {"$ref": "#/components/schemas/Text"},
    {"anyOf": [{"$ref": "#/components/schemas/Text"}], "examples": ["a"], "x-extension": 1},
    {"anyOf": [{"anyOf": [STRING]}, NULL], "default": "a"},
]
TEXT = {"Text": {"type": ["string", "null"]}}


@pytest.mark.parametrize("theirs", NULLABLE, ids=json.dumps)
def test_null_in_any_spelling(theirs: Any) -> None:
    assert compare(document({"type": ["string", "null"]}), document(theirs, TEXT)) == []
    assert brief(compare(document(STRING), document(theirs, TEXT))) == [("body", "null", "widened")]
    assert brief(compare(document(theirs, TEXT), document(STRING))) == [("body", "null", "narrowed")]


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["b", "a"]}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"anyOf": [{"const": "a"}, NULL]}),
        ({"type": "object"}, {"type": "object", "additionalProperties": True, "properties": {}}),
        ({"minimum": 1, "exclusiveMinimum": True, "type": "integer"}, {"type": "integer", "minimum": 2}),
        ({"allOf": [{"type": "string", "maxLength": 5}, {"maxLength": 3}]}, {"type": "string", "maxLength": 3}),
        ({"allOf": [_object(a=STRING), {"required": ["a"]}]}, _object("a", a=STRING)),
        ({"properties": {"a": STRING}}, _object(a=STRING)),
        (True, {"description": "Anything."}),
        ({"anyOf": [STRING, {"type": "object"}]}, {"oneOf": [{"type": "object", "title": "T"}, STRING]}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "integer"}, STRING]}),
    ],
)
def test_the_same_in_other_words(ours: Any, theirs: Any) -> None:
    assert compare(document(ours), document(theirs)) == []
    assert compare(document(theirs), document(ours)) == []


OPPOSITE = {"added": "removed", "removed": "added", "widened": "narrowed", "narrowed": "widened", "changed": "changed"}


@pytest.mark.parametrize(
    ("ours", "theirs", "place", "aspect", "kind"),
    [
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, "body", "value", "added"),
        ({"enum": ["a"]}, STRING, "body", "values", "widened"),
        ({"const": False}, {"type": "boolean"}, "body", "values", "widened"),
        (STRING, {"type": "integer"}, "body", "type", "changed"),
        ({"type": "integer"}, {"type": "number"}, "body", "type", "widened"),
        (STRING, {"anyOf": [STRING, {"type": "object"}]}, "body", "type", "widened"),
        (_object(a=STRING), {"anyOf": [_object(a=STRING), _object(b=STRING)]}, "body", "type", "widened"),
        (STRING, {}, "body", "type", "widened"),
        (_object(), _object(a={}), "a", "property", "added"),
        (_object("a", a=STRING), _object(a=STRING), "a", "required", "widened"),
        (_object(a=_object(b=STRING)), _object(a=_object(b=STRING | {"maxLength": 3})), "a.b", "maxLength", "narrowed"),
        ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 5}, "body", "minimum", "narrowed"),
        (
            _object(a={"type": "array", "items": STRING}),
            _object(a={"type": "array", "items": {"type": ["string", "null"]}}),
            "a[]",
            "null",
            "widened",
        ),
        ({"type": "object"}, {"type": "object", "additionalProperties": False}, "*", "type", "narrowed"),
        ({"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}, "body", "pattern", "changed"),
        ({"type": "string", "format": "uuid"}, STRING, "body", "format", "widened"),
    ],
)  # fmt: skip
def test_a_difference_and_its_direction(ours: Any, theirs: Any, place: str, aspect: str, kind: str) -> None:
    assert brief(compare(document(ours), document(theirs))) == [(place, aspect, kind)]
    assert brief(compare(document(theirs), document(ours))) == [(place, aspect, OPPOSITE[kind])]


def test_schemas_inside_themselves() -> None:
    root = {"$ref": "#/components/schemas/Tree"}
    tree, other = (
        {"Tree": _object("name", name={"type": name}, children={"type": "array", "items": root})}
        for name in ("string", "integer")
    )
    assert compare(document(root, tree), document(root, tree)) == []
    # A tree inside a tree is the same pair of schemas, and is reported once.
    assert brief(compare(document(root, tree), document(root, other))) == [("name", "type", "changed")]


PATH = {"name": "id", "in": "path", "required": True, "schema": STRING}
QUERY: dict[str, Any] = {"name": "force", "in": "query", "schema": {"type": "boolean"}}
HEADER: dict[str, Any] = {"name": "X-Name", "in": "header", "schema": {"type": ["string", "null"]}}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([PATH], [{**HEADER, "name": "Authorization", "required": True}, PATH], []),
        ([PATH, QUERY], [QUERY, PATH], []),
        ([PATH], [PATH, QUERY], [("query force", "parameter", "added")]),
        ([PATH, QUERY], [PATH], [("query force", "parameter", "removed")]),
        ([QUERY], [{**QUERY, "required": True}], [("query force", "required", "narrowed")]),
        ([HEADER], [{"name": "x-name", "in": "header", "schema": STRING}], []),
        ([QUERY], [{**QUERY, "schema": {"type": "boolean", "default": True}}], [("query force", "default", "changed")]),
        ([QUERY], [{**QUERY, "schema": {}, "content": {"application/json": {"schema": {"type": "boolean"}}}}], []),
    ],
)
def test_parameters(ours: Any, theirs: Any, expected: list[tuple[str, str, str]]) -> None:
    found = compare(document(STRING, parameters=ours), document(STRING, parameters=theirs))
    assert brief(found) == expected
    assert not [difference for difference in found if difference.code]


def test_a_path_whose_parameter_has_another_name_and_a_prefix_in_the_server() -> None:
    ours, theirs = (document(STRING, parameters=[{**PATH, "name": name}]) for name in ("id", "thing_id"))
    theirs["paths"] = {"/{thing_id}": theirs["paths"].pop(POST)}
    theirs["servers"] = [{"url": "https://api.example.com/things/"}]
    assert compare(ours, theirs) == []


def test_bodies_headers_codes_and_authentication() -> None:
    ours, theirs = document(STRING), document(STRING)
    post = theirs["paths"][POST]["post"]
    post["requestBody"] = {"required": True, "content": {"application/json": {"schema": STRING}}}
    post["responses"]["200"]["headers"] = {"X-Count": {"schema": {"type": "integer"}}}
    post["responses"]["200"]["content"]["text/html"] = {}
    post["responses"]["404"] = {"description": ""}
    post["deprecated"] = True
    assert brief(compare(ours, theirs)) == [
        ("", "deprecated", "changed"),
        ("body", "parameter", "added"),
        ("body", "media type", "added"),
        ("header X-Count", "header", "added"),
        ("", "status code", "added"),
    ]
    for side, scheme in ((ours, {"type": "http", "scheme": "Bearer"}), (theirs, {"type": "http", "scheme": "basic"})):
        side["components"]["securitySchemes"] = {"key": scheme}
        side["security"] = [{"key": []}]
    assert ("", "authentication", "changed") in brief(compare(ours, theirs))
    del theirs["security"]  # which leaves it open
    assert ("", "authentication", "changed") not in brief(compare(ours, theirs))


def test_ranges_of_codes() -> None:
    ours, theirs = document(STRING), document(STRING)
    for side, code in ((ours, "404"), (theirs, "4XX")):
        side["paths"][POST]["post"]["responses"][code] = {"description": ""}
    assert compare(ours, theirs) == []


def test_operations_that_are_gone_and_those_that_are_not_ours() -> None:
    ours, theirs = document(STRING), document(STRING)
    theirs["paths"]["/other"] = {"get": {"responses": {"200": {"$ref": "#/nowhere"}}}}
    assert compare(ours, theirs) == []
    del theirs["paths"][POST]
    assert brief(compare(ours, theirs)) == [("", "operation", "removed")]


def test_json_yaml_and_3_0() -> None:
    theirs = document({"type": "string", "nullable": True}) | {"openapi": "3.0.3"}
    unquoted = yaml.safe_dump(theirs).replace("'200'", "200")
    for text in (json.dumps(theirs), yaml.safe_dump(theirs), unquoted):
        assert compare(document({"type": ["string", "null"]}), parse(text, "theirs")) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "x is neither JSON nor YAML."),
        ("a: [", "x is neither JSON nor YAML."),
        ("[]", "x is not an OpenAPI document of version 3.0 or 3.1."),
        ('{"swagger": "2.0", "paths": {}}', "x is not an OpenAPI document of version 3.0 or 3.1."),
        ('{"openapi": "3.1.0"}', "x has no paths."),
        ("[" * 100_000, "x is nested too deeply."),
    ],
)
def test_what_is_no_document(text: str, reason: str) -> None:
    with pytest.raises(CompareError) as caught:
        parse(text, "x")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#/components/schemas/None"}, "points to nothing"),
        ({"$ref": "other.yaml#/A"}, "points outside the document"),
        ({"properties": 5}, "not valid OpenAPI"),
    ],
)
def test_what_cannot_be_compared(schema: Any, reason: str) -> None:
    with pytest.raises(CompareError, match=reason):
        compare(document({"type": "object"}), document(schema))


@pytest.mark.parametrize(
    ("theirs", "line"),
    [({"enum": ["a", "b"]}, "value added: b"), ({"type": "integer"}, "type changed: a -> integer")],
)
def test_a_difference_in_one_line(theirs: Any, line: str) -> None:
    (difference,) = compare(document({"enum": ["a"]}), document(theirs))
    assert str(difference) == f"POST /things/{{id}} 200 body: {line}"
