"""What the tests of each seam run against, and what they share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme
from tests.conftest import await_redis
from tests.e2e.conftest import free_port

from futu.catalogue.engine import sqlite_url
from futu.index.milvus_server import MilvusServer, milvus_address
from futu.jobs.connection import connect
from futu.jobs.message import ImageItem, ItemResult, Job, JobResult, Stream, new_job_id
from futu.jobs.streams import JobQueue
from futu.services.redis_server import ACL_RIGHTS

LEASE_S = 0.3


@dataclass(frozen=True)
class RedisServer:
    """One redis-server, reached by its default user, and over TLS by one with few rights."""

    socket_url: str
    tls_url: str


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    binary = shutil.which("redis-server")
    if binary is None:
        assert not os.environ.get("CI"), "redis-server is not installed; .ci/run installs it"
        yield None
        return
    folder = tmp_path_factory.mktemp("redis")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    port = free_port()
    command = [binary, "--port", "0", "--unixsocket", str(folder / "s"), "--save", "", "--dir"]
    command += [str(folder), "--requirepass", "a secret", "--tls-port", str(port)]
    command += ["--bind", "127.0.0.1", "--tls-auth-clients", "no"]
    command += ["--tls-cert-file", str(folder / "cert.pem")]
    command += ["--tls-key-file", str(folder / "key.pem")]
    command += ["--tls-ca-cert-file", str(folder / "ca.pem")]
    of_tests = ["+flushall", "+client"]  # Futu does neither
    command += ["--user", "futu", "on", ">another", "~*", "&*", *ACL_RIGHTS.split(), *of_tests]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    server = RedisServer(
        f"unix://:a%20secret@{folder}/s",
        f"rediss://futu:another@localhost:{port}/0?ssl_ca_certs={folder}/ca.pem",
    )
    await_redis(server.socket_url, process)
    yield server
    process.terminate()
    process.wait()


@pytest.fixture(params=["valkey", "redis", "redis over TLS"])
def url(request: pytest.FixtureRequest, redis_url: str, redis_server: RedisServer | None) -> str:
    if request.param == "valkey":
        return redis_url
    if redis_server is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    client = connect(redis_server.socket_url)
    client.flushall()
    client.close()
    return redis_server.socket_url if request.param == "redis" else redis_server.tls_url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "catalogue.db")
    make: Callable[[], str] = request.getfixturevalue("postgresql")
    return make()


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """Milvus Lite: the client, and a server in this process."""
    address = milvus_address(f"milvus-lite:{tmp_path_factory.mktemp('milvus')}/index.db")
    assert address is not None
    server = MilvusServer(address)
    yield server
    server.close()


@pytest.fixture
def queue(url: str) -> Iterator[JobQueue]:
    queue = JobQueue(url, lease_s=LEASE_S, result_ttl_s=60)
    yield queue
    queue.close()


@pytest.fixture
def raw(url: str) -> Iterator[redis.Redis]:
    client = connect(url)
    yield client
    client.close()


def a_job(stream: Stream = "library", *, collect: bool = False, data: bytes | None = None) -> Job:
    item = ImageItem(path=b"/a/\xff.jpg", content_hash=b"h" * 32, data=data)
    return Job(new_job_id(), stream, ["m"], [item], collect)


def answer(job: Job, server: str = "s") -> JobResult:
    return JobResult(job.job_id, server, [ItemResult(vectors={"m": b"1234"})])
