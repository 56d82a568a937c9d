"""kill -9 in the middle of commits loses nothing that was committed, and leaves nothing by half."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.catalogues import MODEL, counts_are_right, everything
from tests.conftest import talking_to
from tests.contract.dying import BATCH, write_batch

from futu.catalogue.engine import sqlite_url
from futu.catalogue.schema import READY
from futu.catalogue.store import Catalogue


def check(catalogue: Catalogue, committed: int) -> None:
    """What holds after every kill."""
    with catalogue.read() as db:
        if db.dialect.name == "sqlite":
            assert db.scalar(text("PRAGMA integrity_check")) == "ok"
        orphans = text(
            "SELECT count(*) FROM images WHERE state = 'ready' AND NOT EXISTS "
            "(SELECT 1 FROM vectors WHERE vectors.content_hash = images.content_hash)"
        )
        assert db.scalar(orphans) == 0
        assert (db.scalar(text("SELECT count(*) FROM images")) or 0) >= committed
    assert counts_are_right(catalogue)
    assert len(catalogue.interrupted_builds()) <= 1


KILLS = {"sqlite": 30, "postgresql": 5}
KILLS_IN_SOAK = 100


def test_killed_writer_loses_nothing_and_leaves_nothing_by_half(
    database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    soak = request.config.getoption("--soak")
    kills = KILLS_IN_SOAK if soak else KILLS[database_url.partition(":")[0]]
    dice = random.Random(kills)
    catalogue = Catalogue(database_url)
    launcher = talking_to("tests.contract.dying")
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    first = killed_at_work = 0
    for _ in range(kills):
        launcher.stdin.write(f"{database_url} {first}\n")
        launcher.stdin.flush()
        pid = int(launcher.stdout.readline().split()[1])
        batches = dice.randrange(3)
        last, lines = first, 0
        for line in launcher.stdout:
            if line == "dead\n":
                break
            last, lines = int(line.split()[1]) + BATCH, lines + 1
            if lines == batches + 1:
                # At any instant of the batches that follow.
                timer = threading.Timer(dice.random() * 0.02, os.kill, (pid, signal.SIGKILL))
                timer.start()
        timer.join()
        check(catalogue, last)
        with catalogue.read() as db:
            killed_at_work += db.scalar(text("SELECT count(*) FROM images")) != last
        killed_at_work += bool(catalogue.interrupted_builds())
        first = last
    catalogue.close()
    launcher.stdin.close()
    assert launcher.wait() == 0
    launcher.stdout.close()
    assert killed_at_work > 0
    finished = Catalogue(database_url)
    write_batch(finished, first)
    clean = Catalogue(sqlite_url(tmp_path / "clean.db"))
    for start in range(0, first + BATCH, BATCH):
        write_batch(clean, start)
    assert everything(finished) == everything(clean)
    dataset, other = finished.dataset("d"), clean.dataset("d")
    assert finished.image_counts()[dataset.id] == clean.image_counts()[other.id]
    assert {i.state for i in finished.all_images(dataset.id)} > {READY}
    assert len(finished.searchable_vector_ids(MODEL)) == len(clean.searchable_vector_ids(MODEL))
    assert finished.interrupted_builds() == []
    finished.close()
    clean.close()
