"""`make chaos` in short: at a mock that fails a third of all attempts, what is reported is what happened."""

from __future__ import annotations

import pytest

from scripts import chaos


@pytest.mark.parametrize("name", ["AsyncClient.cancel_batches", "Client.cancel_batches, no retries"])
def test_chaos(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is reported exactly once, and as what it is at the mock."""
    monkeypatch.setattr("mixpeek_batches._retries.backoff", lambda _: 0.0)
    done = chaos.run(*chaos.RUNS[name], 100)
    assert done.wrong == []
    assert done.statuses.total() - done.statuses[200] >= 20


def test_false_reports_are_noticed() -> None:
    """A run that reports too much, too little or twice is not ok."""

    def lies(*_: object) -> chaos.Reports:
        return [("btch_0", True), ("btch_1", False), ("btch_1", False)]

    wrong = chaos.run(lies, chaos.ENOUGH, 3).wrong
    assert wrong[0].startswith("2 not reported exactly once")
    assert wrong[1:] == ["1 reported as cancelled that are not", "3 not CANCELED, 1 reported as failed"]
