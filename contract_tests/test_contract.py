"""The contract, clause by clause: of the mock, of a server in a process of its own, or of the real API."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .clauses import CLAUSES
from .conftest import Result
from .render import explained


@pytest.mark.parametrize("name", CLAUSES)
def test_clause(result: Result, name: str, record_property: Callable[[str, object], None]) -> None:
    """The clause holds; one that could not be checked is skipped by name, with what it would need."""
    clause = CLAUSES[name]
    finding = result.report.findings[clause]
    record_property("provenance", clause.provenance)
    record_property("sentence", clause.sentence)
    record_property("checks", finding.checks)
    if finding.state == "not checked":
        pytest.skip(f"{name} is not checked: needs {finding.why_not}")
    if finding.state == "broken":
        pytest.fail(explained(finding), pytrace=False)


def test_run_is_whole(result: Result) -> None:
    """A run that ended early, or in which no clause could be checked, is no pass."""
    if result.report.stopped:
        pytest.fail("\n".join([result.report.stopped, *result.report.last]), pytrace=False)
    assert result.report.having("held")
