"""An equal load for any HTTP server: so many keep-alive connections, each of which sends as soon as it has its answer.

In a process of its own, on bare sockets, so that it takes little of the machine. `wrk` does the same with less, and is
used where it is installed.

Usage: python benchmarks/load.py PORT SECONDS CONNECTIONS BATCHES KEY
"""

import asyncio
import json
import sys
import time
from functools import partial

_END = b"\r\n\r\n"


def requests(port: int, batches: int, key: str) -> list[bytes]:
    """Write down requests that cancel batches spread over all that there are."""
    return [
        (
            f"POST /v1/buckets/bkt_products/batches/btch_{number * 7919 % batches}/cancel HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        for number in range(min(batches, 1000))
    ]


class Connection(asyncio.Protocol):
    """One keep-alive connection.

    Args:
        todo: The requests to send, over and over.
        start: Where in them to start.
    """

    def __init__(self, todo: list[bytes], start: int) -> None:
        self._todo = todo
        self._next = start
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.answers = 0
        self.failure: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next request if the answer is complete."""
        self._received += data
        head, found, body = self._received.partition(_END)
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.failure = head.partition(b"\r\n")[0].decode("latin-1")
            self.stop()
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length) if length else body.endswith(b"0" + _END):
            self.answers += 1
            self._received = b""
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that it broke, unless we ended it."""
        if self._transport is not None:
            self.failure = self.failure or "the connection was closed"

    def stop(self) -> None:
        """Close it."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.abort()

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(self._todo[self._next % len(self._todo)])
            self._next += 1


async def load(port: int, seconds: float, connections: int, batches: int, key: str) -> dict[str, float]:
    """Load a server.

    Returns:
        The answers a second.

    Raises:
        RuntimeError: A connection met something else than answers with the status 200.
    """
    todo = requests(port, batches, key)
    loop = asyncio.get_running_loop()
    under_way = []
    started = time.perf_counter()
    for number in range(connections):
        make = partial(Connection, todo, number * len(todo) // connections)
        _, connection = await loop.create_connection(make, "127.0.0.1", port)
        under_way.append(connection)
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    for connection in under_way:
        connection.stop()
        if connection.failure:
            raise RuntimeError(f"the load met: {connection.failure}")
    return {"rate": sum(connection.answers for connection in under_way) / took}


def main() -> None:
    """Run the load that the arguments describe."""
    port, seconds, connections, batches, key = sys.argv[1:]
    print(json.dumps(asyncio.run(load(int(port), float(seconds), int(connections), int(batches), key))))


if __name__ == "__main__":
    main()
