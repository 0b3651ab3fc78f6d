"""The pytest fixture `mixpeek_mock`, which pytest discovers once the package is installed.

It is outside `mixpeek_batches.mock` so that a test run that does not use it does not import a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .mock import MockServer


@pytest.fixture(scope="session")
def _mixpeek_mock_server() -> Iterator[MockServer]:
    from .mock import MockServer  # noqa: PLC0415 - see above

    with MockServer() as server:
        yield server


@pytest.fixture
def mixpeek_mock(_mixpeek_mock_server: MockServer) -> MockServer:
    """A mock of the Mixpeek API on a port of this machine, empty at the start of each test.

    The server is started once per session and reset before each test, so that a test costs next to nothing; if a test
    stops it, it is started again on another port.
    """
    if not _mixpeek_mock_server.running:
        _mixpeek_mock_server.start()
    _mixpeek_mock_server.reset()
    _mixpeek_mock_server.on_request = None
    return _mixpeek_mock_server
