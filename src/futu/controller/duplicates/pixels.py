"""Whether other bytes are the same pixels: compute servers decode what may be, at full size."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from futu.catalogue.duplicate_records import ReadyImage
from futu.catalogue.store import Catalogue
from futu.errors import FutuError, NoComputeServerError, NoModelError, QueueFullError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots, display, read_bytes
from futu.jobs.message import UNSEEN, ImageItem, ItemResult, Job, new_job_id
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

_IN_JOB = 8
_AT_ONCE = 4
_KEPT_AT_ONCE = 64
_FULL_PAUSE_S = 0.5


class PixelHashes:
    """Hashes of the pixels of contents: known ones, and those that compute servers are asked for.

    Args:
        catalogue: keeps them.
        queue: where compute servers are asked.
        roots: within which pictures are read.
        limits: of pictures.
        timeout_s: for the pictures of one job.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        queue: JobQueue,
        roots: ImageRoots,
        limits: DecodeLimits,
        timeout_s: float,
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._roots = roots
        self._limits = limits
        self._timeout_s = timeout_s

    def known(self, contents: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Those that were worked out before."""
        return self._catalogue.pixel_hashes(contents)

    def find(
        self, images: Sequence[ReadyImage], folders: Mapping[int, str], step: Callable[[int], None]
    ) -> dict[bytes, bytes | None]:
        """Work out those of some contents and keep them.

        What cannot be read or decoded, or has more than one picture, is no one's equal.

        Args:
            images: of each content one.
            folders: dataset id -> its folder.
            step: told how many are done; may raise to end it.

        Raises:
            NoComputeServerError: there is none.
            NoModelError: compute servers are too old to know what is wanted.
            FutuError: they do not answer.
        """
        if images and not self._queue.servers.alive():
            raise NoComputeServerError(
                "No compute server is running. Start one with ./start.sh compute."
            )
        jobs = [images[at : at + _IN_JOB] for at in range(0, len(images), _IN_JOB)]
        found: dict[bytes, bytes | None] = {}
        fresh: dict[bytes, bytes | None] = {}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pixels") as pool:
            try:
                for asked, answers in zip(jobs, pool.map(lambda j: self._ask(j, folders), jobs)):
                    for image, answer in zip(asked, answers):
                        if answer.error is None and answer.content_hash == image.content_hash:
                            fresh[image.content_hash] = answer.pixel_hash
                    if len(fresh) >= _KEPT_AT_ONCE:
                        self._catalogue.keep_pixel_hashes(fresh)
                        found, fresh = found | fresh, {}
                    step(len(found) + len(fresh))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._catalogue.keep_pixel_hashes(fresh)
        return found | fresh

    def _ask(
        self, images: Sequence[ReadyImage], folders: Mapping[int, str]
    ) -> Sequence[ItemResult]:
        places = [os.path.join(folders[i.dataset_id], i.path) for i in images]
        items = [
            ImageItem(
                path=os.fsencode(place),
                content_hash=image.content_hash,
                name=display(image.path),
            )
            for place, image in zip(places, images)
        ]
        answers = self._answers(Job(new_job_id(), "library", [], items, pixels=True))
        unseen = [n for n, a in enumerate(answers) if a.error and a.error.code in UNSEEN]
        for number in unseen:
            answers[number] = self._by_bytes(places[number], items[number], answers[number])
        return answers

    def _by_bytes(self, place: str, item: ImageItem, unseen: ItemResult) -> ItemResult:
        """Where compute servers do not see the files."""
        try:
            data = read_bytes(self._roots.resolve_file(place), self._limits)
        except FutuError:
            return unseen
        sent = ImageItem(data=data, content_hash=item.content_hash, name=item.name)
        return self._answers(Job(new_job_id(), "inline", [], [sent], pixels=True))[0]

    def _answers(self, job: Job) -> list[ItemResult]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                result = self._queue.ask(job, self._timeout_s)
                break
            except QueueFullError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_FULL_PAUSE_S)
        if result.error is not None:
            if result.error.code == NoModelError.code:
                raise NoModelError(
                    "The compute servers are of an older version, which hashes no pixels. Run the "
                    "same version of Futu everywhere."
                )
            raise result.error.rebuild()
        return list(result.items)
