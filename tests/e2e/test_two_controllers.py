"""Two controllers behind one address: PostgreSQL, Milvus and Redis have everything they know."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import until
from tests.e2e.balancer import Balancer
from tests.e2e.conftest import free_port
from tests.milvus import MilvusProcess
from tests.pictures import jpeg

from futu.client import Client
from futu.errors import FutuError

LEASE_S = 2.0
IMAGES = 24


class Process:
    """A controller with a data directory of its own, or a compute server."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self.log = folder / f"{name}.log"
        mode = ["serve", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "futu", *(["compute"] if name == "compute" else mode)],
            cwd=folder,
            env=environment | {"FUTU_DATA_DIR": name, "FUTU_LOG_FILE": f"{name}.log"},
        )

    def health(self) -> dict[str, Any]:
        try:
            return self.client.health()
        except FutuError:
            return {}

    def leads(self) -> bool:
        return bool(self.health().get("leader", {}).get("this"))

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.client.close()


class Site:
    """All processes on one folder of pictures."""

    def __init__(self, folder: Path, redis_url: str, database_url: str) -> None:
        self.folder, self.database_url = folder, database_url
        self.milvus = MilvusProcess()
        self.milvus.launch(folder / "milvus")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name == "FUTU_MODELS_DIR" or not name.startswith(("FUTU_", "REDIS_", "COMPUTE_"))
        } | {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "INDEX_URL": self.milvus.url,
            "FUTU_LEASE_S": str(LEASE_S),
            "FUTU_DATASETS_DIR": str(folder / "datasets"),
        }
        self.compute = Process(folder, "compute", environment)
        self.controllers = [Process(folder, name, environment) for name in ("first", "second")]
        self.balancer = Balancer([controller.port for controller in self.controllers])
        self.client = Client(f"http://127.0.0.1:{self.balancer.port}")

    def fill(self, name: str, first_seed: int) -> None:
        (self.folder / "datasets" / name).mkdir(parents=True)
        for n in range(IMAGES):
            picture = jpeg(first_seed + n, (96, 72))
            (self.folder / "datasets" / name / f"{n:03}.jpg").write_bytes(picture)

    def leader(self) -> tuple[Process, Process] | None:
        """The controller that leads and the one that does not."""
        first, second = self.controllers
        match (first.leads(), second.leads()):
            case (True, False):
                return first, second
            case (False, True):
                return second, first
        return None

    def vectors(self) -> int:
        with psycopg.connect(self.database_url) as db:
            row = db.execute(
                "SELECT count(*), count(DISTINCT content_hash) FROM vectors"
            ).fetchone()
        assert row is not None
        assert row[0] == row[1]
        return int(row[0])

    def close(self) -> None:
        self.balancer.close()
        self.client.close()
        for process in (*self.controllers, self.compute):
            process.close()
        self.milvus.kill()


@pytest.fixture
def site(tmp_path: Path, redis_url: str, postgresql: Callable[[], str]) -> Iterator[Site]:
    made = Site(tmp_path, redis_url, postgresql())
    yield made
    made.close()


def test_two_controllers_serve_the_same_and_one_takes_over_from_the_other(site: Site) -> None:
    site.fill("first", 1000)
    until(lambda: all(c.health().get("status") == "healthy" for c in site.controllers), 60)
    leader, follower = until(site.leader)
    # Asked for at one address, watched at both.
    site.client.build_index(["first"])
    until(lambda: site.client.progress("first").status == "done", 60)
    assert [c.client.progress("first").added for c in site.controllers] == [IMAGES, IMAGES]
    picture = site.folder / "datasets" / "first" / "007.jpg"
    for controller in site.controllers:
        until(lambda c=controller: len(_found(c, picture)) == 5)  # type: ignore[misc]
    assert _found(leader, picture) == _found(follower, picture)
    assert _found(follower, picture)[0] == "007.jpg"

    # The leader is suspended in the middle of a build.
    site.fill("second", 2000)
    site.compute.send(signal.SIGSTOP)
    follower.client.build_index(["second"])
    until(lambda: follower.client.progress("second").total == IMAGES)
    leader.send(signal.SIGSTOP)
    until(follower.leads, 4 * LEASE_S)
    site.compute.send(signal.SIGCONT)
    until(lambda: follower.client.progress("second").status == "done", 60)
    leader.send(signal.SIGCONT)
    until(lambda: site.leader() == (follower, leader))
    assert "another controller leads now" in leader.log.read_text("utf-8")
    assert site.vectors() == 2 * IMAGES
    assert leader.client.progress("second").status == "done"

    # The new leader is killed.
    follower.process.kill()
    until(leader.leads, 4 * LEASE_S)
    site.fill("third", 3000)
    site.client.build_index(["third"])
    until(lambda: site.client.progress("third").status == "done", 60)
    assert site.vectors() == 3 * IMAGES
    picture = site.folder / "datasets" / "third" / "003.jpg"
    assert _found(leader, picture)[0] == "003.jpg"


def _found(controller: Process, picture: Path) -> list[str]:
    try:
        return [hit.fname for hit in controller.client.search(picture, top_k=5)]
    except FutuError:
        return []
