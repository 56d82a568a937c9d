# mypy: ignore-errors
"""Dramatiq: one process of two threads, results in Redis, heartbeat timeout 15 s."""

from __future__ import annotations

import sys
import time

import dramatiq
import redis
from benchmarks.peers import produce
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

# The client's own default, 5 s, would end the waiting for a result of 5 s and more.
client = redis.Redis.from_url(produce.URL, socket_timeout=None)
broker = RedisBroker(client=client, heartbeat_timeout=15_000, maintenance_chance=100_000)
broker.add_middleware(Results(backend=RedisBackend(client=client)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(payload):
    return produce.REPLY


@dramatiq.actor(store_results=True)
def slow():
    redis.Redis.from_url(produce.URL).incr(produce.STARTED_KEY)
    time.sleep(produce.SLOW_S)
    return produce.REPLY


def fetch(message):
    return message.get_result(block=True, timeout=120_000)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        from dramatiq import cli

        sys.argv = ["dramatiq", "benchmarks.peers.dramatiq_peer", "-p", "1", "-t", "2"]
        sys.exit(cli.main())
    produce.main(noop.send, slow.send, fetch)
