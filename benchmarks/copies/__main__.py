"""Finding edited copies, by our models, PDQ and pHash: python -m benchmarks.copies --photos PHOTOS.

The gallery is as it is; the queries are edited copies of its pictures. A third of the pictures
get the edits that no figure is wanted for.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks import system
from benchmarks.copies import models, report
from benchmarks.copies.edits import FURTHER, LISTED
from benchmarks.copies.measures import Ranking, Similarities
from benchmarks.copies.pictures import Copies, make
from benchmarks.environment import python_with

from futu import config
from futu.images.pixels import Pixels
from futu.models import registry

_REPOSITORY = Path(__file__).parents[2]
_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_FURTHER_STEP = 3
_SAME_BITS = 31  # of 256: what the authors of PDQ call a match
_TURNED = "sscd-distilled"
_NEAREST = 10


@dataclass
class Contender:
    """What finds copies, by vectors whose products are similarities.

    Attributes:
        gallery: float32, shape (orientations, pictures, numbers); the first orientation is the
            picture as it is.
        background: of pictures that are not in the gallery, shape (pictures, numbers).
        queries: shape (queries, numbers).
    """

    name: str
    about: str
    gallery: npt.NDArray[np.float32]
    background: npt.NDArray[np.float32]
    queries: npt.NDArray[np.float32]

    def plain(self, queries: slice) -> Similarities:
        """Shape (queries, pictures)."""
        return np.asarray(self.queries[queries] @ self.gallery[0].T, np.float32)

    def turned(self, queries: slice) -> Similarities:
        """Those of the most similar orientation."""
        found = [self.queries[queries] @ pictures.T for pictures in self.gallery]
        return np.asarray(np.maximum.reduce(found), np.float32)

    def normalised(self, queries: slice) -> Similarities:
        """Less how similar the query is to the nearest of what it is certainly no copy of.

        The score normalisation of the SSCD paper, section 4.3, and of the challenge's
        scripts/score_normalization.py: here the mean over the ten nearest.
        """
        nearest = np.sort(self.queries[queries] @ self.background.T, axis=1)[:, -_NEAREST:]
        return np.asarray(self.plain(queries) - nearest.mean(axis=1, keepdims=True), np.float32)

    def ahead(self, queries: slice) -> Similarities:
        """Less how similar the query is to the second to fourth of the gallery.

        Only for libraries that hold a picture once: further copies would hide each other.
        """
        plain = self.plain(queries)
        next_ones = np.sort(plain, axis=1)[:, -4:-1].mean(axis=1, keepdims=True)
        return np.asarray(plain - next_ones, np.float32)


@dataclass(frozen=True)
class Files:
    """What is to be turned into vectors."""

    gallery: Sequence[Path]
    background: Sequence[Path]
    queries: Sequence[Path]

    def all(self) -> list[Path]:
        return [*self.gallery, *self.background, *self.queries]

    def split(self, found: Any) -> tuple[Any, Any, Any]:
        """Rows for all into rows for each."""
        second = len(self.gallery)
        third = second + len(self.background)
        return found[:second], found[second:third], found[third:]


def by_models(names: Sequence[str], files: Files) -> Iterator[Contender]:
    """Our models, with what the settings choose to run them."""
    loaded = [models.load(name) for name in names]
    for model, found in zip(loaded, models.vectors(files.all(), loaded)):
        gallery, background, queries = files.split(found)
        orientations = [gallery]
        if model.name == _TURNED:
            orientations += _other_orientations(model, files.gallery)
        yield Contender(model.name, model.about, np.stack(orientations), background, queries)


def _other_orientations(model: models.Model, gallery: Sequence[Path]) -> list[Any]:
    def turned(way: int) -> models.Model:
        def prepare(pixels: Pixels) -> Pixels:
            image = np.rot90(model.prepare(pixels), way % 4)
            return np.ascontiguousarray(image[:, ::-1] if way >= 4 else image)

        return replace(model, prepare=prepare)

    return models.vectors(gallery, [turned(way) for way in range(1, 8)])


def by_hashes(python: str, files: Files, folder: Path) -> Iterator[Contender]:
    """PDQ and pHash. The similarity is the share of equal bits x 2 - 1."""
    names, result = folder / "names.txt", folder / "hashes.npz"
    names.write_text("".join(f"{file}\n" for file in files.all()), "utf-8")
    command = [python, "-m", "benchmarks.copies.hashes", str(names), str(result)]
    subprocess.run(command, cwd=_REPOSITORY, check=True)
    found = np.load(result)
    versions = dict(line.split("==") for line in _REQUIREMENTS.read_text().split())
    for name, key, package in (("PDQ", "pdq", "pdqhash"), ("pHash", "phash", "imagehash")):
        bits = found[key]
        signs = (np.where(bits, 1, -1) / np.sqrt(bits.shape[2])).astype(np.float32)
        gallery, background, queries = files.split(signs)
        orientations = np.ascontiguousarray(gallery.transpose(1, 0, 2))
        about = f"{package} {versions[package]}, {bits.shape[2]} bits"
        yield Contender(name, about, orientations, background[:, 0], queries[:, 0])


def same_pictures(gallery: Sequence[Path], pdq: Contender | None) -> npt.NDArray[np.bool_]:
    """Which originals are the same picture; says how many.

    By their pixels, or by PDQ in any orientation. Not by the models: they are what is judged.
    """
    pixels = [hash(models.decoded(file, 1 << 16).tobytes()) for file in gallery]
    same = np.equal.outer(pixels, pixels)
    np.fill_diagonal(same, False)
    print(f"pairs of originals with equal pixels: {same.sum() // 2}")
    if pdq is not None:
        alike = np.maximum.reduce([pdq.gallery[0] @ turned.T for turned in pdq.gallery])
        alike = alike >= 1 - 2 * (_SAME_BITS + 0.5) / 256
        np.fill_diagonal(alike, False)
        print(f"pairs of originals within {_SAME_BITS} bits of PDQ: {(alike | alike.T).sum() // 2}")
        same |= alike | alike.T
    return same


def compare(chosen: argparse.Namespace, folder: Path) -> None:
    """Make the copies, measure, print."""
    gallery = system.pictures(chosen.photos / "gallery")
    hosts = system.pictures(chosen.photos / "query")
    step = max(1, len(gallery) // chosen.limit) if chosen.limit else 1
    steps = [step] * len(LISTED) + [step * _FURTHER_STEP] * len(FURTHER)
    python = python_with(_REQUIREMENTS, chosen.hashes_env) if chosen.hashes else ""
    copies = make(steps, gallery, hosts, folder, chosen.seed)
    queries = [file for each in copies for file in each.files]
    print(
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, seed {chosen.seed}; "
        f"{len(queries)} edited copies, {len(gallery)} originals"
    )
    files = Files(gallery, hosts, queries)
    contenders = list(by_models(chosen.models, files))
    if python:
        contenders += by_hashes(python, files, folder)
    for contender in contenders:
        print(f"{contender.name}: {contender.about}")
    pdq = next((c for c in contenders if c.name == "PDQ"), None)
    same = same_pictures(gallery, pdq)
    rows = {c.name: _rankings(c.plain, copies, same) for c in contenders}
    report.tables(rows)
    for name in chosen.models:
        report.meaning(name, rows[name], registry.spec(name, config.load().models_dir).scale)
    for contender in contenders:
        ways = {"plain": rows[contender.name]}
        if len(contender.gallery) > 1:
            ways["best of 8 orientations"] = _rankings(contender.turned, copies, same)
        ways["score normalised"] = _rankings(contender.normalised, copies, same)
        ways["less ranks 2 to 4"] = _rankings(contender.ahead, copies, same)
        report.ways(contender.name, ways)


def _rankings(
    similarities: Callable[[slice], Similarities],
    copies: Sequence[Copies],
    same: npt.NDArray[np.bool_],
) -> dict[str, Ranking]:
    rankings, at = {}, 0
    for each in copies:
        found = similarities(slice(at, at := at + len(each.files)))
        rankings[each.edit] = Ranking(found, np.array(each.truth), same)
    return rankings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--limit", type=int, default=0, help="edit about so many pictures only")
    parser.add_argument("--seed", type=int, default=1)
    known = registry.names(config.load().models_dir)
    parser.add_argument(
        "--models", type=lambda text: text.split(","), default=registry.names(), help="with commas"
    )
    parser.add_argument("--no-hashes", dest="hashes", action="store_false")
    default = Path(tempfile.gettempdir()) / "futu-benchmark-hashes"
    parser.add_argument("--hashes-env", type=Path, default=default, help="their environment")
    chosen = parser.parse_args()
    if unknown := set(chosen.models) - set(known):
        parser.error(f"--models: {', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="futu-copies-") as folder:
        compare(chosen, Path(folder))


if __name__ == "__main__":
    main()
