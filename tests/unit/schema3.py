"""The structures of schema 3, as controllers and compute servers of that version read them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class ImageItem(msgspec.Struct, omit_defaults=True):
    path: bytes | None = None
    data: bytes | None = None
    content_hash: bytes | None = None
    crop: tuple[int, int, int, int] | None = None
    name: str = ""


class Job(msgspec.Struct):
    job_id: str
    stream: Literal["query", "library", "inline"]
    model_ids: list[str]
    items: list[ImageItem]
    collect: bool = False
    schema_version: int = 3


class ItemError(msgspec.Struct):
    code: str
    message: str
    details: dict[str, Any] = {}


class ItemResult(msgspec.Struct, omit_defaults=True):
    vectors: dict[str, bytes] = {}
    error: ItemError | None = None
    content_hash: bytes | None = None
    width: int = 0
    height: int = 0


class JobResult(msgspec.Struct):
    job_id: str
    server: str
    items: list[ItemResult]
    error: ItemError | None = None
    schema_version: int = 3


class ServerInfo(msgspec.Struct):
    server: str
    host: str
    pid: int
    model_ids: list[str]
    workers: int
    started_at: float
    images_done: int = 0
    queries_done: int = 0
    version: str = ""
    images_per_s: float = 0.0
    by_path: bool = True
