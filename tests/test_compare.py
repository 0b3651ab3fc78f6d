"""scripts/compare.py: what is the same in other words is no difference, and what is not is one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from scripts.compare import CompareError, SpecDifference, compare, parse

STRING: dict[str, Any] = {"type": "string"}
NULL: dict[str, Any] = {"type": "null"}


def document(schema: Any, components: dict[str, Any] | None = None, **operation: Any) -> dict[str, Any]:
    """An OpenAPI document with one operation, whose 200 has a schema."""
    answer = {"description": "", "content": {"application/json": {"schema": schema}}}
    paths = {"/things/{id}": {"post": {"responses": {"200": answer}, **operation}}}
    return {"openapi": "3.1.0", "info": {"version": "1"}, "paths": paths, "components": {"schemas": components or {}}}


def with_parameters(*parameters: dict[str, Any]) -> dict[str, Any]:
    return document(STRING, parameters=list(parameters))


def brief(differences: list[SpecDifference]) -> list[tuple[str, str, str]]:
    return [(difference.place, difference.aspect, difference.kind) for difference in differences]


NULLABLE = [
    {"type": "string", "nullable": True},
    {"type": ["string", "null"]},
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
    for ours in NULLABLE:
        assert compare(document(ours, TEXT), document(theirs, TEXT)) == [], ours
    assert brief(compare(document(STRING), document(theirs, TEXT))) == [("body", "null", "widened")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["b", "a"]}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"anyOf": [{"const": "a"}, NULL]}),
        ({"type": "object"}, {"type": "object", "additionalProperties": True, "properties": {}}),
        ({"minimum": 1, "exclusiveMinimum": True, "type": "integer"}, {"type": "integer", "exclusiveMinimum": 1}),
        ({"allOf": [{"type": "string", "maxLength": 5}, {"maxLength": 3}]}, {"type": "string", "maxLength": 3}),
        (
            {"allOf": [{"type": "object", "properties": {"a": STRING}}, {"required": ["a"]}]},
            {"type": "object", "properties": {"a": STRING}, "required": ["a"]},
        ),
        ({}, {"description": "Anything."}),
        (True, {}),
        ({"anyOf": [STRING, {"type": "object"}]}, {"oneOf": [{"type": "object", "title": "T"}, STRING]}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "integer"}, STRING]}),
    ],
)
def test_the_same_in_other_words(ours: Any, theirs: Any) -> None:
    assert compare(document(ours), document(theirs)) == []
    assert compare(document(theirs), document(ours)) == []


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


@pytest.mark.parametrize(
    ("ours", "theirs", "there", "back"),
    [
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, ("body", "value", "added"), ("body", "value", "removed")),
        ({"enum": ["a"]}, STRING, ("body", "values", "widened"), ("body", "values", "narrowed")),
        ({"const": False}, {"type": "boolean"}, ("body", "values", "widened"), ("body", "values", "narrowed")),
        (STRING, {"type": "integer"}, ("body", "type", "changed"), ("body", "type", "changed")),
        ({"type": "integer"}, {"type": "number"}, ("body", "type", "widened"), ("body", "type", "narrowed")),
        (STRING, {"anyOf": [STRING, {"type": "object"}]}, ("body", "type", "widened"), ("body", "type", "narrowed")),
        (STRING, {}, ("body", "type", "widened"), ("body", "type", "narrowed")),
        (_object(), _object(a=STRING), ("a", "property", "added"), ("a", "property", "removed")),
        (_object("a", a=STRING), _object(a=STRING), ("a", "required", "widened"), ("a", "required", "narrowed")),
        (
            _object(a=_object(b=STRING)),
            _object(a=_object(b={"type": "string", "maxLength": 3})),
            ("a.b", "maxLength", "narrowed"),
            ("a.b", "maxLength", "widened"),
        ),
        (
            {"type": "integer", "minimum": 1},
            {"type": "integer", "minimum": 5},
            ("body", "minimum", "narrowed"),
            ("body", "minimum", "widened"),
        ),
        (
            _object(a={"type": "array", "items": STRING}),
            _object(a={"type": "array", "items": {"type": ["string", "null"]}}),
            ("a[]", "null", "widened"),
            ("a[]", "null", "narrowed"),
        ),
        (
            {"type": "object"},
            {"type": "object", "additionalProperties": False},
            ("*", "type", "narrowed"),
            ("*", "type", "widened"),
        ),
        (
            {"type": "string", "pattern": "a"},
            {"type": "string", "pattern": "b"},
            ("body", "pattern", "changed"),
            ("body", "pattern", "changed"),
        ),
    ],
)
def test_a_difference_and_its_direction(
    ours: Any, theirs: Any, there: tuple[str, str, str], back: tuple[str, str, str]
) -> None:
    assert brief(compare(document(ours), document(theirs))) == [there]
    assert brief(compare(document(theirs), document(ours))) == [back]


def test_schemas_inside_themselves() -> None:
    tree = {
        "Tree": _object("name", name=STRING, children={"type": "array", "items": {"$ref": "#/components/schemas/Tree"}})
    }
    other = copy.deepcopy(tree)
    other["Tree"]["properties"]["name"] = {"type": "integer"}
    root = {"$ref": "#/components/schemas/Tree"}
    assert compare(document(root, tree), document(root, tree)) == []
    # A tree inside a tree is the same pair of schemas, and is told of once.
    assert brief(compare(document(root, tree), document(root, other))) == [("name", "type", "changed")]


PATH = {"name": "id", "in": "path", "required": True, "schema": STRING}
QUERY: dict[str, Any] = {"name": "force", "in": "query", "schema": {"type": "boolean"}}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([PATH], [{"name": "Authorization", "in": "header", "required": True, "schema": STRING}, PATH], []),
        ([PATH, QUERY], [QUERY, PATH], []),
        ([PATH], [PATH, QUERY], [("query force", "parameter", "added")]),
        ([PATH, QUERY], [PATH], [("query force", "parameter", "removed")]),
        ([QUERY], [{**QUERY, "required": True}], [("query force", "required", "narrowed")]),
        (
            [{"name": "X-Name", "in": "header", "schema": {"type": ["string", "null"]}}],
            [{"name": "x-name", "in": "header", "schema": STRING}],
            [],
        ),
        ([QUERY], [{**QUERY, "schema": {"type": "boolean", "default": True}}], [("query force", "default", "changed")]),
        (
            [QUERY],
            [{"name": "force", "in": "query", "content": {"application/json": {"schema": {"type": "boolean"}}}}],
            [],
        ),
    ],
)
def test_parameters(ours: Any, theirs: Any, expected: list[tuple[str, str, str]]) -> None:
    found = compare(with_parameters(*ours), with_parameters(*theirs))
    assert brief(found) == expected
    assert {difference.side for difference in found} <= {"request"}


def test_a_path_whose_parameter_has_another_name_and_a_prefix_in_the_server() -> None:
    ours, theirs = with_parameters(PATH), with_parameters({**PATH, "name": "thing_id"})
    theirs["paths"] = {"/{thing_id}": theirs["paths"].pop("/things/{id}")}
    theirs["servers"] = [{"url": "https://api.example.com/things/"}]
    assert compare(ours, theirs) == []


def test_bodies_headers_codes_and_authentication() -> None:
    ours, theirs = document(STRING), document(STRING)
    post = theirs["paths"]["/things/{id}"]["post"]
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
    del theirs["security"]  # they say nothing
    assert ("", "authentication", "changed") not in brief(compare(ours, theirs))


def test_ranges_of_codes() -> None:
    ours, theirs = document(STRING), document(STRING)
    for side, code in ((ours, "404"), (theirs, "4XX")):
        side["paths"]["/things/{id}"]["post"]["responses"][code] = {"description": ""}
    assert compare(ours, theirs) == []


def test_operations_that_are_gone_and_those_that_are_not_ours() -> None:
    ours, theirs = document(STRING), document(STRING)
    theirs["paths"] |= {f"/other/{number}": {"$ref": "#/nowhere"} for number in range(0)}
    theirs["paths"]["/other"] = {"get": {"responses": {"200": {"$ref": "#/nowhere"}}}}
    assert compare(ours, theirs) == []
    del theirs["paths"]["/things/{id}"]
    assert brief(compare(ours, theirs)) == [("", "operation", "removed")]


def test_json_and_yaml_and_3_0() -> None:
    theirs = document({"type": "string", "nullable": True}) | {"openapi": "3.0.3"}
    ours = document({"type": ["string", "null"]})
    for text in (json.dumps(theirs), yaml.safe_dump(theirs), json.dumps(theirs).replace('"200"', '"200"')):
        assert compare(ours, parse(text, "theirs")) == []
    unquoted = yaml.safe_dump(theirs).replace("'200'", "200")
    assert compare(ours, parse(unquoted, "theirs")) == []


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
        ({"$ref": "#/components/schemas/None"}, "leads nowhere"),
        ({"$ref": "other.yaml#/A"}, "leads out of the document"),
        ({"$ref": "#/components/schemas/A"}, "circular"),
        ({"properties": 5}, "not valid OpenAPI"),
    ],
)
def test_what_cannot_be_compared(schema: Any, reason: str) -> None:
    circle = {"A": {"anyOf": [{"$ref": "#/components/schemas/A"}, NULL]}}
    with pytest.raises(CompareError, match=reason):
        compare(document({"type": "object"}), document(schema, circle))


def test_a_difference_in_one_line() -> None:
    found = compare(document({"enum": ["a"]}), document({"enum": ["a", "b"]}))
    assert [str(difference) for difference in found] == ["POST /things/{id} 200 body: value added: b"]
    found = compare(document(STRING), document({"type": "integer"}))
    assert [str(difference) for difference in found] == ["POST /things/{id} 200 body: type changed: string -> integer"]
