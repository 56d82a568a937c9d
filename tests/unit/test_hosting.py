"""Models are loaded when they are needed and given back when they are idle."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.e2e import copying

from futu import config
from futu.compute import hosting
from futu.compute.hosting import ModelHost
from futu.errors import ModelError
from futu.models import registry, store
from futu.models.runtime import Runtime, load_runtime
from futu.models.spec import ModelSpec


class Loads:
    """Counts what is loaded; holds it up while ``gate`` is not set."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, *arguments: Any, **facts: Any) -> Runtime:
        self.begun.set()
        self.gate.wait()
        self.count += 1
        return load_runtime(*arguments, **facts)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    made = Loads()
    monkeypatch.setattr(hosting, "load_runtime", made)
    return made


@pytest.fixture
def host(tmp_path: Path) -> ModelHost:
    copying.describe(tmp_path)
    copying.put(tmp_path)
    return host_of(tmp_path)


def host_of(models_dir: Path) -> ModelHost:
    settings = config.load(models_dir=models_dir, copy_model=copying.NAME, model_idle_s=60)
    return ModelHost(settings, workers=2)


def grid(host: ModelHost) -> ModelSpec:
    (spec,) = (spec for spec in host.specs().values() if spec.name == copying.NAME)
    return spec


def grow_old(host: ModelHost) -> None:
    """All was last used two minutes ago."""
    for place in host._places.values():
        place.used_at -= 120


def works(host: ModelHost) -> bool:
    spec = grid(host)
    pixels = np.full((1, spec.input_size, spec.input_size, 3), 200, np.uint8)
    with host.use(spec, "library") as extractor:
        return extractor.extract(pixels).shape == (1, copying.DIMENSION)


def test_model_is_loaded_once_for_many_users(host: ModelHost, loads: Loads) -> None:
    spec, together, seen = grid(host), threading.Barrier(8), set[int]()

    def use() -> None:
        together.wait()
        with host.use(spec, "library") as extractor:
            seen.add(id(extractor))
            together.wait()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (loads.count, len(seen)) == (1, 1)


def test_idle_model_is_given_back_and_loaded_again_when_needed(
    host: ModelHost, loads: Loads
) -> None:
    assert works(host)
    host.unload_idle()
    assert works(host)
    assert loads.count == 1
    grow_old(host)
    host.unload_idle()
    assert [place.runtime for place in host._places.values()] == [None]
    assert works(host)
    assert loads.count == 2


def test_model_in_use_is_not_given_back(host: ModelHost, loads: Loads) -> None:
    assert works(host)
    with host.use(grid(host), "library"):
        grow_old(host)
        host.unload_idle()
        host.close()
        assert works(host)
    assert loads.count == 1


def test_look_for_idle_models_does_not_wait_for_one_that_is_being_loaded(
    host: ModelHost, loads: Loads
) -> None:
    loads.gate.clear()
    user = threading.Thread(target=works, args=(host,))
    looker = threading.Thread(target=host.unload_idle, daemon=True)
    user.start()
    assert loads.begun.wait(20)
    looker.start()
    try:
        until(lambda: not looker.is_alive())
    finally:
        loads.gate.set()
        user.join()
    assert loads.count == 1


def test_queries_have_their_model_while_batches_are_measured(
    host: ModelHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring, go_on = threading.Event(), threading.Event()

    def best(extractor: Any) -> int:
        measuring.set()
        go_on.wait()
        return 8

    monkeypatch.setattr(hosting, "_best_batch", best)
    spec, used = grid(host), threading.Event()

    def query() -> None:
        with host.use(spec, "query"):
            used.set()

    measurer = threading.Thread(target=host.batch, args=(spec,))
    measurer.start()
    assert measuring.wait(20)
    asking = threading.Thread(target=query, daemon=True)
    asking.start()
    try:
        assert used.wait(20)
    finally:
        go_on.set()
        measurer.join()
    monkeypatch.setattr(hosting, "_best_batch", lambda extractor: pytest.fail("measured again"))
    assert host.batch(spec) == 8


def test_model_that_is_pulled_later_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "_LOOK_EVERY_S", -1.0)
    copying.describe(tmp_path)
    host = host_of(tmp_path)
    assert copying.NAME not in {spec.name for spec in host.specs().values()}
    copying.put(tmp_path)
    assert works(host)


def test_every_model_in_place_is_offered_and_a_wrong_description_costs_no_other(
    host: ModelHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(hosting, "_LOOK_EVERY_S", -1.0)
    copying.describe(tmp_path, "other", question="similar")
    copying.put(tmp_path, "other")
    copying.describe(tmp_path, "wrong", dimension=0)
    copying.put(tmp_path, "wrong")
    copying.describe(tmp_path, "absent")
    for _ in range(2):
        offered = {spec.name for spec in host.specs().values()}
        assert offered >= {copying.NAME, "other"}
        assert not offered & {"wrong", "absent"}
    assert [r.getMessage().count("dimension") for r in caplog.records] == [1]


def test_built_in_model_is_offered_as_it_was_described_before_too(tmp_path: Path) -> None:
    for former in registry.former_specs():
        now = registry.spec(former.name)
        assert (now.question, now.sha256) == (former.question, former.sha256)
        assert now.model_id != former.model_id
        file = store.pulled_path(former, tmp_path)
        file.parent.mkdir(exist_ok=True)
        file.touch()
        host = ModelHost(config.load(models_dir=tmp_path), workers=1)
        assert {now.model_id, former.model_id} <= set(host.specs())


def test_default_is_as_it_was_described_at_the_start(host: ModelHost, tmp_path: Path) -> None:
    before = grid(host).model_id
    copying.describe(tmp_path, resample="box")
    assert grid(host).model_id == before
    assert grid(host_of(tmp_path)).model_id != before


def test_model_that_cannot_be_loaded_is_tried_again_with_the_next_use(
    host: ModelHost, tmp_path: Path
) -> None:
    spec, file = grid(host), tmp_path / f"{copying.NAME}.onnx"
    good = file.read_bytes()
    file.write_bytes(good[:-10])
    with pytest.raises(ModelError, match="damaged"), host.use(spec, "library"):
        pass
    file.write_bytes(good)
    assert works(host)


@pytest.mark.parametrize(
    ("ms_a_picture", "best"),
    [
        ({4: 10, 8: 9, 16: 8, 32: 7}, 32),
        ({4: 10, 8: 9.9, 16: 1, 32: 1}, 4),  # hardly better: not worth the memory
        ({4: 10, 8: 9, 16: 9, 32: 1}, 8),
        ({4: 10, 8: 9}, 8),  # larger ones fail
    ],
)
def test_larger_batches_are_taken_only_while_they_are_worth_it(
    host: ModelHost, monkeypatch: pytest.MonkeyPatch, ms_a_picture: dict[int, float], best: int
) -> None:
    def took(extractor: Any, count: int) -> float:
        if count not in ms_a_picture:
            raise MemoryError
        return ms_a_picture[count] * count

    monkeypatch.setattr(hosting, "_time", took)
    assert host.batch(grid(host)) == best
