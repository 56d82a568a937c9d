"""Controller and compute servers on different hosts: network namespaces, and no shared disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.e2e.faults import LEASE_S, Cluster
from tests.pictures import jpeg

IMAGES = 600
NEAR, FAR = "10.231.77.1", "10.231.77.2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class OtherHost:
    """A network namespace joined to ours by a cable that can be pulled."""

    def __init__(self) -> None:
        self.name = f"futu{os.getpid() % 100000}"
        self._cable = f"fa{os.getpid() % 100000}"
        far = f"fb{os.getpid() % 100000}"
        ip("netns", "add", self.name)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", far, "netns", self.name)
        ip("addr", "add", f"{NEAR}/30", "dev", self._cable)
        ip("-n", self.name, "addr", "add", f"{FAR}/30", "dev", far)
        ip("-n", self.name, "link", "set", far, "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        self.plug()

    def plug(self) -> None:
        ip("link", "set", self._cable, "up")

    def pull(self) -> None:
        ip("link", "set", self._cable, "down")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", self.name)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self._cable)


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    try:
        host = OtherHost()
        hide = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
        subprocess.run(hide, check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"the kernel does not let us make network and mount namespaces: {reason}")
    yield host
    host.close()


@pytest.fixture
def cluster(tmp_path: Path, other_host: OtherHost) -> Iterator[Cluster]:
    """Redis and controller here, two compute servers there, where the pictures are not."""
    made = Cluster(tmp_path, compute=2, redis_host=NEAR, redis_password="between us")
    pictures = made.datasets / "far"
    pictures.mkdir()
    for n in range(IMAGES):
        (pictures / f"{n:03}.jpg").write_bytes(jpeg(70_000 + n, (160, 120)))
    for name in made.compute:
        # Another host has another disk: the datasets folder is empty there, its data its own.
        script = 'mount -t tmpfs none "$0" && export FUTU_DATA_DIR="$1" && shift && exec "$@"'
        made.prefixes[name] = [
            *("ip", "netns", "exec", other_host.name, "unshare", "--mount", "sh", "-c", script),
            str(made.datasets),
            str(tmp_path / f"data-{name}"),
        ]
    yield made
    made.close()


@pytest.mark.timeout(180)
def test_hosts_without_a_shared_disk_index_and_search(cluster: Cluster) -> None:
    cluster.start()
    cluster.client.build_index(["far"])
    progress = cluster.await_build("far", 120)
    assert (progress.added, progress.failed) == (IMAGES, 0)
    servers = cluster.health()["compute_servers"]
    assert [server["by_path"] for server in servers] == [False, False]
    assert all(server["images_done"] > 0 for server in servers)
    wanted = cluster.datasets / "far" / "123.jpg"
    assert cluster.client.search(wanted, top_k=1)[0].fname == "123.jpg"
    feature = cluster.client.feature(str(wanted))
    assert feature["dimension"] == 1280
    client = redis.Redis.from_url(cluster.redis_url)
    facts = client.info("memory")
    client.close()
    # 600 pictures passed through; the window of one build is 64 MB, and Redis adds its own.
    assert facts["used_memory_peak"] < 128 * 1024 * 1024
    cluster.assert_redis_is_clean()


@pytest.mark.timeout(180)
def test_pulled_cable_costs_no_image(cluster: Cluster, other_host: OtherHost) -> None:
    cluster.start()
    cluster.client.build_index(["far"])
    cluster.until(lambda: cluster.client.progress("far").current > 0)
    other_host.pull()
    # Longer than the lease: every job that is over there is silent now.
    cluster.until(lambda: not cluster.health()["compute_servers"], 10 * LEASE_S)
    assert cluster.client.progress("far").status == "building"
    other_host.plug()
    progress = cluster.await_build("far", 120)
    assert (progress.added, progress.failed, progress.quarantined) == (IMAGES, 0, 0)
    assert len(cluster.vectors()) == IMAGES
    cluster.assert_redis_is_clean()
