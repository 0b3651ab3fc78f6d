"""One run of everything against one target."""

from __future__ import annotations

import time
from collections.abc import Collection

from mixpeek_batches.mock import MockServer

from . import generated
from .behaviour import Behaviour
from .clauses import CLAUSES, observe
from .exchange import Exchange, Wire
from .report import Report
from .target import Exhausted, Place, Session, Target

MOCK_KEY = "sk_contract_Aa0Bb1Cc2Dd3"


def run(target: Target, seed: int, *, until: Collection[str] = ()) -> tuple[Report, list[Exchange]]:
    """Check every clause that a target allows to be checked.

    Args:
        target: What to check.
        seed: Makes the same run again.
        until: Clauses to stop at, once one of them is broken.

    Returns:
        What was found, and every exchange in the order in which it happened.
    """
    report = Report(target, seed, CLAUSES)
    session = Session(target, lambda exchange: observe(report, exchange), seed)

    def stop(name: str) -> None:
        if name in until:
            session.exhausted = f"{name} to hold"

    report.on_broken = stop
    started = time.monotonic()
    try:
        with Wire(target.base_url) as wire:
            behaviour = Behaviour(session, report, wire)
            behaviour.run()
        generated.run(session, report, behaviour.tasks)
    except Exhausted as reason:
        for name in report.findings:
            report.skip(name, str(reason))
    else:
        _sum_up(report)
    for name, finding in report.findings.items():
        if finding.state == "not checked" and finding.why_not is None:
            report.skip(name, finding.clause.needs or "an answer to which it applies")
    report.seconds = time.monotonic() - started
    return report, session.exchanges


def _sum_up(report: Report) -> None:
    target = report.target
    reachable = {401, 404, 405}
    if target.cancelable:
        reachable.add(200)
    if target.finished:
        reachable.add(400)
    if target.forbidden_namespace is not None:
        reachable.add(403)
    if target.door is not None:
        reachable |= {200, 400, 403, 422, 429, 500, 503}
    unseen = sorted(reachable - set(report.statuses))
    report.check("every-status-seen", not unseen, None, f"all of {sorted(reachable)}", f"never seen: {unseen}")
    if target.cancelable or target.finished:
        share = report.reached / max(report.generated, 1)
        report.check("not-blind", share >= 0.5, None, "half or more", f"{report.reached} of {report.generated}")


def furnish(mock: MockServer) -> Target:
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
        max_requests=2000,
        door=mock,
    )
