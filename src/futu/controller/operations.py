"""Plans carried out and undone: one at a time, in a thread, and the catalogue follows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from futu.catalogue.store import Catalogue
from futu.controller.checking import Checked, changed_file, check
from futu.controller.keeping import RULES
from futu.controller.outcomes import CHECKING, UNDOING, Outcomes, UnderWay
from futu.controller.planning import Group, Plan, Planner, Reference, with_sidecars
from futu.errors import (
    BusyError,
    FutuError,
    PlanRefusedError,
    UnavailableError,
    UnknownOperationError,
)
from futu.images.folder import ImageRoots, hash_file
from futu.trash.disk import Signature, signature
from futu.trash.journal import Head, Move
from futu.trash.opening import Leaving, new_id
from futu.trash.operations import Trash
from futu.trash.places import Places
from futu.trash.plan import PlanRow

log = logging.getLogger(__name__)


class Operations:
    """Moves images to the trash and home.

    Args:
        catalogue: what it writes is written by whoever leads.
        roots: outside of which nothing is moved.
        places: where the trash is.
        model_id: the model whose vector makes an image searchable.
        came_home: is told ids of the datasets with images that came home.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        roots: ImageRoots,
        places: Places,
        model_id: str,
        came_home: Callable[[Sequence[int]], None],
    ) -> None:
        self._catalogue = catalogue
        self._roots = roots
        self._places = places
        self._model_id = model_id
        self._came_home = came_home
        self.trash = Trash(places, lambda: [d.folder for d in catalogue.datasets()])
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.outcomes = Outcomes(self.trash)
        self._returned: set[int] = set()

    # --- plans -------------------------------------------------------------------------------

    def plan(self, groups: Iterable[Group], order: Sequence[str] = RULES) -> Plan:
        """What would be kept and moved; nothing is changed."""
        return Planner(self._roots, self._places, self._catalogue.datasets()).plan(groups, order)

    def groups(self, image_ids: Sequence[Sequence[int]]) -> list[Group]:
        """Groups of the images that the catalogue has."""
        known = self._catalogue.images_by_id(i for ids in image_ids for i in ids)
        return [
            Group(str(number), tuple(known[i] for i in dict.fromkeys(ids) if i in known))
            for number, ids in enumerate(image_ids, 1)
        ]

    def groups_of_run(self, run_id: int) -> Iterable[Group]:
        """The open groups of a run, without what was decided to be no copy.

        Raises:
            NotFoundError: there is no such run.
        """
        self._catalogue.duplicate_run(run_id)
        after = 0
        while found := self._catalogue.groups(run_id, after=after, limit=1000):
            for group in found:
                images = (m.image for m in group.members if m.unchanged and not m.hidden)
                name = f"{run_id}/{group.number}"
                yield Group(name, tuple(image for image in images if image is not None))
            after = found[-1].number

    # --- carried out -------------------------------------------------------------------------

    def apply(self, rows: Sequence[PlanRow], wait_s: float) -> UnderWay:
        """Begin to carry out a plan.

        Args:
            rows: the plan.
            wait_s: how long to wait for its end, seconds.

        Returns:
            How it stands; its end may be still to come.

        Raises:
            PlanRefusedError, OutsideRootsError: see ``checking.check``; also when a file has not
                the content it should have. Nothing was moved.
            BusyError: another one is under way.
            TrashError: a file could not be moved. Everything is back.
        """
        if self._lock.locked():
            raise _under_way()
        images = self._catalogue.images_by_id(row.image_id for row in rows)
        reference = Reference(self._catalogue.datasets())
        files = check(rows, images, self._members(rows), reference, self._roots)
        if not any(file.moves for file in files):
            raise PlanRefusedError("The plan moves nothing; set the action of some rows to move.")
        return self._begin(
            UnderWay(new_id(), CHECKING, len(files), threading.Event()),
            lambda under_way: self._carry_out(under_way, files),
            wait_s,
        )

    def undo(self, operation: str | None, images: Sequence[int] | None, wait_s: float) -> UnderWay:
        """Begin to bring images of an operation home.

        Args:
            operation: its id; None: the newest that has anything in the trash.
            images: ids of those wanted; None: all.
            wait_s: how long to wait for its end, seconds.

        Raises:
            UnknownOperationError: there is none.
            BusyError: another one is under way.
        """
        if operation is None:
            newest = next((o for o in self.trash.operations() if o.left), None)
            if newest is None:
                raise UnknownOperationError("There is nothing in the trash to be undone.")
            operation = newest.head.operation
        found = self.trash.operation(operation)

        def bring(under_way: UnderWay) -> None:
            self.trash.undo(found.head.operation, self._home(under_way), images)

        total = found.head.files if images is None else len(images)
        under_way = UnderWay(operation, UNDOING, total, threading.Event())
        return self._begin(under_way, bring, wait_s)

    def _members(self, rows: Sequence[PlanRow]) -> dict[str, dict[int, bytes]]:
        """The members of those of the plan's groups that a run has found and still has."""
        numbers = {row.group: _numbers(row.group) for row in rows}
        known = self._catalogue.members_of([pair for pair in numbers.values() if pair is not None])
        return {name: known[pair] for name, pair in numbers.items() if pair in known}

    def _begin(
        self, under_way: UnderWay, work: Callable[[UnderWay], None], wait_s: float
    ) -> UnderWay:
        if not self._lock.acquire(blocking=False):
            raise _under_way()
        self.outcomes.begin(under_way)

        def run() -> None:
            try:
                self.take_up()
                work(under_way)
            except FutuError as error:
                under_way.error = error
                log.warning("operation %s: %s", under_way.operation, error)
            except Exception:
                log.exception("operation %s failed", under_way.operation)
                under_way.error = FutuError("Something went wrong inside Futu; see the log.")
            finally:
                self._announce()
                self._lock.release()
                under_way.ended.set()

        self._thread = threading.Thread(target=run, name="trash")
        self._thread.start()
        under_way.ended.wait(wait_s)
        if under_way.error is not None:
            raise under_way.error
        return under_way

    def _carry_out(self, under_way: UnderWay, files: Sequence[Checked]) -> None:
        leaving = self._read(under_way, files)
        under_way.state, under_way.current, under_way.total = "moving", 0, len(leaving)

        def moved(head: Head, moves: Sequence[Move]) -> None:
            ids = [image_id for move in moves for image_id in move.images]
            self._catalogue.mark_trashed(ids, head.operation)
            self._settle(moves, resolved=True)
            under_way.current += len(moves)

        self.trash.apply(
            leaving,
            self._catalogue.identity,
            moved,
            self._home(under_way),
            self._check,
            under_way.operation,
        )
        pictures = sum(bool(item.images) for item in leaving)
        log.info("operation %s: %d pictures in the trash", under_way.operation, pictures)

    def _read(self, under_way: UnderWay, files: Sequence[Checked]) -> list[Leaving]:
        """Read all files of a plan, those that are kept too; what leaves."""
        moving: dict[str, tuple[Checked, Signature]] = {}
        for file in files:
            self._check()
            try:
                seen = signature(file.real)
                if hash_file(file.real).hex() != file.content_hash:
                    raise changed_file(file)
            except OSError as error:
                raise changed_file(file) from error
            if file.moves:
                moving[file.real] = file, seen
            under_way.current += 1
        images = self._all_images(moving)
        number = {real: n for n, real in enumerate(moving)}
        leaving = [
            Leaving(real, file.content_hash, seen, images[real], file.group)
            for real, (file, seen) in moving.items()
        ]
        for sidecar, picture in with_sidecars(moving).items():
            seen = signature(sidecar)
            group = moving[picture][0].group
            digest = hash_file(sidecar).hex()
            leaving.append(Leaving(sidecar, digest, seen, (), group, number[picture]))
        return leaving

    def _all_images(
        self, moving: dict[str, tuple[Checked, Signature]]
    ) -> dict[str, tuple[int, ...]]:
        """The images of each file, also those of further datasets that have it."""
        datasets = [(d.id, f"{d.folder.rstrip('/')}/") for d in self._catalogue.datasets()]
        at = {
            (dataset_id, real.removeprefix(folder)): real
            for real in moving
            for dataset_id, folder in datasets
            if real.startswith(folder)
        }
        found = {real: set(file.images) for real, (file, _) in moving.items()}
        for place, image_id in self._catalogue.images_at(list(at)).items():
            found[at[place]].add(image_id)
        return {real: tuple(sorted(ids)) for real, ids in found.items()}

    def _check(self) -> None:
        if self._stop.is_set():
            raise UnavailableError("The controller is ending; carry the plan out again later.")

    # --- brought home ------------------------------------------------------------------------

    def _home(self, under_way: UnderWay | None = None) -> Callable[[Head, Sequence[Move]], None]:
        def home(head: Head, moves: Sequence[Move]) -> None:
            if under_way is not None and under_way.state == UNDOING:
                under_way.current += len(moves)
            if head.catalogue != self._catalogue.identity:
                # Its image ids mean others here; the next build finds the files.
                return
            contents = {i: bytes.fromhex(m.content_hash) for m in moves for i in m.images}
            self._returned.update(self._catalogue.bring_back(contents, self._model_id))
            self._settle(moves, resolved=False)

        return home

    def _settle(self, moves: Sequence[Move], *, resolved: bool) -> None:
        pairs = {_numbers(move.group) for move in moves} - {None}
        if pairs:
            self._catalogue.settle_groups(sorted(p for p in pairs if p), resolved=resolved)

    def _announce(self) -> None:
        """Tell of the datasets that got images back."""
        returned, self._returned = sorted(self._returned), set()
        if returned:
            try:
                self._came_home(returned)
            except Exception:
                log.exception("images that came home are found by the next build")

    def take_up(self) -> None:
        """Bring home what a crash has left half way; what another program is at is left to it."""
        for operation in self.trash.recover(self._home()):
            log.info("operation %s was interrupted; its files are home", operation)
        self._announce()

    def stop(self) -> None:
        """End: a plan that is being carried out is taken back, an undo is finished."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


def _numbers(group: str) -> tuple[int, int] | None:
    """Run and number of a group that a run has found; None for any other name."""
    run_id, _, number = group.partition("/")
    plain = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (run_id, number))
    return (int(run_id), int(number)) if plain else None


def _under_way() -> BusyError:
    return BusyError(
        "Pictures are being moved already; futu trash list shows how far it is. Try again when it "
        "has ended."
    )
