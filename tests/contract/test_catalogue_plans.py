"""No call that is made for a request, a job or a file walks through a table of a million rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from tests.catalogues import MODEL, digest, fill, outcome, scanned

from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import Outcome
from futu.catalogue.store import Catalogue

CALLS: dict[str, Callable[[Catalogue], object]] = {
    "image_counts": lambda c: c.image_counts(),
    "first_images": lambda c: c.first_images(),
    "unfinished_datasets": lambda c: c.unfinished_datasets(),
    "image": lambda c: c.image(3),
    "images_of_vectors": lambda c: c.images_of_vectors([1, 2], [1, 2]),
    "image_of_content": lambda c: c.image_of_content(digest(1)),
    "image_at": lambda c: c.image_at(1, "a/3.jpg"),
    "vector_of_content": lambda c: c.vector_of_content(digest(1), MODEL),
    "vectors": lambda c: list(c.vectors([1])),
    "vector_ids": lambda c: c.vector_ids([digest(1), digest(2)], MODEL),
    "write_files": lambda c: c.write_files(1, scanned(range(3))),
    "record good": lambda c: c.record([outcome(n, further=True) for n in range(3)], MODEL),
    "record bad": lambda c: c.record([Outcome(digest(40), error_code="x", error="y")], MODEL),
    "fail_file": lambda c: c.fail_file(1, "a/3.jpg", digest(3), "x", "y"),
    "mark_missing": lambda c: c.mark_missing([4, 5]),
    "failures": lambda c: c.failures(1),
    "list_images": lambda c: c.list_images(1, "a/3.jpg", 5),
    "start_build": lambda c: c.start_build(1, MODEL),
    "retry_failed": lambda c: c.retry_failed(1),
    "save_build": lambda c: c.save_build(c.start_build(1, MODEL)),
    "last_build": lambda c: c.last_build(1),
    "interrupted_builds": lambda c: c.interrupted_builds(),
    "revive": lambda c: c.revive([digest(1)]),
}


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(sqlite_url(tmp_path / "c.db"))
    fill(made)
    yield made
    made.close()


@pytest.mark.parametrize("name", CALLS)
def test_call_finds_its_rows_by_an_index(catalogue: Catalogue, name: str) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, values: Any, _x: object, many: bool) -> None:
        asked.append((statement, values[0] if many else values))

    engines = (catalogue._engine, catalogue._unpooled)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    CALLS[name](catalogue)
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
    assert asked
    with catalogue.read() as db:
        for statement, values in asked:
            if statement.startswith(("BEGIN", "SELECT pg_")):
                continue
            plan = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            for *_, step in plan:
                # That index has at most one entry for each dataset.
                if step != "SCAN builds USING INDEX ix_builds_building":
                    whole = re.match(r"SCAN (images|vectors|builds)\b", step)
                    assert not whole, f"{step}\n{statement}"
