"""What becomes of a job that is not done at the first attempt.

A broken picture is a result and is never tried again. A failure that is not the picture's (the
model runtime, memory) is tried again after a growing delay. A job that was handed out
``max_deliveries`` times without an answer has probably killed its workers: it is done in a
process apart, and the picture that ends that process becomes a dead letter.
"""

from __future__ import annotations

import logging
import threading
import time

import msgspec

from futu.compute.trial import Trial, TrialDiedError
from futu.errors import FutuError, QuarantinedError
from futu.jobs.measures import Measures
from futu.jobs.message import DeadLetter, ItemError, ItemResult, JobResult
from futu.jobs.streams import JobQueue, Lease

log = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.5
_MOST_DOUBLINGS = 10


class Attempts:
    """Decides by a lease's number of deliveries. Safe for several threads.

    Args:
        queue: where jobs go back to.
        trial: the process apart.
        server: our name.
        max_deliveries: after so many without an answer a job is suspicious.
        measures: counts what is tried again, done apart and put aside.
    """

    def __init__(
        self,
        queue: JobQueue,
        trial: Trial,
        server: str,
        max_deliveries: int,
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._queue = queue
        self._trial = trial
        self._server = server
        self._most = max_deliveries
        self._lock = threading.Lock()

    def suspicious(self, lease: Lease) -> bool:
        """Whether a job is to be done apart."""
        return lease.deliveries > self._most

    def again(self, lease: Lease, error: Exception) -> None:
        """A job failed for no fault of a picture: give it back, to be tried after a delay."""
        self._measures.count("retried_jobs")
        delay_s = _FIRST_DELAY_S * 2 ** min(lease.deliveries - 1, _MOST_DOUBLINGS)
        log.warning(
            "job %s failed (attempt %d of %d), again in %.1f s: %s",
            lease.job.job_id,
            lease.deliveries,
            self._most,
            min(delay_s, self._queue.lease_s),
            error,
        )
        self._queue.release(lease, delay_s)

    def apart(self, lease: Lease) -> bool:
        """Do a job picture by picture, in the process apart, and deliver it.

        Returns:
            Whether it was still ours to deliver.
        """
        job = lease.job
        self._measures.count("apart_jobs")
        if self.suspicious(lease):
            log.warning(
                "job %s was handed out %d times without an answer; its %d images are done apart",
                job.job_id,
                lease.deliveries - 1,
                len(job.items),
            )
        results: list[ItemResult] = []
        letters: list[DeadLetter] = []
        for item in job.items:
            try:
                with self._lock:
                    results.append(self._trial.run(item, job.model_ids))
                continue
            except TrialDiedError as died:
                reason = str(died)
            except FutuError as error:
                self.again(lease, error)
                return False
            log.error("job %s: %s is put aside: %s", job.job_id, item.name, reason)
            verdict = QuarantinedError(
                f"{item.name} was put aside: {reason}. See futu jobs; futu jobs retry tries again.",
                file=item.name,
            )
            results.append(ItemResult(error=ItemError.of(verdict)))
            alone = msgspec.structs.replace(job, items=[item]).without_data()
            letters.append(DeadLetter(alone, reason, self._server, time.time()))
        answer = JobResult(job.job_id, self._server, results)
        delivered = self._queue.deliver(lease, answer, letters)
        if delivered:
            self._measures.count("dead_letters", len(letters))
        return delivered

    def close(self) -> None:
        """End the process apart."""
        with self._lock:
            self._trial.close()
