"""Clients that ask one after the other, in one process: raw sockets, so that they cost little.

python -m benchmarks.search_load.client PORT CLIENTS SECONDS IMAGES FIELDS prints JSON.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time
from statistics import median, quantiles
from typing import Any

_PIECE = 1 << 16
_WARM_S = 1.0


class _Client:
    """One connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.asked_at = 0.0

    def ask(self, request: bytes) -> None:
        self.asked_at = time.perf_counter()
        self.socket.sendall(request)

    def answered(self) -> bytes | None:
        """The body, when it is there to its end."""
        self._received += self.socket.recv(_PIECE)
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(body[:500].decode())
        self._received = b""
        return body


def request(image_id: int, fields: dict[str, Any]) -> bytes:
    """A search by a known image."""
    body = json.dumps({"image_id": image_id, **fields}).encode()
    return (
        b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


def run(
    port: int, clients: int, seconds: float, images: int, fields: dict[str, Any]
) -> dict[str, float]:
    """Ask for ``seconds``; searches/s and latencies in ms after a first second."""
    chooser = random.Random(port)
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        client = _Client(port)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.ask(request(chooser.randint(1, images), fields))
    took: list[float] = []
    done, began = 0, time.perf_counter()
    while (now := time.perf_counter()) < began + _WARM_S + seconds:
        for key, _ in selector.select(1.0):
            client = key.data
            body = client.answered()
            if body is None:
                continue
            done += 1
            if now > began + _WARM_S:
                took.append((time.perf_counter() - client.asked_at) * 1000)
            client.ask(request(chooser.randint(1, images), fields))
    percentiles = quantiles(took, n=100)
    return {
        "searches": done,
        "per_s": len(took) / seconds,
        "p50_ms": median(took),
        "p99_ms": percentiles[98],
        "max_ms": max(took),
    }


if __name__ == "__main__":
    print(
        json.dumps(
            run(
                int(sys.argv[1]),
                int(sys.argv[2]),
                float(sys.argv[3]),
                int(sys.argv[4]),
                json.loads(sys.argv[5]),
            )
        )
    )
