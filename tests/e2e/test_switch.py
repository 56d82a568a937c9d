"""The model of a dataset is changed by real processes, with the controller killed on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.e2e import copying
from tests.e2e.faults import Cluster
from tests.e2e.test_cli import futu
from tests.pictures import jpeg

IMAGES, KILLS = 160, 2
OLD, NEW = "grid", "mosaic"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One compute server with two small models for the question similar."""
    made = Cluster(tmp_path, compute=1)
    models_dir = tmp_path / "models"
    for name, resample in ((OLD, "bilinear"), (NEW, "box")):
        copying.describe(models_dir, name, question="similar", resample=resample)
        copying.put(models_dir, name)
    made.environment |= {
        "FUTU_MODELS_DIR": str(models_dir),
        "FUTU_SIMILAR_MODEL": OLD,
        "FUTU_BATCH_SIZE": "2",
    }
    folder = made.datasets / "one"
    folder.mkdir()
    for n in range(IMAGES):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(90_000 + n, (48, 36)))
    yield made
    made.close()


def has_vectors(cluster: Cluster, count: int) -> bool:
    return cluster.vector_count() >= count


def serving(cluster: Cluster) -> str:
    """The model by which a search finds everything."""
    picture = cluster.datasets / "one" / "007.jpg"
    results = cluster.client.search(picture, datasets=["one"], top_k=IMAGES)
    assert len({result.fname for result in results}) == IMAGES
    assert results[0].fname == "007.jpg"
    (model_id,) = {result.model_id for result in results}
    return model_id.rpartition("-")[0]


@pytest.mark.timeout(120)
def test_controller_killed_while_a_model_changes_serves_the_one_or_the_other(
    cluster: Cluster,
) -> None:
    cluster.start()
    cluster.client.build_index(["one"])
    cluster.await_build("one", 60)
    assert serving(cluster) == OLD
    (asked,) = cluster.client.use_model(["one"], NEW)
    assert (asked.models.serving.name, asked.models.coming is not None) == (OLD, True)
    for kill in range(KILLS):
        wanted = IMAGES + IMAGES * (kill + 1) // (KILLS + 2)
        cluster.until(partial(has_vectors, cluster, wanted))
        cluster.restart("controller")
        cluster.until(lambda: cluster.health().get("status") == "healthy")
        assert serving(cluster) in (OLD, NEW)
    done = futu(cluster, "models", "use", "one", NEW, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"]["serving"]["name"] == NEW
    assert serving(cluster) == NEW
    assert cluster.vector_count() == 2 * IMAGES
    (dataset,) = cluster.client.datasets()
    models = dataset.models["similar"]
    assert (models.serving.name, models.former and models.former.name) == (NEW, OLD)
    (change,) = cluster.client.use_former_model(["one"], "similar")
    assert "Every image has its vector" in change.message
    assert serving(cluster) == OLD
    assert cluster.client.prune_models().vectors == IMAGES
    assert serving(cluster) == OLD
