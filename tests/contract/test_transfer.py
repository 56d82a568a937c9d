"""futu export and futu import between catalogues in each database."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.catalogues import FURTHER, MODEL, counts_are_right, digest, everything, fill, scanned

from futu.catalogue import transfer
from futu.catalogue.archive import ArchiveReader
from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import ScannedFile
from futu.catalogue.schema import PENDING, READY
from futu.catalogue.store import Catalogue
from futu.errors import ArchiveError


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    yield made
    made.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(sqlite_url(tmp_path / "other.db"))
    yield made
    made.close()


def silent(_done: int, _of: int) -> None:
    pass


def exported(catalogue: Catalogue, path: Path, *names: str) -> transfer.Counts:
    datasets = [d for d in catalogue.datasets() if d.name in names or not names]
    return transfer.export_datasets(catalogue, datasets, path, silent)


def imported(catalogue: Catalogue, path: Path, **dimensions: int) -> transfer.Counts:
    return transfer.import_archive(catalogue, path, lambda _, was: was, dimensions, silent)


def test_what_is_exported_and_imported_is_equal(
    catalogue: Catalogue, other: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PAGE", 7)
    monkeypatch.setattr(transfer, "_PART_BYTES", 100)
    fill(catalogue)
    there, back = tmp_path / "there.zip", tmp_path / "back.zip"
    counts = exported(catalogue, there)
    assert len(everything(catalogue)["vectors"]) == counts.vectors
    with ArchiveReader(there) as archive:
        assert len(archive.parts) > 10
    first = imported(other, there)
    assert everything(other) == everything(catalogue)
    assert (first.new_images, first.new_vectors) == (counts.images, counts.vectors)
    assert counts_are_right(other)
    # The other way, into a catalogue that has it all.
    exported(other, back)
    again = imported(catalogue, back)
    assert (again.images, again.new_images, again.new_vectors) == (counts.images, 0, 0)
    assert everything(other) == everything(catalogue)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_one_dataset_is_exported_with_its_own_vectors(
    catalogue: Catalogue, other: Catalogue, tmp_path: Path
) -> None:
    fill(catalogue)
    exported(catalogue, tmp_path / "e.zip", "zwei")
    imported(other, tmp_path / "e.zip")
    assert [dataset.name for dataset in other.datasets()] == ["zwei"]
    dataset = other.dataset("zwei")
    wanted = {i.content_hash for i in catalogue.all_images(catalogue.dataset("zwei").id)}
    assert {row[1] for row in everything(other)["vectors"]} == {
        row[1] for row in everything(catalogue)["vectors"] if row[1] in wanted
    }
    assert (
        other.image_counts()[dataset.id] == catalogue.image_counts()[catalogue.dataset("zwei").id]
    )


def test_import_leaves_what_is_there_and_adds_what_is_not(
    catalogue: Catalogue, other: Catalogue, tmp_path: Path
) -> None:
    fill(other)
    exported(other, tmp_path / "e.zip")
    dataset = catalogue.add_dataset("one", "/elsewhere")
    known = other.list_images(other.dataset("one").id, limit=1)[0]
    mine = ScannedFile(known.path, 77, 88, digest(1000), PENDING)
    catalogue.write_files(dataset.id, [mine])
    imported(catalogue, tmp_path / "e.zip")
    assert catalogue.dataset("one").folder == "/elsewhere"
    found = catalogue.known_files(dataset.id, MODEL)
    assert (found[known.path].size, found[known.path].content_hash) == (77, digest(1000))
    assert len(found) == len(other.known_files(other.dataset("one").id, MODEL))


def test_image_without_its_vector_waits_for_it(
    catalogue: Catalogue, other: Catalogue, tmp_path: Path
) -> None:
    fill(other)
    with other.write() as db:
        db.exec_driver_sql("DELETE FROM vectors WHERE model_id = ?", (MODEL,))
    exported(other, tmp_path / "e.zip")
    imported(catalogue, tmp_path / "e.zip")
    for image in catalogue.all_images(catalogue.dataset("one").id):
        if image.state == READY:
            assert catalogue.vector_ids([image.content_hash or b""], FURTHER)
    assert counts_are_right(catalogue)


def test_other_programs_can_read_an_export(catalogue: Catalogue, tmp_path: Path) -> None:
    fill(catalogue)
    exported(catalogue, tmp_path / "e.zip")
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "e")
    vectors = np.load(tmp_path / "e/vectors/000001.npy")
    lines = (tmp_path / "e/vectors/000001.jsonl").read_text().splitlines()
    assert vectors.dtype == np.float16
    assert len(lines) == len(vectors)
    stored = {row[1]: row[2] for row in everything(catalogue)["vectors"] if row[0] == MODEL}
    for line, vector in zip(lines, vectors):
        assert stored[bytes.fromhex(json.loads(line)["content_hash"])] == vector.tobytes()
    images = [json.loads(x) for x in (tmp_path / "e/images/000001.jsonl").read_text().splitlines()]
    assert images[0].keys() >= {"dataset", "path", "size", "mtime_ns", "content_hash", "state"}


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write an archive again, with other members."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items():
            target.writestr(name, change(name, data))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("vectors/000001.npy")
    data = bytearray(path.read_bytes())
    data[member.header_offset + 500] ^= 4
    path.write_bytes(data)


def swap_vectors(path: Path) -> None:
    rewritten(path, lambda name, data: data[::-1] if name == "vectors/000001.npy" else data)


def lose_a_part(path: Path) -> None:
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    del members["images/000001.jsonl"]
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)


def spoil_the_manifest(path: Path) -> None:
    rewritten(path, lambda name, data: data[:-30] if name == "manifest.json" else data)


def lose_the_checksums(path: Path) -> None:
    gone = re.compile(rb'"file_sha256"')
    rewritten(path, lambda name, data: gone.sub(b'"x"', data) if name == "manifest.json" else data)


def come_from_the_future(path: Path) -> None:
    newer = re.compile(rb'"version": 1')
    rewritten(
        path, lambda name, data: newer.sub(b'"version": 9', data) if "manifest" in name else data
    )


def be_a_text(path: Path) -> None:
    path.write_text("I am no export.")


def be_another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut_off, "cut off"),
        (flip_a_bit, "vectors/000001.npy .* is damaged"),
        (swap_vectors, "vectors/000001.npy .* is damaged .*SHA-256"),
        (lose_a_part, "images/000001.jsonl .* is damaged"),
        (spoil_the_manifest, "manifest.json"),
        (lose_the_checksums, "manifest.json .* is damaged"),
        (come_from_the_future, "version 9; this Futu reads futu-export version 1"),
        (be_a_text, "no export of Futu"),
        (be_another_zip, "no export of Futu"),
        (Path.unlink, "There is no file"),
    ],
)
def test_damaged_archive_is_named_and_nothing_is_taken(
    tmp_path: Path, archive_of_filled: Path, harm: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "e.zip"
    shutil.copy(archive_of_filled, path)
    harm(path)
    target = Catalogue(sqlite_url(tmp_path / "target.db"))
    with pytest.raises(ArchiveError, match=said):
        imported(target, path)
    assert target.datasets() == []
    assert everything(target) == {"images": [], "vectors": []}
    target.close()


@pytest.fixture(scope="module")
def archive_of_filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    source = Catalogue(sqlite_url(folder / "source.db"))
    fill(source)
    exported(source, folder / "e.zip")
    source.close()
    return folder / "e.zip"


def test_vectors_of_a_wrong_dimension_are_refused(
    other: Catalogue, archive_of_filled: Path
) -> None:
    with pytest.raises(ArchiveError, match=r"vectors of 8 numbers for the model model-1, .* 1280"):
        imported(other, archive_of_filled, **{MODEL: 1280})
    assert other.datasets() == []
    fill(other)
    with other.write() as db:
        db.exec_driver_sql("UPDATE vectors SET data = x'00000000' WHERE model_id = 'model-2'")
    with pytest.raises(
        ArchiveError, match=r"vectors of 4 numbers for the model model-2, .* have 2"
    ):
        imported(other, archive_of_filled)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\0b"])
def test_path_that_leads_out_of_its_dataset_is_refused(
    other: Catalogue, tmp_path: Path, path: str
) -> None:
    dataset = other.add_dataset("d", "/d")
    other.write_files(dataset.id, [ScannedFile(path, 1, 2, None, "failed", "x", "y")])
    exported(other, tmp_path / "e.zip")
    target = Catalogue(sqlite_url(tmp_path / "target.db"))
    with pytest.raises(ArchiveError, match="an image that cannot be one"):
        imported(target, tmp_path / "e.zip")
    assert everything(target)["images"] == []
    target.close()


def test_export_is_of_one_instant(catalogue: Catalogue, other: Catalogue, tmp_path: Path) -> None:
    fill(catalogue)
    before = everything(catalogue)

    def write_meanwhile(_done: int, _of: int) -> None:
        catalogue.write_files(catalogue.dataset("zwei").id, scanned(range(500, 510), "zz"))
        catalogue.fail_file(catalogue.dataset("zwei").id, "a/16.jpg", digest(16), "x", "y")

    datasets = catalogue.datasets()
    transfer.export_datasets(catalogue, datasets, tmp_path / "e.zip", write_meanwhile)
    assert everything(catalogue) != before
    imported(other, tmp_path / "e.zip")
    assert everything(other) == before
