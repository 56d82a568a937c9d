"""What runs a graph. One seam; ONNX Runtime is its first implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from futu.errors import ModelError

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


class Runtime(ABC):
    """A loaded graph. ``run`` may be called from several threads at once."""

    name: str

    @abstractmethod
    def run(self, pixels: Pixels) -> Features:
        """Run a batch.

        Args:
            pixels: uint8, shape (n, size, size, 3), RGB.

        Returns:
            float32, shape (n, dimension), as the graph gives them (not normalised).

        Raises:
            ModelError: the runtime failed.
        """


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU.

    Args:
        graph: the ONNX file.
        threads: threads one call may use; with 1 the calling thread does all the work, so
            calls from several threads run side by side without getting in each other's way.

    Raises:
        ModelError: the file is not a graph ONNX Runtime can load.
    """

    name = "onnxruntime"

    def __init__(self, graph: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores that decoding needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime has its own exception types for each status, with no public base.
            raise ModelError(f"ONNX Runtime cannot load {graph} ({error}).") from error
        self._input = self._session.get_inputs()[0].name

    def run(self, pixels: Pixels) -> Features:
        """See ``Runtime.run``."""
        try:
            outputs: list[Any] = self._session.run(None, {self._input: pixels})
        except Exception as error:
            raise ModelError(f"ONNX Runtime failed on a batch of {len(pixels)} ({error}).") from (
                error
            )
        return np.asarray(outputs[0], np.float32)
