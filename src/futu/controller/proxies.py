"""Requests through reverse proxies: whose word counts for where they come from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

PROXIED = "futu.proxied"
"""In the WSGI environment: a trusted proxy passed the request on, so it is not local."""

_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PORT = re.compile(r"^(\d+\.\d+\.\d+\.\d+):\d+$|^\[([^\]]+)\](?::\d+)?$")

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class TrustedProxies:
    """Takes ``X-Forwarded-For``, ``-Proto`` and ``-Host`` from configured proxies, and no other.

    The client is the last address of the chain that is no trusted proxy: what stands before it
    was written by the client itself.

    Args:
        app: the application behind.
        networks: addresses or networks of the proxies.
    """

    def __init__(self, app: Wsgi, networks: Sequence[str]) -> None:
        self._app = app
        self._networks = [ipaddress.ip_network(n, strict=False) for n in networks]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, as from where it came."""
        peer = environ.get("REMOTE_ADDR", "")
        if self._trusts(peer):
            environ[PROXIED] = True
            environ["REMOTE_ADDR"] = self._client(
                peer, environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
            )
            scheme = _last(environ.get("HTTP_X_FORWARDED_PROTO", "")).lower()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
            host = _last(environ.get("HTTP_X_FORWARDED_HOST", ""))
            if _HOST.fullmatch(host):
                environ["HTTP_HOST"] = host
        return self._app(environ, start_response)

    def _client(self, peer: str, chain: list[str]) -> str:
        for hop in reversed(chain):
            address = _without_port(hop.strip())
            if address is None:
                break
            peer = address
            if not self._trusts(peer):
                break
        return peer

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._networks)


def _last(values: str) -> str:
    return values.rpartition(",")[2].strip()


def _without_port(hop: str) -> str | None:
    found = _PORT.match(hop)
    text = (found.group(1) or found.group(2)) if found else hop
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
