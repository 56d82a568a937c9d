"""The tokens: where they come from, what they allow, and the cookie that stands for one."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Literal

from itsdangerous import BadData, URLSafeTimedSerializer

from futu.data_dir import TOKEN_FILE

log = logging.getLogger(__name__)

Role = Literal["admin", "read"]

TOKEN_SHOWN = "Token for requests from other machines (shown once)"  # noqa: S105 - what it is
SESSION_S = 7 * 24 * 3600


def load_token(configured: str, data_dir: Path) -> str:
    """The configured token, or the one kept in the data directory, made when there is none.

    A token that is made is shown once, on the console; the log only says where it is.
    """
    if configured:
        return configured
    path = data_dir / TOKEN_FILE
    try:
        kept = path.read_text("ascii").strip()
        if kept:
            return kept
    except FileNotFoundError:
        pass
    token = make_token(data_dir)
    log.info("made a token for requests from other machines: %s", path)
    print(f"{TOKEN_SHOWN}: {token}", file=sys.stderr)
    return token


def make_token(data_dir: Path) -> str:
    """Put a new token into the data directory; the former one is valid until the next start."""
    token = secrets.token_urlsafe(32)
    write_private(data_dir / TOKEN_FILE, token + "\n")
    return token


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read: all of it, or (on a full disk) nothing.

    Raises:
        OSError: it cannot be written; ``filename`` is the path.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def keep_token(token: str, data_dir: Path) -> None:
    """Let the file in the data directory have the token that all controllers have agreed on."""
    path = data_dir / TOKEN_FILE
    if path.read_text("ascii").strip() != token:
        write_private(path, token + "\n")


class Tokens:
    """What a token or a session cookie allows.

    Args:
        admin: allows everything.
        read: allows looking and searching; empty for none.
    """

    def __init__(self, admin: str, read: str) -> None:
        # Digests, so that neither the time a comparison takes nor the length tells anything.
        self._known: list[tuple[Role, bytes]] = [("admin", _digest(admin))]
        if read:
            self._known.append(("read", _digest(read)))
        key = hashlib.sha256(b"futu session" + b"".join(d for _, d in self._known)).digest()
        self._cookies = URLSafeTimedSerializer(key, salt="futu-session")

    def role(self, offered: str) -> Role | None:
        """What a token allows; None: it is none. Every known token is compared."""
        digest, found = _digest(offered), None
        for role, known in self._known:
            if hmac.compare_digest(digest, known):
                found = role
        return found

    def session(self, role: Role) -> str:
        """A cookie's value that allows the same for ``SESSION_S``; it does not hold the token.

        A change of either token ends all sessions.
        """
        return str(self._cookies.dumps(role))

    def session_role(self, value: str) -> Role | None:
        """What a cookie allows."""
        try:
            role = self._cookies.loads(value, max_age=SESSION_S)
        except BadData:
            return None
        return role if role in ("admin", "read") else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
