"""Compare two OpenAPI documents, operation by operation: what `drift` and `gate` are made of.

Both may be 3.0 or 3.1, as JSON or YAML. Schemas are compared by what they allow, however it is written: null as
`nullable`, as a type, as an alternative or as a constant; `allOf` merged; `anyOf` and `oneOf` alike. Parameters and
headers are compared as the properties of an object. Descriptions, examples and extensions do not count.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import yaml
from jsonschema_rs import canonicalize
from jsonschema_rs.canonical import Containment

from scripts.process import ScriptError

Json = Any
Object = dict[str, Json]
Schema = Object | bool
Shape = Object  # a schema that allows values of one type only; {} allows anything
Kind = Literal["added", "removed", "changed", "narrowed", "widened"]
Found = tuple[str, str, Kind, Json, Json]  # place, aspect, kind, ours, theirs
Members = dict[str, tuple[str, Object]]  # parameters or headers, by a key that both documents use: place, definition
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

_NULL: Shape = {"type": "null"}
_NOT_NULL = {"type": ["string", "number", "boolean", "array", "object"]}  # which a URL or a header cannot hold
_TYPES = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
# The keywords about what is inside a value, and the type of that value.
_INSIDE = {"properties": "object", "required": "object", "additionalProperties": "object", "items": "array"}
# By the OpenAPI specification these three are no parameters; the key is described by `security`.
_NO_PARAMETERS = {"header accept", "header authorization", "header content-type"}


class CompareError(ScriptError):
    """A document that cannot be compared, in one sentence."""


@dataclass(frozen=True)
class SpecDifference:
    """One thing that differs.

    Attributes:
        operation: Where, as in `POST /v1/things`.
        code: The status code of the response; nothing if it is about the request.
        place: What it is about, inside that: `header X-Namespace`, `body`, `inputs[]`.
        aspect: What about it, such as `property`, `value`, `null`, `type`, `required`, `maximum`.
        kind: Theirs, measured by ours.
        ours: What the first document has; None for nothing.
        theirs: What the second has.
    """

    operation: str
    code: str
    place: str
    aspect: str
    kind: Kind
    ours: Json
    theirs: Json

    def __str__(self) -> str:
        where = " ".join(part for part in (self.operation, self.code, self.place) if part)
        sides = [shown(side) for side in (self.ours, self.theirs) if side is not None]
        return f"{where}: {self.aspect} {self.kind}: {' -> '.join(sides)}"


def shown(value: Json) -> str:
    """Return a side of a difference as text."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


def parse(text: str, name: str) -> Object:
    """Read an OpenAPI document.

    Args:
        text: JSON or YAML.
        name: What to call it in an error.

    Raises:
        CompareError: If it is not an OpenAPI document.
    """
    try:
        document = json.loads(text)
    except ValueError:
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise CompareError(f"{name} is neither JSON nor YAML.") from None
    except RecursionError:
        raise CompareError(f"{name} is nested too deeply.") from None
    if not isinstance(document, dict) or not re.match(r"3\.[01]\b", str(document.get("openapi"))):
        raise CompareError(f"{name} is not an OpenAPI document of version 3.0 or 3.1.")
    if not isinstance(document.get("paths"), dict):
        raise CompareError(f"{name} has no paths.")
    return document


def version(document: Object) -> str:
    """Return the version of what a document describes."""
    info = document.get("info")
    return str(info.get("version", "?")) if isinstance(info, dict) else "?"


def operations(document: Object) -> dict[tuple[str, str], tuple[str, Object]]:
    """List the operations by method and URL, whatever the parameters in it are called: name, and definition."""
    found = {}
    for path, node in document["paths"].items():
        item = _target(document, node["$ref"]) if "$ref" in node else node
        servers = item.get("servers") or document.get("servers") or [{}]
        url = urlsplit(servers[0].get("url", "")).path.rstrip("/") + path
        for method in (name for name in METHODS if name in item):
            parameters = [*item.get("parameters", []), *item[method].get("parameters", [])]
            key = method, re.sub(r"\{[^}]*\}", "{}", url)
            found[key] = f"{method.upper()} {path}", {**item[method], "parameters": parameters}
    return found


def _target(document: Object, reference: str) -> Json:
    if not reference.startswith("#/"):
        raise CompareError(f"The reference {reference} points outside the document.")
    node: Json = document
    try:
        for part in reference[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            node = node[int(key) if isinstance(node, list) else key]
    except (KeyError, IndexError, TypeError, ValueError):
        raise CompareError(f"The reference {reference} points to nothing.") from None
    return node


def _dereferenced(document: Object, node: Json, path: tuple[str, ...] = ()) -> Json:
    """Return a node with its references resolved; a schema inside itself allows anything."""
    if isinstance(node, list):
        return [_dereferenced(document, item, path) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _dereferenced(document, item, path) for key, item in node.items()}
    if isinstance(found.get("$ref"), str) and (reference := found.pop("$ref")) not in path:
        found = {**_dereferenced(document, _target(document, reference), (*path, reference)), **found}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(found.get(exclusive), bool) and found.pop(exclusive):  # as 3.0 has it
            found[exclusive] = found.pop(bound)
    return found


def _authentication(document: Object, operation: Object) -> list[str] | None:
    """Name the ways to authenticate, sorted; None where the document leaves it open."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    names = {
        name: " ".join(str(scheme[key]) for key in ("type", "scheme", "in", "name") if key in scheme).lower()
        for name, scheme in _dereferenced(document, schemes).items()
    }
    alternatives = operation.get("security", document.get("security"))
    if alternatives is None:
        return None
    return sorted(" and ".join(names.get(name, name) for name in sorted(one)) or "none" for one in alternatives)


def _shapes(schema: Schema) -> list[Shape]:
    """List the alternatives that a schema allows, each of one type; none where it allows nothing."""
    found: list[Shape] = []
    for schemas in _alternatives(schema):
        # The library merges the constraints on a value itself; what is inside the value has to be shown one by one.
        values = [{key: value for key, value in one.items() if key not in _INSIDE} for one in schemas]
        form = canonicalize({"allOf": values}, validate_formats=True).to_json_schema()
        inside = _merged_inside(schemas)
        for values_of_type in _by_type(form, [value for one in schemas for value in one.get("enum", [])]):
            name = values_of_type.get("type")
            shape = values_of_type | {key: part for key, part in inside.items() if _INSIDE[key] == name}
            if shape not in found:
                found.append(shape)
    return found


def _alternatives(schema: Schema) -> Iterator[list[Shape]]:
    """List the alternatives of a schema, each as schemas that must all hold and have no alternatives themselves."""
    if isinstance(schema, bool):
        if schema:
            yield [{}]
        return
    own = {key: value for key, value in schema.items() if key not in {"allOf", "anyOf", "oneOf", "nullable"}}
    if not own.keys() & {"type", "enum", "const"} and (keywords := own.keys() & _INSIDE.keys()):
        own["type"] = _INSIDE[min(keywords)]  # what names properties means objects
    factors = [[[own]], *(list(_alternatives(part)) for part in schema.get("allOf", []))]
    choices = [schema[keyword] for keyword in ("anyOf", "oneOf") if keyword in schema]
    factors += [[one for part in parts for one in _alternatives(part)] for parts in choices]
    for factor in itertools.product(*factors):
        yield list(itertools.chain(*factor))
    if schema.get("nullable") is True:
        yield [_NULL]


def _merged_inside(schemas: list[Shape]) -> Shape:
    """Merge the properties and items of schemas that must all hold."""
    properties: dict[str, list[Schema]] = {}
    for name, schema in (item for one in schemas for item in one.get("properties", {}).items()):
        properties.setdefault(name, []).append(schema)
    return {
        "properties": {name: {"allOf": parts} for name, parts in properties.items()},
        "required": [name for one in schemas for name in one.get("required", [])],
        "additionalProperties": {"allOf": [one.get("additionalProperties", True) for one in schemas]},
        "items": {"allOf": [one.get("items", True) for one in schemas]},
    }


def _by_type(form: Json, order: list[Json]) -> Iterator[Shape]:
    """Split a schema in canonical form by type; the values of an enum come in the order of `order`."""
    if "anyOf" in form:
        for alternative in form["anyOf"]:
            yield from _by_type(alternative, order)
    elif "enum" in form or "const" in form:
        values = form.get("enum", [form.get("const")])
        groups: dict[str, list[Json]] = {}
        for value in sorted(values, key=lambda value: order.index(value) if value in order else -1):
            groups.setdefault(_TYPES.get(type(value), "object"), []).append(value)
        for name, group in groups.items():
            yield _NULL if name == "null" else {"type": name, "enum": group}
    elif isinstance(form.get("type"), list):
        yield from ({"type": name} for name in form["type"])
    elif form.get("not") != {}:
        yield {key: value for key, value in form.items() if key != "$schema"}


def _described(shapes: list[Shape], required: bool = False) -> str:
    """Return in a few words what a schema allows."""
    names = []
    for shape in sorted(shapes, key=lambda shape: shape == _NULL):
        values = shape.get("enum", [])
        many = f"one of {len(values)} values" if len(values) > 3 else shown(values)
        names.append(many if values else shape.get("type", "anything"))
    return (" or ".join(dict.fromkeys(names)) or "nothing") + (", required" if required else "")


def compare(ours: Object, theirs: Object) -> list[SpecDifference]:
    """List what differs in the operations that the first document has.

    Args:
        ours: The document that theirs is measured by, as returned by `parse`.
        theirs: The other.

    Raises:
        CompareError: If one of them is not valid OpenAPI, or refers to what is not there.
    """
    try:
        return list(_compare(ours, theirs))
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError) as error:
        raise CompareError(f"An operation in one of the documents is not valid OpenAPI ({error!r}).") from error


def _compare(ours: Object, theirs: Object) -> Iterator[SpecDifference]:
    others = operations(theirs)
    for key, (name, definition) in operations(ours).items():
        if key not in others:
            yield SpecDifference(name, "", "", "operation", "removed", name, None)
            continue
        parts, their_parts = (_taken_apart(*one) for one in ((ours, name, definition), (theirs, *others[key])))
        for found in _compare_requests(parts, their_parts):
            yield SpecDifference(name, "", *found)
        matched = set()
        for code, response in parts["responses"].items():
            names = (one for one in (code, f"{code[0]}XX", "DEFAULT") if one in their_parts["responses"])
            if match := next(names, None):
                matched.add(match)
                for found in _compare_responses(response, their_parts["responses"][match]):
                    yield SpecDifference(name, code, *found)
            else:
                yield SpecDifference(name, code, "", "status code", "removed", code, None)
        for code in sorted(their_parts["responses"].keys() - parts["responses"].keys() - matched):
            yield SpecDifference(name, code, "", "status code", "added", None, code)


def _taken_apart(document: Object, name: str, definition: Object) -> Object:
    """Return an operation with its references resolved, and under keys that both documents use."""
    operation = _dereferenced(document, definition)
    positions = re.findall(r"\{([^}]*)\}", name)
    members: Members = {}
    for parameter in operation["parameters"]:
        where, what = parameter["in"], parameter["name"]
        key = f"{where} {positions.index(what) if where == 'path' else what.lower() if where == 'header' else what}"
        if key not in _NO_PARAMETERS:
            members[key] = f"{where} {what}", parameter
    if body := operation.get("requestBody"):
        members["body"] = "body", {"required": body.get("required", False)}
    return {
        "deprecated": operation.get("deprecated", False),
        "authentication": _authentication(document, operation),
        "members": members,
        "body": body or {},
        "responses": {str(code).upper(): response for code, response in operation.get("responses", {}).items()},
    }


def _compare_requests(ours: Object, theirs: Object) -> Iterator[Found]:
    for aspect in ("deprecated", "authentication"):
        one, other = ours[aspect], theirs[aspect]
        if None not in (one, other) and one != other:
            yield "", aspect, "changed", one, other
    yield from _compare_members(ours["members"], theirs["members"], "parameter")
    for _, one, other in _pairs(ours["members"], theirs["members"]):
        if one and other:
            place, defaults = one[0], [_schema(parameter).get("default") for _, parameter in (one, other)]
            if defaults[0] != defaults[1]:
                yield place, "default", "changed", defaults[0], defaults[1]
    if ours["body"] and theirs["body"]:
        yield from _compare_content(ours["body"], theirs["body"])


def _compare_responses(ours: Object, theirs: Object) -> Iterator[Found]:
    yield from _compare_content(ours, theirs)
    yield from _compare_members(_headers(ours), _headers(theirs), "header")


def _headers(response: Object) -> Members:
    headers = response.get("headers", {}).items()
    return {name.lower(): (f"header {name}", {**header, "required": False}) for name, header in headers}


def _schema(parameter: Object) -> Object:
    for media in parameter.get("content", {}).values():
        parameter = media
    schema: Object = parameter.get("schema", {})
    return schema


def _compare_members(ours: Members, theirs: Members, aspect: str) -> Iterator[Found]:
    """Compare parameters or headers, as if they were the properties of an object."""
    places = {key: place for side in (theirs, ours) for key, (place, _) in side.items()}

    def as_object(members: Members) -> Schema:
        properties = {places[key]: {"allOf": [_schema(one), _NOT_NULL]} for key, (_, one) in members.items()}
        required = [places[key] for key, (_, one) in members.items() if one.get("required", False)]
        return {"type": "object", "properties": properties, "required": required}

    yield from _compare_schemas(as_object(ours), as_object(theirs), "", aspect)


def _compare_content(ours: Object, theirs: Object) -> Iterator[Found]:
    sides = (
        {media.partition(";")[0].strip().lower(): item for media, item in side.get("content", {}).items()}
        for side in (ours, theirs)
    )
    for media, one, other in _pairs(*sides):
        if one is None:
            yield "body", "media type", "added", None, media
        elif other is None:
            yield "body", "media type", "removed", media, None
        else:
            yield from _compare_schemas(one.get("schema", True), other.get("schema", True), "body")


def _pairs(ours: Object, theirs: Object) -> Iterator[tuple[str, Json, Json]]:
    """Pair what two sides have under a name, or None; in the order of ours, then of theirs."""
    for name in dict.fromkeys((*ours, *theirs)):
        yield name, ours.get(name), theirs.get(name)


def _compare_schemas(ours: Schema, theirs: Schema, place: str, member: str = "property") -> Iterator[Found]:
    """Compare what two schemas allow.

    Args:
        ours: The one.
        theirs: The other.
        place: Where they are.
        member: What to call the properties of an object there.
    """
    shapes = _shapes(ours), _shapes(theirs)
    allowed = _described(shapes[0]), _described(shapes[1])
    if {} in shapes[0] or {} in shapes[1]:
        if shapes[0] != shapes[1]:
            yield place, "type", "narrowed" if {} in shapes[0] else "widened", *allowed
        return
    if (_NULL in shapes[0]) != (_NULL in shapes[1]):
        yield place, "null", "narrowed" if _NULL in shapes[0] else "widened", *allowed
    left, right = _numbered(shapes[0]), _numbered(shapes[1])
    for key in (key for key in left if key in right):
        yield from _compare_shapes(left[key], right[key], place, member)
    fewer, more = sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys())
    if fewer or more:
        kind: Kind = "narrowed" if fewer else "widened"
        if fewer and more:
            kind = _change(*({"type": [name for name, _ in side]} for side in (fewer, more)))
        yield place, "type", kind, *allowed


def _compare_shapes(ours: Shape, theirs: Shape, place: str, member: str) -> Iterator[Found]:
    """Compare two alternatives of the same type."""
    values, their_values = ours.get("enum"), theirs.get("enum")
    if values is None or their_values is None:
        if values != their_values:
            kind: Kind = "widened" if their_values is None else "narrowed"
            yield place, "values", kind, _described([ours]), _described([theirs])
    else:
        if more := [value for value in their_values if value not in values]:
            yield place, "value", "added", None, more
        if fewer := [value for value in values if value not in their_values]:
            yield place, "value", "removed", fewer, None
    for keyword in sorted((ours.keys() | theirs.keys()) - {"type", "enum", *_INSIDE}):
        one, other = ({keyword: side[keyword]} if keyword in side else {} for side in (ours, theirs))
        if one != other:
            yield place, keyword, _change(one, other), one.get(keyword), other.get(keyword)
    inside = "" if place in {"", "body"} else f"{place}."
    properties, their_properties = ours.get("properties", {}), theirs.get("properties", {})
    required, their_required = ours.get("required", []), theirs.get("required", [])
    for name, schema, their_schema in _pairs(properties, their_properties):
        if schema is None:
            yield inside + name, member, "added", None, _described(_shapes(their_schema), name in their_required)
        elif their_schema is None:
            yield inside + name, member, "removed", _described(_shapes(schema), name in required), None
        else:
            yield from _compare_schemas(schema, their_schema, inside + name)
    for name in sorted({*required} ^ {*their_required}):
        if (name in properties) == (name in their_properties):
            sides = ("required", "optional") if name in required else ("optional", "required")
            yield inside + name, "required", "widened" if name in required else "narrowed", *sides
    for keyword, inner in (("items", f"{place}[]"), ("additionalProperties", f"{inside}*")):
        yield from _compare_schemas(ours.get(keyword, True), theirs.get(keyword, True), inner)


def _numbered(shapes: list[Shape]) -> dict[tuple[str, int], Shape]:
    """Key alternatives by type and number."""
    found: dict[tuple[str, int], Shape] = {}
    for shape in shapes:
        if shape != _NULL:
            found[shape["type"], sum(name == shape["type"] for name, _ in found)] = shape
    return found


def _change(ours: Schema, theirs: Schema) -> Kind:
    before, after = (canonicalize(schema, validate_formats=True) for schema in (ours, theirs))
    if after.covers(before) is Containment.YES:
        return "widened"
    return "narrowed" if before.covers(after) is Containment.YES else "changed"
