"""PDQ and pHash of pictures, in the environment that has them.

Run as ``python -m benchmarks.copies.hashes LIST OUT``: LIST names a file a line, OUT is an .npz of
``pdq``, bool, (n, 8, 256): of the picture as it is, then in its seven other orientations, and
``phash``, bool, (n, 1, 64).
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_REPORT_EVERY = 2000


def hashed(path: str) -> tuple[Any, Any]:
    """By the libraries' own defaults; the quality that PDQ gives is not looked at."""
    import imagehash
    import pdqhash

    with Image.open(path) as image:
        picture = image.convert("RGB")
    pixels = np.ascontiguousarray(picture)
    pdq, _ = pdqhash.compute_dihedral(pixels)
    return np.asarray(pdq, bool), imagehash.phash(picture).hash.reshape(1, -1)


def main() -> None:
    files = Path(sys.argv[1]).read_text("utf-8").splitlines()
    found = []
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for done, one in enumerate(pool.imap(hashed, files, chunksize=32), 1):
            found.append(one)
            if done % _REPORT_EVERY == 0:
                print(f"hashes: {done} of {len(files)}", file=sys.stderr, flush=True)
    pdq, phash = (np.stack(column) for column in zip(*found))
    np.savez(sys.argv[2], pdq=pdq, phash=phash)


if __name__ == "__main__":
    main()
