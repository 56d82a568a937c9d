"""Redis that refuses: each way is named with its remedy, and mending it is enough."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.conftest import await_redis, until
from tests.contract.conftest import a_job, answer
from tests.e2e.conftest import free_port
from tests.integration.played import a_dataset, ended, make_controller
from tests.integration.test_compute_server import serving

from futu.controller.app import create_app
from futu.errors import RedisUnavailableError
from futu.jobs import embedded
from futu.jobs.streams import JobQueue


def valkey_at(port: int, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [str(embedded.server_binary()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--dir", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[int]:
    """The port of a Valkey that the test may spoil."""
    port = free_port()
    process = valkey_at(port, tmp_path)
    await_redis(f"redis://127.0.0.1:{port}/0", process)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
def queue(own_valkey: int) -> Iterator[JobQueue]:
    queue = JobQueue(f"redis://127.0.0.1:{own_valkey}/0")
    yield queue
    queue.close()


@pytest.fixture
def admin(own_valkey: int) -> Iterator[redis.Redis]:
    client = redis.Redis(port=own_valkey)
    yield client
    client.close()


def assert_works(queue: JobQueue) -> None:
    job = a_job()
    entry = queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    assert queue.deliver(lease, answer(job))
    assert queue.wait_result(job, entry, 5) == answer(job)


def test_read_only_replica_is_named_and_work_goes_on_when_it_is_primary(
    queue: JobQueue, admin: redis.Redis
) -> None:
    assert_works(queue)
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    admin.replicaof("127.0.0.1", "9")
    for command in (lambda: queue.enqueue(a_job()), lambda: queue.deliver(lease, answer(job))):
        with pytest.raises(RedisUnavailableError, match=r"read-only replica.*REDIS_HOST"):
            command()
    admin.replicaof("NO", "ONE")
    assert queue.deliver(lease, answer(job))
    assert_works(queue)


def test_redis_out_of_memory_is_named_and_work_goes_on_when_it_has_some(
    queue: JobQueue, admin: redis.Redis
) -> None:
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    admin.config_set("maxmemory", 1)
    with pytest.raises(RedisUnavailableError, match=r"out of memory.*maxmemory"):
        queue.enqueue(a_job())
    # What is under way may still come to its end: that is what frees memory.
    assert queue.deliver(lease, answer(job))
    admin.config_set("maxmemory", 0)
    assert_works(queue)


def test_wrong_password_is_named_and_never_shown(queue: JobQueue, own_valkey: int) -> None:
    admin = redis.Redis(port=own_valkey)
    admin.config_set("requirepass", "right")
    admin.close()
    wrong = JobQueue(f"redis://:wrong-one@127.0.0.1:{own_valkey}/0")
    none = JobQueue(f"redis://127.0.0.1:{own_valkey}/0")
    right = JobQueue(f"redis://:right@127.0.0.1:{own_valkey}/0")
    try:
        for refused in (wrong, none):
            with pytest.raises(RedisUnavailableError, match=r"password.*REDIS_PASSWORD") as caught:
                refused.ping()
            assert "wrong-one" not in str(caught.value)
        assert_works(right)
    finally:
        for used in (wrong, none, right):
            used.close()


def full(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 1)


def full_no_more(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 0)


def replica(admin: redis.Redis) -> None:
    admin.replicaof("127.0.0.1", "9")


def primary(admin: redis.Redis) -> None:
    admin.replicaof("NO", "ONE")


def locked(admin: redis.Redis) -> None:
    admin.config_set("requirepass", "changed")
    admin.client_kill_filter(_type="normal", skipme=True)


def unlocked(admin: redis.Redis) -> None:
    admin.config_set("requirepass", "")


@pytest.mark.parametrize(
    ("spoil", "mend", "named"),
    [
        (full, full_no_more, "is out of memory"),
        (replica, primary, "is a read-only replica"),
        (locked, unlocked, "refuses the password"),
    ],
)
def test_build_outlives_a_redis_that_refuses_and_health_names_it(
    own_valkey: int,
    admin: redis.Redis,
    tmp_path: Path,
    spoil: Callable[[redis.Redis], None],
    mend: Callable[[redis.Redis], None],
    named: str,
) -> None:
    url = f"redis://127.0.0.1:{own_valkey}/0"
    controller = make_controller(tmp_path, url, batch_size=1, lease_s=1.0)
    http = create_app(controller).test_client()

    def health() -> Any:
        return http.get("/health").json

    controller.start()
    try:
        with serving(url, tmp_path / "data"):
            until(lambda: health()["status"] == "healthy")
            dataset = a_dataset(controller, "many", 100)
            controller.ingest.start(dataset)
            until(lambda: controller.ingest.progress(dataset)["added"])
            spoil(admin)
            until(lambda: health()["status"] == "unavailable")
            assert named in health()["redis"]["error"]
            polled: Any = http.get("/api/build_index/progress/many")
            assert (polled.status_code, polled.json["status"]) == (200, "building")
            path = str(tmp_path / "datasets" / "many" / "000.jpg")
            feature = http.post("/api/compute/feature_extraction", json={"image_path": path})
            assert feature.status_code == 503
            mend(admin)
            until(lambda: health()["status"] == "healthy")
            progress = ended(controller, dataset)
            assert (progress["added"], progress["failed"]) == (100, 0)
            assert set(controller.queue.depth().values()) == {0}
    finally:
        controller.stop()


SLOWLY = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
LOGGED = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.mark.parametrize("kept", ["snapshot", "log"])
def test_build_outlives_a_redis_that_comes_back_with_what_it_kept(
    tmp_path: Path, kept: str
) -> None:
    """An old snapshot brings back jobs that are done long since; a log, jobs half done."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    options = LOGGED if kept == "log" else ()
    process = valkey_at(port, tmp_path, *options)
    await_redis(url, process)
    controller = make_controller(tmp_path, url, batch_size=1, lease_s=1.0)
    controller.start()
    try:
        with serving(url, tmp_path / "data"):
            dataset = a_dataset(controller, "many", 100)
            controller.ingest.start(dataset)
            until(lambda: controller.ingest.progress(dataset)["added"])
            if kept == "snapshot":
                until(lambda: controller.queue.depth()["library"] > 10)
                controller.queue.redis.mset({f"other:{n}": "x" * 64 for n in range(800)})
                controller.queue.redis.save()
                wanted = controller.ingest.progress(dataset)["added"] + 40
                until(lambda: controller.ingest.progress(dataset)["added"] >= wanted)
            process.kill()
            process.wait()
            process = valkey_at(port, tmp_path, *(options or SLOWLY))
            if kept == "snapshot":
                http = create_app(controller).test_client()

                def loading() -> bool:
                    health: Any = http.get("/health").json
                    return "still loading" in health["redis"].get("error", "")

                until(loading)
            progress = ended(controller, dataset)
            assert (progress["added"], progress["failed"]) == (100, 0)
            until(lambda: not any(controller.queue.depth().values()))
            until(lambda: controller.queue.done(1, 0.01) == [])
            until(lambda: not list(controller.queue.redis.scan_iter("lock:*")))
            until(lambda: not list(controller.queue.redis.scan_iter("result:*")))
    finally:
        controller.stop()
        process.kill()
        process.wait()


def fake_redis(replies: dict[bytes, bytes]) -> tuple[int, threading.Thread, socket.socket]:
    """A server that answers some commands in one way: what no real one can be made to say."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    for _ in range(data.count(b"*")):
                        word = next((w for w in replies if w in data.upper()), b"")
                        connection.sendall(replies.get(word, b"+OK\r\n"))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return int(listener.getsockname()[1]), thread, listener


@pytest.mark.parametrize(
    ("replies", "named"),
    [
        ({b"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}, "still loading"),
        (
            {b"PING": b"+PONG\r\n", b"INFO": b"$22\r\nredis_version:6.2.14\r\n\r\n"},
            r"version 6\.2\.14; Futu needs 7\.0 or later",
        ),
    ],
)
def test_loading_and_old_servers_are_named(replies: dict[bytes, bytes], named: str) -> None:
    port, thread, listener = fake_redis(replies)
    queue = JobQueue(f"redis://127.0.0.1:{port}/0")
    try:
        with pytest.raises(RedisUnavailableError, match=named):
            queue.ping()
    finally:
        queue.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
