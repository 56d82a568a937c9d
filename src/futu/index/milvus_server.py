"""A Milvus server, or Milvus Lite on a file: the connection, its address and its errors."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from futu.errors import IndexUnavailableError, SettingsError

log = logging.getLogger(__name__)

DEFAULT_PORT = 19530
TIMEOUT_S = 5.0
"""Longest wait for one answer; a server that did not answer the last time gets less."""

_PROBE_TIMEOUT_S = 1.0
_REST_S = 1.0
"""After a failure calls fail at once for so long, lest every request waits for the time-out."""

_CHANNEL = {
    # A server that is back is found at once; new connections do not share the old one's patience.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
}

_SCHEMES = {"milvus": "http", "milvuss": "https"}


@dataclass(frozen=True)
class MilvusAddress:
    """Where Milvus is, as pymilvus wants it.

    Attributes:
        uri: of the server, without secrets; or the path of a file, for Milvus Lite.
        token: ``user:password`` or an API key; empty for none.
        database: empty for the default one.
    """

    uri: str
    token: str = field(default="", repr=False)
    database: str = ""

    @property
    def embedded(self) -> bool:
        """Whether this is a file."""
        return self.uri.endswith(".db")


def milvus_address(url: str, token: str = "") -> MilvusAddress | None:
    """Read INDEX_URL.

    Args:
        url: ``faiss:``, ``milvus://[token@|user:password@]host[:port][/database]``, the same with
            ``milvuss`` for TLS, or ``milvus-lite:FILE.db``; the path of a file alone will do.
        token: used when the URL has none.

    Returns:
        None for ``faiss:``.

    Raises:
        SettingsError: it is none of these.
    """
    if url == "faiss:":
        return None
    scheme, colon, rest = url.partition(":")
    if scheme in _SCHEMES and rest.startswith("//"):
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port or DEFAULT_PORT
        except ValueError:
            host, port = None, 0
        if host:
            shown = f"[{host}]" if ":" in host else host
            if parts.username:
                token = unquote(parts.username)
                token += f":{unquote(parts.password)}" if parts.password else ""
            uri = f"{_SCHEMES[scheme]}://{shown}:{port}"
            return MilvusAddress(uri, token, parts.path.strip("/"))
    path = rest if scheme == "milvus-lite" and colon else url
    if path.endswith(".db") and "://" not in path:
        return MilvusAddress(os.path.abspath(path))
    raise SettingsError(
        f"INDEX_URL is {masked_index_url(url)!r}; it must be faiss: (files in the data directory), "
        "milvus://HOST:PORT, milvuss://HOST:PORT (TLS) or milvus-lite:FILE.db."
    )


def masked_index_url(url: str) -> str:
    """The URL without user, password or token."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return url.replace(parts.netloc, "***@" + parts.netloc.rpartition("@")[2], 1)


class MilvusServer:
    """A connection, made at the first use and again after a failure. Safe for several threads.

    Args:
        address: where it is.

    Raises:
        SettingsError: pymilvus or Milvus Lite is not installed.

    Attributes:
        losses: how often a call has failed; what was known of the server before may be wrong.
    """

    def __init__(self, address: MilvusAddress) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._client: Any = None
        self._error: IndexUnavailableError | None = None
        self._rest_until = 0.0
        self.losses = 0
        _import_pymilvus(embedded=address.embedded)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """The client, for one exchange.

        Raises:
            IndexUnavailableError: the server does not answer, or refuses; for a moment after
                that at once, without asking it.
        """
        from pymilvus.exceptions import MilvusException

        if self._error is not None and time.monotonic() < self._rest_until:
            raise self._error
        try:
            yield self._connect()
        except (MilvusException, OSError) as error:
            self._fail(error)

    def answered(self) -> None:
        """The server has answered."""
        if self._error is not None:
            self._error = None
            log.info("milvus is back")

    def probe_timeout_s(self) -> float:
        """How long to wait for the first answer of a connection."""
        return TIMEOUT_S if self._error is None else _PROBE_TIMEOUT_S

    def _fail(self, error: Exception) -> None:
        text = str(getattr(error, "message", error)).strip()
        what = "cannot be used" if self.address.embedded else "does not answer, or refuses"
        failure = IndexUnavailableError(
            f"Milvus at {self.address.uri} {what} ({text}). Start it, or check INDEX_URL; nothing "
            "is lost, what it lacks is added from the catalogue when it is back.",
            index=self.address.uri,
        )
        if self._error is None:
            log.warning("%s", failure)
        self._drop_client(error)
        self._rest_until = time.monotonic() + _REST_S
        self._error = failure
        raise failure from error

    def _drop_client(self, error: Exception) -> None:
        """Connect anew the next time, unless the server has answered."""
        from pymilvus.client.types import Status

        code = getattr(error, "code", None)
        with self._lock:
            self.losses += 1
            if self._client is not None and (
                not isinstance(code, int) or code == Status.CONNECT_FAILED
            ):
                self._client.close()
                self._client = None

    def _connect(self) -> Any:
        with self._lock:
            if self._client is None:
                from pymilvus import MilvusClient

                if self.address.embedded:
                    Path(self.address.uri).parent.mkdir(parents=True, exist_ok=True)
                self._client = MilvusClient(
                    uri=self.address.uri,
                    token=self.address.token,
                    db_name=self.address.database,
                    timeout=self.probe_timeout_s(),
                    dedicated=True,
                    grpc_options=_CHANNEL,
                )
            return self._client

    def close(self) -> None:
        """Close the connection; Milvus Lite lets go of its file."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self.address.embedded:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(self.address.uri)


def collection_name(identity: str, model_id: str) -> str:
    """The collection of a model's vectors in one catalogue.

    Names have letters, digits and underscores; the digest tells apart what becomes equal by that.
    """
    readable = re.sub(r"[^A-Za-z0-9]", "_", model_id)[:100]
    return f"futu_{identity}_{readable}_{hashlib.sha256(model_id.encode()).hexdigest()[:8]}"


def _import_pymilvus(*, embedded: bool) -> None:
    # pymilvus reads a file .env that happens to lie above it, and writes to stderr by itself.
    os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
    try:
        import pymilvus  # noqa: F401

        if embedded:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"INDEX_URL names Milvus, but {error.name or 'pymilvus'} is not installed. Install "
            "the extra futu[milvus]: .venv/bin/python -m pip install pymilvus milvus-lite."
        ) from error
    for name in ("pymilvus", "milvus_lite"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        # What goes wrong is raised, and told once.
        logger.setLevel(logging.CRITICAL)
