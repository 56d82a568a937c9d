# mypy: ignore-errors
"""Celery: a worker of two threads, late acknowledgement, visibility timeout 15 s."""

from __future__ import annotations

import sys
import time

import redis
from benchmarks.peers import produce
from celery import Celery

app = Celery("benchmarks.peers.celery_peer", broker=produce.URL, backend=produce.URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 15},
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(payload):
    return produce.REPLY


@app.task(name="slow")
def slow():
    redis.Redis.from_url(produce.URL).incr(produce.STARTED_KEY)
    time.sleep(produce.SLOW_S)
    return produce.REPLY


if __name__ == "__main__":
    if sys.argv[1] == "work":
        app.worker_main(["worker", "--pool", "threads", "--concurrency", "2", "-l", "ERROR"])
    else:
        produce.main(noop.delay, slow.delay, lambda result: result.get(timeout=120))
