"""Which model a search uses, and what is said when it cannot."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.integration.conftest import Site, Worker
from tests.pictures import jpeg

from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.models.registry import spec
from futu.models.spec import Question

PICTURES = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(3)}
BOTH: tuple[Question, ...] = ("similar", "copy")
SIMILAR, COPY = spec("efficientnet-lite0"), spec("sscd-distilled")


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """Started, with a dataset."""
    made = Site(tmp_path, redis_url)
    made.start()
    made.fill("one", PICTURES)
    yield made
    made.close()


@pytest.fixture
def http(site: Site) -> FlaskClient:
    return create_app(site.controller).test_client()


def build(site: Site, http: FlaskClient, **fields: Any) -> dict[str, Any]:
    body = {"dataset_names": ["one"], **fields}
    answer = http.post("/api/build_index", json=body)
    assert answer.status_code == 200, answer.json
    return site.await_state(site.controller.dataset("one"), DONE)


def search(http: FlaskClient, **fields: str) -> Any:
    upload = {"query_img": (io.BytesIO(PICTURES["1.jpg"]), "q.jpg")}
    return http.post("/api/search", data={**upload, **fields})


def test_each_mode_searches_vectors_of_its_own_model(site: Site, http: FlaskClient) -> None:
    site.serve("both", *BOTH)
    build(site, http, questions=["copy"])
    for mode, model in (("similar", SIMILAR), ("copy", COPY)):
        answer = search(http, mode=mode)
        assert answer.status_code == 200, answer.json
        assert answer.json["model_id"] == model.model_id
        assert {r["model_id"] for r in answer.json["results"]} == {model.model_id}
        assert len(answer.json["results"]) == 3
    assert search(http).json["mode"] == "similar"
    (dataset,) = http.get("/api/datasets").json["datasets"]  # type: ignore[index]
    assert dataset["questions"] == ["similar", "copy"]


def test_unknown_mode_question_and_model_are_named(site: Site, http: FlaskClient) -> None:
    answers: list[Any] = [
        search(http, mode="same"),
        http.post("/api/build_index", json={"dataset_names": ["one"], "questions": ["same"]}),
        http.post("/api/build_index", json={"dataset_names": ["one"], "questions": "copy"}),
        http.post("/api/datasets", json={"folder": "one", "questions": ["same"]}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json["code"]) == (400, "bad_field")
        assert "similar" in answer.json["error"] or "list" in answer.json["error"]
    path = str(site.settings.datasets_dir / "one" / "1.jpg")
    for route, field in (("feature_extraction", path), ("batch_feature_extraction", [path])):
        name = "image_path" if isinstance(field, str) else "image_paths"
        refused: Any = http.post(f"/api/compute/{route}", json={name: field, "model": "sscd"})
        assert (refused.status_code, refused.json["details"]) == (400, {"field": "model"})


def test_copy_vectors_that_are_not_there_are_409_with_the_remedy(
    site: Site, http: FlaskClient
) -> None:
    site.serve("plain", "similar")
    build(site, http)
    answer = search(http, mode="copy")
    assert (answer.status_code, answer.json["code"]) == (409, "not_indexed")
    for part in ("索引", "futu models pull sscd-distilled", "--questions similar,copy"):
        assert part in answer.json["error"]


def test_model_that_no_server_has_any_more_is_503_with_the_remedy(
    site: Site, http: FlaskClient
) -> None:
    both = site.serve("both", *BOTH)
    build(site, http, questions=["similar", "copy"])
    both.stop()
    assert search(http, mode="copy").json["code"] == "no_compute_server"
    site.serve("plain", "similar")
    answer = search(http, mode="copy")
    assert (answer.status_code, answer.json["code"]) == (503, "no_model")
    assert "futu models pull sscd-distilled" in answer.json["error"]
    assert search(http).status_code == 200


def test_query_that_a_server_without_the_model_took_is_asked_again(
    site: Site, http: FlaskClient
) -> None:
    plain, able = site.serve("plain", "similar"), site.serve("able", *BOTH)
    build(site, http, questions=["similar", "copy"])

    def refused(workers: Worker) -> bool:
        return any(job.stream == "query" for job in workers.done)

    tries = 0
    while not (refused(plain) and refused(able)):
        answer = search(http, mode="copy")
        assert answer.status_code == 200, answer.json
        assert len(answer.json["results"]) == 3
        tries += 1
        assert tries < 100


def test_vectors_are_given_by_the_model_asked_for(site: Site, http: FlaskClient) -> None:
    # Batches travel on the stream of datasets' bytes, single ones on that of queries.
    site.serve("both", *BOTH)
    path = str(site.settings.datasets_dir / "one" / "1.jpg")
    for name, model in ((None, SIMILAR), ("copy", COPY), ("sscd-distilled", COPY)):
        more = {"model": name} if name else {}
        one: Any = http.post("/api/compute/feature_extraction", json={"image_path": path, **more})
        assert (one.json["dimension"], one.json["model_id"]) == (model.dimension, model.model_id)
        body = {"image_paths": [path], **more}
        many: Any = http.post("/api/compute/batch_feature_extraction", json=body)
        assert many.json["model_id"] == model.model_id
        assert many.json["results"][0]["feature"] == one.json["feature"]


def test_health_lists_the_index_of_each_question(site: Site, http: FlaskClient) -> None:
    site.serve("both", *BOTH)
    site.serve("plain", "similar")
    build(site, http, questions=["similar", "copy"])
    health: Any = http.get("/health").json
    assert health["index"]["model_id"] == SIMILAR.model_id
    listed = [
        (i["question"], i["model_id"], i["vectors"], i["compute_servers"])
        for i in health["indexes"]
    ]
    assert listed == [("similar", SIMILAR.model_id, 3, 2), ("copy", COPY.model_id, 3, 1)]
