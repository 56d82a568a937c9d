"""Nothing calls out: no process of Futu connects to anything but Redis and the API."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psutil
import pytest
from tests.e2e.conftest import System
from tests.pictures import jpeg

# Loaded by every Python process that is started with this folder on its path.
WATCH = """
import json, os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        asked = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        asked = arguments[0]
    else:
        return
    line = json.dumps([os.getpid(), event, asked if isinstance(asked, str) else list(asked)])
    with open(os.environ["WATCHED"], "a") as file:
        file.write(line + "\\n")

sys.addaudithook(watch)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the bundled Redis is for Linux and macOS")
def test_no_process_connects_to_anything_but_redis_and_the_api(
    own_system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, home = tmp_path / "seen", tmp_path / "home"
    home.mkdir()
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    for name in ("CI", "XDG_DATA_HOME"):  # telemetry keeps quiet in CI; it is not to do so here
        monkeypatch.delenv(name, raising=False)
    own_system.environment = {
        "PYTHONPATH": str(tmp_path),
        "WATCHED": str(seen),
        "HOME": str(home),
        "USERPROFILE": str(home),
    }
    folder = own_system.datasets / "watched"
    folder.mkdir()
    for n in range(4):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
    own_system.start()
    assert own_system.index("watched").status == "done"
    assert own_system.client.search(folder / "1.jpg", top_k=1)[0].fname == "1.jpg"
    compute = own_system.child("compute")
    assert own_system.process is not None
    for process in psutil.Process(own_system.process.pid).children(recursive=True):
        for connection in process.net_connections("inet"):
            assert not connection.raddr or connection.raddr.ip in ("127.0.0.1", "::1")
    own_system.stop()

    events = [json.loads(line) for line in seen.read_text().splitlines()]
    assert any(pid == compute.pid for pid, _, _ in events), "the watch was not loaded"
    for _, event, asked in events:
        address = asked[0] if isinstance(asked, list) else asked
        local = address in ("127.0.0.1", "localhost") or address.startswith(os.sep)
        assert local, f"{event} {asked}"
    assert list(home.iterdir()) == []
