"""What a model is: its preprocessing, its dimension, its licence and its name travel together."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class ModelSpec:
    """Everything that decides what vector a picture gets.

    Two specs that differ in any field that changes vectors have different ``model_id``, and
    vectors of different model_ids are never compared.

    Attributes:
        name: registry name, e.g. ``efficientnet-lite0``.
        weights_sha256: SHA-256 of the published weights file, hex.
        graph_version: raised when the way we build or feed the graph changes vectors.
        input_size: side of the square input, pixels.
        mean, scale: the network sees ``(pixel - mean) * scale``, pixel in 0..255, per channel.
        resize: ``squash`` (whole picture, aspect ratio not kept) or ``centre`` (shorter side to
            ``input_size / crop_fraction``, then the middle square).
        crop_fraction: only for ``centre``.
        resample: Pillow filter name.
        dimension: length of the feature vector.
        licence, source: where the weights come from and on what terms.
    """

    name: str
    weights_sha256: str
    dimension: int
    input_size: int
    graph_version: int = 1
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    scale: float = 1 / 128
    resize: str = "squash"
    crop_fraction: float = 1.0
    resample: str = "bicubic"
    licence: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    @property
    def model_id(self) -> str:
        """Name and the first 8 hex digits of a hash over all that changes vectors."""
        facts = asdict(self)
        del facts["licence"], facts["source"]
        text = json.dumps(facts, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
