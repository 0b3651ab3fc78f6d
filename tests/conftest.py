"""Fixtures that several test files share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings, or the proxy, of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("MIXPEEK_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
