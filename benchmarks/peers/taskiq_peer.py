# mypy: ignore-errors
"""taskiq on Redis: one worker process on uvloop, two tasks at a time.

For speed its broker on lists, which forgets the tasks of a killed worker; the safe settings are
the broker on streams and 15 s. The producer does 50 at once in one loop, which is faster than
one after the other, and asks for results every 0.5 ms (the default, 200 ms, would be the time of
a round trip; shorter brings nothing).
"""

from __future__ import annotations

import asyncio
import sys
import time

import redis
import uvloop
from benchmarks.peers import produce
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

_POLL_S = 0.0005
_AT_ONCE = 50
if produce.RECOVERY:
    # No more than it can do at once, or a killed worker takes all six with it.
    broker = RedisStreamBroker(produce.URL, idle_timeout=15_000, xread_count=2, consumer_id="0")
elif produce.SAFE:
    broker = RedisStreamBroker(produce.URL, idle_timeout=15_000, consumer_id="0")
else:
    broker = ListQueueBroker(produce.URL)
broker = broker.with_result_backend(RedisAsyncResultBackend(produce.URL, keep_results=False))


@broker.task(task_name="noop")
async def noop(payload):
    return produce.REPLY


@broker.task(task_name="slow")
def slow():
    redis.Redis.from_url(produce.URL).rpush(produce.STARTED_KEY, "1")
    time.sleep(produce.SLOW_S)
    return produce.REPLY


async def _one():
    task = await noop.kiq("")
    await task.wait_result(check_interval=_POLL_S, timeout=produce.PATIENCE_S)


async def _rate(count):
    async def some(share):
        for _ in range(share):
            await _one()

    await some(produce.WARM_UP)
    started = time.perf_counter()
    await asyncio.gather(*(some(count // _AT_ONCE) for _ in range(_AT_ONCE)))
    return count // _AT_ONCE * _AT_ONCE / (time.perf_counter() - started)


def _produce():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(broker.startup())

        def fetch(task):
            waiting = task.wait_result(check_interval=_POLL_S, timeout=produce.PATIENCE_S)
            return runner.run(waiting)

        produce.main(
            lambda payload: runner.run(noop.kiq(payload)),
            lambda: runner.run(slow.kiq()),
            fetch,
            lambda count: runner.run(_rate(count)),
        )
        runner.run(broker.shutdown())


def _work():
    from taskiq.__main__ import main

    sys.argv = ["taskiq", "worker", "benchmarks.peers.taskiq_peer:broker", "--workers", "1"]
    sys.argv += ["--max-async-tasks", "2", "--max-threadpool-threads", "2"]
    sys.argv += ["--log-level", "ERROR"]
    main()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        _work()
    else:
        _produce()
