# mypy: ignore-errors
"""taskiq on Redis Streams: one worker process, two tasks at a time, idle timeout 15 s."""

from __future__ import annotations

import asyncio
import sys
import time

import redis
from benchmarks.peers import produce
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(
    produce.URL, idle_timeout=15_000, xread_count=2, consumer_id="0"
).with_result_backend(RedisAsyncResultBackend(produce.URL, keep_results=False))


@broker.task(task_name="noop")
async def noop(payload):
    return produce.REPLY


@broker.task(task_name="slow")
def slow():
    redis.Redis.from_url(produce.URL).incr(produce.STARTED_KEY)
    time.sleep(produce.SLOW_S)
    return produce.REPLY


def main():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())

    def fetch(task):
        return loop.run_until_complete(task.wait_result(check_interval=0.0005, timeout=120))

    produce.main(
        lambda payload: loop.run_until_complete(noop.kiq(payload)),
        lambda: loop.run_until_complete(slow.kiq()),
        fetch,
    )
    loop.run_until_complete(broker.shutdown())


if __name__ == "__main__":
    if sys.argv[1] == "work":
        from taskiq.__main__ import main as taskiq_main

        sys.argv = ["taskiq", "worker", "benchmarks.peers.taskiq_peer:broker", "--workers", "1"]
        sys.argv += ["--max-async-tasks", "2", "--max-threadpool-threads", "2"]
        sys.argv += ["--log-level", "ERROR", "--ack-type", "when_executed"]
        taskiq_main()
    else:
        main()
