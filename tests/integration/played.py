"""A controller whose compute server is played by the test: it answers what the test wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.conftest import until
from tests.pictures import jpeg

from futu import config
from futu.catalogue.records import DatasetRecord
from futu.controller.service import Controller
from futu.images.folder import hash_bytes
from futu.jobs.message import ImageItem, ItemResult, Job, JobResult, ServerInfo, Stream
from futu.jobs.streams import Lease
from futu.models import registry

DIMENSION = 1280
MODEL_ID = registry.spec().model_id


def make_controller(folder: Path, redis_url: str, **settings: Any) -> Controller:
    """A controller that is not started."""
    return Controller(
        config.load(
            data_dir=folder / "data",
            datasets_dir=folder / "datasets",
            redis_url=redis_url,
            **settings,
        )
    )


def register(controller: Controller, *, by_path: bool = True) -> None:
    """Say that a compute server is alive, for a second or for the lease time."""
    info = ServerInfo("s", "h", 1, [MODEL_ID], 1, time.time(), by_path=by_path)
    controller.queue.servers.register(info)


def a_dataset(controller: Controller, name: str, count: int, padding: int = 0) -> DatasetRecord:
    """A dataset of small pictures, each with so many bytes added."""
    folder = controller.settings.datasets_dir / name
    folder.mkdir(parents=True)
    for n in range(count):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(80_000 + n, (32, 32)) + bytes(padding))
    return controller.dataset(name)


def vector_of(content_hash: bytes) -> np.ndarray[Any, Any]:
    """The vector that the played server gives a content: float32, unit length."""
    seed = int.from_bytes(content_hash[:8], "big")
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def result_of(item: ImageItem) -> ItemResult:
    """What a compute server makes of a picture."""
    digest = item.content_hash or hash_bytes(item.data or b"")
    return ItemResult({MODEL_ID: vector_of(digest).tobytes()}, None, digest, 32, 32)


def result(job: Job, items: Sequence[ItemResult] | None = None) -> JobResult:
    """The answer to a job."""
    own = [result_of(item) for item in job.items] if items is None else list(items)
    return JobResult(job.job_id, "s", own)


def next_job(controller: Controller, *streams: Stream) -> Lease:
    """Wait for a job of a dataset and lease it."""
    wanted = streams or ("library", "inline")
    return until(lambda: controller.queue.lease(wanted, "w", block_s=0.5))[0]


def under_way(controller: Controller, dataset: DatasetRecord) -> bool:
    """Whether a build has not come to its end."""
    return controller.ingest.progress(dataset)["state"] in ("building", "pending")


def ended(controller: Controller, dataset: DatasetRecord) -> dict[str, Any]:
    """Wait for the end of a build."""
    until(lambda: not under_way(controller, dataset))
    return controller.ingest.progress(dataset)


def work(controller: Controller, dataset: DatasetRecord, *, by_path: bool = True) -> dict[str, Any]:
    """Answer all jobs until the build has ended."""
    while under_way(controller, dataset):
        register(controller, by_path=by_path)
        work_once(controller)
    return controller.ingest.progress(dataset)


def work_once(controller: Controller) -> None:
    """Answer a job, if one comes soon."""
    for lease in controller.queue.lease(("library", "inline"), "w", block_s=0.05):
        controller.queue.deliver(lease, result(lease.job))


def settled(measure: Callable[[], int]) -> int:
    """A number that others change, once it has not changed for ten looks."""
    last, looks = -1, 0
    while looks < 10:
        found = measure()
        looks = looks + 1 if found == last else 0
        last = found
        time.sleep(0.005)
    return last
