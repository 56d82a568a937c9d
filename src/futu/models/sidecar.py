"""Models of the user's own: NAME.onnx in the models directory, described by NAME.toml or .json."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from futu.errors import ModelError
from futu.models.similarity import Scale, check_points
from futu.models.spec import Channels, InputType, Layout, ModelSpec, Question, Resample, Resize

_SUFFIXES = (".toml", ".json")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_Mean = Annotated[float, Field(ge=0, le=255)]
_Std = Annotated[float, Field(gt=0, le=255)]


class Sidecar(BaseModel):
    """The fields of a description; those without a default must be given."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    question: Question
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    input: Annotated[str, Field(min_length=1, description="name of the graph's input")]
    output: Annotated[str, Field(min_length=1, description="name of the graph's output")]
    dimension: Annotated[int, Field(ge=1, le=65536)]
    size: Annotated[int, Field(ge=8, le=4096, description="side of the input, pixels")]
    layout: Layout
    type: InputType
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    resize: Resize
    resample: Resample
    licence: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    channels: Channels = "RGB"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    similarity: Annotated[
        tuple[tuple[float, float], ...], Field(description="pairs of cosine and similarity")
    ] = Scale.points

    @model_validator(mode="after")
    def _mean_of_pixels(self) -> Sidecar:
        if any(0 < value < 1 for value in self.mean):
            raise ValueError("mean and std are for pixels from 0 to 255: multiply them by 255")
        return self

    @model_validator(mode="after")
    def _similarity_rises(self) -> Sidecar:
        check_points(self.similarity)
        return self


def names(models_dir: Path) -> list[str]:
    """The models described in a directory; one that does not exist describes none."""
    if not models_dir.is_dir():
        return []
    return sorted({p.stem for p in models_dir.iterdir() if p.suffix in _SUFFIXES})


def read(models_dir: Path, name: str) -> ModelSpec:
    """Read and check the description of a model.

    Raises:
        ModelError: one line for each field that is missing or wrong, with what is allowed.
    """
    found = [p for p in (models_dir / f"{name}{suffix}" for suffix in _SUFFIXES) if p.is_file()]
    if len(found) > 1:
        raise ModelError(f"{found[0]} and {found[1].name} describe the same model: remove one.")
    (file,) = found
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"{file}: a model's name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a "
            "letter or digit. Rename the file and its graph."
        )
    try:
        text = file.read_text("utf-8")
        fields: Any = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        given = Sidecar.model_validate(fields)
    except ValidationError as error:
        raise ModelError(
            "\n".join(_explain(file, problem) for problem in error.errors()), file=str(file)
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error}).", file=str(file)) from error
    return ModelSpec(
        name=name,
        question=given.question,
        sha256=given.sha256,
        dimension=given.dimension,
        input_size=given.size,
        licence=given.licence,
        source=given.source,
        input_name=given.input,
        output_name=given.output,
        layout=given.layout,
        channels=given.channels,
        input_type=given.type,
        mean=given.mean,
        std=given.std,
        resize=given.resize,
        crop_fraction=given.crop_fraction,
        resample=given.resample,
        similarity=given.similarity,
    )


def _explain(file: Path, problem: Any) -> str:
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return f"{file}: {reason}."
    field = str(problem["loc"][0])
    if problem["type"] == "missing":
        how = "missing" if len(problem["loc"]) == 1 else "too short"
        return f"{file}: the field {field!r} is {how}; {_allowed(field)}."
    if problem["type"] == "extra_forbidden":
        return (
            f"{file}: there is no field {field!r}; allowed are {', '.join(Sidecar.model_fields)}."
        )
    return f"{file}: the field {field!r} is {problem['input']!r}: {reason}."


def _allowed(field: str) -> str:
    """What a field may hold, in words, from its JSON schema."""
    schema = Sidecar.model_json_schema()["properties"][field]
    if "enum" in schema:
        return "it is one of " + ", ".join(map(repr, schema["enum"]))
    if "pattern" in schema:
        return "it is the SHA-256 of the ONNX file, 64 hex digits"
    if schema["type"] == "array":
        return "it is three numbers, for pixels from 0 to 255"
    if schema["type"] == "integer":
        return f"it is a whole number from {schema['minimum']} to {schema['maximum']}"
    return f"it is a text ({schema.get('description', 'not empty')})"
