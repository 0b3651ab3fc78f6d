"""Compare two OpenAPI documents, operation by operation: what `drift` and `gate` are made of.

Both may be 3.0 or 3.1, as JSON or YAML. References are resolved, and schemas are compared by what they allow, in
whatever way that is written: null as `nullable`, as a type, as an alternative or as a constant; `allOf` merged;
`anyOf` and `oneOf` alike. Words do not count: descriptions, titles, examples, extensions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import yaml

from scripts.process import ScriptError

Json = Any
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

_WORDS = {"$comment", "default", "deprecated", "description", "discriminator", "example", "examples", "externalDocs"}
_WORDS |= {"readOnly", "title", "writeOnly", "xml"}
_NULL = {"type": "null"}
_UPPER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_LOWER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_HANDLED = {"type", "enum", "properties", "required", "additionalProperties", "items"} | _UPPER | _LOWER
_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
_TYPES |= {"object": dict, "array": list}
# By the OpenAPI specification these three are no parameters; the key is described by `security`.
_NO_PARAMETERS = {"accept", "authorization", "content-type"}


class CompareError(ScriptError):
    """A document that cannot be compared, in one sentence."""


@dataclass(frozen=True)
class SpecDifference:
    """One thing that differs.

    Attributes:
        operation: Where, as in `POST /v1/things`.
        side: Who has to live with it: whoever sends the request, or whoever reads the response.
        code: The status code of the response, or nothing.
        place: What it is about, inside that: `header X-Namespace`, `body`, `inputs[]`.
        aspect: What about it, such as `property`, `value`, `null`, `type`, `required`, `maximum`.
        kind: Theirs, measured by ours.
        ours: What the first document has; None for nothing.
        theirs: What the second has.
    """

    operation: str
    side: Literal["request", "response"]
    code: str
    place: str
    aspect: str
    kind: Literal["added", "removed", "changed", "narrowed", "widened"]
    ours: Json
    theirs: Json

    def __str__(self) -> str:
        where = " ".join(part for part in (self.operation, self.code, self.place) if part)
        sides = f"{shown(self.ours)} -> {shown(self.theirs)}" if self.kind not in {"added", "removed"} else ""
        extent = shown(self.theirs if self.kind == "added" else self.ours)
        return f"{where}: {self.aspect} {self.kind}: {sides or extent}"


def shown(value: Json) -> str:
    """Return a side of a difference as text."""
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


def parse(text: str, name: str) -> dict[str, Json]:
    """Read an OpenAPI document.

    Args:
        text: JSON or YAML.
        name: What to call it in an error.

    Raises:
        CompareError: It is not an OpenAPI document.
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


def version(document: dict[str, Json]) -> str:
    """Return the version of what a document describes."""
    info = document.get("info")
    return str(info.get("version", "?")) if isinstance(info, dict) else "?"


class Document:
    """An OpenAPI document, with what can be asked of it."""

    def __init__(self, root: dict[str, Json]) -> None:
        self.root = root

    def operations(self) -> dict[tuple[str, str], tuple[str, dict[str, Json], dict[str, Json]]]:
        """Find all operations: by method and shape of the path, the path, what it says for all methods, and each."""
        found = {}
        for path, shared in self.root["paths"].items():
            item = self.resolved(shared)
            servers = item.get("servers") or self.root.get("servers") or [{}]
            prefix = urlsplit(str(servers[0].get("url", ""))).path.rstrip("/")
            for method in METHODS:
                if isinstance(item.get(method), dict):
                    # What a parameter of the path is called makes no difference to a URL.
                    found[method, re.sub(r"\{[^}]*\}", "{}", prefix + path)] = (path, item, item[method])
        return found

    def resolved(self, node: Json) -> dict[str, Json]:
        """Follow references to a node that is not a reference."""
        seen = []
        while isinstance(node, dict) and "$ref" in node:
            seen.append(node["$ref"])
            if seen.count(node["$ref"]) > 1:
                raise CompareError(f"The reference {node['$ref']} is circular.")
            node = self._target(node["$ref"])
        return node if isinstance(node, dict) else {}

    def _target(self, reference: Json) -> Json:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise CompareError(f"The reference {reference} leads out of the document.")
        node: Json = self.root
        for part in unquote(reference[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                raise CompareError(f"The reference {reference} leads nowhere.")
        return node

    def shapes(self, schema: Json, seen: tuple[str, ...] = ()) -> list[dict[str, Json]]:
        """List the alternatives that a schema allows, each of one type and in no other's words; `{}` is anything."""
        if schema is False:
            return []
        if not isinstance(schema, dict):
            return [{}]
        own = {key: value for key, value in schema.items() if key not in _WORDS and not key.startswith("x-")}
        reference, nullable = own.pop("$ref", None), own.pop("nullable", False) is True
        together = [own.pop("allOf", [])]
        alternatives = [own.pop(key) for key in ("anyOf", "oneOf") if key in own]
        found = _by_type(_modern(own))
        if reference is not None:
            if reference in seen:
                raise CompareError(f"The reference {reference} is circular.")
            found = _both(found, self.shapes(self._target(reference), (*seen, reference)))
        for part in (part for parts in together for part in parts):
            found = _both(found, self.shapes(part, seen))
        for parts in alternatives:
            found = _both(found, [shape for part in parts for shape in self.shapes(part, seen)])
        if nullable and _NULL not in found and {} not in found:
            found.append(_NULL)
        return [shape for number, shape in enumerate(found) if shape not in found[:number]]


def _modern(schema: dict[str, Json]) -> dict[str, Json]:
    """Write the constraints that have an older spelling in the newer one."""
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    if schema.get("additionalProperties") in (True, {}):
        del schema["additionalProperties"]
    return schema


def _by_type(schema: dict[str, Json]) -> list[dict[str, Json]]:
    types = schema.pop("type", None)
    if types is None:
        if "enum" in schema:
            types = [name for name in (*_TYPES, "null") if any(_is(value, name) for value in schema["enum"])]
            types = [name for name in types if name != "number" or "integer" not in types]
        else:
            guesses = {"properties": "object", "items": "array", "additionalProperties": "object", "pattern": "string"}
            guessed = [name for key, name in guesses.items() if key in schema]
            if not guessed:
                return [schema]
            types = guessed[0]
    found = []
    for name in [types] if isinstance(types, str) else types:
        if name == "null":
            if None in schema.get("enum", [None]):
                found.append(_NULL)
            continue
        shape = {**schema, "type": name}
        if "enum" in schema:
            shape["enum"] = [value for value in schema["enum"] if _is(value, name)]
        if shape.get("enum") != []:
            found.append(shape)
    return found


def _is(value: Json, name: str) -> bool:
    if name == "null":
        return value is None
    return isinstance(value, _TYPES.get(name, ())) and (name == "boolean" or not isinstance(value, bool))


def _both(first: list[dict[str, Json]], second: list[dict[str, Json]]) -> list[dict[str, Json]]:
    return [merged for one in first for other in second if (merged := _merged(one, other)) is not None]


def _merged(one: dict[str, Json], other: dict[str, Json]) -> dict[str, Json] | None:
    """Make one shape that demands what two demand, or none if no value can be both."""
    types = {shape["type"] for shape in (one, other) if "type" in shape}
    if len(types) > 1 and types != {"integer", "number"}:
        return None
    result = {**one, **other}
    if types:
        result["type"] = "integer" if len(types) > 1 else types.pop()
    for key in one.keys() & other.keys():
        a, b = one[key], other[key]
        if key == "properties":
            shared = {name: {"allOf": [a[name], b[name]]} for name in a.keys() & b.keys()}
            result[key] = {**a, **b, **shared}
        elif key == "required":
            result[key] = sorted({*a, *b})
        elif key == "enum":
            result[key] = [value for value in a if value in b]
        elif key in {"items", "additionalProperties"}:
            result[key] = {"allOf": [a, b]}
        elif key in _UPPER | _LOWER:
            result[key] = (min if key in _UPPER else max)(a, b)
    return None if result.get("enum") == [] else result


def described(shapes: list[dict[str, Json]]) -> str:
    """Say in a few words what a schema allows."""
    names = []
    for shape in shapes:
        if "enum" in shape:
            names.append(shown(shape["enum"]) if len(shape["enum"]) <= 3 else f"one of {len(shape['enum'])} values")
        else:
            names.append(shape.get("type", "anything"))
    return " or ".join(dict.fromkeys(sorted(names, key=lambda name: name == "null"))) or "nothing"


@dataclass
class _Comparison:
    """The comparison of one operation; differences are collected as they are found."""

    ours: Document
    theirs: Document
    operation: str
    side: Literal["request", "response"] = "request"
    code: str = ""
    found: list[SpecDifference] = field(default_factory=list)
    path: list[tuple[str, str]] = field(default_factory=list)

    def note(self, place: str, aspect: str, kind: Any, ours: Json, theirs: Json) -> None:
        self.found.append(SpecDifference(self.operation, self.side, self.code, place, aspect, kind, ours, theirs))

    def trial(self) -> _Comparison:
        return _Comparison(self.ours, self.theirs, self.operation, self.side, self.code, [], self.path)

    def schemas(self, ours: Json, theirs: Json, place: str, *, ignore_null: bool = False) -> None:
        key = (json.dumps(ours, default=str), json.dumps(theirs, default=str))
        if key in self.path:  # a schema inside itself
            return
        self.path.append(key)
        a, b = self.ours.shapes(ours), self.theirs.shapes(theirs)
        self._alternatives(a, b, place, ignore_null=ignore_null)
        self.path.pop()

    def _alternatives(
        self, ours: list[dict[str, Json]], theirs: list[dict[str, Json]], place: str, *, ignore_null: bool
    ) -> None:
        texts = described(ours), described(theirs)
        if {} in ours or {} in theirs:
            if ours != theirs:
                self.note(place, "type", "narrowed" if {} in ours else "widened", *texts)
            return
        if (_NULL in ours) != (_NULL in theirs) and not ignore_null:
            self.note(place, "null", "narrowed" if _NULL in ours else "widened", *texts)
        left = [shape for shape in ours if shape != _NULL]
        right = [shape for shape in theirs if shape != _NULL]
        for shape, other in list(self._pairs(left, right, place)):
            self._shapes(shape, other, place)
            left.remove(shape)
            right.remove(other)
        if left and right:
            self.note(place, "type", "changed", *texts)
        elif left or right:
            self.note(place, "type", "narrowed" if left else "widened", *texts)

    def _pairs(
        self, left: list[dict[str, Json]], right: list[dict[str, Json]], place: str
    ) -> Iterator[tuple[dict[str, Json], dict[str, Json]]]:
        """Pair alternatives of the same type, the most similar first."""
        if len(left) == len(right) == 1 and left[0].get("type") == right[0].get("type"):
            yield left[0], right[0]
            return
        scored = []
        for i, shape in enumerate(left):
            for j, other in enumerate(right):
                types = shape.get("type"), other.get("type")
                if types[0] == types[1] or set(types) == {"integer", "number"}:
                    trial = self.trial()
                    trial._shapes(shape, other, place)
                    scored.append((len(trial.found), i, j))
        used: tuple[set[int], set[int]] = (set(), set())
        for _, i, j in sorted(scored):
            if i not in used[0] and j not in used[1]:
                used[0].add(i)
                used[1].add(j)
                yield left[i], right[j]

    def _shapes(self, ours: dict[str, Json], theirs: dict[str, Json], place: str) -> None:
        if ours.get("type") != theirs.get("type"):
            kind = "widened" if ours.get("type") == "integer" else "narrowed"
            self.note(place, "type", kind, ours.get("type"), theirs.get("type"))
        self._values(ours, theirs, place)
        self._constraints(ours, theirs, place)
        self._properties(ours, theirs, place)
        for key, inner in (("items", f"{place}[]"), ("additionalProperties", f"{place}.*")):
            if key in ours or key in theirs:
                self.schemas(ours.get(key, True), theirs.get(key, True), inner.removeprefix("body."))

    def _values(self, ours: dict[str, Json], theirs: dict[str, Json], place: str) -> None:
        a, b = ours.get("enum"), theirs.get("enum")
        if a is None or b is None:
            if a != b:
                self.note(
                    place, "values", "widened" if b is None else "narrowed", described([ours]), described([theirs])
                )
            return
        more, fewer = [value for value in b if value not in a], [value for value in a if value not in b]
        if more:
            self.note(place, "value", "added", None, more)
        if fewer:
            self.note(place, "value", "removed", fewer, None)

    def _constraints(self, ours: dict[str, Json], theirs: dict[str, Json], place: str) -> None:
        for key in sorted((ours.keys() | theirs.keys()) - _HANDLED | (ours.keys() | theirs.keys()) & (_UPPER | _LOWER)):
            a, b = ours.get(key), theirs.get(key)
            if a == b:
                continue
            if a is None or b is None:
                kind = "narrowed" if a is None else "widened"
            elif key in _UPPER | _LOWER:
                kind = "widened" if (b > a) == (key in _UPPER) else "narrowed"
            else:
                kind = "changed"
            self.note(place, key, kind, a, b)

    def _properties(self, ours: dict[str, Json], theirs: dict[str, Json], place: str) -> None:
        a, b = ours.get("properties", {}), theirs.get("properties", {})
        musts = set(ours.get("required", [])), set(theirs.get("required", []))
        for name in [*a, *(name for name in b if name not in a)]:
            inner = f"{place}.{name}".removeprefix("body.")
            if name not in b:
                self.note(inner, "property", "removed", self._field(self.ours, a[name], name in musts[0]), None)
            elif name not in a:
                self.note(inner, "property", "added", None, self._field(self.theirs, b[name], name in musts[1]))
            else:
                self.schemas(a[name], b[name], inner)
        for name in sorted(musts[0] ^ musts[1]):
            if (name in a) == (name in b):
                inner = f"{place}.{name}".removeprefix("body.")
                words = ("required", "optional") if name in musts[0] else ("optional", "required")
                self.note(inner, "required", "widened" if name in musts[0] else "narrowed", *words)

    @staticmethod
    def _field(document: Document, schema: Json, required: bool) -> str:
        return described(document.shapes(schema)) + (", required" if required else "")

    def parameters(self, ours: dict[str, Json], theirs: dict[str, Json]) -> None:
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            place = _parameter_place(ours.get(key) or theirs[key])
            a, b = ours.get(key), theirs.get(key)
            if a is None or b is None:
                document, one = (self.theirs, b) if a is None else (self.ours, a)
                assert one is not None
                text = self._field(document, _schema(one), one.get("required") is True)
                self.note(place, "parameter", *(("added", None, text) if a is None else ("removed", text, None)))
                continue
            musts = a.get("required") is True, b.get("required") is True
            if musts[0] != musts[1]:
                words = [("optional", "required")[must] for must in musts]
                self.note(place, "required", "narrowed" if musts[1] else "widened", words[0], words[1])
            # Null cannot be written in a path, a query or a header.
            self.schemas(_schema(a), _schema(b), place, ignore_null=True)
            defaults = [document.resolved(_schema(one)).get("default") for document, one in
                        ((self.ours, a), (self.theirs, b))]  # fmt: skip
            if defaults[0] != defaults[1]:
                self.note(place, "default", "changed", *defaults)

    def content(self, ours: dict[str, Json], theirs: dict[str, Json], place: str = "body") -> None:
        a, b = ours.get("content", {}), theirs.get("content", {})
        a, b = ({media.partition(";")[0].strip().lower(): item for media, item in side.items()} for side in (a, b))
        for media in [*a, *(media for media in b if media not in a)]:
            if media not in b:
                self.note(place, "media type", "removed", media, None)
            elif media not in a:
                self.note(place, "media type", "added", None, media)
            else:
                self.schemas(a[media].get("schema", True), b[media].get("schema", True), place)

    def headers(self, ours: dict[str, Json], theirs: dict[str, Json]) -> None:
        sides = []
        for document, response in ((self.ours, ours), (self.theirs, theirs)):
            given = response.get("headers", {}).items()
            sides.append({name.lower(): (name, document.resolved(header)) for name, header in given})
        a, b = sides
        for key in [*a, *(key for key in b if key not in a)]:
            place = f"header {(a.get(key) or b[key])[0]}"
            if key not in b:
                self.note(place, "header", "removed", described(self.ours.shapes(_schema(a[key][1]))), None)
            elif key not in a:
                self.note(place, "header", "added", None, described(self.theirs.shapes(_schema(b[key][1]))))
            else:
                self.schemas(_schema(a[key][1]), _schema(b[key][1]), place, ignore_null=True)


def _schema(parameter: dict[str, Json]) -> Json:
    content = parameter.get("content")
    return next(iter(content.values())).get("schema", True) if content else parameter.get("schema", True)


def _parameter_place(parameter: dict[str, Json]) -> str:
    return f"{parameter['in']} {parameter['name']}"


def _parameters(
    document: Document, path: str, shared: dict[str, Json], own: dict[str, Json]
) -> dict[str, dict[str, Json]]:
    """Find the parameters of an operation; those of the path go by their position in it, not by name."""
    names = re.findall(r"\{([^}]*)\}", path)
    found = {}
    for node in [*shared.get("parameters", []), *own.get("parameters", [])]:
        parameter = document.resolved(node)
        name, where = str(parameter.get("name")), str(parameter.get("in"))
        if where == "header" and name.lower() in _NO_PARAMETERS:
            continue
        key = str(names.index(name)) if where == "path" and name in names else name
        found[f"{where} {key.lower() if where == 'header' else key}"] = {**parameter, "name": name, "in": where}
    return found


def _security(document: Document, own: dict[str, Json]) -> list[str] | None:
    """Name the ways to authenticate, sorted; None where the document leaves it open."""
    schemes = document.root.get("components", {}).get("securitySchemes", {})
    wanted = own.get("security", document.root.get("security"))
    if wanted is None:
        return None
    names = []
    for alternative in wanted:
        parts = []
        for name in sorted(alternative):
            scheme = document.resolved(schemes.get(name, {}))
            detail = scheme.get("scheme") or f"{scheme.get('in', '')} {scheme.get('name', '')}".strip()
            parts.append(f"{scheme.get('type', '?')} {detail}".strip().lower())
        names.append(" and ".join(parts) or "none")
    return sorted(names)


def _responses(document: Document, own: dict[str, Json]) -> dict[str, dict[str, Json]]:
    return {str(code).upper(): document.resolved(answer) for code, answer in own.get("responses", {}).items()}


def compare(ours: dict[str, Json], theirs: dict[str, Json]) -> list[SpecDifference]:
    """List what differs in the operations that the first document has.

    Args:
        ours: The document that theirs is measured by, as `parse` gave it.
        theirs: The other.

    Raises:
        CompareError: One of them refers to what is not there.
    """
    try:
        return _compare(Document(ours), Document(theirs))
    except (AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise CompareError(f"What one document says of an operation is not valid OpenAPI ({error!r}).") from error


def _compare(ours: Document, theirs: Document) -> list[SpecDifference]:
    found: list[SpecDifference] = []
    others = theirs.operations()
    for key, (path, shared, own) in ours.operations().items():
        comparison = _Comparison(ours, theirs, f"{key[0].upper()} {path}")
        if key not in others:
            comparison.note("", "operation", "removed", comparison.operation, None)
        else:
            _operation(comparison, (path, shared, own), others[key])
        found += comparison.found
    return found


def _operation(
    comparison: _Comparison,
    ours: tuple[str, dict[str, Json], dict[str, Json]],
    theirs: tuple[str, dict[str, Json], dict[str, Json]],
) -> None:
    documents = comparison.ours, comparison.theirs
    (_, _, a), (_, _, b) = ours, theirs
    if bool(a.get("deprecated")) != bool(b.get("deprecated")):
        comparison.note("", "deprecated", "changed", bool(a.get("deprecated")), bool(b.get("deprecated")))
    ways = _security(documents[0], a), _security(documents[1], b)
    if None not in ways and ways[0] != ways[1]:
        comparison.note("", "authentication", "changed", *ways)
    comparison.parameters(_parameters(documents[0], *ours), _parameters(documents[1], *theirs))
    bodies = [document.resolved(own.get("requestBody")) for document, own in zip(documents, (a, b), strict=True)]
    musts = [body.get("required") is True for body in bodies]
    if bool(bodies[0]) != bool(bodies[1]):
        words = [
            "-" if not body else "required" if must else "optional" for body, must in zip(bodies, musts, strict=True)
        ]
        sides = ("added", None, words[1]) if bodies[1] else ("removed", words[0], None)
        comparison.note("body", "parameter", *sides)
    elif bodies[0]:
        if musts[0] != musts[1]:
            comparison.note("body", "required", "narrowed" if musts[1] else "widened", *map(str, musts))
        comparison.content(bodies[0], bodies[1])
    comparison.side = "response"
    answers = _responses(documents[0], a), _responses(documents[1], b)
    used = set()
    for code, answer in answers[0].items():
        comparison.code = code
        match = next((name for name in (code, f"{code[0]}XX", "DEFAULT") if name in answers[1]), None)
        if match is None:
            comparison.note("", "status code", "removed", code, None)
            continue
        used.add(match)
        comparison.content(answer, answers[1][match])
        comparison.headers(answer, answers[1][match])
    for code in sorted(answers[1].keys() - used - answers[0].keys()):
        comparison.code = code
        comparison.note("", "status code", "added", None, code)
