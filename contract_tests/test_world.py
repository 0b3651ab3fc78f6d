"""Targets as the world has them: TLS, IPv6, paths, rate limits, servers that die; and what the suite makes of each."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trustme
from starlette.types import ASGIApp, Receive, Scope, Send

from mixpeek_batches.mock import MockServer

from . import clauses as c
from . import inputs, session
from .clause import Clause
from .mutants import MUTANTS, MutantServer
from .report import Report
from .scenario import MOCK_KEY, prepared_target, run
from .session import Session
from .target import ConfigError, Target
from .wire import Answer, Exchange, Request

Instead = Callable[[Scope], tuple[int, dict[str, str], bytes] | None]
LIMITERS = {c.content_type, c.json_, c.error_envelope, c.retry_after}


class Fronted(MockServer):
    """The mock behind something that answers some requests itself."""

    def __init__(self, instead: Instead) -> None:
        super().__init__(api_key=MOCK_KEY)
        self._instead = instead

    def app(self) -> ASGIApp:
        app = super().app()

        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            answer = self._instead(scope) if scope["type"] == "http" else None
            await (app(scope, receive, send) if answer is None else _send(send, *answer))

        return front


def _send(send: Send, status: int, headers: dict[str, str], body: bytes) -> Awaitable[None]:
    async def both() -> None:
        encoded = [
            (name.encode(), value.encode()) for name, value in {**headers, "content-length": str(len(body))}.items()
        ]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    return both()


def target(server: MockServer, **changes: object) -> Target:
    """Put batches into a server, and take it for one that the tests did not start."""
    return attrs.evolve(prepared_target(server), mock=None, **changes)  # type: ignore[arg-type]


def broken(report: Report) -> set[Clause]:
    """Give the clauses that are broken."""
    return {finding.clause for finding in report.having("broken")}


@contextlib.contextmanager
def tls(port: int, folder: Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Speak TLS before a port of this machine, with a certificate of an authority that nobody knows yet.

    Gives:
        The port.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host, "localhost").configure_cert(context)
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(plain: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(plain, server_side=True) as outer,
            socket.create_connection(("127.0.0.1", port)) as inner,
        ):
            for one in (inner, outer):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=pump, args=(inner, outer), daemon=True)
            back.start()
            pump(outer, inner)
            back.join(5)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _port(server: MockServer) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_variable_counts_for_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Behind TLS of a private authority, SSL_CERT_FILE is all that is needed; also on IPv6, also under a path."""
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")

    def prefixed(scope: Scope) -> tuple[int, dict[str, str], bytes] | None:
        raw: bytes = scope["raw_path"]
        if not raw.startswith(b"/some/path/"):
            return 404, {}, b"nothing here"
        scope["raw_path"] = raw.removeprefix(b"/some/path")
        return None

    with Fronted(prefixed) as server, tls(_port(server), tmp_path, host) as port:
        url = f"https://[{host}]:{port}/some/path" if ":" in host else f"https://{host}:{port}/some/path"
        with pytest.raises(ConfigError, match=r"is not trusted \(.*\): set SSL_CERT_FILE"):
            run(target(server, base_url=url), 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        report, _ = run(target(server, base_url=url), 1)
    assert report.broken == []
    assert report.generated > 20


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_schemes_mixed_up_are_told(tmp_path: Path) -> None:
    """Http where https is spoken, and the other way round, is one sentence."""
    with MockServer(api_key=MOCK_KEY) as server, tls(_port(server), tmp_path) as port:
        with pytest.raises(ConfigError, match="speaks TLS: write https in base_url"):
            run(target(server, base_url=f"http://127.0.0.1:{port}"), 1)
        with pytest.raises(ConfigError, match="does not speak TLS"):
            run(target(server, base_url=server.url.replace("http:", "https:")), 1)


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (301, {"location": "https://elsewhere.example/"}, "redirects to https://elsewhere.example/"),
        (401, {}, "refuses the key in MIXPEEK_API_KEY"),
        (403, {}, "the key may not use namespace 'contract_tests'"),
        (502, {}, "a gateway is there, and no API behind it"),
        (503, {"retry-after": "0"}, "answers nothing but 503"),
        (429, {}, "answers nothing but 429"),
    ],
)
def test_what_cannot_be_tested_is_told(
    monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str], said: str
) -> None:
    """A target that lets nobody in is told in one sentence, before anything is checked."""
    monkeypatch.setattr(session, "_NO_PROGRESS_TIMEOUT", 1.0)
    with Fronted(lambda _: (status, headers, b"<h1>no</h1>")) as server:
        with pytest.raises(ConfigError) as caught:
            run(target(server), 1)
        assert server.requests == []
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("page", [b"<html>busy</html>", b"busy"])
def test_rate_limit_breaks_only_what_it_breaks(monkeypatch: pytest.MonkeyPatch, status: int, page: bytes) -> None:
    """A rate limiter's pages are waited out, and break nothing but what they are."""
    monkeypatch.setattr(session, "_wait", lambda *_: 0.02)
    bucket = {"tokens": 20.0, "at": time.monotonic()}

    def limited(_: Scope) -> tuple[int, dict[str, str], bytes] | None:
        now = time.monotonic()
        bucket["tokens"] = min(bucket["tokens"] + (now - bucket["at"]) * 150, 20)
        bucket["at"] = now
        if bucket["tokens"] < 1:
            return status, {"content-type": "text/html"}, page
        bucket["tokens"] -= 1
        return None

    with Fronted(limited) as server:
        report, _ = run(target(server, max_requests=5000), 1)
    assert report.requests["again, after a rate limit"]
    assert report.stopped == ""
    assert broken(report) == LIMITERS


def test_503_of_one_request_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that always gets a 503, while others get through, brought it about."""
    monkeypatch.setattr(session, "_wait", lambda *_: 0.0)
    with Fronted(lambda scope: (503, {}, b"") if b"%F0%9F" in scope["raw_path"] else None) as server:
        report, _ = run(target(server), 1)
    assert c.no_server_error in broken(report)
    assert c.odd_identifiers in broken(report)


def test_server_that_dies_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a request kills is told from a connection that ends, and the request is named."""
    monkeypatch.setattr(session, "_RETURNS", 0.3)

    def deadly(scope: Scope) -> None:
        if b"%F0%9F" in scope["raw_path"]:
            threading.Thread(target=server.stop).start()
            time.sleep(0.2)

    with Fronted(deadly) as server:
        report, _ = run(target(server), 1)
    assert report.stopped.startswith("the server is gone")
    assert "%F0%9F" in report.last[-1] or "%F0%9F" in report.last[-2]
    assert report.findings[c.cancel].state == "not checked"
    assert report.findings[c.cancel].why_not == report.stopped
    assert broken(report) <= {c.answers, c.odd_identifiers}


def test_answers_that_never_come_stop_the_run() -> None:
    """After a few requests without an answer the run ends, with a sentence."""
    with Fronted(lambda _: None) as server:
        given = target(server)
        talk = Session(given, lambda _: None, 1)
        silence = Exchange(Request(method="POST", path="/"), Answer(status=0, failure="slow", timed_out=True))
        with talk.wire, pytest.raises(session.Stopped, match="4 requests got no answer in time"):
            list(map(talk.note, [silence] * 5))


def test_gateways_answers_are_listed() -> None:
    """What a gateway refuses on its own account counts for nothing and is listed by clause; a key in it counts."""

    def refusing(scope: Scope) -> tuple[int, dict[str, str], bytes] | None:
        if scope["method"] != "POST" or b"%2F" in scope["raw_path"]:
            return 403, {"content-type": "text/html"}, dict(scope["headers"]).get(b"authorization", b"")
        return None

    with Fronted(refusing) as server:
        report, _ = run(target(server), 1)
    assert broken(report) == {c.key_not_repeated}
    assert {c.method.name, c.identifier_exact.name} <= set(report.gateway)


@pytest.mark.parametrize("own_account", [True, False])
def test_near_misses_need_an_account_of_ones_own(own_account: bool) -> None:
    """Without own_account, every identifier that is not configured has the mark of the tests."""
    with MockServer(api_key=MOCK_KEY) as server:
        given = target(server, own_account=own_account)
        run(given, 1)
        own = {"bkt_a", "bkt_b", "btch_1", "btch_2", "btch_9"}
        near = [
            request.path
            for request in server.requests
            if request.batch_id
            and session.MARK not in f"{request.path} {request.namespace}"
            and not {request.bucket_identifier, request.batch_id} <= own
        ]
    assert bool(near) == own_account


def test_pace_is_kept() -> None:
    """At a given rate no request is early, and a whole run is small enough for five requests a second."""
    with MockServer(api_key=MOCK_KEY) as server:
        report, _ = run(target(server), 1)
        assert report.requests.total() <= 700
        given = target(server, requests_per_second=50, max_requests=60)
        started = time.monotonic()
        report, _ = run(given, 1)
        assert time.monotonic() - started >= 59 / 50
    assert report.requests.total() == 60


@pytest.mark.parametrize("key", ["sk_Aa0-Bb1_Cc2.Dd3/Ee4=", MOCK_KEY])
def test_bash_spells_what_was_sent(key: str) -> None:
    """How the report writes a wrong key is, in bash, the bytes that were sent."""
    rows = [*((text.encode(), spelled) for text, spelled in inputs.wrong_keys(key, range(len(key)))),
            *inputs.other_schemes(key)]  # fmt: skip
    script = "\n".join(f'printf "%s\\n" "{spelled}"' for _, spelled in rows)
    bash = shutil.which("bash") or pytest.skip("bash is not installed")
    done = subprocess.run(
        [bash, "-c", script], env={**os.environ, "MIXPEEK_API_KEY": key}, capture_output=True, check=True
    )
    assert done.stdout.split(b"\n")[:-1] == [text for text, _ in rows]


@pytest.mark.parametrize("name", ["the key in a 401", "a prefix of the key will do", "500 on a very long identifier",
                                  "500 on a non-ASCII namespace", "409 for a finished batch", "422 for any body",
                                  "HEAD gives 200", "any of the namespaces counts", "a form has the key"])  # fmt: skip
def test_curl_repeats_the_breach(name: str) -> None:
    """The command in the report, pasted into bash with the key in its variable, sends the request that was sent."""
    curl, bash = shutil.which("curl"), shutil.which("bash")
    if curl is None or bash is None:
        pytest.skip("curl is not installed")
    mutant = MUTANTS[name]
    with MutantServer(mutant) as server:
        given = target(server)
        report, _ = run(given, 1, until=mutant.clauses)
        breach = next(f.breach for f in report.having("broken") if f.clause in mutant.clauses)
        assert breach is not None
        server.clear_requests()
        environment = {**os.environ, "MIXPEEK_API_KEY": given.key}
        command = [bash, "-c", breach.curl]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        assert given.key not in breach.curl
        sent = server.requests[-1]
    status = re.match(r"HTTP/1.1 (\d+)", done.stdout)
    assert status is not None
    if mutant.clauses[0].when == "step":
        assert breach.got.startswith(status[1])
    assert breach.request.startswith(f"{sent.method} {sent.path}"[:160])
