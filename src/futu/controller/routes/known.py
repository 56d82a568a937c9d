"""/api/duplicates/check and /api/duplicates/leakage: what is there already; nothing is stored."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu.catalogue.records import DatasetRecord
from futu.controller.access import reading
from futu.controller.duplicates.known import Asked, Checked, Match
from futu.controller.duplicates.leakage import Looked, leakage
from futu.controller.routes.fields import Fields
from futu.controller.routes.files import image_url, thumbnail_url
from futu.controller.service import Controller
from futu.errors import BusyError, FutuError, InvalidRequestError, NotIndexedError
from futu.images.folder import display, read_bytes
from futu.images.walk import walk
from futu.jobs.message import Stream

log = logging.getLogger(__name__)

MOST_FILES = 1000
_PIECE, _PIECE_BYTES = 16, 8 * 1024 * 1024
_AT_ONCE = 2
_HASH_DIGITS = 64
_MIME = "application/x-ndjson"


@dataclass(frozen=True)
class _Where:
    """Against what, and how strictly."""

    datasets: list[DatasetRecord]
    least: float


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("known", __name__, url_prefix="/api/duplicates")
    streams = threading.BoundedSemaphore(_AT_ONCE)

    def where(fields: Fields, name: str = "dataset_names") -> _Where:
        names = [str(given) for given in fields.many(name)]
        known = controller.catalogue.datasets()
        datasets = [controller.dataset(given) for given in dict.fromkeys(names)] or known
        threshold = fields.number("threshold", 0, 100, whole=False)
        preset = fields.word("preset") or "normal"
        ids = [dataset.id for dataset in datasets]
        return _Where(datasets, controller.calibrations.least(preset, threshold, ids))

    def checked(asked: Sequence[Asked], to: _Where, stream: Stream) -> list[Checked]:
        timeout_s = controller.settings.batch_feature_timeout
        return controller.known.check(
            asked, to.datasets, to.least, timeout_s=timeout_s, stream=stream
        )

    def facts(to: _Where) -> dict[str, Any]:
        return {
            "threshold": round(to.least, 2),
            "model_id": controller.calibrations.model_id([d.id for d in to.datasets]),
            "datasets": [dataset.name for dataset in to.datasets],
            "note": controller.known.note(to.datasets),
            "edited_copies": bool(controller.search.indexed(to.datasets, "copy")),
        }

    def read(path: str | Path, name: str) -> Asked:
        try:
            real = controller.roots.resolve_file(path)
            return Asked(name, read_bytes(real, controller.limits))
        except FutuError as error:
            return Asked(name, error=error)

    def by_path(paths: Sequence[str], to: _Where) -> list[Checked]:
        found: list[Checked] = []
        for piece in _pieces(read(path, display(path)) for path in paths):
            found += checked(piece, to, "inline")
        return found

    def in_folder(folder: Path, to: _Where) -> Iterator[dict[str, Any]]:
        def all_of() -> Iterator[Asked]:
            for file in walk(folder, controller.roots):
                name = display(file.path)
                found = Asked(name, error=file.error) if file.error else None
                yield found or read(folder / file.path, name)

        counts = _counts()
        for piece in _pieces(all_of()):
            for one in checked(piece, to, "inline"):
                _count(counts, one)
                yield {"type": "file", **_described(one)}
            yield {"type": "progress", **counts}
        yield {"type": "end", **counts, **facts(to)}

    @routes.post("/check")
    @reading
    def check() -> Response:
        fields = Fields()
        to = where(fields)
        folder = fields.word("folder")
        if folder is not None:
            real = controller.roots.resolve(folder)
            if not real.is_dir():
                raise InvalidRequestError(f"{display(folder)} is not a folder.", field="folder")
            return _streamed(streams, in_folder(real, to))
        paths, hashes = _texts(fields, "paths"), _texts(fields, "hashes")
        uploads = [] if request.is_json else request.files.getlist("images")
        if not 1 <= len(paths) + len(hashes) + len(uploads) <= MOST_FILES:
            raise InvalidRequestError(
                f"Give 1 to {MOST_FILES} pictures in all: files as images (multipart), or as JSON "
                "paths or hashes; or one folder.",
                field="images",
                most=MOST_FILES,
            )
        found = checked([_by_hash(digest) for digest in hashes], to, "query")
        found += by_path(paths, to)
        stream: Stream = "query" if len(uploads) == 1 else "inline"
        given = (Asked(display(file.filename or "the upload"), file.read()) for file in uploads)
        for piece in _pieces(given):
            found += checked(piece, to, stream)
        counts = _counts()
        for one in found:
            _count(counts, one)
        return jsonify({"results": [_described(one) for one in found], **counts, **facts(to)})

    @routes.post("/leakage")
    @reading
    def find_leakage() -> Response:
        fields = Fields()
        name = fields.word("dataset")
        if name is None:
            raise InvalidRequestError(
                "The field dataset is missing: the one whose pictures are looked for.",
                field="dataset",
            )
        tested = controller.dataset(name)
        to = where(fields, "against")
        others = [dataset for dataset in to.datasets if dataset.id != tested.id]
        if not others:
            raise InvalidRequestError(
                "The field against must name another dataset than the one that is looked through.",
                field="against",
            )
        to = _Where(others, to.least)
        total = controller.catalogue.image_counts().get(tested.id, 0)
        if not total:
            raise NotIndexedError(
                f"Nothing is indexed yet in {tested.name}; build the index first (futu index "
                f"NAME). 尚未建立索引：{tested.name}，请先建立索引。",
                datasets=[tested.name],
            )
        model = controller.serving.mainly("copy", [tested.id, *(d.id for d in others)])
        live, scale = controller.index_of(model), controller.serving.scale(model.model_id)
        looked = leakage(controller.catalogue, live, scale, tested, others, to.least)
        note = controller.known.note([tested, *others])
        return _streamed(streams, _leaks(looked, total, {**facts(to), "note": note}))

    return routes


def _leaks(
    looked: Iterator[Looked], images: int, facts: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    tiers = {"exact": 0, "near": 0}
    for step in looked:
        for leak in step.leaks:
            tiers[leak.matches[0].tier] += 1
            image = leak.image
            about = {"id": image.id, "path": display(image.path), "dataset": image.dataset}
            matches = [_match(match) for match in leak.matches]
            yield {"type": "leak", **about, "image_url": image_url(image), "matches": matches}
        yield {"type": "progress", "done": step.done, "total": step.total}
    yield {"type": "end", "images": images, "leaked": sum(tiers.values()), **tiers, **facts}


def _streamed(slots: threading.BoundedSemaphore, lines: Iterator[dict[str, Any]]) -> Response:
    """An answer of one JSON object a line, sent as they come."""
    if not slots.acquire(blocking=False):
        raise BusyError(
            f"{_AT_ONCE} folders or datasets are being looked through; wait for one to end."
        )
    # Once, whether it is read to its end, broken off, or never begun.
    ended = threading.Lock()

    def release() -> None:
        if ended.acquire(blocking=False):
            slots.release()

    def encoded() -> Iterator[str]:
        try:
            for line in lines:
                yield json.dumps(line, ensure_ascii=False) + "\n"
        except FutuError as error:
            problem = {"error": error.message, "code": error.code, "details": error.details}
            yield json.dumps({"type": "error", **problem}, ensure_ascii=False) + "\n"
        except Exception:
            log.exception("an answer broke off")
            message = "Something went wrong inside Futu; the log has the details."
            yield json.dumps({"type": "error", "error": message, "code": "internal"}) + "\n"
        finally:
            release()

    response = Response(encoded(), mimetype=_MIME)
    response.call_on_close(release)
    return response


def _pieces(asked: Iterator[Asked]) -> Iterator[list[Asked]]:
    """As many at once as a compute server takes, and few enough to be held."""
    piece: list[Asked] = []
    held = 0
    for one in asked:
        piece.append(one)
        held += len(one.data or b"")
        if len(piece) >= _PIECE or held >= _PIECE_BYTES:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece


def _texts(fields: Fields, name: str) -> list[str]:
    given = fields.many(name)
    for value in given:
        try:
            os.fsencode(value)
        except (TypeError, UnicodeEncodeError):
            raise InvalidRequestError(
                f"The field {name} must be a list of texts.", field=name
            ) from None
    return given


def _by_hash(text: str) -> Asked:
    try:
        digest = bytes.fromhex(text) if len(text) == _HASH_DIGITS else b""
    except ValueError:
        digest = b""
    if not digest:
        raise InvalidRequestError(
            f"The field hashes must have SHA-256 digests of {_HASH_DIGITS} hex digits.",
            field="hashes",
        )
    return Asked(text, digest=digest)


def _counts() -> dict[str, int]:
    return {"checked": 0, "known": 0, "new": 0, "errors": 0}


def _count(counts: dict[str, int], one: Checked) -> None:
    counts["checked"] += 1
    counts["errors" if one.status == "error" else one.status] += 1


def _described(one: Checked) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": one.name,
        "content_hash": one.digest.hex() if one.digest is not None else None,
        "status": one.status,
        "compared": one.compared,
        "matches": [_match(match) for match in one.matches],
    }
    if one.error is not None:
        entry |= {"error": one.error.message, "code": one.error.code}
    return entry


def _match(match: Match) -> dict[str, Any]:
    image = match.image
    return {
        "id": image.id,
        "path": display(image.path),
        "dataset": image.dataset,
        "tier": match.tier,
        "similarity": match.similarity,
        "cosine": round(match.cosine, 6),
        "image_url": image_url(image),
        "thumbnail_url": thumbnail_url(image),
        "width": image.width,
        "height": image.height,
        "size": image.size,
    }
