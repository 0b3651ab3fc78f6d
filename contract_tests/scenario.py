"""One run of everything against one target."""

from __future__ import annotations

import time
from collections.abc import Collection

from mixpeek_batches.mock import MockServer

from . import fuzzing
from .api import Api
from .clause import Clause
from .clauses import CLAUSES
from .report import Report
from .session import Stopped
from .target import BatchRef, Target

MOCK_KEY = "sk_contract_Aa0Bb1Cc2Dd3"
KEY = f"{MOCK_KEY}Ee4"
"""A key that may not use every namespace."""

NAMESPACE = "contract_tests"


def run(
    target: Target, seed: int, *, clauses: Collection[Clause] = CLAUSES.values(), until: Collection[Clause] = ()
) -> Report:
    """Check every clause that a target allows to be checked.

    Args:
        target: What to check.
        seed: Makes the same run again.
        clauses: The clauses to call; those on each response are always checked.
        until: Clauses to stop at, once one of them is broken.

    Raises:
        ConfigError: If the target cannot be tested; nothing was checked.
    """
    report = Report(target, seed)
    api = Api(report)
    started = time.monotonic()
    with api.wire:
        api.greet()
        report.until = until
        try:
            report.watched = target.cancelable if target.mock else ()
            api.run("before", clauses)
            report.watched = ()
            api.run("cancelling", clauses)
            api.run("after", clauses)
            if any(clause.of == "generated" for clause in clauses):
                fuzzing.run(api)
            for clause in clauses:
                if clause.of == "run" and not clause.missing(target):
                    clause.function(report, report.checking(clause, None))
        except Stopped as reason:
            report.stopped = str(reason)
            report.last = [report.clean(request.curl(target.base_url)) for request in api.last]
    for result in report.having("not checked"):
        missing = result.clause.missing(target) or result.clause.needs or "a response to which it applies"
        result.why_not = report.stopped or missing
    report.seconds = time.monotonic() - started
    return report


def prepared_target(mock: MockServer) -> Target:
    """Add batches to a running mock, and return it as a target."""
    first, second = BatchRef("bkt_a", "btch_1"), BatchRef("bkt_b", "btch_2")
    completed, draft = BatchRef("bkt_a", "btch_9"), BatchRef("bkt_b", "btch_8")
    for batch, fields in (
        (first, {"status": "IN_PROGRESS", "inputs": ["a", {"b": 1}], "outputs": ["o"]}),
        (second, {"status": "PROCESSING", "additional_data": {"error": {"message": "no disk"}}}),
        (completed, {"status": "COMPLETED"}),
        (draft, {"status": "DRAFT"}),
    ):
        mock.add_batches(
            [{"bucket_identifier": batch.bucket, "batch_id": batch.batch, "namespace": NAMESPACE, **fields}]
        )
    mock.add_namespace("empty_one")
    mock.add_namespace("forbidden_one")
    mock.add_key(KEY, namespaces=["default", NAMESPACE, "empty_one"])
    return Target(
        name="the mock",
        base_url=mock.url,
        key=KEY,
        namespace=NAMESPACE,
        namespace_id=mock.add_namespace(NAMESPACE),
        other_namespace="empty_one",
        forbidden_namespace="forbidden_one",
        cancelable=(first, second),
        finished=(completed, draft),
        statuses={completed: "COMPLETED", draft: "DRAFT"},
        max_requests=2000,
        mock=mock,
    )
