"""ONNX Runtime on the processor and, by its execution providers, on GPUs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from futu.errors import ModelError, SettingsError
from futu.models.choice import Device
from futu.models.memory import give_back
from futu.models.runtime import (
    CPU_BATCH,
    Features,
    Pixels,
    Runtime,
    Tensor,
    check_graph,
)
from futu.models.spec import ModelSpec

_CPU = "CPUExecutionProvider"
_GPU_BATCH = 64
# For each device: its provider, what may do the rest of a graph, and the package with it.
_PROVIDERS: dict[Device, tuple[str, tuple[str, ...], str]] = {
    "cpu": (_CPU, (), "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", (_CPU,), "onnxruntime-gpu"),
    "tensorrt": (
        "TensorrtExecutionProvider",
        ("CUDAExecutionProvider", _CPU),
        "onnxruntime-gpu, and TensorRT itself",
    ),
    "coreml": ("CoreMLExecutionProvider", (_CPU,), "onnxruntime on macOS"),
    "directml": ("DmlExecutionProvider", (_CPU,), "onnxruntime-directml on Windows"),
}
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntime(Runtime):
    """See ``Runtime`` and ``load_runtime``.

    Raises:
        SettingsError: the installed ONNX Runtime has not the provider, or it does not start.
        ModelError: the file is not a graph ONNX Runtime can load.
    """

    name = "onnxruntime"

    def __init__(
        self, spec: ModelSpec, file: Path, *, device: Device, threads: int, parallel: int
    ) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        provider, others, package = _PROVIDERS[device]
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise SettingsError(
                f"FUTU_DEVICE={device} needs {provider}, and the installed ONNX Runtime "
                f"{onnxruntime.__version__} has only {', '.join(available)}. It comes with the "
                f"package {package}; uninstall onnxruntime first if that is another one."
            )
        options = onnxruntime.SessionOptions()
        # With one thread the calling thread does all the work, so calls run side by side.
        options.intra_op_num_threads = parallel * (threads - 1) + 1
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores that decoding needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if device == "directml":  # its documentation asks for both, and for one call at a time
            options.enable_mem_pattern = False
            options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        usable = [p for p in (provider, *others) if p in available]
        graph, free = _with_pixels(spec, file)
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=usable)
        except Exception as error:
            # onnxruntime has its own exception types for each status, with no public base.
            raise ModelError(
                f"ONNX Runtime cannot load {file} ({str(error).splitlines()[0]}). The file is "
                "damaged or no ONNX graph: get it again.",
                file=str(file),
            ) from error
        if session.get_providers()[0] != provider:
            raise SettingsError(
                f"FUTU_DEVICE={device}: {provider} does not start on this machine; the log of ONNX "
                "Runtime on standard error says why. Its drivers and libraries must be installed."
            )
        self._input = session.get_inputs()[0].name
        if isinstance(graph, str):
            inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
            free = check_graph(spec, file, inputs, outputs)
        self._session: Any = session
        self._output = spec.output_name
        self._batch = (CPU_BATCH if device == "cpu" else _GPU_BATCH) if free else 1
        self._turns = threading.BoundedSemaphore(1 if device == "directml" else parallel)
        self.about = f"ONNX Runtime {onnxruntime.__version__}, {device}, f32"

    def run(self, pixels: Pixels) -> Features:
        """See ``Runtime.run``."""
        parts = [pixels[at : at + self._batch] for at in range(0, len(pixels), self._batch)]
        try:
            with self._turns:
                return np.concatenate([self._run(part) for part in parts])
        except Exception as error:
            raise ModelError(f"ONNX Runtime failed on a batch of {len(pixels)} ({error}).") from (
                error
            )

    def close(self) -> None:
        """See ``Runtime.close``."""
        self._session = None
        give_back()

    def _run(self, part: Pixels) -> Features:
        (output,) = self._session.run([self._output], {self._input: part})
        return np.asarray(output, np.float32).reshape(len(part), -1)


def _tensors(arguments: Any) -> dict[str, Tensor]:
    return {
        argument.name: Tensor(
            _TYPES.get(argument.type, argument.type),
            tuple(d if isinstance(d, int) else -1 for d in argument.shape),
        )
        for argument in arguments
    }


def _with_pixels(spec: ModelSpec, file: Path) -> tuple[str | bytes, bool]:
    """The graph's path; or, if it does not take pixels as they are, the graph with steps before it.

    The file stays as it is: the steps are added to the copy in memory.

    Returns:
        The path or the graph, and whether the graph takes batches (not looked at for a path).
    """
    if (spec.layout, spec.input_type, spec.channels) == ("NHWC", "uint8", "RGB"):
        return str(file), True
    # Here, not at the top: most graphs take pixels, and need no onnx.
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    try:
        model = onnx.load(file)
    except Exception as error:
        # protobuf's DecodeError, onnx's own and OSError have no base in common.
        raise ModelError(
            f"{file} cannot be read as an ONNX graph ({error}). Get it again.", file=str(file)
        ) from error
    graph = model.graph
    constants = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    free = check_graph(spec, file, _declared(inputs), _declared(graph.output))

    value = "futu.pixels"
    nodes: list[onnx.NodeProto] = []

    def step(op: str, *more: str, **attributes: Any) -> None:
        nonlocal value
        made = f"futu.step{len(nodes)}"
        nodes.append(helper.make_node(op, [value, *more], [made], **attributes))
        value = made

    def constant(name: str, array: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    if spec.channels == "BGR":
        step("Gather", constant("futu.bgr", np.array([2, 1, 0], np.int64)), axis=3)
    if spec.input_type == "float32":
        step("Cast", to=TensorProto.FLOAT)
        step("Sub", constant("futu.mean", np.array(spec.mean, np.float32)))
        step("Div", constant("futu.std", np.array(spec.std, np.float32)))
    if spec.layout == "NCHW":
        step("Transpose", perm=[0, 3, 1, 2])
    nodes[-1].output[0] = spec.input_name

    nodes.extend(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    side = spec.input_size
    shape = ["n" if free else 1, side, side, 3]
    graph.input.append(helper.make_tensor_value_info("futu.pixels", TensorProto.UINT8, shape))
    return bytes(model.SerializeToString()), free


def _declared(values: Any) -> dict[str, Tensor]:
    from onnx import TensorProto

    types = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32"}
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        found[value.name] = Tensor(types.get(tensor.elem_type, "another type"), shape)
    return found
