"""What the mock knows, and what it answers: the behaviour of the endpoint, without a network."""

from __future__ import annotations

import copy
import hashlib
import hmac
import inspect
import itertools
import json
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import attrs
from mixpeek_batches_api.models import TaskStatus, TaskType

from mixpeek_batches.errors import ConfigurationError

from .faults import Fault

CANCELABLE = frozenset({TaskStatus.PENDING, TaskStatus.IN_PROGRESS, TaskStatus.PROCESSING, TaskStatus.UNKNOWN})
"""The statuses from which a batch becomes CANCELED; one that is CANCELED stays so, and all others refuse."""

DEFAULT_KEY = "sk_mock_0123456789abcdef"
DEFAULT_NAMESPACE = "default"
_MOST_FAULTS = 1_000_000
_DEEPEST_JSON = 100
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
            bucket_identifier=_text(bucket_identifier, "bucket_identifier"),
            batch_id=_text(batch_id, "batch_id"),
            namespace=DEFAULT_NAMESPACE if namespace is None else _text(namespace, "namespace"),
            status=TaskStatus(status),
            task_id=f"task_{uuid.uuid4().hex}" if task_id is None else _text(task_id, "task_id"),
            inputs=_items(inputs, "inputs"),
            outputs=_items(outputs, "outputs"),
            additional_data=_json(additional_data, "additional_data"),
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
        return {
            "task_id": self.task_id,
            "task_type": TaskType.API_BUCKETS_BATCHES_PROCESS.value,
            "status": self.status.value,
            "inputs": copy.deepcopy(self.inputs),
            "outputs": copy.deepcopy(self.outputs),
            "additional_data": copy.deepcopy(self.additional_data),
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


@attrs.frozen(kw_only=True)
class Answer:
    """An answer of the endpoint: an HTTP status code, a JSON body, and headers besides those of every answer."""

    status_code: int
    body: Any
    headers: Mapping[str, str] = attrs.field(factory=dict)


ERRORS: dict[int, tuple[str, str]] = {
    400: ("BadRequestError", "The request cannot be carried out."),
    401: ("UnauthorizedError", "The API key is missing or unknown."),
    403: ("ForbiddenError", "This API key may not use the namespace."),
    404: ("NotFoundError", "Not found."),
    405: ("MethodNotAllowedError", "Only POST is allowed here."),
    422: ("ValidationError", "The request is not valid."),
    429: ("RateLimitError", "Too many requests."),
    500: ("InternalServerError", "Internal server error."),
    503: ("ServiceUnavailableError", "Service unavailable."),
}
"""By HTTP status code: the type in the error envelope, and a message."""


def error(
    status_code: int,
    message: str | None = None,
    *,
    details: dict[str, Any] | None = None,
    retry_after: float | str | None = None,
) -> Answer:
    """Make an answer that is the error envelope, with the headers that the contract demands for its status."""
    type_, usual = ERRORS.get(status_code, ("HTTPError", f"HTTP status {status_code}."))
    headers = {}
    if status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status_code == 405:
        headers["Allow"] = "POST"
    if retry_after is None and status_code in {429, 503}:
        retry_after = 1
    if retry_after is not None:
        whole = isinstance(retry_after, float) and retry_after.is_integer()
        headers["Retry-After"] = str(int(retry_after) if whole else retry_after)
    body = {"success": False, "status": status_code}
    return Answer(
        status_code=status_code,
        body={**body, "error": {"message": message or usual, "type": type_, "details": details}},
        headers=headers,
    )


EVERY_FAULT: tuple[Mapping[str, Any], ...] = (
    {"fault": 503, "retry_after": 0},
    {"fault": 429, "retry_after": 0},
    {"fault": 500},
    {"fault": 502, "acted": True},
    {"fault": "reset"},
    {"fault": "reset", "acted": True},
    {"fault": "truncated"},
    {"fault": "latency", "seconds": 0.2},
)
"""What `fail_randomly` draws from: all that a client can live through by trying again."""

_NO_CHANCE: tuple[float, list[Fault], random.Random] = (0.0, [], random.Random(0))  # noqa: S311


@attrs.frozen
class _Key:
    default: str
    namespaces: frozenset[str] | None  # None: all


class MockState:
    """Batches, namespaces, keys, planned faults, and the requests so far. Safe to use from any thread."""

    def __init__(self, *, api_key: str = DEFAULT_KEY) -> None:
        """Start with no batches.

        Args:
            api_key: The key that may use every namespace.
        """
        self.api_key = _text(api_key, "api_key")
        self.on_request: Callable[[RecordedRequest], None] | None = None
        self._lock = threading.RLock()
        self._counter = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        """Forget everything but the key that may use every namespace."""
        with self._lock:
            self._namespaces: dict[str, str] = {}
            self._batches: dict[tuple[str, str, str], Batch] = {}
            self._buckets: set[tuple[str, str]] = set()
            self._keys = {self.api_key.encode(): _Key(DEFAULT_NAMESPACE, None)}
            self._faults: deque[Fault] = deque()
            self._chance = _NO_CHANCE
            self._requests: deque[RecordedRequest] = deque(maxlen=KEPT_REQUESTS)
            self.add_namespace(DEFAULT_NAMESPACE)

    def add_namespace(self, name: str, *, namespace_id: str | None = None) -> str:
        """Add a namespace, or give it another id.

        Args:
            name: Its name.
            namespace_id: Its id; without it, one that follows from the name.

        Returns:
            Its id.

        Raises:
            ConfigurationError: An argument is no string, or empty.
        """
        _text(name, "name")
        if namespace_id is None:
            namespace_id = "ns_" + hashlib.sha256(name.encode()).hexdigest()[:10]
        with self._lock:
            self._namespaces[name] = _text(namespace_id, "namespace_id")
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
        _text(key, "key")
        if not isinstance(namespaces, list | tuple) or not namespaces:
            raise ConfigurationError("namespaces must be a list of at least one name.")
        for name in namespaces:
            _text(name, "a name in namespaces")
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
        return self._add([batch])[0]

    def add_batches(self, batches: Iterable[object]) -> list[Batch]:
        """Add batches given as the arguments of `add_batch` by name: all of them, or none if one may not be used.

        Raises:
            ConfigurationError: One may not be used; says which, counted from 1.
        """
        made = []
        for number, batch in enumerate(batches, 1):
            try:
                made.append(call(Batch.of, batch))
            except ConfigurationError as refusal:
                raise ConfigurationError(f"Batch {number}: {refusal}") from None
        return self._add(made)

    def _add(self, batches: list[Batch]) -> list[Batch]:
        added = []
        with self._lock:
            for batch in batches:
                name = self._added_namespace(batch.namespace)
                added.append(attrs.evolve(batch, namespace=name))
                self._batches[name, batch.bucket_identifier, batch.batch_id] = added[-1]
                self._buckets.add((name, batch.bucket_identifier))
        return copy.deepcopy(added)

    def batch(self, bucket_identifier: str, batch_id: str, *, namespace: str | None = None) -> Batch:
        """Give a batch as it is now.

        Raises:
            ConfigurationError: There is none.
        """
        with self._lock:
            name = self._namespace(namespace or DEFAULT_NAMESPACE)
            batch = self._batches.get((name or "", bucket_identifier, batch_id))
        if batch is None:
            place = f"bucket {bucket_identifier!r} of namespace {namespace or DEFAULT_NAMESPACE!r}"
            raise ConfigurationError(f"The mock holds no batch {batch_id!r} in {place}: add it with add_batch.")
        return copy.deepcopy(batch)

    @property
    def batches(self) -> list[Batch]:
        """All batches as they are now, in the order in which they were first added."""
        with self._lock:
            return copy.deepcopy(list(self._batches.values()))

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
                `"malformed"`: act, and send a whole body that is no JSON.
            times: How many requests, up to a million.
            retry_after: The Retry-After header of an answer by status, any number or text, however wrong; 429 and 503
                have one of 1 without it.
            seconds: How long `"latency"` waits.
            body: The body of an answer by status, as JSON, or a string to send as it is.
            acted: Whether the mock carries the request out before it answers by status or resets.

        Raises:
            ConfigurationError: An argument may not be used.
        """
        if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= _MOST_FAULTS:
            raise ConfigurationError(f"times must be a whole number from 1 to {_MOST_FAULTS:,}.")
        plan = _fault(fault, retry_after=retry_after, seconds=seconds, body=body, acted=acted)
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
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise ConfigurationError("rate must be a number from 0 to 1.")
        if not isinstance(faults, list | tuple) or not faults:
            raise ConfigurationError("faults must be a list of at least one JSON object.")
        if not (seed is None or isinstance(seed, int)):
            raise ConfigurationError("seed must be a whole number.")
        plans = [call(_fault, dict(fault) if isinstance(fault, Mapping) else fault) for fault in faults]
        with self._lock:
            self._chance = (float(rate), plans, random.Random(seed))  # noqa: S311 - no secret

    @property
    def faults(self) -> list[Fault]:
        """What is planned to go wrong, next first."""
        with self._lock:
            return list(self._faults)

    def clear_faults(self) -> None:
        """Plan nothing to go wrong."""
        with self._lock:
            self._faults.clear()
            self._chance = _NO_CHANCE

    def next_fault(self) -> Fault | None:
        """Take the next planned fault, if there is one."""
        with self._lock:
            if self._faults:
                return self._faults.popleft()
            rate, plans, draw = self._chance
            return draw.choice(plans) if draw.random() < rate else None

    def record(self, request: RecordedRequest) -> str:
        """Remember a request, and give it an id."""
        with self._lock:
            self._requests.append(request)
            return f"req_{next(self._counter)}"

    def answered(self, request: RecordedRequest, status_code: int | None) -> None:
        """Note how a request was answered; None for not at all."""
        request.status_code = status_code
        if self.on_request is not None:
            self.on_request(request)

    def cancel(
        self, authorization: bytes | None, namespace: str | None, bucket_identifier: str, batch_id: str
    ) -> Answer:
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
                return error(401)
            name = key.default if namespace is None else self._namespace(namespace)
            if name is not None and key.namespaces is not None and name not in key.namespaces:
                return error(403, details={"resource": "namespace"})
            if name is None or name not in self._namespaces:
                return error(404, "Namespace not found.", details={"resource": "namespace"})
            if (name, bucket_identifier) not in self._buckets:
                return error(404, "Bucket not found.", details={"resource": "bucket"})
            place = name, bucket_identifier, batch_id
            batch = self._batches.get(place)
            if batch is None:
                return error(404, "Batch not found.", details={"resource": "batch"})
            if batch.status in CANCELABLE:
                batch = self._batches[place] = attrs.evolve(batch, status=TaskStatus.CANCELED)
            if batch.status is not TaskStatus.CANCELED:
                status = batch.status.value
                return error(400, f"A batch that is {status} cannot be cancelled.", details={"status": status})
            return Answer(status_code=200, body=batch.task())

    def _key(self, authorization: bytes | None) -> _Key | None:
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = token.lstrip(b" ")
        return next((key for known, key in self._keys.items() if hmac.compare_digest(known, token)), None)

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
        return next((name for name, id_ in self._namespaces.items() if id_ == name_or_id), None)


def _fault(
    fault: int | str,
    *,
    retry_after: float | str | None = None,
    seconds: float | None = None,
    body: Any = None,
    acted: bool = False,
) -> Fault:
    return Fault.of(fault, retry_after=retry_after, seconds=seconds, body=_json(body, "body"), acted=acted)


def call(function: Callable[..., Any], arguments: object) -> Any:
    """Call a function with a JSON object of arguments.

    Raises:
        ConfigurationError: It is no object, an argument is unknown or missing, or the function refuses one.
    """
    parameters = inspect.signature(function).parameters
    fields = f"the fields are {', '.join(parameters)}"
    if not isinstance(arguments, dict):
        raise ConfigurationError(f"A JSON object is needed; {fields}.")
    for name in arguments:
        if name not in parameters:
            raise ConfigurationError(f"Unknown field {name!r}: {fields}.")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ConfigurationError(f"The field {name!r} is missing: {fields}.")
    return function(**arguments)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a string that is not empty, not {value!r}.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigurationError(f"{name} {value!r} holds half a surrogate pair, which no request can name.")
    return value


def _items(items: Any, name: str) -> list[str | dict[str, Any]]:
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | dict) for item in items):
        raise ConfigurationError(f"{name} must be a list of strings and JSON objects.")
    copied: list[str | dict[str, Any]] = _json(list(items), name)
    return copied


def _json(value: Any, name: str) -> Any:
    """Copy a JSON value, so that later changes to the original do not reach the mock."""
    try:
        copied = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is not JSON: {error}.") from None
    level, depth = [copied], 0
    while level:
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
        if depth > _DEEPEST_JSON:
            raise ConfigurationError(f"{name} is nested more than {_DEEPEST_JSON} deep.")
    return copied
