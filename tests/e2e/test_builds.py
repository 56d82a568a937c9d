"""Builds that are cancelled, continued, tried again; pictures over which workers die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from tests.e2e import deadly
from tests.e2e.conftest import System, free_port
from tests.e2e.faults import Cluster
from tests.e2e.test_cli import futu
from tests.pictures import jpeg


def fill(folder: Path, count: int, first_seed: int) -> None:
    folder.mkdir(parents=True)
    for n in range(count):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(first_seed + n, (160, 120)))


def test_cancelled_build_stops_and_the_next_one_goes_on(system: System) -> None:
    fill(system.datasets / "cancelled", 600, 50_000)
    system.client.build_index(["cancelled"])
    while system.client.progress("cancelled").current == 0:
        pass
    assert system.client.cancel_build("cancelled")
    stopped = system.await_build("cancelled")
    assert (stopped.status, stopped.state) == ("error", "cancelled")
    assert "Index it again" in stopped.message
    assert 0 < stopped.current < 600
    assert not system.client.cancel_build("cancelled")
    done = system.index("cancelled")
    assert (done.status, done.total, done.failed) == ("done", 600, 0)
    assert done.added + done.unchanged + done.reused == 600
    # What the cancelled build had done was not done again.
    assert done.unchanged + done.reused >= stopped.added
    newest = system.client.builds(2)
    assert [build.state for build in newest] == ["done", "cancelled"]
    assert [build.dataset for build in newest] == ["cancelled", "cancelled"]


def test_queries_are_answered_in_the_middle_of_a_build(system: System) -> None:
    fill(system.datasets / "first", 5, 64_000)
    system.index("first")
    fill(system.datasets / "long", 600, 65_000)
    system.client.build_index(["long"])
    while system.client.progress("long").current == 0:
        pass
    for n in range(5):
        wanted = system.datasets / "first" / f"00{n}.jpg"
        assert system.client.search(wanted, datasets=["first"], top_k=1)[0].fname == wanted.name
    # Queries do not stand behind the jobs of the build: they are all answered before its end.
    assert system.client.progress("long").status == "building"
    assert system.await_build("long").failed == 0


def test_command_line_cancels_and_lists_builds_and_jobs(system: System) -> None:
    fill(system.datasets / "by hand", 3, 60_000)
    assert futu(system, "index", "by hand", "--cancel").stderr.startswith("No build")
    assert futu(system, "index", "by hand").returncode == 0
    assert "by hand" in futu(system, "builds", "--limit", "5").stdout
    assert futu(system, "jobs").stdout.startswith("0 live, 0 waiting")
    client = redis.Redis.from_url(system.child("compute").environ()["REDIS_URL"])
    client.mset({"lock:left-behind": "1-1 nobody", "somebody-else": "x"})
    assert futu(system, "jobs", "clear-stale-locks").stdout.startswith("1 removed")
    assert client.delete("lock:left-behind", "somebody-else") == 1
    client.close()
    assert futu(system, "jobs", "retry").returncode == 0


def interrupted(system: System, stdin: int, answer: bytes = b"") -> tuple[int, bytes]:
    """``futu index`` with its bar on a terminal, sent SIGINT: its exit code and what it said."""
    screen, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "futu", "index", "waiting"],
        cwd=system.folder,
        env=os.environ | {"FUTU_SERVER": system.client.server, "TERM": "xterm", "COLUMNS": "200"},
        stdin=terminal if stdin == subprocess.PIPE else stdin,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    said = os.read(screen, 4096)  # the bar is drawn
    process.send_signal(signal.SIGINT)
    os.write(screen, answer)
    with contextlib.suppress(OSError):  # the end of a terminal on Linux
        while more := os.read(screen, 4096):
            said += more
    os.close(screen)
    return process.wait(timeout=30), said


def test_ctrl_c_asks_a_person_and_leaves_the_build_alone_in_a_script(own_system: System) -> None:
    # Without Redis the build waits for as long as the test needs.
    own_system.environment = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(free_port())}
    fill(own_system.datasets / "waiting", 2, 66_000)
    own_system.start("serve", wanted="unavailable")
    code, said = interrupted(own_system, subprocess.DEVNULL)
    assert (code, b"goes on" in said) == (0, True)
    assert own_system.client.progress("waiting").state == "building"
    code, said = interrupted(own_system, subprocess.PIPE, b"n\n")
    assert (code, b"goes on" in said) == (0, True)
    assert own_system.client.progress("waiting").state == "building"
    code, said = interrupted(own_system, subprocess.PIPE, b"y\n")
    assert (code, b"Cancelled at" in said) == (1, True)
    assert own_system.client.progress("waiting").state == "cancelled"


def test_failed_files_are_tried_again_on_request_only(system: System) -> None:
    folder = system.datasets / "again and again"
    fill(folder, 2, 61_000)
    bad = folder / "bad.jpg"
    bad.write_bytes(b"no picture")
    assert system.index("again and again").failed == 1
    before = system.images_done()
    assert system.index("again and again").failed == 1
    assert system.images_done() == before
    system.client.build_index(["again and again"], retry_failed=True)
    assert system.await_build("again and again").failed == 1
    assert system.images_done() == before + 1


def test_file_that_is_gone_is_missing_with_a_reason(system: System) -> None:
    folder = system.datasets / "leaving"
    fill(folder, 2, 62_000)
    system.index("leaving")
    (folder / "001.jpg").unlink()
    assert system.index("leaving").missing == 1
    answer = system.http.get("/api/build_index/leaving/failures?state=missing").json()
    (missing,) = answer["failures"]
    assert (missing["path"], missing["state"], missing["code"]) == (
        "001.jpg",
        "missing",
        "missing_file",
    )


@contextmanager
def kept_alive(cluster: Cluster) -> Iterator[None]:
    """Start compute servers again when they have died, as a supervisor does."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for name in cluster.compute:
                if cluster.processes[name].poll() is not None:
                    cluster.launch(name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@pytest.mark.timeout(180)
def test_picture_over_which_workers_die_is_put_aside_and_the_rest_is_indexed(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, compute=2, program=(deadly.__file__,))
    try:
        folder = cluster.datasets / "deadly"
        fill(folder, 40, 63_000)
        (folder / "020.jpg").write_bytes(jpeg(63_020, (160, 120)) + deadly.MARK)
        cluster.start()
        cluster.client.build_index(["deadly"])
        with kept_alive(cluster):
            progress = cluster.await_build("deadly", 120)
            assert (progress.added, progress.quarantined, progress.failed) == (39, 1, 0)
            (failure,) = cluster.client.failures("deadly")
            assert (failure.path, failure.state) == ("020.jpg", "quarantined")
            assert "SIGKILL" in failure.error
            (dead,) = cluster.client.jobs()["dead"]
            assert dead["image"] == "020.jpg"
            cluster.assert_redis_is_clean(dead_letters=1)
            # Left alone by the next build, tried again on request, and put aside again.
            cluster.client.build_index(["deadly"])
            again = cluster.await_build("deadly", 120)
            assert (again.unchanged, again.quarantined) == (39, 1)
            assert cluster.client.retry_jobs() == 1
            cluster.until(lambda: cluster.client.progress("deadly").build_id > again.build_id)
            assert cluster.await_build("deadly", 120).quarantined == 1
            assert len(cluster.client.jobs()["dead"]) == 1
    finally:
        cluster.close()
