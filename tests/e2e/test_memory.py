"""The memory of a compute server stays within what the settings give it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tests.conftest import until
from tests.pictures import encoded, jpeg, png

from futu.jobs.message import ImageItem, Job, JobResult, Stream, new_job_id
from futu.jobs.streams import JobQueue
from futu.models import registry, store

MODEL = registry.spec().model_id
MIB = 1024**2
BUDGET = 128 * MIB
MARGIN = 48 * MIB  # the encoded files, pieces of the heap that cannot be given back
PICTURES = 8


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    made = JobQueue(redis_url, lease_s=5)
    yield made
    made.close()


@pytest.fixture
def server(redis_url: str, tmp_path: Path, models_dir: Path) -> Iterator[int]:
    """The process id of a compute server with four workers."""
    store.model_file(registry.spec(), models_dir)
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "COMPUTE_WORKERS": "4",
        "FUTU_DECODE_BYTES": str(BUDGET),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "futu", "compute"], cwd=tmp_path, env=environment
    )
    yield process.pid
    process.terminate()
    assert process.wait(30) == 0


def large(path: Path, size: tuple[int, int]) -> ImageItem:
    """A PNG in one colour, with some shapes: large only when it is decoded."""
    image = Image.new("RGB", size, (40, 90, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill=(240, 200, 30))
    path.write_bytes(encoded(image, "PNG", compress_level=1))
    return ImageItem(path=os.fsencode(path), name=path.name)


def says_to_be_huge() -> bytes:
    """A PNG of which the header says 8000 x 5000: no more than that is looked at."""
    data = bytearray(png(1))
    data[16:24] = struct.pack(">II", 8000, 5000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def memory(pid: int, what: str) -> int:
    """A line of the process's status, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(what)


def done(queue: JobQueue, items: list[ImageItem], stream: Stream = "library") -> JobResult:
    job = Job(new_job_id(), stream, [MODEL], items)
    return queue.wait_result(job, queue.enqueue(job), 60)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_for_decoding_keeps_to_its_budget_whatever_the_pictures(
    server: int, queue: JobQueue, tmp_path: Path
) -> None:
    huge = ImageItem(data=says_to_be_huge(), name="huge.png")
    items = [large(tmp_path / "large.png", (6000, 4000))] * PICTURES
    # All that is loaded once, is.
    small = [ImageItem(data=jpeg(n), name="small.jpg") for n in range(16)]
    assert all(item.vectors for item in done(queue, small, "inline").items)
    assert all(item.vectors for item in done(queue, small[:1], "query").items)
    Path(f"/proc/{server}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(server, "VmRSS")
    result = done(queue, [*items[:4], huge, *items[4:]])
    refused = result.items.pop(4)
    assert refused.error is not None
    assert "huge.png needs about" in refused.error.message
    assert "FUTU_DECODE_BYTES" in refused.error.message
    assert all(len(item.vectors[MODEL]) == 4 * 1280 for item in result.items)
    # Two at a time would need twice the budget, and four are ready to.
    peak = memory(server, "VmHWM") - before
    assert 72 * MIB < peak < BUDGET + MARGIN, f"{peak / MIB:.0f} MiB"
    until(lambda: queue.depth()["library"] == 0)
