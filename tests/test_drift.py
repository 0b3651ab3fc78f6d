"""scripts/drift.py: it finds how the vendor's document moved, and what it says of our users is what happens to them."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from contract_tests.clauses import CLAUSES
from contract_tests.strategies import values_of
from mixpeek_batches import APIStatusError, Client, MixpeekError, UnprocessableEntityError
from mixpeek_batches.mock import MockServer
from scripts import drift
from scripts.compare import CompareError
from scripts.drift import Drift, findings

ROOT = Path(__file__).parent.parent
OURS: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text())
ENDPOINT = "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel"
VENDORS = ROOT.parent / "shared" / "reference" / "vendor-openapi-0.81.json"
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def changed(change: Change) -> dict[str, Any]:
    """A copy of our document, changed: a function gets its schemas and its operation."""
    document = copy.deepcopy(OURS)
    change(document["components"]["schemas"], document["paths"][ENDPOINT]["post"])
    return document


def rows(found: list[Drift]) -> list[tuple[str, str, str | None]]:
    return [(finding.place, finding.meaning, finding.clause) for finding in found]


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


@pytest.mark.skipif(not VENDORS.exists(), reason="the vendor's own document, release 0.81, is not here")
def test_the_vendors_own_document() -> None:
    """Nothing of it breaks the client, and its other differences are of the kinds that are tested above."""
    meanings = {finding.meaning for finding in findings(OURS, drift.read(str(VENDORS)))}
    assert meanings == {"breaks the contract", "new", "gone"}


def test_our_own_document_in_other_words_has_not_moved() -> None:
    """Without words, with every reference resolved, among hundreds of other paths."""

    def inlined(node: Any) -> Any:
        if isinstance(node, dict) and "$ref" in node:
            target: Any = OURS
            for part in node["$ref"].split("/")[1:]:
                target = target[part]
            return inlined(target)
        if isinstance(node, dict):
            return {key: inlined(value) for key, value in node.items() if key not in {"description", "example"}}
        return [inlined(item) for item in node] if isinstance(node, list) else node

    document = inlined(OURS)
    document["paths"] |= {f"/other/{number}": {"get": {"responses": {}}} for number in range(500)}
    assert findings(OURS, document) == []
    assert findings(OURS, OURS) == []


def _optional(name: str) -> Change:
    return lambda schemas, _: schemas["TaskResponse"]["required"].remove(name)


def _property(name: str, schema: Any) -> Change:
    return lambda schemas, _: schemas["TaskResponse"]["properties"].update({name: schema})


def _absent(name: str) -> Change:
    def change(schemas: dict[str, Any], _: dict[str, Any]) -> None:
        del schemas["TaskResponse"]["properties"][name]
        if name in schemas["TaskResponse"]["required"]:
            schemas["TaskResponse"]["required"].remove(name)
        schemas["TaskResponse"]["additionalProperties"] = False

    return change


def _values(schema: str, *more: str) -> Change:
    return lambda schemas, _: schemas[schema]["enum"].extend(more)


def _without(value: str) -> Change:
    return lambda schemas, _: schemas["TaskStatus"]["enum"].remove(value)


TASK: list[tuple[str, Change, bool]] = [
    ("nothing", lambda schemas, operation: None, True),
    ("status: more values", _values("TaskStatus", "ACTIVE", "ARCHIVED", "queued up"), True),
    ("task_type: more values", _values("TaskType", *(f"type_{number}" for number in range(25))), True),
    ("status: any string", _property("status", {"type": "string"}), True),
    ("inputs: null", _property("inputs", {"anyOf": [{"type": "array", "items": {}}, {"type": "null"}]}), True),
    ("outputs: an object", _property("outputs", {"type": "object"}), True),
    ("inputs: absent", _absent("inputs"), True),
    ("additional_data: a string", _property("additional_data", {"type": "string"}), True),
    ("error_message: an object", _property("error_message", {"type": "object"}), True),
    ("error in place of error_message", _property("error", {"type": ["string", "null"]}), True),
    ("a cancellation object", _property("cancellation", {"type": "object"}), True),
    ("task_id: optional", _optional("task_id"), False),
    ("task_id: absent", _absent("task_id"), False),
    ("task_id: an integer", _property("task_id", {"type": "integer"}), False),
    ("status: null", _property("status", {"type": ["string", "null"]}), False),
    ("status: an object", _property("status", {"type": "object"}), False),
    ("task_type: optional", _optional("task_type"), False),
    ("an array of tasks", lambda schemas, _: schemas.update(TaskResponse={"type": "array", "items": {}}), False),
]  # fmt: skip


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def fed(
    mock: MockServer, document: dict[str, Any], schema: str, code: int, check: Callable[[Any, Client], None]
) -> None:
    """Answer the client's calls with what a schema of a document allows, and check what comes of each."""
    with Client(api_key=mock.api_key, base_url=mock.url, max_retries=0) as client:

        @given(payload=values_of(schema, document))
        @settings(
            max_examples=20,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def feed(payload: Any) -> None:
            mock.fail_next(code, body=json.dumps(payload))
            check(payload, client)

        feed()


def same_task(payload: Any, client: Client) -> None:
    task = client.cancel_batch("bkt_1", "btch_1")
    assert task.to_dict() == payload
    assert (task.task_id, task.status, task.task_type) == tuple(payload[n] for n in ("task_id", "status", "task_type"))


@pytest.mark.parametrize(("change", "survives"), [case[1:] for case in TASK], ids=[case[0] for case in TASK])
def test_what_breaks_the_client_is_what_it_says(change: Change, survives: bool, mock: MockServer) -> None:
    """Fed with what a moved document allows, the client loses nothing, unless the drift says that it breaks."""
    theirs = changed(change)
    breaks = [finding for finding in findings(OURS, theirs) if finding.meaning == "breaks the client"]
    assert bool(breaks) is not survives
    if survives:
        fed(mock, theirs, "TaskResponse", 200, same_task)
    else:
        with pytest.raises((MixpeekError, ExceptionGroup)):
            fed(mock, theirs, "TaskResponse", 200, same_task)
        mock.clear_faults()


def test_the_client_survives_what_the_vendor_moved(mock: MockServer) -> None:
    """Tasks come out as they came in, and each error is the error of its status."""
    theirs = MOVED
    fed(mock, theirs, "TaskResponse", 200, same_task)
    for schema, code in [("ErrorResponse", 400), ("ErrorResponse", 500), ("Invalid", 422)]:

        def one_error(payload: Any, client: Client, code: int = code) -> None:
            with pytest.raises(APIStatusError) as caught:
                client.cancel_batch("bkt_1", "btch_1")
            assert caught.value.status_code == code
            assert isinstance(caught.value, UnprocessableEntityError) == (code == 422)
            assert caught.value.message
            assert caught.value.response.json() == payload

        fed(mock, theirs, schema, code, one_error)


def _code(code: str, answer: Any) -> Change:
    return lambda _, operation: operation["responses"].update({code: answer})


def _parameter(**parameter: Any) -> Change:
    return lambda _, operation: operation["parameters"].append(parameter)


def _namespace_required(schemas: dict[str, Any], operation: dict[str, Any]) -> None:
    operation["parameters"][2]["required"] = True


def _no_namespace(schemas: dict[str, Any], operation: dict[str, Any]) -> None:
    del operation["parameters"][2]


def _narrower_batch_id(schemas: dict[str, Any], operation: dict[str, Any]) -> None:
    operation["parameters"][1]["schema"] = {"type": "string", "pattern": "^btch_"}


FORCE = {"name": "force", "in": "query", "schema": {"type": "boolean"}}
HTML = {"description": "", "content": {"text/html": {}}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_parameter(**FORCE), [("query force", "new", None)]),
        (_parameter(**FORCE, required=True), [("query force", "breaks the client", "cancel")]),
        (_namespace_required, [("header X-Namespace", "breaks the client", "default-namespace")]),
        (_no_namespace, [("header X-Namespace", "breaks the contract", "unknown-namespace")]),
        (_narrower_batch_id, [("path batch_id", "breaks the contract", "generated-positive-data-acceptance")]),
        (_code("409", {"description": ""}), [("409", "breaks the contract", "documented-status")]),
        (_code("202", {"description": ""}), [("202", "breaks the client", "documented-status")]),
        (lambda _, operation: operation["responses"].pop("429"), [("429", "gone", None)]),
        (lambda _, operation: operation.update(deprecated=True), [("the operation", "gone", None)]),
        (lambda _, operation: operation.update(security=[]), [("the operation", "breaks the client", "cancel")]),
        (_values("TaskStatus", "NEW"), [("200 status", "breaks the contract", "task-schema")]),
        (_without("DRAFT"), [("200 status", "gone", None)]),
        (_without("CANCELED"), [("200 status", "breaks the contract", "task-canceled")]),
        (_optional("status"), [("200 status", "breaks the client", "task-schema")]),
        (
            _code("404", HTML),
            [("404 body", "breaks the contract", "content-type"), ("404 body", "breaks the contract", "content-type")],
        ),
    ],
)  # fmt: skip
def test_what_a_difference_means(change: Change, expected: list[tuple[str, str, str | None]]) -> None:
    assert rows(findings(OURS, changed(change))) == expected


def test_an_endpoint_that_is_gone() -> None:
    theirs = copy.deepcopy(OURS)
    theirs["paths"] = {"/v1/batches/{batch_id}/cancel": theirs["paths"][ENDPOINT]}
    assert rows(findings(OURS, theirs)) == [("the operation", "breaks the client", "cancel")]


def test_every_clause_that_is_named_exists() -> None:
    source = Path(drift.__file__).read_text()
    named = {name for name in CLAUSES if f'"{name}"' in source}
    assert named >= {"task-schema", "error-envelope", "documented-status", "content-type", "cancel", "task-canceled"}
    found = [finding for _, change, _ in TASK for finding in findings(OURS, changed(change))]
    assert {finding.clause for finding in found} - {None} <= CLAUSES.keys()


# The command.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Give a function that runs the command here, and returns its exit code, stdout and stderr."""

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

    same = subprocess.run(
        [sys.executable, "-m", "scripts.drift", "openapi.yaml"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (same.returncode, same.stderr) == (0, "")
    assert "no difference" in same.stdout


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


class _Vendor(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/openapi.json" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(OURS).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_from_a_url() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Vendor) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert drift.read(f"{url}/openapi.json") == OURS
        with pytest.raises(CompareError, match="answered 404"):
            drift.read(f"{url}/none")
        server.shutdown()
