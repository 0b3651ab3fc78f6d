"""The clients: one call cancels one batch, and either gives its task or raises a MixpeekError."""

from __future__ import annotations

import logging
import ssl
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Self

import httpx
from mixpeek_batches_api import __version__
from mixpeek_batches_api.api.batches import cancel_batch
from mixpeek_batches_api.types import UNSET

from . import _settings
from ._answers import Body, interpret
from ._lines import AnyAsyncLine, AnyLine, AsyncLine, GivenAsyncLine, GivenLine, Line, has_aiohttp, timed_out, unusable
from ._results import MOST_AT_ONCE, CancelResult, Gate, Halt, Pair
from .errors import APIConnectionError, APIStatusError, APITimeoutError, ConfigurationError, MixpeekError

if TYPE_CHECKING:
    import threading

    import tenacity
    from mixpeek_batches_api.models import TaskResponse

    from . import _bulk

logger = logging.getLogger("mixpeek_batches")

LONGEST_RETRY_AFTER = 60.0
"""Seconds; a server that asks for more is not waited for."""

_CLOSED = "The client is closed: make a new one, or keep the `with` block open."
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "mixpeek-batches/{} python/{}.{}.{}".format(__version__, *sys.version_info),
}
_RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class _BaseClient:
    """What both clients share: everything but waiting for the network."""

    _closed = False
    # For the repr of one that could not be made.
    _base_url = httpx.URL("")
    _namespace: str | None = None

    def __init__(
        self,
        *,
        secret: _settings.Secret | None,
        namespace: str | None,
        base_url: str | None,
        timeout: float,
        max_retries: int,
        allow_http: bool,
    ) -> None:
        self._secret = _settings.key_or_environment(secret)
        self._namespace = _settings.namespace_or_environment(namespace)
        self._base_url = _settings.checked_base_url(base_url, allow_http=allow_http)
        self._timeout = _settings.checked_timeout(timeout)
        self._max_retries = _settings.checked_count(max_retries, "max_retries", least=0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={str(self._base_url)!r}, namespace={self._namespace!r})"

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return str(self._base_url)

    @property
    def namespace(self) -> str | None:
        """The namespace that is sent where a call names none; None leaves the choice to the server."""
        return self._namespace

    def _verify(self) -> ssl.SSLContext | bool:
        """Load the certificates that are trusted, which takes 20 ms, unless none is ever looked at.

        Raises:
            ConfigurationError: Those that the environment names cannot be used.
        """
        if self._base_url.scheme == "http" and self._is_local():
            return False
        try:
            return httpx.create_ssl_context()
        except (OSError, ValueError) as error:
            raise unusable(error) from None

    def _is_local(self) -> bool:
        return _settings.is_loopback(self._base_url)

    def _transport_options(self, verify: ssl.SSLContext | bool) -> dict[str, Any]:
        """Options of an httpx client that we make ourselves, for its transports and the environment's proxies."""
        # What is sent to this machine does not go by a proxy, which would see the key: http is not encrypted.
        host = self._base_url.host
        pattern = f"all://[{host}]" if ":" in host else f"all://{host}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return {"verify": verify, "limits": limits, "mounts": {pattern: None} if self._is_local() else None}

    def _request(
        self,
        http: httpx.Client | httpx.AsyncClient | None,
        bucket_identifier: str,
        batch_id: str,
        namespace: str | None,
    ) -> httpx.Request:
        """Make a request: for somebody else's httpx client to send or, with the key in it, for a line of our own."""
        if self._closed or (http is not None and http.is_closed):
            raise ConfigurationError(_CLOSED)
        namespace = self._namespace if namespace is None else _settings.checked_namespace(namespace)
        # What is sent is the generated operation's to say; how it is sent, and what is made of the answer, is ours.
        operation = cancel_batch._get_kwargs(
            _settings.checked_identifier(bucket_identifier, "bucket_identifier"),
            _settings.checked_identifier(batch_id, "batch_id"),
            x_namespace=UNSET if namespace is None else namespace,
        )
        headers = httpx.Headers({**operation["headers"], **_HEADERS}, encoding="utf-8")
        method, url = operation["method"].upper(), str(self._base_url) + operation["url"]
        try:
            if http is not None:
                return http.build_request(method, url, headers=headers, timeout=self._timeout)
            extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)}
            request = httpx.Request(method, url, headers=headers, extensions=extensions)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"bucket_identifier and batch_id make no URL: {error}.") from None
        self._secret.sign(request)
        return request

    def _failure(self, request: httpx.Request, started: float, error: Exception) -> MixpeekError:
        """Make our error of one from the network."""
        failure: APIConnectionError
        if timed_out(error):
            failure = APITimeoutError(f"No whole answer from {request.url.host} within {self._timeout:g} s.")
        else:
            reason = " ".join(self._secret.redact(str(error)).split()).rstrip(".") or type(error).__name__
            failure = APIConnectionError(f"The connection to {request.url.host} failed: {reason}.")
            failure._final = _distrusts(error)
        # The error from below is not kept as the cause: it and its frames hold the request, and so the key.
        logger.debug("%s %s -> %s in %.3f s", request.method, request.url.raw_path.decode(), failure, _since(started))
        return failure

    def _outcome(
        self, request: httpx.Request, answer: httpx.Response, body: Body, started: float
    ) -> TaskResponse | MixpeekError:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "%s %s -> %d in %.3f s, request %s",
                request.method,
                request.url.raw_path.decode(),
                answer.status_code,
                _since(started),
                self._secret.redact(answer.headers.get("x-request-id", "-")),
            )
        return interpret(request, answer, body, self._secret)

    def _check_bulk(self, concurrency: int, namespace: str | None) -> None:
        _settings.checked_count(concurrency, "concurrency", least=1)
        if concurrency > MOST_AT_ONCE:
            raise ConfigurationError(f"concurrency must not be above {MOST_AT_ONCE}.")
        _settings.checked_namespace(namespace)
        if self._closed:
            raise ConfigurationError(_CLOSED)

    def _retry_options(self) -> dict[str, Any]:
        import tenacity  # noqa: PLC0415 - not needed before something fails

        return {
            "stop": tenacity.stop_after_attempt(self._max_retries + 1),
            "wait": _wait,
            "retry": tenacity.retry_if_exception(_may_pass),
            "before_sleep": self._log_retry,
            "reraise": True,
        }

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        tries, error = self._max_retries + 1, _error(state)
        wait = state.upcoming_sleep
        logger.warning("Attempt %d of %d failed, next in %.2f s: %s", state.attempt_number, tries, wait, error)


def _since(started: float) -> float:
    return time.perf_counter() - started


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _backoff(state: tenacity.RetryCallState) -> float:
    import tenacity  # noqa: PLC0415 - not needed before something fails

    return tenacity.wait_random_exponential(multiplier=0.5, max=8)(state)


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait as long as the server asks, or a random time that may double with each attempt."""
    error = _error(state)
    if isinstance(error, APIStatusError) and error.retry_after is not None:
        return error.retry_after
    return _backoff(state)


def _may_pass(error: BaseException) -> bool:
    """Tell whether the next attempt may go better; that an attempt went through unseen does no harm."""
    if isinstance(error, APIStatusError):
        return error.status_code in _RETRIED_STATUSES and (error.retry_after or 0) <= LONGEST_RETRY_AFTER
    return isinstance(error, APIConnectionError) and not error._final


def _distrusts(error: BaseException) -> bool:
    """Tell whether the server's certificate was refused, which stays so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class Client(_BaseClient):
    """Cancels batches. May be shared between threads, and is closed by `close()` or at the end of a `with` block.

    Args:
        api_key: The key; without it, the environment's MIXPEEK_API_KEY.
        namespace: A namespace's name or id, for calls that give none; without it MIXPEEK_NAMESPACE, and without that
            the key's default namespace.
        base_url: Where the API is; without it MIXPEEK_BASE_URL, and without that https://api.mixpeek.com.
        timeout: Seconds that one attempt may take as a whole, from connecting to the last byte. How long the system
            takes to look up a host name is its own affair.
        max_retries: How often an attempt that failed in passing is repeated.
        http_client: An httpx client to send with, with its proxies and certificates. It stays yours to close. Its
            transport bounds the time of each read and not of all the headers together.
        allow_http: Allow a base URL that is neither https nor on this machine: the key is sent unencrypted.

    Raises:
        ConfigurationError: There is no key, or a setting may not be used.
    """

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
        secret = None if api_key is None else _settings.Secret(api_key)
        del api_key  # so that no traceback with locals shows it
        super().__init__(
            secret=secret,
            namespace=namespace,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            allow_http=allow_http,
        )
        if not (http_client is None or isinstance(http_client, httpx.Client)):
            raise ConfigurationError(f"http_client must be an httpx.Client, not {type(http_client).__name__}.")
        self._given = http_client
        self._line: AnyLine = self._new_line() if http_client is None else GivenLine(http_client, self._secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A second time does nothing."""
        self._closed = True
        self._line.close()

    def cancel_batch(self, bucket_identifier: str, batch_id: str, *, namespace: str | None = None) -> TaskResponse:
        """Cancel a batch. Doing it again does no harm and gives the same task.

        Args:
            bucket_identifier: The bucket that holds the batch; sent as one path segment, whatever is in it.
            batch_id: The batch; likewise.
            namespace: The name or id of the bucket's namespace, in place of the client's.

        Returns:
            The batch's task. Its status is `TaskStatus.CANCELED`, unless the server says otherwise.

        Raises:
            ConfigurationError: An argument may not be sent; nothing was.
            APIConnectionError: No whole answer came, in any attempt; APITimeoutError if the last one ran out of time.
            APIStatusError: The server refused, or failed in every attempt; a subclass by status.
            APIResponseValidationError: The server said that it went well, and sent something else than a task.
        """
        request = self._request(self._given, bucket_identifier, batch_id, namespace)
        return self._persist(request, self._line)

    def cancel_batches(
        self, pairs: Iterable[Pair], *, concurrency: int = 16, namespace: str | None = None
    ) -> Generator[CancelResult]:
        """Cancel many batches, and yield a result for each as it ends, in no certain order.

        One batch's failure is its own result, and the others go on. A 429 holds all of them back for as long as its
        Retry-After says. Closing the generator, or an exception where its results are used, ends the work at once:
        what is under way then may or may not have been carried out, and to cancel it again does no harm. No more
        pairs are read ahead than are needed, so that there may be any number of them.

        With the [aiohttp] extra installed this is faster. With an `http_client` of your own, that
        one is used.

        Args:
            pairs: A bucket and a batch each, and perhaps a namespace as a third. Advanced in other threads.
            concurrency: How many requests may be under way at a time, from 1 to 1000.
            namespace: The namespace of pairs that name none, in place of the client's.

        Raises:
            ConfigurationError: The client is closed, or another argument than a pair may not be used. What `pairs`
                raises is raised when all that came before it has ended.
        """
        return self._cancel_batches(pairs, concurrency, namespace)

    def _cancel_batches(
        self,
        pairs: Iterable[Pair],
        concurrency: int,
        namespace: str | None,
        halt: Halt | None = None,
    ) -> Generator[CancelResult]:
        self._check_bulk(concurrency, namespace)
        from . import _bulk  # noqa: PLC0415 - it loads asyncio

        def start(late: Callable[[CancelResult], None]) -> AsyncGenerator[CancelResult]:
            self._check_bulk(concurrency, namespace)  # it may have been closed before the first result was asked for
            return AsyncClient._like(self)._cancel_batches(pairs, concurrency, namespace, late, close=True)

        if self._given is None and has_aiohttp():
            return _bulk.each_in_loop(start, 2 * concurrency, halt)
        return self._cancel_in_threads(pairs, concurrency, namespace, halt)

    def _cancel_in_threads(
        self,
        pairs: Iterable[Pair],
        concurrency: int,
        namespace: str | None,
        halt: Halt | None,
    ) -> Generator[CancelResult]:
        from . import _bulk  # noqa: PLC0415 - it loads asyncio

        self._check_bulk(concurrency, namespace)  # it may have been closed before the first result was asked for
        gate = Gate()
        # A pool gets slower with each connection in it, so that every thread has its own.
        verify = self._verify()
        lines = [self._new_line(verify) if self._given is None else self._line for _ in range(concurrency)]

        def canceller(line: AnyLine) -> _bulk.Cancel:
            def cancel(bucket_identifier: str, batch_id: str, own: str | None) -> TaskResponse:
                request = self._request(self._given, bucket_identifier, batch_id, namespace if own is None else own)
                return self._persist(request, line, gate)

            return cancel

        try:
            yield from _bulk.each_in_threads(pairs, [canceller(line) for line in lines], gate, halt)
        finally:
            for line in lines:
                if line is not self._line:
                    line.close()

    def _persist(self, request: httpx.Request, line: AnyLine, gate: Gate | None = None) -> TaskResponse:
        """Attempt once, and only if that fails in passing let tenacity see to the rest."""
        try:
            return self._attempt(request, line, gate)
        except MixpeekError as error:
            if not self._max_retries or not _may_pass(error):
                raise
            failed = [error]
        import tenacity  # noqa: PLC0415 - slow to load, and a tenth of the time of a call that goes well

        options = self._retry_options()
        if gate is not None:
            options["sleep"] = tenacity.sleep_using_event(gate.stop)

        def attempt() -> TaskResponse:
            if failed:
                raise failed.pop()  # the first attempt, over again, so that it counts
            return self._attempt(request, line, gate)

        return tenacity.Retrying(**options)(attempt)

    def _new_line(self, verify: ssl.SSLContext | bool | None = None) -> Line:
        return Line(self._base_url, self._transport_options(self._verify() if verify is None else verify))

    def _attempt(self, request: httpx.Request, line: AnyLine, gate: Gate | None = None) -> TaskResponse:
        if gate is not None:
            gate.wait()
        outcome = self._exchange(request, line, None if gate is None else gate.stop)
        if isinstance(outcome, MixpeekError):
            if gate is not None:
                gate.note(outcome, LONGEST_RETRY_AFTER)
            raise outcome  # out here, where no local variable holds anything of the answer
        return outcome

    def _exchange(
        self, request: httpx.Request, line: AnyLine, stop: threading.Event | None
    ) -> TaskResponse | MixpeekError:
        from . import _deadline  # noqa: PLC0415 - it imports httpcore, which httpx does not before it needs it

        started = time.perf_counter()
        try:
            with _deadline.time_limit(self._timeout, stop):
                answer = line.send(request)
                try:
                    body = Body(answer.headers)
                    for chunk in answer.iter_raw():
                        if not body.add(chunk):
                            break
                        _deadline.check()
                finally:
                    answer.close()
        except Exception as error:  # whatever it is: what comes out of a call is a task or a MixpeekError
            failure = self._failure(request, started, error)
        else:
            return self._outcome(request, answer, body, started)
        return failure


class AsyncClient(_BaseClient):
    """Cancels batches from asyncio. May be shared between tasks of one event loop.

    Args:
        api_key: As for Client, and so are the others.
        namespace: See Client.
        base_url: See Client.
        timeout: See Client.
        max_retries: See Client.
        http_client: An httpx.AsyncClient to send with; it stays yours to close.
        allow_http: See Client.

    Raises:
        ConfigurationError: There is no key, or a setting may not be used.
    """

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
        secret = None if api_key is None else _settings.Secret(api_key)
        del api_key  # so that no traceback with locals shows it
        super().__init__(
            secret=secret,
            namespace=namespace,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            allow_http=allow_http,
        )
        if not (http_client is None or isinstance(http_client, httpx.AsyncClient)):
            raise ConfigurationError(f"http_client must be an httpx.AsyncClient, not {type(http_client).__name__}.")
        self._given = http_client
        self._line: AnyAsyncLine = (
            self._new_line() if http_client is None else GivenAsyncLine(http_client, self._secret)
        )

    @classmethod
    def _like(cls, client: Client) -> AsyncClient:
        """Make one with the settings of a synchronous client."""
        new = cls.__new__(cls)
        _BaseClient.__init__(
            new,
            secret=client._secret,
            namespace=client._namespace,
            base_url=str(client._base_url),
            timeout=client._timeout,
            max_retries=client._max_retries,
            allow_http=True,  # it was checked, or allowed, already
        )
        new._given = None
        new._line = new._new_line()
        return new

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. A second time does nothing."""
        self._closed = True
        await self._line.close()

    async def cancel_batch(
        self, bucket_identifier: str, batch_id: str, *, namespace: str | None = None
    ) -> TaskResponse:
        """Cancel a batch, as Client.cancel_batch does.

        Args:
            bucket_identifier: The bucket that holds the batch; sent as one path segment, whatever is in it.
            batch_id: The batch; likewise.
            namespace: The name or id of the bucket's namespace, in place of the client's.

        Returns:
            The batch's task. Its status is `TaskStatus.CANCELED`, unless the server says otherwise.

        Raises:
            ConfigurationError: An argument may not be sent; nothing was.
            APIConnectionError: No whole answer came, in any attempt; APITimeoutError if the last one ran out of time.
            APIStatusError: The server refused, or failed in every attempt; a subclass by status.
            APIResponseValidationError: The server said that it went well, and sent something else than a task.
        """
        request = self._request(self._given, bucket_identifier, batch_id, namespace)
        return await self._persist(request, self._line)

    def cancel_batches(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        concurrency: int = 16,
        namespace: str | None = None,
    ) -> AsyncGenerator[CancelResult]:
        """Cancel many batches, as Client.cancel_batches does.

        Args:
            pairs: A bucket and a batch each, and perhaps a namespace as a third. An asynchronous iterable is advanced
                in this event loop; another one, if it is no list or tuple, in another thread, since it may block.
            concurrency: How many requests may be under way at a time, from 1 to 1000.
            namespace: The namespace of pairs that name none, in place of the client's.

        Raises:
            ConfigurationError: The client is closed, or another argument than a pair may not be used. What `pairs`
                raises is raised when all that came before it has ended.
        """
        return self._cancel_batches(pairs, concurrency, namespace)

    def _cancel_batches(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        concurrency: int,
        namespace: str | None,
        late: Callable[[CancelResult], None] | None = None,
        *,
        close: bool = False,
    ) -> AsyncGenerator[CancelResult]:
        self._check_bulk(concurrency, namespace)
        return self._cancel_in_tasks(pairs, concurrency, namespace, late, close=close)

    async def _cancel_in_tasks(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        concurrency: int,
        namespace: str | None,
        late: Callable[[CancelResult], None] | None,
        *,
        close: bool,
    ) -> AsyncGenerator[CancelResult]:
        from . import _bulk  # noqa: PLC0415 - it loads asyncio

        self._check_bulk(concurrency, namespace)  # it may have been closed before the first result was asked for
        gate = Gate()
        lines: list[AnyAsyncLine] = [self._line]
        if self._given is None:
            verify = self._verify()
            # One pool for all is right for aiohttp. One of httpx gets slower with each connection in it.
            count = 1 if has_aiohttp() else concurrency
            lines = [self._new_line(verify, aiohttp=has_aiohttp()) for _ in range(count)]

        def canceller(line: AnyAsyncLine) -> _bulk.AsyncCancel:
            async def cancel(bucket_identifier: str, batch_id: str, own: str | None) -> TaskResponse:
                request = self._request(self._given, bucket_identifier, batch_id, namespace if own is None else own)
                return await self._persist(request, line, gate)

            return cancel

        cancels = [canceller(lines[number % len(lines)]) for number in range(concurrency)]
        results = _bulk.each(pairs, cancels, late)
        try:
            async for result in results:
                yield result
        finally:
            await results.aclose()
            for line in lines:
                if line is not self._line:
                    await line.close()
            if close:
                await self.close()

    async def _persist(self, request: httpx.Request, line: AnyAsyncLine, gate: Gate | None = None) -> TaskResponse:
        """See Client."""
        try:
            return await self._attempt(request, line, gate)
        except MixpeekError as error:
            if not self._max_retries or not _may_pass(error):
                raise
            failed = [error]
        import tenacity  # noqa: PLC0415 - see Client

        async def attempt() -> TaskResponse:
            if failed:
                raise failed.pop()
            return await self._attempt(request, line, gate)

        return await tenacity.AsyncRetrying(**self._retry_options())(attempt)

    def _new_line(self, verify: ssl.SSLContext | bool | None = None, *, aiohttp: bool = False) -> AsyncLine:
        options = self._transport_options(self._verify() if verify is None else verify)
        return AsyncLine(self._base_url, options, aiohttp=aiohttp)

    async def _attempt(self, request: httpx.Request, line: AnyAsyncLine, gate: Gate | None = None) -> TaskResponse:
        if gate is not None:
            import asyncio  # noqa: PLC0415 - a program without an event loop need not load one

            while gate.left > 0:  # noqa: ASYNC110 - it may be closed again meanwhile
                await asyncio.sleep(gate.left)
        outcome = await self._exchange(request, line)
        if isinstance(outcome, MixpeekError):
            if gate is not None:
                gate.note(outcome, LONGEST_RETRY_AFTER)
            raise outcome  # out here, where no local variable holds anything of the answer
        return outcome

    async def _exchange(self, request: httpx.Request, line: AnyAsyncLine) -> TaskResponse | MixpeekError:
        import asyncio  # noqa: PLC0415 - a program without an event loop need not load one

        started = time.perf_counter()
        try:
            # A moment more than httpx gives a single operation: it closes the socket better than a cancellation does.
            async with asyncio.timeout(self._timeout + 0.05):
                answer = await line.send(request)
                try:
                    body = Body(answer.headers)
                    async for chunk in answer.aiter_raw():
                        if not body.add(chunk):
                            break
                finally:
                    await answer.aclose()
        except Exception as error:  # whatever it is: what comes out of a call is a task or a MixpeekError
            failure = self._failure(request, started, error)
        else:
            return self._outcome(request, answer, body, started)
        return failure
