"""Every mutant is caught by a clause that names its breach; the mock without one passes whatever the seed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from .clauses import CLAUSES
from .mutants import MUTANTS, MutantServer
from .suite import furnish, run

pytestmark = pytest.mark.mutants


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, seed: int, record_property: Any) -> None:
    """The breach is noticed, from outside wherever it can be seen from there."""
    mutant = MUTANTS[name]
    with MutantServer(mutant) as mock:
        target = furnish(mock)
        report, _ = run(target if mutant.door else attrs.evolve(target, door=None), seed, until=mutant.clauses)
    broken = [finding for finding in report.having("broken") if finding.clause.name in mutant.clauses]
    after = min((finding.after or 0 for finding in broken), default=0)
    names = ", ".join(finding.clause.name for finding in broken)
    record_property("mutant", {"mutant": name, "caught_by": names, "after": after, "seconds": report.seconds})
    assert broken, f"only {[finding.clause.name for finding in report.having('broken')]} noticed"


@pytest.mark.parametrize("number", range(20))
def test_no_false_alarm(number: int, seed: int) -> None:
    """The mock without a breach passes, with and without a look behind it."""
    with MutantServer(None) as mock:
        target = furnish(mock)
        report, _ = run(target if number % 2 else attrs.evolve(target, door=None), seed + number)
    assert [(finding.clause.name, finding.breach) for finding in report.having("broken")] == []


def test_every_clause_has_a_mutant() -> None:
    """No clause is there that was never seen to fail, but for schemathesis's own and those on the run itself."""
    caught = {clause for mutant in MUTANTS.values() for clause in mutant.clauses}
    own = {name for name in CLAUSES if name.startswith("generated-") or CLAUSES[name].provenance == "suite"}
    assert set(CLAUSES) - own - caught == set()
