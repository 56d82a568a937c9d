"""What a batcher has in hand: jobs, the workers at them, and pictures that wait for a model."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from futu.compute.pipeline import Watch
from futu.jobs.message import ItemResult
from futu.jobs.streams import Lease
from futu.models.runtime import Pixels
from futu.models.spec import ModelSpec


@dataclass(eq=False)
class OpenJob:
    """A job in hand.

    Attributes:
        specs: the models to run.
        results: of its pictures, as far as known.
        next_item: the first picture that nobody decodes yet.
        steps: decodings and model runs still to come.
        dropped: whether it is no longer ours to finish.
    """

    lease: Lease
    specs: list[ModelSpec]
    results: list[ItemResult]
    steps: int
    next_item: int = 0
    dropped: bool = False


@dataclass(eq=False)
class Worker:
    """A thread and what it is doing.

    Attributes:
        decoding: the job whose picture it decodes.
        watch: how long it has been at it.
        at_work: whether it is at a step of any kind.
        abandoned: whether another thread has taken its place.
    """

    decoding: OpenJob | None = None
    watch: Watch = field(default_factory=Watch)
    at_work: bool = False
    abandoned: bool = False


Ready = tuple[OpenJob, ItemResult, Pixels]


@dataclass
class WaitingPictures:
    """Decoded pictures that wait for a model.

    Attributes:
        since: when the first of them came, monotonic seconds.
    """

    spec: ModelSpec
    batch: int
    pictures: deque[Ready] = field(default_factory=deque)
    since: float = 0.0
