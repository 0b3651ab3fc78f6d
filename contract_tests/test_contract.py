"""The contract, clause by clause: of the mock, or of a server that a configuration file describes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .clauses import CLAUSES
from .render import explained
from .report import Report


@pytest.mark.parametrize("name", CLAUSES)
def test_clause(report: Report, name: str, record_property: Callable[[str, object], None]) -> None:
    """The clause holds; one that could not be checked is skipped by name, with what it would need."""
    clause = CLAUSES[name]
    result = report.results[clause]
    record_property("provenance", clause.provenance)
    record_property("sentence", clause.sentence)
    record_property("checks", result.checks)
    if result.state == "not checked":
        pytest.skip(f"{name} is not checked: needs {result.why_not}")
    if result.state == "broken":
        pytest.fail(explained(result), pytrace=False)


def test_run_is_whole(report: Report) -> None:
    """A run that ended early, or in which no clause could be checked, is no pass."""
    if report.stopped:
        pytest.fail("\n".join([report.stopped, *report.last]), pytrace=False)
    assert report.having("held")
