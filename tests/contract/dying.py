"""A program that writes to a catalogue until it is killed: ``python -m tests.contract.dying``.

It waits for lines on standard input, each the URL of a catalogue and a number to begin with. For
each it starts a process that commits batches from there on, and says its process id; that one says
of every batch that it is committed.
"""

from __future__ import annotations

import os
import sys

from tests.catalogues import MODEL, digest, outcome, scanned

from futu.catalogue.migrate import revisions
from futu.catalogue.records import Outcome
from futu.catalogue.store import Catalogue

BATCH = 20
MOST = 100_000


def write_batch(catalogue: Catalogue, first: int) -> None:
    """A scan's files, what becomes of them, and a build: all that a build commits."""
    numbers = range(first, first + BATCH)
    dataset = catalogue.add_dataset("d", "/d")
    build = catalogue.start_build(dataset.id, MODEL)
    catalogue.write_files(dataset.id, scanned(numbers))
    good = [outcome(n, further=n % 2 == 0) for n in numbers if n % 5]
    bad = [Outcome(digest(n), error_code="x", error="y") for n in numbers if n % 5 == 0]
    catalogue.record(good + bad, MODEL)
    # The batch before has lost its first file, and has another content at its second.
    if first:
        known = catalogue.vector_ids([digest(first - BATCH + 1)], MODEL)
        images = catalogue.images_of_vectors(list(known.values()), [dataset.id])
        catalogue.mark_missing([image.id for found in images.values() for image in found])
        path = f"a/{first - BATCH + 2}.jpg"
        catalogue.fail_file(dataset.id, path, digest(first - BATCH + 2), "changed", "z")
    build.state, build.total = "done", BATCH
    catalogue.save_build(build)


def main() -> None:
    # What is slow at its first use is not so in every process.
    outcome(0)
    revisions()
    for line in sys.stdin:
        url, first = line.rsplit(" ", 1)
        pid = os.fork()
        if pid == 0:
            catalogue = Catalogue(url)
            for start in range(int(first), MOST, BATCH):
                write_batch(catalogue, start)
                os.write(1, f"done {start}\n".encode())
            os._exit(1)
        os.write(1, f"pid {pid}\n".encode())
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
