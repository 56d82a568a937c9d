# mypy: ignore-errors
"""Celery: one worker with the threads pool of two.

Prefetch multipliers of 1 to 64 make no difference to the rate, and fetching all results at once
(ResultSet.join_native) is slower than one by one. The safe settings: acks_late, 15 s.
"""

from __future__ import annotations

import sys
import time

import redis
from benchmarks.peers import produce
from celery import Celery

_URL = produce.URL.replace("unix://", "redis+socket://")

app = Celery("benchmarks.peers.celery_peer", broker=_URL, backend=_URL)
app.conf.update(
    task_ignore_result=False,
    broker_connection_retry_on_startup=True,
)
if produce.SAFE:
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # Unless told otherwise it looks for lost jobs only every 100 s.
        broker_transport_options={
            "visibility_timeout": 15,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
    )
if produce.RECOVERY:
    app.conf.update(worker_prefetch_multiplier=1)


@app.task(name="noop")
def noop(payload):
    return produce.REPLY


@app.task(name="slow")
def slow():
    redis.Redis.from_url(produce.URL).rpush(produce.STARTED_KEY, "1")
    time.sleep(produce.SLOW_S)
    return produce.REPLY


def _work():
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
    app.worker_main(["worker", "--pool", "threads", "--concurrency", "2", *quiet])


def _fetch(result):
    return result.get(timeout=produce.PATIENCE_S)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        _work()
    else:
        produce.main(noop.delay, slow.delay, _fetch)
