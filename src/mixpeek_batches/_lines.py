"""The ways by which requests leave: transports of our own, or somebody else's httpx client."""

from __future__ import annotations

import importlib.util
from typing import Any

import httpx

from ._settings import Secret
from .errors import ConfigurationError


def has_aiohttp() -> bool:
    """Tell whether the [aiohttp] extra is installed."""
    return importlib.util.find_spec("httpx_aiohttp") is not None


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
            if aiohttp:
                from httpx_aiohttp import AiohttpTransport  # noqa: PLC0415 - an extra, and slow to load

                transport = AiohttpTransport(verify=options["verify"], limits=options["limits"])
                options = {**options, "transport": transport, "mounts": {}}
            self._http = httpx.AsyncClient(**options)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise unusable(error) from None
        self._transport = self._http._transport_for_url(base_url)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send, and give the answer before its body is read."""
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


AnyLine = Line | GivenLine
AnyAsyncLine = AsyncLine | GivenAsyncLine
