"""A server that does nothing but respond, so that the clients are what is measured; limits requests if its URL asks to.

Below `/LIMIT/RUN`, each run meets a limit of its own; GET returns how many requests it has let through and refused:

- `rate-20-5-seconds`: 20 requests a second, 5 of them at once; beyond that 429, with Retry-After in seconds.
  With `none` instead of `seconds`, there is no such header.
- `window-50-5-seconds`: 50 requests in each 5 seconds.
- `places-4-0.1-seconds`: 4 requests in flight, each of which takes 0.1 seconds.

Runs under uvicorn, in a process and an environment of its own. With `mock`, our mock runs in its place, as a test run
starts it, and with `like-the-mock` a bare app as our mock runs.

Usage: python benchmarks/server.py PORT [mock BUCKET | like-the-mock]
"""

import asyncio
import json
import math
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

TASK = {
    "task_id": "task_7f3c9a",
    "task_type": "api_buckets_batches_process",
    "status": "CANCELED",
    "inputs": ["obj_1", "obj_2", {"object_id": "obj_3"}],
    "outputs": ["doc_1"],
    "additional_data": {"job_id": "job_42", "object_count": 3},
    "error_message": None,
}
BODY = json.dumps(TASK).encode()

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Limit:
    """What one run meets. Its name is described above."""

    def __init__(self, name: str) -> None:
        self._kind, first, second, self._header = name.split("-")
        self._first, self._second = float(first), float(second)
        self._tokens = self._second if self._kind == "rate" else self._first
        self._counted_at = time.monotonic()
        self.let_through = self.refused = 0

    def _take(self) -> float:
        """Let one more request through, and return 0; or return the seconds until that is possible."""
        now = time.monotonic()
        elapsed = now - self._counted_at
        if self._kind == "rate":
            self._tokens, self._counted_at = min(self._second, self._tokens + elapsed * self._first), now
            wait = (1 - self._tokens) / self._first
        elif self._kind == "window":
            if elapsed >= self._second:
                self._tokens, self._counted_at = self._first, now
            wait = self._counted_at + self._second - now
        else:
            wait = self._second
        if self._tokens < 1:
            return wait
        self._tokens -= 1
        return 0.0

    async def respond(self, send: Send) -> None:
        """Respond to a request to cancel."""
        if wait := self._take():
            self.refused += 1
            header = (b"retry-after", str(math.ceil(wait)).encode())
            await respond(send, 429, b"", *([header] if self._header == "seconds" else []))
            return
        if self._kind == "places":
            await asyncio.sleep(self._second)
            self._tokens += 1
        self.let_through += 1
        await respond(send, 200, BODY)


async def respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response."""
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


_limits: dict[str, Limit] = {}


async def app(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """Respond to everything with the same task, unless the path names a limit."""
    path: str = scope["path"]
    if path.startswith("/v1/"):
        await respond(send, 200, BODY)
        return
    _, name, run, *_ = path.split("/")
    limit = _limits.get(f"{name}/{run}") or _limits.setdefault(f"{name}/{run}", Limit(name))
    if scope["method"] == "GET":
        counts = {"let_through": limit.let_through, "refused": limit.refused}
        await respond(send, 200, json.dumps(counts).encode())
    else:
        await limit.respond(send)


def serve(port: int) -> None:
    """Serve until this process is ended."""
    # With the protocol named, asyncio sets TCP_NODELAY; without, a response in two writes waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none")
    uvicorn.Server(config).run(sockets=[listener])


def serve_mock(port: int, bucket: str | None) -> None:
    """Serve our mock with ten batches until this process is ended; without a bucket, a bare app in its place."""
    from mixpeek_batches.mock import MockServer  # noqa: PLC0415 - only where it is installed

    class BareServer(MockServer):
        def app(self) -> Any:
            return app

    batches = [{"bucket_identifier": bucket, "batch_id": f"btch_{n}", "inputs": ["obj_1"]} for n in range(10)]
    with MockServer(port=port, batches=batches) if bucket else BareServer(port=port):
        threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[2:]:
        serve_mock(int(sys.argv[1]), sys.argv[3] if sys.argv[2] == "mock" else None)
    else:
        serve(int(sys.argv[1]))
