"""A Milvus Lite server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import until
from tests.e2e.conftest import free_port

from futu.errors import IndexUnavailableError
from futu.index.milvus_server import MilvusServer, milvus_address


class MilvusProcess:
    """Listens on one port, whatever folder it serves."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"milvus://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, folder: Path) -> None:
        """Start it."""
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def start(self, folder: Path) -> None:
        """Start it and wait until it answers."""
        self.launch(folder)
        address = milvus_address(self.url)
        assert address is not None

        def answers() -> bool:
            server = MilvusServer(address)
            try:
                with server.connected() as client:
                    client.list_collections()
            except IndexUnavailableError:
                return False
            finally:
                server.close()
            return True

        until(answers)

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
