"""openapi.yaml by itself: it has what the vendor documents, names its sources, and its examples are valid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SPEC: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
OPERATION = SPEC["paths"]["/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"]["post"]
DOCUMENTED = {
    "TaskStatus": "PENDING IN_PROGRESS PROCESSING COMPLETED FAILED CANCELED UNKNOWN SKIPPED DRAFT",
    "TaskType": "api_namespaces_create api_buckets_objects_create api_buckets_delete api_buckets_batches_process "
    "api_taxonomies_create api_taxonomies_execute api_taxonomies_materialize engine_feature_extractor_run "
    "engine_inference_run engine_object_processing engine_cluster_build thumbnail materialize",
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_values_are_the_documented_ones_and_explained(name: str) -> None:
    """An enum has the values of the vendor's reference page, in its order, and each has its line in the description."""
    schema = SPEC["components"]["schemas"][name]
    assert schema["enum"] == DOCUMENTED[name].split()
    assert re.findall(r"^- `(\w+)`: \S.*\.$", schema["description"], re.MULTILINE) == schema["enum"]


def _examples(node: Any, path: str = "#") -> Iterator[tuple[str, Any, Any]]:
    """Find every example, with its place and its schema."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        schema, examples = node.get("schema", node), node.get("examples", [])
        if isinstance(examples, dict):
            examples = [example["value"] for example in examples.values()]
        for example in [*examples, *([node["example"]] if "example" in node else [])]:
            yield path, schema, example
        for key, value in node.items():
            if key not in {"example", "examples"}:
                yield from _examples(value, f"{path}/{key}")


def _validate(schema: Any, example: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": SPEC["components"]}).validate(example)


def test_examples_are_valid() -> None:
    """Every example of a parameter, a header, a response or a schema validates against its schema."""
    places = set()
    for place, schema, example in _examples(SPEC):
        places |= {"parameters", "headers", "responses", "schemas"} & set(place.split("/"))
        _validate(schema, example)
    assert places == {"parameters", "headers", "responses", "schemas"}
    with pytest.raises(jsonschema.ValidationError):
        _validate({"$ref": "#/components/schemas/TaskResponse"}, {"task_id": "t", "status": "CANCELED"})


def test_every_response_and_schema_names_its_source() -> None:
    """Each response and schema has `x-provenance`, and there is no other extension."""
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
