"""Results on their way to Redis."""

from __future__ import annotations

import threading

from tests.conftest import until

from futu.compute.batching import Answer
from futu.compute.outgoing import Outgoing
from futu.errors import RedisUnavailableError
from futu.jobs.message import Job, JobResult
from futu.jobs.streams import Lease


def an_answer(name: str) -> Answer:
    lease = Lease("library", name.encode(), "server", Job(name, "library", [], []), 1)
    return lease, JobResult(name, "server", [])


def names(answers: list[Answer]) -> list[str]:
    return [result.job_id for _, result in answers]


def test_everything_put_is_delivered_in_order_before_close_returns() -> None:
    came: list[str] = []
    outgoing = Outgoing(lambda answers: came.extend(names(answers)))
    outgoing.start()
    for start in range(0, 20, 2):
        outgoing.put([an_answer(str(start)), an_answer(str(start + 1))])
    outgoing.close()
    assert came == [str(number) for number in range(20)]


def test_result_that_cannot_be_delivered_does_not_keep_back_the_next() -> None:
    came: list[str] = []

    def deliver(answers: list[Answer]) -> None:
        if names(answers) == ["away"]:
            raise RedisUnavailableError("Redis is away.")
        if names(answers) == ["odd"]:
            raise RuntimeError("unforeseen")
        came.extend(names(answers))

    outgoing = Outgoing(deliver)
    outgoing.start()
    for name in ("away", "odd", "good"):
        outgoing.put([an_answer(name)])
    outgoing.close()
    assert came == ["good"]


def test_workers_wait_when_results_pile_up() -> None:
    go_on, came = threading.Event(), list[str]()

    def deliver(answers: list[Answer]) -> None:
        go_on.wait()
        came.extend(names(answers))

    outgoing = Outgoing(deliver)
    outgoing.start()
    put: list[int] = []

    def worker() -> None:
        for number in range(10):
            outgoing.put([an_answer(str(number))])
            put.append(number)

    thread = threading.Thread(target=worker)
    thread.start()
    until(lambda: outgoing._waiting.full())
    # One is being delivered.
    assert len(put) <= outgoing._waiting.maxsize + 1
    assert thread.is_alive()
    go_on.set()
    thread.join()
    outgoing.close()
    assert came == [str(number) for number in range(10)]
