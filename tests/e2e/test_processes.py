"""Starting, stopping, dying: what an operator may do to the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from tests.e2e.conftest import System, free_port
from tests.pictures import jpeg

from futu.errors import NoComputeServerError, NotIndexedError, RedisUnavailableError


def fill(system: System, count: int) -> Path:
    folder = system.datasets / "many"
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:04}.jpg").write_bytes(jpeg(2000 + n))
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_stops_within_five_seconds_and_leaves_no_process(
    own_system: System, number: signal.Signals
) -> None:
    own_system.start()
    assert own_system.process is not None
    family = psutil.Process(own_system.process.pid).children(recursive=True)
    assert len(family) == 3
    started = time.monotonic()
    assert own_system.stop(number) == 0
    assert time.monotonic() - started < 5
    assert not any(child.is_running() for child in family)
    log = own_system.log_text()
    order = [log.index(f"stopped {name}") for name in ("controller", "compute", "redis")]
    assert order == sorted(order)
    assert "Traceback" not in log


def test_stopping_amid_requests_answers_or_closes_and_logs_no_error(own_system: System) -> None:
    own_system.start()
    stopped, answered = threading.Event(), threading.Semaphore(0)
    codes: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=own_system.client.server, trust_env=False) as http:
            while not stopped.is_set():
                try:
                    codes.append(http.get("/health").status_code)
                    answered.release()
                except httpx.TransportError:
                    stopped.wait(0.01)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        assert answered.acquire(timeout=10)
    assert own_system.stop() == 0
    stopped.set()
    for thread in threads:
        thread.join()
    assert set(codes) <= {200, 503}
    assert "ERROR" not in own_system.log_text()


def test_children_end_when_the_supervisor_is_killed(own_system: System) -> None:
    own_system.start()
    assert own_system.process is not None
    family = psutil.Process(own_system.process.pid).children(recursive=True)
    ours = [child for child in family if "futu" in child.cmdline()]
    own_system.process.kill()
    own_system.process.wait()
    _, alive = psutil.wait_procs(ours, timeout=10)
    assert alive == []
    own_system.start()  # and the next start clears the orphaned Redis away
    redis = [p for p in family if p not in ours]
    _, alive = psutil.wait_procs(redis, timeout=5)
    assert alive == []


def test_killed_compute_server_is_replaced_and_no_image_is_lost(own_system: System) -> None:
    fill(own_system, 300)
    own_system.start()
    own_system.client.build_index(["many"])
    first = own_system.child("compute")
    while own_system.client.progress("many").current < 32:
        time.sleep(0.01)
    first.kill()
    progress = own_system.await_build("many")
    assert (progress.status, progress.added, progress.failed) == ("done", 300, 0)
    assert own_system.child("compute").pid != first.pid
    assert "compute ended unexpectedly" in own_system.log_text()


def test_killed_controller_continues_its_build(own_system: System) -> None:
    folder = fill(own_system, 300)
    own_system.start()
    own_system.client.build_index(["many"])
    while own_system.client.progress("many").current < 32:
        time.sleep(0.01)
    own_system.child("serve").kill()
    own_system.await_health("healthy")
    progress = own_system.await_build("many")
    assert progress.status == "done"
    assert progress.added + progress.unchanged + progress.reused == 300
    best = own_system.client.search(folder / "0299.jpg")[0]
    assert (best.fname, best.similarity > 99) == ("0299.jpg", True)


def test_killed_redis_loses_no_image(own_system: System) -> None:
    fill(own_system, 300)
    own_system.start()
    own_system.client.build_index(["many"])
    while own_system.client.progress("many").current < 32:
        time.sleep(0.01)
    own_system.child("valkey-server").kill()
    progress = own_system.await_build("many")
    assert (progress.status, progress.added, progress.failed) == ("done", 300, 0)


def test_second_start_has_its_index_and_damaged_one_is_rebuilt(own_system: System) -> None:
    folder = fill(own_system, 20)
    own_system.start()
    own_system.index("many")
    own_system.stop()
    own_system.start()
    assert own_system.client.health()["index"]["vectors"] == 20
    own_system.stop()
    (file,) = (own_system.folder / "data" / "index").glob("*lite0*.faiss.[01]")
    file.write_bytes(file.read_bytes()[:-100])
    own_system.start()
    assert own_system.client.health()["index"]["vectors"] == 20
    assert own_system.client.search(folder / "0003.jpg")[0].fname == "0003.jpg"
    assert "index is rebuilt from the catalogue" in own_system.log_text()


def test_controller_without_redis_says_so_and_goes_on_when_it_is_there(
    own_system: System, tmp_path: Path
) -> None:
    port = free_port()
    own_system.environment = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)}
    fill(own_system, 3)
    own_system.start("serve", wanted="unavailable")
    health = own_system.http.get("/health")
    assert health.status_code == 503
    assert str(port) in health.json()["redis"]["error"]
    own_system.client.build_index(["many"])
    with pytest.raises(NotIndexedError):
        own_system.client.search(own_system.datasets / "many" / "0000.jpg")
    with pytest.raises(RedisUnavailableError):
        own_system.client.feature(str(own_system.datasets / "many" / "0000.jpg"))
    from futu.jobs.embedded import server_binary

    command = [str(server_binary()), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    compute = None
    try:
        own_system.await_health("degraded")
        with pytest.raises(NoComputeServerError):
            own_system.client.feature(str(own_system.datasets / "many" / "0000.jpg"))
        compute = subprocess.Popen(
            [sys.executable, "-m", "futu", "compute"],
            cwd=own_system.folder,
            env=os.environ | own_system.environment,
        )
        own_system.await_health("healthy")
        assert own_system.await_build("many").added == 3
    finally:
        for process in (compute, redis):
            if process is not None:
                process.terminate()
                process.wait()


@pytest.mark.parametrize(
    ("options", "environment", "wanted"),
    [
        (["--port", "70000"], {}, "FUTU_PORT"),
        ([], {"COMPUTE_WORKERS": "many"}, "COMPUTE_WORKERS"),
        ([], {"REDIS_URL": "http://x"}, "redis://"),
        (["--debug", "--config", "production"], {}, "exclude each other"),
    ],
)
def test_wrong_setting_is_one_sentence_and_exit_code_two(
    tmp_path: Path, options: list[str], environment: dict[str, str], wanted: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "futu", "both", *options],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr


def test_second_system_on_the_same_data_directory_is_refused(system: System) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "futu", "both", "--port", str(free_port())],
        cwd=system.folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "already running" in done.stderr


def test_port_in_use_is_said_and_nothing_is_left_running(
    own_system: System, system: System
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "futu", "both", "--host", "127.0.0.1", "--port", str(system.port)],
        cwd=own_system.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{system.port}" in done.stderr
