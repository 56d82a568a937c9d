"""Who may ask for what: programs on this machine, and whoever has a token.

A request counts as local when it comes from loopback, was sent to a loopback name (a page that
has its own name resolve to 127.0.0.1 sends that name) and passed no proxy. Local requests need no
token in development; in production they do. Web pages of other origins are refused unless
configured.
"""

from __future__ import annotations

import functools
import ipaddress
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from futu.addresses import is_loopback
from futu.config import Settings
from futu.controller.proxies import PROXIED
from futu.controller.tokens import Role, Tokens
from futu.errors import (
    ForbiddenError,
    FutuError,
    ReadOnlyTokenError,
    TooManyAttemptsError,
    UnauthorisedError,
)

COOKIE = "futu_session"
RELAYED = "futu.relayed"
"""In the WSGI environment: another controller let the request in and sent it here."""

_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_FAILURES = RateLimitItemPerMinute(10)
_READING = "futu_reading"
_READ_METHODS = ("GET", "HEAD", "OPTIONS")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_View = TypeVar("_View", bound=Callable[..., Any])


def reading(view: _View) -> _View:
    """Mark a view that changes nothing though it is asked by POST."""
    setattr(view, _READING, True)
    return view


class Gate:
    """Lets requests through or not.

    Args:
        settings: of the controller.
        token: the admin token in force.
    """

    def __init__(self, settings: Settings, token: str) -> None:
        self.tokens = Tokens(token, settings.api_read_token)
        self._open = settings.auth == "none"
        self._local_is_enough = settings.config == "development"
        self._origins = frozenset(origin.lower() for origin in settings.cors_origins)
        self._failures = MovingWindowRateLimiter(MemoryStorage())

    def check(self, request: Request, view: Callable[..., Any] | None) -> None:
        """Let a request for a view through or not.

        Raises:
            ForbiddenError: a web page of another origin sent it.
            UnauthorisedError: it needs a token and has no valid one.
            ReadOnlyTokenError: its token only allows looking and searching.
            TooManyAttemptsError: too many wrong tokens came from its address.
        """
        self.check_origin(request)
        role = self.role(request)
        if role is None:
            raise UnauthorisedError(
                "This needs the token: send 'Authorization: Bearer <token>', or sign in at /login. "
                "It is FUTU_API_TOKEN, or in the file api_token in the controller's data directory."
            )
        looks = request.method in _READ_METHODS or getattr(view, _READING, False)
        if role == "read" and not looks:
            raise ReadOnlyTokenError(
                "This token only allows looking and searching. Use the admin token."
            )

    def check_origin(self, request: Request) -> None:
        """Refuse what a web page of another origin sends.

        Raises:
            ForbiddenError: it did.
        """
        origin = request.headers.get("Origin")
        if origin is None or self.is_configured(origin):
            return
        if _address(origin) != _address(f"{request.scheme}://{request.host}"):
            raise ForbiddenError(
                f"A page of {origin} may not use this server. Open the page of Futu itself, or "
                "name the origin in FUTU_CORS_ORIGINS."
            )

    def is_configured(self, origin: str | None) -> bool:
        """Whether pages of an origin may use the API."""
        return origin is not None and origin.lower() in self._origins

    def role(self, request: Request) -> Role | None:
        """What a request may do; None: nothing.

        Raises:
            TooManyAttemptsError: it has a token and too many wrong ones came from its address.
        """
        if self._open or RELAYED in request.environ:
            return "admin"
        if self._local_is_enough and is_local(request):
            return "admin"
        offered = _offered(request)
        if offered is not None:
            return self.try_token(request, offered)
        return self.tokens.session_role(request.cookies.get(COOKIE, ""))

    def sees_details(self, request: Request) -> bool:
        """Whether a request may see more than the status."""
        try:
            return self.role(request) is not None
        except FutuError:
            return False

    def try_token(self, request: Request, offered: str) -> Role | None:
        """What a token allows; wrong ones count against the address they come from.

        Raises:
            TooManyAttemptsError: too many did; the token was not looked at.
        """
        address = _counted(request.remote_addr or "")
        if not self._failures.test(_FAILURES, address):
            reset = self._failures.get_window_stats(_FAILURES, address).reset_time
            raise TooManyAttemptsError(
                "Too many wrong tokens came from this address. Wait a minute and try again.",
                retry_after_s=max(1, round(reset - time.time())),
            )
        role = self.tokens.role(offered)
        if role is None:
            self._failures.hit(_FAILURES, address)
        return role


def is_local(request: Request) -> bool:
    """Whether a program on this machine sent it, to a name of this machine, past no proxy."""
    return (
        is_loopback(request.remote_addr or "")
        and _is_loopback_name(request.host)
        and PROXIED not in request.environ
        and not any(header in request.headers for header in _PROXY_HEADERS)
    )


def _offered(request: Request) -> str | None:
    sent = request.authorization
    if sent is None:
        return "" if "Authorization" in request.headers else None
    return (sent.token if sent.type == "bearer" else sent.password) or ""


@functools.lru_cache(maxsize=256)
def _is_loopback_name(host: str) -> bool:
    return is_loopback(urlsplit(f"//{host}").hostname or "")


@functools.lru_cache(maxsize=256)
def _address(origin: str) -> tuple[str, int | None]:
    """Host and port; the scheme is left out, since a proxy may have ended TLS."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return origin, None
    return parts.hostname or "", None if port in _DEFAULT_PORTS.values() else port


def _counted(address: str) -> str:
    """The address that attempts are counted by: one customer has all of an IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
