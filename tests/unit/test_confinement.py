"""No path, however it is written, leads out of the image roots. Tried with very many."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from futu.errors import FutuError, ImageError
from futu.images.decode import DecodeLimits, decode
from futu.images.folder import ImageRoots

SECRET = "secret.jpg"
PARTS = ["..", ".", "", "in", "deep", "a.jpg", "loop", "out", "file-out", "up", SECRET, "root",
    "rootless", "\\..", "%2e%2e", "..;", "\x00", "\udcff", "~", "C:", "é", "a" * 300]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, a neighbour whose name begins like it, and links in all directions."""
    folder = tmp_path_factory.mktemp("tree")
    deep = folder / "root" / "in" / "deep"
    deep.mkdir(parents=True)
    (folder / "rootless").mkdir()
    for place in (folder / SECRET, folder / "rootless" / SECRET, deep / "a.jpg"):
        place.write_bytes(b"x")
    (folder / "root" / "a.jpg").write_bytes(b"x")
    (folder / "root" / "out").symlink_to(folder)
    (folder / "root" / "file-out").symlink_to(folder / SECRET)
    (folder / "root" / "in" / "up").symlink_to("../..")
    (folder / "root" / "loop").symlink_to("loop")
    (deep / "in").symlink_to(folder / "root" / "in")
    return folder


@example(start="root", parts=["..", "rootless", SECRET])
@example(start="none", parts=["less", SECRET])
@example(start="root", parts=["out", SECRET])
@example(start="root", parts=["in", "up", "..", "out", SECRET])
@settings(max_examples=500, deadline=None)
@given(
    start=st.sampled_from(["root", "absolute", "relative", "none"]),
    parts=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=8),
)
def test_no_path_leads_out_of_the_roots(tree: Path, start: str, parts: list[str]) -> None:
    root = tree / "root"
    before = {"root": f"{root}/", "absolute": "/", "relative": "", "none": f"{root}"}[start]
    try:
        found = ImageRoots([root]).resolve(before + "/".join(parts))
    except FutuError:
        return
    real = os.path.realpath(root)
    assert os.path.realpath(found) == str(found)
    assert str(found) == real or str(found).startswith(real + os.sep)
    if os.path.exists(found):
        assert not os.path.samefile(found, tree / SECRET)


def test_text_that_inflates_is_no_way_to_take_memory() -> None:
    made = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(made, "PNG")
    head, tail = made.getvalue()[:33], made.getvalue()[33:]

    def chunk(data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(b"zTXt" + data))
        return struct.pack(">I", len(data)) + b"zTXt" + data + crc

    deflate = zlib.compressobj()
    zeros = [deflate.compress(bytes(2**20)) for _ in range(128)]
    bomb = chunk(b"k\0\0" + b"".join(zeros) + deflate.flush())
    decode(head + tail, DecodeLimits(), target=224)  # what is loaded at first use is not counted
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            decode(head + bomb + tail, DecodeLimits(), target=224)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
