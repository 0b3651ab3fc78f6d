"""scripts/drift.py: it finds how the vendor's document moved, and what it reports is what happens to our users."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import yaml
from hypothesis import Phase, given, settings

from contract_tests.clauses import CLAUSES
from contract_tests.strategies import values_of
from mixpeek_batches import APIStatusError, Client, MixpeekError, UnprocessableEntityError
from mixpeek_batches.mock import MockServer
from scripts import drift
from scripts.compare import CompareError
from scripts.drift import findings

ROOT = Path(__file__).parent.parent
OURS: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
ENDPOINT = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"
KEY = "sk_of_no_response"
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def changed(change: Change) -> dict[str, Any]:
    """A copy of our document, changed: a function gets its schemas and its operation."""
    document = copy.deepcopy(OURS)
    change(document["components"]["schemas"], document["paths"][ENDPOINT]["post"])
    return document


def _moved(schemas: dict[str, Any], operation: dict[str, Any]) -> None:
    """Move as the vendor did: more values, arrays that may be null, other names, and two envelopes of errors."""
    task, envelope = schemas["TaskResponse"]["properties"], schemas["ErrorResponse"]
    schemas["TaskStatus"]["enum"] += ["COMPLETED_WITH_ERRORS", "ACTIVE"]
    schemas["TaskType"]["enum"] += [f"type_{number}" for number in range(16)]
    for name in ("inputs", "outputs"):
        task[name] = {"anyOf": [{key: task[name][key] for key in ("type", "items")}, {"type": "null"}]}
    task["error"] = task.pop("error_message")
    envelope["required"].remove("success")
    envelope["properties"] |= {"success": {"type": "boolean"}, "status": {"type": "integer"}}
    schemas["Invalid"] = {"type": "object", "properties": {"detail": {"type": "array", "items": {}}}}
    operation["responses"]["422"] = {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Invalid"}}}
    }
    for code in ("429", "503"):
        del operation["responses"][code]


MOVED = changed(_moved)


def test_what_the_vendor_moved() -> None:
    """Each difference is found once, in words, with what it breaks."""
    found = [(finding.place, *finding.sides, finding.meaning, finding.clause) for finding in findings(OURS, MOVED)]
    contract, errors = "breaks the contract", "400, 401, 403, 404, 500"
    sixteen = ", ".join(f"type_{number}" for number in range(16))
    text = "string or null"
    assert sorted(found, key=str) == sorted(
        [
            ("200 status", "2 added: COMPLETED_WITH_ERRORS, ACTIVE", "-", contract, "task-schema"),
            ("200 task_type", f"16 added: {sixteen}", "-", contract, "task-schema"),
            ("200 inputs", "array or null", "array", contract, "task-schema"),
            ("200 outputs", "array or null", "array", contract, "task-schema"),
            ("200 error_message", "-", text, contract, "error-message-due"),
            ("200 error", text, "-", "new", None),
            (f"{errors} success", "boolean", "false", contract, "error-envelope"),
            (f"{errors} success", "optional", "required", contract, "error-envelope"),
            (f"{errors} status", "-", "minimum: 400", contract, "error-envelope"),
            (f"{errors} status", "-", "maximum: 599", contract, "error-envelope"),
            ("422 success", "-", "false, required", contract, "error-envelope"),
            ("422 status", "-", "integer, required", contract, "error-envelope"),
            ("422 error", "-", "object, required", contract, "error-envelope"),
            ("422 detail", "array", "-", "new", None),
            ("429, 503", "-", "documented", "gone", None),
        ],
        key=str,
    )


def test_our_own_document_in_other_words_has_not_moved() -> None:
    """With every reference resolved, among hundreds of other paths."""
    document = jsonschema_rs.dereference(OURS)
    assert isinstance(document, dict)
    document["paths"] |= {f"/other/{number}": {"get": {"responses": {}}} for number in range(500)}
    assert findings(OURS, document) == []
    assert findings(OURS, OURS) == []


def _optional(name: str) -> Change:
    return lambda schemas, _: schemas["TaskResponse"]["required"].remove(name)


def _property(name: str, schema: Any) -> Change:
    return lambda schemas, _: schemas["TaskResponse"]["properties"].update({name: schema})


def _absent(name: str) -> Change:
    def change(schemas: dict[str, Any], _: dict[str, Any]) -> None:
        task = schemas["TaskResponse"]
        del task["properties"][name]
        task |= {"required": [one for one in task["required"] if one != name], "additionalProperties": False}

    return change


def _tolerable(schemas: dict[str, Any], _: dict[str, Any]) -> None:
    """Change the type of all that the client can do without."""
    task = schemas["TaskResponse"]["properties"]
    task["status"] = {"type": "string"}
    task["cancellation"] = task["outputs"] = task["error_message"] = {"type": "object"}
    task["additional_data"] = {"type": "string"}


def _values(schema: str, *more: str) -> Change:
    return lambda schemas, _: schemas[schema]["enum"].extend(more)


def _without(value: str) -> Change:
    return lambda schemas, _: schemas["TaskStatus"]["enum"].remove(value)


TASK: list[tuple[str, Change, bool]] = [
    ("nothing", lambda schemas, operation: None, True),
    ("what the vendor moved", _moved, True),
    ("other types", _tolerable, True),
    ("inputs: absent", _absent("inputs"), True),
    ("task_id: optional", _optional("task_id"), False),
    ("task_id: absent", _absent("task_id"), False),
    ("task_id: an integer", _property("task_id", {"type": "integer"}), False),
    ("status: null", _property("status", {"type": ["string", "null"]}), False),
    ("status: an object", _property("status", {"type": "object"}), False),
    ("task_type: optional", _optional("task_type"), False),
    ("an array of tasks", lambda schemas, _: schemas.update(TaskResponse={"type": "array", "items": {}}), False),
]  # fmt: skip


def fed(document: dict[str, Any], schema: str, code: int, check: Callable[[Any, Client], None]) -> None:
    """Let the client receive what a schema of a document allows, and check what comes of each."""
    body = b""
    transport = httpx.MockTransport(lambda _: httpx.Response(code, content=body))
    with httpx.Client(transport=transport) as http, Client(api_key=KEY, max_retries=0, http_client=http) as client:

        @given(payload=values_of(schema, document))
        @settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate])
        def feed(payload: Any) -> None:
            nonlocal body
            body = json.dumps(payload).encode()
            check(payload, client)

        feed()


def same_task(payload: Any, client: Client) -> None:
    task = client.cancel_batch("bkt_1", "btch_1")
    assert task.to_dict() == payload
    assert (task.task_id, task.status, task.task_type) == tuple(payload[n] for n in ("task_id", "status", "task_type"))


@pytest.mark.parametrize(("change", "survives"), [case[1:] for case in TASK], ids=[case[0] for case in TASK])
def test_what_breaks_the_client_is_what_it_says(change: Change, survives: bool) -> None:
    """Fed with what a moved document allows, the client loses nothing, unless the report has that it breaks."""
    theirs = changed(change)
    breaks = [finding for finding in findings(OURS, theirs) if finding.meaning == "breaks the client"]
    assert bool(breaks) is not survives
    with nullcontext() if survives else pytest.raises((MixpeekError, ExceptionGroup)):
        fed(theirs, "TaskResponse", 200, same_task)


@pytest.mark.parametrize(("schema", "code"), [("ErrorResponse", 400), ("ErrorResponse", 500), ("Invalid", 422)])
def test_the_client_survives_what_the_vendor_moved(schema: str, code: int) -> None:
    """Each error is the error of its status."""

    def one_error(payload: Any, client: Client) -> None:
        with pytest.raises(APIStatusError) as caught:
            client.cancel_batch("bkt_1", "btch_1")
        assert caught.value.status_code == code
        assert isinstance(caught.value, UnprocessableEntityError) == (code == 422)
        assert caught.value.message
        assert caught.value.response.json() == payload

    fed(MOVED, schema, code, one_error)


def _code(code: str, response: Any) -> Change:
    return lambda _, operation: operation["responses"].update({code: response})


def _parameter(number: int, **parameter: Any) -> Change:
    def change(_: dict[str, Any], operation: dict[str, Any]) -> None:
        known = operation["parameters"][number : number + 1]
        operation["parameters"][number : number + 1] = [{**one, **parameter} for one in known or [{}]]

    return change


FORCE = {"name": "force", "in": "query", "schema": {"type": "boolean"}}
HTML = {"description": "", "content": {"text/html": {}}}


@pytest.mark.parametrize(
    ("change", "place", "meaning", "clause"),
    [
        (_parameter(3, **FORCE), "query force", "new", None),
        (_parameter(3, **FORCE, required=True), "query force", "breaks the client", "cancel"),
        (_parameter(2, required=True), "header X-Namespace", "breaks the client", "default-namespace"),
        (
            lambda _, operation: operation["parameters"].pop(),
            "header X-Namespace",
            "breaks the contract",
            "unknown-namespace",
        ),
        (
            _parameter(1, schema={"type": "string", "pattern": "^btch_"}),
            "path batch_id",
            "breaks the contract",
            "generated-positive-data-acceptance",
        ),
        (_code("409", {"description": ""}), "409", "breaks the contract", "documented-status"),
        (_code("202", {"description": ""}), "202", "breaks the client", "documented-status"),
        (_code("404", HTML), "404 body", "breaks the contract", "content-type"),
        (lambda _, operation: operation["responses"].pop("429"), "429", "gone", None),
        (lambda _, operation: operation.update(deprecated=True), "the operation", "gone", None),
        (lambda _, operation: operation.update(security=[]), "the operation", "breaks the client", "cancel"),
        (_values("TaskStatus", "NEW"), "200 status", "breaks the contract", "task-schema"),
        (_without("DRAFT"), "200 status", "gone", None),
        (_without("CANCELED"), "200 status", "breaks the contract", "task-canceled"),
        (_optional("status"), "200 status", "breaks the client", "task-schema"),
    ],
)  # fmt: skip
def test_what_a_difference_means(change: Change, place: str, meaning: str, clause: str | None) -> None:
    found = {(finding.place, finding.meaning, finding.clause) for finding in findings(OURS, changed(change))}
    assert found == {(place, meaning, clause)}


def test_an_endpoint_that_is_gone() -> None:
    theirs = copy.deepcopy(OURS)
    theirs["paths"] = {"/v1/batches/{batch_id}/cancel": theirs["paths"][ENDPOINT]}
    (finding,) = findings(OURS, theirs)
    assert (finding.place, finding.meaning, finding.clause) == ("the operation", "breaks the client", "cancel")


def test_every_clause_that_is_named_exists() -> None:
    """All that looks like the name of a clause in the source is one."""
    named = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', Path(drift.__file__).read_text())) - {"utf-8"}
    assert {"task-schema", "error-envelope", "unknown-namespace"} <= named <= CLAUSES.keys()


# The command.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command in this process, and returns its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["drift", *arguments])
        code = drift.main()
        return code, *capsys.readouterr()

    return run


def test_exit_codes_and_outputs(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """A table, JSON and Markdown of the same differences; 1 for differences and 0 for none."""
    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps(changed(_values("TaskStatus", "A|B", "[red]C", "@all \x1b[31m"))))
    code, table, errors = run(str(theirs))
    assert (code, errors) == (1, "")
    assert "3 added: A|B, [red]C, @all ?[31m" in " ".join(table.replace("│", " ").split())
    assert "1 differences: 1 breaks the contract" in table

    machine = json.loads(run(str(theirs), "--json")[1])
    assert [(row["place"], row["clause"]) for row in machine["differences"]] == [("200 status", "task-schema")]

    markdown = run(str(theirs), "--markdown")[1]
    (row,) = [line for line in markdown.splitlines() if line.startswith("| 200")]
    assert r"A\|B, \[red\]C, \@all" in row

    code, text, errors = run(str(ROOT / "openapi.yaml"))
    assert (code, errors) == (0, "")
    assert "no difference" in text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere.json", "nowhere.json cannot be read: No such file or directory."),
        (str(ROOT / "README.md"), "README.md is neither JSON nor YAML."),
        ("http://127.0.0.1:1/openapi.json", "cannot be reached"),
        ("http://[", "cannot be reached"),
    ],
)
def test_what_cannot_be_compared(source: str, reason: str, run: Callable[..., tuple[int, str, str]]) -> None:
    """Exit code 2, and one sentence."""
    code, output, errors = run(source, "--json")
    assert (code, output) == (2, "")
    assert reason in errors
    assert errors.count("\n") == 1


def test_from_a_url() -> None:
    with MockServer() as server:
        url = f"{server.url}/openapi.json"
        with pytest.raises(CompareError, match="returned status 404"):
            drift.read(url)
        server.fail_next(200, body=json.dumps(OURS))
        assert drift.read(url) == OURS
