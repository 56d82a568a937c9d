"""What the doctor finds in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from futu import __version__, config
from futu.doctor import Finding, network
from futu.jobs.connection import connect
from futu.jobs.message import ServerInfo, ServerMeasures
from futu.jobs.streams import JobQueue


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    made = JobQueue(redis_url)
    yield made
    made.close()


def findings(redis_url: str, **given: Any) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in network.redis(config.load(redis_url=redis_url, **given)):
        found.setdefault(each.check, []).append(each)
    return found


def register(queue: JobQueue, name: str, version: str, ahead_s: float, schema: int = 3) -> None:
    queue.servers.register(
        ServerInfo(name, "host", 1, [], 1, time.time(), version=version, schema_version=schema),
        ServerMeasures(name, "host", 0.0, version, clock_ahead_s=ahead_s),
    )


def test_good_redis_with_a_good_server_is_fine(redis_url: str, queue: JobQueue) -> None:
    register(queue, "one", __version__, 0.01)
    found = findings(redis_url)
    assert {each.level for of in found.values() for each in of} == {"ok"}
    assert {name: len(of) for name, of in found.items()} == {"redis": 1, "clocks": 2, "compute": 1}


def test_no_compute_server_is_said(redis_url: str) -> None:
    (found,) = findings(redis_url)["compute"]
    assert (found.level, "futu" not in found.text) == ("warning", True)
    assert "start.sh compute" in found.remedy


def test_clock_that_is_off_and_other_versions_are_said(redis_url: str, queue: JobQueue) -> None:
    register(queue, "late", __version__, -90.0)
    register(queue, "newer", "99.0", 0.0)
    register(queue, "ancient", "0.0.1", 0.0, schema=1)
    queue.servers.register(ServerInfo("former", "host", 1, [], 1, 0.0, version="0.0.9"))
    found = findings(redis_url)
    off = [each for each in found["clocks"] if each.level == "warning"]
    assert [("late is 90.00 s behind" in each.text, "NTP" in each.remedy) for each in off] == [
        (True, True)
    ]
    levels = {each.text.split()[0]: each.level for each in found["compute"]}
    assert levels == {
        "late": "ok",
        "newer": "warning",
        "former": "warning",
        "ancient": "error",
    }


def test_redis_that_is_away_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (found,) = findings(f"unix://{tmp_path}/nobody.sock")["redis"]
    assert (found.level, "REDIS_HOST" in found.remedy) == ("error", True)


def test_wrong_password_is_an_error_and_is_not_shown(redis_url: str) -> None:
    wrong = redis_url.replace("unix://", "unix://nobody:wrong-secret@")
    (found,) = findings(wrong)["redis"]
    assert found.level == "error"
    assert "refuses the password" in found.text
    assert "wrong-secret" not in found.text


def test_redis_that_evicts_is_said(redis_url: str) -> None:
    client = connect(redis_url)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        warnings = [each for each in findings(redis_url)["redis"] if each.level == "warning"]
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert ["allkeys-lru" in each.text for each in warnings] == [True]


def test_without_a_redis_of_ones_own_the_bundled_one_is_looked_for(tmp_path: Path) -> None:
    (found,) = network.redis(config.load(data_dir=tmp_path))
    assert (found.level, "runs its own" in found.text) == ("ok", True)
