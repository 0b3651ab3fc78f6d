"""A server on a raw socket, which responds to each request as its script says.

A script is the bytes of a response, or a sequence of bytes and actions. The n-th request gets the n-th script, and all
that follow get the last one; a function in place of the scripts chooses by request.

    with Peer(response(503), [response()[:40], RESET], response()) as peer:
        ...                     # cancel batches at peer.url
    assert peer.connections == 2
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

TASK: dict[str, Any] = {
    "task_id": "task_1",
    "task_type": "api_buckets_batches_process",
    "status": "CANCELED",
    "inputs": ["obj_1"],
    "outputs": [],
    "additional_data": {"batch_id": "btch_1"},
    "error_message": None,
}
_PEER_TIMEOUT = 20.0
"""Seconds after which a peer gives up waiting."""


class Action(Enum):
    """What a peer does instead of sending bytes."""

    UNREAD = "do not read the request; only as the first action"
    HANG = "wait until the client closes the connection"
    CLOSE = "close the connection cleanly"
    RESET = "reset the connection"


UNREAD, HANG, CLOSE, RESET = Action


@dataclass(frozen=True)
class Drip:
    """Bytes that are sent one at a time."""

    data: bytes
    interval: float = 0.02
    """Seconds between two bytes."""


Script = bytes | Sequence[bytes | Drip | Action]


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived, without a body."""

    head: bytes

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def batch_id(self) -> str:
        """The batch that the path names; not decoded."""
        return self.line.split(b"/")[5].decode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Pairs of a lower-case name and a value."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line)
        return [(name.decode("ascii").lower(), value.strip(b" ")) for name, _, value in lines]

    def header(self, name: str) -> bytes | None:
        return dict(self.headers).get(name.lower())


def response(
    status: int = 200, body: object = TASK, headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> bytes:
    """Return the bytes of a response.

    Args:
        status: The status code.
        body: Bytes or text, which are sent as they are, or anything else, which is sent as JSON.
        headers: Additional headers. No Content-Length is added if one of them delimits the body.
        length: A Content-Length other than the length of the body.
    """
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    fields = dict(headers or {})
    if status != 204 and not {"connection", "transfer-encoding"} & {name.lower() for name in fields}:
        fields["Content-Length"] = str(len(body) if length is None else length)
    head = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (b"" if status == 204 else body)


def echo(request: ReceivedRequest) -> bytes:
    """Return a response whose task id is the batch that was asked for."""
    return response(200, TASK | {"task_id": request.batch_id})


class Peer:
    """Listens on loopback inside a `with` block.

    Args:
        scripts: What to do with each request, or one function that returns the script for a request.
        tls: Serve https. UNREAD is then not supported.

    Attributes:
        requests: The complete requests, in the order in which they arrived.
        connections: How many connections were opened.
    """

    def __init__(
        self, *scripts: Script | Callable[[ReceivedRequest], Script], tls: ssl.SSLContext | None = None
    ) -> None:
        self._scripts = scripts
        self._tls = tls
        self._begun = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.requests: list[ReceivedRequest] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):  # no longer connected
                    sock.shutdown(socket.SHUT_RDWR)
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the thread that accepts
        for thread in self._threads:
            thread.join(_PEER_TIMEOUT)
            assert not thread.is_alive(), "a thread of the peer is stuck"
        self._listener.close()

    @property
    def open(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._open)

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with self._lock:
                if self._over.is_set():
                    sock.close()
                    return
                self.connections += 1
                self._open.add(sock)
            sock.settimeout(_PEER_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        stream = sock
        try:
            if self._tls:
                stream = self._tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
                with self._lock:
                    self._open.discard(sock)
                    self._open.add(stream)
            while self._exchange(stream):
                pass
        except OSError:  # closed by the client or by __exit__
            pass
        finally:
            with self._lock:
                self._open.discard(stream)
                self._open.discard(sock)
            stream.close()

    def _exchange(self, sock: socket.socket) -> bool:
        """Serve one request; return whether the connection stays open for another."""
        if not self._tls and not sock.recv(1, socket.MSG_PEEK):
            return False
        with self._lock:
            chosen = self._scripts[min(self._begun, len(self._scripts) - 1)]
            self._begun += 1
        if callable(chosen) or chosen[0] is not UNREAD:
            request = _read_request(sock)
            if request is None:
                return False
            with self._lock:
                self.requests.append(request)
            if callable(chosen):
                chosen = chosen(request)
        assert not callable(chosen)
        return all(self._perform(sock, step) for step in ([chosen] if isinstance(chosen, bytes) else chosen))

    def _perform(self, sock: socket.socket, step: bytes | Drip | Action) -> bool:
        """Send bytes or perform an action; return whether the connection is still open."""
        if isinstance(step, bytes):
            sock.sendall(step)
        elif isinstance(step, Drip):
            for byte in step.data:
                sock.sendall(bytes([byte]))
                if self._over.wait(step.interval):
                    return False
        elif step is HANG:
            while sock.recv(65536):
                pass
            return False
        elif step is RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif step is CLOSE:
            return False
        return True


def _read_request(sock: socket.socket) -> ReceivedRequest | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        chunk = sock.recv(65536)
        if not chunk:
            return None
        head += chunk
    return ReceivedRequest(head)
