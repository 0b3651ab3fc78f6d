"""A stateful mock of the endpoint, for tests of code that cancels batches. Needs the [mock] extra."""

try:
    import starlette as _starlette  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"The mock needs {_error.name}: pip install 'mixpeek-batches[mock]'", name=_error.name
    ) from None

from .app import MockApp, create_app
from .batch import Batch
from .faults import Fault
from .limits import Limits
from .requests import RecordedRequest
from .server import MockServer
from .state import MockState

__all__ = ["Batch", "Fault", "Limits", "MockApp", "MockServer", "MockState", "RecordedRequest", "create_app"]
