"""What every producer does, with a way to send a job and one to fetch its result.

Run as ``python -m benchmarks.peers.NAME produce MEASURE COUNT``; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

URL = os.environ.get("BENCHMARK_REDIS", "redis://127.0.0.1:6379/0")
STARTED_KEY = "benchmark:started"
PAYLOAD = "x" * 50_000
REPLY = "y" * 2_000
SLOW_S = 5.0
SLOW_JOBS = 6
_AHEAD = 200


def round_trips(send: Callable[[str], Any], fetch: Callable[[Any], Any], count: int) -> list[float]:
    """Milliseconds of single jobs, one after the other, after warming up."""
    took = []
    for number in range(count + 50):
        started = time.perf_counter()
        fetch(send(PAYLOAD))
        if number >= 50:
            took.append((time.perf_counter() - started) * 1000)
    return took


def rate(send: Callable[[str], Any], fetch: Callable[[Any], Any], count: int) -> float:
    """Jobs/s with many under way at once, each result fetched."""
    for _ in range(50):
        fetch(send(""))
    waiting: deque[Any] = deque()
    started = time.perf_counter()
    for _ in range(count):
        waiting.append(send(""))
        if len(waiting) >= _AHEAD:
            fetch(waiting.popleft())
    while waiting:
        fetch(waiting.popleft())
    return count / (time.perf_counter() - started)


def main(
    send: Callable[[str], Any], send_slow: Callable[[], Any], fetch: Callable[[Any], Any]
) -> None:
    """Do the measure that the command line names."""
    measure, count = sys.argv[2], int(sys.argv[3])
    found: Any
    if measure == "round_trips":
        found = round_trips(send, fetch, count)
    elif measure == "rate":
        found = rate(send, fetch, count)
    else:
        jobs = [send_slow() for _ in range(SLOW_JOBS)]
        for job in jobs:
            fetch(job)
        found = len(jobs)
    print(json.dumps(found), flush=True)
