"""Every clause, and those that every single answer must keep."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from .exchange import Answer, Exchange
from .report import Clause, Report, key_forms
from .spec import RESPONSES, header_schema, mismatch

_DOOR = "a mock that the tests started, whose batches they can read"
_CANCELABLE = "a batch under cancelable"
_FINISHED = "a batch under finished"
_NAMED = f"{_CANCELABLE} or finished"

_ALL = [
    # What every answer keeps.
    Clause("answers", "Every request gets a whole HTTP answer.", "documented"),
    Clause("no-server-error", "No input, however long or odd, brings a 5xx.", "published"),
    Clause("documented-status", "A status is one that the contract has for the request.", "published"),
    Clause("framing", "A body is as long as its Content-Length says.", "documented"),
    Clause("content-type", "Every body is application/json.", "documented"),
    Clause("json", "Every body is JSON in UTF-8, whole and nothing after it.", "documented"),
    Clause("task-schema", "The body of a 200 is a TaskResponse.", "documented", _CANCELABLE),
    Clause("task-canceled", "The task of a 200 is CANCELED.", "published", _CANCELABLE),
    Clause("task-type", "The task's type is api_buckets_batches_process.", "assumed", _CANCELABLE),
    Clause(
        "error-message-due",
        'error_message is derived from additional_data["error"]: a string, an object\'s message, else its JSON.',
        "documented",
        "a cancelable batch whose task carries an error",
    ),
    Clause(
        "error-message-absent",
        'Without additional_data["error"], error_message is null or absent.',
        "documented",
        "a cancelable batch whose task carries no error",
    ),
    Clause("error-envelope", "The body of every error is the error envelope.", "published"),
    Clause("envelope-status", "In the envelope, status is the HTTP status and success is false.", "published"),
    Clause("www-authenticate", "A 401 carries WWW-Authenticate: Bearer.", "published"),
    Clause("allow", "A 405 carries Allow: POST.", "assumed"),
    Clause("retry-after", "A 429 and a 503 carry Retry-After.", "assumed", "a server that can be made to answer so"),
    Clause("key-not-repeated", "No answer, header or body, repeats the key.", "assumed"),
    # The key.
    Clause("no-key", "Without Authorization: 401.", "published"),
    Clause("other-scheme", "With another scheme than Bearer: 401.", "published"),
    Clause("key-in-full", "Keys are compared in full, case included: 401.", "published"),
    Clause("key-elsewhere", "A key in another header, the query or a cookie is none: 401.", "assumed"),
    Clause("scheme-any-case", "The scheme's name is good in any case.", "published"),
    Clause("style", "Header names in any case, any Accept, an unknown query: all the same.", "documented"),
    # The order of the checks.
    Clause("method", "Another method on the path: 405.", "assumed"),
    Clause("method-before-key", "Another method is 405 also without a key.", "assumed"),
    Clause("key-before-batch", "A wrong key is 401 also where namespace, bucket or batch are unknown.", "assumed"),
    Clause("key-before-status", "A wrong key is 401 also for a finished batch.", "assumed", _FINISHED),
    # Where batches are.
    Clause("unknown-path", "An unknown path: 404.", "published"),
    Clause("unknown-batch", "An unknown batch in a known bucket: 404.", "published"),
    Clause("unknown-bucket", "A known batch in an unknown bucket: 404.", "published", _NAMED),
    Clause("other-bucket", "A batch of another known bucket: 404.", "published", "batches in two buckets"),
    Clause("identifier-in-full", "Identifiers are compared in full: 404 for a longer one.", "published", _NAMED),
    Clause("unknown-namespace", "A known batch in an unknown namespace: 404.", "published", _NAMED),
    Clause("other-namespace", "A batch of another namespace: 404.", "published", f"other_namespace, and {_NAMED}"),
    Clause("forbidden-namespace", "A namespace that the key may not use: 403.", "published", "forbidden_namespace"),
    Clause("namespace-by-id", "A namespace may be given by its id.", "documented", f"namespace_id, and {_CANCELABLE}"),
    Clause(
        "default-namespace",
        "Without X-Namespace, the key's default namespace is meant.",
        "documented",
        f"{_CANCELABLE}, in the key's default namespace (leave namespace out)",
    ),
    Clause("odd-identifiers", "Odd, long and non-ASCII identifiers that nobody has: 404.", "published"),
    Clause("odd-namespaces", "Odd, long and non-ASCII namespaces that nobody has: 404.", "published"),
    Clause("opaque-identifiers", "Identifiers with / ? # % and any Unicode arrive as sent.", "assumed", _DOOR),
    # Cancelling.
    Clause("cancel", "A batch that can be cancelled: 200.", "documented", _CANCELABLE),
    Clause("cancel-every-status", "PENDING, IN_PROGRESS, PROCESSING, UNKNOWN: 200.", "published", _DOOR),
    Clause("canceled-afterwards", "After a 200 the batch is CANCELED.", "published", _DOOR),
    Clause("task-kept", "The task keeps its task_id, inputs, outputs and additional data.", "assumed", _DOOR),
    Clause("idempotent", "Cancelled again, it gives 200 and the same task, field by field.", "assumed", _CANCELABLE),
    Clause(
        "idempotent-simultaneous",
        "Of many simultaneous cancels all give 200 and the same task.",
        "assumed",
        "a second batch under cancelable",
    ),
    Clause("one-task-each", "Two batches have two tasks.", "assumed", "a second batch under cancelable"),
    Clause("finished", "A finished batch: 400.", "assumed", _FINISHED),
    Clause("finished-every-status", "DRAFT, COMPLETED, FAILED, SKIPPED: 400.", "assumed", _DOOR),
    Clause("finished-details", "The details of that 400 name the batch's status.", "assumed", _FINISHED),
    Clause("finished-unchanged", "A finished batch stays as it was.", "assumed", _FINISHED),
    Clause("refusal-changes-nothing", "A request that is refused cancels nothing.", "published", _DOOR),
    # That the run means something.
    Clause("every-status-seen", "Every status that the target can be brought to was seen.", "suite"),
    Clause("not-blind", "At least half of the generated requests address batches that exist.", "suite", _NAMED),
]
CLAUSES = {clause.name: clause for clause in _ALL}

SCHEMATHESIS = {
    "not_a_server_error": "no generated request brings a 5xx",
    "status_code_conformance": "generated requests get documented statuses",
    "content_type_conformance": "generated requests get documented content types",
    "response_headers_conformance": "generated requests get the documented headers",
    "response_schema_conformance": "generated requests get bodies of the documented schemas",
    "negative_data_rejection": "invalid data is refused",
    "positive_data_acceptance": "valid data is not refused as invalid",
    "unsupported_method": "other methods get 405 with Allow",
    "ignored_auth": "requests without the key, or with a wrong one, are refused",
}
CLAUSES |= {
    f"generated-{name.replace('_', '-')}": Clause(
        f"generated-{name.replace('_', '-')}", f"Schemathesis, {name}: {sentence}.", "published"
    )
    for name, sentence in SCHEMATHESIS.items()
}


def derived_error(additional_data: object) -> tuple[bool, Any]:
    """Tell whether an error message is due, and which: a string, or the value whose JSON it must be."""
    error = additional_data.get("error") if isinstance(additional_data, dict) else None
    if error is None:
        return False, None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return True, error["message"]
    return True, error


def observe(report: Report, exchange: Exchange) -> None:
    """Check what every answer must keep."""
    request, answer = exchange.request, exchange.answer
    report.requests += 1
    report.statuses[answer.status] = report.statuses.get(answer.status, 0) + 1
    if request.extreme and not answer.timed_out and (answer.failure or _is_refusal(request.extreme, answer.status)):
        _check_secrets(report, exchange)  # a server may refuse this before it comes to the contract
        return
    if not report.check("answers", answer.failure is None, exchange, "a whole answer", answer.failure or ""):
        return
    induced = request.clause == "every-status-seen"
    report.check("no-server-error", answer.status < 500 or induced, exchange, "a status below 500", answer.status)
    report.check("documented-status", _has_status(request.method, answer.status), exchange, _statuses(), answer.status)
    _check_secrets(report, exchange)
    if request.method == "HEAD":
        return  # whose answers have no body

    media = (answer.header("content-type") or "none").replace(" ", "").lower()
    good = re.fullmatch(r'application/json(;charset="?utf-8"?)?;?', media) is not None
    report.check("content-type", good, exchange, "application/json", answer.header("content-type"))
    try:
        body = answer.json()
    except ValueError as error:
        report.check("json", False, exchange, "JSON", f"{error}: {_start(answer)}")
        body = None
    else:
        report.check("json", True, exchange, "", "")
    if 200 <= answer.status < 300:
        _check_task(report, exchange, body)
    else:
        _check_error(report, exchange, body)


def _is_refusal(extreme: str, status: int) -> bool:
    if extreme == "path":
        return 300 <= status < 500 or status == 501  # frameworks redirect what is nearly a path of theirs
    return status in {400, 413, 414, 431} or (extreme == "odd" and 400 <= status < 500 and status != 401)


def _has_status(method: str, status: int) -> bool:
    return status in RESPONSES if method == "POST" else status in {405, 404, 429}


def _statuses() -> str:
    return f"one of {', '.join(map(str, RESPONSES))}, and 405 for other methods than POST"


def _start(answer: Answer) -> str:
    return repr(answer.body[:120].decode("utf-8", "replace"))


def _check_secrets(report: Report, exchange: Exchange) -> None:
    answer, key = exchange.answer, report.target.key
    sent = (exchange.request.header("authorization") or b"").decode("latin-1").rpartition(" ")[2]
    secrets = [*key_forms(key), *([sent] if len(sent) >= max(8, len(key) * 3 // 4) else [])]
    texts = [answer.reason, *(text for header in answer.headers for text in header)]
    raw = answer.body.decode("utf-8", "replace")
    texts.append(raw)
    with contextlib.suppress(ValueError, RecursionError):
        texts += _strings(json.loads(raw))  # what JSON may have escaped
    # Header names come in lower case here.
    shown = any(secret in text or secret.lower() == text for text in texts for secret in secrets)
    report.check("key-not-repeated", not shown, exchange, "no key in the answer", "the key, in some form")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        with contextlib.suppress(ValueError, RecursionError):
            if value[:1] in {"{", "[", '"'}:  # JSON inside a string
                yield from _strings(json.loads(value))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _check_task(report: Report, exchange: Exchange, body: Any) -> None:
    if exchange.answer.status != 200:
        return  # documented-status says it
    wrong = mismatch("TaskResponse", body)
    report.check("task-schema", wrong is None, exchange, "a TaskResponse", wrong or "")
    if not isinstance(body, dict):
        return
    status, type_ = body.get("status"), body.get("task_type")
    report.check("task-canceled", status == "CANCELED", exchange, "status CANCELED", repr(status))
    wanted = "api_buckets_batches_process"
    report.check("task-type", type_ == wanted, exchange, f"task_type {wanted}", repr(type_))
    due, expected = derived_error(body.get("additional_data"))
    message = body.get("error_message")
    if due:
        ok = message == expected if isinstance(expected, str) else _same_json(message, expected)
        report.check("error-message-due", ok, exchange, f"error_message {expected!r}", repr(message))
    else:
        report.check("error-message-absent", message is None, exchange, "error_message null", repr(message))


def _same_json(text: object, value: object) -> bool:
    try:
        if not isinstance(text, str) or re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", text)):
            return False
        return json.dumps(json.loads(text), sort_keys=True) == json.dumps(value, sort_keys=True)  # 1 is not true
    except ValueError:
        return False


def _check_error(report: Report, exchange: Exchange, body: Any) -> None:
    status = exchange.answer.status
    wrong = mismatch("ErrorResponse", body)
    report.check("error-envelope", wrong is None, exchange, "the error envelope", wrong or "")
    if isinstance(body, dict):
        ok = body.get("status") == status and body.get("success") is False
        got = f"success {body.get('success')!r}, status {body.get('status')!r}"
        report.check("envelope-status", ok, exchange, f"success false, status {status}", got)
    if status == 401:
        _check_header(report, exchange, "www-authenticate", 401, "WWW-Authenticate")
    if status in {429, 503}:
        _check_header(report, exchange, "retry-after", status, "Retry-After")
    if status == 405:
        allowed = {method.strip().upper() for method in (exchange.answer.header("allow") or "").split(",")}
        # Frameworks may add the two methods that say nothing about the endpoint.
        report.check(
            "allow", allowed - {"HEAD", "OPTIONS"} == {"POST"}, exchange, "Allow: POST", exchange.answer.header("allow")
        )


def _check_header(report: Report, exchange: Exchange, clause: str, status: int, name: str) -> None:
    value = exchange.answer.header(name.lower())
    ok = value is not None and re.search(header_schema(status, name)["pattern"], value) is not None
    report.check(clause, ok, exchange, f"a valid {name}", repr(value))
