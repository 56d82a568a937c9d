"""The protocol of 1,800 pictures: which pairs of copies are found.

It is that of the benchmarks of imagededup: originals and, of each, a crop, both flips, a rotation
by 25 degrees and a square; all pairs of the six are to be found, and no others.
"""

from __future__ import annotations

import os
import platform
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from benchmarks import system
from benchmarks.copies import models
from benchmarks.environment import python_with
from PIL import Image

from futu.catalogue.duplicate_records import ReadyImage
from futu.controller.duplicates.component import Contents, Parting, by_vectors
from futu.controller.duplicates.groups import Pairs, components
from futu.controller.duplicates.neighbourhood import Neighbourhood, Rule
from futu.controller.duplicates.presets import PRESETS
from futu.images import edits
from futu.images.folder import hash_file
from futu.index.base import Floats, Ids
from futu.index.faiss_index import FaissIndex

ORIGINALS = 300
PRECISION = 0.99
WANTED = {"sscd-distilled": 0.75, "sscd": 0.90}
_REPOSITORY = Path(__file__).parents[2]
_REQUIREMENTS = _REPOSITORY / "benchmarks" / "copies" / "requirements.txt"
_PHASH_BITS, _PDQ_BITS = 10, 31
"""Up to so many different bits imagededup, and the authors of PDQ, call two pictures the same."""

_EDITS: tuple[tuple[str, edits.Make], ...] = (
    ("crop", edits.crop(0.7)),
    ("mirrored", edits.turned(Image.Transpose.FLIP_LEFT_RIGHT)),
    ("upside down", edits.turned(Image.Transpose.FLIP_TOP_BOTTOM)),
    ("rotated", edits.rotated(whole=True)),
    ("squared", edits.squared),
)

_EVERY = 9
_LIBRARY_EDITS = (
    *_EDITS,
    ("turned left", edits.turned(Image.Transpose.ROTATE_90)),
    ("saved again", edits.unchanged),
)

Truth = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Files, and of each the number of its original."""

    files: list[Path]
    truth: Truth
    edits: list[str]


def run(photos: Path, names: Sequence[str], offset: int, env: Path | None, folder: Path) -> None:
    """Make the pictures, find duplicates, print."""
    pictures = made(photos, offset, folder)
    print(
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, originals {offset}; "
        f"{len(pictures.files)} pictures, {_all_pairs(pictures.truth)} pairs of copies"
    )
    print(f"{'':34}precision  recall  groups")
    for name in names:
        _by_model(name, pictures)
    _in_library(names, photos, folder, offset)
    if env is not None:
        _by_hashes(python_with(_REQUIREMENTS, env), pictures, folder)


def made(photos: Path, offset: int, folder: Path) -> Pictures:
    """Originals, as they are, and edited copies of them."""
    gallery = system.pictures(photos / "gallery")
    step = len(gallery) // ORIGINALS
    files, truth, edits = [], [], []
    for number, original in enumerate(gallery[offset::step][:ORIGINALS]):
        files.append(original)
        with Image.open(original) as image:
            picture = image.convert("RGB")
        for name, make in _EDITS:
            file = folder / f"{number} {name}.jpg"
            make(picture, random.Random(f"{number} {name}"), picture).save(file, quality=85)
            files.append(file)
        truth += [number] * (1 + len(_EDITS))
        edits += ["original", *(name for name, _ in _EDITS)]
    return Pictures(files, np.array(truth), edits)


def _by_model(name: str, pictures: Pictures) -> None:
    model = models.load(name)
    (vectors,) = models.vectors(pictures.files, [model])
    cosines = vectors @ vectors.T
    originals = np.array(pictures.edits) == "original"
    for edit in [edit for edit, _ in _EDITS]:
        of_edit = np.array(pictures.edits) == edit
        each = (vectors[of_edit] * vectors[originals]).sum(axis=1)
        low, middle = np.quantile(each, (0.1, 0.5))
        print(f"  {name}: cosine of {edit:12} 10 % {low:.2f}, median {middle:.2f}")
    _print_best(f"{name}, cosine alone", cosines, pictures.truth)
    images = [_facts(number, file) for number, file in enumerate(pictures.files)]
    for preset, rule in PRESETS.items():
        begun = time.monotonic()
        labels, groups = _grouped(np.asarray(vectors, np.float16), images, rule)
        took = time.monotonic() - begun
        precision, recall = _pairs_of(labels, pictures.truth)
        met = ""
        if preset == "loose" and name in WANTED:
            good = precision >= PRECISION and recall >= WANTED[name]
            met = f"  wanted {PRECISION} and {WANTED[name]}: {'met' if good else 'MISSED'}"
        print(
            f"{name + ', ' + preset:34}{precision:>9.4f}{recall:>8.4f}{groups:>8}"
            f"  {took:.1f} s{met}"
        )
    for threshold in (0.95, 0.9, 0.8, 0.7):
        labels, groups = _grouped(np.asarray(vectors, np.float16), images, Rule(threshold))
        precision, recall = _pairs_of(labels, pictures.truth)
        print(f"{f'{name}, cosine {threshold:g}':34}{precision:>9.4f}{recall:>8.4f}{groups:>8}")


def _in_library(names: Sequence[str], photos: Path, folder: Path, offset: int) -> None:
    """As libraries are: every photo of the gallery, of a ninth one edited copy too."""
    gallery = system.pictures(photos / "gallery")
    files, truth = list(gallery), list(range(len(gallery)))
    for number in range(offset, len(gallery), _EVERY):
        name, make = _LIBRARY_EDITS[number // _EVERY % len(_LIBRARY_EDITS)]
        with Image.open(gallery[number]) as image:
            picture = image.convert("RGB")
        file = folder / f"library {number} {name}.jpg"
        make(picture, random.Random(f"{number} {name}"), picture).save(file, quality=85)
        files.append(file)
        truth.append(number)
    labels_of, copies = np.array(truth), len(files) - len(gallery)
    images = [_facts(number, file) for number, file in enumerate(files)]
    print(f"{len(gallery)} photos and one edited copy of {copies} of them")
    for name in names:
        (vectors,) = models.vectors(files, [models.load(name)])
        for preset, rule in PRESETS.items():
            labels, groups = _grouped(np.asarray(vectors, np.float16), images, rule)
            upper = np.triu_indices(len(files), 1)
            found = (labels[:, None] == labels)[upper]
            same = (labels_of[:, None] == labels_of)[upper]
            right, wrong = int((found & same).sum()), int((found & ~same).sum())
            print(f"{name + ', ' + preset:34}{right} found, {wrong} wrong pairs, {groups} groups")


def _facts(number: int, file: Path) -> ReadyImage:
    with Image.open(file) as image:
        width, height = image.size
    facts, digest = file.stat(), hash_file(str(file))
    return ReadyImage(
        number + 1, 1, file.name, facts.st_size, facts.st_mtime_ns, width, height, digest
    )


def _grouped(
    vectors: npt.NDArray[np.float16], images: Sequence[ReadyImage], rule: Rule
) -> tuple[Truth, int]:
    """Of each picture the number of its group, as a run finds them; and how many there are."""
    ids = np.arange(1, len(vectors) + 1)
    index = FaissIndex(vectors.shape[1])
    index.add(ids, vectors)

    def fetch(wanted: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
        found = np.array(wanted, np.int64)
        yield found, vectors[found - 1]

    around = Neighbourhood(ids, index, fetch, rule, whole=True, step=lambda _: None)
    pairs = around.pairs()
    contents = Contents([i.content_hash for i in images], [[i] for i in images], ids.tolist())
    parting = Parting(contents, around, set())
    labels, groups = -np.arange(1, len(vectors) + 1), 0
    places = Pairs(pairs.left - 1, pairs.right - 1, pairs.cosines)
    for component in components(places):
        known = by_vectors((component + 1).tolist(), fetch)
        for members in parting.groups(component.tolist(), known):
            groups += 1
            labels[[member.image_id - 1 for member in members]] = groups
    return labels, groups


def _by_hashes(python: str, pictures: Pictures, folder: Path) -> None:
    names, result = folder / "names.txt", folder / "hashes.npz"
    names.write_text("".join(f"{file}\n" for file in pictures.files), "utf-8")
    command = [python, "-m", "benchmarks.copies.hashes", str(names), str(result)]
    subprocess.run(command, cwd=_REPOSITORY, check=True)
    found = np.load(result)
    for name, key, most in (("pHash", "phash", _PHASH_BITS), ("PDQ", "pdq", _PDQ_BITS)):
        every = np.where(found[key], 1, -1).astype(np.float32)
        plain = every[:, 0] @ every[:, 0].T
        ways = {name: plain}
        if every.shape[1] > 1:
            turned = [every[:, way] @ every[:, 0].T for way in range(every.shape[1])]
            best = np.maximum.reduce(turned)
            ways[f"{name}, best of 8 orientations"] = np.maximum(best, best.T)
        for way, products in ways.items():
            distance = (every.shape[2] - products) / 2
            near = distance <= most
            precision, recall = _pairs_in(near, pictures.truth)
            print(f"{f'{way}, {most} bits':34}{precision:>9.4f}{recall:>8.4f}")
            _print_best(f"{way}, any bits", products, pictures.truth)


def _all_pairs(truth: Truth) -> int:
    _, sizes = np.unique(truth, return_counts=True)
    return int((sizes * (sizes - 1) // 2).sum())


def _pairs_of(labels: Truth, truth: Truth) -> tuple[float, float]:
    """Precision and recall of the pairs that are in one group."""
    return _pairs_in(labels[:, None] == labels, truth)


def _pairs_in(near: npt.NDArray[np.bool_], truth: Truth) -> tuple[float, float]:
    upper = np.triu_indices(len(truth), 1)
    found, same = near[upper], (truth[:, None] == truth)[upper]
    right = int((found & same).sum())
    return right / max(1, int(found.sum())), right / int(same.sum())


def _print_best(name: str, similarities: npt.NDArray[np.float32], truth: Truth) -> None:
    """The most recall at the precision wanted, by the threshold that suits these best."""
    upper = np.triu_indices(len(truth), 1)
    values, same = similarities[upper], (truth[:, None] == truth)[upper]
    order = np.argsort(-values, kind="stable")
    right = np.cumsum(same[order])
    precision = right / np.arange(1, len(order) + 1)
    good = np.flatnonzero(precision >= PRECISION)
    recall = right[good[-1]] / same.sum() if len(good) else 0.0
    print(f"{name + ', best threshold':34}{PRECISION:>9.2f}{recall:>8.4f}")
