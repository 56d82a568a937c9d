"""Thumbnails: made once, bounded, and only of what was indexed."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.pictures import encoded, jpeg, picture

from futu.catalogue.records import ImageRecord
from futu.controller.thumbnails import SIDE, Thumbnails
from futu.errors import ChangedFileError, MissingFileError, OutsideRootsError, UnknownImageError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots, hash_bytes

LIMITS = DecodeLimits(10**7, 10**8)


def made(folder: Path, max_bytes: int = 10**7) -> Thumbnails:
    (folder / "pictures").mkdir(exist_ok=True)
    roots = ImageRoots([folder / "pictures"])
    return Thumbnails(folder / "thumbnails", roots, LIMITS, max_bytes)


def image(folder: Path, name: str, data: bytes, *, write: bool = True) -> ImageRecord:
    if write:
        (folder / "pictures" / name).write_bytes(data)
    place = str(folder / "pictures")
    digest = hash_bytes(data)
    return ImageRecord(1, 1, "one", place, name, len(data), 0, 0, 0, "ready", digest)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((4000, 1000), (320, 80)),
        ((1000, 3000), (107, 320)),
        ((20, 10), (20, 10)),
        ((5000, 3), (320, 1)),
    ],
)
def test_thumbnail_has_the_shape_of_the_picture(
    tmp_path: Path, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    thumbnails = made(tmp_path)
    data = thumbnails.get(image(tmp_path, "a.png", encoded(picture(1, size), "PNG")))
    with Image.open(io.BytesIO(data)) as small:
        assert (small.format, small.size) == ("WEBP", wanted)
        assert max(small.size) <= SIDE


def test_thumbnail_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(1, (640, 320)), "JPEG", exif=exif)
    small = made(tmp_path).get(image(tmp_path, "a.jpg", data))
    assert Image.open(io.BytesIO(small)).size == (160, 320)


def test_thumbnail_is_made_once_for_equal_files(tmp_path: Path) -> None:
    thumbnails = made(tmp_path)
    first = thumbnails.get(image(tmp_path, "a.jpg", jpeg(1)))
    (kept,) = (tmp_path / "thumbnails").rglob("*.webp")
    kept.write_bytes(b"kept")
    assert first != b"kept"
    assert thumbnails.get(image(tmp_path, "b.jpg", jpeg(1))) == b"kept"


def test_what_is_not_the_indexed_file_in_the_roots_gets_none(tmp_path: Path) -> None:
    thumbnails = made(tmp_path)
    known = image(tmp_path, "a.jpg", jpeg(1))
    (tmp_path / "pictures" / "a.jpg").write_bytes(jpeg(2))
    with pytest.raises(ChangedFileError):
        thumbnails.get(known)
    (tmp_path / "pictures" / "a.jpg").write_bytes(jpeg(1))
    thumbnails.get(known)
    # Kept ones are confined too.
    (tmp_path / "outside.jpg").write_bytes(jpeg(1))
    os.unlink(tmp_path / "pictures" / "a.jpg")
    with pytest.raises(MissingFileError):
        thumbnails.get(known)
    (tmp_path / "pictures" / "a.jpg").symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(OutsideRootsError):
        thumbnails.get(known)


@pytest.mark.parametrize("state", ["pending", "failed", "quarantined", "missing"])
def test_what_no_compute_server_has_decoded_is_not_decoded(tmp_path: Path, state: str) -> None:
    thumbnails = made(tmp_path)
    known = image(tmp_path, "a.jpg", jpeg(1))
    for unknown in (replace(known, state=state), replace(known, content_hash=None)):
        with pytest.raises(UnknownImageError):
            thumbnails.get(unknown)


def test_folder_stays_within_its_bound_and_keeps_what_is_used(tmp_path: Path) -> None:
    size = len(made(tmp_path).get(image(tmp_path, "x.jpg", jpeg(0))))
    bound = 8 * size
    thumbnails = made(tmp_path, bound)
    used = image(tmp_path, "used.jpg", jpeg(1))
    thumbnails.get(used)
    (first,) = (tmp_path / "thumbnails").rglob(f"{hash_bytes(jpeg(1)).hex()}.webp")
    first.write_bytes(b"made once")
    for seed in range(2, 30):
        thumbnails.get(image(tmp_path, f"{seed}.jpg", jpeg(seed)))
        assert thumbnails.get(used) == b"made once"
        kept = list((tmp_path / "thumbnails").rglob("*.webp"))
        assert sum(path.stat().st_size for path in kept) <= bound
    assert len(kept) > 2


def test_thumbnail_is_given_though_it_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "thumbnails").write_text("a file where the folder should be")
    assert made(tmp_path).get(image(tmp_path, "a.jpg", jpeg(1)))[:4] == b"RIFF"
