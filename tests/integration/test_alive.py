"""The probe of a compute server's container."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from futu.jobs.message import ServerInfo
from futu.jobs.streams import JobQueue
from futu.services.alive import registered


def test_host_is_alive_when_its_server_is_registered_or_nobody_can_tell(
    redis_url: str, tmp_path: Path
) -> None:
    queue = JobQueue(redis_url)
    host = socket.gethostname()
    assert not registered(redis_url, host)
    probe = [sys.executable, "-m", "futu.services.alive"]
    environment = os.environ | {"REDIS_URL": redis_url}
    assert subprocess.run(probe, env=environment).returncode == 1
    queue.servers.register(ServerInfo("one", host, 1, [], 1, 0.0))
    assert registered(redis_url, host)
    assert not registered(redis_url, "elsewhere")
    assert subprocess.run(probe, env=environment).returncode == 0
    assert registered(f"unix://{tmp_path}/nobody.sock", host)
    queue.close()
