"""Odd pictures through the whole compute server, for a squashing and a cropping model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import until
from tests.e2e import copying
from tests.integration.test_compute_server import LEASE_S, serving
from tests.pictures import encoded, picture

from futu import config
from futu.jobs.message import ImageItem, Job, new_job_id
from futu.jobs.streams import JobQueue
from futu.models import registry, store


def sixteen_bit_grey() -> bytes:
    ramp = np.linspace(0, 65535, 90 * 70).reshape(70, 90).astype(np.uint16)
    return encoded(Image.fromarray(ramp), "PNG")


def palette_with_transparency() -> bytes:
    image = picture(3, (90, 70)).quantize(16)
    return encoded(image, "PNG", transparency=bytes([0, 128] + [255] * 14))


ODD = {
    "1x1.png": encoded(Image.new("RGB", (1, 1), (200, 40, 90)), "PNG"),
    "1x1.jpg": encoded(Image.new("L", (1, 1), 77), "JPEG"),
    "20000x10.png": encoded(picture(1, (20_000, 10)), "PNG"),
    "10x20000.jpg": encoded(picture(2, (10, 20_000)), "JPEG"),
    "grey16.png": sixteen_bit_grey(),
    "palette.png": palette_with_transparency(),
    "palette.gif": encoded(picture(4, (90, 70)).quantize(16), "GIF", transparency=3),
}


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    made = JobQueue(redis_url, lease_s=LEASE_S)
    yield made
    made.close()


def test_odd_pictures_have_unit_vectors_for_models_that_squash_and_that_crop(
    redis_url: str, tmp_path: Path, models_dir: Path, queue: JobQueue
) -> None:
    store.model_file(registry.spec(), models_dir)
    folder = tmp_path / "models"
    shutil.copytree(models_dir / "built", folder / "built")
    copying.describe(folder, resize="centre", crop_fraction=0.875)
    copying.put(folder)
    facts: dict[str, Any] = {"models_dir": folder, "copy_model": copying.NAME}
    settings = config.load(**facts)
    specs = [registry.default_spec(question, settings) for question in ("similar", "copy")]
    assert [spec.resize for spec in specs] == ["squash", "centre"]
    model_ids = [spec.model_id for spec in specs]
    items = [ImageItem(data=data, name=name) for name, data in ODD.items()]
    with serving(redis_url, tmp_path, **facts):
        until(queue.servers.alive)
        for stream in ("inline", "query"):
            job = Job(new_job_id(), stream, model_ids, items)
            result = queue.wait_result(job, queue.enqueue(job), 20)
            for item, found in zip(items, result.items, strict=True):
                assert found.error is None, found.error
                for spec in specs:
                    vector = np.frombuffer(found.vectors[spec.model_id], "<f4")
                    assert vector.shape == (spec.dimension,)
                    assert np.isfinite(vector).all()
                    assert abs(float(vector @ vector) - 1) < 1e-5, (item.name, spec.name)
