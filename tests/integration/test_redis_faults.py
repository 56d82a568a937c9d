"""Redis that refuses: each way is named with its remedy, and mending it is enough."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.conftest import await_redis
from tests.contract.conftest import a_job, answer
from tests.e2e.conftest import free_port

from futu.errors import RedisUnavailableError
from futu.jobs import embedded
from futu.jobs.streams import JobQueue


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[int]:
    """The port of a Valkey that the test may spoil."""
    port = free_port()
    command = [str(embedded.server_binary()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
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
