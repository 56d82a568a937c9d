"""A model ready for use: pictures in, feature vectors out."""

from __future__ import annotations

import numpy as np
from PIL import Image

from futu.errors import ModelError
from futu.models.runtime import Features, Pixels, Runtime
from futu.models.spec import ModelSpec

_FILTERS = {
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def preprocess(image: Image.Image, spec: ModelSpec) -> Pixels:
    """Resize a picture to the model's input.

    Returns:
        uint8, shape (size, size, 3), RGB.
    """
    size = spec.input_size
    box: tuple[float, float, float, float] | None = None
    if spec.resize == "centre":
        side = min(image.size) * spec.crop_fraction
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
    resized = image.resize((size, size), _FILTERS[spec.resample], box=box, reducing_gap=2.0)
    return np.asarray(resized)


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
