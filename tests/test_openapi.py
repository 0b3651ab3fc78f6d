"""openapi.yaml by itself: it is valid, says what the reference says, and its examples are examples of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from mixpeek_batches_api.models import TaskStatus, TaskType

ROOT = Path(__file__).parent.parent
SPEC: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
OPERATION = SPEC["paths"]["/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"]["post"]


def test_values_are_said_once_and_explained() -> None:
    """Every value of an enum has its line in the description, in the same order."""
    for name in ("TaskType", "TaskStatus"):
        schema = SPEC["components"]["schemas"][name]
        assert re.findall(r"^- `(\w+)`: \S.*\.$", schema["description"], re.MULTILINE) == schema["enum"]


DOCUMENTED = {
    TaskStatus: "PENDING IN_PROGRESS PROCESSING COMPLETED FAILED CANCELED UNKNOWN SKIPPED DRAFT",
    TaskType: "api_namespaces_create api_buckets_objects_create api_buckets_delete api_buckets_batches_process "
    "api_taxonomies_create api_taxonomies_execute api_taxonomies_materialize engine_feature_extractor_run "
    "engine_inference_run engine_object_processing engine_cluster_build thumbnail materialize",
}


@pytest.mark.parametrize("generated", DOCUMENTED)
def test_values_are_the_documented_ones(generated: type[TaskType | TaskStatus]) -> None:
    """The enums have the values of the vendor's reference page, in its order."""
    assert [member.value for member in generated] == DOCUMENTED[generated].split()


def _examples(node: Any, path: str = "#") -> Iterator[tuple[str, Any, Any]]:
    """Find every example, with its place and its schema."""
    if isinstance(node, dict):
        schema = node.get("schema", node)
        if "example" in node:
            yield f"{path}/example", schema, node["example"]
        examples = node.get("examples", [])
        if isinstance(examples, dict):
            examples = [example["value"] for example in examples.values()]
        for number, example in enumerate(examples):
            yield f"{path}/examples/{number}", schema, example
        for key, value in node.items():
            if key not in {"example", "examples"}:
                yield from _examples(value, f"{path}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _examples(value, f"{path}/{number}")


EXAMPLES = list(_examples(SPEC))


def _validator(schema: Any) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": SPEC["components"]})


@pytest.mark.parametrize(("schema", "example"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_example_is_valid(schema: Any, example: Any) -> None:
    """Every example validates against its schema."""
    _validator(schema).validate(example)


def test_examples_are_found() -> None:
    """The check above sees the examples of parameters, headers, responses and schemas."""
    places = " ".join(place for place, _, _ in EXAMPLES)
    assert all(kind in places for kind in ("/parameters/", "/headers/", "/responses/", "/schemas/"))
    with pytest.raises(jsonschema.ValidationError):
        _validator({"$ref": "#/components/schemas/TaskResponse"}).validate({"task_id": "t", "status": "CANCELED"})


def test_every_response_and_schema_names_its_source() -> None:
    """`x-provenance` stands on each response and schema, and there is no other extension."""
    for kind in ("responses", "schemas"):
        for name, item in SPEC["components"][kind].items():
            assert item.get("x-provenance") in {"documented", "published", "assumed"}, name
    assert set(re.findall(r'"(x-[a-z-]+)":', json.dumps(SPEC))) == {"x-provenance"}


def test_every_error_is_the_envelope() -> None:
    """Each documented error has one example, whose status is its own."""
    errors = {code: ref["$ref"].rsplit("/", 1)[1] for code, ref in OPERATION["responses"].items() if code != "200"}
    assert set(errors) == {"400", "401", "403", "404", "422", "429", "500", "503"}
    for code, name in errors.items():
        media = SPEC["components"]["responses"][name]["content"]["application/json"]
        assert media["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}
        assert media["example"]["status"] == int(code)
