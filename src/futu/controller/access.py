"""Who may ask: programs on this machine, and whoever has the token.

A request counts as local when it comes from loopback, was sent to a loopback name (a page that
has its own name resolve to 127.0.0.1 sends that name), passed no proxy, and was not sent by a web
page of another site.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import logging
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from flask import Request

from futu.errors import ForbiddenError, UnauthorisedError

log = logging.getLogger(__name__)

_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def load_token(configured: str, data_dir: Path) -> str:
    """The configured token, or the one kept in the data directory, made when there is none."""
    if configured:
        return configured
    path = data_dir / "api_token"
    try:
        kept = path.read_text("ascii").strip()
        if kept:
            return kept
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    log.info("made a token for requests from other machines: %s", path)
    return token


def keep_token(token: str, data_dir: Path) -> None:
    """Let the file in the data directory have the token that all controllers have agreed on."""
    path = data_dir / "api_token"
    if path.read_text("ascii").strip() != token:
        path.write_text(token + "\n", "ascii")


def check(request: Request, token: str) -> None:
    """Let a request through or not.

    Raises:
        ForbiddenError: a web page of another site sent it.
        UnauthorisedError: it is not local and has no valid token.
    """
    origin = request.headers.get("Origin")
    if origin is not None:
        host = urlsplit(origin).hostname or ""
        if host != _name(request.host) and not _is_loopback(host):
            raise ForbiddenError(
                f"A page of {origin} may not use this server. Open the page of Futu itself."
            )
    if _has_token(request, token) or is_local(request):
        return
    raise UnauthorisedError(
        "Requests from other machines need the token: send 'Authorization: Bearer <token>'. It "
        "is FUTU_API_TOKEN, or in the file api_token in the controller's data directory."
    )


def is_local(request: Request) -> bool:
    """Whether a request needs no token."""
    return (
        _is_loopback(request.remote_addr or "")
        and _is_loopback(_name(request.host))
        and not any(header in request.headers for header in _PROXY_HEADERS)
    )


def _has_token(request: Request, token: str) -> bool:
    sent = request.authorization
    if sent is None:
        return False
    offered = sent.token if sent.type == "bearer" else sent.password
    return hmac.compare_digest((offered or "").encode(), token.encode())


def authorised(request: Request, token: str) -> bool:
    """Whether a request may see details."""
    return _has_token(request, token) or is_local(request)


@functools.lru_cache(maxsize=256)
def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


@functools.lru_cache(maxsize=1024)
def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
