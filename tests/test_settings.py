"""Settings and arguments: where they come from, and which are refused before anything is sent."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from bulk import Caller
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peer import Peer, response

from mixpeek_batches import APIConnectionError, AsyncClient, Client, ConfigurationError, TaskResponse

Cancel = Callable[..., TaskResponse]
Connect = Callable[..., Caller]
LOCAL = "http://127.0.0.1:1"


@pytest.fixture
def untouched() -> Iterator[str]:
    """Return the URL of a peer; a connection to it fails the test."""
    with Peer(response()) as peer:
        yield peer.url
    assert peer.connections == 0


def refusal(make: Callable[..., Any], *args: Any, **options: Any) -> str:
    """Make a client that is refused, and return the reason."""
    with pytest.raises(ConfigurationError) as caught:
        make(*args, **options)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None
    return str(caught.value)


def set_variables(monkeypatch: pytest.MonkeyPatch, api_key: str, namespace: str, base_url: str) -> None:
    monkeypatch.setenv("MIXPEEK_API_KEY", api_key)
    monkeypatch.setenv("MIXPEEK_NAMESPACE", namespace)
    monkeypatch.setenv("MIXPEEK_BASE_URL", base_url)


# Where a setting comes from


def test_environment(cancel: Cancel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment sets what no argument does."""
    with Peer(response()) as peer:
        set_variables(monkeypatch, "sk_environment", "environment", peer.url)
        cancel(api_key=None)
    assert peer.requests[0].header("Authorization") == b"Bearer sk_environment"
    assert peer.requests[0].header("X-Namespace") == b"environment"


def test_argument_wins(cancel: Cancel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument, or the user's httpx client, wins over the environment, even if that could not be used."""
    with Peer(response()) as peer:
        set_variables(monkeypatch, "s k", " ", "nonsense")
        cancel(peer.url, api_key="sk_argument", namespace="argument")
        cancel(api_key="sk_argument", namespace="argument", http_options={"base_url": peer.url})
    for request in peer.requests:
        assert request.header("Authorization") == b"Bearer sk_argument"
        assert request.header("X-Namespace") == b"argument"


def test_empty_variables(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as absent."""
    set_variables(monkeypatch, "", "", "")
    with connect() as client:
        assert (client.client.namespace, client.client.base_url) == (None, "https://api.mixpeek.com")
    assert "pass api_key or set MIXPEEK_API_KEY" in refusal(connect, api_key=None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MIXPEEK_NAMESPACE", "a\tb", "MIXPEEK_NAMESPACE"),
        ("MIXPEEK_BASE_URL", "http://host", "MIXPEEK_BASE_URL"),
        ("MIXPEEK_BASE_URL", "https://[::1", "MIXPEEK_BASE_URL"),
        ("MIXPEEK_API_KEY", "sk_test\n", "line break"),
        *[("ALL_PROXY", url, "proxy") for url in ("socks5://127.0.0.1:1", "ftp://127.0.0.1", "http://[::1")],
        ("SSL_CERT_FILE", "/absent.pem", "certificate"),
    ],
)
def test_bad_variable(connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str) -> None:
    """A variable is checked like an argument, and the error names it."""
    monkeypatch.setenv("MIXPEEK_API_KEY", "sk_test")
    monkeypatch.setenv(name, value)
    assert reason in refusal(connect, api_key=None)


def test_repr(connect: Connect) -> None:
    """It shows the base URL and the namespace."""
    with connect("http://127.0.0.1:1/x/", namespace="ns") as client:
        name = type(client.client).__name__
        assert repr(client.client) == f"{name}(base_url='http://127.0.0.1:1/x', namespace='ns')"


# What is refused when the client is made


@given(st.text(max_size=8) | st.text(st.characters(max_codepoint=0x80), max_size=8))
@example("!~")
@example("sk\n")
@example("sk test")
@example("sk\x7f")
def test_key(key: str) -> None:
    """A key is visible ASCII; anything else is refused."""
    if key and key.isascii() and key.isprintable() and " " not in key:
        Client(base_url=LOCAL, api_key=key)
    else:
        assert "API key" in refusal(Client, base_url=LOCAL, api_key=key)


@pytest.mark.parametrize(
    "url",
    [
        *["", " ", "/", "host", "host:443", "//host", "https:host", "https://", "https:///path", "mailto:me@host"],
        *["ftp://host", "file:///etc/passwd"],
        *["https://host:port", "https://host:0", "https://host:65536", "https://host:-1"],
        *["https://[::1", "https://[nonsense]", "https://[", "https://" + "h" * 70_000],
        *["https://host\n", "https://host\0", "https://host ", " https://host", "https://ho st", "https://host\\x"],
        *["https://user@host", "https://user:geheim@host", "https://:@host"],
        *["https://host?query", "https://host/path?a=b", "https://host/?", "https://host#", "https://host/#fragment"],
        *["https://host\ud800", b"https://host", 7, httpx.URL("https://host")],
    ],
)
def test_bad_base_url(connect: Connect, url: Any) -> None:
    """An invalid base URL is refused when the client is made; a password in it is not repeated."""
    reason = refusal(connect, url)
    assert "base_url" in reason
    assert "geheim" not in reason


@settings(max_examples=50)
@given(
    st.text("az09-.", min_size=1, max_size=9).filter(lambda text: text[0] in "az" and text[-1] in "az09"),
    st.integers(1, 65535).filter(lambda port: port != 80),
    st.text("aZ0._~-%/", max_size=9).filter(lambda path: "/." not in path and "//" not in path),
)
@example("host", 65535, "x")
def test_base_url(host: str, port: int, path: str) -> None:
    """A host, a port and a path make one; the scheme is case-insensitive."""
    client = Client(api_key="sk_test", base_url=f"HTTP://{host}:{port}/{path}", allow_http=True)
    assert client.base_url == str(httpx.URL(f"http://{host}:{port}/{path}")).rstrip("/")


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        *[(f"http://{host}", True) for host in ("127.0.0.1:8", "127.8.8.8", "localhost:8", "localhost", "[::1]:8")],
        *[(f"http://{host}", False) for host in ("host", "10.0.0.1", "localhost.example.com", "[fe80::1]")],
    ],
)
def test_http(connect: Connect, url: str, is_local: bool) -> None:
    """The key is not sent unencrypted, except on this machine or when that is asked for."""
    if not is_local:
        assert "unencrypted" in refusal(connect, url)
    with connect(url, allow_http=not is_local) as client:
        assert client.client.base_url == url


@settings(max_examples=60)
@given(st.text(max_size=9) | st.text(st.characters(categories=["Cc", "Cs", "Zs", "L"]), max_size=3))
@example("a\r\nX-Evil: 1")
@example(" a")
@example("a ")
@example("a\x7f")
@example("a\x85b")
@example("a\u00a0")
@example('"a": b, c')
def test_namespace(connect: Connect, namespace: str) -> None:
    """A namespace arrives as its UTF-8 bytes; one that would not is refused."""
    if namespace and namespace.strip(" ") == namespace and not {"Cc", "Cs"} & set(map(unicodedata.category, namespace)):
        with Peer(response()) as peer, connect(peer.url, namespace=namespace) as client:
            client.cancel_batch("bkt_1", "btch_1")
        assert peer.requests[0].header("X-Namespace") == namespace.encode()
    else:
        assert "namespace" in refusal(connect, LOCAL, namespace=namespace)


@given(st.floats() | st.integers())
@example(0)
@example(86_400)
@example(86_400.01)
@example(10**400)
def test_timeout(timeout: float) -> None:
    """A time-out is a number of seconds above 0, and no more than a day."""
    if 0 < timeout <= 86_400:
        Client(base_url=LOCAL, api_key="sk_test", timeout=timeout)
    else:
        assert "timeout" in refusal(Client, base_url=LOCAL, api_key="sk_test", timeout=timeout)


def test_longest_timeout(cancel: Cancel) -> None:
    """Sockets accept it."""
    with Peer(response()) as peer:
        cancel(peer.url, timeout=86_400)


BAD: dict[str, list[Any]] = {
    "api_key": [None, b"sk", 7, "sk\ud800"],
    "namespace": ["a\tb", b"a", 7, ["a"]],
    "timeout": [0, True, None, "30", httpx.Timeout(5)],
    "max_retries": [-1, True, 1.5, 2.0, None, "2"],
    "http_client": [httpx, "httpx"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_setting(connect: Connect, untouched: str, name: str, value: Any) -> None:
    """Both clients refuse an invalid setting and name it, and so do their calls."""
    assert name.replace("api_key", "API key") in refusal(connect, untouched, **{name: value})
    if name in {"namespace", "timeout", "max_retries"} and value is not None:
        with connect(untouched) as client:
            assert name in refusal(client.cancel_batch, "bkt_1", "btch_1", **{name: value})


def test_http_client_of_the_other_kind() -> None:
    """Client needs an httpx.Client, and AsyncClient an httpx.AsyncClient."""
    with httpx.Client() as http:
        assert "httpx.AsyncClient" in refusal(AsyncClient, api_key="sk_test", http_client=http)
    assert "httpx.Client" in refusal(Client, api_key="sk_test", http_client=httpx.AsyncClient())


# What is refused when it is called


@pytest.mark.parametrize("identifier", ["", ".", "..", "a\ud800", "\udfff", None, b"a", 7, ["a"]])
def test_bad_identifier(connect: Connect, untouched: str, identifier: Any) -> None:
    """An identifier that no path carries, or that leads to another one, is refused, and named."""
    with connect(untouched) as client:
        assert refusal(client.cancel_batch, identifier, "btch_1").startswith("bucket_identifier")
        assert refusal(client.cancel_batch, "bkt_1", identifier).startswith("batch_id")


@pytest.mark.parametrize("identifier", ["a" * 70_000, "ü" * 15_000], ids=["long", "long-when-encoded"])
@pytest.mark.parametrize("http_options", [None, {}])
def test_identifier_too_long_for_a_url(connect: Connect, untouched: str, identifier: str, http_options: Any) -> None:
    """So is an identifier that makes the URL too long to be sent."""
    with connect(untouched, http_options=http_options) as client:
        assert "batch_id" in refusal(client.cancel_batch, "bkt_1", identifier)


# Closing


def test_closing(connect: Connect, untouched: str) -> None:
    """A closed client raises ConfigurationError, and closing twice is harmless."""
    with connect(untouched) as client:
        client.close()
        client.close()
        assert "closed" in refusal(client.cancel_batch, "bkt_1", "btch_1")


def test_use_after_the_block(connect: Connect, untouched: str) -> None:
    """The end of the client's own block closes it."""
    with connect(untouched) as caller:
        client = caller.client
        if isinstance(client, Client):
            with client as entered:
                assert entered is client
        else:
            assert caller.finish(client.__aenter__()) is client
            caller.finish(client.__aexit__())
        assert "closed" in refusal(caller.cancel_batch, "bkt_1", "btch_1")


@pytest.mark.parametrize("close", [Caller.close, Caller.close_http])
def test_closing_with_a_users_client(connect: Connect, untouched: str, close: Callable[[Caller], None]) -> None:
    """An httpx client of the user's is the user's to close; when either is closed, nothing is sent."""
    with connect(untouched, http_options={}) as client:
        close(client)
        assert client.http is not None
        assert client.http.is_closed == (close is Caller.close_http)
        assert "closed" in refusal(client.cancel_batch, "bkt_1", "btch_1")
        assert "closed" in refusal(client.cancel_batches, [("bkt_1", "btch_1")])


# Proxies


def test_loopback_needs_no_proxy(connect: Connect, untouched: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine use no proxy, which would see the key."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, untouched)
    with Peer(response()) as peer:
        for host in ("127.0.0.1", "localhost"):
            with connect(f"http://{host}:{peer.port}") as client:
                assert client.cancel_batch("bkt_1", "btch_1")
    with connect("http://[::1]:1", max_retries=0) as client, pytest.raises(APIConnectionError):  # nobody listens
        client.cancel_batch("bkt_1", "btch_1")


@pytest.mark.parametrize(("name", "scheme"), [("HTTP_PROXY", "http://"), ("ALL_PROXY", "")])
def test_proxy_from_the_environment(cancel: Cancel, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str) -> None:
    """A proxy of the environment is used for other machines, unless NO_PROXY names them."""
    with Peer(response()) as proxy:
        monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
        cancel("http://name.invalid", allow_http=True)
        monkeypatch.setenv("NO_PROXY", "name.invalid")
        with pytest.raises(APIConnectionError):
            cancel("http://name.invalid", allow_http=True)
    assert [request.line.partition(b"/v1")[0] for request in proxy.requests] == [b"POST http://name.invalid"]
