"""Whatever dies, stops or is cut off: no image is lost, none is done twice."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.e2e.faults import Cluster
from tests.e2e.harm import Harm

IMAGES = 2000
BROKEN = 20
BUILD_S = 100.0
RECOVERY_S = 60.0


def small_jpeg(rng: np.random.Generator) -> bytes:
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Reference:
    """The pictures and what an undisturbed run makes of them."""

    folder: Path
    vectors: dict[bytes, np.ndarray[Any, Any]]


@contextlib.contextmanager
def cluster_with(pictures: Path, folder: Path, compute: int = 3) -> Iterator[Cluster]:
    """A running cluster whose dataset ``many`` is a link to the pictures."""
    cluster = Cluster(folder, compute)
    try:
        (cluster.datasets / "many").symlink_to(pictures)
        cluster.environment["FUTU_IMAGE_ROOTS"] = str(pictures)
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("faults") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for number in range(IMAGES):
        data = small_jpeg(rng)
        if number % (IMAGES // BROKEN) == 0:
            data = (b"", b"a text", data[: len(data) // 3])[number % 3]
        (folder / f"{number:05}.jpg").write_bytes(data)
    with cluster_with(folder, tmp_path_factory.mktemp("undisturbed")) as cluster:
        cluster.client.build_index(["many"])
        cluster.await_build("many", BUILD_S)
        return Reference(folder, cluster.vectors())


@pytest.mark.timeout(300)
def test_faults_lose_no_image_and_do_none_twice(
    reference: Reference, tmp_path: Path, seed: int
) -> None:
    with cluster_with(reference.folder, tmp_path) as cluster:
        cluster.client.build_index(["many"])
        harm = Harm(cluster, seed, len(reference.vectors))
        try:
            harm.run()
            progress = cluster.await_build("many", RECOVERY_S)
            assert progress.total == IMAGES
            summed = progress.added + progress.reused + progress.unchanged + progress.failed
            assert summed + progress.quarantined == IMAGES
            images = cluster.images()
            assert len(images) == len({path for path, *_ in images}) == IMAGES
            assert {state for _, state, *_ in images} == {"ready", "failed"}
            failed = [code for _, state, code, _ in images if state == "failed"]
            assert len(failed) == BROKEN
            assert set(failed) <= {"not_an_image", "cannot_decode"}
            vectors = cluster.vectors()
            assert set(vectors) == set(reference.vectors)
            for digest, vector in vectors.items():
                assert float(vector @ reference.vectors[digest]) > 0.999, digest.hex()
            cluster.assert_redis_is_clean()
            cluster.until(lambda: len(cluster.health().get("compute_servers", ())) == 3)
            wanted = reference.folder / "00777.jpg"
            assert cluster.client.search(wanted, top_k=1)[0].fname == "00777.jpg"
        except AssertionError as error:
            story = "\n".join(harm.done)
            what = str(error).partition("\n")[0]
            raise AssertionError(f"seed {seed}\n{story}\n{what}\n{cluster.log_tail()}") from error


@pytest.mark.timeout(120)
def test_build_without_compute_servers_waits_says_so_and_goes_on(
    reference: Reference, tmp_path: Path
) -> None:
    with cluster_with(reference.folder, tmp_path, compute=1) as cluster:
        cluster.kill("compute-0")
        cluster.until(lambda: not cluster.health()["compute_servers"])
        cluster.client.build_index(["many"])
        cluster.until(lambda: "no compute server" in cluster.client.progress("many").message)
        assert cluster.client.progress("many").status == "building"
        cluster.launch("compute-0")
        cluster.until(lambda: cluster.client.progress("many").added > 0)
        assert "no compute server" not in cluster.client.progress("many").message


@pytest.mark.timeout(120)
def test_suspended_worker_that_wakes_cannot_touch_what_is_no_longer_its_own(
    reference: Reference, tmp_path: Path
) -> None:
    with cluster_with(reference.folder, tmp_path, compute=2) as cluster:
        cluster.client.build_index(["many"])
        cluster.until(lambda: cluster.client.jobs()["counts"]["live"] >= 2)
        cluster.suspend("compute-0")
        # Both workers hold a job at any time during a build: the other takes ours over.
        cluster.until(lambda: "took over" in cluster.log_text())
        cluster.wake("compute-0")
        progress = cluster.await_build("many", BUILD_S)
        assert (progress.added, progress.failed) == (IMAGES - BROKEN, BROKEN)
        assert "no longer ours; result dropped" in cluster.log_text()
        assert set(cluster.vectors()) == set(reference.vectors)
        cluster.assert_redis_is_clean()


@pytest.mark.timeout(120)
def test_two_requests_at_once_give_one_build_and_polling_never_fails(
    reference: Reference, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(reference.folder.iterdir())[:400]:
        os.link(file, few / file.name)
    with cluster_with(few, tmp_path / "cluster", compute=2) as cluster:
        barrier = threading.Barrier(2)
        builds: set[int] = set()
        ended = threading.Event()
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                barrier.wait(10)
                cluster.client.build_index(["many"])
                while not ended.is_set():
                    builds.add(cluster.client.progress("many").build_id)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        cluster.until(lambda: bool(builds))
        progress = cluster.await_build("many", BUILD_S)
        ended.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert builds == {progress.build_id}
        done = sum(server["images_done"] for server in cluster.health()["compute_servers"])
        assert done == 400 - duplicates_of_broken(cluster)


def duplicates_of_broken(cluster: Cluster) -> int:
    """Files whose content another file has too: a job carries each content once."""
    digests = [digest for *_, digest in cluster.images()]
    return len(digests) - len(set(digests))
