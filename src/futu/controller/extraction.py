"""Feature vectors of pictures that somebody waits for, by a compute server."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import ModelRecord
from futu.controller.serving import Serving
from futu.errors import JobFailedError, NoComputeServerError, NoModelError
from futu.jobs.measures import Measures
from futu.jobs.message import ImageItem, ItemResult, Job, Stream, new_job_id
from futu.jobs.streams import JobQueue
from futu.tracing import request_id

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
"""Before a job is sent again that a server without its model has taken."""


class Extraction:
    """Asks compute servers.

    Args:
        queue: where pictures go.
        serving: says what to do when a model is not to be had.
        measures: has the times of answers.
    """

    def __init__(self, queue: JobQueue, serving: Serving, measures: Measures | None = None) -> None:
        self._queue = queue
        self._measures = measures or Measures()
        self._serving = serving

    def require_server(self, model: ModelRecord) -> None:
        """Look whether a compute server with a model is alive.

        Raises:
            NoComputeServerError: there is no compute server.
            NoModelError: none has the model.
        """
        servers = self._queue.servers.alive()
        if any(model.model_id in server.model_ids for server in servers):
            return
        if not servers:
            raise NoComputeServerError(
                f"No compute server with the model {model.model_id} is running. Start one with "
                "./start.sh compute."
            )
        raise self._serving.missing(model)

    def extract(
        self,
        items: Sequence[ImageItem],
        stream: Stream,
        timeout_s: float,
        model: ModelRecord,
        also: Sequence[ModelRecord] = (),
    ) -> list[ItemResult]:
        """Feature vectors of pictures, in order.

        A server without the model may lease the job; it is then asked again, within the time.
        Vectors of the models ``also`` are there if the server that leases it has them.

        Raises:
            NoComputeServerError, NoModelError, QueueFullError, JobTimeoutError, JobFailedError.
        """
        deadline = time.monotonic() + timeout_s
        left_s, pause_s = timeout_s, _FIRST_PAUSE_S
        while True:
            self.require_server(model)
            model_ids = [asked.model_id for asked in (model, *also)]
            job = Job(new_job_id(), stream, model_ids, list(items), request_id=request_id())
            with self._measures.timed("query" if stream == "query" else "library", "answer"):
                result = self._queue.ask(job, left_s)
            if result.error is None:
                break
            left_s = deadline - time.monotonic() - pause_s
            if result.error.code != NoModelError.code or left_s <= 0:
                raise result.error.rebuild()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if len(result.items) != len(items):
            raise JobFailedError(f"Job {job.job_id} came back with a wrong number of results.")
        return result.items

    def vector_of(self, result: ItemResult, model: ModelRecord) -> npt.NDArray[np.float32]:
        """The vector of a picture that was asked for: shape (dimension,).

        Raises:
            FutuError: the picture cannot be used, or the answer is none.
        """
        if result.error is not None:
            raise result.error.rebuild()
        data = result.vectors.get(model.model_id, b"")
        if len(data) != 4 * model.dimension:
            raise JobFailedError(
                f"A compute server's answer has no vector of {model.model_id}. Run the same "
                "version of Futu everywhere."
            )
        return np.frombuffer(data, "<f4")
