"""Catalogues to compare, and what is put into them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.schema import PENDING
from futu.catalogue.store import Catalogue
from futu.images.folder import hash_bytes

MODEL, FURTHER = "model-1", "model-2"


def digest(number: int) -> bytes:
    return hash_bytes(str(number).encode())


def outcome(number: int, *, further: bool = False) -> Outcome:
    """A good content, whose vectors tell its number."""
    random = np.random.default_rng(number)
    vectors = {MODEL: random.normal(size=8).astype(np.float32)}
    if further:
        vectors[FURTHER] = random.normal(size=4).astype(np.float32)
    return Outcome(digest(number), vectors, number + 1, 2)


def scanned(numbers: range, folder: str = "a") -> list[ScannedFile]:
    return [ScannedFile(f"{folder}/{n}.jpg", n, n + 1, digest(n), PENDING) for n in numbers]


def fill(catalogue: Catalogue, images: int = 30) -> None:
    """Two datasets that share contents, with images in every state and odd names."""
    for name, numbers in (("one", range(images)), ("zwei", range(images // 2, images * 2))):
        dataset = catalogue.add_dataset(name, f"/pictures/{name}", ("similar", "copy"))
        catalogue.write_files(dataset.id, scanned(numbers))
        odd = os.fsdecode(b"\xff\xfe.jpg")
        catalogue.write_files(dataset.id, [ScannedFile(odd, 1, 2, digest(0), PENDING)])
    catalogue.record([outcome(n, further=n % 3 == 0) for n in range(images)], MODEL)
    bad = [
        Outcome(digest(n), error_code=c, error="Why.")
        for n, c in ((images, "x"), (images + 1, "quarantined"))
    ]
    catalogue.record(bad, MODEL)
    known = catalogue.known_files(catalogue.dataset("one").id, MODEL)
    catalogue.mark_missing([known["a/1.jpg"].id])


def everything(catalogue: Catalogue) -> dict[str, Any]:
    """All that a catalogue has, without its ids, so that two can be compared."""
    with catalogue.read() as db:
        query = (
            "SELECT name, folder, questions, path, size, mtime_ns, content_hash, state, "
            "error_code, error, width, height FROM images JOIN datasets "
            "ON datasets.id = dataset_id ORDER BY name, path"
        )
        images = [tuple(row) for row in db.exec_driver_sql(query)]
        query = "SELECT model_id, content_hash, data FROM vectors ORDER BY model_id, content_hash"
        vectors = [tuple(row) for row in db.exec_driver_sql(query)]
    return {"images": images, "vectors": vectors}


def counts_are_right(catalogue: Catalogue) -> bool:
    """Whether the counts that triggers keep are what counting finds."""
    with catalogue.read() as db:
        kept = "SELECT dataset_id, state, images FROM image_counts WHERE images <> 0"
        counted = "SELECT dataset_id, state, count(*) FROM images GROUP BY dataset_id, state"
        return {tuple(row) for row in db.exec_driver_sql(kept)} == {
            tuple(row) for row in db.exec_driver_sql(counted)
        }
