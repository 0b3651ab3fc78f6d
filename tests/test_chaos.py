"""`make chaos` in short: at a mock that fails a third of all attempts, what is reported is what happened."""

from __future__ import annotations

import pytest

from scripts import chaos


@pytest.mark.parametrize(
    "name", ["AsyncClient.cancel_batches", "Client.cancel_batches, no retries", "cancel --from, SIGKILL, --resume"]
)
def test_chaos(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is reported exactly once, and as what it is at the mock; `make chaos` runs all there are."""
    monkeypatch.setattr("mixpeek_batches._retries.backoff", lambda _: 0.0)
    work, max_retries = chaos.RUNS[name]
    report = chaos.run(name, work, 150, max_retries)
    assert report.wrong == []
    assert report.answers.total() - report.answers[200] >= 30


def test_report_that_is_wrong() -> None:
    """A run that reports too much, too little or twice is told."""

    def lies(*_: object) -> list[tuple[str, bool]]:
        return [("btch_0", True), ("btch_1", False), ("btch_1", False)]

    wrong = chaos.run("lies", lies, 3, chaos.ENOUGH).wrong
    assert wrong[0].startswith("2 not reported exactly once")
    assert wrong[1:] == ["1 reported as cancelled that are not", "3 not CANCELED, 1 reported as failed"]
