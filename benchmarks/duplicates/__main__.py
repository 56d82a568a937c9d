"""Duplicates found among edited pictures, and how long it takes: python -m benchmarks.duplicates.

With --photos: 300 originals, each with five edits (crop, mirrored, upside down, turned by 25
degrees, squared), 1,800 pictures: which pairs are found, by our presets and by PDQ and pHash. The
numbers of the presets were chosen with --offset 0; other offsets are other originals.

With --scale: generated vectors in a catalogue and an index, as benchmarks.index builds and keeps
them: how long a search for duplicates takes, and how much memory.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.duplicates import protocol, scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="has gallery/")
    parser.add_argument("--models", default="sscd-distilled,sscd")
    parser.add_argument("--offset", type=int, default=1, help="which originals: 0, 1, 2")
    parser.add_argument("--no-hashes", dest="hashes", action="store_false")
    default = Path(tempfile.gettempdir()) / "futu-benchmark-hashes"
    parser.add_argument("--hashes-env", type=Path, default=default, help="their environment")
    parser.add_argument("--scale", default="", help="numbers of vectors, with commas")
    parser.add_argument("--folder", type=Path, default=Path("index-benchmark"))
    given = parser.parse_args()
    if given.photos is None and not given.scale:
        parser.error("give --photos or --scale")
    if given.photos is not None:
        with tempfile.TemporaryDirectory(prefix="futu-duplicates-") as folder:
            env = given.hashes_env if given.hashes else None
            protocol.run(given.photos, given.models.split(","), given.offset, env, Path(folder))
    if given.scale:
        scale.run([int(size) for size in given.scale.split(",")], given.folder)


if __name__ == "__main__":
    main()
