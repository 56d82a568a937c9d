"""The trash on real disks: several of them, full ones, read-only ones, and processes that die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import talking_to
from tests.integration.moving import ignored, trash_of
from tests.integration.trashing import Box, DyingDisk

from futu.errors import BusyError, TrashError, UnknownOperationError
from futu.images.folder import ImageRoots
from futu.trash.disk import signature
from futu.trash.opening import Leaving
from futu.trash.operations import Trash
from futu.trash.places import Places

KILLS, KILLS_IN_SOAK = 8, 200
_KB = 1024


class Mounts:
    """Small file systems in memory."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def add(self, folder: Path, size: int = 1024 * _KB) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            assert not os.environ.get("CI"), f"CI must be able to mount: {done.stderr}"
            pytest.skip(f"only who may mount can run this: {done.stderr.strip()}")
        self._made.append(folder)

    def read_only(self, folder: Path, answer: bool) -> None:
        option = f"remount,{'ro' if answer else 'rw'}"
        subprocess.run(["mount", "-o", option, str(folder)], check=True)

    def close(self) -> None:
        for folder in self._made[::-1]:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    made = Mounts()
    yield made
    made.close()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_trash_is_on_the_disk_of_the_picture_and_seen_by_no_scan(
    tmp_path: Path, mounts: Mounts
) -> None:
    mounts.add(tmp_path / "root" / "usb")
    root = tmp_path / "root"
    for path in ("a.jpg", "usb/holiday/b.jpg"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(path.encode())
    trash = Trash(Places(ImageRoots([root]), tmp_path / "data"), lambda: [str(root / "usb")])
    leaving = [
        Leaving(str(root / path), "", signature(str(root / path)), (n,))
        for n, path in enumerate(("a.jpg", "usb/holiday/b.jpg"))
    ]
    name = trash.apply(leaving, "c", ignored, ignored).head.operation
    for place, path in (
        (root / ".futu-trash" / name / "files", "a.jpg"),
        (root / "usb" / ".futu-trash" / name / "files", "holiday/b.jpg"),
    ):
        assert (place / path).is_file()
    assert trash.undo(name, ignored).state == "undone"
    assert (root / "usb" / "holiday" / "b.jpg").read_bytes() == b"usb/holiday/b.jpg"
    assert not (root / "usb" / ".futu-trash" / name).exists()


def test_picture_whose_disk_can_have_no_trash_is_copied_and_comes_home_with_its_time(
    tmp_path: Path, mounts: Mounts
) -> None:
    box = Box(tmp_path)
    mounts.add(box.root)
    # Nobody can make a folder there.
    (box.root / ".futu-trash").symlink_to(tmp_path)
    path = box.put("a.jpg", b"a" * 300_000)
    os.utime(path, ns=(1_000_000_007, 1_000_000_007))
    os.chmod(path, 0o640)
    before = os.stat(path)
    name = box.apply([box.leaving("a.jpg", 1)])
    (copy,) = (tmp_path / "data" / "trash" / name).rglob("*.jpg")
    assert not os.path.lexists(path)
    assert os.stat(copy).st_dev != before.st_dev
    box.trash.undo(name, box.home)
    after = os.stat(path)
    assert (after.st_mtime_ns, after.st_mode, after.st_size) == (
        before.st_mtime_ns,
        before.st_mode,
        before.st_size,
    )
    assert box.contents() == [b"a" * 300_000]


def test_full_disk_sends_everything_home_and_says_so(tmp_path: Path, mounts: Mounts) -> None:
    box = Box(tmp_path)
    mounts.add(box.root)
    mounts.add(box.data, 64 * _KB)
    (box.root / ".futu-trash").symlink_to(tmp_path)
    pictures = [f"{n}.jpg" for n in range(5)]
    for n, path in enumerate(pictures):
        box.put(path, bytes([n]) * 20 * _KB)
    before = box.contents()
    with pytest.raises(TrashError, match=r"No space left.*Make room.*Everything is where it was"):
        box.apply([box.leaving(path, n) for n, path in enumerate(pictures)])
    assert box.contents() == before
    assert sorted(p.name for p in box.root.glob("*.jpg")) == pictures
    assert box.gone == set()
    assert [o.state for o in box.trash.operations()] == ["rolled_back"]


def test_undo_onto_a_full_disk_keeps_the_picture_in_the_trash(
    tmp_path: Path, mounts: Mounts
) -> None:
    box = Box(tmp_path)
    mounts.add(box.root, 64 * _KB)
    (box.root / ".futu-trash").symlink_to(tmp_path)
    box.put("a.jpg", b"a" * 40 * _KB)
    name = box.apply([box.leaving("a.jpg", 1)])
    filler = box.root / "filler"
    filler.write_bytes(b"f" * 40 * _KB)
    done = box.trash.undo(name, box.home)
    assert (done.state, done.left) == ("incomplete", 1)
    assert "No space left" in done.error
    filler.unlink()
    assert box.trash.undo(name, box.home).state == "undone"
    assert box.contents() == [b"a" * 40 * _KB]


def test_read_only_disk_moves_nothing_and_an_undo_waits_for_it(
    tmp_path: Path, mounts: Mounts
) -> None:
    box = Box(tmp_path)
    mounts.add(box.root)
    path = box.put("sub/a.jpg", b"a")
    leaving = [box.leaving("sub/a.jpg", 1)]
    mounts.read_only(box.root, True)
    with pytest.raises(TrashError, match="Read-only"):
        box.apply(leaving)
    assert box.contents() == [b"a"]
    mounts.read_only(box.root, False)
    name = box.apply(leaving)
    mounts.read_only(box.root, True)
    with pytest.raises(TrashError, match=r"cannot be written \(Read-only"):
        box.trash.undo(name, box.home)
    mounts.read_only(box.root, False)
    assert box.trash.undo(name, box.home).state == "undone"
    assert Path(path).read_bytes() == b"a"


def test_taken_place_is_left_alone_even_by_an_equal_file_and_the_rest_comes_home(
    box: Box,
) -> None:
    box.put("a.jpg", b"a")
    box.put("b.jpg", b"b")
    name = box.apply([box.leaving("a.jpg", 1), box.leaving("b.jpg", 2)])
    box.put("a.jpg", b"a")
    done = box.trash.undo(name, box.home)
    assert (done.state, done.left) == ("incomplete", 1)
    assert "a.jpg is taken by another file" in done.error
    assert box.contents() == [b"a", b"a", b"b"]
    assert box.gone == {1}
    os.unlink(box.root / "a.jpg")
    assert box.trash.undo(name, box.home).state == "undone"
    assert box.contents() == [b"a", b"b"]
    # Undone is undone: what becomes of the file later is nobody's business.
    os.unlink(box.root / "a.jpg")
    assert box.trash.undo(name, box.home).state == "undone"


def test_missing_folder_is_made_again_and_odd_names_come_home(box: Box) -> None:
    odd = os.fsdecode(b"deep/\xff\xfe/ \n'\"#%.jpg")
    box.put(odd, b"odd")
    box.put("x" * 250 + ".jpg", b"long")
    leaving = [box.leaving(odd, 1), box.leaving("x" * 250 + ".jpg", 2)]
    name = box.apply(leaving)
    os.rmdir(os.path.join(box.root, os.path.dirname(odd)))
    os.rmdir(box.root / "deep")
    box.trash.undo(name, box.home)
    assert Path(leaving[0].source).read_bytes() == b"odd"
    assert box.contents() == [b"long", b"odd"]


def test_file_that_was_changed_since_it_was_read_sends_everything_home(box: Box) -> None:
    box.put("a.jpg", b"a")
    box.put("b.jpg", b"b")
    leaving = [box.leaving("a.jpg", 1), box.leaving("b.jpg", 2)]
    (box.root / "b.jpg").write_bytes(b"better")
    with pytest.raises(TrashError, match=r"b\.jpg was changed.*Everything is where it was"):
        box.apply(leaving)
    assert (box.root / "a.jpg").read_bytes() == b"a"
    assert box.contents() == [b"a", b"better"]


class WornDisk(DyingDisk):
    """Writes copies that are not what was copied."""

    def copy(self, source: str, target: str) -> None:
        super().copy(source, target)
        with open(target, "r+b") as file:
            file.write(b"?")


def test_copy_that_is_not_what_was_copied_never_takes_the_place_of_the_original(
    tmp_path: Path, mounts: Mounts
) -> None:
    box = Box(tmp_path)
    mounts.add(box.root)
    (box.root / ".futu-trash").symlink_to(tmp_path)
    box.put("a.jpg", b"a")
    worn = Box.__new__(Box)
    worn.__dict__.update(box.__dict__, disk=WornDisk())
    worn.trash = worn.reopened()
    with pytest.raises(TrashError, match=r"copy of .*a\.jpg is not what was copied"):
        worn.apply([worn.leaving("a.jpg", 1)])
    assert box.contents() == [b"a"]
    name = box.apply([box.leaving("a.jpg", 1)])
    assert "is not what was copied" in worn.trash.undo(name, worn.home).error
    assert box.contents() == [b"a"]
    assert not os.path.lexists(box.root / "a.jpg")
    assert box.trash.undo(name, box.home).state == "undone"
    assert box.contents() == [b"a"]


def test_hard_links_stay_two_names(box: Box) -> None:
    box.put("a.jpg", b"a")
    os.link(box.root / "a.jpg", box.root / "b.jpg")
    name = box.apply([box.leaving("b.jpg", 1)])
    assert (box.root / "a.jpg").read_bytes() == b"a"
    box.trash.undo(name, box.home)
    assert os.path.samefile(box.root / "a.jpg", box.root / "b.jpg")
    assert box.contents() == [b"a", b"a"]


def test_operation_is_carried_out_by_one_program_at_a_time(box: Box, tmp_path: Path) -> None:
    for n in range(2):
        box.put(f"{n}.jpg", bytes([n]))
    other = box.reopened()
    seen: list[object] = []

    def meanwhile() -> None:
        if not seen:
            (operation,) = other.operations()
            seen.append(operation.state)
            seen.append(other.recover(ignored))
            with pytest.raises(BusyError):
                other.undo(operation.head.operation, ignored)

    name = box.apply([box.leaving("0.jpg", 0), box.leaving("1.jpg", 1)], meanwhile)
    assert seen == ["interrupted", []]
    assert box.trash.operation(name).state == "applied"
    with pytest.raises(UnknownOperationError):
        other.operation("20000101-000000-abcdef")


def test_emptied_trash_is_said_and_harms_nothing(box: Box) -> None:
    box.put("a.jpg", b"a")
    box.put("b.jpg", b"b")
    name = box.apply([box.leaving("a.jpg", 1), box.leaving("b.jpg", 2)])
    os.unlink(box.root / ".futu-trash" / name / "files" / "a.jpg")
    done = box.trash.undo(name, box.home)
    assert "a.jpg is neither in the trash nor at its place" in done.error
    assert (done.state, done.left) == ("incomplete", 0)
    assert box.contents() == [b"b"]


def test_killed_process_loses_no_picture(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dice = random.Random(7)
    root = tmp_path / "root"
    originals = {f"{folder}/{n}.jpg": os.urandom(50) for folder in "abc" for n in range(30)}
    for path, data in originals.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    launcher = talking_to("tests.integration.moving")
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    halfway = 0
    for seed in range(KILLS_IN_SOAK if request.config.getoption("--soak") else KILLS):
        launcher.stdin.write(f"{tmp_path} {seed}\n")
        launcher.stdin.flush()
        pid = int(launcher.stdout.readline().removesuffix(" at work\n"))
        timer = threading.Timer(dice.random() * 0.2, os.kill, (pid, signal.SIGKILL))
        timer.start()
        assert launcher.stdout.readline() == "dead\n"
        timer.join()
        halfway += len(trash_of(tmp_path).recover(ignored))
        for done in trash_of(tmp_path).operations():
            if done.left:
                trash_of(tmp_path).undo(done.head.operation, ignored)
        found = {str(p.relative_to(root)): p.read_bytes() for p in root.glob("[abc]/*")}
        assert found == originals
        assert list((root / ".futu-trash").rglob("*.jpg")) == []
    launcher.stdin.close()
    assert launcher.wait() == 0
    launcher.stdout.close()
    assert halfway > 0
