"""What openapi.yaml cannot say, decided in this one place. A clause fails, and names what is missing here."""

from __future__ import annotations

CANCELED = "CANCELED"
"""The status of a batch that was cancelled."""

CANCELABLE = ("PENDING", "IN_PROGRESS", "PROCESSING", "UNKNOWN")
"""The statuses from which a batch becomes CANCELED."""

FINISHED = ("DRAFT", "COMPLETED", "FAILED", "SKIPPED")
"""The statuses in which a batch refuses, and stays as it is."""

TASK_TYPE = "api_buckets_batches_process"
"""The type of the task of every batch."""

ONLY_WHEN_TOLD = {
    422: "the operation takes nothing that could be invalid and is not simply unknown",
    429: "the mock limits nobody who did not ask for it",
    500: "the mock does not fail by itself",
    503: "the mock is there as long as it runs",
}
"""Status codes that the mock answers only when a test tells it to, and why nothing else brings them about."""

NEVER_SEEN: dict[str, str] = {}
"""Properties (`Schema.property`) and headers (`404 X-Name`) that no answer of the mock carries, and why not."""

WITHOUT_CLAUSES: dict[str, str] = {}
"""Operations, by operationId, that no clause is about, and why not."""
