"""Whatever happens, every original byte sequence is there exactly once."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.integration.trashing import Box, KilledError

from futu.errors import TrashError

# Where a step costs nothing; what is to be far is told so to the disk.
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_NAMES = st.sampled_from(["a.jpg", "b.jpg", "sub/a.jpg", "sub/deep/c.png", "far/d.jpg", "far/e"])
# How many steps are done before the process dies; from 40 on it mostly lives.
_STEPS = st.integers(0, 60)


class TrashMachine(RuleBasedStateMachine):
    """Pictures, a trash, a disk that dies, and a user who does as he likes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=_MEMORY))
        self.box = Box(self.folder)
        self.box.disk.far = str(self.box.root / "far")
        self.number = 0
        self.plans = 0
        self.originals: dict[bytes, int] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _new(self) -> bytes:
        self.number += 1
        data = f"picture {self.number}".encode()
        self.originals[data] = self.number
        return data

    def _at_home(self) -> list[str]:
        found = []
        for where, folders, names in os.walk(self.box.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [os.path.relpath(os.path.join(where, name), self.box.root) for name in names]
        return sorted(found)

    def _survive(self, data: st.DataObject) -> None:
        """What holds after a crash; then the program starts again, and may crash again."""
        for again in (True, True, False):
            there = self.box.contents()
            assert all(original in there for original in self.originals)
            self.box.trash = self.box.reopened()
            self.box.disk.left = data.draw(_STEPS) if again else None
            try:
                self.box.trash.recover(self.box.home)
                break
            except KilledError:
                continue
        self.box.disk.left = None

    @initialize(names=st.lists(_NAMES, min_size=2, unique=True), links=st.booleans())
    def begin(self, names: list[str], links: bool) -> None:
        self.box.disk.links = links
        for name in names:
            self.box.put(name, self._new())

    @rule(data=st.data(), what=st.sampled_from(["add", "rename", "tidy"]))
    def meddle(self, data: st.DataObject, what: str) -> None:
        """The user takes places, gives files other names, removes empty folders."""
        root = self.box.root
        if what == "tidy":
            for where, _, _ in os.walk(root, topdown=False):
                if ".futu-trash" not in where and not os.listdir(where):
                    os.rmdir(where)
            root.mkdir(exist_ok=True)
            return
        names, target = self._at_home(), data.draw(_NAMES)
        if os.path.lexists(root / target):
            return
        if what == "add":
            self.box.put(target, self._new())
        elif names:
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(root / data.draw(st.sampled_from(names)), root / target)

    @precondition(lambda self: self._at_home())
    @rule(data=st.data(), steps=_STEPS, fails_at=st.integers(0, 9))
    def apply(self, data: st.DataObject, steps: int, fails_at: int) -> None:
        names = self._at_home()
        chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        leaving = [
            self.box.leaving(name, self.originals[(self.box.root / name).read_bytes()])
            for name in chosen
        ]
        before = self.box.contents(), names

        def check() -> None:
            nonlocal fails_at
            fails_at -= 1
            if fails_at < 0:
                raise TrashError("Enough.")

        # The same whenever the same is done again.
        self.plans += 1
        self.box.disk.left = steps
        try:
            self.box.apply(leaving, check, f"operation {self.plans:03}")
        except KilledError:
            self._survive(data)
            assert (self.box.contents(), self._at_home()) == before
        except TrashError:
            assert (self.box.contents(), self._at_home()) == before
        else:
            assert not set(chosen) & set(self._at_home())
        self.box.disk.left = None

    @precondition(lambda self: self.box.trash.operations())
    @rule(data=st.data(), steps=_STEPS, some=st.booleans())
    def undo(self, data: st.DataObject, steps: int, some: bool) -> None:
        known = sorted(o.head.operation for o in self.box.trash.operations())
        operation = data.draw(st.sampled_from(known))
        images = sorted(i for m, _ in self.box.trash.moves(operation) for i in m.images) or [0]
        wanted = data.draw(st.sets(st.sampled_from(images))) if some else None
        taken = set(self._at_home())
        self.box.disk.left = steps
        try:
            done = self.box.trash.undo(operation, self.box.home, wanted)
        except KilledError:
            self._survive(data)
            return
        self.box.disk.left = None
        inside = [move for move, there in self.box.trash.moves(operation) if there]
        for move in inside:
            place = os.path.relpath(move.source, self.box.root)
            assert place in taken or (wanted is not None and not wanted & set(move.images))
        assert done.left == len(inside)

    @invariant()
    def every_original_is_there_exactly_once(self) -> None:
        assert self.box.contents() == sorted(self.originals)

    @invariant()
    def catalogue_knows_what_is_in_the_trash(self) -> None:
        assert self.box.gone == {self.originals[data] for data in self.box.in_trash()}


TrashMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTrash = TrashMachine.TestCase

NAMES = ("a.jpg", "sub/b.jpg", "far/c.jpg")


def _home(box: Box) -> list[bytes]:
    return [(box.root / name).read_bytes() for name in NAMES if (box.root / name).exists()]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("phase", ["apply", "undo"])
def test_crash_at_every_step_sends_files_home(tmp_path: Path, phase: str, links: bool) -> None:
    originals = [name.encode() for name in NAMES]
    step = 0
    while True:
        folder = Path(tempfile.mkdtemp(dir=_MEMORY))
        try:
            box = Box(folder)
            box.disk.far, box.disk.links = str(box.root / "far"), links
            for name in NAMES:
                box.put(name, name.encode())
            leaving = [box.leaving(name, number) for number, name in enumerate(NAMES)]
            if phase == "undo":
                operation = box.apply(leaving)
                assert (_home(box), box.gone) == ([], {0, 1, 2})
            box.disk.left = step
            try:
                if phase == "apply":
                    box.apply(leaving)
                else:
                    box.trash.undo(operation, box.home)
                break
            except KilledError:
                assert set(box.contents()) >= set(originals)
            box.disk.left = None
            box.reopened().recover(box.home)
            if phase == "apply" or _home(box):
                assert (_home(box), box.gone) == (originals, set())
            assert box.contents() == sorted(originals)
            step += 1
        finally:
            shutil.rmtree(folder)
    assert step > 20
