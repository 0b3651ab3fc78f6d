"""Settings and arguments: where they come from, and which are refused before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from peer import Peer, response

from mixpeek_batches import APIConnectionError, AsyncClient, Client, ConfigurationError, TaskResponse

Cancel = Callable[..., TaskResponse]
Connect = Callable[..., Any]


@pytest.fixture
def untouched() -> Iterator[str]:
    """Give the URL of a peer to which nobody may even connect."""
    with Peer(response()) as peer:
        yield peer.url
    assert peer.connections == 0


def refused(connect: Connect, base_url: str | None, **options: Any) -> str:
    """Make a client that is refused, and give the reason."""
    with pytest.raises(ConfigurationError) as caught, connect(base_url, **options):
        pass
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None
    return str(caught.value)


# Where a setting comes from


def test_environment(cancel: Cancel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment gives what no argument does."""
    with Peer(response()) as peer:
        monkeypatch.setenv("MIXPEEK_API_KEY", "sk_environment")
        monkeypatch.setenv("MIXPEEK_NAMESPACE", "environment")
        monkeypatch.setenv("MIXPEEK_BASE_URL", peer.url)
        cancel(api_key=None)
    assert peer.requests[0].header("Authorization") == b"Bearer sk_environment"
    assert peer.requests[0].header("X-Namespace") == b"environment"


def test_argument_wins(cancel: Cancel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over the environment, even if that could not be used."""
    with Peer(response()) as peer:
        monkeypatch.setenv("MIXPEEK_API_KEY", "s k")
        monkeypatch.setenv("MIXPEEK_NAMESPACE", " ")
        monkeypatch.setenv("MIXPEEK_BASE_URL", "nonsense")
        cancel(peer.url, api_key="sk_argument", namespace="argument")
    assert peer.requests[0].header("Authorization") == b"Bearer sk_argument"
    assert peer.requests[0].header("X-Namespace") == b"argument"


def test_empty_variables(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is as good as none."""
    monkeypatch.setenv("MIXPEEK_NAMESPACE", "")
    monkeypatch.setenv("MIXPEEK_BASE_URL", "")
    with connect() as client:
        assert (client.client.namespace, client.client.base_url) == (None, "https://api.mixpeek.com")
    monkeypatch.setenv("MIXPEEK_API_KEY", "")
    assert "pass api_key or set MIXPEEK_API_KEY" in refused(connect, None, api_key=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MIXPEEK_NAMESPACE", "a\tb"), ("MIXPEEK_BASE_URL", "http://host"), ("MIXPEEK_BASE_URL", "https://[::1")],
)
def test_bad_variable(connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A variable is checked as an argument is, and the error says which it was."""
    monkeypatch.setenv(name, value)
    assert name in refused(connect, None)


def test_bad_key_in_the_environment(connect: Connect, untouched: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was read with its line break is refused."""
    monkeypatch.setenv("MIXPEEK_API_KEY", "sk_test\n")
    assert "line break" in refused(connect, untouched, api_key=None)


def test_repr(connect: Connect) -> None:
    """A client shows where it sends."""
    with connect("http://127.0.0.1:1/x/", namespace="ns") as client:
        name = type(client.client).__name__
        assert repr(client.client) == f"{name}(base_url='http://127.0.0.1:1/x', namespace='ns')"


# What is refused when the client is made


def test_no_key(connect: Connect, untouched: str) -> None:
    """Without a key there is no client."""
    assert "MIXPEEK_API_KEY" in refused(connect, untouched, api_key=None)


@pytest.mark.parametrize(
    "key", ["", " ", "sk test", "sk\n", "\tsk", "sk\0", "sk\x7f", "schlüssel", "sk\ud800", b"sk", 7]
)
def test_bad_key(connect: Connect, untouched: str, key: Any) -> None:
    """A key that no header carries, or that was plainly misread, is refused."""
    assert "API key" in refused(connect, untouched, api_key=key)


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "/",
        "host",
        "host:443",
        "//host",
        "https:host",
        "https://",
        "https:///path",
        "ftp://host",
        "file:///etc/passwd",
        "mailto:me@host",
        "https://host:port",
        "https://host:99999",
        "https://host:-1",
        "https://[::1",
        "https://[nonsense]",
        "https://host\n",
        "https://host\0",
        "https://host ",
        " https://host",
        "https://ho st",
        "https://[",
        "https://" + "h" * 70_000,
        "https://user@host",
        "https://user:password@host",
        "https://:@host",
        "https://host?query",
        "https://host/path?a=b",
        "https://host?",
        "https://host/?",
        "https://host#",
        "https://host/#fragment",
        "https://host\ud800",
        b"https://host",
        7,
        httpx.URL("https://host"),
    ],
)
def test_bad_base_url(connect: Connect, url: Any) -> None:
    """What is no base URL is refused, before the first request fails in some other way."""
    assert "base_url" in refused(connect, url)


def test_password_in_the_base_url(connect: Connect) -> None:
    """A password in a URL is refused without being repeated."""
    assert "geheim" not in refused(connect, "https://user:geheim@host")


@pytest.mark.parametrize(
    "url", ["http://api.mixpeek.com", "http://10.0.0.1", "http://localhost.example.com", "http://[fe80::1]"]
)
def test_http(connect: Connect, url: str) -> None:
    """The key is not sent unencrypted, except on this machine or when that is asked for."""
    assert "unencrypted" in refused(connect, url)
    with connect(url, allow_http=True) as client:
        assert client.client.base_url == url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8", "http://127.8.8.8", "http://localhost:8", "http://LOCALHOST", "http://[::1]:8"]
)
def test_http_on_loopback(connect: Connect, url: str) -> None:
    """On this machine http will do."""
    with connect(url) as client:
        assert client.client.base_url == url.lower()


BAD_NAMESPACES = ["", " ", " a", "a ", "a\tb", "a\r\nX-Evil: 1", "\0", "a\x7f", "a\x85b", "a\ud800", b"a", 7, ["a"]]


@pytest.mark.parametrize("namespace", BAD_NAMESPACES)
def test_bad_namespace(connect: Connect, untouched: str, namespace: Any) -> None:
    """A namespace that would not arrive as it is given is refused, for a client and for a call."""
    assert "namespace" in refused(connect, untouched, namespace=namespace)
    with connect(untouched) as client, pytest.raises(ConfigurationError, match="namespace"):
        client.cancel_batch("bkt_1", "btch_1", namespace=namespace)


@pytest.mark.parametrize(
    "timeout",
    [
        0,
        0.0,
        -1,
        math.nan,
        math.inf,
        -math.inf,
        True,
        None,
        "30",
        86_401,
        1e300,
        pytest.param(10**400, id="googol"),
        httpx.Timeout(5),
    ],
)
def test_bad_timeout(connect: Connect, untouched: str, timeout: Any) -> None:
    """A time-out is a number of seconds above 0, and no more than a day."""
    assert "timeout" in refused(connect, untouched, timeout=timeout)


@pytest.mark.parametrize("timeout", [1, 0.5, 86_400])
def test_timeout(cancel: Cancel, timeout: float) -> None:
    """Any other time-out will do."""
    with Peer(response()) as peer:
        cancel(peer.url, timeout=timeout)


@pytest.mark.parametrize("max_retries", [-1, True, 1.5, 2.0, None, "2", math.inf])
def test_bad_max_retries(connect: Connect, untouched: str, max_retries: Any) -> None:
    """The number of retries is a whole one, from 0 up."""
    assert "max_retries" in refused(connect, untouched, max_retries=max_retries)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTPS_PROXY", "ftp://127.0.0.1"), ("HTTPS_PROXY", "http://[::1")],
)
def test_bad_proxy_in_the_environment(connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A proxy that cannot be used is a setting that cannot."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError), connect():
        pass


def test_bad_certificate_file_in_the_environment(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So is a file of authorities that is not there."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigurationError), connect("https://127.0.0.1:9"):
        pass


# What is refused when it is called


@pytest.mark.parametrize("identifier", ["", ".", "..", "a\ud800", "\udfff", None, b"a", 7, ["a"]])
@pytest.mark.parametrize("position", [0, 1])
def test_bad_identifier(connect: Connect, untouched: str, identifier: Any, position: int) -> None:
    """An identifier that no path carries, or that leads to another one, is refused, and named."""
    identifiers: list[Any] = ["bkt_1", "btch_1"]
    identifiers[position] = identifier
    with connect(untouched) as client, pytest.raises(ConfigurationError) as caught:
        client.cancel_batch(*identifiers)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(["bucket_identifier", "batch_id"][position])


@pytest.mark.parametrize("identifier", ["a" * 70_000, "ü" * 15_000], ids=["long", "long-when-encoded"])
def test_identifier_too_long_for_a_url(connect: Connect, untouched: str, identifier: str) -> None:
    """An identifier that makes the URL too long to be sent is refused too."""
    with connect(untouched) as client, pytest.raises(ConfigurationError):
        client.cancel_batch("bkt_1", identifier)


# Closing


def test_use_after_close(connect: Connect, untouched: str) -> None:
    """A closed client says so."""
    with connect(untouched) as client:
        client.close()
        with pytest.raises(ConfigurationError, match="closed"):
            client.cancel_batch("bkt_1", "btch_1")


def test_closing_twice(connect: Connect, untouched: str) -> None:
    """Closing twice is harmless."""
    with connect(untouched) as client:
        client.close()
        client.close()


def test_use_after_the_block(kind: type[Client | AsyncClient], untouched: str, connect: Connect) -> None:
    """The end of the client's own block closes it."""
    with connect(untouched) as caller:
        client = caller.client
        if isinstance(client, Client):
            with client as entered:
                assert entered is client
        else:
            assert caller.finished(client.__aenter__()) is client
            caller.finished(client.__aexit__())
        with pytest.raises(ConfigurationError, match="closed"):
            caller.cancel_batch("bkt_1", "btch_1")


def test_users_client_stays_open(connect: Connect) -> None:
    """An httpx client of the user's is the user's to close, and ours is closed all the same."""
    with Peer(response()) as peer, connect(peer.url, http_options={}) as client:
        client.cancel_batch("bkt_1", "btch_1")
        client.close()
        assert not client.http.is_closed
        with pytest.raises(ConfigurationError, match="closed"):
            client.cancel_batch("bkt_1", "btch_1")


def test_users_client_that_is_closed(connect: Connect, untouched: str) -> None:
    """An httpx client that the user has closed sends nothing."""
    with connect(untouched, http_options={}) as client:
        client.close_http()
        with pytest.raises(ConfigurationError, match="closed"):
            client.cancel_batch("bkt_1", "btch_1")


# Proxies


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_needs_no_proxy(cancel: Cancel, untouched: str, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """What stays on this machine goes by no proxy, which would see the key."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, untouched)
    with Peer(response()) as peer:
        cancel(f"http://{host}:{peer.port}")
    assert len(peer.requests) == 1


def test_ipv6_loopback_needs_no_proxy(connect: Connect, untouched: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what stays on this machine by IPv6."""
    monkeypatch.setenv("HTTP_PROXY", untouched)
    with connect("http://[::1]:1", max_retries=0) as client, pytest.raises(APIConnectionError):
        client.cancel_batch("bkt_1", "btch_1")
