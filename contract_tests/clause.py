"""What a clause is: a function whose docstring states it, registered by a decorator that names its source."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from .requirements import Requirement
from .spec import CANCEL

if TYPE_CHECKING:
    from .target import Target

Provenance = Literal["documented", "published", "assumed", "suite"]
"""The source of a clause; suite: what makes a run mean something."""

Phase = Literal["before", "cancelling", "after"]
"""When requests are sent: before any batch is cancelled, when they are cancelled, and after that."""

Scope = Literal["api", "limiter", "anybody"]
"""Whose responses a clause holds for: the API's only, a rate limiter's too, or anybody's, a gateway's included."""

Check = Callable[[bool, object, object], object]
"""Takes whether a clause held, what was expected, and what was there instead."""


@attrs.frozen(eq=False)
class Clause:
    """One statement of the contract.

    Attributes:
        name: Its name in reports.
        sentence: What it states.
        provenance: Its source.
        requirements: What a target must offer for it to be checked.
        function: Checks it; does nothing where schemathesis does.
        phases: When it is called, if it sends requests itself.
        of: What it is checked on otherwise: each response, the run as a whole, or the requests of schemathesis.
        scope: Whose responses it holds for.
        operation: The operation that it is about.
    """

    name: str
    sentence: str
    provenance: Provenance
    requirements: tuple[Requirement, ...] = ()
    function: Callable[..., object] = lambda *_: None
    phases: tuple[Phase, ...] = ()
    of: Literal["response", "run", "generated"] | None = None
    scope: Scope = "api"
    operation: str = CANCEL.name

    @property
    def needs(self) -> str:
        """What a target must offer, in words."""
        return ", ".join(requirement.text for requirement in self.requirements)

    def missing(self, target: Target) -> str:
        """Return what a target does not offer of that, in words."""
        return ", ".join(requirement.text for requirement in self.requirements if not requirement.offered(target))


CLAUSES: dict[str, Clause] = {}


def _register(clause: Clause) -> Clause:
    assert clause.name not in CLAUSES, f"two clauses are called {clause.name}"
    CLAUSES[clause.name] = clause
    return clause


def clause(
    provenance: Provenance, *requirements: Requirement, phases: tuple[Phase, ...] = ("before",), **kind: Any
) -> Callable[[Callable[..., None]], Clause]:
    """Register a clause that sends requests and checks their responses, in the order of the file."""

    def register(function: Callable[..., None]) -> Clause:
        name = function.__name__.strip("_").replace("_", "-")
        sentence = inspect.cleandoc(function.__doc__ or "").replace("\n", " ")
        return _register(Clause(name, sentence, provenance, requirements, function, phases, **kind))

    return register


of_each_response = functools.partial(clause, phases=(), of="response")
"""Register a clause that is checked on each response, whatever was requested."""

of_the_run = functools.partial(clause, "suite", phases=(), of="run")
"""Register a clause that is checked on a run as a whole, at its end."""


def of_schemathesis(check: str, sentence: str) -> Clause:
    """Register a check of schemathesis as a clause."""
    return _register(Clause(f"generated-{check.replace('_', '-')}", sentence, "published", of="generated"))
