"""What runs a graph: one seam, an implementation for each library, and the choice among them.

OpenVINO runs models on x86 processors, where it was the faster one (docs/adr/0005). ONNX Runtime
runs them on all others, and on GPUs by its execution providers.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from futu.errors import ModelError, SettingsError
from futu.models.choice import Choice, Device, RuntimeName, device_of, is_quantised, library_of
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

# On a processor, larger batches gain nothing and cost memory: benchmarks/runtimes.py.
CPU_BATCH = 4


class Runtime(ABC):
    """A loaded graph. ``run`` may be called from several threads at once.

    Attributes:
        name: ``openvino`` or ``onnxruntime``.
        about: library, version, device and precision, for people.
    """

    name: RuntimeName
    about: str

    @abstractmethod
    def run(self, pixels: Pixels) -> Features:
        """Run a batch.

        Args:
            pixels: uint8, shape (n, size, size, 3), RGB, whatever the graph itself wants.

        Returns:
            float32, shape (n, dimension), as the graph gives them (not normalised).

        Raises:
            ModelError: the runtime failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Give its memory back. ``run`` must not be called any more, nor be under way."""


class Tensor(NamedTuple):
    """An input or output of a graph: its type, and its shape with -1 for what is free."""

    dtype: str
    shape: tuple[int, ...]


def load_runtime(
    spec: ModelSpec,
    file: Path,
    choice: Choice | None = None,
    *,
    threads: int = 1,
    parallel: int = 1,
) -> Runtime:
    """Load a graph, check that it is as described, and run it once.

    Args:
        spec: the model.
        file: its ONNX file.
        choice: library, device and precision; by default all are chosen here.
        threads: cores that one call of ``run`` may use.
        parallel: calls that run side by side; further ones wait.

    Raises:
        SettingsError: the choice cannot be had here.
        ModelError: the file is damaged, or not what its description says.
    """
    choice = choice or Choice()
    device, quantised = device_of(choice), is_quantised(file)
    library = library_of(choice, device, quantised)
    runtime = (
        _openvino(spec, file, choice, threads, parallel, quantised)
        if library == "openvino"
        else None
    )
    if runtime is None:
        runtime = _onnxruntime(spec, file, choice, device, threads, parallel)
    side, count = spec.input_size, CPU_BATCH if parallel > 1 else 1
    try:
        features = runtime.run(np.zeros((count, side, side, 3), np.uint8))
        check_features(spec, file, features, count)
    except ModelError:
        runtime.close()
        raise
    log.info("%s: %s, %d x %d threads", spec.model_id, runtime.about, parallel, threads)
    return runtime


def _openvino(
    spec: ModelSpec, file: Path, choice: Choice, threads: int, parallel: int, quantised: bool
) -> Runtime | None:
    """The graph in OpenVINO; None when that cannot be used here and was not asked for."""
    from futu.models.openvino_runtime import OpenVinoRuntime

    try:
        return OpenVinoRuntime(
            spec,
            file,
            precision=choice.precision,
            threads=threads,
            parallel=parallel,
            quantised=quantised,
        )
    except (ImportError, OSError) as error:  # libraries of another system or version
        if choice.runtime == "openvino" or choice.precision == "bf16":
            raise SettingsError(
                f"OpenVINO is installed but cannot be loaded ({error}). Install it again, or "
                "leave FUTU_RUNTIME and FUTU_PRECISION out and ONNX Runtime is used."
            ) from error
        log.warning("OpenVINO cannot be loaded (%s); ONNX Runtime is used instead.", error)
        return None


def _onnxruntime(
    spec: ModelSpec, file: Path, choice: Choice, device: Device, threads: int, parallel: int
) -> Runtime:
    if importlib.util.find_spec("onnxruntime") is None:
        raise SettingsError(
            "ONNX Runtime is not installed: run ./start.sh, or install onnxruntime."
        )
    from futu.models.onnx_runtime import OnnxRuntime

    try:
        return OnnxRuntime(spec, file, device=device, threads=threads, parallel=parallel)
    except SettingsError as error:
        if choice.device != "auto" or device == "cpu":
            raise
        log.warning("%s The processor is used instead.", error.message)
        return OnnxRuntime(spec, file, device="cpu", threads=threads, parallel=parallel)


def check_graph(
    spec: ModelSpec, file: Path, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> bool:
    """Compare a graph's input and output with the description.

    Returns:
        Whether the graph takes batches; if not, one picture at a time.

    Raises:
        ModelError: names the file, what it has, what is described, and the field to correct.
    """

    def refuse(what: str, field: str) -> ModelError:
        return ModelError(f"{file}: {what}. Correct {field!r} in the description.", file=str(file))

    if spec.input_name not in inputs:
        raise refuse(f"it has no input {spec.input_name!r} but {_listed(inputs)}", "input")
    if len(inputs) > 1:
        raise ModelError(f"{file} has {len(inputs)} inputs ({_listed(inputs)}); Futu gives one.")
    if spec.output_name not in outputs:
        raise refuse(f"it has no output {spec.output_name!r} but {_listed(outputs)}", "output")
    tensor = inputs[spec.input_name]
    if tensor.dtype != spec.input_type:
        raise refuse(f"its input has the type {tensor.dtype}, not {spec.input_type}", "type")
    side = spec.input_size
    wanted = (-1, side, side, 3) if spec.layout == "NHWC" else (-1, 3, side, side)
    if len(tensor.shape) != len(wanted):
        raise ModelError(f"{file}: its input has the shape {tensor.shape}; Futu gives {wanted}.")
    for found, given in zip(tensor.shape[1:], wanted[1:]):
        if found not in (-1, given):
            field = "layout" if 3 in (found, given) else "size"
            raise refuse(f"its input has the shape {tensor.shape}, not {wanted}", field)
    batch, *length = *tensor.shape[:1], *outputs[spec.output_name].shape[1:]
    if batch not in (-1, 1):
        raise ModelError(
            f"{file}: its input has the shape {tensor.shape}. Export it with a free batch size."
        )
    if length and -1 not in length and math.prod(length) != spec.dimension:
        raise refuse(
            f"it gives vectors of {math.prod(length)} numbers, not {spec.dimension}", "dimension"
        )
    return batch == -1


def check_features(spec: ModelSpec, file: Path, features: Features, count: int) -> None:
    """Compare what a graph gave for ``count`` pictures with the description.

    Raises:
        ModelError: another number of vectors or another dimension.
    """
    if features.shape != (count, spec.dimension):
        raise ModelError(
            f"{file}: it gives vectors of shape {features.shape}, not ({count}, {spec.dimension}). "
            "Correct 'dimension' in its description, or export it with such an output.",
            file=str(file),
        )


def chunks(pixels: Pixels, *sizes: int) -> Iterator[Pixels]:
    """Cut a batch into views of the given sizes, the largest first; the last may be smaller."""
    at = 0
    while at < len(pixels):
        size = next((s for s in sizes if s <= len(pixels) - at), sizes[-1])
        yield pixels[at : at + size]
        at += size


def _listed(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(map(repr, tensors)) or "none"
