"""Watched datasets are indexed whenever they change, by events and by polling."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import until
from tests.integration.conftest import Site
from tests.pictures import jpeg
from watchfiles import Change

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE, MISSING, READY
from futu.controller import watch
from futu.controller.app import create_app
from futu.images.mounts import is_silent

PICTURE = jpeg(1, (40, 30))


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Started, with a compute server; it acts soon after a change."""
    monkeypatch.setattr(watch, "_QUIET_MS", 100)
    monkeypatch.setattr(watch, "_STEP_MS", 50)
    monkeypatch.setattr(watch, "_RETRY_S", 0.1)
    made = Site(tmp_path, redis_url, watch_poll_s=0.2)
    made.start()
    made.work()
    yield made
    made.close()


def content(number: int) -> bytes:
    return PICTURE + b"%05d" % number


def watched(site: Site, name: str = "one", how: str = "events") -> DatasetRecord:
    dataset = site.fill(name, {"a.jpg": content(0)})
    site.controller.watcher.watch(dataset)
    until(lambda: site.controller.watcher.state(dataset.id).how == how)
    until(lambda: states(site, dataset) == {"a.jpg": READY})
    return dataset


def states(site: Site, dataset: DatasetRecord) -> dict[str, str]:
    return {path: state for path, (state, _) in site.files(dataset).items()}


def builds(site: Site) -> int:
    return len(site.controller.catalogue.builds(limit=1000))


def test_new_changed_moved_and_deleted_files_are_followed(site: Site) -> None:
    dataset = watched(site)
    folder = Path(dataset.folder)
    (folder / "new" / "deep").mkdir(parents=True)
    (folder / "new" / "deep" / "b.jpg").write_bytes(content(1))
    until(lambda: states(site, dataset).get("new/deep/b.jpg") == READY)
    (folder / "new").rename(folder / "v1.0")
    until(lambda: states(site, dataset).get("v1.0/deep/b.jpg") == READY)
    (folder / "a.jpg").write_bytes(content(2))
    model_id = site.model_id
    digest = site.controller.catalogue.known_files(dataset.id, model_id)["a.jpg"].content_hash
    until(
        lambda: (
            site.controller.catalogue.known_files(dataset.id, model_id)["a.jpg"].content_hash
            != digest
        )
    )
    shutil.rmtree(folder / "v1.0")
    until(lambda: states(site, dataset)["v1.0/deep/b.jpg"] == MISSING)


def test_name_that_is_not_utf8_does_not_end_the_watch(site: Site) -> None:
    dataset = watched(site)
    odd = os.fsdecode(b"\xff.jpg")
    (Path(dataset.folder) / odd).write_bytes(content(1))
    until(lambda: states(site, dataset).get(odd) == READY)
    (Path(dataset.folder) / "c.jpg").write_bytes(content(2))
    until(lambda: states(site, dataset).get("c.jpg") == READY)
    assert site.controller.watcher.state(dataset.id).how == "events"


def test_watching_goes_on_with_the_next_controller_until_it_is_ended(site: Site) -> None:
    dataset = watched(site)
    site.next_controller()
    (Path(dataset.folder) / "b.jpg").write_bytes(content(1))
    site.start()
    site.work()
    until(lambda: states(site, dataset).get("b.jpg") == READY)
    assert site.controller.dataset("one").watched
    http: Any = create_app(site.controller).test_client()
    assert http.get("/api/watch").json == {
        "watched": [{"dataset": "one", "how": "events", "message": ""}]
    }
    assert http.get("/api/datasets").json["datasets"][0]["watched"] is True
    assert http.delete("/api/watch/one").json["was_watched"]
    assert not http.delete("/api/watch/one").json["was_watched"]
    assert http.get("/api/watch").json == {"watched": []}
    assert http.post("/api/watch/nothing").status_code == 404
    site.next_controller()
    site.start()
    assert site.controller.watcher.state(dataset.id).how == "off"


def test_folder_that_goes_and_comes_back_is_watched_again(site: Site) -> None:
    dataset = watched(site)
    folder, away = Path(dataset.folder), site.folder / "away"
    folder.rename(away)
    until(lambda: site.controller.watcher.state(dataset.id).how == "waiting")
    assert "watched again" in site.controller.watcher.state(dataset.id).message
    (away / "b.jpg").write_bytes(content(1))
    away.rename(folder)
    until(lambda: states(site, dataset).get("b.jpg") == READY)
    assert states(site, dataset)["a.jpg"] == READY
    (folder / "c.jpg").write_bytes(content(2))
    until(lambda: states(site, dataset).get("c.jpg") == READY)


def test_change_during_a_build_is_found_by_the_one_after(site: Site) -> None:
    dataset = watched(site)
    site.await_state(dataset, DONE)
    own = site.controller.watcher._watches[dataset.id]
    begin, answers = own._build, list[bool]()

    def build(wanted: DatasetRecord) -> bool:
        answers.append(begin(wanted))
        return answers[-1]

    own._build = build
    site.rest()
    (Path(dataset.folder) / "b.jpg").write_bytes(content(1))
    lease = site.lease()
    (Path(dataset.folder) / "c.jpg").write_bytes(content(2))
    until(lambda: False in answers)
    site.deliver(lease)
    site.work()
    until(lambda: states(site, dataset).get("c.jpg") == READY)


def test_files_that_are_no_pictures_begin_no_build(site: Site) -> None:
    dataset = watched(site)
    site.await_state(dataset, DONE)
    before = builds(site)
    for name in ("notes.txt", ".a.jpg.part", "movie.mp4"):
        (Path(dataset.folder) / name).write_bytes(b"x")
    (Path(dataset.folder) / "b.jpg").write_bytes(content(1))
    until(lambda: states(site, dataset).get("b.jpg") == READY)
    site.await_state(dataset, DONE)
    # The one that b.jpg has begun, however the events came.
    assert builds(site) <= before + 2


def test_polling_finds_changes_too(site: Site) -> None:
    site.controller.watcher._mode = "polling"
    dataset = watched(site, how="polling")
    (Path(dataset.folder) / "b.jpg").write_bytes(content(1))
    until(lambda: states(site, dataset).get("b.jpg") == READY)


def test_reaching_a_limit_of_the_system_is_said_and_polling_takes_over(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": content(0)})
    site.controller.catalogue.set_watched(dataset.id, True)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        site.controller.watcher._begin(dataset)
        until(lambda: site.controller.watcher._watches[dataset.id]._trouble)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: site.controller.watcher.state(dataset.id).how == "polling")
    message = site.controller.watcher.state(dataset.id).message
    assert "sysctl fs.inotify.max_user_instances" in message
    assert "every 0.2 s instead" in message
    (Path(dataset.folder) / "b.jpg").write_bytes(content(1))
    until(lambda: states(site, dataset).get("b.jpg") == READY)


def test_each_limit_has_its_remedy() -> None:
    # As watchfiles words it.
    text = 'OS file watch limit reached. about ["/x"] (Error { kind: MaxFilesWatch })'
    assert "sysctl fs.inotify.max_user_watches" in watch._reason(OSError(text))
    assert "(something else)" in watch._reason(OSError("something else"))


@pytest.mark.parametrize(
    ("change", "path", "matters"),
    [
        (Change.added, "a.jpg", True),
        (Change.modified, "a.txt", False),
        (Change.deleted, "a.txt", True),  # it may have been a folder
        (Change.added, "noext", True),
        (Change.added, ".hidden.jpg", False),
        (Change.added, ".thumbs/a.jpg", False),
        (Change.added, "v1.0", True),
        (Change.deleted, ".", True),
    ],
)
def test_changes_that_may_concern_a_picture_matter(
    tmp_path: Path, change: Change, path: str, matters: bool
) -> None:
    (tmp_path / "v1.0").mkdir()
    assert watch._matters(str(tmp_path), change, str(tmp_path / path)) is matters


def test_local_folder_announces_its_changes(tmp_path: Path) -> None:
    assert not is_silent(tmp_path)
