"""Which model serves a dataset when settings, descriptions, catalogues and servers change."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete
from tests.e2e import copying
from tests.integration.conftest import Site
from tests.integration.switching import (
    COPY,
    NEW,
    OLD,
    PICTURES,
    assert_served,
    in_memory,
    indexed,
    models,
    names,
    search,
    switch,
    switched,
)
from tests.pictures import jpeg

from futu.catalogue.schema import DONE, FAILED, PENDING, READY, DatasetModel
from futu.controller import dispatch
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.errors import NoModelError
from futu.jobs.message import ServerInfo
from futu.models.registry import former_specs, spec

LATER = {"later.jpg": jpeg(90, (40, 30))}


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """Started, with a models directory of its own."""
    made = Site(tmp_path, redis_url, batch_size=2, models_dir=tmp_path / "models")
    made.start()
    yield made
    made.close()


def restarted(site: Site, **settings: object) -> None:
    """The same site with other settings."""
    site.rest()
    site.controller.stop()
    site.settings = site.settings.model_copy(update=settings)
    site.controller = Controller(site.settings)
    site.start()


def forget_models(site: Site) -> None:
    """As a catalogue from before datasets had models of their own."""
    with site.controller.catalogue.write() as db:
        db.execute(delete(DatasetModel))


# --- settings and descriptions ----------


def test_other_default_model_is_for_new_datasets_only(site: Site) -> None:
    dataset = indexed(site)
    restarted(site, similar_model=NEW.name)
    assert names(models(site, dataset)) == (OLD.name, None, None)
    assert in_memory(site) == {OLD.model_id: 5}
    assert_served(site, dataset, OLD)
    server = site.serve_models("both", OLD, NEW)
    site.controller.ingest.start(dataset)
    assert site.await_state(dataset, DONE)["unchanged"] == 5
    assert server.done == []
    other = site.fill("two", LATER)
    site.controller.ingest.start(other)
    site.await_state(other, DONE)
    assert_served(site, other, NEW, LATER)
    assert {model for job in server.done for model in job.model_ids} == {NEW.model_id}
    # Pictures added to the first get what it is searched by.
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, OLD, PICTURES | LATER)


def test_model_of_another_description_leaves_the_old_vectors_serving(site: Site) -> None:
    folder = site.settings.models_dir
    copying.describe(folder, question="similar")
    copying.put(folder)
    before = spec(copying.NAME, folder)
    restarted(site, similar_model=copying.NAME)
    server = site.serve_models("before", before)
    dataset = site.fill("one", PICTURES)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    server.stop()
    copying.describe(folder, question="similar", resample="box")
    after = spec(copying.NAME, folder)
    assert after.model_id != before.model_id
    restarted(site)
    record = models(site, dataset).serving
    assert record.model_id == before.model_id
    # A server that still has it: all goes on.
    server = site.serve_models("before", before)
    site.controller.extraction.require_server(record)
    assert_served(site, dataset, before)
    server.stop()
    # None has it any more.
    site.serve_models("after", after)
    with pytest.raises(NoModelError) as missing:
        site.controller.extraction.require_server(record)
    for part in (f"{before.name} is {after.model_id} now", "for one", "futu models use one grid"):
        assert part in missing.value.message
    site.fill("one", LATER)
    switched(site, dataset, after)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, after, PICTURES | LATER)
    assert site.controller.catalogue.image_counts() == {dataset.id: 6}
    # And if the description is gone altogether.
    copying.describe(folder, question="similar", resample="bilinear", source="elsewhere")
    restarted(site, similar_model=OLD.name)
    (folder / f"{copying.NAME}.json").unlink()
    message = site.controller.serving.missing(models(site, dataset).serving).message
    assert "grid is not known any more" in message
    assert f"futu models use one {OLD.name}" in message


def test_copy_vectors_of_a_former_release_are_searched_until_they_are_made_anew(
    site: Site,
) -> None:
    (former,) = (s for s in former_specs() if s.name == COPY.name)
    dataset = indexed(site)
    site.serve_models("before", OLD, former)
    site.controller.catalogue.set_questions(dataset.id, ["similar", "copy"])
    dataset = site.controller.dataset("one")
    switched(site, dataset, former)
    forget_models(site)
    restarted(site)
    assert_served(site, dataset, former)
    site.serve_models("after", OLD, former, COPY)
    message = str(switched(site, dataset, COPY)["message"])
    assert f"{COPY.model_id} serves 'copy' now. The vectors of {former.model_id}" in message
    assert_served(site, dataset, COPY)


# --- catalogues from before ----------


def test_dataset_from_before_is_served_by_what_most_of_its_images_have(site: Site) -> None:
    dataset = indexed(site)
    site.serve_models("both", OLD, NEW, COPY)
    switched(site, dataset, NEW)
    forget_models(site)
    restarted(site)
    # As many of each: that of the settings.
    assert names(models(site, dataset)) == (OLD.name, None, None)
    site.serve_models("both", OLD, NEW, COPY)
    switched(site, dataset, NEW)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset, questions=["similar", "copy"])
    site.await_state(dataset, DONE)
    forget_models(site)
    restarted(site)
    assert names(models(site, dataset)) == (NEW.name, None, None)
    assert_served(site, dataset, NEW, PICTURES | LATER)
    assert_served(site, dataset, COPY, PICTURES | LATER)
    # The same again: what was found out is kept.
    restarted(site, similar_model=NEW.name)
    assert_served(site, dataset, NEW, PICTURES | LATER)


def test_images_that_lack_the_vector_of_most_others_wait_for_it(site: Site) -> None:
    dataset = indexed(site)
    site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    site.rest()
    site.controller.switch.prune([dataset])
    site.controller.switch.use(dataset, site.controller.serving.named(OLD.name))
    site.controller.ingest.cancel(dataset)
    # As after a change of the settings in former times, cut short: ready, though unsearchable.
    with site.controller.catalogue.write() as db:
        db.execute(delete(DatasetModel))
        db.exec_driver_sql(
            "DELETE FROM vectors WHERE content_hash = (SELECT content_hash FROM images "
            "WHERE path = CAST('later.jpg' AS BLOB))"
        )
    restarted(site)
    known = site.controller.catalogue.known_files(dataset.id, NEW.model_id)
    assert {path: file.state for path, file in known.items()} == {
        **dict.fromkeys(PICTURES, READY),
        "later.jpg": PENDING,
    }
    assert site.controller.catalogue.image_counts() == {dataset.id: 5}


# --- compute servers of which some lack the model that serves ----------


def test_jobs_that_a_server_without_the_model_takes_go_to_one_with_it(site: Site) -> None:
    dataset = indexed(site)
    both = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    plain = site.serve_models("plain", OLD)
    site.fill("one", LATER | {f"more{n}.jpg": jpeg(100 + n, (40, 30)) for n in range(5)})
    site.controller.ingest.start(dataset)
    progress = site.await_state(dataset, DONE)
    assert (progress["added"], progress["failed"], progress["total"]) == (6, 0, 11)
    assert all(job.model_ids == [NEW.model_id] for job in both.done[3:] + plain.done)


def test_new_pictures_fail_for_want_of_a_server_and_are_made_when_one_comes(site: Site) -> None:
    dataset = indexed(site)
    both = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    both.stop()
    site.serve_models("plain", OLD)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    progress = site.await_state(dataset, DONE)
    assert (progress["unchanged"], progress["failed"], progress["total"]) == (5, 1, 6)
    (failure,) = site.controller.catalogue.failures(dataset.id)
    assert (failure.code, "futu models pull" in failure.error) == ("no_model", True)
    site.controller.ingest.sweep()
    assert site.state(dataset) == DONE
    site.serve_models("both", OLD, NEW)
    site.controller.ingest.sweep()
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW, PICTURES | LATER)


def test_pictures_whose_job_no_able_server_takes_fail_and_are_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(dispatch, "_MOST_BOUNCES", 3)
    dataset = indexed(site)
    both = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    both.stop()
    site.serve_models("plain", OLD)
    busy = ServerInfo("busy", "h", 1, [OLD.model_id, NEW.model_id], 1, 0.0)
    site.controller.queue.servers.register(busy)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    assert site.await_state(dataset, DONE)["failed"] == 1
    assert site.files(dataset)["later.jpg"] == (FAILED, "no_model")
    site.serve_models("both", OLD, NEW)
    site.controller.ingest.sweep()
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW, PICTURES | LATER)


def test_files_new_during_a_change_away_from_a_model_that_is_gone_come_with_the_new_one(
    site: Site,
) -> None:
    dataset = indexed(site)
    site.serve_models("new", NEW)
    site.fill("one", LATER)
    switch(site, dataset, NEW)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW, PICTURES | LATER)
    image = search(site, LATER["later.jpg"], [dataset]).neighbours[0].image
    assert (image.path, image.width, image.height) == ("later.jpg", 30, 20)


# --- over HTTP ----------


@pytest.fixture
def http(site: Site) -> FlaskClient:
    return create_app(site.controller).test_client()


def listed(http: FlaskClient, name: str = "one") -> dict[str, Any]:
    found: Any = http.get("/api/datasets").json
    (dataset,) = (d for d in found["datasets"] if d["name"] == name)
    return dict(dataset)


def test_datasets_tell_which_model_serves_and_how_far_the_other_is(
    site: Site, http: FlaskClient
) -> None:
    dataset = indexed(site)
    old = {"model_id": OLD.model_id, "name": OLD.name}
    new = {"model_id": NEW.model_id, "name": NEW.name}
    assert listed(http)["models"] == {"similar": {"serving": old, "coming": None, "former": None}}
    server = site.serve_models("old", OLD)
    asked: Any = http.post(
        "/api/models/use", json={"dataset_names": ["one"], "model": NEW.name}
    ).json
    (answer,) = asked["datasets"]
    assert (answer["dataset"], answer["serving"], answer["coming"]) == ("one", old, new)
    site.await_state(dataset, DONE)
    done = {"progress": 0, "current": 0, "total": 5, "building": False}
    assert listed(http)["models"]["similar"]["coming"] == new | done
    server.stop()
    site.serve_models("both", OLD, NEW)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    found = listed(http)
    assert found["models"] == {"similar": {"serving": new, "coming": None, "former": old}}
    assert (found["indexed"], found["image_count"]) == (5, 5)
    health: Any = http.get("/health").json
    assert [
        (i["model_id"], i["vectors"]) for i in health["indexes"] if i["question"] != "copy"
    ] == [(NEW.model_id, 5)]
    answers: Any = http.get("/api/models").json
    roles = {m["model_id"]: (m["serving"], m["coming"], m["former"]) for m in answers["models"]}
    assert roles[OLD.model_id] == ([], [], ["one"])
    assert roles[NEW.model_id] == (["one"], [], [])
    back: Any = http.post("/api/models/back", json={"dataset_names": ["one"]}).json
    assert back["datasets"][0]["serving"] == old
    site.await_state(dataset, DONE)
    pruned: Any = http.post("/api/models/prune", json={}).json
    assert pruned == {"vectors": 5, "bytes": 5 * 2 * 1280, "model_ids": [NEW.model_id]}


def test_search_of_several_models_names_them(site: Site, http: FlaskClient) -> None:
    indexed(site)
    two = indexed(site, "two", LATER)
    site.serve_models("both", OLD, NEW)
    switched(site, two, NEW)

    def ask(**fields: Any) -> Any:
        upload = {"query_img": (io.BytesIO(PICTURES["1.jpg"]), "q.jpg")}
        answer = http.post("/api/search", data={**upload, **fields})
        assert answer.status_code == 200, answer.json
        return answer.json

    both = ask()
    assert (both["model_id"], both["model_ids"]) == (None, [OLD.model_id, NEW.model_id])
    first, second, *rest = both["results"]
    assert (first["fname"], first["similarity"], first["model_id"]) == ("1.jpg", 100, OLD.model_id)
    assert (second["fname"], second["model_id"]) == ("later.jpg", NEW.model_id)
    assert {r["model_id"] for r in rest} == {OLD.model_id}
    alone = ask(dataset_name="two")
    assert (alone["model_id"], len(alone["results"])) == (NEW.model_id, 1)


def test_wrong_requests_for_models_are_refused_with_a_sentence(
    site: Site, http: FlaskClient
) -> None:
    indexed(site)
    for route, body, status, part in (
        ("use", {"dataset_names": ["one"], "model": "nobody"}, 400, "There is no model"),
        ("use", {"dataset_names": ["one"]}, 400, "model"),
        ("use", {"dataset_names": ["none"], "model": NEW.name}, 404, "no dataset"),
        ("use", {"dataset_names": ["one"], "model": COPY.name}, 400, "--questions"),
        ("back", {"dataset_names": ["one"]}, 400, "No former model"),
        ("back", {"dataset_names": ["one"], "question": "same"}, 400, "similar, copy"),
        ("prune", {"dataset_names": "one"}, 400, "list"),
    ):
        answer: Any = http.post(f"/api/models/{route}", json=body)
        assert (answer.status_code, part in answer.json["error"]) == (status, True), answer.json
