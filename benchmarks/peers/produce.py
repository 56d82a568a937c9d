"""What every producer does, with a way to send a job and one to fetch its result.

Run as ``python -m benchmarks.peers.NAME_peer produce MEASURE COUNT``; prints one line of JSON.
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
RECOVERY = os.environ.get("BENCHMARK_MEASURE") == "recovery"
SAFE = RECOVERY or os.environ.get("BENCHMARK_SAFE") == "1"
"""Whether a job is to survive its worker; otherwise the settings are those for speed."""

STARTED_KEY = "benchmark:started"
"""A list that grows by one when a slow job is begun."""

PAYLOAD = "x" * 50_000
REPLY = "y" * 2_000
SLOW_S = 5.0
SLOW_JOBS = 6
PATIENCE_S = 120
WARM_UP = 50
_AHEAD = 200

Rate = Callable[[int], float]


def round_trips(ask: Callable[[str], Any], count: int) -> list[float]:
    """Milliseconds of single jobs, one after the other, after warming up."""
    took = []
    for number in range(count + WARM_UP):
        started = time.perf_counter()
        ask(PAYLOAD)
        if number >= WARM_UP:
            took.append((time.perf_counter() - started) * 1000)
    return took


def rate(send: Callable[[str], Any], fetch: Callable[[Any], Any], count: int) -> float:
    """Jobs/s with up to 200 under way at once, each result fetched."""
    for _ in range(WARM_UP):
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
    send: Callable[[str], Any],
    send_slow: Callable[[], Any],
    fetch: Callable[[Any], Any],
    own_rate: Rate | None = None,
    ask: Callable[[str], Any] | None = None,
) -> None:
    """Do the measure that the command line names.

    Args:
        send: enqueue a job with a payload.
        send_slow: enqueue a job of five seconds.
        fetch: wait for the result of what a send returned.
        own_rate: instead of ``rate``, for a queue that has a faster way to do the same.
        ask: send and fetch as one, for a queue that has a faster way to do both.
    """
    measure, count = sys.argv[2], int(sys.argv[3])
    found: Any
    if measure == "round_trips":
        found = round_trips(ask or (lambda payload: fetch(send(payload))), count)
    elif measure == "rate":
        found = own_rate(count) if own_rate else rate(send, fetch, count)
    else:
        jobs = [send_slow() for _ in range(SLOW_JOBS)]
        for job in jobs:
            fetch(job)
        found = len(jobs)
    print(json.dumps(found), flush=True)
