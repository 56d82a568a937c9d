"""What ``--config production`` refuses to start with; each refusal names its remedy."""

from __future__ import annotations

import shlex
import stat
import sys
from urllib.parse import parse_qs, urlsplit

from futu import config
from futu.addresses import is_loopback
from futu.config import Settings
from futu.data_dir import TOKEN_FILE
from futu.errors import SettingsError
from futu.sources import secret_files


def check(settings: Settings, mode: str) -> None:
    """Refuse what is unsafe in production; in development everything may start.

    Args:
        settings: those in force.
        mode: ``controller``, ``compute``, ``both`` or ``redis``.

    Raises:
        SettingsError: one sentence for each thing refused.
    """
    if settings.config != "production":
        return
    refusals = []
    if mode in ("controller", "both"):
        refusals += _without_token(settings)
    refusals += _open_files(settings)
    if mode != "both" or settings.redis_configured:
        refusals += _open_redis(settings)
    if refusals:
        raise SettingsError("\n".join(f"--config production: {text}" for text in refusals))


def _without_token(settings: Settings) -> list[str]:
    kept = settings.data_dir / TOKEN_FILE
    if settings.auth == "none" or is_loopback(settings.host) or settings.api_token:
        return []
    if kept.is_file() and kept.stat().st_size:
        return []
    refusal = (
        f"the controller would listen on {settings.host} without a token. Make one with 'futu "
        "token', set FUTU_API_TOKEN or FUTU_API_TOKEN_FILE, listen on --host 127.0.0.1, or say "
        "FUTU_AUTH=none if something else guards it."
    )
    return [refusal]


def _open_files(settings: Settings) -> list[str]:
    if sys.platform == "win32":
        return []  # the bits of a file's mode say nothing there
    files = [
        settings.data_dir / TOKEN_FILE,
        *secret_files(config.variables(), config.settings_file()),
    ]
    found = []
    for file in files:
        try:
            mode = file.stat().st_mode
        except OSError:
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            found.append(
                f"{file.absolute()} holds a secret and every user of this machine may read or "
                f"write it. Close it: chmod 600 {shlex.quote(str(file.absolute()))}"
            )
    return found


def _open_redis(settings: Settings) -> list[str]:
    parts = urlsplit(settings.redis_address)
    if parts.scheme == "unix" or is_loopback(parts.hostname or "localhost"):
        return []
    query = parse_qs(parts.query)
    if parts.password or "password" in query or "ssl_certfile" in query:
        return []
    refusal = (
        f"Redis at {parts.hostname} is used without a password. Give it one (requirepass, or an "
        "ACL user) and set REDIS_PASSWORD or REDIS_PASSWORD_FILE."
    )
    return [refusal]
