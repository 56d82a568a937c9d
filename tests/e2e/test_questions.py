"""Datasets that answer similar and copy, with real compute servers and two real models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.e2e import copying
from tests.e2e.faults import Cluster
from tests.e2e.test_cli import futu
from tests.pictures import jpeg

from futu.errors import NotIndexedError
from futu.models import registry, store

IMAGES = 40


@pytest.fixture
def cluster(tmp_path: Path, models_dir: Path) -> Iterator[Cluster]:
    """Two compute servers, each with a models directory of its own, and no model for copies."""
    store.model_file(registry.spec(), models_dir)
    made = Cluster(tmp_path, compute=2)
    made.environment["FUTU_COPY_MODEL"] = copying.NAME
    for name in ("controller", *made.compute):
        folder = models_of(made, name)
        copying.describe(folder)
        if name != "controller":
            shutil.copytree(models_dir / "built", folder / "built")
        made.prefixes[name] = ["env", f"FUTU_MODELS_DIR={folder}"]
    yield made
    made.close()


def models_of(cluster: Cluster, name: str) -> Path:
    return cluster.folder / f"models-{name}"


def fill(cluster: Cluster, name: str, first_seed: int) -> None:
    folder = cluster.datasets / name
    folder.mkdir()
    for n in range(IMAGES):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(first_seed + n, (160, 120)))


def vectors(cluster: Cluster) -> dict[str, int]:
    return {index["question"]: index["vectors"] for index in cluster.health()["indexes"]}


def images_done(cluster: Cluster) -> int:
    return sum(s["images_done"] for s in cluster.health()["compute_servers"])


def assert_each_mode_has_its_own_vectors(cluster: Cluster, name: str) -> None:
    picture = cluster.datasets / name / "017.jpg"
    found = {}
    for mode, dimension in (("similar", 1280), ("copy", copying.DIMENSION)):
        feature = cluster.client.feature(str(picture), mode)
        assert feature["dimension"] == len(feature["feature"]) == dimension
        results = cluster.client.search(picture, datasets=[name], mode=mode, top_k=IMAGES)
        assert len(results) == IMAGES
        assert (results[0].fname, round(results[0].similarity)) == ("017.jpg", 100)
        assert {result.model_id for result in results} == {feature["model_id"]}
        found[mode] = [result.cosine for result in results]
    assert found["similar"] != found["copy"]


def assert_pictures_can_be_checked_and_calibrated(cluster: Cluster) -> None:
    new = cluster.folder / "new"
    new.mkdir()
    shutil.copy(cluster.datasets / "two" / "003.jpg", new / "equal.jpg")
    with Image.open(new / "equal.jpg") as image:
        image.save(new / "smaller.jpg", quality=60)
    checked = futu(cluster, "check", str(new), "--dataset", "two", "--json", "--show", "all")
    assert checked.returncode == 1, checked.stderr
    found = {Path(e["name"]).name: e for e in map(json.loads, checked.stdout.splitlines())}
    assert {n: e["matches"][0]["tier"] for n, e in found.items()} == {
        "equal.jpg": "exact",
        "smaller.jpg": "near",
    }
    assert {e["matches"][0]["path"] for e in found.values()} == {"003.jpg"}
    shutil.copy(new / "smaller.jpg", cluster.datasets / "one" / "leak.jpg")
    cluster.client.build_index(["one"])
    cluster.await_build("one", 60)
    strict = ["--from", "one", "--dataset", "two", "--preset", "strict", "--csv"]
    leaked = futu(cluster, "check", *strict)
    assert leaked.returncode == 1, leaked.stderr
    assert leaked.stdout.splitlines()[1].startswith("one: leak.jpg,known,near,")
    (new / "broken.jpg").write_bytes(b"no picture")
    assert futu(cluster, "check", str(new)).returncode == 2
    plot = cluster.folder / "plot.html"
    measured = futu(cluster, "calibrate", "two", "--sample", "3", "--html", str(plot))
    assert measured.returncode == 0, measured.stderr
    for part in ("39 edited copies of 3 pictures", "mirrored", "3 of 3", "normal"):
        assert part in measured.stdout, measured.stdout
    assert "edited copies" in plot.read_text("utf-8")
    kept = cluster.client.calibration("two")
    assert kept["copies"] == sum(edit["copies"] for edit in kept["edits"]) == 39
    assert sorted(kept["presets"].values(), reverse=True) == list(kept["presets"].values())
    forgotten = futu(cluster, "calibrate", "two", "--forget")
    assert (forgotten.returncode, "Forgotten" in forgotten.stderr) == (0, True)


@pytest.mark.timeout(180)
def test_copy_follows_when_a_server_gets_the_model(cluster: Cluster) -> None:
    # One server has the model, the other never will.
    fill(cluster, "one", 80_000)
    cluster.start()
    cluster.client.build_index(["one"], questions=["similar", "copy"])
    progress = cluster.await_build("one", 60)
    assert (progress.added, progress.failed) == (IMAGES, 0)
    assert f"{IMAGES} images lack their copy vectors" in progress.message
    assert f"futu models pull {copying.NAME}" in progress.message
    assert vectors(cluster) == {"similar": IMAGES, "copy": 0}
    refused = futu(cluster, "search", str(cluster.datasets / "one" / "000.jpg"), "--mode", "copy")
    assert refused.returncode == 1
    assert f"futu models pull {copying.NAME}" in refused.stderr
    with pytest.raises(NotIndexedError, match="索引"):
        cluster.client.search(cluster.datasets / "one" / "000.jpg", mode="copy")
    copying.put(models_of(cluster, "compute-0"))
    cluster.until(lambda: cluster.health()["indexes"][1]["compute_servers"] == 1)
    cluster.client.build_index(["one"])
    progress = cluster.await_build("one", 60)
    assert (progress.added, progress.unchanged, progress.failed) == (IMAGES, 0, 0)
    assert "lack" not in progress.message
    assert vectors(cluster) == {"similar": IMAGES, "copy": IMAGES}
    assert_each_mode_has_its_own_vectors(cluster, "one")
    # A dataset that is new to both.
    fill(cluster, "two", 81_000)
    indexed = futu(cluster, "index", "two", "--questions", "similar,copy", "--json")
    assert indexed.returncode == 0, indexed.stderr
    assert (json.loads(indexed.stdout)["added"], "lack" in indexed.stderr) == (IMAGES, False)
    wrong = futu(cluster, "index", "two", "--questions", "same")
    assert (wrong.returncode, "similar, copy" in wrong.stderr) == (1, True)
    assert f"copy: {copying.NAME}" in futu(cluster, "datasets").stdout
    found = futu(cluster, "search", str(cluster.datasets / "two" / "003.jpg"), "--mode", "copy")
    assert "003.jpg" in found.stdout.splitlines()[1]
    shown = futu(cluster, "status").stdout
    for question in ("similar", "copy"):
        assert f"index: {question}, " in shown
    assert vectors(cluster) == {"similar": 2 * IMAGES, "copy": 2 * IMAGES}
    assert_each_mode_has_its_own_vectors(cluster, "two")
    # Now no server is without it: each picture is decoded once for both.
    cluster.kill("compute-1")
    cluster.until(lambda: len(cluster.health()["compute_servers"]) == 1)
    before = images_done(cluster)
    fill(cluster, "three", 82_000)
    cluster.client.build_index(["three"], questions=["similar", "copy"])
    assert cluster.await_build("three", 60).added == IMAGES
    assert images_done(cluster) - before == IMAGES
    assert vectors(cluster) == {"similar": 3 * IMAGES, "copy": 3 * IMAGES}
    assert [d.questions for d in cluster.client.datasets()] == [("similar", "copy")] * 3
    assert_pictures_can_be_checked_and_calibrated(cluster)
    cluster.assert_redis_is_clean()
