"""How requests reach a target: the first one, the pace, what is waited out, and when to stop."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from .clause import CLAUSES
from .report import Report
from .target import MARK, BatchRef, ConfigError
from .wire import KEY_VARIABLE, Exchange, Request, Response, Wire, connected

LIMITED = frozenset({429, 503})
"""The status codes of a rate limiter's responses, which are waited out."""

_NO_API = frozenset({0, 502, 503, 504})
_LONGEST_WAIT = 60.0  # seconds that a limiter may ask for
_NO_PROGRESS_TIMEOUT = 120.0  # seconds of waiting in which nothing gets through
_RESTART_TIMEOUT = 3.0  # seconds in which a server that is gone may come back
_LONGEST_INTERVAL = 2.0  # seconds between requests, whatever a limiter refuses
_MOST_TIMEOUTS = 4
_NAMED = 3  # requests that are named when a server is gone


class Stopped(Exception):
    """No more requests may, or need, be sent; its message is one sentence."""


class Session:
    """Sends requests to a target, no faster and no more than it allows, and records each exchange in a report.

    Attributes:
        last: The last requests.
        clause: The name of the clause that requests are for.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.target = report.target
        self.random = random.Random(report.seed)  # noqa: S311 - names of things that do not exist
        self.wire = Wire(report.target.base_url)
        self.last: deque[Request] = deque(maxlen=_NAMED)
        self.clause = ""
        self._lock = threading.RLock()
        rate = report.target.requests_per_second
        self._shortest_interval = self._interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._timeouts = 0

    def made_up(self) -> str:
        """Return a new identifier that nothing has."""
        return f"{MARK}{self.random.getrandbits(48):012x}"

    def unknown(self) -> BatchRef:
        """Return a new reference to a batch that does not exist."""
        return BatchRef(self.made_up(), self.made_up())

    def request(
        self,
        batch: BatchRef | str,
        *,
        method: str = "POST",
        key: bytes | str | None = "",
        bash: str = "",
        namespace: str | bytes | None = "",
        more: Sequence[tuple[str, bytes]] = (),
        accept: bytes | None = b"application/json",
        **others: Any,
    ) -> Request:
        """Make a request.

        Args:
            batch: The batch, or a whole path.
            method: The HTTP method.
            key: The Authorization header; "" for the right one, None for none.
            bash: How bash writes it, with the key left to its variable.
            namespace: The X-Namespace header; "" for the target's own, None for none.
            more: More headers.
            accept: The Accept header; None for none.
            others: Further attributes of the request.
        """
        right = f"Bearer {self.target.key}"
        in_bash = {right.encode(): f"Bearer ${KEY_VARIABLE}"}
        key = _encoded(right if key == "" else key)
        namespace = _encoded(self.target.namespace if namespace == "" else namespace)
        if key is not None and bash:
            in_bash[key] = bash
        headers = [
            (name, value)
            for name, value in (("Accept", accept), *more, ("Authorization", key), ("X-Namespace", namespace))
            if value is not None
        ]
        path = batch.path if isinstance(batch, BatchRef) else batch
        for text in (*(value for _, value in headers), path.encode(), others.get("body", b"")):
            if self.target.key.encode() in text and text not in in_bash:
                in_bash[text] = text.decode().replace(self.target.key, f"${{{KEY_VARIABLE}}}")
        others.setdefault("clause", self.clause)
        return Request(method=method, path=path, headers=tuple(headers), bash=tuple(in_bash.items()), **others)

    def send(self, request: Request, kind: str = "by clauses", wire: Wire | None = None) -> Exchange:
        """Send a request and record the response. What a rate limiter refuses is waited out.

        Raises:
            Stopped: If no more may be sent.
        """
        began, refusals, interval = time.monotonic(), 0, self._interval
        while True:
            self._wait_for_turn("again, after a rate limit" if refusals else kind)
            with self._lock:
                self.last.append(request)
            wire = wire or self.wire
            exchange = Exchange(request, wire.send(request))
            status = exchange.response.status
            if unread := wire.unread:
                got = "a response to the next request on its connection, as if its body were the beginning of that"
                self.report.check(
                    CLAUSES[unread.clause], False, Exchange(unread, exchange.response), "a body that is read", got
                )
            if status not in LIMITED or request.induced or self.target.mock is not None:
                break
            refusals += 1
            if refusals == 4 and self._probe().status not in LIMITED:
                self._interval = interval  # it is about this request, and not about the rate
                break
            if time.monotonic() - began > _NO_PROGRESS_TIMEOUT:
                self._stop(f"the server responds with nothing but {status} for {_NO_PROGRESS_TIMEOUT:g} s.")
            self.record(exchange, from_limiter=True)
            self._interval = min(max(self._interval * 1.25, 0.02), _LONGEST_INTERVAL)
            time.sleep(_retry_after(exchange.response, refusals))
        self.record(exchange)
        self._interval = max(self._interval * 0.98, self._shortest_interval)
        if self._interval <= 0.001:
            self._interval = self._shortest_interval
        if status in _NO_API and not request.induced and self.target.mock is None:
            self._stop_if_gone(exchange.response)
        return exchange

    def send_at_once(self, requests: Sequence[Request]) -> list[Exchange]:
        """Send requests at the same moment, each on a connection of its own."""
        ready = threading.Barrier(len(requests))
        time.sleep(self._interval * len(requests))  # so that they are due together
        self._next = 0.0

        def send(request: Request) -> Exchange:
            with Wire(self.target.base_url) as wire:
                ready.wait(10)
                return self.send(request, wire=wire)

        interval, self._interval = self._interval, 0.0
        try:
            with ThreadPoolExecutor(len(requests)) as pool:
                return list(pool.map(send, requests))
        finally:
            self._interval = max(interval, self._interval)

    def framing_problem(self, request: Request) -> str | None:
        """Return what is wrong with the length of a response, requested on a connection of its own without a length."""
        self._wait_for_turn("by clauses")
        return self.wire.framing_problem(request)

    def record(self, exchange: Exchange, *, from_limiter: bool = False) -> None:
        """Record an exchange in the report.

        Raises:
            Stopped: If too many requests got no response in time.
        """
        with self._lock:
            self.report.observe(exchange, from_limiter=from_limiter)
            self._timeouts += exchange.response.timed_out
            if self._timeouts >= _MOST_TIMEOUTS:
                self._stop(f"{_MOST_TIMEOUTS} requests got no response in time.")

    def greet(self) -> None:
        """Send one request before anything is checked.

        Raises:
            ConfigError: If the target cannot be tested; its message says in one sentence what to do.
        """
        url, request = self.target.base_url, self.request(self.unknown())
        self._wait_for_turn("to begin with")
        response = self.wire.send(request)
        if response.status in LIMITED:
            try:
                response = self.send(request, "to begin with").response
            except Stopped as reason:
                raise ConfigError(f"{url} cannot be tested: {reason}") from None
        self.report.exchanges.clear()
        problem = self._problem(response)
        if problem:
            raise ConfigError(problem)

    def _problem(self, response: Response) -> str | None:
        """Return in one sentence why a target cannot be tested, if it cannot."""
        url, status = self.target.base_url, response.status
        if status == 0 and (unreachable := _unreachable(url)):
            return unreachable
        if status in {0, 400} and url.startswith("http:") and _speaks_tls(url):
            return f"{url} speaks TLS: write https in base_url."
        if status == 0:
            return f"{url} accepts connections, but its response is not HTTP: {response.failure}."
        if 300 <= status < 400:
            return f"{url} redirects to {response.header('location')}: write the address behind it as base_url."
        if status == 401:
            return f"{url} refuses the key in {KEY_VARIABLE} with 401: set it to one that is valid there."
        if status == 403:
            where = f"namespace {self.target.namespace!r}" if self.target.namespace else "its default namespace"
            return f"{url} responds with 403: the key may not use {where}, or a gateway lets nobody in."
        if status in _NO_API:
            return f"{url} responds with {status}: a gateway is there, and no API behind it."
        return None

    def _probe(self) -> Response:
        with Wire(self.target.base_url) as wire:
            self._wait_for_turn("to see who is there")
            return wire.send(self.request(self.unknown()))

    def _wait_for_turn(self, kind: str) -> None:
        """Wait until another request may be sent."""
        with self._lock:
            if self.report.requests.total() >= self.target.max_requests:
                self.report.stopped = f"more than max_requests, which is {self.target.max_requests}"
            if self.report.stopped:
                raise Stopped(self.report.stopped)
            self.report.requests[kind] += 1
            now = time.monotonic()
            wait = self._next - now if self._interval else 0.0
            self._next = max(self._next, now) + self._interval
            if wait > 0:
                time.sleep(wait)

    def _stop_if_gone(self, response: Response) -> None:
        """Stop if the server is gone, rather than a connection ended or a gateway failed."""
        give_up = time.monotonic() + _RESTART_TIMEOUT
        while self._probe().status in _NO_API:
            if time.monotonic() > give_up:
                self._stop(f"the server is gone ({response.failure or response.status}).")
            time.sleep(_RESTART_TIMEOUT / 10)

    def _stop(self, why: str) -> NoReturn:
        self.report.stopped = why
        raise Stopped(why)


def _encoded(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


def _retry_after(response: Response, refusals: int) -> float:
    text = response.header("retry-after") or ""
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() else min(0.5 * 2**refusals, 8.0)


def _unreachable(url: str) -> str | None:
    """Return in one sentence why no connection can be made, if none can."""
    try:
        with connected(url, timeout=5):
            return None
    except ssl.SSLCertVerificationError as error:
        return (
            f"The certificate of {url} is not trusted ({error.verify_message}): set SSL_CERT_FILE to a file with the "
            "certificate of the authority that signed it."
        )
    except ssl.SSLError as error:
        return f"{url} does not speak TLS ({error.reason or error}): write http in base_url if that is meant."
    except TimeoutError:
        return f"No server responds at {url} within 5 s."
    except (OSError, UnicodeError) as error:
        return f"No server responds at {url}: {getattr(error, 'strerror', None) or error}."


def _speaks_tls(url: str) -> bool:
    problem = _unreachable(url.replace("http:", "https:", 1))
    return problem is None or "is not trusted" in problem
