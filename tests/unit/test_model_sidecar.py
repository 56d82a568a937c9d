"""Models of the user's own: what a description must say, and what is said when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from futu import config
from futu.errors import InvalidRequestError, ModelError, SettingsError
from futu.models import registry, sidecar, store

FIELDS: dict[str, Any] = {
    "question": "similar",
    "sha256": "a" * 64,
    "input": "image",
    "output": "vector",
    "dimension": 384,
    "size": 256,
    "layout": "NCHW",
    "type": "float32",
    "mean": [123.7, 116.3, 103.5],
    "std": [58.4, 57.1, 57.4],
    "resize": "centre",
    "resample": "lanczos",
    "licence": "MIT",
    "source": "trained here",
}


def write(
    folder: Path, name: str = "mine", changes: dict[str, Any] | None = None, **more: Any
) -> Path:
    fields = {k: v for k, v in (FIELDS | (changes or {}) | more).items() if v is not None}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(fields))
    return path


def test_toml_and_json_describe_the_same_model(tmp_path: Path) -> None:
    write(tmp_path, crop_fraction=0.9, channels="BGR")
    from_json = registry.spec("mine", tmp_path)
    (tmp_path / "mine.json").unlink()
    lines = [f"{key} = {json.dumps(value)}" for key, value in FIELDS.items()]
    lines += ['channels = "BGR"', "crop_fraction = 0.9"]
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    assert registry.spec("mine", tmp_path) == from_json
    assert from_json.mean == (123.7, 116.3, 103.5)
    assert (from_json.layout, from_json.input_name, from_json.channels) == ("NCHW", "image", "BGR")
    assert registry.names(tmp_path)[-1] == "mine"


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field_is_named_with_what_is_allowed(tmp_path: Path, field: str) -> None:
    write(tmp_path, changes={field: None})
    with pytest.raises(ModelError, match=rf"mine\.json: the field '{field}' is missing; it is "):
        registry.spec("mine", tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("question", "same", "'similar' or 'copy'"),
        ("sha256", "abc", "[0-9a-f]{64}"),
        ("input", "", "at least 1"),
        ("dimension", 0, "greater than or equal to 1"),
        ("dimension", "many", "integer"),
        ("size", 100_000, "4096"),
        ("layout", "HWC", "'NHWC' or 'NCHW'"),
        ("type", "float16", "'uint8' or 'float32'"),
        ("mean", [1, 2], "too short; it is three numbers"),
        ("mean", [0.485, 0.456, 0.406], "multiply them by 255"),
        ("std", [0, 1, 1], "greater than 0"),
        ("resize", "stretch", "'squash' or 'centre'"),
        ("resample", "magic", "'bicubic'"),
        ("channels", "GBR", "'RGB' or 'BGR'"),
        ("crop_fraction", 2, "less than or equal to 1"),
        ("licence", " ", "at least 1"),
        ("dimensions", 5, "dimension"),
    ],
)
def test_wrong_field_is_named_with_what_is_allowed(
    tmp_path: Path, field: str, value: object, allowed: str
) -> None:
    write(tmp_path, changes={field: value})
    with pytest.raises(ModelError, match=allowed.replace("[", r"\[").replace("{", r"\{")) as caught:
        registry.spec("mine", tmp_path)
    assert "mine.json" in caught.value.message
    assert field in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "{", '{"question": '])
def test_file_that_is_not_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ModelError, match=r"mine\.json"):
        registry.spec("mine", tmp_path)


def test_two_descriptions_of_one_model_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "mine.toml").write_text("")
    with pytest.raises(ModelError, match=r"mine\.toml and mine\.json"):
        registry.spec("mine", tmp_path)


def test_name_that_cannot_be_a_model_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "My Model")
    with pytest.raises(ModelError, match="Rename"):
        registry.spec("My Model", tmp_path)


def test_built_in_model_cannot_be_described_anew(tmp_path: Path) -> None:
    write(tmp_path, "sscd")
    assert registry.spec("sscd", tmp_path).source.startswith("package")
    assert registry.names(tmp_path).count("sscd") == 1


def test_one_wrong_description_does_not_hide_the_others(tmp_path: Path) -> None:
    write(tmp_path, "bad", size=None)
    write(tmp_path, "good")
    found = dict(registry.specs(tmp_path))
    assert isinstance(found["bad"], ModelError)
    assert getattr(found["good"], "dimension", None) == 384


def test_every_field_that_decides_vectors_decides_the_model_id(tmp_path: Path) -> None:
    write(tmp_path)
    model_id = registry.spec("mine", tmp_path).model_id
    changes: dict[str, Any] = {
        "question": "copy",
        "sha256": "b" * 64,
        "layout": "NHWC",
        "type": "uint8",
        "mean": [1, 2, 3],
        "std": [1, 2, 3],
        "resize": "squash",
        "resample": "box",
        "channels": "BGR",
        "crop_fraction": 0.5,
        "dimension": 3,
        "size": 64,
    }
    for field in set(sidecar.Sidecar.model_fields) - {"similarity"}:
        write(tmp_path, changes={field: changes.get(field, "other")})
        assert registry.spec("mine", tmp_path).model_id != model_id, field


def test_default_models_come_from_the_settings(tmp_path: Path) -> None:
    write(tmp_path)
    settings = config.load(models_dir=tmp_path)
    assert registry.default_spec("similar", settings).name == "efficientnet-lite0"
    assert registry.default_spec("copy", settings).name == "sscd-distilled"
    chosen = config.load(models_dir=tmp_path, similar_model="mine")
    assert registry.default_spec("similar", chosen).dimension == 384


def test_default_model_must_exist_and_answer_the_question(tmp_path: Path) -> None:
    settings = config.load(models_dir=tmp_path, similar_model="resnet", copy_model="mine")
    with pytest.raises(SettingsError, match=r"FUTU_SIMILAR_MODEL is 'resnet'.*efficientnet-lite0"):
        registry.default_spec("similar", settings)
    write(tmp_path)
    with pytest.raises(SettingsError, match=r"FUTU_COPY_MODEL is 'mine'.*'similar'.*'copy'"):
        registry.default_spec("copy", settings)
    with pytest.raises(InvalidRequestError):
        registry.spec("mine")


def test_local_model_needs_its_file_and_the_right_one(tmp_path: Path) -> None:
    write(tmp_path)
    spec = registry.spec("mine", tmp_path)
    with pytest.raises(ModelError, match=r"mine\.onnx is not there.*pull mine --from"):
        store.model_file(spec, tmp_path)
    (tmp_path / "mine.onnx").write_bytes(b"another file")
    with pytest.raises(ModelError, match=r"mine\.onnx has SHA-256 .*correct sha256"):
        store.model_file(spec, tmp_path)
    write(tmp_path, sha256=store.sha256_of(tmp_path / "mine.onnx"))
    spec = registry.spec("mine", tmp_path)
    assert store.model_file(spec, tmp_path) == tmp_path / "mine.onnx"
