"""``start redis``: the bundled Valkey, or an installed server, at the address in the settings."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from futu.addresses import is_loopback
from futu.config import Settings
from futu.errors import SettingsError
from futu.jobs import embedded

ACL_RIGHTS = "+@all -@dangerous +info"
"""What Futu's user of Redis needs."""

_INSTALLED = ("valkey-server", "redis-server", "memurai")


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis is to listen.

    Attributes:
        hosts: addresses of this machine, or none where there is a socket.
        port: 0 for none.
        socket_path: a Unix socket, or empty.
        username, password: empty for none.
    """

    hosts: tuple[str, ...]
    port: int
    socket_path: str
    username: str
    password: str


def address_of(settings: Settings) -> RedisAddress | None:
    """Where the settings' Redis listens; None: on another machine.

    Raises:
        SettingsError: it is of a kind that is not started here.
    """
    parts = urlsplit(settings.redis_address)
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix":
        return RedisAddress((), 0, unquote(parts.path), username, password)
    host = parts.hostname or "localhost"
    hosts = ("127.0.0.1", "-::1") if is_loopback(host) else _addresses_here(host)
    if not hosts:
        return None
    if parts.scheme == "rediss":
        raise SettingsError(
            "REDIS_URL begins with rediss://, and 'start redis' runs a server without TLS. Run "
            "your own with its certificate, or use redis:// on this machine."
        )
    if not is_loopback(host) and not password:
        raise SettingsError(
            f"REDIS_HOST is {host}, so Redis would be open to the network without a password. "
            "Set REDIS_PASSWORD or REDIS_PASSWORD_FILE, or leave REDIS_HOST out."
        )
    return RedisAddress(hosts, parts.port or 6379, "", username, password)


def _addresses_here(host: str) -> tuple[str, ...]:
    try:
        found = {str(facts[4][0]) for facts in socket.getaddrinfo(host, None)}
    except OSError:
        return ()
    ours = {a.address.partition("%")[0] for each in psutil.net_if_addrs().values() for a in each}
    here = sorted(found & ours)
    return ("127.0.0.1", *(h for h in here if h != "127.0.0.1")) if here else ()


def program() -> str:
    """The bundled server, or an installed one.

    Raises:
        SettingsError: there is neither.
    """
    try:
        return str(embedded.server_binary())
    except SettingsError:
        for name in _INSTALLED:
            if (found := shutil.which(name)) is not None:
                return found
        raise


def write_config(address: RedisAddress, folder: Path) -> Path:
    """Write the server's configuration: passwords stand in a private file, not in ``ps``.

    It keeps nothing on disk: all that Redis holds can be made again from the catalogue.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        'save ""',
        "appendonly no",
        "daemonize no",
        "loglevel notice",
        "set-proc-title no",  # the pid file's command stays true
        f"dir {_quoted(str(folder.absolute()))}",
        f"port {address.port}",
    ]
    if address.hosts:
        lines.append(f"bind {' '.join(address.hosts)}")
    if address.socket_path:
        lines += [f"unixsocket {_quoted(address.socket_path)}", "unixsocketperm 700"]
    if address.username and address.username != "default":
        lines += [
            "user default off",
            f"user {address.username} on {_quoted('>' + address.password)} ~* &* {ACL_RIGHTS}",
        ]
    elif address.password:
        lines.append(f"requirepass {_quoted(address.password)}")
    path = folder / "redis.conf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path.absolute()


def _quoted(text: str) -> str:
    """A word as redis.conf wants it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'
