"""What the settings say about runtimes, and what comes of it on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import mmap
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from futu.config import Settings
from futu.errors import SettingsError

log = logging.getLogger(__name__)

RuntimeName = Literal["openvino", "onnxruntime"]
Device = Literal["cpu", "cuda", "tensorrt", "coreml", "directml"]
Precision = Literal["f32", "bf16"]

_GPU_BUILDS: dict[str, Device] = {"onnxruntime-gpu": "cuda", "onnxruntime-directml": "directml"}


@dataclass(frozen=True)
class Choice:
    """What the settings say about runtimes; see ``Settings``."""

    runtime: Literal["auto", "openvino", "onnxruntime"] = "auto"
    device: Literal["auto", "cpu", "cuda", "tensorrt", "coreml", "directml"] = "auto"
    precision: Literal["auto", "f32", "bf16"] = "auto"

    @classmethod
    def of(cls, settings: Settings) -> Choice:
        """The choice in the settings."""
        return cls(settings.runtime, settings.device, settings.precision)


def device_of(choice: Choice) -> Device:
    """``auto`` takes a GPU where somebody has installed a GPU build of ONNX Runtime."""
    if choice.device != "auto":
        return choice.device
    if choice.runtime != "openvino" and choice.precision != "bf16":
        for distribution, device in _GPU_BUILDS.items():
            try:
                importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            return device
    return "cpu"


def is_quantised(file: Path) -> bool:
    """Whether activations are quantised: the names of such operators stand in the file as text."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
            return any(m.find(name) >= 0 for name in (b"QuantizeLinear", b"QLinear"))
    except (OSError, ValueError):  # an empty file cannot be mapped; what loads it will say so
        return False


def library_of(choice: Choice, device: Device, quantised: bool) -> RuntimeName:
    """The library to run a graph on a device.

    Args:
        choice: what is asked for.
        device: from ``device_of``.
        quantised: whether the graph computes in small integers.

    Raises:
        SettingsError: the choice cannot be had here.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    if device != "cpu":
        if choice.runtime == "openvino":
            raise SettingsError(
                f"FUTU_RUNTIME=openvino does not go with FUTU_DEVICE={device}: OpenVINO runs on "
                "the processor here. Leave one of them out."
            )
        if choice.precision == "bf16":
            raise SettingsError(
                f"FUTU_PRECISION=bf16 does not go with FUTU_DEVICE={device}. Leave one out."
            )
        return "onnxruntime"
    if choice.runtime == "onnxruntime":
        if choice.precision == "bf16":
            raise SettingsError(
                "FUTU_PRECISION=bf16 needs OpenVINO. Leave FUTU_RUNTIME or FUTU_PRECISION out."
            )
        return "onnxruntime"
    if choice.runtime == "openvino" or choice.precision == "bf16":
        if not has_openvino:
            raise SettingsError(
                "OpenVINO is not installed: pip install openvino, or leave FUTU_RUNTIME and "
                "FUTU_PRECISION out and ONNX Runtime is used."
            )
        return "openvino"
    # Its own int8 arithmetic does not keep to the graph's, and without it ONNX Runtime is faster.
    if quantised or platform.machine().lower() not in ("x86_64", "amd64"):
        return "onnxruntime"
    if not has_openvino:
        log.warning("OpenVINO is not installed; ONNX Runtime is used, which is slower here.")
        return "onnxruntime"
    return "openvino"
