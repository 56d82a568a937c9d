"""The id of a request on its way: HTTP, build, job, compute server, log lines of all."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import until
from tests.integration.conftest import Site
from tests.pictures import jpeg

from futu import tracing
from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.jobs.admin import JobAdmin
from futu.jobs.message import SCHEMA_VERSION, Job, JobResult, ServerInfo, new_job_id
from futu.jobs.streams import JobQueue


@pytest.fixture
def http(site: Site) -> FlaskClient:
    return create_app(site.controller).test_client()


def test_answer_has_the_id_of_its_request_or_a_new_one(http: FlaskClient) -> None:
    assert (
        http.get("/health/live", headers={tracing.HEADER: "abc-1"}).headers[tracing.HEADER]
        == "abc-1"
    )
    for headers in ({}, {tracing.HEADER: "a b"}):
        for path in ("/health/live", "/nothing"):
            found = http.get(path, headers=headers).headers[tracing.HEADER]
            assert re.fullmatch("[0-9a-f]{16}", found)


def test_jobs_of_a_build_carry_the_id_of_the_request_that_began_it(
    site: Site, http: FlaskClient
) -> None:
    site.start()
    dataset = site.fill("one", {"a.jpg": jpeg(1, (40, 30))})
    with tracing.about(""):
        body = {"dataset_names": ["one"]}
        http.post("/api/build_index", json=body, headers={tracing.HEADER: "begun-here"})
    lease = site.lease()
    assert lease.job.request_id == "begun-here"
    (state,) = JobAdmin(site.controller.queue).jobs()
    assert state.job.request_id == "begun-here"
    site.deliver(lease)
    site.await_state(dataset, DONE)


def test_job_of_a_search_carries_its_id(site: Site, http: FlaskClient) -> None:
    (site.settings.datasets_dir / "a.jpg").write_bytes(jpeg(1))
    worker = site.serve("one", "similar")
    http.post(
        "/api/compute/feature_extraction",
        json={"image_path": str(site.settings.datasets_dir / "a.jpg")},
        headers={tracing.HEADER: "a-query"},
    )
    (job,) = until(lambda: worker.done)  # it is noted after it is answered
    assert job.request_id == "a-query"


def test_controller_logs_failures_of_a_build_under_its_id(
    site: Site, http: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    noted: list[tuple[str, str, str]] = []

    class Note(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            noted.append((record.getMessage(), tracing.request_id(), tracing.job_id()))
            return True

    caplog.set_level("INFO")
    caplog.handler.addFilter(note := Note())
    site.start()
    dataset = site.fill("one", {"a.jpg": jpeg(1, (40, 30))})
    http.post("/api/build_index", json={"dataset_names": ["one"]}, headers={tracing.HEADER: "b1"})
    lease = site.lease()
    failed = site.bad(lease.job)
    failed.error, failed.items = failed.items[0].error, []
    site.deliver(lease, lambda _: failed)
    site.await_state(dataset, DONE)
    caplog.handler.removeFilter(note)
    (of_job,) = [ids for text, *ids in noted if text.startswith(f"job {lease.job.job_id} failed")]
    assert of_job == ["b1", lease.job.job_id]
    (of_build,) = [ids for text, *ids in noted if text.startswith("build of one done")]
    assert of_build == ["b1", ""]


# --- versions -----------------------------------------------------------------------------------


def test_job_of_a_newer_schema_is_left_to_a_newer_worker(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    newer = SCHEMA_VERSION + 1
    queue = JobQueue(redis_url, lease_s=5)
    job = Job(new_job_id(), "library", ["m"], [], schema_version=newer, oldest_reader=newer)
    entry = queue.enqueue(job)
    assert queue.lease("library", "old") == []
    assert "was written by a newer Futu" in caplog.text
    assert queue.depth()["library"] == 1
    # Given back at once: nobody has to wait for the lease of a worker that cannot do it.
    pending: Any
    (pending,) = queue.redis.xpending_range("library", "compute", "-", "+", 10)
    assert pending["message_id"] == entry
    assert pending["time_since_delivered"] >= 5000
    queue.close()


def test_result_of_a_newer_schema_fails_loudly(redis_url: str) -> None:
    newer = SCHEMA_VERSION + 1
    queue = JobQueue(redis_url)
    queue.enqueue(job := Job(new_job_id(), "library", ["m"], [], collect=True))
    (lease,) = queue.lease("library", "new")
    result = JobResult(job.job_id, "new", [], schema_version=newer, oldest_reader=newer)
    assert queue.deliver(lease, result)
    (done,) = queue.done(10)
    assert done.result is not None
    assert done.result.error is not None
    assert done.result.error.code == "other_version"
    queue.close()


def test_server_of_a_schema_too_old_gets_no_jobs_and_the_log_says_so_once(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = JobQueue(redis_url)
    queue.servers.register(ServerInfo("old", "host", 1, [], 1, 0.0, schema_version=2))
    queue.servers.register(ServerInfo("good", "host", 2, [], 1, 0.0))
    for _ in range(2):
        assert [server.server for server in queue.servers.alive()] == ["good"]
    assert caplog.text.count("do not understand each other") == 1
    queue.close()
