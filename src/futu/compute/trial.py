"""A process apart, for pictures that workers have not survived.

A job that was handed out several times and never answered is done here, one picture at a time:
when this process dies, it is known which picture did it, and the compute server lives on.

The process may also die for other reasons: the kernel wants memory, an operator kills the wrong
one. So a death counts only while the process has a picture, which it confirms before it looks
at it, and only the second one, in a fresh process, tells against the picture.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from futu.compute.pipeline import infer, load
from futu.errors import FutuError, JobFailedError
from futu.images.decode import DecodeLimits
from futu.jobs.message import ImageItem, ItemError, ItemResult, decode, encode
from futu.models.extractor import Extractor
from futu.models.runtime import OnnxRuntime
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

_START_S = 60.0
_STARTS = 3


class TrialDiedError(Exception):
    """The process ended, or was ended, over a picture; the text says how."""


class Trial:
    """Starts the process when it is needed and again after it died. For one thread at a time.

    Args:
        spec: the model.
        graph: its file.
        limits: for decoding.
        timeout_s: the most that one picture may take, seconds.
    """

    def __init__(
        self, spec: ModelSpec, graph: Path, limits: DecodeLimits, timeout_s: float
    ) -> None:
        self._arguments = (spec, graph, limits)
        self._timeout_s = timeout_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, item: ImageItem) -> ItemResult:
        """Decode one picture and run the model on it.

        Raises:
            TrialDiedError: two processes did not survive it, or took too long.
            JobFailedError: no process can be had, or its answer cannot be read; this says
                nothing about the picture.
        """
        try:
            return self._attempt(item)
        except TrialDiedError as died:
            first = str(died)
            log.warning("%s: %s; tried once more", item.name, first)
        try:
            return self._attempt(item)
        except TrialDiedError as died:
            second = str(died)
        both = f"{first}, twice" if first == second else f"{first}; the second time {second}"
        raise TrialDiedError(both)

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _attempt(self, item: ImageItem) -> ItemResult:
        pipe = self._hand_over(item)
        try:
            if pipe.poll(self._timeout_s):
                return decode(pipe.recv_bytes(), ItemResult)
        except (EOFError, OSError):
            raise TrialDiedError(self._how()) from None
        except JobFailedError:
            self.close()
            raise
        self.close()
        raise TrialDiedError(f"it was not done after {self._timeout_s:g} s")

    def _hand_over(self, item: ImageItem) -> Connection:
        """Give a picture to a living process and return when the process has it."""
        how = ""
        for _ in range(_STARTS):
            pipe = self._living()
            try:
                pipe.send_bytes(encode(item))
                if pipe.poll(_START_S):
                    pipe.recv_bytes()
                    return pipe
            except (EOFError, OSError):
                pass
            how = self._how()
        raise JobFailedError(f"The process for suspicious pictures takes none: {how}.")

    def _living(self) -> Connection:
        if self._pipe is not None and self._process is not None:
            if self._process.is_alive():
                return self._pipe
            log.warning("the idle process for suspicious pictures is gone: %s", self._how())
        return self._start()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, *self._arguments), name="trial", daemon=True
        )
        try:
            process.start()
        except OSError as error:
            ours.close()
            raise JobFailedError(
                f"The process for suspicious pictures does not start: {error}."
            ) from error
        finally:
            theirs.close()
        self._process, self._pipe = process, ours
        try:
            if ours.poll(_START_S):
                ours.recv_bytes()
                return ours
        except (EOFError, OSError):
            pass
        raise JobFailedError(f"The process for suspicious pictures does not start: {self._how()}.")

    def _how(self) -> str:
        """How the process ended; afterwards there is none."""
        process = self._process
        code = None
        if process is not None:
            process.join(1.0)
            code = process.exitcode
        self.close()
        if code is not None and code < 0:
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process ended with exit code {code}" if code is not None else "it is silent"


def _serve(pipe: Connection, spec: ModelSpec, graph: Path, limits: DecodeLimits) -> None:
    # The compute server ends us in its own time: a signal to its process group is not for us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    extractor = Extractor(spec, OnnxRuntime(graph, 1))
    try:
        pipe.send_bytes(b"ready")
        while True:
            item = decode(pipe.recv_bytes(), ImageItem)
            pipe.send_bytes(b"taken")
            try:
                (result,) = infer([load(item, limits, extractor)], extractor)
            except FutuError as error:
                result = ItemResult(error=ItemError.of(error))
            pipe.send_bytes(encode(result))
    except (EOFError, OSError):
        return  # the compute server has closed the pipe


def _end_with_parent() -> None:
    """End although a picture may never come to an end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
