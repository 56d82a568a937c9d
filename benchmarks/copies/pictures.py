"""The edited copies, as files."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.copies.edits import EDITS, edited
from benchmarks.copies.models import CORES
from PIL import Image


@dataclass(frozen=True)
class Copies:
    """Edited copies of some gallery pictures by one edit.

    Attributes:
        edit: its name.
        truth: for each, the index of its original in the gallery.
        files: where they are.
    """

    edit: str
    truth: list[int]
    files: list[Path]


def make(
    steps: Sequence[int],
    gallery: Sequence[Path],
    hosts: Sequence[Path],
    folder: Path,
    seed: int,
) -> list[Copies]:
    """Edited copies of gallery pictures.

    Args:
        steps: for each of ``EDITS``: every so many-th picture is edited so; 0: none.
        gallery: the originals.
        hosts: pictures that are not in the gallery, for edits that need another one.
        folder: where the copies go.
        seed: of all chance.
    """
    plan = []
    for number, (edit, step) in enumerate(zip(EDITS, steps)):
        if step == 0:
            continue
        truth = list(range(0, len(gallery), step))
        files = [folder / f"{number}-{index}.jpg" for index in truth]
        plan.append(Copies(edit.name, truth, files))
    work = partial(_edit_one, list(hosts), folder, seed)
    jobs = [
        (index, path, [n for n, step in enumerate(steps) if step and index % step == 0])
        for index, path in enumerate(gallery)
    ]
    with ProcessPoolExecutor(CORES) as pool:
        for done, _ in enumerate(pool.map(work, jobs, chunksize=8), 1):
            if done % 100 == 0:
                print(f"edited: {done} of {len(gallery)}", file=sys.stderr, flush=True)
    return plan


def _edit_one(
    hosts: list[Path],
    folder: Path,
    seed: int,
    job: tuple[int, Path, list[int]],
) -> None:
    index, path, numbers = job
    with Image.open(path) as image:
        picture = image.convert("RGB")
    for number in numbers:
        key = f"{seed} {index} {number}"
        with Image.open(random.Random(key).choice(hosts)) as image:
            host = image.convert("RGB")
        (folder / f"{number}-{index}.jpg").write_bytes(edited(EDITS[number], picture, host, key))
