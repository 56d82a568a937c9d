"""A compute server with many decoders that hang gives way to a fresh one."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import until
from tests.e2e.conftest import System
from tests.pictures import jpeg

from futu.jobs.admin import JobAdmin
from futu.jobs.message import ImageItem, Job, new_job_id
from futu.jobs.streams import JobQueue
from futu.models import registry

MODEL = registry.spec().model_id


def test_compute_server_with_many_decoders_that_hang_ends_and_is_replaced(
    own_system: System, redis_url: str, tmp_path: Path
) -> None:
    own_system.environment = {
        "REDIS_URL": redis_url,
        "COMPUTE_WORKERS": "3",
        "FEATURE_TIMEOUT": "1",
        "FUTU_LEASE_S": "1",
    }
    own_system.start()
    first = own_system.child("compute")
    queue = JobQueue(redis_url, lease_s=1)
    try:
        for number in range(3):
            path = os.fsencode(tmp_path / f"{number}.jpg")
            os.mkfifo(path)
            item = ImageItem(path=path, name="hangs.jpg")
            queue.enqueue(Job(new_job_id(), "library", [MODEL], [item]))
        until(lambda: not first.is_running(), 60)
        log = own_system.log_text()
        assert "3 decoders hang; this compute server ends" in log
        until(lambda: "compute ended unexpectedly (exit code 1)" in own_system.log_text())
        # None of the jobs is lost, and its successor does what comes.
        assert queue.depth()["library"] == 3 - JobAdmin(queue).dead_count()
        query = Job(new_job_id(), "query", [MODEL], [ImageItem(data=jpeg(1), name="good.jpg")])
        result = queue.wait_result(query, queue.enqueue(query), 30)
        assert result.items[0].vectors[MODEL]
        assert result.server.split("-")[-2] == str(own_system.child("compute").pid)
    finally:
        queue.close()
