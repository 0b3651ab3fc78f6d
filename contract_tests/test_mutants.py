"""Every mutant is caught by a clause that names its breach; the mock without one passes whatever the seed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from .clauses import CLAUSES
from .mutants import HARMLESS, MUTANTS, Mutant, MutantServer
from .report import ClauseResult, Report
from .scenario import prepared_target, run

ONE_OF_EACH_KIND = (
    "HEAD gets a body",  # bytes on the wire
    "half of each body",  # a fault
    "401 without WWW-Authenticate",  # a response
    "GET will do",  # a request
    "identifiers in any case",  # a comparison
    "the connection keeps the key",  # what is remembered
    "a refusal that cancels",  # the state behind the server
    "under load, one gets the task of another",  # what happens at once
)


def run_mutant(name: str, seed: int) -> tuple[Report, list[ClauseResult]]:
    """Run everything against a mutant, from outside unless only the state shows it.

    Returns:
        The report, and the results of those clauses that should notice and did.
    """
    mutant = MUTANTS[name]
    with MutantServer(mutant) as mock:
        target = prepared_target(mock)
        report = run(target if mutant.needs_state else attrs.evolve(target, mock=None), seed, until=mutant.clauses)
    return report, [result for result in report.having("broken") if result.clause in mutant.clauses]


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_breach_of_each_kind_is_noticed(name: str, seed: int) -> None:
    """A few mutants, so that every run of the tests shows that the contract tests can fail."""
    report, caught_by = run_mutant(name, seed)
    assert caught_by, f"only {report.broken} noticed"


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, seed: int, record_property: Any) -> None:
    """The breach is noticed, from outside wherever it can be seen from there."""
    report, caught_by = run_mutant(name, seed)
    names = ", ".join(result.clause.name for result in caught_by)
    after = min((result.after for result in caught_by), default=0)
    record_property("mutant", {"mutant": name, "caught_by": names, "after": after, "seconds": report.seconds})
    assert caught_by, f"only {report.broken} noticed"


@pytest.mark.mutants
@pytest.mark.parametrize("from_outside", [True, False])
@pytest.mark.parametrize("number", range(20))
def test_no_false_alarm(number: int, from_outside: bool, seed: int) -> None:
    """The mock without a breach passes, with and without a look at its state, also behind what makes breaches."""
    with MutantServer(Mutant(change=lambda _: None) if number % 2 else None) as mock:
        target = prepared_target(mock)
        report = run(attrs.evolve(target, mock=None) if from_outside else target, seed + number)
    assert [(result.clause.name, result.breach) for result in report.having("broken")] == []
    assert not report.stopped


@pytest.mark.mutants
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_left_open_is_no_breach(name: str, seed: int) -> None:
    """A correct server need not decide as the mock does where the contract says nothing."""
    with MutantServer(HARMLESS[name]) as mock:
        report = run(attrs.evolve(prepared_target(mock), mock=None), seed)
    assert [(result.clause.name, result.breach) for result in report.having("broken")] == []
    assert not report.stopped


def test_every_clause_has_a_mutant() -> None:
    """Every clause was seen to fail, but for schemathesis's own and those on the run itself."""
    caught_by = {clause for mutant in MUTANTS.values() for clause in mutant.clauses}
    exempted = {clause for clause in CLAUSES.values() if clause.of == "generated" or clause.provenance == "suite"}
    assert {clause.name for clause in CLAUSES.values()} - {clause.name for clause in caught_by | exempted} == set()
