"""Datasets that answer more than one question: which vectors are asked of whom, and counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import Site, by_model, vector_of
from tests.pictures import jpeg

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import BUILDING, DONE, FAILED, READY
from futu.controller import dispatch, scan
from futu.controller.neighbours import Neighbour
from futu.errors import InvalidRequestError, SettingsError
from futu.images.folder import hash_bytes, hash_file
from futu.index.faiss_file import data_path
from futu.jobs.message import ItemError, ItemResult, Job, JobResult, ServerInfo
from futu.models.registry import spec
from futu.models.spec import Question

PICTURES = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(5)}
BOTH: tuple[Question, ...] = ("similar", "copy")
SIMILAR_ID, COPY_ID = spec("efficientnet-lite0").model_id, spec("sscd-distilled").model_id


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """With small jobs, so that a dataset has several."""
    made = Site(tmp_path, redis_url, batch_size=2)
    yield made
    made.close()


def build(site: Site, dataset: DatasetRecord, questions: Sequence[str] | None = None) -> Any:
    """A build from its beginning to its end."""
    site.controller.ingest.start(dataset, questions=questions)
    return site.await_state(dataset, DONE)


def asked(jobs: Sequence[Job]) -> dict[str, Counter[bytes]]:
    """model_id -> how often each content was asked for."""
    found: dict[str, Counter[bytes]] = {}
    for job in jobs:
        for model_id in job.model_ids:
            found.setdefault(model_id, Counter()).update(job.contents())
    return found


def once(contents: dict[str, bytes]) -> Counter[bytes]:
    return Counter({hash_bytes(data): 1 for data in contents.values()})


def vectors(site: Site) -> dict[str, int]:
    """model_id -> vectors in its index."""
    return {live.model_id: len(live.index) for live in site.controller.indexes.of_model.values()}


def find(
    site: Site, query: dict[str, Any], datasets: Sequence[DatasetRecord], question: str
) -> list[Neighbour]:
    """The nearest neighbour of a query of which the vectors are given by model_id."""
    search = site.controller.search
    return search.find(by_model(lambda m: query[m.model_id]), datasets, question, k=1).neighbours


def assert_own_vectors(site: Site, contents: dict[str, bytes]) -> None:
    """Every picture finds itself, by each model in vectors of that model's length."""
    catalogue, datasets = site.controller.catalogue, site.controller.catalogue.datasets()
    for model in site.controller.serving.in_use().values():
        ids = catalogue.searchable_vector_ids(model.model_id).tolist()
        assert all(part.shape[1] == model.dimension for _, part in catalogue.vectors(ids))
        for path, data in contents.items():
            made = vector_of(hash_bytes(data), model.dimension, model.model_id)
            vector = np.frombuffer(made, "<f4")
            (best,) = find(site, {model.model_id: vector}, datasets, model.question)
            assert (best.image.path, best.similarity) == (path, 100)


def progress_counts(progress: dict[str, Any]) -> tuple[int, int, int, int]:
    assert progress["current"] == progress["total"]
    return tuple(progress[name] for name in ("added", "reused", "unchanged", "failed"))


# --- one server --------------------------------------------------------------------------------


def test_picture_is_sent_once_for_all_its_vectors(site: Site) -> None:
    site.start()
    server = site.serve("both", *BOTH)
    dataset = site.fill("one", PICTURES)
    progress = build(site, dataset, BOTH)
    assert progress_counts(progress) == (5, 0, 0, 0)
    assert "lack" not in progress["message"]
    assert all(job.model_ids == [SIMILAR_ID, COPY_ID] for job in server.done)
    assert asked(server.done)[COPY_ID] == once(PICTURES)
    assert vectors(site) == {SIMILAR_ID: 5, COPY_ID: 5}
    assert_own_vectors(site, PICTURES)
    # Kept for later builds, which find nothing to do.
    assert progress_counts(build(site, dataset)) == (0, 0, 5, 0)
    assert site.controller.dataset("one").questions == BOTH


def test_dataset_that_comes_to_answer_copy_is_asked_for_nothing_else(site: Site) -> None:
    site.start()
    server = site.serve("both", *BOTH)
    dataset = site.fill("one", PICTURES)
    build(site, dataset)
    assert asked(server.done) == {SIMILAR_ID: once(PICTURES)}
    server.done.clear()
    site.fill("one", {"new.jpg": b"new" + PICTURES["0.jpg"], "same.jpg": PICTURES["1.jpg"]})
    progress = build(site, dataset, BOTH)
    # Files that got a vector now are counted as new, all others but for the changed ones too.
    assert progress_counts(progress) == (7, 0, 0, 0)
    new = {"new.jpg": b"new" + PICTURES["0.jpg"]}
    assert asked(server.done) == {SIMILAR_ID: once(new), COPY_ID: once(PICTURES | new)}


def test_images_stay_searchable_while_further_vectors_are_on_their_way(site: Site) -> None:
    site.start()
    server = site.serve("both", *BOTH)
    dataset = site.fill("one", PICTURES)
    build(site, dataset)
    server.stop()
    site.controller.queue.servers.register(
        ServerInfo("mine", "h", 1, [SIMILAR_ID, COPY_ID], 1, 0.0)
    )
    site.controller.ingest.start(dataset, questions=BOTH)
    lease = site.lease()
    assert lease.job.model_ids == [COPY_ID]
    assert set(site.files(dataset).values()) == {(READY, None)}
    assert site.controller.search.check_indexed([dataset]) == [dataset]
    site.controller.ingest.cancel(dataset)


def test_questions_asked_for_during_a_build_are_answered_by_one_after_it(site: Site) -> None:
    site.start()
    dataset = site.fill("one", {"a.jpg": PICTURES["0.jpg"]})
    site.controller.queue.servers.register(
        ServerInfo("mine", "h", 1, [SIMILAR_ID, COPY_ID], 1, 0.0)
    )
    first = site.controller.ingest.start(dataset)
    lease = site.lease()
    assert site.controller.ingest.start(dataset, questions=BOTH) is first
    site.deliver(lease)
    rest = site.lease()
    assert rest.job.model_ids == [COPY_ID]
    assert site.state(dataset) == BUILDING
    site.controller.ingest.cancel(dataset)


def test_file_refused_under_a_further_model_stays_searchable(site: Site) -> None:
    site.start()
    dataset = site.fill("one", PICTURES)
    server = site.serve("both", *BOTH)
    build(site, dataset)
    server.stop()

    def broken(job: Job) -> JobResult:
        items = [ItemResult(error=ItemError("cannot_decode", "It is broken.")) for _ in job.items]
        return JobResult(job.job_id, "worker", items)

    site.controller.queue.servers.register(
        ServerInfo("mine", "h", 1, [SIMILAR_ID, COPY_ID], 1, 0.0)
    )
    site.work(broken)
    progress = build(site, dataset, BOTH)
    assert progress_counts(progress) == (0, 0, 5, 0)
    assert "5 images lack their copy vectors" in progress["message"]
    assert set(site.files(dataset).values()) == {(READY, None)}
    # That is not tried again unasked: there is nothing new that would help.
    site.controller.ingest.sweep()
    assert len(site.controller.catalogue.builds()) == 2


def test_file_that_has_changed_meanwhile_fails_though_it_was_counted(site: Site) -> None:
    site.start()
    dataset = site.fill("one", {"a.jpg": PICTURES["0.jpg"]})
    queue = site.controller.queue
    for name, models in (("able", [SIMILAR_ID, COPY_ID]), ("other", [SIMILAR_ID])):
        queue.servers.register(ServerInfo(name, "h", 1, models, 1, 0.0))
    site.controller.ingest.start(dataset, questions=BOTH)
    site.deliver(site.lease())
    rest = site.lease()
    assert site.controller.ingest.progress(dataset)["added"] == 1
    (site.settings.datasets_dir / "one" / "a.jpg").write_bytes(PICTURES["1.jpg"])
    changed = ItemResult(error=ItemError("changed", "Another one now."))
    queue.deliver(rest, JobResult(rest.job.job_id, "able", [changed]))
    assert progress_counts(site.await_state(dataset, DONE)) == (0, 0, 0, 1)
    assert site.files(dataset) == {"a.jpg": (FAILED, "changed")}


def test_file_found_after_its_content_was_counted_carries_what_the_first_no_longer_can(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.start()
    dataset = site.fill("one", {"a.jpg": PICTURES["0.jpg"], "b.jpg": PICTURES["0.jpg"]})
    folder, queue = site.settings.datasets_dir / "one", site.controller.queue
    for name, models in (("able", [SIMILAR_ID, COPY_ID]), ("other", [SIMILAR_ID])):
        queue.servers.register(ServerInfo(name, "h", 1, models, 1, 0.0))
    monkeypatch.setattr(scan, "_FIRST_CHUNK", 1)
    monkeypatch.setattr(scan, "_SCAN_CHUNK", 1)

    counted = threading.Event()

    def hash_after_the_first(path: str) -> bytes:
        if path.endswith("b.jpg"):
            site.deliver(site.lease())
            while site.controller.ingest.progress(dataset)["added"] == 0:
                threading.Event().wait(0.005)
            counted.set()
        return hash_file(path)

    monkeypatch.setattr(scan, "hash_file", hash_after_the_first)
    site.controller.ingest.start(dataset, questions=BOTH)
    assert counted.wait(30)
    rest = site.lease()
    (folder / "a.jpg").write_bytes(PICTURES["1.jpg"])
    changed = ItemResult(error=ItemError("changed", "Another one now."))
    queue.deliver(rest, JobResult(rest.job.job_id, "able", [changed]))
    again = site.lease()
    assert ([item.name for item in again.job.items], again.job.model_ids) == (["b.jpg"], [COPY_ID])
    vector = vector_of(hash_bytes(PICTURES["0.jpg"]), spec("sscd-distilled").dimension)
    good = ItemResult({COPY_ID: vector}, None, hash_bytes(PICTURES["0.jpg"]), 40, 30)
    queue.deliver(again, JobResult(again.job.job_id, "able", [good]))
    progress = site.await_state(dataset, DONE)
    assert progress_counts(progress) == (1, 0, 0, 1)
    assert "lack" not in str(progress["message"])


# --- no server with the model ------------------------------------------------------------------


def test_without_the_model_similar_is_indexed_and_the_message_has_the_remedy(site: Site) -> None:
    site.start()
    plain = site.serve("plain", "similar")
    dataset = site.fill("one", PICTURES)
    progress = build(site, dataset, BOTH)
    assert progress_counts(progress) == (5, 0, 0, 0)
    assert "5 images lack their copy vectors" in progress["message"]
    assert "futu models pull sscd-distilled" in progress["message"]
    assert asked(plain.done) == {SIMILAR_ID: once(PICTURES)}
    again = build(site, dataset)
    assert progress_counts(again) == (0, 0, 5, 0)
    assert "futu models pull sscd-distilled" in again["message"]
    assert len(plain.done) == 3
    site.controller.ingest.sweep()
    assert len(site.controller.catalogue.builds()) == 2


def test_server_that_appears_with_the_model_fills_in_what_lacks(site: Site) -> None:
    site.start()
    plain = site.serve("plain", "similar")
    dataset = site.fill("one", PICTURES)
    build(site, dataset, BOTH)
    plain.stop()
    server = site.serve("both", *BOTH)
    site.controller.ingest.sweep()
    progress = site.await_state(dataset, DONE)
    assert progress_counts(progress) == (5, 0, 0, 0)
    assert "lack" not in str(progress["message"])
    assert asked(server.done) == {COPY_ID: once(PICTURES)}
    assert_own_vectors(site, PICTURES)
    site.controller.ingest.sweep()
    assert len(site.controller.catalogue.builds()) == 2


# --- servers of which one has the model ----------------------------------------------------------


@pytest.mark.parametrize("first", [("similar",), BOTH])
def test_what_a_server_without_the_model_leaves_goes_to_one_with_it(
    site: Site, first: tuple[Any, ...]
) -> None:
    site.start()
    plain, able = site.serve("plain", "similar"), site.serve("able", *BOTH)
    dataset = site.fill("one", PICTURES | {"same.jpg": PICTURES["0.jpg"]})
    if first != BOTH:
        build(site, dataset, first)
    progress = build(site, dataset, BOTH)
    assert progress_counts(progress) == (6, 0, 0, 0)
    assert "lack" not in progress["message"]
    assert vectors(site) == {SIMILAR_ID: 5, COPY_ID: 5}
    done = asked([job for job in plain.done + able.done if SIMILAR_ID in job.model_ids])
    assert done[SIMILAR_ID] == once(PICTURES)
    assert_own_vectors(site, PICTURES)


def test_jobs_that_no_able_server_takes_are_given_up_after_a_while(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(dispatch, "_MOST_BOUNCES", 4)
    site.start()
    plain = site.serve("plain", "similar")
    # One that is alive and has the model, and never gets to a job.
    busy = ServerInfo("busy", "h", 1, [SIMILAR_ID, COPY_ID], 1, 0.0)
    site.controller.queue.servers.register(busy)
    dataset = site.fill("one", PICTURES)
    progress = build(site, dataset, BOTH)
    assert progress_counts(progress) == (5, 0, 0, 0)
    assert "5 images lack their copy vectors" in progress["message"]
    plain.stop()
    bounced = [job for job in plain.done if job.model_ids == [COPY_ID]]
    # More where a machine is so busy that one was taken for lost. Without a bound there is no end.
    assert 4 <= len(bounced) <= 8
    # There is a server for them: the sweep tries again.
    site.serve("able", *BOTH)
    site.controller.ingest.sweep()
    assert progress_counts(site.await_state(dataset, DONE)) == (5, 0, 0, 0)
    assert vectors(site) == {SIMILAR_ID: 5, COPY_ID: 5}


# --- later ---------------------------------------------------------------------------------------


def test_jobs_for_two_models_left_by_a_killed_controller_are_not_done_twice(site: Site) -> None:
    site.start()
    dataset = site.fill("one", PICTURES)
    site.controller.ingest.start(dataset, questions=BOTH)
    while site.controller.queue.depth()["library"] < 3:
        threading.Event().wait(0.005)
    site.next_controller()
    site.start()
    left = [job.job_id for _, job in site.controller.queue.unfinished("library")]
    while not all(site.controller.ingest.build_of(job_id) for job_id in left):
        threading.Event().wait(0.005)
    server = site.serve("both", *BOTH)
    assert progress_counts(site.await_state(dataset, DONE)) == (5, 0, 0, 0)
    assert asked(server.done) == {SIMILAR_ID: once(PICTURES), COPY_ID: once(PICTURES)}
    assert vectors(site) == {SIMILAR_ID: 5, COPY_ID: 5}


def test_indexes_are_read_and_brought_level_each_by_itself(site: Site) -> None:
    site.start()
    site.serve("both", *BOTH)
    dataset = site.fill("one", PICTURES)
    build(site, dataset, BOTH)
    site.rest()
    site.controller.stop()
    folder = site.settings.data_dir / "index"
    assert sorted(p.name for p in folder.glob("*.json")) == sorted(
        f"{model_id}.faiss.json" for model_id in (SIMILAR_ID, COPY_ID)
    )
    data_path(folder / f"{COPY_ID}.faiss").write_bytes(b"damaged")
    site.controller = type(site.controller)(site.settings)
    site.start()
    assert vectors(site) == {SIMILAR_ID: 5, COPY_ID: 5}
    assert_own_vectors(site, PICTURES)


def test_new_datasets_answer_what_the_settings_say(site: Site) -> None:
    site.settings = site.settings.model_copy(update={"questions": BOTH})
    site.controller.stop()
    site.controller = type(site.controller)(site.settings)
    assert site.fill("one", PICTURES).questions == BOTH
    below = site.settings.datasets_dir / "one" / "below"
    below.mkdir()
    assert site.controller.register(str(below), None).questions == BOTH
    assert site.controller.register(str(below), None, ("similar",)).questions == ("similar",)
    assert site.controller.register(str(below), None).questions == ("similar",)


def test_model_for_another_question_stops_the_controller(tmp_path: Path, redis_url: str) -> None:
    with pytest.raises(SettingsError, match="FUTU_SIMILAR_MODEL"):
        Site(tmp_path / "other", redis_url, similar_model="sscd")


def test_models_are_named_by_question_name_or_id(site: Site) -> None:
    for name in ("copy", "sscd-distilled", COPY_ID):
        assert site.controller.serving.in_question(name).model_id == COPY_ID
    with pytest.raises(InvalidRequestError, match="similar, efficientnet-lite0, copy"):
        site.controller.serving.in_question("sscd")
