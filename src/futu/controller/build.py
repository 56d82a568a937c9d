"""One build under way: its counts, and what is outstanding."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from futu.catalogue.records import BuildRecord, DatasetRecord, Outcome
from futu.errors import JobFailedError, JobTimeoutError, NoModelError
from futu.images.folder import display
from futu.jobs.message import UNSEEN, ImageItem, Job
from futu.tracing import request_id

_WAITING = "Waiting: "
_NO_MODEL = "No compute server has the model. Index again when one has it."
_PASSING = UNSEEN | {JobFailedError.code, NoModelError.code, JobTimeoutError.code}
"""Codes of errors that do not tell against a picture."""

Ground = Literal["added", "unchanged", "reused"]
"""The count of a ``BuildRecord`` that a searchable file belongs to."""


class BuildStoppedError(Exception):
    """The controller is shutting down; the build goes on at its next start."""


class BuildCancelledError(Exception):
    """Somebody has asked for the build to end."""


@dataclass
class Sent:
    """A job whose result has not come.

    Attributes:
        job: without the bytes of its pictures.
        size: bytes of pictures that it carries in Redis.
    """

    job: Job
    size: int = 0


@dataclass
class WaitingFile:
    """A file whose content is under way.

    Attributes:
        path: below the dataset's folder.
        ground: what it is counted as if nothing comes; None while it is not searchable.
        counted: whether it is, as ``ground``.
    """

    path: str
    ground: Ground | None
    counted: bool = False


@dataclass
class Waiting:
    """A content under way.

    Attributes:
        files: the files of the build that have it, not empty.
        needs: model_ids of the vectors it lacks.
    """

    files: list[WaitingFile]
    needs: set[str]


class Build:
    """One build under way: which files and jobs it still waits for, and its counts.

    A file of the scan is counted once: at the scan, or when the content it has becomes searchable,
    gets further vectors or comes to its end (``credit``), or when it is found to have changed
    meanwhile (``drop_file``). So at the end of a build the counts add up to ``total``. All that
    changes is guarded by ``lock``.

    Attributes:
        models: model_ids of the vectors wanted; the first makes an image searchable.
        folder: of the dataset, with links resolved; known when ``scanned``.
        record: the counts.
        halt: set when the build is asked to end.
        again: whether another build is to follow this one at once.
        again_confirms: whether that one forgets files that are gone however many they are.
        vanished: how many files are gone, and of how many.
        held: whether these are so many that none was forgotten.
        can: model_ids that live compute servers have, as of the last look.
        files: contents under way.
        outstanding: jobs under way, by id.
        resend: contents that a compute server could not read; they are to travel as bytes.
        rest: contents that were answered without a further model which some server has.
        bounces: jobs for further models alone, one after another, that servers without them took.
        short: contents that get no further vectors in this build.
        unserved: contents that come to nothing because no server has the model they need.
        given_up: model_ids of which vectors were not to be had, for want of a server.
        refused: contents that this build has found to be of no use.
        suspects: jobs that Redis did not know at the last look.
        request_id: of the request that began it; empty: none did.
    """

    def __init__(self, dataset: DatasetRecord, record: BuildRecord, models: Sequence[str]) -> None:
        self.dataset = dataset
        self.record = record
        self.models = tuple(models)
        self.folder = Path(dataset.folder)
        self.lock = threading.Condition()
        self.halt = threading.Event()
        self.again = False
        self.again_confirms = False
        self.vanished = (0, 0)
        self.held = False
        self.scanned = False
        self.can: frozenset[str] = frozenset()
        self.files: dict[bytes, Waiting] = {}
        self.outstanding: dict[str, Sent] = {}
        self.refused: dict[bytes, Outcome] = {}
        self.resend: list[bytes] = []
        self.rest: list[bytes] = []
        self.bounces = 0
        self.short: set[bytes] = set()
        self.unserved: list[bytes] = []
        self._refused_further: dict[str, dict[bytes, Outcome]] = {}
        self.given_up: set[str] = set()
        self.suspects: set[str] = set()
        self.request_id = request_id()
        self._halted_by: type[BuildStoppedError | BuildCancelledError] | None = None

    # --- asked to end ----------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the build to end and to take its jobs back."""
        self._halt(BuildCancelledError)

    def stop(self) -> None:
        """Ask the build to end where it is."""
        self._halt(BuildStoppedError)

    def _halt(self, why: type[BuildStoppedError | BuildCancelledError]) -> None:
        with self.lock:
            self._halted_by = self._halted_by or why
            self.halt.set()
            self.lock.notify_all()

    def check(self) -> None:
        """Return while the build may go on.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        if self._halted_by is not None:
            raise self._halted_by

    def wait_for(self, reason: str) -> None:
        """Say why the build does not go on; an empty reason takes that back."""
        if reason:
            self.record.message = _WAITING + reason
        elif self.record.message.startswith(_WAITING):
            self.record.message = ""

    # --- counted; all with ``lock`` held ---------------------------------------------------

    def expect(
        self, content: bytes, path: str, needs: Collection[str], ground: Ground = "reused"
    ) -> ImageItem | None:
        """A file waits for vectors of its content.

        Args:
            content: its hash.
            path: below the dataset's folder.
            needs: model_ids of the vectors that the content lacks, not empty.
            ground: what the file is counted as if its content is searchable and stays as it is.

        Returns:
            The content as a job has it; None when it is under way already or nothing is to be had.
        """
        searchable = self.models[0] not in needs
        file = WaitingFile(path, ground if searchable else None)
        waiting = self.files.get(content)
        if waiting is not None:
            waiting.files.append(file)
        elif searchable and not self._to_be_had(content, needs):
            self._count(file)
        else:
            self.files[content] = Waiting([file], set(needs))
            return self.item(content)
        return None

    def _to_be_had(self, content: bytes, needs: Collection[str]) -> bool:
        """Whether a searchable content can get one of these vectors in this build."""
        if content in self.short:
            return False
        self.given_up.update(set(needs) - self.can)
        return not self.can.isdisjoint(needs)

    def item(self, content: bytes) -> ImageItem | None:
        """A content under way as a job has it, by the path of its first file."""
        waiting = self.files.get(content)
        if waiting is None:
            return None
        name = waiting.files[0].path
        path = os.fsencode(os.path.join(self.folder, name))
        return ImageItem(path=path, content_hash=content, name=display(name))

    def asks(self, content: bytes) -> tuple[str, ...]:
        """The models to ask for a content under way; empty: nothing is to be had, or it has ended.

        Those that some server has. While there is none at all, one that makes it searchable is
        waited for, and asked for with the others.
        """
        waiting = self.files.get(content)
        if waiting is None:
            return ()
        everything = self.models[0] in waiting.needs and not self.can
        return tuple(
            model
            for model in self.models
            if model in waiting.needs and (model in self.can or everything)
        )

    def credit(self, outcome: Outcome) -> None:
        """Something has come of a content; a repeat changes nothing."""
        content = outcome.content_hash
        waiting = self.files.get(content)
        if waiting is None:
            return
        if outcome.error_code is not None:
            if self.models[0] not in waiting.needs:
                if outcome.error_code not in _PASSING:
                    for model in waiting.needs:
                        self._refused_further.setdefault(model, {})[content] = outcome
                self.give_up(content)
                return
            del self.files[content]
            self.refused[content] = outcome
            for file in waiting.files:
                self._count(file, outcome)
            return
        waiting.needs.difference_update(outcome.vectors)
        if outcome.vectors and self.models[0] not in waiting.needs:
            for file in waiting.files:
                if not file.counted:
                    file.ground = "added"
                    self._count(file)
        if not waiting.needs:
            del self.files[content]
        elif self.asks(content):
            self.rest.append(content)
        else:
            self.give_up(content, wanting=True)

    def give_up(self, content: bytes, *, wanting: bool = False) -> None:
        """A content gets no further vectors in this build; one that has ended: nothing.

        One that is not searchable fails, for want of a server.

        Args:
            content: its hash.
            wanting: whether this is for want of a server.
        """
        waiting = self.files.get(content)
        if waiting is None:
            return
        if wanting:
            self.given_up |= waiting.needs
        if self.models[0] in waiting.needs:
            self.unserved.append(content)
            self.credit(Outcome(content, error_code=NoModelError.code, error=_NO_MODEL))
            return
        del self.files[content]
        self.short.add(content)
        for file in waiting.files:
            self._count(file)

    def refused_further(self, model_id: str) -> Mapping[bytes, Outcome]:
        """Searchable contents of which a further model makes nothing, and why."""
        return self._refused_further.get(model_id, {})

    def _count(self, file: WaitingFile, refused: Outcome | None = None) -> None:
        """Count a file, if it is not counted yet."""
        if file.ground is not None and not file.counted:
            file.counted = True
            setattr(self.record, file.ground, getattr(self.record, file.ground) + 1)
        elif file.ground is None and refused is not None:
            self.count_refused(refused)

    def count_refused(self, outcome: Outcome) -> None:
        """Count a file whose content cannot be used."""
        if outcome.quarantined:
            self.record.quarantined += 1
        else:
            self.record.failed += 1

    def drop_file(self, content: bytes) -> str | None:
        """The first file of a content no longer has it: it failed.

        Returns:
            Its path; None when the content has come to its end meanwhile.
        """
        waiting = self.files.get(content)
        if waiting is None:
            return None
        file = waiting.files.pop(0)
        if not waiting.files:
            del self.files[content]
        if file.counted and file.ground is not None:
            setattr(self.record, file.ground, getattr(self.record, file.ground) - 1)
        self.record.failed += 1
        return file.path
