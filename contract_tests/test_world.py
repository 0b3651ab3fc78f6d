"""Targets as the world has them: TLS, IPv6, paths, rate limits, servers that die; and what the suite makes of each."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
import uvicorn

from . import clauses as c
from . import inputs, session
from .clause import Clause
from .mutants import BUCKETS, MUTANTS, Ask, Incoming, Mutant, MutantServer, Outgoing
from .render import explained
from .report import Report
from .scenario import MOCK_KEY, prepared_target, run
from .session import Session
from .target import MARK, ConfigError, Target
from .wire import Exchange, Request, Response, Wire

LIMITERS = {c.content_type, c.json_, c.error_envelope, c.retry_after}


class VirtualTime:
    """A clock that only sleeping moves, in place of the session's `time` module."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """The clock of every session in a test that asks for it."""
    clock = VirtualTime()
    monkeypatch.setattr(session, "time", clock)
    return clock


def behind(ask: Ask) -> MutantServer:
    """Return the mock behind something that may respond itself."""
    return MutantServer(Mutant(ask=ask))


def target(server: MutantServer, **changes: Any) -> Target:
    """Add batches to a server, and return it as a target that the tests did not start."""
    return attrs.evolve(prepared_target(server), mock=None, **changes)


def broken(report: Report) -> set[Clause]:
    """Return the clauses that are broken."""
    return {result.clause for result in report.having("broken")}


@contextlib.contextmanager
def tls(server: MutantServer, folder: Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve what a server serves over TLS, with a certificate of an authority that nothing trusts yet.

    Yields:
        The port.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    both = str(folder / "both.pem")
    authority.issue_cert(host, "localhost").private_key_and_cert_chain_pem.write_to_path(both)
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    outer = uvicorn.Server(uvicorn.Config(server.app(), ssl_certfile=both, ssl_keyfile=both, log_config=None))
    thread = threading.Thread(target=outer.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        outer.should_exit = True
        thread.join()


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_one_variable_counts_for_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind TLS of a private authority, SSL_CERT_FILE is all that is needed, however requests are sent.

    On a connection that is kept, of their own, at once, and generated; also on IPv6, also under a path.
    """

    def strip(asked: Incoming) -> Outgoing | None:
        if not asked.path.startswith("/some/path/"):
            return Outgoing(asked, 404, {}, raw=b"nothing here")
        asked.path = asked.path.removeprefix("/some/path")
        return None

    host = "::1" if _has_ipv6() else "127.0.0.1"
    with behind(strip) as server, tls(server, tmp_path, host) as port:
        given = target(server, base_url=f"https://{f'[{host}]' if ':' in host else host}:{port}/some/path")
        with pytest.raises(ConfigError, match=r"is not trusted \(.*\): set SSL_CERT_FILE"):
            run(given, 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        generated = [clause for clause in c.CLAUSES.values() if clause.of == "generated"]
        report = run(given, 1, clauses=[c.framing, c.cancel, c.idempotent_simultaneous, *generated])
    assert report.broken == []
    assert {result.clause for result in report.having("held")} >= {c.framing, c.cancel, c.idempotent_simultaneous}
    assert report.generated > 20


def test_mixed_up_schemes_are_reported(tmp_path: Path) -> None:
    """Http where https is spoken, and the other way round, is one sentence."""
    with MutantServer() as server, tls(server, tmp_path) as port:
        with pytest.raises(ConfigError, match="speaks TLS: write https in base_url"):
            run(target(server, base_url=f"http://127.0.0.1:{port}"), 1)
        with pytest.raises(ConfigError, match="does not speak TLS"):
            run(target(server, base_url=server.url.replace("http:", "https:")), 1)


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (301, {"location": "https://elsewhere.example/"}, "redirects to https://elsewhere.example/"),
        (401, {}, "refuses the key in MIXPEEK_API_KEY"),
        (403, {}, "the key may not use namespace 'contract_tests'"),
        (502, {}, "a gateway is there, and no API behind it"),
        (503, {"retry-after": "0"}, "responds with nothing but 503"),
        (429, {}, "responds with nothing but 429"),
    ],
)
def test_target_that_cannot_be_tested(
    monkeypatch: pytest.MonkeyPatch, clock: VirtualTime, status: int, headers: dict[str, str], sentence: str
) -> None:
    """A target that lets nobody in is reported in one sentence, before anything is checked."""
    if "retry-after" in headers:
        monkeypatch.setattr(clock, "sleep", lambda seconds: VirtualTime.sleep(clock, max(seconds, 1)))
    with behind(lambda asked: Outgoing(asked, status, headers, raw=b"<h1>no</h1>")) as server:
        with pytest.raises(ConfigError) as caught:
            run(target(server), 1)
        assert server.requests == []
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rate_limit_breaks_only_what_it_breaks(clock: VirtualTime) -> None:
    """A rate limiter's pages are waited out, and break nothing but what they are; the run slows down."""
    pages = itertools.cycle([(429, b"<html>busy</html>"), (503, b"busy"), (503, b"<html>busy</html>"), (429, b"busy")])
    tokens, last, refused = 20.0, 0.0, 0

    def limit(asked: Incoming) -> Outgoing | None:
        nonlocal tokens, last, refused
        tokens, last = min(tokens + (clock.now - last) * 50, 20), clock.now
        if tokens >= 1:
            tokens -= 1
            return None
        refused += 1
        status, page = next(pages)
        return Outgoing(asked, status, {"content-type": "text/html"}, raw=page)

    with behind(limit) as server:
        report = run(target(server, max_requests=5000), 1)
    assert report.stopped == ""
    assert broken(report) == LIMITERS
    assert len(LIMITERS) <= refused <= 25, "without slowing down, there are more than 40"


def test_breach_is_blamed_on_its_cause() -> None:
    """A body that is not read, and not the request that it spoils; a first error, and not what is compared with it."""
    with MutantServer(MUTANTS["the body of chunks stays in the connection"]) as server:
        report = run(target(server), 1)
    assert broken(report) == {c.length_unannounced}
    assert "'Transfer-Encoding: chunked'" in explained(report.results[c.length_unannounced])
    with MutantServer(Mutant(change=lambda response: response.error(400), status=200)) as server:
        report = run(target(server), 1)
    assert broken(report) >= {c.cancel, c.idempotent_simultaneous}
    assert not broken(report) & {c.idempotent, c.one_task_each, c.no_mixing}
    assert "while the batches under cancelable were being cancelled" in explained(report.results[c.cancel])


def test_503_of_one_request_is_a_breach(clock: VirtualTime) -> None:
    """A request that always gets a 503, while others get through, brought it about."""
    with behind(lambda asked: Outgoing(asked, 503, {}, raw=b"") if "%F0%9F" in asked.path else None) as server:
        report = run(target(server), 1, clauses=[c.odd_identifiers])
    assert {c.no_server_error, c.odd_identifiers} <= broken(report)


def test_server_that_dies_stops_the_run(clock: VirtualTime) -> None:
    """A server that a request kills, rather than a connection, stops the run, and the request is named."""

    def die(asked: Incoming) -> None:
        if "%F0%9F" in asked.path:
            threading.Thread(target=server.stop).start()
            time.sleep(0.2)  # so that it stops before it responds

    with behind(die) as server:
        report = run(target(server), 1, clauses=[c.odd_identifiers, c.cancel])
    assert report.stopped.startswith("the server is gone")
    assert "%F0%9F" in report.last[-1] or "%F0%9F" in report.last[-2]
    assert report.results[c.cancel].state == "not checked"
    assert report.results[c.cancel].why_not == report.stopped
    assert broken(report) <= {c.answers, c.odd_identifiers}


def test_timeouts_stop_the_run() -> None:
    """After a few requests without a response the run ends, with a sentence."""
    silent = Session(Report(Target(name="silent", base_url="http://127.0.0.1:9", key=MOCK_KEY), 1))
    timeout = Exchange(Request(method="POST", path="/"), Response(failure="slow", timed_out=True))
    with pytest.raises(session.Stopped, match="4 requests got no response in time"):
        list(map(silent.record, [timeout] * 5))


@contextlib.contextmanager
def raw_server(*chunks: bytes) -> Iterator[str]:
    """Serve one connection: read the head of a request, send the chunks, and close."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for chunk in chunks:
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"


def test_informational_responses_are_skipped() -> None:
    """Whichever they are, and however many within reason, the final response counts."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3
    request = Request(method="POST", path="/x")
    with raw_server(hints, NOT_FOUND) as url, Wire(url) as wire:
        response = wire.send(request)
    assert (response.status, response.body, response.failure) == (404, b"{}", None)
    with raw_server(hints, NOT_FOUND) as url, Wire(url) as wire:
        assert wire.framing_problem(request) is None
    with raw_server(hints * 20) as url, Wire(url) as wire:
        assert "more than 20 informational responses" in str(wire.send(request).failure)


def test_response_before_the_end_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that responds early and closes has responded."""
    with raw_server(NOT_FOUND) as url, Wire(url) as wire:
        send = wire._connection.endheaders

        def send_and_break(*args: Any, **kwargs: Any) -> None:
            send(*args, **kwargs)
            raise BrokenPipeError  # which is up to the kernel

        monkeypatch.setattr(wire._connection, "endheaders", send_and_break)
        response = wire.send(Request(method="POST", path="/x", body=b"{}", send_length=False))
    assert (response.status, response.failure) == (404, None)


@pytest.mark.parametrize(
    ("media_type", "good"),
    [
        ("application/json", True),
        ("Application/JSON; charset=UTF8", True),
        ('application/json; odata=minimal; charset="utf-8"', True),
        ("application/json; charset=latin-1", False),
        ("application/json; charset=none", False),
        ("application/jsonp", False),
        ("text/json", False),
        ("", False),
    ],
)
def test_parameters_of_json(media_type: str, good: bool) -> None:
    """Parameters are allowed, another charset is not."""
    checks: list[bool] = []

    def check(ok: bool, expected: object, found: object) -> bool:
        checks.append(ok)
        return ok

    response = Response(status=404, headers=(("content-type", media_type),), body=b"{}")
    c.content_type.function(Request(method="POST", path="/x"), response, check)
    assert checks == [good]


def test_responses_of_gateways_are_listed() -> None:
    """What a gateway refuses on its own account counts for nothing and is listed by clause; a key in it counts."""

    def refuse(asked: Incoming) -> Outgoing | None:
        if asked.method != "POST" or "%2F" in asked.path:
            return Outgoing(asked, 403, {"content-type": "text/html"}, raw=asked["authorization"].encode("latin-1"))
        return None

    with behind(refuse) as server:
        report = run(target(server), 1)
    assert broken(report) == {c.key_not_repeated}
    assert {c.method.name, c.identifier_exact.name} <= set(report.gateway)


def test_a_gateway_may_allow_a_preflight() -> None:
    """As most APIs do that are called from browsers."""

    def allow(asked: Incoming) -> Outgoing | None:
        if asked.method == "OPTIONS" and asked["access-control-request-method"]:
            return Outgoing(asked, 200, {"content-type": "text/plain"}, raw=b"OK")
        return None

    with behind(allow) as server:
        assert broken(run(target(server), 1)) == set()


def test_near_misses_need_an_account_of_ones_own() -> None:
    """Without own_account, every identifier that is not configured has the mark of the tests."""

    def near_misses(server: MutantServer) -> list[str]:
        own = {*BUCKETS, *BUCKETS.values()}
        named = [(one, f"{one.path} {one.namespace}") for one in server.requests if one.batch_id]
        made_up = [one for one, text in named if MARK not in text]
        return [one.path for one in made_up if not {one.bucket_identifier, one.batch_id} <= own]

    with MutantServer() as server:
        run(target(server, own_account=False), 1)
        assert near_misses(server) == []
        run(target(server), 1, clauses=[c.identifier_exact])
        assert near_misses(server)


def test_pace_is_kept(clock: VirtualTime) -> None:
    """At a given rate no request is early."""
    with MutantServer() as server:
        report = run(target(server, requests_per_second=50, max_requests=60), 1)
    assert clock.now >= 59 / 50
    assert report.requests.total() == 60


@pytest.mark.parametrize("key", ["sk_Aa0-Bb1_Cc2.Dd3/Ee4=", MOCK_KEY])
def test_bash_writes_what_was_sent(key: str) -> None:
    """How the report writes a wrong key is, in bash, the bytes that were sent."""
    keys = [*inputs.wrong_keys(key), *inputs.one_character_changed(key, range(len(key)))]
    rows = [*((text.encode(), written) for text, written in keys), *inputs.other_schemes(key)]
    script = "\n".join(f'printf "%s\\n" "{written}"' for _, written in rows)
    done = bash(script, key)
    assert done.split(b"\n")[:-1] == [text for text, _ in rows]


def bash(script: str, key: str) -> bytes:
    """Run a script with the key in its variable, and return what it prints."""
    command = shutil.which("bash") or pytest.skip("bash is not installed")
    environment = {**os.environ, "MIXPEEK_API_KEY": key}
    return subprocess.run([command], input=script.encode(), env=environment, capture_output=True, check=True).stdout


def test_curl_repeats_the_request(report: Report) -> None:
    """Each command that a report may show, pasted into bash with the key in its variable, sends what was sent."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    kinds: dict[object, Request] = {}
    for request in (exchange.request for exchange in report.exchanges):
        names = tuple(name for name, _ in request.headers)
        kinds[request.clause, request.method, request.gateway_reason, names, request.path.count("?")] = request
    received: list[object] = []

    def record(asked: Incoming) -> Outgoing:
        ignored = {"host", "user-agent", "content-length" if asked.method == "HEAD" else ""}
        headers = sorted(pair for pair in asked.headers if pair[0] not in ignored)
        received.append((asked.method, asked.path, asked.query, headers, asked.body))
        return Outgoing(asked, 200, {})

    with behind(record) as server:
        for request in kinds.values():
            with Wire(server.url) as wire:
                wire.send(request)
        sent = received.copy()
        received.clear()
        commands = [report.clean(request.curl(server.url)) for request in kinds.values()]
        bash("\n".join(["set -e", *commands]), report.target.key)
    assert len(commands) > 50
    assert len(sent) > 0.9 * len(kinds), "the rest is no valid HTTP request"
    assert report.target.key not in "".join(commands)
    assert received == sent
