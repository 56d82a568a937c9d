"""Index files: damaged, foreign, older, cut off by a full disk or a kill; nothing is ever lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from futu.errors import IndexDamagedError
from futu.index import faiss_file
from futu.index.base import Floats, Ids
from futu.index.faiss_file import data_path, manifest_path
from futu.index.faiss_index import FaissIndex
from futu.index.live import LiveIndex
from futu.index.policy import FLAT, HNSW_FLOAT16, HNSW_SQ8, Plan

DIMENSION = 32
COUNT = 300
IDS = np.arange(5, 5 + COUNT, dtype=np.int64)
KINDS = (FLAT, HNSW_FLOAT16, HNSW_SQ8)


def unit_vectors(count: int, seed: int = 1) -> npt.NDArray[np.float16]:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


VECTORS = unit_vectors(COUNT)


def fetch(wanted: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
    ids = np.array(wanted, np.int64)
    yield ids, VECTORS[ids - 5]


def made(kind: str) -> FaissIndex:
    index = FaissIndex(DIMENSION, Plan(kind, "for a test"), VECTORS.astype(np.float32))
    index.source = fetch
    index.add(IDS, VECTORS)
    return index


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A saved index of each kind."""
    made(request.param).save(tmp_path / "a.faiss", "me", "model", 7)
    return tmp_path / "a.faiss"


def level_anew(path: Path) -> LiveIndex:
    """What a controller does with the file at its start."""
    live = LiveIndex(path, "me", "model", DIMENSION)
    live.load()
    live.level(IDS, fetch)
    live.close()
    assert live.index.ids().tolist() == IDS.tolist()
    query = unit_vectors(1, 9)[0].astype(np.float32)
    expected = made(FLAT).search(query, 10)
    assert live.index.search(query, 10)[0].tolist() == expected[0].tolist()
    return live


def test_saved_index_loads_equal_and_goes_on(path: Path) -> None:
    loaded, version = FaissIndex.load(path, "me", "model", DIMENSION)
    loaded.source = fetch
    assert (version, len(loaded)) == (7, COUNT)
    query = unit_vectors(1, 9)[0].astype(np.float32)
    assert loaded.search(query, 10)[0].tolist() == made(FLAT).search(query, 10)[0].tolist()
    loaded.remove(IDS[:3])
    loaded.add(np.array([500], np.int64), unit_vectors(1, 3))
    loaded.save(path, "me", "model")
    again = FaissIndex.load(path, "me", "model", DIMENSION)[0]
    assert again.ids().tolist() == [*IDS.tolist()[3:], 500]


def damage_cut(path: Path) -> None:
    data = data_path(path)
    data.write_bytes(data.read_bytes()[:-10])


def damage_cut_in_half(path: Path) -> None:
    data = data_path(path)
    os.truncate(data, data.stat().st_size // 2)


def damage_emptied(path: Path) -> None:
    os.truncate(data_path(path), 0)


def damage_longer(path: Path) -> None:
    with data_path(path).open("ab") as file:
        file.write(b"\0")


def damage_gone(path: Path) -> None:
    data_path(path).unlink()


def damage_manifest(path: Path) -> None:
    manifest_path(path).write_text("{")


def damage_older(path: Path) -> None:
    """The data is that of an earlier save."""
    older = data_path(path).read_bytes()
    index = FaissIndex.load(path, "me", "model", DIMENSION)[0]
    index.remove(IDS[:3])
    index.save(path, "me", "model")
    data_path(path).write_bytes(older)


def damage_swapped(path: Path) -> None:
    """The data is that of another model."""
    other = path.with_name("b.faiss")
    FaissIndex(DIMENSION).save(other, "me", "other")
    data_path(path).write_bytes(data_path(other).read_bytes())


def damage_format(path: Path) -> None:
    """As an earlier version of the program wrote it."""
    path.write_bytes(b"IxM2")
    manifest_path(path).write_text(json.dumps({"identity": "me", "sha256": "00"}))


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_refused_and_the_index_made_again(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    damage(path)
    with pytest.raises(IndexDamagedError, match=r"a\.faiss"):
        FaissIndex.load(path, "me", "model", DIMENSION)
    live = level_anew(path)
    assert "index is rebuilt from the catalogue: " in caplog.text
    live.save()
    assert FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist() == IDS.tolist()
    assert not path.exists()


def test_no_bit_can_be_flipped_unnoticed(path: Path) -> None:
    file = data_path(path)
    good = file.read_bytes()
    places = np.random.default_rng(2).integers(0, len(good), 60).tolist()
    for place in [*range(40), *places, len(good) - 1]:
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        file.write_bytes(bad)
        with pytest.raises(IndexDamagedError):
            FaissIndex.load(path, "me", "model", DIMENSION)
    file.write_bytes(good)
    FaissIndex.load(path, "me", "model", DIMENSION)


@pytest.mark.parametrize(
    ("identity", "model", "dimension"),
    [("other", "model", DIMENSION), ("me", "other", DIMENSION), ("me", "model", 16)],
)
def test_index_of_another_catalogue_or_model_is_refused(
    path: Path, identity: str, model: str, dimension: int
) -> None:
    with pytest.raises(IndexDamagedError, match="another catalogue or model"):
        FaissIndex.load(path, identity, model, dimension)


def test_stale_file_is_caught_up(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    index = FaissIndex.load(path, "me", "model", DIMENSION)[0]
    index.remove(IDS[:20])
    index.add(np.array([1], np.int64), unit_vectors(1, 3))
    index.save(path, "me", "model")
    level_anew(path)
    assert "index brought level: 20 added, 1 removed" in caplog.text


def test_index_that_grows_while_it_is_saved_is_saved_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FaissIndex.load(path, "me", "model", DIMENSION)[0]
    monkeypatch.setattr(faiss_file, "_PIECE_BYTES", 1024)
    pieces = faiss_file._codes

    def growing(index: FaissIndex, rows: int) -> Iterator[npt.NDArray[np.uint8]]:
        for number, piece in enumerate(pieces(index, rows)):
            index.add(np.array([1000 + number], np.int64), unit_vectors(1, number))
            index.remove(IDS[number : number + 1])
            yield piece

    monkeypatch.setattr(faiss_file, "_codes", growing)
    index.save(path, "me", "model")
    assert len(index) == COUNT
    assert FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist() == IDS.tolist()
    level_anew(path)


CHILD = """
    import resource, sys
    from pathlib import Path
    from tests.contract.test_index_files import *

    path, kind = Path(sys.argv[1]), sys.argv[2]
    live = LiveIndex(path, "me", "model", DIMENSION)
    live.load()
    live.index.source = fetch
"""


def child(code: str, path: Path, kind: str = FLAT) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(CHILD + code), str(path), kind]


def test_full_disk_while_saving_leaves_the_former_file_and_says_so(path: Path) -> None:
    before = FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist()
    code = """
    live.add(np.arange(1000, 3000), unit_vectors(2000))
    used = data_path(path).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 1000, resource.RLIM_INFINITY))
    live.save()
    print(live.save_error)
    assert len(list(path.parent.iterdir())) == 2, list(path.parent.iterdir())
    assert FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist() == IDS.tolist()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    live.save()
    assert not live.save_error
    """
    done = subprocess.run(child(code, path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a.faiss cannot be saved (" in done.stdout
    assert "The former file stays." in done.stdout
    after = FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist()
    assert after == [*before, *range(1000, 3000)]


def test_kill_at_any_moment_of_saving_leaves_an_index(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    made(HNSW_SQ8).save(path, "me", "model", 7)
    # Forked from one process, since importing everything takes much longer than saving.
    code = """
    import os
    print("imported", flush=True)
    for _ in sys.stdin:
        if pid := os.fork():
            os.waitpid(pid, 0)
            continue
        live.load()
        live.index.source = fetch
        live.index.remove(np.arange(1000, 1200))
        live.add(np.arange(1000, 1200), unit_vectors(200))
        print(os.getpid(), flush=True)
        while True:
            live._dirty = True
            live.save()
    """
    rng = np.random.default_rng(1)

    with subprocess.Popen(
        child(code, path), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == "imported\n"
        for _ in range(30):
            print(file=running.stdin, flush=True)
            pid = int(running.stdout.readline())
            # At a moment of the loop that differs each time.
            threading.Event().wait(float(rng.uniform(0, 0.02)))
            os.kill(pid, signal.SIGKILL)
            index, version = FaissIndex.load(path, "me", "model", DIMENSION)
            assert index.ids().tolist() in (IDS.tolist(), [*IDS.tolist(), *range(1000, 1200)])
            assert version == 7
        running.stdin.close()
    level_anew(path).save()
    assert len(list(tmp_path.iterdir())) == 2
    assert FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist() == IDS.tolist()
