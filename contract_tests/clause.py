"""What a clause is: a function whose docstring says it, registered by a decorator that says who else does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from .spec import CANCEL

if TYPE_CHECKING:
    from .conversation import Conversation
    from .report import Report
    from .target import Target
    from .wire import Exchange

Provenance = Literal["documented", "published", "assumed", "suite"]
"""The source of a clause; suite: what makes a run mean something."""

Check = Callable[[bool, object, object], bool]
"""Takes whether a clause held, what it demands and what was there instead; gives back the first."""


@attrs.frozen
class Need:
    """Something that a target must offer for a clause to be checked."""

    text: str
    offered: Callable[[Target], object]


CANCELABLE = Need("a batch under cancelable", lambda target: target.cancelable)
FINISHED = Need("a batch under finished", lambda target: target.finished)
NAMED = Need("a batch under cancelable or finished", lambda target: target.known)
SECOND = Need("a second batch under cancelable", lambda target: target.cancelable[1:])
TWO_BUCKETS = Need("batches in two buckets", lambda target: len({place.bucket for place in target.known}) > 1)
OTHER_NAMESPACE = Need("other_namespace", lambda target: target.other_namespace)
FORBIDDEN_NAMESPACE = Need("forbidden_namespace", lambda target: target.forbidden_namespace)
NAMESPACE_ID = Need("namespace_id", lambda target: target.namespace_id)
DEFAULT_NAMESPACE = Need(
    "batches in the key's default namespace (leave namespace out)", lambda t: t.namespace is None or t.mock
)
OWN_ACCOUNT = Need("own_account = true", lambda target: target.own_account)
A_LIMIT = Need("a server that can be made to answer so", lambda target: True)
AN_ERROR = Need("a cancelable batch whose task carries an error", lambda target: target.cancelable)
NO_ERROR = Need("a cancelable batch whose task carries no error", lambda target: target.cancelable)
A_MOCK = Need("a mock that the tests started, whose batches they can read", lambda target: target.mock is not None)


@attrs.frozen(eq=False)
class Clause:
    """One thing that the contract says.

    Attributes:
        function: Checks it; its name and docstring are the clause's.
        provenance: Its source.
        demands: What a target must offer for it to be checked.
        when: What calls it: a step of the scenario, every answer, the end of a run, or schemathesis.
        scope: Whose answers it holds of, besides the API's own: a rate limiter's, or anybody's, a gateway's included.
        operation: The operation that it is about.
    """

    function: Callable[..., Any]
    provenance: Provenance
    demands: tuple[Need, ...]
    when: Literal["step", "answer", "end", "generated"]
    scope: Literal["api", "limiter", "anybody"] = "api"
    operation: str = CANCEL.name

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.function.__name__.strip("_").replace("_", "-")

    @property
    def sentence(self) -> str:
        """What it says."""
        return inspect.cleandoc(self.function.__doc__ or "").replace("\n", " ")

    @property
    def needs(self) -> str:
        """What a target must offer, in words."""
        return ", ".join(need.text for need in self.demands)

    def missing(self, target: Target) -> str:
        """Say what of that a target does not offer."""
        return ", ".join(need.text for need in self.demands if not need.offered(target))


CLAUSES: dict[str, Clause] = {}


def _register(clause: Clause) -> Clause:
    assert clause.name not in CLAUSES, f"two clauses are called {clause.name}"
    CLAUSES[clause.name] = clause
    return clause


def clause(provenance: Provenance, *demands: Need) -> Callable[[Callable[[Conversation], None]], Clause]:
    """Register a step of the scenario: it sends requests, and checks what comes back."""
    return lambda function: _register(Clause(function, provenance, demands, "step"))


def of_every_answer(
    provenance: Provenance, *demands: Need, scope: Literal["api", "limiter", "anybody"] = "api"
) -> Callable[[Callable[[Exchange, Check], None]], Clause]:
    """Register what is checked of each answer, whatever was asked."""
    return lambda function: _register(Clause(function, provenance, demands, "answer", scope))


def at_the_end(*demands: Need) -> Callable[[Callable[[Report, Check], None]], Clause]:
    """Register what is checked of a run as a whole."""
    return lambda function: _register(Clause(function, "suite", demands, "end"))


def by_schemathesis(provenance: Provenance) -> Callable[[Callable[[], None]], Clause]:
    """Register a check of schemathesis, `generated_` and its name."""
    return lambda function: _register(Clause(function, provenance, (), "generated"))
