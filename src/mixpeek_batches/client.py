"""The clients: one call cancels one batch, and either returns its task or raises a MixpeekError."""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Self

import httpx
from mixpeek_batches_api import __version__
from mixpeek_batches_api.api.batches import cancel_batch
from mixpeek_batches_api.types import UNSET

from . import _retries, _settings
from ._responses import Body, interpret
from ._secrets import Secret
from .errors import APIConnectionError, APITimeoutError, ConfigurationError, MixpeekError

if TYPE_CHECKING:
    import anyio
    from mixpeek_batches_api.models import TaskResponse

    from ._bulk import AsyncRun, Attempt, Outcome, ThreadRun
    from ._scheduler import Scheduler
    from ._transports import AsyncTransport, InFlight, Pool, Transport
    from .results import CancelResult

logger = logging.getLogger("mixpeek_batches")

Pair = tuple[str, str] | tuple[str, str, str | None]
"""A bucket, a batch and, optionally, their namespace."""

MAX_CONCURRENCY = 1000
_USER_AGENT = "mixpeek-batches/{} python/{}.{}.{}".format(__version__, *sys.version_info)
_HEADERS = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"gzip"), (b"User-Agent", _USER_AGENT.encode())]
# Network failures. Anything else is a bug in a hook or a transport of the user's, and is raised as it is; so is what a
# hook's raise_for_status() raises.
_NETWORK_ERRORS = (httpx.RequestError, httpx.StreamError, OSError)


class _Clock:
    """When an attempt through the user's httpx client started: once it has a connection, if its transport tells."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.waiting = True  # for a connection, as far as is known

    def begin(self) -> None:
        if self.waiting:
            self.started, self.waiting = time.monotonic(), False


class _BaseClient:
    """Everything that both clients share, which is all but waiting for the network."""

    _http: Any  # the httpx client of the user, of the kind that the subclass needs, or None
    _pool: Pool[Any]
    # Class attributes, for the repr of a client whose __init__ failed.
    _base_url = httpx.URL("")
    _namespace: str | None = None

    def __init__(
        self,
        *,
        secret: Secret | None,
        namespace: str | None,
        base_url: str | None,
        timeout: float,
        max_retries: int,
        http_client: httpx.Client | httpx.AsyncClient | None,
        allow_http: bool,
    ) -> None:
        own_auth = http_client is not None and http_client.auth is not None
        self._secret = _settings.key_or_environment(secret, needed=not own_auth)
        self._namespace = _settings.namespace_or_environment(namespace)
        of_client = "" if http_client is None else str(http_client.base_url)
        self._base_url = _settings.checked_base_url(base_url, of_client, allow_http=allow_http)
        self._timeout = _settings.checked_timeout(timeout)
        self._max_retries = _settings.checked_count(max_retries, "max_retries", least=0)
        self._prefix = str(self._base_url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={str(self._base_url)!r}, namespace={self._namespace!r})"

    @property
    def base_url(self) -> str:
        """The URL that requests are sent to."""
        return str(self._base_url)

    @property
    def namespace(self) -> str | None:
        """The namespace for calls that pass none; None means the default namespace of the key."""
        return self._namespace

    def _per_call(self, timeout: float | None, max_retries: int | None) -> tuple[float, int]:
        return (
            self._timeout if timeout is None else _settings.checked_timeout(timeout),
            self._max_retries if max_retries is None else _settings.checked_count(max_retries, "max_retries", least=0),
        )

    def _request(
        self, bucket_identifier: str, batch_id: str, namespace: str | None, timeout: float | None = None
    ) -> httpx.Request:
        """Build the request, for the user's httpx client if there is one, else for a transport of our own."""
        timeout = self._timeout if timeout is None else timeout
        namespace = self._namespace if namespace is None else _settings.checked_namespace(namespace)
        # The generated operation says what is sent; how it is sent, and what becomes of the response, is ours.
        operation = cancel_batch._get_kwargs(
            _settings.checked_identifier(bucket_identifier, "bucket_identifier"),
            _settings.checked_identifier(batch_id, "batch_id"),
            x_namespace=UNSET if namespace is None else namespace,
        )
        headers = [*_HEADERS, *((name.encode(), value.encode()) for name, value in operation["headers"].items())]
        self._secret.sign(headers)
        method, url = operation["method"].upper(), self._prefix + operation["url"]
        # `AsyncClient` bounds the attempt itself. Waiting for a connection in the user's pool takes no time of it.
        limits: dict[str, float | None] = dict.fromkeys(("connect", "read", "write"), timeout)
        try:
            if self._http is None:
                timeouts = limits if isinstance(self, Client) else {}
                request = httpx.Request(method, url, headers=headers, extensions={"timeout": timeouts})
            else:
                request = self._http.build_request(method, url, extensions={"timeout": {**limits, "pool": None}})
                # Ours in place of the client's own; given to `build_request`, they would be looked up one by one.
                ours = {name.lower() for name, _ in headers}
                others = [(name, value) for name, value in request.headers.raw if name.lower() not in ours]
                request.headers = httpx.Headers(others + headers)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"bucket_identifier and batch_id make no URL: {error}.") from None
        return request

    def _failure(
        self, request: httpx.Request, started: float, timeout: float, error: Exception, *, closed: bool
    ) -> MixpeekError:
        """Turn a network error into one of ours."""
        failure: APIConnectionError
        cause = error.__cause__
        if closed:
            failure = APIConnectionError(f"The client was closed before {request.url.host} had responded.")
            failure._transient = False
        # httpx-aiohttp reports a refused or reset connection as a time-out too; the cause tells them apart.
        elif isinstance(error, httpx.TimeoutException | TimeoutError) and (
            not isinstance(cause, OSError) or isinstance(cause, TimeoutError)
        ):
            failure = APITimeoutError(f"No complete response from {request.url.host} within {timeout:g} s.")
        else:
            reason = " ".join(self._secret.redact(str(error)).split()).rstrip(".") or type(error).__name__
            failure = APIConnectionError(f"The connection to {request.url.host} failed: {reason}.")
            failure._transient = not _is_certificate_error(error)
        # The original error is not kept as the cause: it and its frames hold the request, and so the key.
        logger.debug(
            "%s %s -> %s in %.3f s", request.method, request.url.raw_path.decode(), failure, time.monotonic() - started
        )
        return failure

    def _interpret(
        self, request: httpx.Request, response: httpx.Response, body: Body, started: float
    ) -> TaskResponse | MixpeekError:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s %s -> %d in %.3f s, request %s",
                request.method,
                request.url.raw_path.decode(),
                response.status_code,
                time.monotonic() - started,
                self._secret.redact(response.headers.get("x-request-id", "-")),
            )
        return interpret(request, response, body, self._secret)

    def _retry_in(self, error: MixpeekError, retry: int, max_retries: int, bucket: str, batch: str) -> float | None:
        """Return how many seconds to wait before the next attempt, or None if there is none."""
        if retry >= max_retries or not _retries.is_transient(error):
            return None
        wait = _retries.delay(error, retry)
        _retries.log_retry(bucket, batch, retry + 1, max_retries + 1, wait, error)
        return wait

    def _scheduler(self, concurrency: int, namespace: str | None, max_rate: float | None) -> Scheduler:
        """Check the settings of a bulk run, and return its scheduler."""
        from ._scheduler import Scheduler  # noqa: PLC0415 - not needed for a single call

        _settings.checked_count(concurrency, "concurrency", least=1)
        if concurrency > MAX_CONCURRENCY:
            raise ConfigurationError(f"concurrency must not be above {MAX_CONCURRENCY}.")
        _settings.checked_namespace(namespace)
        _settings.checked_rate(max_rate)
        self._check_open()
        return Scheduler(concurrency=concurrency, max_retries=self._max_retries, max_rate=max_rate)

    def _check_open(self) -> None:
        if self._pool.closed or (self._http is not None and self._http.is_closed):
            raise ConfigurationError(_settings.CLOSED)


def _is_lost(outcome: object) -> bool:
    """Return whether the connection was lost, so that a new one may work."""
    return isinstance(outcome, APIConnectionError) and outcome._transient and not isinstance(outcome, APITimeoutError)


def _is_certificate_error(error: BaseException) -> bool:
    """Return whether the server's certificate was rejected, which no retry changes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class Client(_BaseClient):
    """A client that cancels batches. Close it with `close()` or use it in a `with` block.

    It can be shared between threads. After a fork, the child process opens connections of its own.

    Args:
        api_key: The API key. Defaults to MIXPEEK_API_KEY.
        namespace: The name or id of the namespace for calls that pass none. Defaults to MIXPEEK_NAMESPACE, or else to
            the default namespace of the key.
        base_url: The URL of the API. Defaults to the base URL of `http_client` if it has one, then to MIXPEEK_BASE_URL,
            or else to https://api.mixpeek.com.
        timeout: The deadline of one attempt as a whole in seconds, from connecting to the last byte. DNS lookup is not
            included.
        max_retries: How often a transient failure is retried.
        http_client: An httpx client to send requests with, including its proxies, certificates, hooks, cookies, and
            auth, which can replace the API key. You close it yourself. Waiting for a connection in its pool does not
            count towards `timeout`, and its transport bounds the time of each read rather than of all headers together.
            Exceptions of its hooks and transport that are not network failures are raised unchanged and not retried.
        allow_http: Allow a base URL that is neither https nor on the loopback interface. The key is sent unencrypted.

    Raises:
        ConfigurationError: If the key is missing or a setting is not valid.
    """

    _http: httpx.Client | None

    def __init__(
        self,
        *,
        api_key: str | None = None,
        namespace: str | None = None,
        base_url: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        http_client: httpx.Client | None = None,
        allow_http: bool = False,
    ) -> None:
        secret = None if api_key is None else Secret(api_key)
        del api_key  # so that no traceback with locals shows it
        if not (http_client is None or isinstance(http_client, httpx.Client)):
            raise ConfigurationError(f"http_client must be an httpx.Client, not {type(http_client).__name__}.")
        super().__init__(
            secret=secret,
            namespace=namespace,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            http_client=http_client,
            allow_http=allow_http,
        )
        from . import _transports  # noqa: PLC0415 - see there

        self._http = http_client
        self._pool: Pool[Transport] = _transports.Pool(lambda: _transports.Transport(**options))
        if http_client is None:
            options = _transports.options(self._base_url, local=_settings.is_loopback(self._base_url))
            self._pool.give_back(self._pool.make())  # so that what is wrong with it is said now
        self._closing = threading.Event()
        self._in_flight = _transports.InFlight()
        self._runs: set[ThreadRun] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end requests that are in flight in any thread. Closing twice is harmless.

        Requests that an `http_client` of yours has in flight are left to it.
        """
        if self._pool.closed:
            return
        free = self._pool.drain()
        self._closing.set()
        for run in list(self._runs):
            run.close()
        self._in_flight.abort()
        for transport in free:
            transport.close()

    def cancel_batch(
        self,
        bucket_identifier: str,
        batch_id: str,
        *,
        namespace: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> TaskResponse:
        """Cancel a batch. Cancelling it again does no harm and returns the same task.

        Args:
            bucket_identifier: The bucket that holds the batch, percent-encoded into one path segment.
            batch_id: The batch, likewise.
            namespace: The name or id of the namespace of the bucket, instead of that of the client.
            timeout: The deadline of one attempt in seconds, instead of that of the client.
            max_retries: How often a transient failure is retried, instead of that of the client.

        Returns:
            The task of the batch. Its status is `TaskStatus.CANCELED`, unless the server reports another one.

        Raises:
            ConfigurationError: If an argument is not valid or the client is closed. Nothing was sent.
            APIConnectionError: If no attempt got a complete response; APITimeoutError if the last one timed out.
            APIStatusError: If the server rejected the request, or failed in every attempt; a subclass by status code.
            APIResponseValidationError: If the server reported success, but the body is not a task.
        """
        outcome, _ = self._cancel(bucket_identifier, batch_id, namespace, timeout, max_retries)
        if isinstance(outcome, MixpeekError):
            raise outcome  # out here, where no local variable holds anything of the response
        return outcome

    def _cancel(
        self,
        bucket_identifier: str,
        batch_id: str,
        namespace: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> Outcome:
        """Cancel a batch, and give the outcome and how many times the request was sent."""
        timeout, max_retries = self._per_call(timeout, max_retries)
        request = self._request(bucket_identifier, batch_id, namespace, timeout)
        retries = attempts = 0
        while True:
            outcome, sent = self._attempt(request, timeout, self._in_flight)
            attempts += sent
            if not isinstance(outcome, MixpeekError):
                return outcome, attempts
            wait = self._retry_in(outcome, retries, max_retries, bucket_identifier, batch_id)
            if wait is None or self._closing.wait(wait):
                return outcome, attempts
            retries += 1

    def cancel_batches(
        self,
        pairs: Iterable[Pair],
        *,
        concurrency: int = 16,
        namespace: str | None = None,
        max_rate: float | None = None,
    ) -> Generator[CancelResult]:
        """Cancel many batches, and yield a result for each as it finishes, in no particular order.

        A failure is the result of its batch; the others continue. If the server limits the rate (429, or 503 with
        Retry-After), nothing is sent until Retry-After has passed, and then at the rate that the server accepts. A
        batch that was rejected for this reason returns to the queue without using up a retry. A 503 without Retry-After
        also slows the run down, but is retried as a transient failure.

        The remaining batches are not sent, and get the error that ended the run (`attempts` is 0), when nothing was
        accepted for 60 s or the server asks for a longer wait, after a 401 if nothing was cancelled before, and after
        as many undeliverable batches in a row as may be in flight, but at least 16.

        Leaving the loop, closing the generator or the client, or an exception in the loop ends the run: nothing more is
        sent. Requests in flight may or may not take effect; cancelling the same batches again does no harm. `pairs` is
        advanced in the thread that asks for results, and only as needed, so it can be infinite.

        Args:
            pairs: A bucket, a batch and, optionally, a namespace each.
            concurrency: How many requests can be in flight at the same time, from 1 to 1000.
            namespace: The namespace of pairs that contain none, instead of that of the client.
            max_rate: How many requests can be sent per second. By default only the server limits the rate.

        Raises:
            ConfigurationError: If the client is closed, or an argument other than a pair is not valid. Exceptions of
                `pairs` are raised after the results of all pairs before it.
        """
        return self._run(pairs, concurrency, namespace, max_rate).results()

    def _run(self, pairs: Iterable[Pair], concurrency: int, namespace: str | None, max_rate: float | None) -> ThreadRun:
        from ._bulk import ThreadRun  # noqa: PLC0415 - not needed for a single call

        def send(request: httpx.Request) -> Outcome:
            return self._attempt(request, self._timeout, run.in_flight, resend=self._max_retries > 0)

        scheduler = self._scheduler(concurrency, namespace, max_rate)
        run = ThreadRun(pairs, namespace or self._namespace, scheduler, self._request, send, self._runs)
        return run

    def _attempt(
        self, request: httpx.Request, timeout: float, in_flight: InFlight, *, resend: bool = True
    ) -> tuple[TaskResponse | MixpeekError, int]:
        """Send a request, and return the outcome and how many times it was sent.

        Args:
            request: The request.
            timeout: Seconds.
            in_flight: Holds the transport meanwhile.
            resend: Send again, at once, where a kept connection turns out to have ended.
        """
        if self._http is not None:
            self._check_open()
            return self._exchange(self._http, request, timeout), 1
        transport = self._pool.take()
        in_flight.add(transport)
        try:
            outcome = self._exchange(transport, request, timeout)
            if not isinstance(outcome, APIConnectionError):
                self._pool.give_back(transport)
                return outcome, 1
        except BaseException:
            transport.close()
            raise
        finally:
            in_flight.discard(transport)
            if self._pool.closed:
                transport.close()
        transport.close()
        if not (resend and transport.was_stale and _is_lost(outcome)):
            return outcome, 1
        return self._attempt(request, timeout, in_flight, resend=False)[0], 2

    def _exchange(
        self, sender: Transport | httpx.Client, request: httpx.Request, timeout: float
    ) -> TaskResponse | MixpeekError:
        clock = _Clock()
        try:
            if not isinstance(sender, httpx.Client):
                response = sender.send(request, timeout)
            else:
                request.extensions["trace"] = lambda *_: clock.begin()
                response = sender.send(request, stream=True, follow_redirects=False)
            try:
                if response.is_stream_consumed:
                    body = Body.of_read(response)
                else:
                    body = Body(response.headers)
                    for chunk in response.iter_raw():
                        if not body.add(chunk):
                            break
                        if time.monotonic() > clock.started + timeout:
                            raise httpx.ReadTimeout("The response was not complete in time.")
            finally:
                response.close()
        except httpx.HTTPStatusError:
            raise
        except _NETWORK_ERRORS as error:
            failure = self._failure(request, clock.started, timeout, error, closed=self._pool.closed)
        else:
            return self._interpret(request, response, body, clock.started)
        return failure


class AsyncClient(_BaseClient):
    """A client that cancels batches from asyncio or trio. It can be shared between the tasks of one event loop.

    Once that loop has finished, it can be used in another one, where it opens connections of its own.

    Args:
        api_key: See Client.
        namespace: See Client.
        base_url: See Client.
        timeout: See Client.
        max_retries: See Client.
        http_client: An httpx.AsyncClient, see Client. Here `timeout` also bounds the time of all headers together.
        allow_http: See Client.

    Raises:
        ConfigurationError: If the key is missing or a setting is not valid.
    """

    _http: httpx.AsyncClient | None

    def __init__(
        self,
        *,
        api_key: str | None = None,
        namespace: str | None = None,
        base_url: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        http_client: httpx.AsyncClient | None = None,
        allow_http: bool = False,
    ) -> None:
        secret = None if api_key is None else Secret(api_key)
        del api_key  # so that no traceback with locals shows it
        if not (http_client is None or isinstance(http_client, httpx.AsyncClient)):
            raise ConfigurationError(f"http_client must be an httpx.AsyncClient, not {type(http_client).__name__}.")
        super().__init__(
            secret=secret,
            namespace=namespace,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            http_client=http_client,
            allow_http=allow_http,
        )
        from . import _transports  # noqa: PLC0415 - see there

        self._http = http_client
        self._pool: Pool[AsyncTransport] = _transports.Pool(lambda: _transports.AsyncTransport(**options))
        if http_client is None:
            options = _transports.options(self._base_url, local=_settings.is_loopback(self._base_url))
            self._pool.give_back(self._pool.make())  # so that what is wrong with it is said now
        self._scopes: set[Any] = set()  # the cancel scopes of what is in flight or waits
        self._waiting: set[Any] = set()  # those of them that wait for the user's httpx client to have a connection
        self._traces = False  # the user's httpx client is known to tell when it has one
        self._runs: set[AsyncRun] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections and end requests that are in flight in any task. Closing twice is harmless."""
        import anyio.lowlevel  # noqa: PLC0415 - a program without an event loop need not load it

        if self._pool.closed:
            return
        free = self._pool.drain(anyio.lowlevel.current_token())
        for run in list(self._runs):
            run.close()
        for scope in list(self._scopes):
            scope.cancel()
        for transport in free:
            await transport.close()

    async def cancel_batch(
        self,
        bucket_identifier: str,
        batch_id: str,
        *,
        namespace: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> TaskResponse:
        """Cancel a batch, as `Client.cancel_batch` does.

        Args:
            bucket_identifier: The bucket that holds the batch, percent-encoded into one path segment.
            batch_id: The batch, likewise.
            namespace: The name or id of the namespace of the bucket, instead of that of the client.
            timeout: The deadline of one attempt in seconds, instead of that of the client.
            max_retries: How often a transient failure is retried, instead of that of the client.

        Returns:
            The task of the batch. Its status is `TaskStatus.CANCELED`, unless the server reports another one.

        Raises:
            ConfigurationError: If an argument is not valid or the client is closed. Nothing was sent.
            APIConnectionError: If no attempt got a complete response; APITimeoutError if the last one timed out.
            APIStatusError: If the server rejected the request, or failed in every attempt; a subclass by status code.
            APIResponseValidationError: If the server reported success, but the body is not a task.
        """
        timeout, max_retries = self._per_call(timeout, max_retries)
        request = self._request(bucket_identifier, batch_id, namespace, timeout)
        retry = 0
        while True:
            outcome = await self._bounded_attempt(request, timeout)
            if not isinstance(outcome, MixpeekError):
                return outcome
            wait = self._retry_in(outcome, retry, max_retries, bucket_identifier, batch_id)
            if wait is None or await self._closing(wait):
                raise outcome
            retry += 1

    def cancel_batches(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        concurrency: int = 16,
        namespace: str | None = None,
        max_rate: float | None = None,
    ) -> AsyncGenerator[CancelResult]:
        """Cancel many batches, as `Client.cancel_batches` does.

        If you leave the loop early under trio, wrap the results in `contextlib.aclosing`, as for any generator in trio.

        Args:
            pairs: A bucket, a batch and, optionally, a namespace each; advanced in this event loop.
            concurrency: How many requests can be in flight at the same time, from 1 to 1000.
            namespace: The namespace of pairs that contain none, instead of that of the client.
            max_rate: How many requests can be sent per second. By default only the server limits the rate.

        Raises:
            ConfigurationError: If the client is closed, or an argument other than a pair is not valid. Exceptions of
                `pairs` are raised after the results of all pairs before it.
        """
        from ._bulk import AsyncRun  # noqa: PLC0415 - not needed for a single call

        timeout, resend = self._timeout, self._max_retries > 0

        async def send(request: httpx.Request, attempt: Attempt) -> Outcome:
            return await self._attempt(request, timeout, attempt, resend=resend)

        def timed_out(request: httpx.Request) -> MixpeekError:
            return self._failure(request, time.monotonic() - timeout, timeout, TimeoutError(), closed=False)

        scheduler, namespace = self._scheduler(concurrency, namespace, max_rate), namespace or self._namespace
        run = AsyncRun(pairs, namespace, scheduler, self._request, send, self._runs, timeout, timed_out)
        return run.results()

    async def _closing(self, seconds: float) -> bool:
        """Wait, and return whether the client was closed meanwhile."""
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await anyio.sleep(seconds)
            finally:
                self._scopes.discard(scope)
        return self._pool.closed

    async def _bounded_attempt(self, request: httpx.Request, timeout: float) -> TaskResponse | MixpeekError:
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        started = time.monotonic()
        with anyio.move_on_after(timeout) as scope:
            self._scopes.add(scope)
            try:
                return (await self._attempt(request, timeout, scope))[0]
            finally:
                self._scopes.discard(scope)
        return self._failure(request, started, timeout, TimeoutError(), closed=self._pool.closed)

    async def _attempt(
        self, request: httpx.Request, timeout: float, scope: anyio.CancelScope | Attempt, *, resend: bool = True
    ) -> tuple[TaskResponse | MixpeekError, int]:
        """Send a request, as Client._attempt does.

        Args:
            request: The request.
            timeout: Seconds.
            scope: What ends it at its deadline.
            resend: Send again, at once, where a kept connection turns out to have ended.
        """
        if self._http is not None:
            self._check_open()
            return await self._exchange(self._http, request, timeout, scope), 1
        import anyio.lowlevel  # noqa: PLC0415 - a program without an event loop need not load it

        transport = self._pool.take(anyio.lowlevel.current_token())
        try:
            outcome = await self._exchange(transport, request, timeout, scope)
            if not isinstance(outcome, APIConnectionError) and not self._pool.closed:
                self._pool.give_back(transport)
                return outcome, 1
        except BaseException:
            await _close_shielded(transport)
            raise
        await _close_shielded(transport)
        if not (resend and transport.was_stale and _is_lost(outcome)):
            return outcome, 1
        if not isinstance(scope, anyio.CancelScope):
            scope.sent = 2
        return (await self._attempt(request, timeout, scope, resend=False))[0], 2

    async def _exchange(
        self,
        sender: AsyncTransport | httpx.AsyncClient,
        request: httpx.Request,
        timeout: float,
        scope: anyio.CancelScope | Attempt,
    ) -> TaskResponse | MixpeekError:
        clock = _Clock()
        try:
            if not isinstance(sender, httpx.AsyncClient):
                response = await sender.send(request)
            else:
                response = await self._send_given(sender, request, timeout, scope)
            try:
                if response.is_stream_consumed:
                    body = Body.of_read(response)
                else:
                    body = Body(response.headers)
                    async for chunk in response.aiter_raw():
                        if not body.add(chunk):
                            break
            finally:
                await response.aclose()
        except httpx.HTTPStatusError:
            raise
        except _NETWORK_ERRORS as error:
            failure = self._failure(request, clock.started, timeout, error, closed=self._pool.closed)
        else:
            return self._interpret(request, response, body, clock.started)
        return failure

    async def _send_given(
        self, http: httpx.AsyncClient, request: httpx.Request, timeout: float, scope: Any
    ) -> httpx.Response:
        import anyio  # noqa: PLC0415 - a program without an event loop need not load it

        async def trace(*_: object) -> None:
            if scope in self._waiting:  # and now has a connection
                self._waiting.discard(scope)
                scope.deadline = anyio.current_time() + timeout
            if not self._traces:
                self._traces = True
                for other in self._waiting:
                    other.deadline = float("inf")

        request.extensions["trace"] = trace
        self._waiting.add(scope)
        if self._traces:
            scope.deadline = float("inf")
        try:
            return await http.send(request, stream=True, follow_redirects=False)
        finally:
            self._waiting.discard(scope)


async def _close_shielded(transport: AsyncTransport) -> None:
    import anyio  # noqa: PLC0415 - a program without an event loop need not load it

    with anyio.CancelScope(shield=True):
        await transport.close()
