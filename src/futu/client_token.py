"""The token that a client sends when it is given none."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from futu.addresses import is_loopback
from futu.data_dir import TOKEN_FILE


def found_token(server: str) -> str | None:
    """FUTU_API_TOKEN, the file FUTU_API_TOKEN_FILE names, or that of a controller on this machine.

    The last is never sent elsewhere.
    """
    if token := os.environ.get("FUTU_API_TOKEN"):
        return token
    if file := os.environ.get("FUTU_API_TOKEN_FILE"):
        return _read(Path(file))
    if not is_loopback(urlsplit(server).hostname or ""):
        return None
    return _read(Path(os.environ.get("FUTU_DATA_DIR") or "data") / TOKEN_FILE)


def _read(file: Path) -> str | None:
    try:
        return file.read_text("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
