"""A model ready for use: pictures in, feature vectors out."""

from __future__ import annotations

import numpy as np

from futu.errors import ModelError
from futu.models.resize import Part, resize
from futu.models.runtime import Features, Pixels, Runtime
from futu.models.spec import ModelSpec


def preprocess(pixels: Pixels, spec: ModelSpec) -> Pixels:
    """Resize a decoded picture to the model's input.

    Args:
        pixels: uint8, shape (height, width, 3), RGB.
        spec: says how.

    Returns:
        uint8, shape (size, size, 3), RGB.
    """
    part: Part | None = None
    if spec.resize == "centre":
        height, width = pixels.shape[:2]
        side = min(width, height) * spec.crop_fraction
        part = ((width - side) / 2, (height - side) / 2, side, side)
    return resize(pixels, spec.input_size, spec.resample, part)


class Extractor:
    """Runs a model over preprocessed pictures.

    Args:
        spec: the model.
        runtime: its loaded graph.
    """

    def __init__(self, spec: ModelSpec, runtime: Runtime) -> None:
        self.spec = spec
        self._runtime = runtime

    def extract(self, pixels: Pixels) -> Features:
        """Feature vectors of a batch.

        Args:
            pixels: uint8, shape (n, size, size, 3).

        Returns:
            float32, shape (n, dimension), each of unit length.

        Raises:
            ModelError: the runtime failed, or gave vectors of another dimension or not finite.
        """
        features = self._runtime.run(pixels)
        if features.shape != (len(pixels), self.spec.dimension):
            raise ModelError(
                f"{self.spec.name} gave vectors of shape {features.shape}, expected "
                f"({len(pixels)}, {self.spec.dimension}).",
            )
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        if not np.isfinite(norms).all():
            raise ModelError(f"{self.spec.name} gave vectors that are not finite.")
        # A vector of zeros (a model that sees nothing) stays zero and is similar to nothing.
        return np.asarray(features / np.maximum(norms, 1e-12), np.float32)
