"""Jobs that an earlier controller has left under way."""

from __future__ import annotations

import threading
from collections.abc import Collection

from futu.controller.build import Build, Sent
from futu.jobs.message import ImageItem, Job

_Picture = tuple[bytes | None, bytes | None]


class Inherited:
    """Jobs that an earlier controller has left under way; each is given to one build at most.

    One whose result comes in the instant between a scan's look into the catalogue and its claim
    is done again, which changes nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._by_picture: dict[_Picture, str] = {}
        self._heirs: dict[str, Build] = {}

    def add(self, job: Job) -> None:
        """A job that is on its way."""
        with self._lock:
            self._jobs[job.job_id] = job
            self._by_picture.update((_picture(item), job.job_id) for item in job.items)

    def claim(self, build: Build, item: ImageItem, needs: Collection[str]) -> bool:
        """Let a build wait for the job that has a picture, if there is one.

        Args:
            build: with ``lock`` held.
            item: a content that it has just come to wait for.
            needs: model_ids of the vectors that it lacks.
        """
        with self._lock:
            job = self._jobs.get(self._by_picture.get(_picture(item), ""))
            if job is None or set(needs).isdisjoint(job.model_ids):
                return False
            if self._heirs.setdefault(job.job_id, build) is not build:
                return False
            build.outstanding[job.job_id] = Sent(job)
            return True

    def forget(self, job_id: str) -> None:
        """The result of a job has come. To be called before looking who waits for it."""
        with self._lock:
            job = self._jobs.pop(job_id, None)
            self._heirs.pop(job_id, None)
            for item in job.items if job is not None else ():
                self._by_picture.pop(_picture(item), None)


def _picture(item: ImageItem) -> _Picture:
    return item.path, item.content_hash
