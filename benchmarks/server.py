"""A server that does nothing but answer, so that the clients are what is measured, and refuses if its URL says so.

Below `/LIMIT/RUN`, each run meets a limit of its own; GET gives how many requests it had let through and refused:

- `rate-20-5-429-seconds`: 20 requests a second, 5 of them at once; beyond that 429, with Retry-After in seconds.
  Instead of `seconds`, `date` is a date, `zero` is 0, and `none` is no such header.
- `window-50-5-429-seconds`: 50 requests in each 5 seconds.
- `places-4-0.1-429-seconds`: 4 requests in flight, each of which takes 0.1 seconds.

Runs under uvicorn, in a process and an environment of its own.

Usage: python benchmarks/server.py PORT
"""

import asyncio
import email.utils
import json
import math
import socket
import sys
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
        self._kind, first, second, status, self._header = name.split("-")
        self._first, self._second, self._status = float(first), float(second), int(status)
        self._tokens = self._second if self._kind == "rate" else self._first
        self._counted_at = time.monotonic()
        self.let_through = self.refused = 0

    def _wait(self) -> float:
        """Let one more through, and give 0; or give the seconds until that can be."""
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

    async def answer(self, send: Send) -> None:
        """Answer a request to cancel."""
        wait = self._wait()
        if not wait:
            if self._kind == "places":
                await asyncio.sleep(self._second)
                self._tokens += 1
            self.let_through += 1
            await respond(send, 200, BODY)
            return
        self.refused += 1
        value = {
            "seconds": str(math.ceil(wait)),
            "date": email.utils.formatdate(math.ceil(time.time() + wait), usegmt=True),
            "zero": "0",
            "none": None,
        }[self._header]
        await respond(send, self._status, b"", *([] if value is None else [(b"retry-after", value.encode())]))


async def respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response."""
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


_limits: dict[str, Limit] = {}


async def app(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """Answer everything with the same task, unless the path names a limit."""
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
        await limit.answer(send)


def main() -> None:
    """Serve until somebody ends this process."""
    # With the protocol named, asyncio sets TCP_NODELAY; without, an answer in two writes waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(2048)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
