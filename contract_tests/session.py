"""How requests reach a target: the first conversation, the pace, what is waited out, and when to stop."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from .target import ConfigError, Place, Target
from .wire import KEY_VARIABLE, Answer, Exchange, Request, Wire, connected

MARK = "contract-test-"
"""What every identifier that the tests make up begins with or ends in."""

LIMITED = frozenset({429, 503})
"""What a rate limiter answers: waited out."""

_NO_API = frozenset({0, 502, 503, 504})
_LONGEST_WAIT = 60.0  # seconds that a limiter may ask for
_NO_PROGRESS_TIMEOUT = 120.0  # seconds of waiting in which nothing gets through
_RETURNS = 3.0  # seconds in which a server that is gone may come back
_SHOWN = 3  # requests that are named when a server is gone
_SLOWEST = 2.0  # seconds between requests, whatever a limiter refuses
_SILENCES = 4


class Stopped(Exception):
    """No more requests may, or need, be sent; says why, in one sentence."""


class Session:
    """Sends requests to a target, no faster and no more than it allows, and shows each exchange to an observer."""

    def __init__(self, target: Target, observe: Callable[[Exchange], None], seed: int) -> None:
        self.target = target
        self.random = random.Random(seed)  # noqa: S311 - names of things that do not exist
        self.exchanges: list[Exchange] = []
        self.kinds: Counter[str] = Counter()
        self.stopped: str | None = None
        self.last: list[Request] = []
        self.wire = Wire(target.base_url)
        self._observe = observe
        self._lock = threading.RLock()
        self._least = self._interval = 1 / target.requests_per_second if target.requests_per_second else 0.0
        self._next = 0.0
        self._silences = 0

    def made_up(self) -> str:
        """Make up an identifier that is nobody's."""
        return f"{MARK}{self.random.getrandbits(48):012x}"

    def nobody(self) -> Place:
        """Make up a place where no batch is."""
        return Place(self.made_up(), self.made_up())

    def request(
        self,
        place: Place | str,
        *,
        method: str = "POST",
        key: bytes | str | None = "",
        spelled: str = "",
        namespace: str | bytes | None = "",
        more: Sequence[tuple[str, bytes]] = (),
        accept: bytes | None = b"application/json",
        **others: Any,
    ) -> Request:
        """Make a request.

        Args:
            place: The batch, or a whole path.
            method: The HTTP method.
            key: The Authorization header; "" for the right one, None for none.
            spelled: How bash spells it, with the key left to its variable.
            namespace: The X-Namespace header; "" for the target's own, None for none.
            more: More headers.
            accept: The Accept header; None for none.
            others: Further attributes of the request.
        """
        good = self.target.key
        bash = {f"Bearer {good}".encode(): f"Bearer ${KEY_VARIABLE}"}
        value = f"Bearer {good}".encode() if key == "" else key.encode() if isinstance(key, str) else key
        if value is not None and spelled:
            bash[value] = spelled
        headers = [*([] if accept is None else [("Accept", accept)]), *more]
        if value is not None:
            headers.append(("Authorization", value))
        if namespace == "":
            namespace = self.target.namespace
        if namespace is not None:
            headers.append(("X-Namespace", namespace.encode() if isinstance(namespace, str) else namespace))
        path = place.path if isinstance(place, Place) else place
        texts = [text for _, text in headers if text not in bash]
        for text in (*texts, path.encode(), others.get("body", b"")):
            if good.encode() in text:
                bash[text] = text.decode().replace(good, f"${{{KEY_VARIABLE}}}")
        return Request(method=method, path=path, headers=tuple(headers), spelled=tuple(bash.items()), **others)

    def send(self, request: Request, kind: str = "by clauses", wire: Wire | None = None) -> Exchange:
        """Send a request and note what came back. What a rate limiter refuses is waited out.

        Raises:
            Stopped: No more may be sent.
        """
        began, refusals, interval = time.monotonic(), 0, self._interval
        while True:
            self._turn(kind if not refusals else "again, after a rate limit")
            with self._lock:
                self.last = [*self.last, request][-_SHOWN:]
            exchange = Exchange(request, (wire or self.wire).send(request))
            if exchange.answer.status not in LIMITED or request.induced or self.target.mock is not None:
                break
            refusals += 1
            if refusals == 4 and self._hello().status not in LIMITED:
                self._interval = interval  # it is about this request, and not about the rate
                break
            if time.monotonic() - began > _NO_PROGRESS_TIMEOUT:
                self._stop(f"the server answers nothing but {exchange.answer.status} for {_NO_PROGRESS_TIMEOUT:g} s.")
            self.note(Exchange(_limited(request), exchange.answer))
            self._interval = min(max(self._interval * 1.25, 0.02), _SLOWEST)
            time.sleep(_wait(exchange.answer, refusals))
        self.note(exchange)
        self._interval = max(self._interval * 0.98, self._least) if self._interval > 0.001 else self._least
        if exchange.answer.status in _NO_API and not request.induced and self.target.mock is None:
            self._look_whether_it_is_there(exchange.answer)
        return exchange

    def at_once(self, requests: Sequence[Request]) -> list[Exchange]:
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

    def framing(self, request: Request) -> str | None:
        """Say what is wrong with the length of an answer, asked on a connection of its own and without a length."""
        self._turn("by clauses")
        return self.wire.framing(request)

    def note(self, exchange: Exchange) -> None:
        """Take an exchange into the record."""
        with self._lock:
            if exchange.request.clause != _LIMITED:
                self.exchanges.append(exchange)
            self._observe(exchange)
            self._silences += exchange.answer.timed_out
            if self._silences >= _SILENCES:
                self._stop(f"{_SILENCES} requests got no answer in time.")

    def greet(self) -> None:
        """Speak to the target once, before anything is checked.

        Raises:
            ConfigError: It cannot be tested; says in one sentence what to do.
        """
        url, request = self.target.base_url, self.request(self.nobody())
        self._turn("to begin with")
        answer = self.wire.send(request)
        if answer.status in LIMITED:
            try:
                answer = self.send(request, "to begin with").answer
            except Stopped as reason:
                raise ConfigError(f"{url} cannot be tested: {reason}") from None
        problem = _unreachable(url) if answer.status == 0 else None
        if problem is not None:
            raise ConfigError(problem)
        self.exchanges.clear()
        if answer.status == 0:
            if url.startswith("http:") and _speaks_tls(url):
                raise ConfigError(f"{url} speaks TLS: write https in base_url.")
            raise ConfigError(f"{url} accepts connections and does not answer as HTTP does: {answer.failure}.")
        if answer.status == 400 and url.startswith("http:") and _speaks_tls(url):
            raise ConfigError(f"{url} speaks TLS: write https in base_url.")
        if 300 <= answer.status < 400:
            raise ConfigError(
                f"{url} redirects to {answer.header('location')}: write the address behind it as base_url."
            )
        if answer.status == 401:
            raise ConfigError(
                f"{url} refuses the key in {KEY_VARIABLE} with 401: it must be one that may be used there."
            )
        if answer.status == 403:
            where = f"namespace {self.target.namespace!r}" if self.target.namespace else "its default namespace"
            raise ConfigError(f"{url} answers 403: the key may not use {where}, or a gateway lets nobody in.")
        if answer.status in _NO_API:
            raise ConfigError(f"{url} answers {answer.status}: a gateway is there, and no API behind it.")

    def _hello(self) -> Answer:
        with Wire(self.target.base_url) as wire:
            self._turn("to see who is there")
            return wire.send(self.request(self.nobody()))

    def _turn(self, kind: str) -> None:
        """Wait until another request may be sent."""
        with self._lock:
            if self.kinds.total() >= self.target.max_requests:
                self.stopped = f"more than max_requests, which is {self.target.max_requests}"
            if self.stopped is not None:
                raise Stopped(self.stopped)
            self.kinds[kind] += 1
            now = time.monotonic()
            wait = self._next - now if self._interval else 0.0
            self._next = max(self._next, now) + self._interval
            if wait > 0:
                time.sleep(wait)

    def _look_whether_it_is_there(self, answer: Answer) -> None:
        """Tell a connection that ended, or a gateway's failure, from a server that is gone."""
        give_up = time.monotonic() + _RETURNS
        while True:
            if self._hello().status not in _NO_API:
                return
            if time.monotonic() > give_up:
                self._stop(f"the server is gone ({answer.failure or answer.status}).")
            time.sleep(_RETURNS / 10)

    def _stop(self, why: str) -> None:
        self.stopped = why
        raise Stopped(why)


_LIMITED = "a rate limiter's answer"


def _limited(request: Request) -> Request:
    return attrs.evolve(request, clause=_LIMITED)


def is_limiters(exchange: Exchange) -> bool:
    """Tell whether an answer is a rate limiter's, so that it says nothing but about the limiter."""
    return exchange.request.clause == _LIMITED


def _wait(answer: Answer, refusals: int) -> float:
    text = answer.header("retry-after") or ""
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() else min(0.5 * 2**refusals, 8.0)


def _unreachable(url: str) -> str | None:
    """Say in a sentence why no connection can be made, if none can."""
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
        return f"No server answers at {url} within 5 s."
    except (OSError, UnicodeError) as error:
        return f"No server answers at {url}: {getattr(error, 'strerror', None) or error}."


def _speaks_tls(url: str) -> bool:
    problem = _unreachable(url.replace("http:", "https:", 1))
    return problem is None or "is not trusted" in problem
