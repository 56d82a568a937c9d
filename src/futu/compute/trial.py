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
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from futu.compute.gate import MemoryGate
from futu.compute.pipeline import Loader, infer, note
from futu.errors import FutuError, JobFailedError
from futu.images.decode import DecodeLimits
from futu.jobs.message import ImageItem, ItemError, ItemResult, Job, decode, encode
from futu.models.choice import Choice
from futu.models.extractor import Extractor
from futu.models.memory import keep_large_blocks_apart
from futu.models.runtime import load_runtime
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

Models = list[tuple[ModelSpec, Path]]

_START_S = 60.0
_STARTS = 3


class TrialDiedError(Exception):
    """The process ended, or was ended, over a picture; the text says how."""


class Trial:
    """Starts the process when it is needed and again after it died. For one thread at a time.

    Args:
        models: the models in place and their files, asked whenever the process starts.
        limits: for decoding.
        decode_bytes: memory that decoding may take, bytes.
        timeout_s: the most that one picture may take, seconds.
        choice: what runs the models.
    """

    def __init__(
        self,
        models: Callable[[], Models],
        limits: DecodeLimits,
        decode_bytes: int,
        timeout_s: float,
        choice: Choice | None = None,
    ) -> None:
        self._models = models
        self._arguments = (limits, decode_bytes, choice or Choice())
        self._timeout_s = timeout_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, item: ImageItem, model_ids: Sequence[str]) -> ItemResult:
        """Decode one picture and run the models on it.

        Raises:
            TrialDiedError: two processes did not survive it, or took too long.
            JobFailedError: no process can be had, or its answer cannot be read; this says
                nothing about the picture.
        """
        try:
            return self._attempt(item, model_ids)
        except TrialDiedError as died:
            first = str(died)
            log.warning("%s: %s; tried once more", item.name, first)
        try:
            return self._attempt(item, model_ids)
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

    def _attempt(self, item: ImageItem, model_ids: Sequence[str]) -> ItemResult:
        pipe = self._hand_over(Job("", "library", list(model_ids), [item]))
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

    def _hand_over(self, job: Job) -> Connection:
        """Give a picture to a living process and return when the process has it."""
        how = ""
        for _ in range(_STARTS):
            pipe = self._living()
            try:
                pipe.send_bytes(encode(job))
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
            target=_serve,
            args=(theirs, self._models(), *self._arguments),
            name="trial",
            daemon=True,
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


def _serve(
    pipe: Connection, models: Models, limits: DecodeLimits, decode_bytes: int, choice: Choice
) -> None:
    # The compute server ends us in its own time: a signal to its process group is not for us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_large_blocks_apart()
    loader = Loader(limits, MemoryGate(decode_bytes))
    files = {spec.model_id: (spec, file) for spec, file in models}
    extractors: dict[str, Extractor] = {}
    try:
        pipe.send_bytes(b"ready")
        while True:
            job = decode(pipe.recv_bytes(), Job)
            for name in job.model_ids:
                if name in files and name not in extractors:
                    spec, file = files[name]
                    extractors[name] = Extractor(spec, load_runtime(spec, file, choice))
            pipe.send_bytes(b"taken")
            chosen = [extractors[name] for name in job.model_ids if name in extractors]
            pipe.send_bytes(encode(_result(job.items[0], chosen, loader)))
    except (EOFError, OSError):
        return  # the compute server has closed the pipe


def _result(item: ImageItem, extractors: Sequence[Extractor], loader: Loader) -> ItemResult:
    try:
        result, inputs = loader.load(item, [extractor.spec for extractor in extractors])
        for extractor in extractors if inputs else ():
            assert inputs  # noqa: S101 - for the type checker
            model_id = extractor.spec.model_id
            note([result], infer([inputs[model_id]], extractor), model_id)
    except FutuError as error:
        result = ItemResult(error=ItemError.of(error))
    return result


def _end_with_parent() -> None:
    """End although a picture may never come to an end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
