"""Three compute servers: the work is spread, by itself, and the numbers of each show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.faults import Cluster
from tests.pictures import jpeg

IMAGES = 500


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, compute=3)
    # Small jobs: what is spread is then many times what one server takes ahead.
    made.environment["FUTU_BATCH_SIZE"] = "8"
    folder = made.datasets / "many"
    folder.mkdir()
    for n in range(IMAGES):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(80_000 + n, (160, 120)))
    yield made
    made.close()


def test_three_servers_share_a_build_and_metrics_and_status_agree(cluster: Cluster) -> None:
    cluster.start()
    cluster.client.build_index(["many"])
    progress = cluster.await_build("many", 120)
    assert (progress.added, progress.failed) == (IMAGES, 0)
    counts = {s["server"]: s["images_done"] for s in cluster.health()["compute_servers"]}
    assert len(counts) == 3
    assert sum(counts.values()) == IMAGES
    assert all(count >= IMAGES / 10 for count in counts.values()), counts

    def measured() -> dict[str, float]:
        text = cluster.client.metrics()
        return {
            sample.labels["server"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "futu_compute_images_total"
        }

    # They come with the next registration.
    cluster.until(lambda: measured() == counts)
    cluster.assert_redis_is_clean()
