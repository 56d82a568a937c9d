"""Images that wait for a vector though nobody is at it are brought to an end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pictures import jpeg

from futu import config
from futu.catalogue.records import DatasetRecord, ScannedFile
from futu.catalogue.schema import CANCELLED, DONE, ERROR, PENDING
from futu.controller.service import Controller
from futu.images.folder import hash_bytes


@pytest.fixture
def controller(tmp_path: Path, redis_url: str) -> Iterator[Controller]:
    settings = config.load(
        data_dir=tmp_path / "data", datasets_dir=tmp_path / "datasets", redis_url=redis_url
    )
    made = Controller(settings)
    yield made
    made.stop()


def left_waiting(controller: Controller, last_state: str) -> DatasetRecord:
    """A dataset with an image that is pending after a build that ended so."""
    folder = controller.settings.datasets_dir / "left"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(1))
    controller.discover()
    dataset = controller.dataset("left")
    build = controller.catalogue.start_build(dataset.id, controller.models["similar"].model_id)
    build.state = last_state
    controller.catalogue.save_build(build)
    row = ScannedFile("a.jpg", 1, 1, hash_bytes(jpeg(1)), PENDING)
    controller.catalogue.write_files(dataset.id, [row])
    return dataset


@pytest.mark.parametrize("last_state", [DONE, ERROR])
def test_image_left_waiting_is_sent_again(controller: Controller, last_state: str) -> None:
    dataset = left_waiting(controller, last_state)
    controller.ingest.sweep()
    (lease,) = controller.queue.lease("library", "w", block_s=10)
    assert [item.content_hash for item in lease.job.items] == [hash_bytes(jpeg(1))]
    controller.ingest.cancel(dataset)


def test_cancelled_build_is_left_alone(controller: Controller) -> None:
    dataset = left_waiting(controller, CANCELLED)
    controller.ingest.sweep()
    assert controller.ingest.progress(dataset)["state"] == CANCELLED
    assert controller.queue.depth()["library"] == 0
