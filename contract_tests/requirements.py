"""What a target must offer for a clause to be checked."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from .target import Target


@attrs.frozen
class Requirement:
    """Something that a target must offer, in words, and whether it does."""

    text: str
    offered: Callable[[Target], object]


CANCELABLE = Requirement("a batch under cancelable", lambda target: target.cancelable)
FINISHED = Requirement("a batch under finished", lambda target: target.finished)
NAMED = Requirement("a batch under cancelable or finished", lambda target: target.known)
SECOND = Requirement("a second batch under cancelable", lambda target: target.cancelable[1:])
TWO_BUCKETS = Requirement("batches in two buckets", lambda target: len({batch.bucket for batch in target.known}) > 1)
OTHER_NAMESPACE = Requirement("other_namespace", lambda target: target.other_namespace)
FORBIDDEN_NAMESPACE = Requirement("forbidden_namespace", lambda target: target.forbidden_namespace)
NAMESPACE_ID = Requirement("namespace_id", lambda target: target.namespace_id)
DEFAULT_NAMESPACE = Requirement(
    "batches in the key's default namespace (leave namespace out)",
    lambda target: target.namespace is None or target.mock,
)
OWN_ACCOUNT = Requirement("own_account = true", lambda target: target.own_account)
A_LIMIT = Requirement("a server that can be made to send 429 or 503", lambda target: True)
AN_ERROR = Requirement("a cancelable batch whose task carries an error", lambda target: target.cancelable)
NO_ERROR = Requirement("a cancelable batch whose task carries no error", lambda target: target.cancelable)
A_MOCK = Requirement("a mock that the tests started, whose batches they can read", lambda target: target.mock)
