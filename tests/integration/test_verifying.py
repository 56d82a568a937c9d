"""Every disagreement of disk, catalogue and index is found, named and mended."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.integration.conftest import Site
from tests.integration.privileges import without_override
from tests.pictures import jpeg

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE, MISSING, READY
from futu.controller.app import create_app
from futu.images.folder import hash_bytes

PICTURE = jpeg(1, (40, 30))
LONG_AGO_NS = 1_600_000_000 * 10**9


def content(number: int) -> bytes:
    return PICTURE + b"%05d" % number


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    made = Site(tmp_path, redis_url)
    made.start()
    yield made
    made.close()


@pytest.fixture
def http(site: Site) -> Any:
    return create_app(site.controller).test_client()


def indexed(site: Site, name: str = "one", count: int = 12, start: int = 0) -> DatasetRecord:
    dataset = site.fill(name, {f"{n:02}.jpg": content(start + n) for n in range(count)})
    for file in Path(dataset.folder).iterdir():
        os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    return dataset


def verified(http: Any, **how: Any) -> dict[str, Any]:
    """The end of a verification."""
    answer = http.post("/api/verify", json=how)
    assert answer.status_code == 200, answer.json

    def ended() -> Any:
        facts: Any = http.get("/api/verify?limit=1000").json
        return facts if facts["state"] != "running" else None

    facts: dict[str, Any] = until(ended)
    assert facts["state"] == "done", facts
    return facts


def listed(facts: dict[str, Any]) -> set[tuple[str, str]]:
    return {(d["kind"], d["path"]) for d in facts["differences"]}


def execute(site: Site, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(site.settings.data_dir / "catalogue.db")) as db:
        db.execute(statement, values)
        db.commit()


def spoil(site: Site, dataset: DatasetRecord) -> dict[tuple[str, str], int]:
    """Let one thing of each kind be wrong.

    Returns:
        What is to be found, with the number of vectors that mending it takes.
    """
    folder = Path(dataset.folder)
    (folder / "00.jpg").unlink()
    (folder / "01.jpg").write_bytes(content(100))
    (folder / "new.jpg").write_bytes(content(101))
    (folder / "02.jpg").rename(folder / "moved.jpg")
    (folder / "03.jpg").write_bytes(content(102))
    os.utime(folder / "03.jpg", ns=(LONG_AGO_NS, LONG_AGO_NS))
    by_path = "WHERE content_hash = (SELECT content_hash FROM images WHERE path = ?)"
    execute(site, f"DELETE FROM vectors {by_path}", b"04.jpg")
    execute(site, f"UPDATE vectors SET data = substr(data, 1, 100) {by_path}", b"05.jpg")
    execute(site, f"UPDATE vectors SET data = zeroblob(2560) {by_path}", b"06.jpg")
    live = site.controller.indexes["similar"]
    known = site.controller.catalogue.known_files(dataset.id, site.model_id)
    live.index.remove(np.array([known["07.jpg"].vector_id], np.int64))
    vector = np.ones((1, live.dimension), np.float32) / np.sqrt(live.dimension)
    live.index.add(np.array([10**6], np.int64), vector)
    execute(site, "DELETE FROM images WHERE path = ?", b"08.jpg")
    return {
        ("file_missing", "00.jpg"): 0,
        ("file_changed", "01.jpg"): 1,
        ("not_in_catalogue", "new.jpg"): 1,
        ("file_missing", "02.jpg"): 0,
        ("not_in_catalogue", "moved.jpg"): 0,
        ("content_differs", "03.jpg"): 1,
        ("vector_missing", "04.jpg"): 1,
        ("vector_damaged", "05.jpg"): 1,
        ("vector_damaged", "06.jpg"): 1,
        ("not_in_index", ""): 0,
        ("only_in_index", ""): 0,
        ("not_in_catalogue", "08.jpg"): 0,
    }


def test_all_agree_after_a_build(site: Site, http: Any) -> None:
    assert http.get("/api/verify").json["state"] == "none"
    site.work()
    indexed(site)
    for deep in (False, True):
        facts = verified(http, deep=deep)
        assert (facts["differences"], facts["left"], facts["current"]) == ([], 0, 12)
        assert facts["message"] == "Disk, catalogue and index agree."


def test_every_difference_is_listed_and_mended_without_making_stored_vectors_again(
    site: Site, http: Any
) -> None:
    worker = site.work()
    dataset = indexed(site)
    expected = spoil(site, dataset)
    before = {path: state for path, (state, _) in site.files(dataset).items()}
    found = verified(http, deep=True)
    assert listed(found) == set(expected)
    assert found["found"]["only_in_index"] == 3  # the strange one, that of 04.jpg, that of 08.jpg
    assert found["left"] == len(found["differences"])
    # Looking changes nothing.
    assert {path: state for path, (state, _) in site.files(dataset).items()} == before
    # Without reading every file and vector these two are not seen.
    shallow = {("content_differs", "03.jpg"), ("vector_damaged", "06.jpg")}
    assert listed(verified(http)) == set(expected) - shallow
    worker.done.clear()
    mended = verified(http, deep=True, repair=True)
    assert listed(mended) == set(expected)
    assert (mended["left"], all(d["mended"] for d in mended["differences"])) == (0, True)
    made = [item.content_hash for job in worker.done for item in job.items]
    wanted = [content(n) for n in (100, 101, 102, 4, 5, 6)]
    assert sorted(h or b"" for h in made) == sorted(map(hash_bytes, wanted))
    assert verified(http, deep=True)["differences"] == []
    assert site.files(dataset)["00.jpg"][0] == MISSING
    assert site.files(dataset)["moved.jpg"][0] == READY


def test_one_dataset_is_verified_by_itself(site: Site, http: Any) -> None:
    site.work()
    indexed(site, "one")
    two = indexed(site, "two", start=50)
    site.fill("never indexed", {"a.jpg": content(90)})
    (Path(two.folder) / "00.jpg").unlink()
    assert verified(http, dataset_names=["one"])["left"] == 0
    assert listed(verified(http, dataset_names=["two"])) == {("file_missing", "00.jpg")}
    whole = verified(http)
    assert (whole["datasets"], whole["left"]) == (["one", "two"], 1)
    assert http.post("/api/verify", json={"dataset_names": ["no"]}).status_code == 404


@pytest.mark.parametrize("mount_point", ["missing", "empty"])
def test_disk_that_is_not_mounted_is_one_difference_that_is_not_mended(
    site: Site, http: Any, mount_point: str
) -> None:
    site.work()
    dataset = indexed(site)
    Path(dataset.folder).rename(site.folder / "away")
    if mount_point == "empty":
        Path(dataset.folder).mkdir()
    facts = verified(http, repair=True)
    kind = "files_missing" if mount_point == "empty" else "folder_missing"
    assert (listed(facts), facts["left"]) == ({(kind, "")}, 1)
    assert {state for state, _ in site.files(dataset).values()} == {READY}


def test_unreadable_folder_is_named_and_what_is_in_it_left_alone(
    tmp_path: Path, redis_url: str
) -> None:
    with without_override():
        site = Site(tmp_path, redis_url)
        try:
            site.start()
            site.work()
            dataset = site.fill("one", {"a.jpg": content(0)})
            locked = Path(dataset.folder) / "locked"
            locked.mkdir()
            (locked / "b.jpg").write_bytes(content(1))
            site.controller.ingest.start(dataset)
            site.await_state(dataset, DONE)
            locked.chmod(0)
            http: Any = create_app(site.controller).test_client()
            facts = verified(http, repair=True)
            assert (listed(facts), facts["left"]) == ({("unreadable", "locked")}, 1)
            assert site.files(dataset)["locked/b.jpg"][0] == READY
            locked.chmod(0o700)
            assert verified(http)["left"] == 0
        finally:
            site.close()


def test_verification_waits_for_the_build_under_way_and_can_be_ended(site: Site, http: Any) -> None:
    dataset = site.fill("one", {"a.jpg": content(0)})
    site.controller.ingest.start(dataset)
    site.lease()
    assert http.post("/api/verify", json={}).json["state"] == "running"
    until(lambda: "Build of one" in http.get("/api/verify").json["message"])
    again = http.post("/api/verify", json={})
    assert (again.status_code, again.json["code"]) == (409, "busy")
    assert http.delete("/api/verify").json == {"cancelled": True}
    until(lambda: http.get("/api/verify").json["state"] == "stopped")
    assert http.delete("/api/verify").json == {"cancelled": False}
    site.controller.ingest.cancel(dataset)
