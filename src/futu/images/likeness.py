"""Whether two pictures are plainly the same one, told by their pixels and by no model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from futu.images.pixels import Pixels

_SIDE = 32
_SAME = 0.95
_LEAST_SPREAD = 1e-3

Grey = npt.NDArray[np.float32]


def shrunk(pixels: Pixels) -> Grey:
    """A picture as 32 x 32 shades of grey, their mean 0 and their squares' sum 1."""
    image = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    shades = np.asarray(image, np.float32)
    shades -= shades.mean()
    return np.asarray(shades / max(float(np.linalg.norm(shades)), _LEAST_SPREAD), np.float32)


def plainly_same(one: Grey, other: Grey) -> bool:
    """Whether two pictures correlate by 0.95 or more, mirrored or turned if need be.

    Recompressed, resized, recoloured, mirrored and turned copies do; crops do not, and few
    different pictures do. It takes copies out of what is to have none, independently of the model
    that is judged by that.

    Args:
        one: from ``shrunk``.
        other: the same.
    """
    turned = [np.rot90(other, way) for way in range(4)]
    turned += [each[:, ::-1] for each in turned]
    return max(float((one * each).sum()) for each in turned) >= _SAME
