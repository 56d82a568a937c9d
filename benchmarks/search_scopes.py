"""Ways to search a part of the images: python -m benchmarks.search_scopes

For scopes of several sizes: reading their ids from the catalogue, the search among these, and
fetching more from the index and looking through it. By dataset and by path, where all are as
similar to the query as elsewhere. Medians in ms; each reading is cold for our caches.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from benchmarks.search_load import site

from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import Scope
from futu.catalogue.store import Catalogue
from futu.controller.neighbours import Neighbours
from futu.index.live import LiveIndex
from futu.models.registry import default_spec

Query = npt.NDArray[np.float32]
Queries = npt.NDArray[np.float32]

_QUERIES = 20
_READS = 5
_FETCHES = (64, 512, 4096)
_SCOPES: dict[str, dict[str, object]] = {
    "0.01 % by date": {"share": 0.0001},
    "0.1 % by date": {"share": 0.001},
    "1 % by date": {"share": 0.01},
    "2 % by date": {"share": 0.02},
    "5 % by date": {"share": 0.05},
    "25 % by date": {"share": 0.25},
    "1 % by path": {"path_prefix": "07/"},
    "10 % by path": {"path_prefix": "1"},
    "1 % by size": {"max_size": 0.01},
    "a dataset (25 %)": {"datasets": 1},
}


def timed(ask: Callable[..., object], *arguments: object, **named: object) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    ask(*arguments, **named)
    return (time.perf_counter() - started) * 1000


def scope_of(images: int, chosen: dict[str, object]) -> Scope:
    """The scope of a line above."""
    every = tuple(range(1, site.DATASETS + 1))
    if "share" in chosen:
        length = int(images * float(str(chosen["share"])))
        first = images // 2
        return Scope(
            every, after_ns=site.modified_ns(first), before_ns=site.modified_ns(first + length)
        )
    if "max_size" in chosen:
        return Scope(every, max_size=site.size(int(images * 0.01)))
    if "datasets" in chosen:
        return Scope((1,))
    return Scope(every, path_prefix=str(chosen["path_prefix"]))


def show(what: str, catalogue: Catalogue, live: LiveIndex, scope: Scope, queries: Queries) -> None:
    """Measure and print the ways for one scope."""
    read = median(timed(catalogue.vector_ids_in, scope, live.model_id) for _ in range(_READS))
    ids = catalogue.vector_ids_in(scope, live.model_id)
    among = median(timed(live.index.search, query, 11, ids) for query in queries)
    more = []
    for fetch in _FETCHES:
        found = [looked_through(catalogue, live, scope, query, fetch) for query in queries]
        took = median(
            timed(looked_through, catalogue, live, scope, query, fetch) for query in queries
        )
        more.append(f"{fetch}: {took:.1f} ({sum(n >= 11 for n in found)})")
    finder = Neighbours(catalogue)
    ours = median(timed(finder.find, live, query, scope, k=10) for query in queries)
    print(
        f"{what}: {0 if ids is None else len(ids)} images; ids read {read:.1f}, searched "
        f"{among:.1f}; fetching (of {_QUERIES} enough) {', '.join(more)}; as chosen {ours:.1f}",
        flush=True,
    )


def looked_through(
    catalogue: Catalogue, live: LiveIndex, scope: Scope, query: Query, fetch: int
) -> int:
    """How many of so many neighbours are in a scope."""
    ids, _ = live.index.search(query, fetch)
    images = catalogue.images_of_vectors(ids.tolist(), scope.dataset_ids)
    return sum(scope.admits(image) for same in images.values() for image in same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--keep", type=Path, help="folder of the generated site, made if missing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="futu-benchmark-") as name:
        folder = options.keep or Path(name)
        if not (folder / "filled").exists():
            shutil.rmtree(folder, ignore_errors=True)
            site.fill(folder, options.images, 0)
            (folder / "filled").touch()
        settings = site.settings(folder)
        spec = default_spec("similar", settings)
        catalogue = Catalogue(sqlite_url(settings.data_dir / "catalogue.db"))
        file = settings.data_dir / "index" / f"{spec.model_id}.faiss"
        live = LiveIndex(file, catalogue.identity, spec.model_id, spec.dimension)
        live.level(catalogue.searchable_vector_ids(spec.model_id), catalogue.vectors)
        queries = site.vectors(1, _QUERIES)
        print(f"{len(live.index)} vectors, index {live.index.kind}; medians in ms")
        finder = Neighbours(catalogue)
        whole = Scope(tuple(range(1, site.DATASETS + 1)))
        plain = median(timed(finder.find, live, query, whole, k=10) for query in queries)
        print(f"no filter: {plain:.1f}")
        for what, chosen in _SCOPES.items():
            show(what, catalogue, live, scope_of(options.images, chosen), queries)
        catalogue.close()


if __name__ == "__main__":
    main()
