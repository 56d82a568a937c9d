"""What a model is: its preprocessing, its dimension, its licence and its name travel together."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from futu.models.similarity import Points, Scale

Question = Literal["similar", "copy"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
Layout = Literal["NHWC", "NCHW"]
Channels = Literal["RGB", "BGR"]
InputType = Literal["uint8", "float32"]
Resize = Literal["squash", "centre"]
Resample = Literal["box", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class ModelSpec:
    """Everything that decides what vector a picture gets, and on what terms.

    Two specs that differ in a field that decides vectors have different ``model_id``, and vectors
    of different model_ids are never compared.

    Attributes:
        name: registry name, e.g. ``efficientnet-lite0``.
        question: what its vectors tell: ``similar`` (look-alikes) or ``copy`` (the same picture,
            edited).
        sha256: SHA-256 of the published file (an ONNX graph, or weights), hex.
        dimension: length of the feature vector.
        input_size: side of the square input, pixels.
        input_name, output_name: of the ONNX graph.
        layout: order of the graph's input: NHWC or NCHW.
        channels: order of the colours in it: RGB or BGR.
        input_type: ``uint8``: the graph takes pixels as they are and normalises them itself, by
            ``mean`` and ``std``; ``float32``: it wants ``(pixel - mean) / std``.
        mean, std: per channel in the order of ``channels``, for pixels in 0..255.
        resize: ``squash`` (whole picture, aspect ratio not kept) or ``centre`` (the middle square,
            its side ``crop_fraction`` of the shorter side).
        crop_fraction: only for ``centre``.
        resample: Pillow filter name.
        graph_version: raised when the way we build or feed the graph changes vectors.
        similarity: what its cosines mean; see ``Scale``. It changes what is shown and no vector.
        licence, source: on what terms the file comes, and where from.
    """

    name: str
    question: Question
    sha256: str
    dimension: int
    input_size: int
    licence: str
    source: str
    input_name: str = "pixels"
    output_name: str = "features"
    layout: Layout = "NHWC"
    channels: Channels = "RGB"
    input_type: InputType = "uint8"
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    resize: Resize = "squash"
    crop_fraction: float = 1.0
    resample: Resample = "bicubic"
    graph_version: int = 1
    similarity: Points = Scale.points

    @functools.cached_property
    def model_id(self) -> str:
        """Name and the first 8 hex digits of a hash over all fields that decide vectors."""
        deciding = {name: v for name, v in asdict(self).items() if name != "similarity"}
        text = json.dumps(deciding, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @functools.cached_property
    def scale(self) -> Scale:
        """Between cosines and similarities."""
        return Scale(self.similarity)


def with_similar(questions: Collection[Question]) -> tuple[Question, ...]:
    """Questions in their order, each once; ``similar`` is always one of them."""
    return tuple(q for q in QUESTIONS if q in questions or q == "similar")
