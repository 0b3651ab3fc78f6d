"""A server that does nothing but answer, so that the clients are what is measured.

Runs under uvicorn, in a process and an environment of its own. Prints its port, and ends with its standard input.

Usage: python benchmarks/server.py [--delay SECONDS]
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
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
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]

App = Callable[[dict[str, Any], Any, Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]


def make_app(delay: float) -> App:
    """Make the ASGI app that answers everything with the same task.

    Args:
        delay: Seconds that it waits before each answer.
    """

    async def app(scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        if delay:
            await asyncio.sleep(delay)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})

    return app


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description="Answer every request with the same task.")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    # With the protocol named, asyncio sets TCP_NODELAY; without, an answer in two writes waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)

    def end_with_input() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    config = uvicorn.Config(
        make_app(options.delay), lifespan="off", log_config=None, access_log=False, server_header=False, ws="none"
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
