"""A process apart, for pictures that workers have not survived.

A job that was handed out several times and never answered is done here, one picture at a time:
when this process dies, it is known which picture did it, and the compute server lives on.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from futu.compute.pipeline import infer, load
from futu.errors import FutuError
from futu.images.decode import DecodeLimits
from futu.jobs.message import ImageItem, ItemError, ItemResult, decode, encode
from futu.models.extractor import Extractor
from futu.models.runtime import Choice, load_runtime
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

_START_S = 60.0


class TrialDiedError(Exception):
    """The process ended, or was ended, over a picture; the text says how."""


class Trial:
    """Starts the process when it is needed and again after it died. For one thread at a time.

    Args:
        spec: the model.
        graph: its file.
        limits: for decoding.
        timeout_s: the most that one picture may take, seconds.
        choice: what runs the model.
    """

    def __init__(
        self,
        spec: ModelSpec,
        graph: Path,
        limits: DecodeLimits,
        timeout_s: float,
        choice: Choice | None = None,
    ) -> None:
        self._arguments = (spec, graph, limits, choice or Choice())
        self._timeout_s = timeout_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, item: ImageItem) -> ItemResult:
        """Decode one picture and run the model on it.

        Raises:
            TrialDiedError: the process did not survive it, or took too long.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send_bytes(encode(item))
            if pipe.poll(self._timeout_s):
                return decode(pipe.recv_bytes(), ItemResult)
        except (EOFError, OSError):
            raise TrialDiedError(self._how()) from None
        self.close()
        raise TrialDiedError(f"it was not done after {self._timeout_s:g} s")

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, *self._arguments), name="trial", daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        try:
            if ours.poll(_START_S):
                ours.recv_bytes()
                return ours
        except (EOFError, OSError):
            pass
        how = self._how()
        raise FutuError(f"The process for suspicious pictures does not start: {how}.")

    def _how(self) -> str:
        process = self._process
        code = None
        if process is not None:
            process.join(1.0)
            code = process.exitcode
        self.close()
        if code is not None and code < 0:
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process ended with exit code {code}"


def _serve(
    pipe: Connection, spec: ModelSpec, graph: Path, limits: DecodeLimits, choice: Choice
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the compute server ends us in its own time
    extractor = Extractor(spec, load_runtime(spec, graph, choice))
    pipe.send_bytes(b"ready")
    while True:
        try:
            item = decode(pipe.recv_bytes(), ImageItem)
        except (EOFError, OSError):
            return
        try:
            (result,) = infer([load(item, limits, extractor)], extractor)
        except FutuError as error:
            result = ItemResult(error=ItemError.of(error))
        pipe.send_bytes(encode(result))
