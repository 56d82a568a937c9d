"""Every runtime gives the same vectors, and refuses the same files."""

from __future__ import annotations

import dataclasses
import itertools
import platform
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper
from tests.pictures import picture

from futu.errors import ModelError, SettingsError
from futu.models import registry, store
from futu.models.choice import Choice
from futu.models.extractor import Extractor, preprocess
from futu.models.runtime import Features, Pixels, Runtime, load_runtime
from futu.models.spec import ModelSpec

LITE0 = registry.spec()
REFERENCE = Path(__file__).parents[1] / "data" / "efficientnet_lite0_reference.npz"
X86 = platform.machine().lower() in ("x86_64", "amd64")
RUNTIMES = ["onnxruntime", *(["openvino"] if X86 else [])]

Load = Callable[..., Runtime]


@pytest.fixture(params=RUNTIMES)
def load(request: pytest.FixtureRequest) -> Iterator[Load]:
    """Loads a graph in the runtime under test; all are closed at the end."""
    loaded: list[Runtime] = []

    def load(spec: ModelSpec, file: Path, **facts: Any) -> Runtime:
        loaded.append(load_runtime(spec, file, Choice(request.param, precision="f32"), **facts))
        return loaded[-1]

    yield load
    for runtime in loaded:
        runtime.close()


@pytest.fixture(scope="module")
def graph(models_dir: Path) -> Path:
    return store.model_file(LITE0, models_dir)


def unit(features: Features) -> Features:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def cosines(a: Features, b: Features) -> Features:
    return np.asarray((unit(a) * unit(b)).sum(axis=1))


def pictures(spec: ModelSpec, count: int) -> Pixels:
    return np.stack([preprocess(np.asarray(picture(seed)), spec) for seed in range(count)])


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


@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_equal_those_of_the_published_model(load: Load, graph: Path, threads: int) -> None:
    wanted = unit(np.load(REFERENCE)["features"])
    found = Extractor(LITE0, load(LITE0, graph, threads=threads)).extract(reference_pixels())
    assert (cosines(found, wanted) >= 0.9999).all()
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    # The six are not all alike, so that agreement says something.
    assert (wanted @ wanted.T).min() < 0.7


def test_vectors_do_not_depend_on_the_batch(load: Load, graph: Path) -> None:
    runtime = load(LITE0, graph)
    pixels = pictures(LITE0, 7)
    together = runtime.run(pixels)
    alone = np.concatenate([runtime.run(pixels[n : n + 1]) for n in range(7)])
    assert together.shape == (7, 1280)
    assert (cosines(together, alone) >= 0.99999).all()


def test_calls_from_many_threads_do_not_mix_vectors_up(load: Load, graph: Path) -> None:
    runtime = load(LITE0, graph, parallel=2)
    pixels = pictures(LITE0, 12)
    wanted = runtime.run(pixels)
    with ThreadPoolExecutor(6) as callers:
        parts = list(callers.map(lambda n: runtime.run(pixels[n : n + 5]), range(8)))
    for n, found in enumerate(parts):
        assert (cosines(found, wanted[n : n + 5]) >= 0.99999).all()


def save_mean_graph(path: Path, spec: ModelSpec, batch: str | int = "n", outputs: int = 1) -> None:
    """A graph whose vector is the mean of each channel it is given, and more outputs."""
    side = spec.input_size
    nhwc = spec.layout == "NHWC"
    kind = TensorProto.UINT8 if spec.input_type == "uint8" else TensorProto.FLOAT
    shape = [batch, side, side, 3] if nhwc else [batch, 3, side, side]
    axes = [1, 2] if nhwc else [2, 3]
    nodes = [helper.make_node("Cast", [spec.input_name], ["float"], to=TensorProto.FLOAT)]
    names = [spec.output_name, *(f"other{n}" for n in range(1, outputs))]
    nodes += [
        helper.make_node("ReduceMean", ["float"], [name], axes=axes, keepdims=0)
        for name in reversed(names)
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 3]) for n in names]
    given = helper.make_tensor_value_info(spec.input_name, kind, shape)
    model = helper.make_model(
        helper.make_graph(nodes, "mean", [given], values[::-1]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


MEAN = dataclasses.replace(
    LITE0,
    name="mean",
    dimension=3,
    input_size=32,
    mean=(10.0, 20.0, 30.0),
    std=(2.0, 4.0, 8.0),
)


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize(
    ("layout", "kind", "channels"),
    list(itertools.product(["NHWC", "NCHW"], ["uint8", "float32"], ["RGB", "BGR"])),
)
def test_graph_is_given_what_its_description_says(
    load: Load,
    tmp_path: Path,
    layout: Literal["NHWC", "NCHW"],
    kind: Literal["uint8", "float32"],
    channels: Literal["RGB", "BGR"],
    batch: str | int,
) -> None:
    spec = dataclasses.replace(MEAN, layout=layout, input_type=kind, channels=channels)
    file = tmp_path / "mean.onnx"
    save_mean_graph(file, spec, batch, outputs=3)
    original = file.read_bytes()
    pixels = pictures(spec, 6)
    seen = pixels[..., ::-1] if channels == "BGR" else pixels
    wanted = seen.mean(axis=(1, 2))
    if kind == "float32":
        wanted = (wanted - np.array(spec.mean)) / np.array(spec.std)
    assert load(spec, file).run(pixels) == pytest.approx(wanted, rel=1e-4, abs=1e-3)
    assert file.read_bytes() == original


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input_name": "image"}, r"no input 'image' but 'pixels'.*'input'"),
        ({"output_name": "vector"}, r"no output 'vector' but 'features'.*'output'"),
        ({"input_size": 64}, r"32, 32.*64, 64.*'size'"),
        ({"layout": "NCHW"}, r"'layout'"),
        ({"input_type": "float32"}, r"type uint8, not float32.*'type'"),
        ({"dimension": 512}, r"vectors of 3 numbers, not 512.*'dimension'"),
    ],
)
def test_graph_unlike_its_description_is_refused(
    load: Load, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = tmp_path / "mean.onnx"
    save_mean_graph(file, MEAN)
    with pytest.raises(ModelError, match=rf"mean\.onnx.*{said}"):
        load(dataclasses.replace(MEAN, **change), file)


def test_wrong_dimension_of_a_free_shape_is_found_at_load(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "mean.onnx"
    save_mean_graph(file, MEAN)
    model = onnx.load(file)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "d"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"mean\.onnx.*'dimension'"):
        load(dataclasses.replace(MEAN, dimension=512), file)


def test_fixed_batch_is_refused(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "mean.onnx"
    save_mean_graph(file, MEAN, batch=8)
    with pytest.raises(ModelError, match=r"mean\.onnx.*free batch size"):
        load(MEAN, file)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("keep", [0, 1000, 100_000])
def test_truncated_graph_cannot_be_loaded(
    load: Load, graph: Path, tmp_path: Path, keep: int, layout: Literal["NHWC", "NCHW"]
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(graph.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        load(dataclasses.replace(LITE0, layout=layout), bad)


@pytest.mark.skipif(not X86, reason="OpenVINO is taken on x86 only")
@pytest.mark.parametrize("name", registry.names())
def test_runtimes_agree(name: str, request: pytest.FixtureRequest, models_dir: Path) -> None:
    if name != LITE0.name:
        request.getfixturevalue("pulled_models")
    spec = registry.spec(name)
    file = store.model_file(spec, models_dir)
    pixels = pictures(spec, 16)
    found = []
    for runtime in RUNTIMES:
        loaded = load_runtime(spec, file, Choice(runtime, precision="f32"))  # type: ignore[arg-type]
        found.append(loaded.run(pixels))
        loaded.close()
    agreement = cosines(*found)
    assert agreement.mean() >= 0.998
    # Rounding to int8 turns a last bit into a step; ONNX Runtime differs so from itself as well.
    assert agreement.min() >= (0.995 if name == "sscd" else 0.998)
    # The pictures are not all alike, so that agreement says something.
    assert (unit(found[0]) @ unit(found[0]).T).min() < 0.7


@pytest.mark.skipif(not X86, reason="OpenVINO is taken on x86 only")
def test_bf16_keeps_close_to_f32(graph: Path) -> None:
    found = []
    for precision in ("f32", "bf16"):
        runtime = load_runtime(LITE0, graph, Choice("openvino", precision=precision))
        assert precision in runtime.about
        found.append(runtime.run(pictures(LITE0, 16)))
        runtime.close()
    # Photos: 0.999 on average (docs/adr/0005). These drawings are harder.
    assert cosines(*found).min() >= 0.99


def test_closing_gives_memory_back(load: Load, graph: Path) -> None:
    process, in_use = psutil.Process(), []
    for _ in range(4):
        runtime = load(LITE0, graph, parallel=2)
        runtime.run(pictures(LITE0, 16))
        in_use.append(process.memory_info().rss)
        runtime.close()
        assert process.memory_info().rss < in_use[-1] - 20e6
    assert in_use[-1] < in_use[0] + 30e6


@pytest.mark.skipif(not X86, reason="OpenVINO is taken on x86 only")
def test_openvino_is_the_default_and_onnxruntime_for_graphs_in_int8(
    graph: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mean.onnx"
    save_mean_graph(file, MEAN)
    model = onnx.load(file)
    for initializer in (
        helper.make_tensor("step", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
    ):
        model.graph.initializer.append(initializer)
    last = model.graph.node[-1].input[0]
    steps = [
        helper.make_node("QuantizeLinear", [last, "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
    ]
    model.graph.node[-1].input[0] = "dq"
    reduce = model.graph.node.pop()
    model.graph.node.extend([*steps, reduce])
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString())
    pixels = pictures(MEAN, 5)
    for spec, path, wanted in ((LITE0, graph, "OpenVINO"), (MEAN, file, "ONNX Runtime")):
        runtime = load_runtime(spec, path)
        assert runtime.about.startswith(wanted)
        if spec is MEAN:
            assert runtime.run(pixels) == pytest.approx(pixels.mean(axis=(1, 2)), rel=1e-4)
        runtime.close()


@pytest.mark.skipif(not X86, reason="OpenVINO is taken on x86 only")
def test_without_openvino_onnxruntime_is_used_and_that_is_said(
    graph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    runtime = load_runtime(LITE0, graph)
    runtime.close()
    assert runtime.name == "onnxruntime"
    assert "OpenVINO is not installed" in caplog.text
    with pytest.raises(SettingsError, match="pip install openvino"):
        load_runtime(LITE0, graph, Choice("openvino"))


def test_missing_provider_names_what_there_is_and_the_package(graph: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_runtime(LITE0, graph, Choice(device="cuda"))
    for part in ("FUTU_DEVICE=cuda", "CUDAExecutionProvider", "CPUExecution", "onnxruntime-gpu"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "choice",
    [
        Choice("openvino", device="cuda"),
        Choice("onnxruntime", precision="bf16"),
        Choice(device="directml", precision="bf16"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(graph: Path, choice: Choice) -> None:
    with pytest.raises(SettingsError, match=r"FUTU_.*[Ll]eave"):
        load_runtime(LITE0, graph, choice)
