"""Whatever happens, every original byte sequence is there exactly once."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from tests.integration.trashing import Box, KilledError

from futu.errors import TrashError

# Where a step costs nothing; what is to be far is told so to the disk.
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_NAMES = st.sampled_from(["a.jpg", "b.jpg", "sub/a.jpg", "sub/deep/c.png", "far/d.jpg", "far/e"])
_STEPS = st.none() | st.integers(0, 60)


class TrashMachine(RuleBasedStateMachine):
    """Pictures, a trash, a disk that dies, and a user who does as he likes."""

    operations = Bundle("operations")

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

    def _survive(self, steps: int | None, data: st.DataObject) -> None:
        """What holds after a crash; then the program starts again, and may crash again."""
        disk = self.box.disk
        while True:
            there = self.box.contents()
            assert all(original in there for original in self.originals)
            self.box.trash = self.box.reopened()
            disk.left = data.draw(_STEPS) if steps is not None else None
            try:
                self.box.trash.recover(self.box.home)
                break
            except KilledError:
                steps = steps - 1 if steps else None
        disk.left = None

    @rule(name=_NAMES)
    def add(self, name: str) -> None:
        if not os.path.lexists(self.box.root / name):
            self.box.put(name, self._new())

    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        """The user gives a file another name."""
        names = self._at_home()
        target = data.draw(_NAMES)
        if names and not os.path.lexists(self.box.root / target):
            (self.box.root / target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.box.root / data.draw(st.sampled_from(names)), self.box.root / target)

    @rule()
    def remove_empty_folders(self) -> None:
        for where, _, _ in os.walk(self.box.root, topdown=False):
            if ".futu-trash" not in where and not os.listdir(where):
                os.rmdir(where)

    @rule(links=st.booleans())
    def other_disk(self, links: bool) -> None:
        self.box.disk.links = links

    @rule(target=operations, data=st.data(), steps=_STEPS, fails_at=st.none() | st.integers(0, 3))
    def apply(self, data: st.DataObject, steps: int | None, fails_at: int | None) -> str:
        names = self._at_home()
        if not names:
            return ""
        chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        leaving = [
            self.box.leaving(name, self.originals[(self.box.root / name).read_bytes()])
            for name in chosen
        ]
        before = self.box.contents(), self._at_home()

        def check() -> None:
            nonlocal fails_at
            if fails_at is not None:
                fails_at -= 1
                if fails_at < 0:
                    raise TrashError("Enough.")

        # The same whenever the same is done again.
        self.plans += 1
        operation = f"operation {self.plans:03}"
        self.box.disk.left = steps
        try:
            self.box.apply(leaving, check, operation)
        except KilledError:
            self._survive(3, data)
            assert (self.box.contents(), self._at_home()) == before
            return operation
        except TrashError:
            assert (self.box.contents(), self._at_home()) == before
            return ""
        finally:
            self.box.disk.left = None
        assert not set(chosen) & set(self._at_home())
        return operation

    @rule(operation=consumes(operations), data=st.data(), steps=_STEPS, some=st.booleans())
    def undo(self, operation: str, data: st.DataObject, steps: int | None, some: bool) -> None:
        if not operation:
            return
        known = {o.head.operation for o in self.box.trash.operations()}
        if operation not in known:
            # It ended before its journal was there.
            return
        images = sorted(i for m, _ in self.box.trash.moves(operation) for i in m.images)
        wanted = data.draw(st.sets(st.sampled_from(images))) if some else None
        taken = set(self._at_home())
        self.box.disk.left = steps
        try:
            self.box.trash.undo(operation, self.box.home, wanted)
        except KilledError:
            self._survive(3, data)
        self.box.disk.left = None
        undone = self.box.trash.operation(operation)
        inside = [m for m, there in self.box.trash.moves(operation) if there]
        if steps is None:
            for move in inside:
                place = os.path.relpath(move.source, self.box.root)
                assert place in taken or (wanted is not None and not wanted & set(move.images))
            assert undone.left == len(inside)

    @invariant()
    def every_original_is_there_exactly_once(self) -> None:
        assert self.box.contents() == sorted(self.originals)

    @invariant()
    def catalogue_knows_what_is_in_the_trash(self) -> None:
        assert self.box.gone == {self.originals[data] for data in self.box.in_trash()}


TrashMachine.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTrash = TrashMachine.TestCase
