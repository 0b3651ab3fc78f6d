"""What the mock knows: batches, namespaces, keys, faults, limits and the requests so far."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import attrs
from mixpeek_batches_api.models import TaskStatus, TaskType

from mixpeek_batches.errors import ConfigurationError

from .checks import call_with_fields, checked_items, checked_json, checked_text, is_whole
from .faults import EVERY_FAULT, Fault, RandomFaults
from .limits import Limits
from .responses import MockResponse, error_response

CANCELABLE = frozenset({TaskStatus.PENDING, TaskStatus.IN_PROGRESS, TaskStatus.PROCESSING, TaskStatus.UNKNOWN})
"""The statuses from which a batch becomes CANCELED; one that is CANCELED stays so, and all others refuse."""

DEFAULT_KEY = "sk_mock_0123456789abcdef"
DEFAULT_NAMESPACE = "default"
_MOST_FAULTS = 1_000_000
KEPT_REQUESTS = 10_000
"""How many requests the mock remembers: the last ones."""


@attrs.frozen(kw_only=True)
class Batch:
    """A batch as it is at the moment; cancelling makes another Batch and leaves this one as it was.

    Attributes:
        bucket_identifier: The bucket that holds it.
        batch_id: Its identifier.
        namespace: The name of its namespace.
        status: How far its task has come.
        task_id: Its task's identifier.
        inputs: What its task works on.
        outputs: What its task has made so far.
        additional_data: More about its task.
    """

    bucket_identifier: str
    batch_id: str
    namespace: str
    status: TaskStatus
    task_id: str
    inputs: list[str | dict[str, Any]]
    outputs: list[str | dict[str, Any]]
    additional_data: dict[str, Any] | None

    @classmethod
    def of(
        cls,
        bucket_identifier: str,
        batch_id: str,
        *,
        status: str = TaskStatus.PENDING,
        namespace: str | None = None,
        inputs: Sequence[str | dict[str, Any]] = (),
        outputs: Sequence[str | dict[str, Any]] = (),
        additional_data: dict[str, Any] | None = None,
        task_id: str | None = None,
    ) -> Self:
        """Make a batch of the arguments of `MockState.add_batch`.

        Raises:
            ConfigurationError: One of them may not be used.
        """
        known = [member.value for member in TaskStatus]
        if status not in known:
            raise ConfigurationError(f"status {status!r} is not one of {', '.join(known)}.")
        if not (additional_data is None or isinstance(additional_data, dict)):
            raise ConfigurationError("additional_data must be a JSON object or null.")
        return cls(
            bucket_identifier=checked_text(bucket_identifier, "bucket_identifier"),
            batch_id=checked_text(batch_id, "batch_id"),
            namespace=DEFAULT_NAMESPACE if namespace is None else checked_text(namespace, "namespace"),
            status=TaskStatus(status),
            task_id=f"task_{uuid.uuid4().hex}" if task_id is None else checked_text(task_id, "task_id"),
            inputs=checked_items(inputs, "inputs"),
            outputs=checked_items(outputs, "outputs"),
            additional_data=checked_json(additional_data, "additional_data"),
        )

    @property
    def error_message(self) -> str | None:
        """What `error` in the additional data says, in one string."""
        error = (self.additional_data or {}).get("error")
        if error is None or isinstance(error, str):
            return error
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            return str(error["message"])
        return json.dumps(error, separators=(",", ":"), ensure_ascii=False)

    def task(self) -> dict[str, Any]:
        """Give the task as the endpoint answers it."""
        return copy.deepcopy(self._task())

    def _task(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "task_type": TaskType.API_BUCKETS_BATCHES_PROCESS.value,
            "status": self.status.value,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "additional_data": self.additional_data,
            "error_message": self.error_message,
        }

    def to_dict(self) -> dict[str, Any]:
        """Give the batch as `/_mock/batches` shows it and `add_batch` takes it."""
        return {**attrs.asdict(self, recurse=False), "status": self.status.value}


@attrs.define(kw_only=True)
class RecordedRequest:
    """A request that the mock got on the API's side.

    Attributes:
        method: The HTTP method.
        path: The path as it was sent, percent-encoded.
        bucket_identifier: The bucket that the path names, decoded; None on a path that is not the endpoint's.
        batch_id: The batch that the path names, likewise.
        namespace: The `X-Namespace` header, decoded; None without one.
        headers: All headers, names in lower case; the value of Authorization is left out.
        status_code: The answer's HTTP status code; None if there was no answer.
    """

    method: str
    path: str
    bucket_identifier: str | None
    batch_id: str | None
    namespace: str | None
    headers: dict[str, str]
    status_code: int | None = None


@attrs.frozen
class _Key:
    default: str
    namespaces: frozenset[str] | None  # None: all


class MockState:
    """What the mock knows; a change counts from the next request on. Safe to use from any thread.

    Args:
        api_key: The key that may use every namespace.
        batches: Batches to start with, each as the arguments of `add_batch` by name.

    Attributes:
        api_key: The key that may use every namespace.
        limits: How many requests are taken before the answer is 429, and how many are in flight.
        on_request: Called with each request once it is answered.

    Raises:
        ConfigurationError: An argument may not be used.
    """

    def __init__(self, *, api_key: str = DEFAULT_KEY, batches: Iterable[object] = ()) -> None:
        self.api_key = checked_text(api_key, "api_key")
        self.on_request: Callable[[RecordedRequest], None] | None = None
        self._lock = threading.RLock()
        self._counter = itertools.count(1)
        self._faults: deque[Fault] = deque()
        self._random_faults: RandomFaults | None = None
        self._first_batches = _batches(batches)
        self.reset()

    def reset(self) -> None:
        """Go back to the start: forget everything but the key and the batches that were given then."""
        with self._lock:
            self.limits = Limits()
            self._namespaces: dict[str, str] = {}
            self._names_by_id: dict[str, str] = {}
            self._batches: dict[tuple[str, str, str], Batch] = {}
            self._canceled: dict[tuple[str, str, str], MockResponse] = {}
            self._buckets: set[tuple[str, str]] = set()
            self._keys = {self.api_key.encode(): _Key(DEFAULT_NAMESPACE, None)}
            self._requests: deque[RecordedRequest] = deque(maxlen=KEPT_REQUESTS)
            self.clear_faults()
            self.add_namespace(DEFAULT_NAMESPACE)
            self._add(self._first_batches)

    def add_namespace(self, name: str, *, namespace_id: str | None = None) -> str:
        """Add a namespace, or give it another id.

        Args:
            name: Its name.
            namespace_id: Its id; without it, one that follows from the name.

        Returns:
            Its id.

        Raises:
            ConfigurationError: An argument is no string, or empty, or the id is another namespace's.
        """
        checked_text(name, "name")
        if namespace_id is None:
            namespace_id = "ns_" + hashlib.sha256(name.encode()).hexdigest()[:10]
        checked_text(namespace_id, "namespace_id")
        with self._lock:
            other = self._names_by_id.get(namespace_id, name)
            if other != name:
                raise ConfigurationError(f"namespace_id {namespace_id!r} is the id of namespace {other!r} already.")
            self._names_by_id.pop(self._namespaces.get(name, ""), None)
            self._namespaces[name] = namespace_id
            self._names_by_id[namespace_id] = name
        return namespace_id

    def add_key(self, key: str, *, namespaces: Sequence[str], default: str | None = None) -> None:
        """Add a key that may use some namespaces only, and is answered with 403 in others; or change what one may use.

        Args:
            key: The key.
            namespaces: Names or ids of the namespaces that it may use, at least one; those that are new are added.
            default: The one for requests that name none; without it, the first.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        checked_text(key, "key")
        if not isinstance(namespaces, list | tuple) or not namespaces:
            raise ConfigurationError("namespaces must be a list of at least one name.")
        for name in namespaces:
            checked_text(name, "a name in namespaces")
        if default is not None and default not in namespaces:
            raise ConfigurationError(f"default {default!r} is not one of namespaces.")
        with self._lock:
            names = {name: self._added_namespace(name) for name in namespaces}
            self._keys[key.encode()] = _Key(names[default or namespaces[0]], frozenset(names.values()))

    def add_batch(
        self,
        bucket_identifier: str,
        batch_id: str,
        *,
        status: str = TaskStatus.PENDING,
        namespace: str | None = None,
        inputs: Sequence[str | dict[str, Any]] = (),
        outputs: Sequence[str | dict[str, Any]] = (),
        additional_data: dict[str, Any] | None = None,
        task_id: str | None = None,
    ) -> Batch:
        """Add a batch, in place of one of the same namespace, bucket and identifier.

        Args:
            bucket_identifier: The bucket that holds it; a bucket exists as soon as it holds a batch.
            batch_id: Its identifier.
            status: How far its task has come, a value of TaskStatus.
            namespace: The name or id of its namespace, which is added if it is new; without it, `default`.
            inputs: What its task works on, strings or JSON objects.
            outputs: What its task has made so far, likewise.
            additional_data: More about its task, a JSON object; `error` in it becomes the task's error message.
            task_id: Its task's identifier; without it, a new one.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        batch = Batch.of(
            bucket_identifier,
            batch_id,
            status=status,
            namespace=namespace,
            inputs=inputs,
            outputs=outputs,
            additional_data=additional_data,
            task_id=task_id,
        )
        return copy.deepcopy(self._add([batch])[0])

    def add_batches(self, batches: Iterable[object]) -> list[Batch]:
        """Add batches given as the arguments of `add_batch` by name: all of them, or none if one may not be used.

        Raises:
            ConfigurationError: One may not be used; says which, counted from 1.
        """
        return copy.deepcopy(self._add(_batches(batches)))

    def _add(self, batches: list[Batch]) -> list[Batch]:
        added = []
        with self._lock:
            for batch in batches:
                name = self._added_namespace(batch.namespace)
                added.append(batch if batch.namespace == name else attrs.evolve(batch, namespace=name))
                address = name, batch.bucket_identifier, batch.batch_id
                self._batches[address] = added[-1]
                self._canceled.pop(address, None)
                self._buckets.add((name, batch.bucket_identifier))
        return added

    def batch(self, bucket_identifier: str, batch_id: str, *, namespace: str | None = None) -> Batch:
        """Give a batch as it is now.

        Raises:
            ConfigurationError: There is none.
        """
        with self._lock:
            name = self._namespace(namespace or DEFAULT_NAMESPACE)
            batch = self._batches.get((name or "", bucket_identifier, batch_id))
        if batch is None:
            where = f"bucket {bucket_identifier!r} of namespace {namespace or DEFAULT_NAMESPACE!r}"
            raise ConfigurationError(f"The mock holds no batch {batch_id!r} in {where}: add it with add_batch.")
        return copy.deepcopy(batch)

    @property
    def batches(self) -> list[Batch]:
        """All batches as they are now, in the order in which they were first added."""
        with self._lock:
            return copy.deepcopy(list(self._batches.values()))

    def counts(self) -> dict[str, int]:
        """Tell how many batches, planned faults and requests there are, at once however many."""
        with self._lock:
            return {"batches": len(self._batches), "faults": len(self._faults), "requests": len(self._requests)}

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last requests on the API's side, oldest first, at most KEPT_REQUESTS of them."""
        with self._lock:
            return list(self._requests)

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._requests.clear()

    def fail_next(
        self,
        fault: int | str,
        *,
        times: int = 1,
        retry_after: float | str | None = None,
        seconds: float | None = None,
        body: Any = None,
        acted: bool = False,
    ) -> None:
        """Make the next requests on the API's side go wrong; called again, it plans what goes wrong after that.

        Args:
            fault: An HTTP status code from 200 to 599, to answer with the error envelope (or with `body`); or
                `"latency"`: act at once, and answer after `seconds`;
                `"reset"`: reset the connection without an answer;
                `"truncated"`: act, and send half of the answer's body;
                `"malformed"`: act, and send a whole body that is not valid JSON.
            times: How many requests, up to a million.
            retry_after: The Retry-After header of an answer by status, any number or text, however wrong; 429 and 503
                have one of 1 without it.
            seconds: How long `"latency"` waits.
            body: The body of an answer by status, as JSON, or a string to send as it is.
            acted: Whether the mock carries the request out before it answers by status or resets.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        if not is_whole(times, 1, _MOST_FAULTS):
            raise ConfigurationError(f"times must be a whole number from 1 to {_MOST_FAULTS:,}.")
        plan = Fault.of(fault, retry_after=retry_after, seconds=seconds, body=body, acted=acted)
        with self._lock:
            self._faults.extend([plan] * times)

    def fail_randomly(
        self, rate: float, *, faults: Sequence[Mapping[str, Any]] = EVERY_FAULT, seed: int | None = None
    ) -> None:
        """Make a share of all requests on the API's side go wrong, from now on; what `fail_next` plans goes first.

        Args:
            rate: The share, from 0 to 1.
            faults: What may go wrong, each as the arguments of `fail_next` by name but for `times`; one is drawn.
            seed: Makes the draw the same each time.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        random_faults = RandomFaults(rate, faults, seed)
        with self._lock:
            self._random_faults = random_faults

    @property
    def faults(self) -> list[Fault]:
        """What is planned to go wrong, next first."""
        with self._lock:
            return list(self._faults)

    def clear_faults(self) -> None:
        """Plan nothing to go wrong."""
        with self._lock:
            self._faults.clear()
            self._random_faults = None

    def next_fault(self) -> Fault | None:
        """Take the next planned fault, if there is one."""
        if not self._faults and self._random_faults is None:
            return None
        with self._lock:
            if self._faults:
                return self._faults.popleft()
            return None if self._random_faults is None else self._random_faults.draw()

    def limit_rate(self, requests_per_second: float | None, burst: int = 1) -> None:
        """Answer requests beyond a rate with 429 and a Retry-After of whole seconds, as a token bucket does.

        Every request on the API's side counts, before anything else is looked at and before any fault.

        Args:
            requests_per_second: The rate, such as 5 or 0.5; None takes the limit away.
            burst: How many may come at once after a pause.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        self.limits.limit_rate(requests_per_second, burst)

    def limit_concurrency(self, concurrency: int | None) -> None:
        """Answer with 429 and a Retry-After of 1 what comes while so many requests are in flight.

        A request is in flight from when all of it has come until its answer has been sent, or its client is gone. Since
        the mock is quick, that takes a latency fault:
        `fail_randomly(1.0, faults=[{"fault": "latency", "seconds": 0.1}])`.

        Args:
            concurrency: How many; None takes the limit away.

        Raises:
            ConfigurationError: The argument may not be used.
        """
        self.limits.limit_concurrency(concurrency)

    def record(self, request: RecordedRequest) -> str:
        """Remember a request, and give it an id."""
        self._requests.append(request)
        return f"req_{next(self._counter)}"

    def answered(self, request: RecordedRequest, status_code: int | None) -> None:
        """Note how a request was answered; None for not at all."""
        request.status_code = status_code
        if self.on_request is not None:
            self.on_request(request)

    def cancel(
        self, authorization: bytes | None, namespace: str | None, bucket_identifier: str, batch_id: str
    ) -> MockResponse:
        """Cancel a batch, or say why not, in the order of checks that the contract assumes.

        Args:
            authorization: The Authorization header.
            namespace: The X-Namespace header, decoded.
            bucket_identifier: From the path, decoded.
            batch_id: Likewise.
        """
        # No answer repeats what was sent: somebody may have put a key there.
        with self._lock:
            key = self._key(authorization)
            if key is None:
                return error_response(401)
            name = key.default if namespace is None else self._namespace(namespace)
            if name is not None and key.namespaces is not None and name not in key.namespaces:
                return error_response(403, details={"resource": "namespace"})
            if name is None or name not in self._namespaces:
                return error_response(404, "Namespace not found.", details={"resource": "namespace"})
            address = name, bucket_identifier, batch_id
            if response := self._canceled.get(address):
                return response
            if (name, bucket_identifier) not in self._buckets:
                return error_response(404, "Bucket not found.", details={"resource": "bucket"})
            batch = self._batches.get(address)
            if batch is None:
                return error_response(404, "Batch not found.", details={"resource": "batch"})
            if batch.status in CANCELABLE:
                batch = self._batches[address] = attrs.evolve(batch, status=TaskStatus.CANCELED)
            if batch.status is not TaskStatus.CANCELED:
                status = batch.status.value
                return error_response(400, f"A batch that is {status} cannot be cancelled.", details={"status": status})
            response = self._canceled[address] = MockResponse(200, json.dumps(batch._task()).encode())
            return response

    def _key(self, authorization: bytes | None) -> _Key | None:
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return self._keys.get(token.lstrip(b" "))

    def _added_namespace(self, name_or_id: str) -> str:
        """Find the name of a namespace, or add one of this name."""
        name = self._namespace(name_or_id)
        if name is None:
            self.add_namespace(name_or_id)
        return name or name_or_id

    def _namespace(self, name_or_id: str) -> str | None:
        """Find the name of a namespace."""
        if name_or_id in self._namespaces:
            return name_or_id
        return self._names_by_id.get(name_or_id)


def _batches(batches: Iterable[object]) -> list[Batch]:
    """Make batches of the arguments of `add_batch` by name."""
    made = []
    for number, batch in enumerate(batches, 1):
        try:
            made.append(call_with_fields(Batch.of, batch))
        except ConfigurationError as refusal:
            raise ConfigurationError(f"Batch {number}: {refusal}") from None
    return made
