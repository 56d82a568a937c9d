"""Builds begin, follow one another, are cancelled and end."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import Any

import pytest
from tests.integration.conftest import Site
from tests.pictures import jpeg

from futu.catalogue.records import BuildRecord
from futu.catalogue.schema import BUILDING, CANCELLED, DONE, FAILED, READY
from futu.catalogue.store import Catalogue
from futu.controller import scan
from futu.controller.service import Controller
from futu.images.folder import hash_file

A, B, C = (jpeg(seed, (40, 30)) for seed in (1, 2, 3))


# --- the end -----------------------------------------------------------------------------------


def refuse_ends(controller: Controller) -> None:
    """Let the database refuse to write that a build has ended."""
    trigger = (
        "CREATE TRIGGER no_end BEFORE UPDATE ON builds WHEN NEW.state != 'building' "
        "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    )
    with contextlib.closing(sqlite3.connect(controller.settings.data_dir / "catalogue.db")) as db:
        db.execute(trigger)


def accept_ends(controller: Controller) -> None:
    with contextlib.closing(sqlite3.connect(controller.settings.data_dir / "catalogue.db")) as db:
        db.execute("DROP TRIGGER no_end")


@pytest.mark.parametrize("by_sweep", [False, True])
def test_build_whose_end_cannot_be_written_does_not_block_its_dataset(
    site: Site, controller: Controller, by_sweep: bool
) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.work()
    refuse_ends(controller)
    first = controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    accept_ends(controller)
    site.fill("one", {"b.jpg": B})
    if by_sweep:
        controller.ingest.sweep()
        last = controller.catalogue.last_build(dataset.id)
        assert last is not None
        assert (last.id, last.state, last.added) == (first.record.id, DONE, 1)
    second = controller.ingest.start(dataset)
    assert second.record.id != first.record.id
    progress = site.await_state(dataset, DONE)
    assert (progress["build_id"], progress["added"]) == (second.record.id, 1)


def test_end_is_not_shown_while_it_is_being_written(
    site: Site, controller: Controller, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    save, shown = catalogue.save_build, []

    def watched(record: BuildRecord) -> None:
        save(record)
        if record.state == DONE:
            shown.append(site.state(dataset))
            (listed,) = controller.ingest.described(catalogue.builds())
            shown.append(listed["state"])

    monkeypatch.setattr(catalogue, "save_build", watched)
    site.controller.start()
    site.work()
    controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    assert shown == [BUILDING, BUILDING]


def test_request_made_after_the_end_was_seen_begins_a_build(
    site: Site, controller: Controller
) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.work()
    builds = set()
    for number in range(20):
        site.fill("one", {f"{number}.jpg": A + bytes([number])})
        builds.add(controller.ingest.start(dataset).record.id)
        site.await_state(dataset, DONE)
        assert site.files(dataset)[f"{number}.jpg"] == (READY, None)
    assert len(builds) == 20


def test_two_requests_at_once_share_a_build(site: Site, controller: Controller) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    ready, found = threading.Barrier(4), []

    def ask() -> None:
        ready.wait()
        found.append(controller.ingest.start(dataset))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len({id(build) for build in found}) == 1
    assert len(controller.catalogue.builds()) == 1


# --- failed files tried again --------------------------------------------------------------------


def test_failed_files_are_tried_again_though_a_build_is_under_way(site: Site) -> None:
    dataset = site.failed_before({"bad.jpg": A, "good.jpg": B})
    site.fill("one", {"new.jpg": C})
    plain = site.controller.ingest.start(dataset)
    lease = site.lease()
    assert [item.name for item in lease.job.items] == ["new.jpg"]
    site.controller.ingest.start(dataset, retry_failed=True)
    site.deliver(lease)
    again = site.lease()
    assert [item.name for item in again.job.items] == ["bad.jpg"]
    # Who waits for the end waits for this one too.
    assert site.state(dataset) == BUILDING
    site.deliver(again)
    progress = site.await_state(dataset, DONE)
    assert progress["build_id"] != plain.record.id
    assert (progress["added"], progress["unchanged"], progress["failed"]) == (1, 2, 0)
    assert [b.state for b in site.controller.catalogue.builds()] == [DONE, DONE, DONE]


def test_nothing_follows_a_build_when_nothing_has_failed(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.controller.ingest.start(dataset)
    lease = site.lease()
    site.controller.ingest.start(dataset, retry_failed=True)
    site.deliver(lease)
    site.await_state(dataset, DONE)
    assert len(site.controller.catalogue.builds()) == 1


def test_cancel_is_for_what_was_to_follow_too(site: Site) -> None:
    dataset = site.failed_before({"bad.jpg": A, "good.jpg": B})
    site.fill("one", {"new.jpg": C})
    site.controller.ingest.start(dataset)
    site.lease()
    site.controller.ingest.start(dataset, retry_failed=True)
    assert site.controller.ingest.cancel(dataset)
    site.await_state(dataset, CANCELLED)
    assert [b.state for b in site.controller.catalogue.builds()] == [CANCELLED, DONE]


def test_pictures_put_aside_are_tried_again_though_a_build_is_under_way(site: Site) -> None:
    dataset = site.failed_before({"bad.jpg": A, "good.jpg": B})
    with contextlib.closing(sqlite3.connect(site.settings.data_dir / "catalogue.db")) as db:
        db.execute("UPDATE images SET state = 'quarantined' WHERE state = 'failed'")
        db.commit()
    (bad,) = site.controller.catalogue.failures(dataset.id)
    assert bad.state == "quarantined"
    site.fill("one", {"new.jpg": C})
    site.controller.ingest.start(dataset)
    lease = site.lease()
    known = site.controller.catalogue.known_files(dataset.id, site.model_id)
    site.controller.ingest.revive([known["bad.jpg"].content_hash or b""])
    site.deliver(lease)
    site.deliver(site.lease())
    site.await_state(dataset, DONE)
    assert set(site.files(dataset).values()) == {(READY, None)}


# --- cancelled -----------------------------------------------------------------------------------


def test_build_that_waits_its_turn_is_cancelled_at_once(site: Site) -> None:
    first, second, third = (site.fill(name, {"a.jpg": A}) for name in ("1st", "2nd", "3rd"))
    ingest = site.controller.ingest
    ingest.start(first)
    ingest.start(second)
    held = [site.lease(), site.lease()]
    ingest.start(third)
    assert site.state(third) != DONE
    assert ingest.cancel(third)
    assert site.state(third) == CANCELLED
    assert not ingest.cancel(third)
    site.controller.start()
    for lease in held:
        site.deliver(lease)
    for dataset in (first, second):
        site.await_state(dataset, DONE)
    assert site.state(third) == CANCELLED
    assert site.files(third) == {}


def test_cancel_takes_the_jobs_back(site: Site) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    site.controller.ingest.start(dataset)
    lease = site.lease()
    assert site.controller.ingest.cancel(dataset)
    assert site.state(dataset) == CANCELLED
    # The next build is not begun before the cancelled one has let go.
    site.controller.ingest.start(dataset)
    again = site.lease()
    assert not site.controller.queue.deliver(lease, site.good(lease.job))
    site.deliver(again)
    site.await_state(dataset, DONE)
    assert [b.state for b in site.controller.catalogue.builds()] == [DONE, CANCELLED]


def test_cancel_during_the_scan_ends_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = site.fill("one", {f"{n}.jpg": A + bytes([n]) for n in range(9)})
    hashed: list[str] = []
    states: list[str] = []

    def watched(path: str) -> bytes:
        hashed.append(path)
        if len(hashed) == 3:
            assert site.controller.ingest.cancel(dataset)
            states.append(site.state(dataset))
        return hash_file(path)

    monkeypatch.setattr(scan, "hash_file", watched)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, CANCELLED)
    site.controller.ingest.stop()
    assert states == [CANCELLED]
    assert len(hashed) == 3
    assert site.files(dataset) == {}
    assert site.controller.queue.depth()["library"] == 0


def test_cancel_that_comes_during_the_last_step_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = site.fill("one", {"a.jpg": A})
    site.controller.start()
    live, answers = site.controller.indexes.of_model[site.model_id], []
    level = live.level

    def late(*given: Any) -> None:
        level(*given)
        answers.append(site.controller.ingest.cancel(dataset))

    monkeypatch.setattr(live, "level", late)
    site.work()
    site.controller.ingest.start(dataset)
    progress = site.await_state(dataset, DONE, CANCELLED)
    assert answers == [True]
    assert progress["state"] == CANCELLED
    assert not site.controller.ingest.cancel(dataset)
    site.controller.ingest.stop()
    assert site.state(dataset) == CANCELLED


def test_file_with_a_reason_that_is_gone_says_so_instead(site: Site) -> None:
    dataset = site.failed_before({"bad.jpg": A, "good.jpg": B})
    assert site.files(dataset)["bad.jpg"] == (FAILED, "cannot_decode")
    (site.settings.datasets_dir / "one" / "bad.jpg").unlink()
    site.controller.ingest.start(dataset)
    progress = site.await_state(dataset, DONE)
    while progress["missing"] != 1:
        progress = site.await_state(dataset, DONE)
    (gone,) = site.controller.catalogue.failures(dataset.id, states=("missing",))
    assert (gone.path, gone.code) == ("bad.jpg", "missing_file")
    assert gone.error
