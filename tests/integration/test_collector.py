"""One answer of no use costs only its own job."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from tests.integration.conftest import Site
from tests.pictures import jpeg

from futu.catalogue.schema import DONE, FAILED, READY
from futu.jobs.message import JobResult, encode
from futu.models.registry import DEFAULT_MODEL, spec

A, B = (jpeg(seed, (40, 30)) for seed in (1, 2))
MODEL_ID = spec(DEFAULT_MODEL).model_id
NAN = np.full(spec(DEFAULT_MODEL).dimension, np.nan, "<f4").tobytes()


def short_of_one(answer: JobResult) -> None:
    answer.items.pop()


def of_another_model(answer: JobResult) -> None:
    answer.items[0].vectors = {"another": answer.items[0].vectors[MODEL_ID]}


def without_anything(answer: JobResult) -> None:
    answer.items[0].vectors = {}


def with_half_a_vector(answer: JobResult) -> None:
    answer.items[0].vectors = {MODEL_ID: NAN[:2]}


def with_no_numbers(answer: JobResult) -> None:
    answer.items[0].vectors = {MODEL_ID: NAN}


def of_no_size(answer: JobResult) -> None:
    answer.items[0].width = 2**63


def announce(site: Site, job_id: str, data: bytes) -> None:
    """As a compute server would have delivered it."""
    redis = site.controller.queue.redis
    redis.rpush(f"result:{job_id}", data)
    redis.xadd("futu:done", {"job_id": job_id})


SPOILT = [
    short_of_one,
    of_another_model,
    without_anything,
    with_half_a_vector,
    with_no_numbers,
    of_no_size,
]


@pytest.mark.parametrize("spoil", [None, *SPOILT])
def test_wrong_answer_fails_its_job_and_the_next_build_tries_again(
    site: Site, spoil: Callable[[JobResult], None] | None, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, other = site.fill("one", {"a.jpg": A}), site.fill("two", {"b.jpg": B})
    site.controller.start()
    site.controller.ingest.start(dataset)
    lease = site.lease()
    site.controller.ingest.start(other)
    good = site.lease()
    answer = site.good(lease.job)
    data = b"\xc1"
    if spoil is not None:
        answer.items[0] = msgspec.structs.replace(answer.items[0])
        spoil(answer)
        data = encode(answer)
    site.controller.queue.withdraw(lease.job, lease.entry_id)
    with caplog.at_level(logging.WARNING):
        announce(site, lease.job.job_id, data)
        site.deliver(good)
        site.await_state(other, DONE)
        assert site.await_state(dataset, DONE)["failed"] == 1
    assert site.files(other) == {"b.jpg": (READY, None)}
    assert site.files(dataset) == {"a.jpg": (FAILED, "job_failed")}
    assert lease.job.job_id in caplog.text
    while site.controller.queue.redis.xlen("futu:done"):
        pass
    assert list(site.controller.queue.redis.scan_iter("result:*")) == []
    site.work()
    site.controller.ingest.start(dataset)
    assert site.await_state(dataset, DONE)["added"] == 1


@pytest.mark.parametrize("spoil", [None, *SPOILT])
def test_wrong_answer_that_nobody_waits_for_is_removed(
    site: Site, spoil: Callable[[JobResult], None] | None
) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.controller.ingest.start(dataset)
    lease = site.lease()
    answer = site.good(lease.job)
    site.controller.ingest.cancel(dataset)
    if spoil is not None:
        spoil(answer)
    announce(site, lease.job.job_id, encode(answer) if spoil is not None else b"\xc1")
    while site.controller.queue.redis.xlen("futu:done"):
        pass
    assert list(site.controller.queue.redis.scan_iter("result:*")) == []
    assert site.controller.catalogue.searchable_vector_ids(site.model_id).size == 0
