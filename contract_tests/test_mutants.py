"""Every mutant is caught by a clause that names its breach; the mock without one passes whatever the seed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from .clauses import CLAUSES
from .mutants import HARMLESS, MUTANTS, Mutant, MutantServer
from .scenario import REFUSE_FIRST, THEN_CANCEL, THEN_OF_CANCELED, WITH_A_LOOK_BEHIND, prepared_target, run

pytestmark = pytest.mark.mutants


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, seed: int, record_property: Any) -> None:
    """The breach is noticed, from outside wherever it can be seen from there."""
    mutant = MUTANTS[name]
    with MutantServer(mutant) as mock:
        target = prepared_target(mock)
        report, _ = run(target if mutant.look_behind else attrs.evolve(target, mock=None), seed, until=mutant.clauses)
    broken = [finding for finding in report.having("broken") if finding.clause in mutant.clauses]
    after = min((finding.after or 0 for finding in broken), default=0)
    names = ", ".join(finding.clause.name for finding in broken)
    record_property("mutant", {"mutant": name, "caught_by": names, "after": after, "seconds": report.seconds})
    assert broken, f"only {report.broken} noticed"


@pytest.mark.parametrize("look_behind", [True, False])
@pytest.mark.parametrize("number", range(20))
def test_no_false_alarm(number: int, look_behind: bool, seed: int) -> None:
    """The mock without a breach passes, with and without a look behind it, and behind what breaches are made with."""
    with MutantServer(Mutant((), answer=lambda _: None) if number % 2 else None) as mock:
        target = prepared_target(mock)
        report, _ = run(target if look_behind else attrs.evolve(target, mock=None), seed + number)
    assert [(finding.clause.name, finding.breach) for finding in report.having("broken")] == []


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_left_open_is_no_breach(name: str, seed: int) -> None:
    """A correct server need not decide as the mock does where the contract says nothing."""
    with MutantServer(HARMLESS[name]) as mock:
        report, _ = run(attrs.evolve(prepared_target(mock), mock=None), seed)
    assert [(finding.clause.name, finding.breach) for finding in report.having("broken")] == []


def test_every_clause_has_a_mutant() -> None:
    """No clause is there that was never seen to fail, but for schemathesis's own and those on the run itself."""
    caught = {clause for mutant in MUTANTS.values() for clause in mutant.clauses}
    own = {clause for clause in CLAUSES.values() if clause.when == "generated" or clause.provenance == "suite"}
    assert {clause.name for clause in CLAUSES.values() if clause not in own | caught} == set()


def test_every_step_is_in_the_scenario() -> None:
    """A clause that sends requests is called somewhere."""
    called = {*REFUSE_FIRST, *THEN_CANCEL, *THEN_OF_CANCELED, *WITH_A_LOOK_BEHIND}
    assert {clause.name for clause in CLAUSES.values() if clause.when == "step" and clause not in called} == set()
