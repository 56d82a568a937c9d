"""Fetching a query picture from the web: public addresses only, within limits of size and time."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import httpx

from futu.errors import (
    ForbiddenError,
    InvalidRequestError,
    JobTimeoutError,
    UnreadableFileError,
)
from futu.images.decode import DecodeLimits, too_many_bytes

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_REDIRECTS = 3
_MOST_CHARACTERS = 2048
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS: dict[bytes | str, bytes | str] = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "Futu",
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: IpAddress) -> bool:
    """Whether an address is one of the public internet.

    Loopback, private, link-local, shared, reserved and multicast addresses are not, neither as
    they are nor inside an IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64).
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [address.sixtofour, *(address.teredo or ())]
        if address.is_site_local or not all(is_public(one) for one in inner if one is not None):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


class _Deadline:
    """What is left of the time for a fetch."""

    def __init__(self, limit_s: float) -> None:
        self._end = time.monotonic() + limit_s

    def left_s(self) -> float:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return left_s


class _Stream(httpcore.NetworkStream):
    """A connection of which every step ends by one deadline: a slow server cannot renew it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left_s = self._deadline.left_s()
        secured = self._stream.start_tls(ssl_context, server_hostname, left_s)
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that are allowed, and to no other than the one that was looked at."""

    def __init__(self, allowed: Callable[[IpAddress], bool], deadline: _Deadline) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} is not known ({error})") from error
        addresses = [str(answer[4][0]) for answer in answers]
        for text in addresses:
            # One that is refused refuses all: whoever names it is up to something.
            if not self._allowed(ipaddress.ip_address(text.partition("%")[0])):
                raise ForbiddenError(
                    f"{host} is at {text}, which is no public address. Save the picture and "
                    "search with the file.",
                    host=host,
                )
        for text in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(text, port)
        return self._connect(addresses[-1], port)

    def _connect(self, address: str, port: int) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(address, port, self._deadline.left_s())
        return _Stream(stream, self._deadline)


class RemotePictures:
    """Fetches pictures by URL.

    Args:
        limits: of pictures.
        timeout_s: for one picture, from the first look-up to the last byte.
        allowed: which addresses may be connected to.
    """

    def __init__(
        self,
        limits: DecodeLimits,
        timeout_s: float,
        allowed: Callable[[IpAddress], bool] = is_public,
    ) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._allowed = allowed

    def fetch(self, url: str) -> bytes:
        """The bytes at a URL.

        Raises:
            InvalidRequestError: not a URL of http or https.
            ForbiddenError: it, or where it redirects to, is at no public address.
            ImageTooLargeError: over the limit.
            UnreadableFileError: it cannot be had.
            JobTimeoutError: not within the time.
        """
        backend = _CheckedBackend(self._allowed, _Deadline(self._timeout_s))
        where = _parsed(url)
        try:
            with httpcore.ConnectionPool(network_backend=backend) as pool:
                for _ in range(_MOST_REDIRECTS + 1):
                    with pool.stream("GET", str(where), headers=_HEADERS) as response:
                        headers = httpx.Headers(response.headers)
                        if response.status not in _REDIRECTS or "Location" not in headers:
                            return self._read(url, response, headers)
                    where = _parsed(headers["Location"], where)
        except httpcore.TimeoutException as error:
            raise JobTimeoutError(
                f"{_shown(url)} was not there within {self._timeout_s:g} s. Try again, or save the "
                "picture and search with the file.",
                timeout_s=self._timeout_s,
            ) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise _unreadable(url, str(error) or type(error).__name__) from error
        raise _unreadable(url, f"it redirects more than {_MOST_REDIRECTS} times")

    def _read(self, url: str, response: httpcore.Response, headers: httpx.Headers) -> bytes:
        if response.status != 200:
            raise _unreadable(url, f"the server answers {response.status}")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise _unreadable(url, "it is compressed, which was not asked for")
        most, received = self._limits.max_bytes, bytearray()
        declared = headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > most:
            raise too_many_bytes(_shown(url), int(declared), self._limits)
        for piece in response.iter_stream():
            received += piece
            if len(received) > most:
                raise too_many_bytes(_shown(url), len(received), self._limits)
        return bytes(received)


def _parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        parts = httpx.URL(url) if base is None else base.join(url)
    except httpx.InvalidURL as error:
        raise _no_url(url) from error
    good = parts.scheme in ("http", "https") and parts.host and not parts.userinfo
    if not good or len(url) > _MOST_CHARACTERS:
        raise _no_url(url)
    return parts


def _shown(url: str) -> str:
    return url[:200]


def _no_url(url: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The field query_url is {_shown(url)!r}; it must be a URL that begins with http:// or "
        "https://, without a password.",
        field="query_url",
    )


def _unreadable(url: str, why: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{_shown(url)} cannot be fetched: {why}. Save the picture and search with the file.",
        url=_shown(url),
    )
