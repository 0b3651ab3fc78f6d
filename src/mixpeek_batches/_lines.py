"""The ways by which requests leave: transports of our own, or somebody else's httpx client."""

from __future__ import annotations

import importlib.util
import ssl
from typing import TYPE_CHECKING, Any

import httpx

from ._settings import Secret
from .errors import ConfigurationError

if TYPE_CHECKING:
    import aiohttp

_LONGEST_LINE = 65_536  # bytes of a header; aiohttp's own limit of 8,190 is less than what httpx takes


def has_aiohttp() -> bool:
    """Tell whether the [aiohttp] extra is installed."""
    return importlib.util.find_spec("httpx_aiohttp") is not None


def timed_out(error: BaseException) -> bool:
    """Tell whether an error of a transport says that the time was over."""
    # httpx-aiohttp calls a connection that is refused, reset or closed a time-out too. What it made its error of tells.
    cause = error.__cause__
    if cause is not None and type(cause).__module__.startswith("aiohttp."):
        return isinstance(cause, TimeoutError)
    return isinstance(error, httpx.TimeoutException | TimeoutError)


def unusable(error: Exception) -> ConfigurationError:
    """Make our error of one about the proxies or certificates that the environment names."""
    reason = str(error).rstrip(".") or type(error).__name__
    return ConfigurationError(f"The proxy or certificate settings of the environment cannot be used: {reason}.")


class GivenLine:
    """Sends by somebody else's httpx client."""

    def __init__(self, http: httpx.Client, secret: Secret) -> None:
        self._http = http
        self._secret = secret

    def send(self, request: httpx.Request) -> httpx.Response:
        """Send, and give the answer before its body is read."""
        return self._http.send(request, auth=self._secret, stream=True, follow_redirects=False)

    def close(self) -> None:
        """Leave that to whom it belongs."""


class Line:
    """Sends by a transport of our own: straight, since cookies, redirects and hooks are not wanted."""

    def __init__(self, base_url: httpx.URL, options: dict[str, Any]) -> None:
        """Open it.

        Args:
            base_url: Where it leads.
            options: Those of an httpx client, which knows which of the environment's proxies, if any, is for that.

        Raises:
            ConfigurationError: Proxies or certificates that the environment names cannot be used.
        """
        from . import _deadline  # noqa: PLC0415 - it imports httpcore, which httpx does not before it needs it

        try:
            self._http = httpx.Client(**options)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise unusable(error) from None
        _deadline.install(self._http)
        self._transport = self._http._transport_for_url(base_url)

    def send(self, request: httpx.Request) -> httpx.Response:
        """Send, and give the answer before its body is read."""
        return self._transport.handle_request(request)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


class GivenAsyncLine:
    """Sends by somebody else's httpx client."""

    def __init__(self, http: httpx.AsyncClient, secret: Secret) -> None:
        self._http = http
        self._secret = secret

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send, and give the answer before its body is read."""
        return await self._http.send(request, auth=self._secret, stream=True, follow_redirects=False)

    async def close(self) -> None:
        """Leave that to whom it belongs."""


class AsyncLine:
    """Sends by a transport of our own, see Line."""

    def __init__(self, base_url: httpx.URL, options: dict[str, Any], *, aiohttp: bool = False) -> None:
        """Open it.

        Args:
            base_url: See Line.
            options: See Line.
            aiohttp: Use aiohttp's transport, which is faster, unless a proxy is in between.

        Raises:
            ConfigurationError: See Line.
        """
        try:
            self._http = httpx.AsyncClient(**options)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise unusable(error) from None
        self._transport = self._http._transport_for_url(base_url)
        if aiohttp and self._transport is self._http._transport:
            from httpx_aiohttp import AiohttpTransport  # noqa: PLC0415 - an extra, and slow to load

            verify = options["verify"]
            self._transport = AiohttpTransport(verify=verify, client=lambda: _session(verify))

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send, and give the answer before its body is read."""
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()
        await self._transport.aclose()


def _session(verify: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    """Make aiohttp's part of a transport: as many connections as there are requests, no cookies, nothing added."""
    import aiohttp  # noqa: PLC0415 - an extra, and slow to load

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=verify, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=["Content-Type"],
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
    )


AnyLine = Line | GivenLine
AnyAsyncLine = AsyncLine | GivenAsyncLine
