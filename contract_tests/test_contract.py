"""The contract, clause by clause: of the mock, of a server in a process of its own, or of the real API."""

from __future__ import annotations

import pytest

from .clauses import CLAUSES
from .conftest import Result
from .render import explained


@pytest.mark.parametrize("name", CLAUSES)
def test_clause(result: Result, name: str) -> None:
    """The clause holds; one that could not be checked is skipped by name, with what it would need."""
    finding = result.report.findings[name]
    if finding.state == "not checked":
        pytest.skip(f"{name} is not checked: needs {finding.why_not}")
    if finding.state == "broken":
        pytest.fail(explained(finding), pytrace=False)


def test_something_was_checked(result: Result) -> None:
    """A run in which no clause could be checked is no pass."""
    assert result.report.having("held")
