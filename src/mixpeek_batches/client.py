"""The clients: one call cancels one batch, and either gives its task or raises a MixpeekError."""

from __future__ import annotations

import logging
import platform
import ssl
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self, TypedDict

import httpx
import tenacity
from mixpeek_batches_api import __version__
from mixpeek_batches_api.api.batches import cancel_batch
from mixpeek_batches_api.types import UNSET

from . import _settings
from ._answers import LOCATION, Body, interpret
from .errors import APIConnectionError, APIStatusError, APITimeoutError, ConfigurationError, MixpeekError

if TYPE_CHECKING:
    from mixpeek_batches_api.models import TaskResponse

logger = logging.getLogger("mixpeek_batches")

LONGEST_RETRY_AFTER = 60.0
"""Seconds; a server that asks for more is not waited for."""

_RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=8)


class _RetryOptions(TypedDict):
    stop: Any
    wait: Any
    retry: Any
    before_sleep: Any
    reraise: bool


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

    def _transport_options(self) -> dict[str, Any]:
        """Options of the httpx client that we make ourselves."""
        # What is sent to this machine does not go by a proxy, which would see the key: http is not encrypted.
        host = self._base_url.host
        pattern = f"all://[{host}]" if ":" in host else f"all://{host}"
        mounts = {pattern: None} if _settings.is_loopback(self._base_url) else None
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # one call is not to change the next
        return {"timeout": self._timeout, "follow_redirects": False, "mounts": mounts, "cookies": no_cookies}

    def _request(
        self, http: httpx.Client | httpx.AsyncClient, bucket_identifier: str, batch_id: str, namespace: str | None
    ) -> httpx.Request:
        if self._closed or http.is_closed:
            raise ConfigurationError("The client is closed: make a new one, or keep the `with` block open.")
        namespace = self._namespace if namespace is None else _settings.checked_namespace(namespace)
        # What is sent is the generated operation's to say; how it is sent, and what is made of the answer, is ours.
        operation = cancel_batch._get_kwargs(
            _settings.checked_identifier(bucket_identifier, "bucket_identifier"),
            _settings.checked_identifier(batch_id, "batch_id"),
            x_namespace=UNSET if namespace is None else namespace,
        )
        headers = httpx.Headers(operation["headers"], encoding="utf-8")
        headers["Accept"] = "application/json"
        headers["Accept-Encoding"] = "gzip"
        headers["User-Agent"] = f"mixpeek-batches/{__version__} python/{platform.python_version()}"
        url = str(self._base_url) + operation["url"]
        try:
            return http.build_request(operation["method"], url, headers=headers, timeout=self._timeout)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"bucket_identifier and batch_id make no URL: {error}.") from None

    def _send_options(self) -> dict[str, Any]:
        return {"auth": self._secret, "stream": True, "follow_redirects": False}

    def _failure(self, request: httpx.Request, started: float, error: Exception) -> MixpeekError:
        """Make our error of one from the network."""
        failure: APIConnectionError
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            failure = APITimeoutError(f"No whole answer from {request.url.host} within {self._timeout:g} s.")
        else:
            reason = self._secret.redact(str(error)).rstrip(".") or type(error).__name__
            failure = APIConnectionError(f"The connection to {request.url.host} failed: {reason}.")
            failure._final = _distrusts(error)
        # The error from below is not kept as the cause: it and its frames hold the request, and so the key.
        logger.debug("%s %s -> %s in %.3f s", request.method, request.url.raw_path.decode(), failure, _since(started))
        return failure

    def _outcome(self, answer: httpx.Response, body: Body, started: float) -> TaskResponse | MixpeekError:
        request = answer.request
        logger.debug(
            "%s %s -> %d in %.3f s, request %s",
            request.method,
            request.url.raw_path.decode(),
            answer.status_code,
            _since(started),
            self._secret.redact(answer.headers.get("x-request-id", "-")),
        )
        return interpret(answer, body, self._secret)

    def _retry_options(self) -> _RetryOptions:
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


def _set_location_aside(answer: httpx.Response) -> None:
    """Keep httpx from looking at where a redirect leads: it does so without following, and fails on a bad URL."""
    if "location" in answer.headers:
        answer.extensions[LOCATION] = answer.headers.pop("location")


async def _set_location_aside_async(answer: httpx.Response) -> None:
    _set_location_aside(answer)


def _unusable(error: Exception) -> ConfigurationError:
    reason = str(error).rstrip(".") or type(error).__name__
    return ConfigurationError(f"The proxy or certificate settings of the environment cannot be used: {reason}.")


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
        self._owns_http = http_client is None
        if http_client is None:
            from . import _deadline  # noqa: PLC0415 - it imports httpcore, which httpx does not before it needs it

            hooks = {"response": [_set_location_aside]}
            try:
                http_client = httpx.Client(**self._transport_options(), event_hooks=hooks)
            except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
                raise _unusable(error) from None
            _deadline.install(http_client)
        if not isinstance(http_client, httpx.Client):
            raise ConfigurationError(f"http_client must be an httpx.Client, not {type(http_client).__name__}.")
        self._http = http_client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A second time does nothing."""
        self._closed = True
        if self._owns_http:
            self._http.close()

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
        request = self._request(self._http, bucket_identifier, batch_id, namespace)
        return tenacity.Retrying(**self._retry_options())(self._attempt, request)

    def _attempt(self, request: httpx.Request) -> TaskResponse:
        outcome = self._exchange(request)
        if isinstance(outcome, MixpeekError):
            raise outcome  # out here, where no local variable holds anything of the answer
        return outcome

    def _exchange(self, request: httpx.Request) -> TaskResponse | MixpeekError:
        from . import _deadline  # noqa: PLC0415 - see __init__

        started = time.perf_counter()
        try:
            with _deadline.time_limit(self._timeout):
                answer = self._http.send(request, **self._send_options())
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
            return self._outcome(answer, body, started)
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
        self._owns_http = http_client is None
        if http_client is None:
            hooks = {"response": [_set_location_aside_async]}
            try:
                http_client = httpx.AsyncClient(**self._transport_options(), event_hooks=hooks)
            except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
                raise _unusable(error) from None
        if not isinstance(http_client, httpx.AsyncClient):
            raise ConfigurationError(f"http_client must be an httpx.AsyncClient, not {type(http_client).__name__}.")
        self._http = http_client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. A second time does nothing."""
        self._closed = True
        if self._owns_http:
            await self._http.aclose()

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
        request = self._request(self._http, bucket_identifier, batch_id, namespace)
        return await tenacity.AsyncRetrying(**self._retry_options())(self._attempt, request)

    async def _attempt(self, request: httpx.Request) -> TaskResponse:
        outcome = await self._exchange(request)
        if isinstance(outcome, MixpeekError):
            raise outcome  # out here, where no local variable holds anything of the answer
        return outcome

    async def _exchange(self, request: httpx.Request) -> TaskResponse | MixpeekError:
        import asyncio  # noqa: PLC0415 - a program without an event loop need not load one

        started = time.perf_counter()
        try:
            # A moment more than httpx gives a single operation: it closes the socket better than a cancellation does.
            async with asyncio.timeout(self._timeout + 0.05):
                answer = await self._http.send(request, **self._send_options())
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
            return self._outcome(answer, body, started)
        return failure
