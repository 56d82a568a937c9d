"""What a request to POST /api/search asks for, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from flask import request
from werkzeug.datastructures import FileStorage

from futu.catalogue.records import DatasetRecord, ImageRecord, Scope
from futu.controller.query import NEGATIVE_WEIGHT, Part, QueryPicture
from futu.controller.routes.fields import Fields, number
from futu.controller.service import Controller
from futu.errors import ForbiddenError, InvalidRequestError, UnknownImageError
from futu.images.folder import display

Mode = Literal["similar", "copy", "auto"]

MAX_K = 1000
_MAX_OFFSET = 100_000
_MAX_SIDE = 10**6
_MAX_BYTES = 2**53
_MAX_ID = 2**63 - 1
_MOST_PICTURES = 16
_HASH_DIGITS = 64


@dataclass(frozen=True)
class SearchRequest:
    """A search as it was asked for; see the API's description for the fields."""

    mode: Mode
    datasets: list[DatasetRecord]
    scope: Scope
    wanted: list[QueryPicture]
    unwanted: list[QueryPicture]
    negative_weight: float
    k: int
    offset: int
    min_similarity: float


def read_search(controller: Controller) -> SearchRequest:
    """Read the request.

    Raises:
        InvalidRequestError: a field has a wrong value.
        UnknownDatasetError, UnknownImageError: what a field names is not there.
        ForbiddenError: a URL is given and the settings do not allow it.
    """
    fields = Fields()
    # What costs nothing to read comes first, so that a wrong field is known at once.
    mode = _mode(fields)
    k = fields.whole("top_k", 1, MAX_K) or 10
    offset = _offset(fields, k)
    least = fields.number("min_similarity", 0, 100, whole=False) or 0.0
    weight = fields.number("negative_weight", 0, 1, whole=False)
    part, fractions = _part(fields)
    datasets = _datasets(controller, fields)
    scope = Scope(
        dataset_ids=tuple(sorted(dataset.id for dataset in datasets)),
        path_prefix=fields.word("path_prefix") or "",
        after_ns=fields.time_ns("after"),
        before_ns=fields.time_ns("before"),
        min_size=fields.whole("min_size", 0, _MAX_BYTES),
        max_size=fields.whole("max_size", 0, _MAX_BYTES),
        min_width=fields.whole("min_width", 0, _MAX_SIDE),
        max_width=fields.whole("max_width", 0, _MAX_SIDE),
        min_height=fields.whole("min_height", 0, _MAX_SIDE),
        max_height=fields.whole("max_height", 0, _MAX_SIDE),
    )
    wanted = _pictures(controller, fields, part, fractions)
    unwanted = _uploads("negative_img")
    unwanted += _by_id(controller, fields, "negative_id")
    unwanted += _by_hash(controller, fields, "negative_hash")
    if not wanted:
        raise InvalidRequestError(
            "The field query_img is missing: send the picture as multipart/form-data, or name an "
            "indexed one by image_id, content_hash, or query_dataset and query_path.",
            field="query_img",
        )
    if len(wanted) + len(unwanted) > _MOST_PICTURES:
        raise InvalidRequestError(
            f"A search has at most {_MOST_PICTURES} pictures; this one has "
            f"{len(wanted) + len(unwanted)}. Leave some out.",
            field="query_img",
            most=_MOST_PICTURES,
        )
    return SearchRequest(
        mode=mode,
        datasets=datasets,
        scope=scope,
        wanted=wanted,
        unwanted=unwanted,
        negative_weight=NEGATIVE_WEIGHT if weight is None else weight,
        k=k,
        offset=offset,
        min_similarity=least,
    )


def _mode(fields: Fields) -> Mode:
    given = fields.word("mode") or "similar"
    for mode in get_args(Mode):
        if given == mode:
            return mode  # type: ignore[no-any-return]
    raise InvalidRequestError(
        f"The mode {given[:40]!r} is not one of: {', '.join(get_args(Mode))}.", field="mode"
    )


def _offset(fields: Fields, k: int) -> int:
    offset = fields.whole("offset", 0, _MAX_OFFSET)
    page = fields.whole("page", 1, 1 + _MAX_OFFSET // k)
    if page is None:
        return offset or 0
    if offset is not None:
        raise InvalidRequestError("Give page or offset, not both.", field="page")
    return (page - 1) * k


def _datasets(controller: Controller, fields: Fields) -> list[DatasetRecord]:
    """The datasets asked for, each once; all when none is named."""
    names = [*fields.many("dataset_names"), *fields.many("dataset_name")]
    known = controller.search.datasets()
    if not names:
        return list(known.values())
    for name in names:
        if not isinstance(name, str):
            raise InvalidRequestError(
                "The field dataset_names must be a list of texts.", field="dataset_names"
            )
    # A name that is not known may be of a folder that has just been added, or an id.
    chosen = [known.get(name) or controller.dataset(name) for name in names]
    return list({dataset.id: dataset for dataset in chosen}.values())


def _part(fields: Fields) -> tuple[Part | None, bool]:
    """The crop and whether it is in fractions; absent, or four zeros, means the whole picture."""
    unit = fields.word("crop_unit") or "pixels"
    if unit not in ("pixels", "fractions"):
        raise InvalidRequestError(
            f"The field crop_unit is {unit[:40]!r}; it must be pixels or fractions.",
            field="crop_unit",
        )
    most = _MAX_SIDE if unit == "pixels" else 1
    names = ("crop_x", "crop_y", "crop_w", "crop_h")
    values = [number(name, fields.one(name) or 0, -most, most, whole=False) for name in names]
    if not any(values):
        return None, False
    x, y, width, height = values
    part = (x, y, width, height)
    if unit == "fractions" and (
        min(part) < 0 or not width * height or max(x + width, y + height) > 1
    ):
        raise InvalidRequestError(
            f"The crop x={x:g} y={y:g} w={width:g} h={height:g} is not inside the picture; in "
            "fractions all four are from 0 to 1, and so are x + w and y + h.",
            field="crop_w",
        )
    return part, unit == "fractions"


def _pictures(
    controller: Controller, fields: Fields, part: Part | None, fractions: bool
) -> list[QueryPicture]:
    """The pictures that are wanted; the crop is of the first."""
    found = _uploads("query_img")
    found += _by_id(controller, fields, "image_id")
    found += _by_hash(controller, fields, "content_hash")
    path, name = fields.word("query_path"), fields.word("query_dataset")
    if path is not None and name is not None:
        dataset = controller.dataset(name)
        image = controller.catalogue.image_at(dataset.id, path)
        if image is None:
            raise UnknownImageError(
                f"There is no image {display(path)[:200]} in dataset {dataset.name}.",
                dataset=dataset.name,
            )
        found.append(_known(image))
    elif path is not None or name is not None:
        lacking = "query_dataset" if name is None else "query_path"
        raise InvalidRequestError(
            f"The field {lacking} is missing: query_dataset and query_path go together.",
            field=lacking,
        )
    url = fields.word("query_url")
    if url is not None:
        if not controller.settings.search_by_url:
            raise ForbiddenError(
                "Searching by URL is switched off. Save the picture and search with the file, or "
                "start the controller with FUTU_SEARCH_BY_URL=true."
            )
        found.append(QueryPicture(url[:200], data=controller.remote.fetch(url)))
    if found and part is not None:
        first = found[0]
        found[0] = QueryPicture(first.name, first.data, first.image, part, fractions)
    return found


def _uploads(field: str) -> list[QueryPicture]:
    if request.is_json:
        return []  # to look for files takes longer than to find a vector
    files: Sequence[FileStorage] = request.files.getlist(field)
    files = [*files, *request.files.getlist(f"{field}[]")]
    return [QueryPicture(display(file.filename or "the upload"), file.read()) for file in files]


def _by_id(controller: Controller, fields: Fields, name: str) -> list[QueryPicture]:
    ids = [
        int(number(name, value, 1, _MAX_ID)) for value in fields.many(name)[: _MOST_PICTURES + 1]
    ]
    return [_known(controller.catalogue.image(image_id)) for image_id in ids]


def _by_hash(controller: Controller, fields: Fields, name: str) -> list[QueryPicture]:
    found = []
    for value in fields.many(name)[: _MOST_PICTURES + 1]:
        try:
            digest = bytes.fromhex(value) if len(value) == _HASH_DIGITS else b""
        except (TypeError, ValueError):
            digest = b""
        if not digest:
            raise InvalidRequestError(
                f"The field {name} must be a SHA-256 of {_HASH_DIGITS} hex digits.", field=name
            )
        image = controller.catalogue.image_of_content(digest)
        if image is None:
            raise UnknownImageError(
                f"No indexed image has the content hash {value}.", content_hash=value
            )
        found.append(_known(image))
    return found


def _known(image: ImageRecord) -> QueryPicture:
    return QueryPicture(display(image.path), image=image)
