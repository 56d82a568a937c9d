"""Searches over datasets of different models: bounds, pages, copies, indexed images as queries."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import until
from tests.integration.conftest import Site, Worker
from tests.integration.switching import COPY, NEW, OLD, switched
from tests.pictures import jpeg

from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.controller.serving import record_of

ONE = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(6)}
TWO = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(4, 9)}


class Mixed:
    """The dataset ``one`` is served by one model for ``similar``, ``two`` by another."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.site = site = Site(folder, redis_url)
        site.start()
        self.worker: Worker = site.serve_models("all", OLD, NEW, COPY)
        self.http: FlaskClient = create_app(site.controller).test_client()
        for name, contents, questions in (("one", ONE, None), ("two", TWO, ["similar", "copy"])):
            dataset = site.fill(name, contents)
            site.controller.ingest.start(dataset, questions=questions)
            site.await_state(dataset, DONE)
        switched(site, site.controller.dataset("two"), NEW)

    def ask(self, **fields: Any) -> Any:
        body = json.dumps(fields)
        answer = self.http.post("/api/search", data=body, content_type="application/json")
        assert answer.status_code == 200, answer.json
        return answer.json

    def image_id(self, name: str, path: str) -> int:
        dataset = self.site.controller.dataset(name)
        image = self.site.controller.catalogue.image_at(dataset.id, path)
        assert image is not None
        return image.id


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, valkey: str) -> Iterator[Mixed]:
    made = Mixed(tmp_path_factory.mktemp("mixed"), valkey)
    yield made
    made.site.close()


def places(answer: Any) -> list[tuple[str, str]]:
    return [(r["dataset"], r["fname"]) for r in answer["results"]]


def test_pages_of_several_models_take_them_in_turn_and_fit_together(mixed: Mixed) -> None:
    whole = mixed.ask(image_id=mixed.image_id("one", "5.jpg"), top_k=100)
    assert (whole["model_id"], whole["next_offset"]) == (None, None)
    assert whole["model_ids"] == [OLD.model_id, NEW.model_id]
    found = places(whole)
    assert len(found) == len(ONE) + len(TWO)
    # The first of each, the second of each, ... until one has no more.
    assert [dataset for dataset, _ in found] == ["one", "two"] * 5 + ["one"]
    assert found[:2] == [("one", "5.jpg"), ("two", "5.jpg")]
    for dataset, model in (("one", OLD), ("two", NEW)):
        own = [r for r in whole["results"] if r["dataset"] == dataset]
        assert {r["model_id"] for r in own} == {model.model_id}
        assert [r["cosine"] for r in own] == sorted((r["cosine"] for r in own), reverse=True)
    paged: list[tuple[str, str]] = []
    offset: int | None = 0
    while offset is not None:
        page = mixed.ask(image_id=mixed.image_id("one", "5.jpg"), top_k=4, offset=offset)
        paged += places(page)
        offset = page["next_offset"]
    assert paged == found


def test_bounds_hold_for_the_images_of_every_model(mixed: Mixed) -> None:
    sizes = sorted(len(data) for data in (ONE | TWO).values())
    least = sizes[len(sizes) // 2]
    found = mixed.ask(image_id=mixed.image_id("two", "4.jpg"), min_size=least, top_k=100)
    wanted = {("one", path) for path, data in ONE.items() if len(data) >= least}
    wanted |= {("two", path) for path, data in TWO.items() if len(data) >= least}
    assert set(places(found)) == wanted
    one = mixed.ask(
        image_id=mixed.image_id("two", "4.jpg"), dataset_names=["one"], min_similarity=99
    )
    assert (one["model_id"], places(one)) == (OLD.model_id, [("one", "4.jpg")])


def test_indexed_image_of_another_model_is_given_its_vector_by_a_compute_server(
    mixed: Mixed,
) -> None:
    asked = len(mixed.worker.done)
    found = mixed.ask(image_id=mixed.image_id("one", "0.jpg"), dataset_names=["one"])
    assert found["results"][0]["fname"] == "0.jpg"
    assert len(mixed.worker.done) == asked
    found = mixed.ask(image_id=mixed.image_id("one", "4.jpg"), dataset_names=["two"])
    assert (found["results"][0]["fname"], found["results"][0]["similarity"]) == ("4.jpg", 100)
    # That content is in both datasets; this one is not.
    assert len(mixed.worker.done) == asked
    found = mixed.ask(image_id=mixed.image_id("one", "0.jpg"), dataset_names=["two"])
    assert found["model_ids"] == [NEW.model_id]
    until(lambda: len(mixed.worker.done) > asked)
    assert [job.model_ids for job in mixed.worker.done[asked:]] == [[NEW.model_id]]


def test_one_job_has_the_vectors_of_all_models_of_an_uploaded_picture(mixed: Mixed) -> None:
    asked = len(mixed.worker.done)
    upload = {"query_img": (io.BytesIO(TWO["6.jpg"]), "q.jpg"), "mode": "auto", "top_k": "100"}
    answer = mixed.http.post("/api/search", data=upload).json
    assert answer is not None
    until(lambda: len(mixed.worker.done) > asked)
    (job,) = mixed.worker.done[asked:]
    assert set(job.model_ids) == {OLD.model_id, NEW.model_id, COPY.model_id}
    first = answer["results"][0]
    assert (first["fname"], first["match"], first["model_id"]) == ("6.jpg", "copy", COPY.model_id)
    ids = [result["id"] for result in answer["results"]]
    assert len(ids) == len(set(ids)) == len(ONE) + len(TWO)
    assert answer["model_ids"] == [OLD.model_id, NEW.model_id]


def test_index_of_each_model_in_use_is_shown_and_tuned(mixed: Mixed) -> None:
    shown = mixed.http.get("/api/index").json
    assert shown is not None
    facts = [(f["question"], f["model"], f["vectors"]) for f in shown["indexes"]]
    # The former vectors of the second dataset are kept beside the first one's.
    assert sorted(facts) == sorted(
        [("similar", OLD.name, 9), ("similar", NEW.name, 5), ("copy", COPY.name, 5)]
    )
    for body, tuned in (({"model": NEW.name}, {NEW.model_id}), ({}, {OLD.model_id, NEW.model_id})):
        answer = mixed.http.post("/api/index/tune", json={"recall": 0.9, **body})
        assert answer.json is not None
        assert (answer.status_code, set(answer.json["model_ids"])) == (202, tuned)
    wrong = mixed.http.post("/api/index/tune", json={"model": "none"})
    assert wrong.status_code == 400
    assert record_of(NEW).name in str(wrong.json)
