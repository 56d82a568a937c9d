"""What scans make of changed, moved, deleted and unreachable files; vectors are not made twice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.integration.conftest import Site, vector_of
from tests.integration.privileges import without_override
from tests.pictures import jpeg

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE, ERROR, FAILED, MISSING, PENDING, READY, UNCONFIRMED
from futu.controller import scan
from futu.controller.app import create_app
from futu.images.folder import hash_bytes, hash_file
from futu.jobs.message import Job, JobResult

PICTURE = jpeg(1, (40, 30))
LONG_AGO_S = 1_600_000_000


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    made = Site(tmp_path, redis_url, batch_size=8)
    made.start()
    yield made
    made.close()


def content(number: int) -> bytes:
    return PICTURE + b"%05d" % number


def many(count: int, start: int = 0) -> dict[str, bytes]:
    return {f"{n:03}.jpg": content(n) for n in range(start, start + count)}


def built(
    site: Site, dataset: DatasetRecord, state: str = DONE, *, confirm_missing: bool = False
) -> dict[str, Any]:
    site.controller.ingest.start(dataset, confirm_missing=confirm_missing)
    progress = site.await_state(dataset, DONE, ERROR, UNCONFIRMED)
    assert progress["state"] == state, progress["message"]
    return progress


def states(site: Site, dataset: DatasetRecord) -> dict[str, str]:
    return {path: state for path, (state, _) in site.files(dataset).items()}


def age(folder: str) -> None:
    """Let all files be old, so that no scan doubts their time."""
    for where, _, names in os.walk(folder):
        for name in names:
            os.utime(os.path.join(where, name), (LONG_AGO_S, LONG_AGO_S))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that scans have read."""
    read: list[str] = []

    def noted(path: str) -> bytes:
        read.append(os.path.basename(path))
        return hash_file(path)

    monkeypatch.setattr(scan, "hash_file", noted)
    return read


# --- changed, moved, the same -----------------------------------------------------------------


def test_moved_and_renamed_files_keep_their_vectors(site: Site) -> None:
    dataset = site.fill("one", many(30))
    worker = site.work()
    built(site, dataset)
    folder = Path(dataset.folder)
    vectors = set(site.controller.catalogue.searchable_vector_ids(site.model_id).tolist())
    worker.done.clear()
    # All of them: far more than may vanish, but none has.
    (folder / "2019" / "summer").mkdir(parents=True)
    for path in list(folder.glob("*.jpg")):
        path.rename(folder / "2019" / "summer" / f"IMG_{path.name}")
    progress = built(site, dataset)
    assert worker.done == []
    assert (progress["reused"], progress["missing"]) == (30, 30)
    found = states(site, dataset)
    assert sum(state == READY for state in found.values()) == 30
    assert found["000.jpg"] == MISSING
    assert found["2019/summer/IMG_000.jpg"] == READY
    assert set(site.controller.indexes["similar"].index.ids().tolist()) == vectors


def test_only_new_and_changed_files_are_read(site: Site, hashed: list[str]) -> None:
    dataset = site.fill("one", many(12))
    age(dataset.folder)
    worker = site.work()
    built(site, dataset)
    hashed.clear()
    worker.done.clear()
    assert built(site, dataset)["unchanged"] == 12
    assert (hashed, worker.done) == ([], [])
    (Path(dataset.folder) / "003.jpg").write_bytes(content(99))
    (Path(dataset.folder) / "new.jpg").write_bytes(content(4))
    progress = built(site, dataset)
    assert sorted(hashed) == ["003.jpg", "new.jpg"]
    assert (progress["added"], progress["reused"], progress["unchanged"]) == (1, 1, 11)
    assert [item.content_hash for job in worker.done for item in job.items] == [
        hash_bytes(content(99))
    ]


def test_change_of_the_same_size_within_a_tick_is_noticed(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": content(1)})
    site.work()
    file = Path(dataset.folder) / "a.jpg"
    built(site, dataset)
    before = file.stat()
    file.write_bytes(content(2))
    # The clock of the file system has not moved on.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert built(site, dataset)["added"] == 1
    ids = site.controller.catalogue.vector_ids([hash_bytes(content(2))], site.model_id)
    assert site.controller.indexes["similar"].index.ids().tolist() == list(ids.values())


def test_young_file_is_read_again_until_its_time_can_be_trusted(
    site: Site, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = site.fill("one", {"a.jpg": content(1), "b.jpg": content(2)})
    bad = hash_bytes(content(2))

    def answer(job: Job) -> JobResult:
        found = site.good(job)
        for number, item in enumerate(job.items):
            if item.content_hash == bad:
                found.items[number] = site.bad(job).items[number]
        return found

    worker = site.work(answer)
    built(site, dataset)
    worker.done.clear()
    hashed.clear()
    first = built(site, dataset)
    assert sorted(hashed) == ["a.jpg", "b.jpg"]
    now_ns = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    for _ in range(2):
        built(site, dataset)
    assert sorted(hashed) == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    assert worker.done == []
    assert (first["unchanged"], first["failed"]) == (1, 1)


def test_file_that_was_half_written_is_tried_again_when_it_is_whole(site: Site) -> None:
    whole = content(5)
    dataset = site.fill("one", {"a.jpg": whole[:200]})
    half = hash_bytes(whole[:200])
    site.work(lambda job: site.bad(job) if job.items[0].content_hash == half else site.good(job))
    assert built(site, dataset)["failed"] == 1
    assert built(site, dataset)["failed"] == 1
    (Path(dataset.folder) / "a.jpg").write_bytes(whole)
    assert built(site, dataset)["added"] == 1
    assert states(site, dataset) == {"a.jpg": READY}


def test_names_that_are_not_utf8_are_indexed_and_served(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": content(1)})
    odd = os.fsdecode(b"\xff\xfe.jpg")
    (Path(dataset.folder) / odd).write_bytes(content(2))
    (Path(dataset.folder) / os.fsdecode(b"d\xe9j\xe0")).mkdir()
    deep = os.fsdecode(b"d\xe9j\xe0/b.jpg")
    (Path(dataset.folder) / deep).write_bytes(content(3))
    worker = site.work()
    assert built(site, dataset)["added"] == 3
    worker.done.clear()
    assert built(site, dataset)["unchanged"] == 3
    assert states(site, dataset) == {"a.jpg": READY, odd: READY, deep: READY}
    (Path(dataset.folder) / odd).unlink()
    assert built(site, dataset)["missing"] == 1
    assert worker.done == []


# --- two datasets ------------------------------------------------------------------------------


def test_file_in_two_datasets_is_asked_for_once_and_leaves_each_by_itself(site: Site) -> None:
    one, two = (site.fill(name, {"a.jpg": content(1)}) for name in ("one", "two"))
    worker = site.work()
    assert built(site, one)["added"] == 1
    assert built(site, two)["reused"] == 1
    assert len(worker.done) == 1
    (Path(one.folder) / "a.jpg").unlink()
    assert built(site, one)["missing"] == 1
    (found,) = nearest(site, content(1), one, two)
    assert found.image.dataset == "two"


def test_dataset_inside_another_shares_its_vectors(site: Site) -> None:
    outer = site.fill("outer", {"a.jpg": content(1)})
    inner_folder = Path(outer.folder) / "inner"
    inner_folder.mkdir()
    (inner_folder / "b.jpg").write_bytes(content(2))
    inner = site.controller.register(str(inner_folder), "inner")
    worker = site.work()
    assert built(site, outer)["added"] == 2
    worker.done.clear()
    assert built(site, inner)["reused"] == 1
    assert worker.done == []
    assert set(states(site, outer)) == {"a.jpg", "inner/b.jpg"}
    assert set(states(site, inner)) == {"b.jpg"}


# --- what cannot be looked into ------------------------------------------------------------------


def test_files_in_an_unreadable_folder_stay_as_they_were(tmp_path: Path, redis_url: str) -> None:
    with without_override():
        site = Site(tmp_path, redis_url)
        try:
            site.start()
            dataset = site.fill("one", many(3))
            locked = Path(dataset.folder) / "locked"
            shutil.copytree(dataset.folder, locked)
            (locked / "own.jpg").write_bytes(content(50))
            worker = site.work()
            built(site, dataset)
            worker.done.clear()
            locked.chmod(0)
            progress = built(site, dataset)
            assert progress["missing"] == 0
            assert "locked" in progress["message"]
            assert "4 known images in them stay" in progress["message"]
            (failure,) = site.controller.catalogue.failures(dataset.id)
            assert (failure.path, failure.code) == ("locked", "unreadable")
            found = states(site, dataset)
            assert [found[f"locked/{name}"] for name in ("000.jpg", "own.jpg")] == [READY] * 2
            assert {n.image.path for n in nearest(site, content(50), dataset)} > {"locked/own.jpg"}
            locked.chmod(0o700)
            assert built(site, dataset)["unchanged"] == 7
            assert site.controller.catalogue.failures(dataset.id) == []
            assert worker.done == []
        finally:
            site.close()


def test_link_out_of_the_roots_is_refused_and_links_to_itself_end(
    site: Site, tmp_path: Path
) -> None:
    dataset = site.fill("one", many(2))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(content(70))
    folder = Path(dataset.folder)
    (folder / "loop").symlink_to(folder)
    (folder / "out").symlink_to(outside)
    (folder / "secret.jpg").symlink_to(outside / "secret.jpg")
    site.work()
    progress = built(site, dataset)
    assert (progress["added"], progress["failed"]) == (2, 2)
    assert {f.path: f.code for f in site.controller.catalogue.failures(dataset.id)} == {
        "out": "outside_roots",
        "secret.jpg": "outside_roots",
    }


# --- vanished by the score -----------------------------------------------------------------------


@pytest.mark.parametrize(("gone", "state"), [(10, DONE), (11, UNCONFIRMED)])
def test_more_than_the_share_is_forgotten_only_when_confirmed(
    site: Site, gone: int, state: str
) -> None:
    dataset = site.fill("one", many(50))
    site.work()
    built(site, dataset)
    for n in range(gone):
        (Path(dataset.folder) / f"{n:03}.jpg").unlink()
    progress = built(site, dataset, state)
    held = state == UNCONFIRMED
    assert progress["missing"] == (0 if held else gone)
    assert list(states(site, dataset).values()).count(READY) == (50 if held else 50 - gone)
    if held:
        assert progress["status"] == "error"
        for part in ("11 of the 50", "22 %", "20 %", "futu index one --confirm-missing", "mount"):
            assert part in progress["message"]
        # Asking again without confirming changes nothing; results stay.
        built(site, dataset, UNCONFIRMED)
        assert len(nearest(site, content(0), dataset)) == 50
        assert built(site, dataset, confirm_missing=True)["missing"] == gone
        assert list(states(site, dataset).values()).count(MISSING) == gone
    built(site, dataset)


def test_share_is_a_setting(tmp_path: Path, redis_url: str) -> None:
    site = Site(tmp_path, redis_url, max_missing_share=0.5)
    try:
        site.start()
        dataset = site.fill("one", many(40))
        site.work()
        built(site, dataset)
        for n in range(20):
            (Path(dataset.folder) / f"{n:03}.jpg").unlink()
        assert built(site, dataset)["missing"] == 20
    finally:
        site.close()


@pytest.mark.parametrize("mount_point", ["missing", "empty"])
def test_disk_that_is_not_mounted_is_no_deletion(site: Site, mount_point: str) -> None:
    dataset = site.fill("one", many(20))
    worker = site.work()
    built(site, dataset)
    worker.done.clear()
    folder, away = Path(dataset.folder), site.folder / "away"
    folder.rename(away)
    if mount_point == "empty":
        folder.mkdir()
    progress = built(site, dataset, UNCONFIRMED if mount_point == "empty" else ERROR)
    assert "mount" in progress["message"]
    assert set(states(site, dataset).values()) == {READY}
    # Whoever searches meanwhile still learns what he has.
    assert len(nearest(site, content(0), dataset)) == 20
    assert set(states(site, dataset).values()) == {READY}
    if folder.exists():
        folder.rmdir()
    away.rename(folder)
    assert built(site, dataset)["unchanged"] == 20
    assert worker.done == []


def test_folder_unplugged_while_indexing_forgets_and_fails_nothing(site: Site) -> None:
    dataset = site.fill("one", many(8))
    site.controller.ingest.start(dataset)
    lease = site.lease()
    folder, away = Path(dataset.folder), site.folder / "away"
    folder.rename(away)
    folder.mkdir()
    site.deliver(lease)  # none of the files is there, for the server
    progress = site.await_state(dataset, ERROR, DONE)
    assert "taken away" in str(progress["message"])
    assert set(states(site, dataset).values()) == {PENDING}
    folder.rmdir()
    away.rename(folder)
    site.work()
    assert built(site, dataset)["added"] == 8
    assert set(states(site, dataset).values()) == {READY}


def test_confirmation_outlives_a_killed_controller(site: Site) -> None:
    dataset = site.fill("one", many(20))
    site.work()
    built(site, dataset)
    shutil.rmtree(dataset.folder)
    Path(dataset.folder).mkdir()
    site.kill_after(1)
    site.controller.ingest.start(dataset, confirm_missing=True)
    site.next_controller()
    site.start()
    site.await_state(dataset, DONE)
    assert set(states(site, dataset).values()) == {MISSING}


def test_confirmation_during_a_build_is_not_lost(site: Site) -> None:
    dataset = site.fill("one", many(20))
    site.work()
    built(site, dataset)
    site.rest()
    for n in range(20):
        (Path(dataset.folder) / f"{n:03}.jpg").unlink()
    (Path(dataset.folder) / "new.jpg").write_bytes(content(500))
    http = create_app(site.controller).test_client()
    site.controller.ingest.start(dataset)
    lease = site.lease()
    until(lambda: site.controller.ingest.is_under_way(dataset))
    answer = http.post("/api/build_index", json={"dataset_names": ["one"], "confirm_missing": True})
    assert answer.status_code == 200
    site.deliver(lease)
    until(lambda: list(states(site, dataset).values()).count(MISSING) == 20)
    assert site.await_state(dataset, DONE)["total"] == 1


# --- results whose file is gone ------------------------------------------------------------------


def nearest(site: Site, data: bytes, *datasets: DatasetRecord, k: int = 100) -> list[Any]:
    live = site.controller.indexes["similar"]
    vector = np.frombuffer(vector_of(hash_bytes(data), live.dimension), "<f4")
    return site.controller.search.neighbours(vector, datasets, k=k)


def test_result_whose_file_was_deleted_is_dropped_at_once(site: Site) -> None:
    dataset = site.fill("one", many(30))
    site.work()
    built(site, dataset)
    for n in range(5):
        (Path(dataset.folder) / f"{n:03}.jpg").unlink()
    found = nearest(site, content(0), dataset, k=25)
    # Others have taken their places.
    assert len({n.image.path for n in found}) == 25
    assert all(os.path.exists(os.path.join(n.image.folder, n.image.path)) for n in found)
    assert states(site, dataset)["000.jpg"] == MISSING
    (Path(dataset.folder) / "000.jpg").write_bytes(content(0))
    built(site, dataset)
    assert nearest(site, content(0), dataset, k=1)[0].image.path == "000.jpg"


@pytest.mark.parametrize("count", [9, 10])
def test_result_in_a_folder_that_became_empty_is_kept_if_a_disk_may_be_missing(
    site: Site, count: int
) -> None:
    dataset = site.fill("one", many(3, 900))
    below = Path(dataset.folder) / "usb"
    below.mkdir()
    for name, data in many(count).items():
        (below / name).write_bytes(data)
    site.work()
    built(site, dataset)
    shutil.rmtree(below)
    below.mkdir()
    found = {n.image.path for n in nearest(site, content(0), dataset)}
    forgotten = count < 10
    assert len(found) == (3 if forgotten else 13)
    assert states(site, dataset)["usb/000.jpg"] == (MISSING if forgotten else READY)
    # A folder that is gone altogether was no mount point.
    below.rmdir()
    assert len(nearest(site, content(0), dataset)) == 3


def test_file_that_failed_to_be_read_is_tried_again(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": content(1)})
    (Path(dataset.folder) / "b.jpg").symlink_to(Path(dataset.folder) / "later.bin")
    site.work()
    assert built(site, dataset)["failed"] == 1
    assert site.files(dataset)["b.jpg"] == (FAILED, "missing_file")
    (Path(dataset.folder) / "later.bin").write_bytes(content(2))
    assert built(site, dataset)["added"] == 1
    (Path(dataset.folder) / "later.bin").unlink()
    assert built(site, dataset)["missing"] == 1
    assert states(site, dataset) == {"a.jpg": READY, "b.jpg": MISSING}
