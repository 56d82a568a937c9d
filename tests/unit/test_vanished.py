"""When vanished files are believed, and which have only moved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from futu.catalogue.records import KnownFile
from futu.catalogue.schema import FAILED, MISSING, QUARANTINED, READY
from futu.controller.known import FRESH_NS, is_fresh, settled
from futu.controller.vanished import Vanished, sort_out, too_many
from futu.errors import MissingFileError
from futu.images.folder import ImageRoots
from futu.images.walk import FoundFile, has_entries, require_disk, walk


def row(
    number: int = 1, content: bytes | None = b"c", state: str = READY, **facts: int
) -> KnownFile:
    whole = {"size": 1, "mtime_ns": 10**18, "scanned_at_ns": 2 * 10**18, "vector_id": 1} | facts
    return KnownFile(number, content_hash=content, state=state, error_code=None, **whole)


@pytest.mark.parametrize(
    ("gone", "of", "share", "held"),
    [
        (9, 9, 0.2, False),  # a handful is believed, even all of it
        (10, 10, 0.2, True),
        (10, 50, 0.2, False),  # exactly the share
        (11, 50, 0.2, True),
        (10, 49, 0.2, True),
        (10, 1000, 0.0, True),
        (1000, 1000, 1.0, False),
        (0, 0, 0.2, False),
    ],
)
def test_more_than_the_share_and_than_a_handful_is_held(
    gone: int, of: int, share: float, held: bool
) -> None:
    assert too_many(gone, of, share) is held
    vanished = Vanished(of, gone=list(range(gone)))
    assert vanished.held(share, confirmed=False) is held
    assert not vanished.held(share, confirmed=True)


def test_share_is_of_files_that_were_there_and_have_been_read() -> None:
    rows = [row(), row(state=QUARANTINED), row(state=MISSING), row(content=None, state=FAILED)]
    assert Vanished.before(rows).of == 2


def test_files_in_closed_folders_are_neither_gone_nor_moved() -> None:
    left = {
        "sub/a.jpg": row(1),
        "sub/deep/b.jpg": row(2),
        "sub2/c.jpg": row(3),
        "d.jpg": row(4, b"moved"),
        "e.jpg": row(5, None, FAILED),
        "f.jpg": row(6, state=MISSING),
        "sub": row(7, None, FAILED),
    }
    vanished = Vanished.before(left.values())
    kept = sort_out(vanished, left, [FoundFile("sub", 0, 0, closed=True)], {b"moved"})
    assert (kept, vanished.gone, vanished.moved) == (2, [3], [4, 5, 7])


def test_file_hashed_within_a_tick_of_its_change_is_fresh() -> None:
    assert is_fresh(row(scanned_at_ns=10**18 + FRESH_NS - 1))
    assert not is_fresh(row(scanned_at_ns=10**18 + FRESH_NS))
    # A camera whose clock is in the future must not have its pictures read at every scan.
    assert not is_fresh(row(mtime_ns=4 * 10**18))


def test_settled_files_are_those_with_a_vector_or_for_good_of_no_use() -> None:
    assert settled(row()) == READY
    assert settled(row()._replace(vector_id=None)) is None
    assert settled(row(state=FAILED)._replace(error_code="cannot_decode")) == FAILED
    assert settled(row(state=FAILED)._replace(error_code="unreadable")) is None
    assert settled(row(state=MISSING)) is None


# --- the disk ------------------------------------------------------------------------------------


def test_linked_folder_keeps_the_path_that_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "a.jpg").write_bytes(b"x")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "back").symlink_to(tmp_path)
    assert [file.path for file in walk(tmp_path, ImageRoots([tmp_path]))] == ["z/a.jpg"]


def test_links_that_point_at_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").symlink_to(tmp_path / "two.jpg")
    (tmp_path / "two.jpg").symlink_to(tmp_path / "one.jpg")
    found = list(walk(tmp_path, ImageRoots([tmp_path])))
    assert [(file.path, file.error is not None) for file in found] == [
        ("one.jpg", True),
        ("two.jpg", True),
    ]


@pytest.mark.parametrize("replaced", [False, True])
def test_disk_taken_away_during_the_walk_is_an_error(tmp_path: Path, replaced: bool) -> None:
    folder = tmp_path / "disk"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.jpg").write_bytes(b"x")
    files = walk(folder, ImageRoots([tmp_path]))
    assert next(files).path == "a/1.jpg"
    folder.rename(tmp_path / "away")
    if replaced:
        folder.mkdir()
    with pytest.raises(MissingFileError, match="taken away"):
        list(files)


def test_folder_that_holds_nothing_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="mount it"):
        require_disk(tmp_path)
    (tmp_path / ".hidden").touch()
    require_disk(tmp_path)
    assert not has_entries(tmp_path / "nothing")
    assert os.listdir(tmp_path) == [".hidden"]
