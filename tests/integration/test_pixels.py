"""Hashes of pixels, by a real compute server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import until
from tests.integration.test_compute_server import queue, serving
from tests.pictures import jpeg

from futu.catalogue.duplicate_records import ReadyImage
from futu.catalogue.engine import sqlite_url
from futu.catalogue.store import Catalogue
from futu.controller.duplicates.pixels import PixelHashes
from futu.errors import NoComputeServerError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots, hash_bytes
from futu.jobs.streams import JobQueue

__all__ = ["queue"]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(sqlite_url(tmp_path / "catalogue.db"))
    yield made
    made.close()


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def turned(image: Image.Image) -> bytes:
    """Stored on its side, with the EXIF orientation that sets it upright."""
    exif = Image.Exif()
    exif[274] = 6
    return saved(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def files() -> dict[str, bytes]:
    data = jpeg(1, (64, 48))
    image = Image.open(io.BytesIO(data)).convert("RGB")
    other = image.copy()
    other.putpixel((63, 47), (1, 2, 3))
    animation = saved(image, "PNG", save_all=True, append_images=[other])
    return {
        "camera.jpg": data,
        "comment.jpg": data[:2] + b"\xff\xfe\x00\x07hello" + data[2:],
        "lossless.png": saved(image, "PNG"),
        "on its side.png": turned(image),
        "one pixel.png": saved(other, "PNG"),
        "animation.png": animation,
        "broken.png": saved(image, "PNG")[:300],
    }


class Desk:
    """Files, and who hashes their pixels."""

    def __init__(self, folder: Path, catalogue: Catalogue, queue: JobQueue) -> None:
        self.folder = folder / "pictures"
        self.folder.mkdir()
        self.images = []
        for number, (name, data) in enumerate(files().items(), 1):
            (self.folder / name).write_bytes(data)
            self.images.append(ReadyImage(number, 1, name, len(data), 1, 64, 48, hash_bytes(data)))
        self.steps: list[int] = []
        self.queue = queue
        roots = ImageRoots([self.folder])
        self.pixels = PixelHashes(catalogue, queue, roots, DecodeLimits(), 30)

    def await_server(self) -> None:
        until(self.queue.servers.alive)

    def hashes(self) -> dict[str, bytes | None]:
        found = self.pixels.find(self.images, {1: str(self.folder)}, self.steps.append)
        return {i.path: found[i.content_hash] for i in self.images if i.content_hash in found}


@pytest.fixture
def desk(tmp_path: Path, catalogue: Catalogue, queue: JobQueue) -> Desk:
    return Desk(tmp_path, catalogue, queue)


@pytest.mark.parametrize("seen", [True, False])
def test_equal_pixels_have_one_hash_whatever_the_bytes(
    desk: Desk, redis_url: str, tmp_path: Path, catalogue: Catalogue, seen: bool
) -> None:
    with serving(redis_url, tmp_path / "data") as (server, _):
        desk.await_server()
        if not seen:
            server._answers._blind_until = float("inf")
        found = desk.hashes()
    assert "broken.png" not in found
    assert found["animation.png"] is None
    same = ["camera.jpg", "comment.jpg", "lossless.png", "on its side.png"]
    assert len({found[name] for name in same}) == 1
    assert found["one pixel.png"] not in (None, found["camera.jpg"])
    assert desk.steps[-1] == 6
    contents = [image.content_hash for image in desk.images]
    assert catalogue.pixel_hashes(contents) == desk.pixels.known(contents)
    assert len(desk.pixels.known(contents)) == 6


def test_file_that_changed_gets_no_hash(desk: Desk, redis_url: str, tmp_path: Path) -> None:
    (desk.folder / "camera.jpg").write_bytes(jpeg(9, (64, 48)))
    with serving(redis_url, tmp_path / "data"):
        desk.await_server()
        assert "camera.jpg" not in desk.hashes()


def test_without_compute_server_nothing_is_waited_for(desk: Desk) -> None:
    with pytest.raises(NoComputeServerError):
        desk.hashes()
