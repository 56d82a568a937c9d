"""The model of a dataset is changed while the former one is searched; and changed back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import Site, looked_at
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

from futu.catalogue.schema import BUILDING, CANCELLED, DONE, FAILED, PENDING, READY
from futu.controller.neighbours import Page
from futu.errors import InvalidRequestError, NotIndexedError
from futu.images.folder import hash_bytes
from futu.jobs.message import ItemError, ItemResult, Job, JobResult, ServerInfo
from futu.models.registry import spec

LATER = {"later.jpg": jpeg(90, (40, 30))}
OLD_NAME, NEW_NAME = OLD.name, NEW.name


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """Started, with small jobs, so that a dataset has several."""
    made = Site(tmp_path, redis_url, batch_size=2)
    made.start()
    yield made
    made.close()


def alive(site: Site, *model_ids: str) -> None:
    """A compute server of which the test itself leases and delivers the jobs."""
    site.controller.queue.servers.register(ServerInfo("mine", "h", 1, list(model_ids), 1, 0.0))


def answered(job: Job) -> JobResult:
    dimensions = {m.model_id: m.dimension for m in (OLD, NEW, COPY)}
    wanted = {model_id: dimensions[model_id] for model_id in job.model_ids}
    return JobResult(job.job_id, "mine", [looked_at(item, 0, wanted) for item in job.items])


# --- there ----------


def test_old_model_serves_until_the_last_vector_of_the_new_one_is_there(site: Site) -> None:
    dataset = indexed(site)
    alive(site, OLD.model_id, NEW.model_id)
    switch(site, dataset, NEW)
    for _ in range(3):
        lease = site.lease()
        assert lease.job.model_ids == [NEW.model_id]
        assert site.state(dataset) == BUILDING
        assert names(models(site, dataset)) == (OLD_NAME, NEW_NAME, None)
        assert_served(site, dataset, OLD)
        assert set(site.files(dataset).values()) == {(READY, None)}
        site.deliver(lease, answered)
    message = str(site.await_state(dataset, DONE)["message"])
    assert names(models(site, dataset)) == (NEW_NAME, None, OLD_NAME)
    assert f"{NEW_NAME} serves 'similar' now" in message
    assert_served(site, dataset, NEW)
    assert in_memory(site) == {NEW.model_id: 5}
    # Whatever is found unchanged is not asked for again.
    site.controller.ingest.start(dataset)
    assert site.await_state(dataset, DONE)["unchanged"] == 5


def test_picture_added_during_the_change_is_searchable_before_and_after_it(site: Site) -> None:
    dataset = indexed(site)
    site.fill("one", LATER)
    alive(site, OLD.model_id, NEW.model_id)
    switch(site, dataset, NEW)
    leases = [site.lease() for _ in range(4)]
    (both,) = (lease for lease in leases if len(lease.job.model_ids) == 2)
    site.deliver(both, answered)
    while len(site.controller.indexes.of_model[OLD.model_id].index) < 6:
        threading.Event().wait(0.005)
    assert_served(site, dataset, OLD, PICTURES | LATER)
    for lease in leases:
        if lease is not both:
            site.deliver(lease, answered)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW, PICTURES | LATER)


def test_change_cut_short_goes_on_and_asks_for_nothing_twice(site: Site) -> None:
    dataset = indexed(site)
    alive(site, NEW.model_id)
    switch(site, dataset, NEW)
    first = site.lease()
    site.deliver(first, answered)
    while len(site.controller.indexes.of_model[NEW.model_id].index) < 2:
        threading.Event().wait(0.005)
    assert site.controller.ingest.cancel(dataset)
    assert_served(site, dataset, OLD)
    site.controller.ingest.sweep()
    assert site.state(dataset) == CANCELLED
    server = site.serve_models("both", OLD, NEW)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    asked = [item.content_hash for job in server.done for item in job.items]
    assert len(asked) == 3
    assert not set(asked) & {item.content_hash for item in first.job.items}
    assert_served(site, dataset, NEW)


def test_change_asked_for_during_a_build_follows_it(site: Site) -> None:
    dataset = indexed(site)
    site.fill("one", LATER)
    alive(site, OLD.model_id, NEW.model_id)
    site.controller.ingest.start(dataset)
    lease = site.lease()
    switch(site, dataset, NEW)
    site.deliver(lease, answered)
    site.serve_models("both", OLD, NEW)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW, PICTURES | LATER)


def test_dataset_without_vectors_takes_its_model_at_once(site: Site) -> None:
    dataset = site.fill("one", PICTURES)
    site.serve_models("new", NEW)
    switched(site, dataset, NEW)
    assert names(models(site, dataset)) == (NEW_NAME, None, None)
    assert_served(site, dataset, NEW)


def test_first_build_begun_for_another_model_is_replaced(site: Site) -> None:
    dataset = site.fill("one", PICTURES)
    alive(site, OLD.model_id)
    site.controller.ingest.start(dataset)
    late = site.lease()
    site.serve_models("new", NEW)
    switch(site, dataset, NEW)
    site.controller.queue.deliver(late, answered(late.job))
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW)


def test_change_waits_for_a_server_with_the_model_and_says_so(site: Site) -> None:
    dataset = indexed(site)
    server = site.serve_models("old", OLD)
    message = str(switched(site, dataset, NEW)["message"])
    for part in (f"{OLD_NAME} still serves", "5 images", f"futu models pull {NEW_NAME}"):
        assert part in message
    assert server.done == []
    site.controller.ingest.sweep()
    assert len(site.controller.catalogue.builds()) == 2
    site.serve_models("new", OLD, NEW)
    site.controller.ingest.sweep()
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW)


def test_copy_model_is_changed_without_a_touch_to_similar(site: Site) -> None:
    server = site.serve_models("all", OLD, COPY)
    dataset = site.fill("one", PICTURES)
    site.controller.ingest.start(dataset, questions=["similar", "copy"])
    site.await_state(dataset, DONE)
    server.stop()
    other = spec("sscd")
    site.serve_models("all", OLD, COPY, other)
    dataset = site.controller.dataset("one")
    message = str(switched(site, dataset, other)["message"])
    assert "futu models use one --back --question copy" in message
    assert names(models(site, dataset, "copy")) == ("sscd", None, COPY.name)
    assert_served(site, dataset, other)
    assert_served(site, dataset, OLD)
    site.controller.switch.back(dataset, "copy")
    assert_served(site, dataset, COPY)


def test_model_of_a_question_that_is_not_answered_is_refused(site: Site) -> None:
    dataset = indexed(site)
    with pytest.raises(InvalidRequestError, match="--questions similar,copy"):
        switch(site, dataset, COPY)
    with pytest.raises(InvalidRequestError, match="copy"):
        site.controller.switch.back(dataset, "copy")


# --- pictures of which the new model makes nothing ----------


def refusing(code: str) -> ItemResult:
    return ItemResult(error=ItemError(code, "So it is."))


def test_picture_that_the_new_model_cannot_have_does_not_hold_up_the_others(site: Site) -> None:
    dataset = indexed(site)
    alive(site, NEW.model_id)
    refused = hash_bytes(PICTURES["3.jpg"])

    def answer(job: Job) -> JobResult:
        result = answered(job)
        for place, item in enumerate(job.items):
            if item.content_hash == refused:
                result.items[place] = refusing("too_large")
        return result

    site.work(answer)
    switched(site, dataset, NEW)
    assert site.files(dataset)["3.jpg"] == (FAILED, "too_large")
    assert_served(site, dataset, NEW, {k: v for k, v in PICTURES.items() if k != "3.jpg"})
    # It had a vector of the old model, which is searched again.
    site.controller.switch.back(dataset, "similar")
    site.await_state(dataset, DONE)
    assert_served(site, dataset, OLD)


def test_job_that_failed_holds_up_the_change(site: Site) -> None:
    dataset = indexed(site)
    alive(site, NEW.model_id)
    failed = [ItemError("job_failed", "Once.")]

    def answer(job: Job) -> JobResult:
        if failed:
            return JobResult(job.job_id, "mine", [], failed.pop())
        return answered(job)

    site.work(answer)
    message = str(switched(site, dataset, NEW)["message"])
    assert "2 images lack their vectors" in message
    assert names(models(site, dataset)) == (OLD_NAME, NEW_NAME, None)
    assert_served(site, dataset, OLD)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, NEW)


# --- back ----------


def test_former_model_serves_again_at_once_and_without_a_job(site: Site) -> None:
    dataset = indexed(site)
    server = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    server.stop()
    server.done.clear()
    answer = site.controller.switch.back(dataset, "similar")
    assert "Every image has its vector" in answer.message
    assert_served(site, dataset, OLD)
    assert names(models(site, dataset)) == (OLD_NAME, None, NEW_NAME)
    site.await_state(dataset, DONE)
    site.controller.switch.back(dataset, "similar")
    assert_served(site, dataset, NEW)


def test_picture_added_since_gets_its_vector_of_the_former_model(site: Site) -> None:
    dataset = indexed(site)
    server = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    server.stop()
    answer = site.controller.switch.back(dataset, "similar")
    assert "1 image added since lacks its vector and is made now" in answer.message
    assert_served(site, dataset, OLD)
    assert site.files(dataset)["later.jpg"] == (PENDING, None)
    assert site.controller.catalogue.image_counts() == {dataset.id: 5}
    site.serve_models("both", OLD, NEW)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, OLD, PICTURES | LATER)


def test_back_during_a_change_drops_it(site: Site) -> None:
    dataset = indexed(site)
    alive(site, OLD.model_id, NEW.model_id)
    switch(site, dataset, NEW)
    site.lease()
    answer = site.controller.switch.back(dataset, "similar")
    assert f"The change to {NEW_NAME} is dropped" in answer.message
    assert names(models(site, dataset)) == (OLD_NAME, None, None)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, OLD)
    assert in_memory(site) == {OLD.model_id: 5}
    with pytest.raises(InvalidRequestError, match="No former model"):
        site.controller.switch.back(dataset, "similar")


def test_scan_under_way_for_the_other_model_writes_nothing(site: Site) -> None:
    dataset = indexed(site)
    server = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    site.fill("one", LATER)
    server.stop()
    catalogue, held = site.controller.catalogue, threading.Event()
    write, go_on = catalogue.write_files, threading.Event()
    written: list[bool] = []

    def late(*given: object) -> bool:
        if not held.is_set():
            held.set()
            assert go_on.wait(30)
        written.append(write(*given))  # type: ignore[arg-type]
        return written[-1]

    catalogue.write_files = late  # type: ignore[method-assign,assignment]
    site.controller.ingest.start(dataset)
    assert held.wait(30)
    going = threading.Thread(target=site.controller.switch.back, args=(dataset, "similar"))
    going.start()
    while models(site, dataset).serving.name != OLD_NAME:
        threading.Event().wait(0.005)
    go_on.set()
    going.join()
    site.serve_models("both", OLD, NEW)
    site.await_state(dataset, DONE)
    assert written == [False, True]
    assert_served(site, dataset, OLD, PICTURES | LATER)


# --- while it is searched ----------


def test_searches_see_the_one_model_or_the_other_whole(site: Site) -> None:
    dataset = indexed(site)
    site.serve_models("both", OLD, NEW)
    found: list[Page] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            found.append(search(site, PICTURES["1.jpg"], [dataset]))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    switched(site, dataset, NEW)
    for _ in range(10):
        site.controller.switch.back(dataset, "similar")
    stop.set()
    for looker in lookers:
        looker.join()
    assert len(found) > 20
    for one in found:
        (model_id,) = one.model_ids
        assert {n.model_id for n in one.neighbours} == {model_id}
        assert sorted(n.image.path for n in one.neighbours) == sorted(PICTURES)
        assert (one.neighbours[0].image.path, one.neighbours[0].similarity) == ("1.jpg", 100)
    assert len({one.model_ids for one in found}) == 2


def test_search_under_way_during_a_change_begins_again(site: Site) -> None:
    dataset = indexed(site)
    server = site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    server.stop()
    images = site.controller.catalogue.images_of_vectors
    times: list[int] = []

    def change_first(*given: object) -> object:
        if not times:
            times.append(1)
            site.controller.switch.back(dataset, "similar")
        return images(*given)  # type: ignore[arg-type]

    site.controller.catalogue.images_of_vectors = change_first  # type: ignore[method-assign,assignment]
    found = search(site, PICTURES["1.jpg"], [dataset])
    # Neither the new model without the image that waits now, nor both.
    assert found.model_ids == (OLD.model_id,)
    assert sorted(n.image.path for n in found.neighbours) == sorted(PICTURES)


# --- several datasets ----------


def test_datasets_of_different_models_are_ranked_each_by_its_own(site: Site) -> None:
    one = indexed(site)
    two = indexed(site, "two", {f"b{path}": data for path, data in PICTURES.items()})
    site.serve_models("both", OLD, NEW)
    switched(site, two, NEW)
    assert in_memory(site) == {OLD.model_id: 5, NEW.model_id: 5}
    found = search(site, PICTURES["2.jpg"])
    assert found.model_ids == (OLD.model_id, NEW.model_id)
    assert [n.image.dataset for n in found.neighbours] == ["one", "two"] * 5
    assert [n.image.path for n in found.neighbours[:2]] == ["2.jpg", "b2.jpg"]
    for place, dataset in enumerate((one, two)):
        alone = search(site, PICTURES["2.jpg"], [dataset]).neighbours
        assert found.neighbours[place::2] == alone
    # Pages are parts of the same list.
    pages = [search(site, PICTURES["2.jpg"], k=3, offset=n).neighbours for n in (0, 3, 6, 9)]
    assert [n for page in pages for n in page] == found.neighbours


def test_files_of_equal_content_are_searchable_by_the_model_of_their_own_dataset(
    site: Site,
) -> None:
    one = indexed(site)
    server = site.serve_models("both", OLD, NEW)
    switched(site, one, NEW)
    server.stop()
    site.fill("one", LATER)
    two = site.fill("two", LATER)
    alive(site, OLD.model_id, NEW.model_id)
    leases = {}
    for dataset in (one, two):
        site.controller.ingest.start(dataset)
        lease = site.lease()
        leases[lease.job.model_ids[0]] = lease
    site.deliver(leases[NEW.model_id], answered)
    site.await_state(one, DONE)
    assert_served(site, one, NEW, PICTURES | LATER)
    states = {p: f.state for p, f in site.controller.catalogue.known_files(two.id, "").items()}
    assert states == {"later.jpg": PENDING}
    site.deliver(leases[OLD.model_id], answered)
    site.await_state(two, DONE)
    assert names(models(site, two)) == (OLD_NAME, None, None)
    assert_served(site, two, OLD, LATER)


# --- pruned ----------


def test_pruned_vectors_are_those_that_no_dataset_keeps(site: Site) -> None:
    one = indexed(site)
    two = indexed(site, "two", {"same.jpg": PICTURES["0.jpg"]})
    site.serve_models("both", OLD, NEW)
    switched(site, one, NEW)
    files = site.settings.data_dir / "index"
    pruned = site.controller.switch.prune([one])
    assert (pruned.vectors, pruned.model_ids) == (4, ())
    assert pruned.size_bytes == 4 * 2 * OLD.dimension
    assert_served(site, two, OLD, {"same.jpg": PICTURES["0.jpg"]})
    assert_served(site, one, NEW)
    with pytest.raises(InvalidRequestError, match="pruned"):
        site.controller.switch.back(one, "similar")
    switched(site, two, NEW)
    assert list(files.glob(f"{OLD.model_id}.faiss*"))
    pruned = site.controller.switch.prune(site.controller.catalogue.datasets())
    assert (pruned.vectors, pruned.model_ids) == (1, (OLD.model_id,))
    assert not list(files.glob(f"{OLD.model_id}*"))
    assert in_memory(site) == {NEW.model_id: 5}
    for dataset, contents in ((one, PICTURES), (two, {"same.jpg": PICTURES["0.jpg"]})):
        assert_served(site, dataset, NEW, contents)
    # They are made again when they are asked for.
    switched(site, one, OLD)
    assert_served(site, one, OLD)


def test_what_a_change_under_way_has_made_is_not_pruned(site: Site) -> None:
    dataset = indexed(site)
    alive(site, NEW.model_id)
    switch(site, dataset, NEW)
    site.deliver(site.lease(), answered)
    while len(site.controller.indexes.of_model[NEW.model_id].index) < 2:
        threading.Event().wait(0.005)
    assert site.controller.switch.prune([dataset]).vectors == 0
    site.controller.switch.back(dataset, "similar")
    assert site.controller.switch.prune([dataset]).vectors == 2


def test_copy_is_not_answered_by_vectors_of_a_dataset_that_does_not_answer_it(site: Site) -> None:
    dataset = indexed(site)
    with pytest.raises(NotIndexedError):
        search(site, PICTURES["1.jpg"], [dataset], "copy")
