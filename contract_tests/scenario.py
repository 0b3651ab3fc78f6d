"""One run of everything against one target, and the order in which it happens."""

from __future__ import annotations

import time
from collections.abc import Collection

from mixpeek_batches.mock import MockServer

from . import clauses as c
from . import fuzzing
from .clause import Clause
from .conversation import Conversation
from .report import Report
from .session import Session, Stopped
from .target import Place, Target
from .wire import Exchange

REFUSE_FIRST = (
    c.unknown_batch, c.unknown_path, c.framing,
    c.no_key, c.other_scheme, c.key_in_full, c.key_elsewhere, c.scheme_any_case, c.connection_remembers_nothing,
    c.key_before_batch, c.key_before_status,
    c.method, c.method_before_key, c.method_tells_nothing,
    c.style, c.namespace_elsewhere, c.accept, c.body_means_nothing, c.length_unannounced,
    c.finished, c.finished_details, c.finished_unchanged,
    c.unknown_bucket, c.other_bucket, c.identifier_in_full, c.identifier_exact,
    c.unknown_namespace, c.namespace_exact, c.other_namespace, c.forbidden_namespace, c.elsewhere_tells_nothing,
    c.near_path, c.odd_identifiers, c.odd_namespaces, c.refusal_changes_nothing,
)  # fmt: skip
"""While every batch can still be cancelled: nothing here may do it."""

THEN_CANCEL = (c.cancel, c.idempotent_simultaneous, c.idempotent, c.one_task_each, c.task_is_no_batch, c.no_mixing)

THEN_OF_CANCELED = (
    c.namespace_by_id, c.default_namespace, c.framing, c.no_key, c.scheme_any_case, c.header_twice,
    c.unknown_bucket, c.other_bucket, c.unknown_namespace, c.other_namespace, c.forbidden_namespace,
    c.elsewhere_tells_nothing, c.finished, c.finished_unchanged,
)  # fmt: skip
"""That a batch is cancelled, or others are, makes it visible nowhere else."""

WITH_A_LOOK_BEHIND = (
    c.opaque_identifiers, c.cancel_every_status, c.canceled_afterwards, c.task_kept, c.finished_every_status, c.faults,
)  # fmt: skip
"""On a mock of ours alone."""

MOCK_KEY = "sk_contract_Aa0Bb1Cc2Dd3"


def run(target: Target, seed: int, *, until: Collection[Clause] = ()) -> tuple[Report, list[Exchange]]:
    """Check every clause that a target allows to be checked.

    Args:
        target: What to check.
        seed: Makes the same run again.
        until: Clauses to stop at, once one of them is broken.

    Returns:
        What was found, and every exchange in the order in which it happened.

    Raises:
        ConfigError: The target cannot be tested; nothing was checked.
    """
    report = Report(target, seed)
    session = Session(target, report.observe, seed)
    report.requests = session.kinds

    def stop(clause: Clause) -> None:
        if clause in until:
            session.stopped = f"{clause.name} to hold"

    started = time.monotonic()
    with session.wire:
        session.greet()
        report.on_broken = stop
        talk = Conversation(session, report)
        try:
            report.watching = True
            talk.run(REFUSE_FIRST)
            report.watching = False
            talk.run(THEN_CANCEL)
            talk.run(THEN_OF_CANCELED)
            talk.run(WITH_A_LOOK_BEHIND)
            fuzzing.run(talk)
            for clause in report.findings:
                if clause.when == "end" and not clause.missing(target):
                    clause.function(report, report.checking(clause, None))
        except Stopped as reason:
            report.stopped = str(reason)
            report.last = [report.clean(request.curl(target.base_url)) for request in session.last]
    for clause, finding in report.findings.items():
        if finding.state == "not checked":
            missing = clause.missing(target) or clause.needs or "an answer to which it applies"
            report.skip(clause, report.stopped or missing)
    report.seconds = time.monotonic() - started
    return report, session.exchanges


def prepared_target(mock: MockServer) -> Target:
    """Put batches into a running mock, and make it a target."""
    namespace = "contract_tests"
    places = [Place("bkt_a", "btch_1"), Place("bkt_b", "btch_2"), Place("bkt_a", "btch_9")]
    mock.add_batch("bkt_a", "btch_1", status="IN_PROGRESS", namespace=namespace, inputs=["a", {"b": 1}], outputs=["o"])
    mock.add_batch(
        "bkt_b", "btch_2", status="PROCESSING", namespace=namespace, additional_data={"error": {"message": "no disk"}}
    )
    mock.add_batch("bkt_a", "btch_9", status="COMPLETED", namespace=namespace)
    mock.add_namespace("empty_one")
    mock.add_namespace("forbidden")
    key = f"{MOCK_KEY}_some"
    mock.add_key(key, namespaces=["default", namespace, "empty_one"])
    return Target(
        name="the mock",
        base_url=mock.url,
        key=key,
        namespace=namespace,
        namespace_id=mock.add_namespace(namespace),
        other_namespace="empty_one",
        forbidden_namespace="forbidden",
        cancelable=tuple(places[:2]),
        finished=tuple(places[2:]),
        statuses={places[2]: "COMPLETED"},
        max_requests=2000,
        mock=mock,
    )
