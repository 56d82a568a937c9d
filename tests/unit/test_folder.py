"""The walk over a folder and the confinement to the roots."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from tests.pictures import dng, heic, jpeg, picture

from futu.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    MissingFileError,
    OutsideRootsError,
    UnreadableFileError,
)
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots, display, hash_file, read_bytes
from futu.images.walk import walk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def names(root: Path) -> list[str]:
    return [f.path for f in walk(root, ImageRoots([root]))]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_pictures_are_found_in_a_stable_order_and_the_rest_passed_over(root: Path) -> None:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.tif", "图片.gif"):
        touch(root / name)
    for name in ("notes.txt", ".hidden.jpg", ".Trashes/e.jpg", "._a.jpg", "movie.mp4", "noext"):
        touch(root / name)
    (root / "folder.jpg").mkdir()
    assert names(root) == ["a.PNG", "b.jpg", "图片.gif", "sub/c.webp", "sub/deep/d.tif"]


def test_every_known_extension_is_found_and_no_extension_is_looked_into(root: Path) -> None:
    for name in ("a.HEIC", "b.heif", "c.NEF", "d.dng", "e.avif", "f.mpo"):
        touch(root / name)
    for name, data in {"jpeg": jpeg(1), "heif": heic(picture(1)), "raw": dng(picture(1))}.items():
        (root / name).write_bytes(data)
    for name, data in {
        "README": b"text",
        "empty": b"",
        "drawing": b"<svg/>",
        "number": b"\x28\0\0\0" + bytes(40),
        "jpeg.bak": jpeg(1),
        "drawing.svg": b"<svg/>",
        "layers.psd": b"8BPS",
    }.items():
        (root / name).write_bytes(data)
    os.mkfifo(root / "pipe")
    (root / "closed").write_bytes(jpeg(1))
    (root / "closed").chmod(0)
    found = names(root)
    if os.access(root / "closed", os.R_OK):  # we are root
        found.remove("closed")
    expected = ["a.HEIC", "b.heif", "c.NEF", "d.dng", "e.avif", "f.mpo", "heif", "jpeg", "raw"]
    assert found == expected


def test_name_that_is_not_utf8_is_kept_and_shown(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.jpg")).write_bytes(b"x")
    (found,) = names(root)
    assert os.fsencode(found) == b"\xff.jpg"
    assert display(found) == "\ufffd.jpg"


def test_links_are_followed_inside_the_roots_only(root: Path, tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "secret.jpg")
    touch(root / "real" / "a.jpg")
    (root / "alias.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (root / "outdir").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "real" / "up").symlink_to(root)
    (root / "dangling.jpg").symlink_to(root / "nothing.jpg")
    found = {f.path: f.error.code if f.error else None for f in walk(root, ImageRoots([root]))}
    assert found == {
        "alias.jpg": None,
        "dangling.jpg": "missing_file",
        "out.jpg": "outside_roots",
        "outdir": "outside_roots",
        "real/a.jpg": None,
    }


def test_missing_folder_is_an_error_not_an_empty_dataset(root: Path) -> None:
    with pytest.raises(MissingFileError):
        list(walk(root / "gone", ImageRoots([root])))


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_path_that_is_none_is_refused(root: Path, path: str) -> None:
    with pytest.raises(InvalidRequestError):
        ImageRoots([root]).resolve(path)


def test_roots_confine_after_links_and_dots_are_resolved(root: Path, tmp_path: Path) -> None:
    touch(root / "a.jpg")
    touch(tmp_path / "rootless" / "b.jpg")
    (root / "link").symlink_to(tmp_path / "rootless")
    roots = ImageRoots([root])
    assert roots.resolve_file(root / "a.jpg") == root / "a.jpg"
    for path in (
        root / ".." / "rootless" / "b.jpg",
        tmp_path / "rootless" / "b.jpg",
        tmp_path / "rootless" / "gone.jpg",
        root / "link" / "b.jpg",
        tmp_path,
        Path("/etc/passwd"),
    ):
        with pytest.raises(OutsideRootsError, match="--image-root"):
            roots.resolve(path)
    with pytest.raises(MissingFileError):
        roots.resolve(root / "gone.jpg")
    with pytest.raises(InvalidRequestError, match="not a file"):
        roots.resolve_file(root)


def test_root_reached_through_a_link_still_contains_its_files(root: Path, tmp_path: Path) -> None:
    touch(root / "a.jpg")
    (tmp_path / "alias").symlink_to(root)
    roots = ImageRoots([tmp_path / "alias"])
    assert roots.resolve_file(tmp_path / "alias" / "a.jpg") == root / "a.jpg"


def test_bytes_and_hash_of_a_file(root: Path) -> None:
    path = root / "a.jpg"
    path.write_bytes(b"abc" * 1000)
    assert hash_file(path) == hashlib.sha256(b"abc" * 1000).digest()
    assert read_bytes(path, DecodeLimits()) == b"abc" * 1000
    with pytest.raises(ImageTooLargeError, match="3,000"):
        read_bytes(path, DecodeLimits(max_bytes=2999))
    with pytest.raises(MissingFileError):
        read_bytes(root / "gone.jpg", DecodeLimits())
    with pytest.raises(UnreadableFileError):
        hash_file(root)
