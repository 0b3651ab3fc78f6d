"""What openapi.yaml cannot state, decided in one place. A clause fails, and names what is missing here."""

from __future__ import annotations

CANCELED = "CANCELED"
"""The status of a batch that was cancelled."""

CANCELABLE = ("PENDING", "IN_PROGRESS", "PROCESSING", "UNKNOWN")
"""The statuses from which a batch becomes CANCELED."""

FINISHED = ("DRAFT", "COMPLETED", "FAILED", "SKIPPED")
"""The statuses in which a batch refuses, and stays as it is."""

TASK_TYPE = "api_buckets_batches_process"
"""The type of the task of every batch."""

ONLY_BY_FAULT = {
    422: "the operation takes nothing that could be invalid and is not simply unknown",
    429: "the mock limits no rate unless it is asked to",
    500: "the mock does not fail by itself",
    503: "the mock is there as long as it runs",
}
"""Status codes that the mock sends only as a planned fault, and why nothing else leads to them."""

NEVER_SEEN: dict[str, str] = {}
"""Properties (`Schema.property`) and headers (`404 X-Name`) that no response of the mock has, and why not."""

WITHOUT_CLAUSES: dict[str, str] = {}
"""Operations, by operationId, that no clause is about, and why not."""
