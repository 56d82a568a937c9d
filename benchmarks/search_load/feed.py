"""A compute server that delivers vectors at a rate: python -m benchmarks.search_load.feed

Arguments: FOLDER REDIS_URL FIRST RATE SECONDS. Jobs and results go through the real queue, and
the collector of the controller writes them; only the pictures and the model are left out.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.search_load import site

from futu.jobs.message import ImageItem, ItemResult, Job, JobResult, new_job_id
from futu.jobs.streams import JobQueue
from futu.models.registry import default_spec

_BATCH = 16


def main() -> None:
    folder, url = Path(sys.argv[1]), sys.argv[2]
    first, rate, seconds = int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
    model_id = default_spec("similar", site.settings(folder)).model_id
    queue = JobQueue(url)
    count = int(rate * seconds) // _BATCH
    made = site.vectors(first, count * _BATCH)
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * _BATCH / rate - time.monotonic()))
        items = range(number * _BATCH, (number + 1) * _BATCH)
        job = Job(
            new_job_id(),
            "library",
            [model_id],
            [ImageItem(path=b"x", content_hash=site.content(first + n)) for n in items],
            collect=True,
        )
        queue.enqueue(job)
        (lease,) = queue.lease(["library"], "feed", block_s=5)
        results = [
            ItemResult(
                {model_id: made[n].astype("<f4").tobytes()},
                content_hash=site.content(first + n),
                width=4000,
                height=3000,
            )
            for n in items
        ]
        queue.deliver(lease, JobResult(lease.job.job_id, "feed", results))
    took = time.monotonic() - began
    print(count * _BATCH / took)
    queue.close()


if __name__ == "__main__":
    main()
