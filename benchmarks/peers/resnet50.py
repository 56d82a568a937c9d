# mypy: ignore-errors
"""What the replaced system ran: ResNet-50 by torch, Pillow, batches of 32; prints images/s.

    python resnet50.py FOLDER COUNT

The network is the published one with random weights: they do not change the speed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

BATCH = 32
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def layer(inside: int, outside: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.body = nn.Sequential(
            layer(inside, width, 1),
            nn.ReLU(inplace=True),
            layer(width, width, 3, stride),
            nn.ReLU(inplace=True),
            layer(width, outside, 1),
        )
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else layer(inside, outside, 1, stride)

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def network() -> nn.Module:
    blocks: list[nn.Module] = [layer(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, repeats, stride in STAGES:
        for number in range(repeats):
            blocks.append(Bottleneck(inside, width, stride if number == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def load(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((224, 224)), np.float32) / 255
    return (torch.from_numpy(pixels).permute(2, 0, 1) - MEAN) / STD


def main() -> None:
    files = sorted(p for p in Path(sys.argv[1]).rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    files = files[: int(sys.argv[2])]
    model = network()
    with torch.inference_mode():
        model(torch.stack([load(files[0])]))
        started = time.monotonic()
        for at in range(0, len(files), BATCH):
            model(torch.stack([load(path) for path in files[at : at + BATCH]]))
        print(len(files) / (time.monotonic() - started))


if __name__ == "__main__":
    main()
