# mypy: ignore-errors
"""Dramatiq: one process of two threads, results in Redis.

More prefetching (4 to 128) makes no difference to the rate. The safe settings: 15 s of silence
instead of 60; how often a broker looks for silent ones is left as it is.
"""

from __future__ import annotations

import sys
import time

import dramatiq
import redis
from benchmarks.peers import produce
from dramatiq import cli
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

_settings = {"heartbeat_timeout": 15_000} if produce.SAFE else {}
broker = RedisBroker(url=produce.URL, **_settings)
# redis-py's own limit of 5 s would end the wait for a result that takes longer.
_results = redis.Redis.from_url(produce.URL, socket_timeout=None)
broker.add_middleware(Results(backend=RedisBackend(client=_results)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(payload):
    return produce.REPLY


@dramatiq.actor(store_results=True)
def slow():
    redis.Redis.from_url(produce.URL).rpush(produce.STARTED_KEY, "1")
    time.sleep(produce.SLOW_S)
    return produce.REPLY


def _work():
    sys.argv = ["dramatiq", "benchmarks.peers.dramatiq_peer", "-p", "1", "-t", "2"]
    sys.exit(cli.main())


def _fetch(message):
    return message.get_result(block=True, timeout=produce.PATIENCE_S * 1000)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        _work()
    else:
        produce.main(noop.send, slow.send, _fetch)
