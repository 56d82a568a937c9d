"""A small model for copies, made by the tests: no network is needed, and it is quick."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

NAME = "grid"
DIMENSION = 48
_SIDE = 32
_CELL = 8


def describe(models_dir: Path, name: str = NAME, **others: Any) -> None:
    """Put the description of the model into a models directory; the model itself not.

    Args:
        models_dir: the directory.
        name: of the model.
        others: what is to be different in the description.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    facts = {
        "question": "copy",
        "sha256": hashlib.sha256(_graph()).hexdigest(),
        "input": "pixels",
        "output": "vector",
        "dimension": DIMENSION,
        "size": _SIDE,
        "layout": "NCHW",
        "type": "float32",
        "mean": [127.0, 127.0, 127.0],
        "std": [64.0, 64.0, 64.0],
        "resize": "squash",
        "resample": "bilinear",
        "licence": "none needed",
        "source": "made by a test",
    }
    (models_dir / f"{name}.json").write_text(json.dumps(facts | others))


def put(models_dir: Path, name: str = NAME) -> None:
    """Put the model itself there."""
    (models_dir / f"{name}.onnx").write_bytes(_graph())


def _graph() -> bytes:
    """The mean colours of a grid of 4 x 4 cells."""
    cell = [_CELL, _CELL]
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["cells"], kernel_shape=cell, strides=cell),
        helper.make_node("Flatten", ["cells"], ["vector"], axis=1),
    ]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, _SIDE, _SIDE])
    made = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", DIMENSION])
    model = helper.make_model(
        helper.make_graph(nodes, NAME, [given], [made]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
