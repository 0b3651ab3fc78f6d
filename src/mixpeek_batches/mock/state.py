"""What the mock knows: batches, namespaces and keys, beside planned faults, limits and the requests so far."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from mixpeek_batches_api.models import TaskStatus

from mixpeek_batches.errors import ConfigurationError

from .batch import CANCELABLE, DEFAULT_NAMESPACE, Batch
from .checks import call_with_fields, check_text
from .faults import FaultPlan
from .limits import Limits
from .requests import RequestLog
from .responses import MockResponse, error_response

DEFAULT_KEY = "sk_mock_0123456789abcdef"


@attrs.frozen
class _Key:
    default_namespace: str
    namespaces: frozenset[str] | None  # None: all


class MockState(FaultPlan, RequestLog):
    """What the mock knows. A change applies from the next request on. Safe to use from any thread.

    Args:
        api_key: The key that may use every namespace.
        batches: Batches to start with, each as the arguments of `add_batch` by name.

    Attributes:
        api_key: The key that may use every namespace.
        limits: How many requests are accepted before the response is 429, and how many are in flight.
        on_request: Called with each request just before its response is sent.

    Raises:
        ConfigurationError: If an argument is invalid, here and in every method.
    """

    def __init__(self, *, api_key: str = DEFAULT_KEY, batches: Iterable[object] = ()) -> None:
        FaultPlan.__init__(self)
        RequestLog.__init__(self)
        self.api_key = check_text(api_key, "api_key")
        self._lock = threading.RLock()
        self._first_batches = _batches(batches)
        self.reset()

    def reset(self) -> None:
        """Return to the initial state: the API key and the batches that the mock was created with."""
        with self._lock:
            self.limits = Limits()
            self._names: dict[str, str] = {}  # of namespaces, by name and by id
            self._buckets: set[tuple[str, str]] = set()
            self._batches: dict[tuple[str, str, str], Batch] = {}  # as they were added
            self._canceled: dict[tuple[str, str, str], MockResponse] = {}  # the responses of those cancelled since
            self._keys = {self.api_key.encode(): _Key(DEFAULT_NAMESPACE, None)}
            self.clear_faults()
            self.clear_requests()
            self.add_namespace(DEFAULT_NAMESPACE)
            self._add(self._first_batches)

    def add_namespace(self, name: str, *, namespace_id: str | None = None) -> str:
        """Add a namespace, or change the id of one.

        Args:
            name: Its name.
            namespace_id: Its id; by default, one derived from the name.

        Returns:
            Its id.
        """
        check_text(name, "name")
        if namespace_id is None:
            namespace_id = "ns_" + hashlib.sha256(name.encode()).hexdigest()[:10]
        check_text(namespace_id, "namespace_id")
        with self._lock:
            other = self._names.get(namespace_id, name)
            if other != name:
                raise ConfigurationError(f"namespace_id {namespace_id!r} belongs to namespace {other!r} already.")
            if name in self._names:  # its id before is an id no longer
                self._names = {key: value for key, value in self._names.items() if value != name}
            self._names |= {namespace_id: name, name: name}
        return namespace_id

    def add_key(self, key: str, *, namespaces: Sequence[str], default: str | None = None) -> None:
        """Add a key that may use some namespaces only and gets 403 in others, or change what a key may use.

        Args:
            key: The key.
            namespaces: Names or ids of the namespaces that it may use, at least one; new ones are added.
            default: The namespace of requests that name none; by default, the first.
        """
        check_text(key, "key")
        if not isinstance(namespaces, list | tuple) or not namespaces:
            raise ConfigurationError("namespaces must be a list of at least one name.")
        for name in namespaces:
            check_text(name, "a name in namespaces")
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
        """Add a batch, replacing one of the same namespace, bucket and identifier.

        Args:
            bucket_identifier: The bucket that holds it; a bucket exists as soon as it holds a batch.
            batch_id: Its identifier.
            status: The status of its task, a value of TaskStatus.
            namespace: The name or id of its namespace, which is added if it is new; `default` by default.
            inputs: What its task works on, strings or JSON objects.
            outputs: What its task has produced so far, strings or JSON objects.
            additional_data: More about its task, a JSON object; `error` in it becomes the task's error message.
            task_id: The identifier of its task; a new one by default.
        """
        batch = Batch(bucket_identifier, batch_id, status, namespace, inputs, outputs, additional_data, task_id)
        return self._add([batch])[0]

    def add_batches(self, batches: Iterable[object]) -> list[Batch]:
        """Add batches given as the arguments of `add_batch` by name: all of them, or none if one is invalid."""
        return self._add(_batches(batches))

    def _add(self, batches: list[Batch]) -> list[Batch]:
        added = []
        with self._lock:
            for batch in batches:
                name = self._added_namespace(batch.namespace)
                address = name, batch.bucket_identifier, batch.batch_id
                self._batches[address] = batch if batch.namespace == name else attrs.evolve(batch, namespace=name)
                self._buckets.add((name, batch.bucket_identifier))
                self._canceled.pop(address, None)
                added.append(self._now(address))
        return added

    def batch(self, bucket_identifier: str, batch_id: str, *, namespace: str | None = None) -> Batch:
        """Return a batch as it is now.

        Raises:
            ConfigurationError: If there is none.
        """
        name_or_id = namespace or DEFAULT_NAMESPACE
        with self._lock:
            address = self._names.get(name_or_id, ""), bucket_identifier, batch_id
            if address in self._batches:
                return self._now(address)
        where = f"bucket {bucket_identifier!r} of namespace {name_or_id!r}"
        raise ConfigurationError(f"The mock holds no batch {batch_id!r} in {where}: add it with add_batch.")

    @property
    def batches(self) -> list[Batch]:
        """All batches as they are now, in the order in which they were first added."""
        with self._lock:
            return [self._now(address) for address in self._batches]

    def _now(self, address: tuple[str, str, str]) -> Batch:
        """Return a copy of a batch as it is now."""
        batch = self._batches[address]
        return attrs.evolve(batch, status=TaskStatus.CANCELED if address in self._canceled else batch.status)

    def counts(self) -> dict[str, int]:
        """Return how many batches, planned faults and requests there are, without copying them."""
        return {"batches": len(self._batches), "faults": len(self._planned), "requests": len(self._requests)}

    def limit_rate(self, requests_per_second: float | None, burst: int = 1) -> None:
        """Respond to requests beyond a rate with 429 and a Retry-After in whole seconds, as a token bucket does.

        Every request to the API counts, before it is looked at and before any fault.

        Args:
            requests_per_second: The rate, such as 5 or 0.5; None removes the limit.
            burst: How many may come at once after a pause.
        """
        self.limits.limit_rate(requests_per_second, burst)

    def limit_concurrency(self, concurrency: int | None) -> None:
        """Respond with 429 and a Retry-After of 1 to requests that arrive while so many are in flight.

        A request is in flight from when it has arrived in full until its response is sent or its client is gone. Since
        the mock is quick, that takes a latency fault:
        `fail_randomly(1.0, faults=[{"fault": "latency", "seconds": 0.1}])`.

        Args:
            concurrency: How many; None removes the limit.
        """
        self.limits.limit_concurrency(concurrency)

    def cancel(
        self, authorization: bytes | None, namespace: str | None, bucket_identifier: str, batch_id: str
    ) -> MockResponse:
        """Cancel a batch or refuse to, in the order of checks that the contract assumes.

        Args:
            authorization: The Authorization header.
            namespace: The X-Namespace header, decoded.
            bucket_identifier: From the path, decoded.
            batch_id: From the path, decoded.
        """
        # No response repeats anything that was sent: it might contain a key.
        with self._lock:
            key = self._key(authorization)
            if key is None:
                return error_response(401)
            name = key.default_namespace if namespace is None else self._names.get(namespace)
            if name is None:
                return error_response(404, "Namespace not found.", details={"resource": "namespace"})
            if key.namespaces is not None and name not in key.namespaces:
                return error_response(403, details={"resource": "namespace"})
            address = name, bucket_identifier, batch_id
            if response := self._canceled.get(address):
                return response
            if (name, bucket_identifier) not in self._buckets:
                return error_response(404, "Bucket not found.", details={"resource": "bucket"})
            batch = self._batches.get(address)
            if batch is None:
                return error_response(404, "Batch not found.", details={"resource": "batch"})
            if batch.status not in {*CANCELABLE, TaskStatus.CANCELED}:
                status = batch.status.value
                return error_response(400, f"A batch that is {status} cannot be cancelled.", details={"status": status})
            task = {**batch.task(), "status": TaskStatus.CANCELED.value}
            response = self._canceled[address] = MockResponse(200, json.dumps(task).encode())
            return response

    def _key(self, authorization: bytes | None) -> _Key | None:
        scheme, _, token = (authorization or b"").partition(b" ")
        return self._keys.get(token.lstrip(b" ")) if scheme.lower() == b"bearer" else None

    def _added_namespace(self, name_or_id: str) -> str:
        """Return the name of a namespace, which is added if it is new."""
        if name_or_id not in self._names:
            self.add_namespace(name_or_id)
        return self._names[name_or_id]


def _batches(batches: Iterable[object]) -> list[Batch]:
    """Make batches of the arguments of `add_batch` by name."""
    made = []
    for number, fields in enumerate(batches, 1):
        try:
            made.append(call_with_fields(Batch, fields))
        except ConfigurationError as error:
            raise ConfigurationError(f"Batch {number}: {error}") from None
    return made
