"""An index in Milvus: used like a file, away and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import until
from tests.integration.conftest import Site, by_model, vector_of
from tests.milvus import MilvusProcess
from tests.pictures import jpeg

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE
from futu.controller import follow
from futu.controller.app import create_app
from futu.errors import IndexUnavailableError
from futu.images.folder import hash_bytes

A, B = (jpeg(seed, (40, 30)) for seed in (1, 2))


@pytest.fixture
def milvus() -> Iterator[MilvusProcess]:
    made = MilvusProcess()
    yield made
    made.kill()


def found(site: Site, dataset: DatasetRecord, picture: bytes) -> list[str]:
    dimension = site.controller.models["similar"].dimension
    query = np.frombuffer(vector_of(hash_bytes(picture), dimension, site.model_id), "<f4")
    neighbours = site.controller.search.find(by_model(lambda _: query), [dataset], k=2).neighbours
    assert neighbours[0].similarity > 99
    return [neighbour.image.path for neighbour in neighbours]


def test_what_milvus_missed_or_lost_while_it_was_away_is_made_up_from_the_catalogue(
    tmp_path: Path, redis_url: str, milvus: MilvusProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_LOOK_AT_SERVER_S", 0.3)
    milvus.start(tmp_path / "milvus")
    site = Site(tmp_path, redis_url, index_url=milvus.url)
    client = create_app(site.controller).test_client()

    def health() -> tuple[str, str]:
        facts = client.get("/health", environ_base={"REMOTE_ADDR": "127.0.0.1"}).json
        assert facts is not None
        return facts["status"], facts["index"]["status"]

    try:
        dataset = site.fill("one", {"a.jpg": A})
        site.start()
        site.serve("server", "similar")
        site.controller.ingest.start(dataset)
        site.await_state(dataset, DONE)
        assert found(site, dataset, A) == ["a.jpg"]
        assert health() == ("healthy", "ok")
        milvus.kill()
        with pytest.raises(IndexUnavailableError, match=r"Start it, or check INDEX_URL"):
            found(site, dataset, A)
        assert health() == ("degraded", "down")
        # Builds go on without it: the catalogue has the truth.
        site.fill("one", {"b.jpg": B})
        site.controller.ingest.start(dataset)
        assert site.await_state(dataset, DONE)["added"] == 1
        milvus.start(tmp_path / "another disk")
        until(lambda: health() == ("healthy", "ok"))
        assert found(site, dataset, A)[0] == "a.jpg"
        assert found(site, dataset, B)[0] == "b.jpg"
    finally:
        site.close()


def test_index_in_a_file_of_milvus_lite_is_there_after_a_restart(
    tmp_path: Path, redis_url: str
) -> None:
    site = Site(tmp_path, redis_url, index_url=f"milvus-lite:{tmp_path}/lite/index.db")
    dataset = site.fill("one", {"a.jpg": A, "b.jpg": B})
    site.start()
    site.work()
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    site.next_controller()
    model = site.controller.models["similar"]
    ids = site.controller.indexes.make(model.model_id, model.dimension).index.ids()
    assert ids.tolist() == site.controller.catalogue.searchable_vector_ids(site.model_id).tolist()
    site.controller.start()
    assert found(site, dataset, B)[0] == "b.jpg"
    site.controller.stop()
