"""OpenVINO on the processor."""

from __future__ import annotations

import functools
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from futu.errors import ModelError
from futu.models.choice import Precision
from futu.models.memory import give_back
from futu.models.runtime import (
    CPU_BATCH,
    Features,
    Pixels,
    Runtime,
    Tensor,
    check_graph,
    chunks,
)
from futu.models.spec import ModelSpec


class OpenVinoRuntime(Runtime):
    """See ``Runtime`` and ``load_runtime``.

    The graph is compiled for two fixed batch sizes: fixed shapes are up to 1.3 times as fast as
    a free one, and no batch size met for the first time costs a compilation or memory.
    """

    name = "openvino"

    def __init__(
        self,
        spec: ModelSpec,
        file: Path,
        *,
        precision: str,
        threads: int,
        parallel: int,
        quantised: bool,
    ) -> None:
        self._openvino = openvino = _library()
        self._spec, self._file = spec, file
        self._core = openvino.Core()
        chosen: Precision = "bf16" if precision == "bf16" else "f32"
        if precision == "auto" and _bf16_pays():
            chosen = "bf16"
        self._config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": chosen,
            "INFERENCE_NUM_THREADS": threads * parallel,
            "NUM_STREAMS": parallel,
            # Pinned threads of two models or processes would share one core and leave others idle.
            "ENABLE_CPU_PINNING": False,
        }
        if quantised:
            # With its own int8 arithmetic cosines to the graph's fell to 0.95: docs/adr/0005.
            self._config["LP_TRANSFORMS_MODE"] = "NO"
        version = openvino.get_version().split("-")[0]
        self.about = f"OpenVINO {version}, cpu, {chosen}"
        self._compiling = threading.Lock()
        self._compiled: dict[int, Any] = {}
        self._idle: dict[int, list[Any]] = {1: [], CPU_BATCH: []}
        graph = self._read()
        free = check_graph(spec, file, _tensors(graph.inputs), _tensors(graph.outputs))
        # Calls side by side bring batches, whose rest is filled up: a second graph for it would
        # cost 40 MB at the first odd number. A single caller mostly brings one picture.
        self._sizes = ((CPU_BATCH,) if parallel > 1 else (CPU_BATCH, 1)) if free else (1,)
        self._compile(self._sizes[0] if parallel > 1 else 1, graph)

    def run(self, pixels: Pixels) -> Features:
        """See ``Runtime.run``."""
        try:
            return np.concatenate([self._run(part) for part in chunks(pixels, *self._sizes)])
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO failed on a batch of {len(pixels)} ({_gist(error)})."
            ) from error

    def close(self) -> None:
        """See ``Runtime.close``."""
        self._idle.clear()
        self._compiled.clear()
        give_back()

    def _run(self, part: Pixels) -> Features:
        count, size = len(part), max(len(part), self._sizes[-1])
        if count < size:
            part = np.concatenate([part, np.zeros((size - count, *part.shape[1:]), np.uint8)])
        idle = self._idle[size]
        try:
            request = idle.pop()
        except IndexError:
            request = self._compile(size).create_infer_request()
        part = np.ascontiguousarray(part)
        # Not infer(): that would run in the calling thread, with buffers for each such thread.
        request.start_async({0: part}, share_inputs=True)
        request.wait()
        output = np.array(request.get_output_tensor(0).data, np.float32)
        idle.append(request)
        return output.reshape(size, -1)[:count]

    def _read(self) -> Any:
        try:
            return self._core.read_model(self._file)
        except RuntimeError as error:
            raise self._cannot_load(error) from error

    def _cannot_load(self, error: Exception) -> ModelError:
        return ModelError(
            f"OpenVINO cannot load {self._file} ({_gist(error)}). The file is damaged or no ONNX "
            "graph: get it again.",
            file=str(self._file),
        )

    def _compile(self, batch: int, graph: Any = None) -> Any:
        with self._compiling:
            if batch not in self._compiled:
                graph = graph or self._read()
                try:
                    graph = self._prepared(graph, batch)
                    self._compiled[batch] = self._core.compile_model(graph, "CPU", self._config)
                except RuntimeError as error:
                    raise self._cannot_load(error) from error
            return self._compiled[batch]

    def _prepared(self, graph: Any, batch: int) -> Any:
        """The graph with pixels as its input and one output, for one batch size."""
        spec, openvino = self._spec, self._openvino
        side = spec.input_size
        shape = [batch, side, side, 3] if spec.layout == "NHWC" else [batch, 3, side, side]
        graph.reshape({spec.input_name: shape})
        for output in list(graph.outputs):
            if spec.output_name not in output.get_names():
                graph.remove_result(output.get_node())
        plain = spec.layout == "NHWC" and spec.input_type == "uint8" and spec.channels == "RGB"
        if plain:
            return graph
        preprocess = openvino.preprocess
        chain = preprocess.PrePostProcessor(graph)
        given = chain.input(spec.input_name)
        given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        given.tensor().set_color_format(preprocess.ColorFormat.RGB)
        given.model().set_layout(openvino.Layout(spec.layout))
        steps = given.preprocess()
        if spec.channels == "BGR":
            steps.convert_color(preprocess.ColorFormat.BGR)
        if spec.input_type == "float32":
            steps.convert_element_type(openvino.Type.f32)
            steps.mean(list(spec.mean)).scale(list(spec.std))
        return chain.build()


def _tensors(ports: Any) -> dict[str, Tensor]:
    found = {}
    for port in ports:
        shape = tuple(-1 if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
        dtype = "float32" if port.get_element_type().get_type_name() == "f32" else "other"
        if port.get_element_type().get_type_name() == "u8":
            dtype = "uint8"
        for name in port.get_names() or {""}:
            found[name] = Tensor(dtype, shape)
    return found


def _gist(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else repr(error)


@functools.cache
def _library() -> Any:
    """Import openvino without what it would send to its makers.

    ``import openvino`` loads its converter, which announces the import by openvino_telemetry to
    a web service. Neither is needed: with both barred, the package passes over the converter,
    and would take its own stub for the telemetry.
    """
    for module in ("openvino_telemetry", "openvino.tools.ovc"):
        sys.modules.setdefault(module, None)  # type: ignore[arg-type] # None bars the import
    import openvino

    return openvino


@functools.cache
def _bf16_pays() -> bool:
    """Whether the processor multiplies matrices of bf16 by itself (AMX).

    Processors with AVX-512 BF16 alone understand the type, but were slower with it: docs/adr/0005.
    OpenVINO names the instructions a layer was compiled for, so a small convolution is asked.
    """
    openvino = _library()
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    opset = openvino.opset13
    pixels = opset.parameter([1, 64, 16, 16], np.float32)
    kernel = opset.constant(np.ones((64, 64, 1, 1), np.float32))
    layer = opset.convolution(pixels, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    graph = openvino.Model([layer], [pixels])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    kinds = [op.get_rt_info()["primitiveType"] for op in compiled.get_runtime_model().get_ops()]
    return any("amx" in str(kind.value if hasattr(kind, "value") else kind) for kind in kinds)
