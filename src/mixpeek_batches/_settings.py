"""Settings and arguments, checked before anything is sent."""

from __future__ import annotations

import ipaddress
import os
import re

import httpx

from ._secrets import Secret
from .errors import ConfigurationError

CLOSED = "The client is closed: make a new one, or keep the `with` block open."
DEFAULT_BASE_URL = "https://api.mixpeek.com"
_LONGEST_TIMEOUT = 86_400.0  # a day, in seconds; sockets overflow on much more
_BASE_URL = re.compile(r"https?://(\[[0-9a-f:.]+\]|[^\s/?#@:%\[\]\\]+)(:[0-9]{1,5})?(/[^\s?#\\]*)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _environment(name: str) -> str | None:
    """Return an environment variable; an empty one counts as absent, as shells blur the difference."""
    return os.environ.get(name) or None


def key_or_environment(given: Secret | None, *, needed: bool) -> Secret:
    """Return the key that was passed, else the one in MIXPEEK_API_KEY, else an empty one if none is needed.

    Raises:
        ConfigurationError: There is none, or it may not be sent.
    """
    # The key is never a local variable: a traceback may be printed with the values of those.
    secret = given if given is not None else Secret(_environment("MIXPEEK_API_KEY") or "")
    problem = secret.problem()
    if problem and (needed or secret):
        raise ConfigurationError(problem)
    return secret


def namespace_or_environment(given: str | None) -> str | None:
    """Return the namespace that was passed, else the one in MIXPEEK_NAMESPACE, else None.

    Raises:
        ConfigurationError: It may not be sent.
    """
    if given is None:
        return checked_namespace(_environment("MIXPEEK_NAMESPACE"), "MIXPEEK_NAMESPACE")
    return checked_namespace(given)


def checked_namespace(namespace: str | None, name: str = "namespace") -> str | None:
    """Return a namespace that a header carries unchanged.

    Raises:
        ConfigurationError: It is no string, empty, or would not arrive as it is.
    """
    if namespace is None:
        return None
    _check_text(namespace, name)
    if _CONTROL.search(namespace):
        raise ConfigurationError(f"{name} {namespace!r} holds a control character.")
    if namespace != namespace.strip(" "):
        raise ConfigurationError(f"{name} {namespace!r} begins or ends with a space, which HTTP would drop.")
    return namespace


def checked_identifier(identifier: str, name: str) -> str:
    """Return an identifier that can be one path segment.

    Raises:
        ConfigurationError: It is no string, empty, a dot segment (which RFC 3986, section 5.2.4, would remove, so that
            the request would reach another endpoint), or not to be written in UTF-8.
    """
    _check_text(identifier, name)
    if identifier in {".", ".."}:
        raise ConfigurationError(f"{name} may not be {identifier!r}: in a URL that leads to another endpoint.")
    return identifier


def _check_text(text: object, name: str) -> None:
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} must be a string, not {type(text).__name__}.")
    if not text:
        raise ConfigurationError(f"{name} is empty.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} {text!r} holds half a surrogate pair, which UTF-8 cannot carry.") from None


def checked_base_url(given: str | None, of_client: str = "", *, allow_http: bool) -> httpx.URL:
    """Return the base URL that was passed, else the one in MIXPEEK_BASE_URL, else the vendor's.

    Args:
        given: The argument.
        of_client: That of the user's httpx client, which counts as an argument; empty if it has none.
        allow_http: Whether it may be neither https nor on this machine.

    Raises:
        ConfigurationError: It is no URL, has parts that a base URL may not have, or would send the key in the clear.
    """
    if given is not None and of_client:
        raise ConfigurationError("Pass base_url, or an http_client that has one, but not both.")
    argument = given if given is not None else of_client or None
    text = argument if argument is not None else _environment("MIXPEEK_BASE_URL") or DEFAULT_BASE_URL
    name = "base_url" if argument is not None else "MIXPEEK_BASE_URL"
    _check_text(text, name)
    if "@" in text:
        raise ConfigurationError(f"{name} may not hold a user name or password.")
    try:
        # httpx takes more for a URL than is one, and what it then sends goes elsewhere.
        url = httpx.URL(text.rstrip("/")) if _BASE_URL.fullmatch(text) else None
    except httpx.InvalidURL:
        url = None
    if url is None or not 0 < (443 if url.port is None else url.port) < 65536:
        raise ConfigurationError(f"{name} must be like {DEFAULT_BASE_URL}, without ? and #, not {text!r}.")
    if url.scheme == "http" and not (allow_http or is_loopback(url)):
        raise ConfigurationError(
            f"{name} {text!r} would send the API key unencrypted: use https, or pass allow_http if that is meant."
        )
    return url


def is_loopback(url: httpx.URL) -> bool:
    """Return whether a URL points to this machine."""
    if url.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def checked_timeout(timeout: float) -> float:
    """Return a time-out in seconds.

    Raises:
        ConfigurationError: It is not a number above 0 and of a day at most.
    """
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not 0 < timeout <= _LONGEST_TIMEOUT:
        raise ConfigurationError(f"timeout must be a number of seconds above 0 and up to {_LONGEST_TIMEOUT:g}.")
    return float(timeout)


def checked_rate(rate: float | None) -> float | None:
    """Return an upper bound in requests a second, or None.

    Raises:
        ConfigurationError: It is not a number above 0.
    """
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if rate is not None and not (number and 0 < rate < float("inf")):
        raise ConfigurationError("max_rate must be a number of requests a second above 0, or None for no bound.")
    return rate


def checked_count(count: int, name: str, *, least: int) -> int:
    """Return a whole number that is not too small.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        raise ConfigurationError(f"{name} must be a whole number from {least} up, not {count!r}.")
    return count
