"""Every file that a scan saw is counted once and ends in one state, whatever happens meanwhile."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.conftest import Site, looked_at
from tests.pictures import jpeg

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE, FAILED, MISSING, PENDING, QUARANTINED, READY
from futu.controller import dispatch, scan
from futu.images.folder import hash_bytes, hash_file
from futu.jobs.message import ImageItem, ItemError, ItemResult, Job, JobResult, ServerInfo
from futu.models.registry import DEFAULT_MODEL, spec

COPY_ID = spec("sscd-distilled").model_id
DIMENSIONS = {
    spec(name).model_id: spec(name).dimension for name in (DEFAULT_MODEL, "sscd-distilled")
}
PICTURE = jpeg(1, (40, 30))
BROKEN = ItemError("cannot_decode", "It is broken.")
KILLER = ItemError("quarantined", "Workers died over it.")
ENDS: dict[str, tuple[str, str | None]] = {
    "good": (READY, None),
    "broken": (FAILED, "cannot_decode"),
    "killer": (QUARANTINED, "quarantined"),
    "no vector": (FAILED, "job_failed"),
}


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """With small chunks and jobs, so that a dataset has many of both."""
    monkeypatch.setattr(scan, "_SCAN_CHUNK", 8)
    monkeypatch.setattr(dispatch, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(dispatch, "_MOST_BOUNCES", 1000)
    made = Site(tmp_path, redis_url, batch_size=4, lease_s=60)
    yield made
    made.close()


def content(fate: str, number: int) -> bytes:
    return PICTURE + f"{fate} {number}".encode()


class World:
    """What becomes of files and contents; a compute server that answers accordingly.

    Args:
        site: where.
        seed: of everything that is chosen.

    Attributes:
        vanishing: files that go between the walk and the hash.
        changing: files that become others between the hash and the reading.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.random = random.Random(seed)
        self.contents = [content(fate, n) for fate in ENDS for n in range(4)]
        self.contents += [content("good", n) for n in range(4, 12)]
        self.fates = {hash_bytes(data): self.fate(data) for data in self.contents}
        self.vanishing: set[str] = set()
        self.changing: set[str] = set()
        self.repeated: set[str] = set()

    @staticmethod
    def fate(data: bytes) -> str:
        return data.removeprefix(PICTURE).decode().rpartition(" ")[0]

    def hash_file(self, path: str) -> bytes:
        """In place of the scan's: files vanish and change just then."""
        if path in self.vanishing:
            os.unlink(path)
        digest = hash_file(path)
        if path in self.changing:
            Path(path).write_bytes(Path(path).read_bytes() + b", changed")
        return digest

    def answer(self, job: Job) -> JobResult:
        chance = self.random.random()
        blind = job.stream == "library" and chance < 0.3
        if job.stream == "library" and not blind and job.job_id not in self.repeated:
            # Another worker has it too: its result comes twice.
            self.repeated.add(job.job_id)
            if chance < 0.6:
                self.site.controller.queue.enqueue(msgspec.structs.replace(job))
        if job.model_ids == [COPY_ID] and chance > 0.5:
            return JobResult(job.job_id, "worker", [], ItemError("no_model", "Not that one."))
        items = [self.unseen() if blind else self.item(item, job.model_ids) for item in job.items]
        return JobResult(job.job_id, "worker", items)

    @staticmethod
    def unseen() -> ItemResult:
        return ItemResult(error=ItemError("missing_file", "Not here."))

    def item(self, item: ImageItem, model_ids: list[str]) -> ItemResult:
        models = {m: n for m, n in DIMENSIONS.items() if m in model_ids}
        if self.random.random() < 0.5 and len(models) > 1:
            # A server that lacks the further model.
            del models[COPY_ID]
        found = looked_at(item, 0, models)
        fate = self.fates[item.content_hash or b""]
        if found.error is not None or fate == "good":
            return found
        if fate == "no vector":
            return msgspec.structs.replace(found, vectors=dict.fromkeys(models, b"1234"))
        error = BROKEN if fate == "broken" else KILLER
        return ItemResult(error=error, content_hash=item.content_hash)

    def fill(self, name: str, count: int) -> tuple[DatasetRecord, dict[str, bytes]]:
        files = {f"{n:03}.jpg": self.random.choice(self.contents) for n in range(count)}
        dataset = self.site.fill(name, files)
        for path in files:
            where = str(Path(dataset.folder) / path)
            chance = self.random.random()
            if chance < 0.1:
                self.vanishing.add(where)
            elif chance < 0.3:
                self.changing.add(where)
        return dataset, files

    def expected(self, folder: str, path: str, data: bytes) -> set[tuple[str, str | None]]:
        where = str(Path(folder) / path)
        if where in self.vanishing:
            return {(FAILED, "missing_file")}
        end = ENDS[self.fate(data)]
        return {end, (FAILED, "changed")} if where in self.changing else {end}


def assert_adds_up(site: Site, dataset: DatasetRecord, progress: dict[str, Any]) -> None:
    """The counts are those of the rows."""
    rows = Counter(state for state, _ in site.files(dataset).values())
    assert rows[PENDING] == 0
    assert progress["added"] + progress["unchanged"] + progress["reused"] == rows[READY]
    assert (progress["failed"], progress["quarantined"]) == (rows[FAILED], rows[QUARANTINED])
    assert progress["total"] == progress["current"] == rows.total() - rows[MISSING]
    reasons = site.controller.catalogue.failures(dataset.id, states=(FAILED, QUARANTINED, MISSING))
    assert all(failure.code and failure.error for failure in reasons)
    assert len(reasons) == rows[FAILED] + rows[QUARANTINED] + rows[MISSING]


def assert_further_vectors(site: Site, dataset: DatasetRecord) -> None:
    """Every searchable image has them, if the dataset is to."""
    if "copy" in site.controller.dataset(dataset.name).questions:
        assert site.controller.catalogue.lacking(dataset.id, COPY_ID) == 0


@pytest.mark.parametrize("number", range(6))
def test_counts_add_up_and_every_file_ends_as_its_content_does(
    site: Site, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(site, number)
    monkeypatch.setattr(scan, "hash_file", world.hash_file)
    made = [world.fill(name, 60) for name in ("one", "two")]
    site.start()
    site.work(world.answer)
    questions = ("similar", "copy") if number % 3 else ("similar",)
    servers = ["able"] if number % 3 == 1 else ["able", "other"]
    for name in servers:
        models = list(DIMENSIONS) if name == "able" else list(DIMENSIONS)[:1]
        info = ServerInfo(name, "h", 1, models, 1, 0.0)
        site.controller.queue.servers.register(info)
    for dataset, _ in made:
        site.controller.ingest.start(dataset, questions=questions)
    for dataset, files in made:
        assert_adds_up(site, dataset, site.await_state(dataset, DONE))
        assert_further_vectors(site, dataset)
        for path, state in site.files(dataset).items():
            assert state in world.expected(dataset.folder, path, files[path]), path
    # Once more, with some files gone, some changed for good, and what has failed tried again.
    world.changing.clear()
    for dataset, _ in made:
        for file in world.random.sample(sorted(Path(dataset.folder).iterdir()), 10):
            file.unlink()
        for file in world.random.sample(sorted(Path(dataset.folder).iterdir()), 10):
            file.write_bytes(world.random.choice(world.contents))
        for file in Path(dataset.folder).iterdir():
            data = file.read_bytes()
            world.fates[hash_bytes(data)] = world.fate(data.removesuffix(b", changed"))
        site.controller.ingest.start(dataset, retry_failed=number % 2 == 0)
    for dataset, _ in made:
        assert_adds_up(site, dataset, site.await_state(dataset, DONE))
        assert_further_vectors(site, dataset)
        for path, state in site.files(dataset).items():
            where = Path(dataset.folder) / path
            if where.exists():
                assert state == ENDS[world.fates[hash_bytes(where.read_bytes())]], path
            else:
                assert state == (MISSING, "missing_file")
