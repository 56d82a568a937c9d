"""Clients that search by id or by upload, one after the other, in one process on raw sockets.

python -m benchmarks.load_client PORT CLIENTS SECONDS IDS UPLOADS SHARE prints JSON; SHARE of the
searches are uploads.
"""

from __future__ import annotations

import collections
import json
import random
import selectors
import socket
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

_PIECE = 1 << 16
_WARM_S = 1.0
_PAUSE_S = 0.05
"""Of a client that is told to come later; shorter than it is told, so that the queue stays full."""

_LIMIT_S = 60.0
_HEAD = b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_BOUNDARY = b"futu-load"


def by_id(image_id: int) -> bytes:
    """A search by a known image."""
    body = json.dumps({"image_id": image_id}).encode()
    kind = b"Content-Type: application/json\r\n"
    return _HEAD + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body


def by_upload(picture: bytes) -> bytes:
    """A search by a picture."""
    part = b'Content-Disposition: form-data; name="query_img"; filename="q.jpg"\r\n\r\n'
    body = b"--" + _BOUNDARY + b"\r\n" + part + picture + b"\r\n--" + _BOUNDARY + b"--\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=" + _BOUNDARY + b"\r\n"
    return _HEAD + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Asker:
    """One connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.kind = ""
        self.asked_at = 0.0
        self.pause_until = 0.0

    def ask(self, kind: str, request: bytes) -> None:
        self.kind, self.asked_at = kind, time.perf_counter()
        self.socket.sendall(request)

    def answered(self) -> tuple[int, bytes, bytes] | None:
        """Status, head and body, when they are there to their end; status 0: hung up."""
        piece = self.socket.recv(_PIECE)
        self._received += piece
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not piece:
            return 0, head, body
        if not found:
            return None
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return None
        self._received = b""
        return int(head.split()[1]), head, body


def run(
    port: int, count: int, seconds: float, ids: int, pictures: list[bytes], share: float
) -> dict[str, Any]:
    """Ask for ``seconds`` after a first one."""
    chooser = random.Random(count)
    took: dict[str, list[float]] = {"id": [], "upload": []}
    statuses: collections.Counter[str] = collections.Counter()
    found: dict[str, Any] = {"errors": 0, "said": "", "without_retry_after": 0}

    def ask(asker: Asker) -> None:
        if chooser.random() < share:
            asker.ask("upload", by_upload(chooser.choice(pictures)))
        else:
            asker.ask("id", by_id(chooser.randint(1, ids)))

    selector = selectors.DefaultSelector()
    askers = [Asker(port) for _ in range(count)]
    for asker in askers:
        selector.register(asker.socket, selectors.EVENT_READ, asker)
        ask(asker)
    resting: list[Asker] = []
    began = time.perf_counter()
    ends = began + _WARM_S + seconds
    asking = count
    while asking and time.perf_counter() < ends + _LIMIT_S:
        now = time.perf_counter()
        for asker in [a for a in resting if a.pause_until <= now]:
            resting.remove(asker)
            if now < ends:
                ask(asker)
                asking += 1
        for key, _ in selector.select(_PAUSE_S):
            asker = key.data
            answer = asker.answered()
            if answer is None:
                continue
            status, head, body = answer
            asking -= 1
            now = time.perf_counter()
            if status not in (200, 429):
                found["errors"] += 1
                found["said"] = found["said"] or body[:300].decode("utf-8", "replace")
            if status == 429 and b"retry-after:" not in head.lower():
                found["without_retry_after"] += 1
            if began + _WARM_S < now < ends:
                statuses[str(status)] += 1
                if status == 200:
                    took[asker.kind].append((now - asker.asked_at) * 1000)
            if status == 429:
                asker.pause_until = now + _PAUSE_S
                resting.append(asker)
            elif status and now < ends:
                ask(asker)
                asking += 1
    found["errors"] += asking  # never answered
    answers = len(took["id"]) + len(took["upload"])
    return {
        **found,
        "seconds": _WARM_S + seconds,
        "searches": sum(statuses.values()),
        "statuses": dict(statuses),
        "per_s": answers / seconds,
        **{kind: _figures(values) for kind, values in took.items()},
    }


def _figures(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"p50_ms": 0.0, "p99_ms": 0.0}
    return {"p50_ms": median(values), "p99_ms": quantiles(values, n=100, method="inclusive")[98]}


if __name__ == "__main__":
    places = [path.read_bytes() for path in sorted(Path(sys.argv[5]).iterdir())]
    numbers = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(run(*numbers, places, float(sys.argv[6]))))
