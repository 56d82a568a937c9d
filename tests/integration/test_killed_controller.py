"""A controller that is killed at any instant leaves what the next one goes on with."""

from __future__ import annotations

import contextlib
import threading

import pytest
from tests.integration.conftest import KilledError, Site
from tests.pictures import jpeg

from futu.catalogue.schema import CANCELLED, DONE, READY

A, B, C = (jpeg(seed, (40, 30)) for seed in (1, 2, 3))


@pytest.mark.parametrize("writes", range(10))
def test_controller_killed_while_it_resumes_builds_loses_none(site: Site, writes: int) -> None:
    datasets = [site.fill(name, {"a.jpg": A + b"1", "b.jpg": B}) for name in ("one", "two")]
    for dataset in datasets:
        site.controller.catalogue.start_build(dataset.id, site.model_id)
    site.kill_after(writes)
    site.work()
    with contextlib.suppress(KilledError):
        site.controller.start()
    while site.writes_left >= 0 and any(site.state(dataset) != DONE for dataset in datasets):
        threading.Event().wait(0.005)
    site.next_controller()
    site.work()
    site.controller.start()
    for dataset in datasets:
        progress = site.await_state(dataset, DONE)
        assert (progress["current"], progress["total"], progress["failed"]) == (2, 2, 0)
        assert site.files(dataset) == {"a.jpg": (READY, None), "b.jpg": (READY, None)}


@pytest.mark.parametrize("writes", range(6))
def test_controller_killed_between_two_builds_goes_on_with_the_second(
    site: Site, writes: int
) -> None:
    dataset = site.failed_before({"bad.jpg": A, "good.jpg": B})
    site.fill("one", {"new.jpg": C})
    site.controller.ingest.start(dataset)
    lease = site.lease()
    site.controller.ingest.start(dataset, retry_failed=True)
    site.kill_after(writes)
    site.deliver(lease)
    site.work()
    while site.writes_left >= 0 and site.state(dataset) != DONE:
        threading.Event().wait(0.005)
    site.next_controller()
    site.work()
    site.controller.start()
    site.await_state(dataset, DONE)
    assert set(site.files(dataset).values()) == {(READY, None)}


def test_cancelled_build_does_not_come_back_after_a_kill(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.controller.ingest.start(dataset)
    site.lease()
    assert site.controller.ingest.cancel(dataset)
    site.next_controller()
    site.controller.start()
    site.controller.ingest.sweep()
    assert site.state(dataset) == CANCELLED
    assert site.controller.queue.depth()["library"] == 0


def test_files_to_be_tried_again_are_so_after_a_kill(site: Site) -> None:
    dataset = site.failed_before({"bad.jpg": A, "good.jpg": B})
    site.controller.ingest.start(dataset, retry_failed=True)
    site.next_controller()
    site.controller.start()
    site.deliver(site.lease())
    progress = site.await_state(dataset, DONE)
    assert (progress["added"], progress["unchanged"], progress["failed"]) == (1, 1, 0)


def test_cancelled_and_asked_for_again_is_built_after_a_kill(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.controller.ingest.start(dataset)
    site.controller.ingest.cancel(dataset)
    site.controller.ingest.start(dataset)
    site.next_controller()
    site.work()
    site.controller.start()
    site.await_state(dataset, DONE)
    assert site.files(dataset) == {"a.jpg": (READY, None)}


def test_jobs_left_by_a_killed_controller_are_not_done_twice(site: Site) -> None:
    shared = {"a.jpg": A, "b.jpg": B}
    datasets = [site.fill("one", shared), site.fill("two", shared | {"c.jpg": C})]
    site.controller.start()
    for dataset in datasets:
        site.controller.ingest.start(dataset)
    while site.controller.queue.depth()["library"] < 2:
        threading.Event().wait(0.005)
    site.next_controller()
    site.controller.start()
    left = [job.job_id for _, job in site.controller.queue.unfinished("library")]
    while not all(site.controller.ingest.build_of(job_id) for job_id in left):
        threading.Event().wait(0.005)
    worker = site.work()
    totals = [site.await_state(dataset, DONE)["current"] for dataset in datasets]
    assert totals == [2, 3]
    assert sorted(job.job_id for job in worker.done) == sorted(left)


def test_jobs_nobody_waits_for_are_taken_back(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.controller.ingest.start(dataset)
    held = site.lease()
    site.controller.ingest.cancel(dataset)
    site.next_controller()
    site.controller.queue.enqueue(held.job)
    site.controller.start()
    assert site.controller.queue.depth()["library"] == 0
