"""A pytest plugin that pauses coverage where it takes time and shows nothing: `make test` would take twice as long.

Not measured are collection, for which all of src/ is loaded before; properties, which repeat an example; and tests that
reach src/ only as others do: those of contract_tests/, and of what scripts/ and docs/ hold.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import threading
from collections.abc import Iterator

import pytest

import mixpeek_batches

_TRACERS = sys.gettrace(), threading.gettrace()
_FOR_CHILDREN = "COVERAGE_PROCESS_CONFIG"
_NOT_OF_SRC = {
    f"test_{name}.py"
    for name in ("chaos", "compare", "docs", "drift", "gate", "generated", "openapi", "release", "workflows")
}


def _measure(is_on: bool) -> None:
    sys.settrace(_TRACERS[0] if is_on else None)
    threading.settrace(_TRACERS[1] if is_on else None)


for module in pkgutil.walk_packages(mixpeek_batches.__path__, "mixpeek_batches."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
_measure(False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure a test, and the processes that it starts, or neither."""
    is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    is_measured = not is_property and item.path.parent.name == "tests" and item.path.name not in _NOT_OF_SRC
    for_children = os.environ.pop(_FOR_CHILDREN, "")
    if is_measured:
        os.environ[_FOR_CHILDREN] = for_children
        _measure(True)
    try:
        return (yield)
    finally:
        _measure(False)
        os.environ[_FOR_CHILDREN] = for_children
