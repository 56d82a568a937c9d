"""Serving pictures: by id, or by dataset and path; never anything else."""

from __future__ import annotations

import functools
import os
from urllib.parse import quote

import filetype
from flask import Blueprint, Response, request, send_file

from futu.catalogue.records import ImageRecord
from futu.controller.service import Controller
from futu.errors import UnknownImageError, UnsupportedImageError
from futu.images.folder import display, is_picture_file

_CACHE_S = 3600
_FOREVER_S = 365 * 24 * 3600
_VERSION_DIGITS = 16


def image_url(image: ImageRecord) -> str:
    """The URL of an image by id: it works for every file name."""
    return f"/api/image/{_quoted(image.dataset)}/{image.id}"


@functools.lru_cache(maxsize=1024)
def _quoted(name: str) -> str:
    return quote(name, safe="")


def thumbnail_url(image: ImageRecord) -> str:
    """The URL of an image's thumbnail; another one when its content changes."""
    return f"/api/image/{image.id}/thumbnail?v={_version(image)}"


def _version(image: ImageRecord) -> str:
    return image.content_hash.hex()[:_VERSION_DIGITS] if image.content_hash is not None else ""


def path_url(dataset: str, path: str) -> str:
    """The URL of a file of a dataset by its path."""
    return f"/show_image/{quote(dataset, safe='')}/{quote(os.fsencode(path))}"


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("files", __name__)

    def serve(folder: str, path: str) -> Response:
        real = controller.roots.resolve_file(os.path.join(folder, path))
        kind = filetype.guess_mime(str(real)) or ""
        if not is_picture_file(real) or not kind.startswith("image/"):
            raise UnsupportedImageError(f"{display(path)} is not a picture.", file=display(path))
        facts = real.stat()
        # Tag and name are given, since those Flask would make need a name in UTF-8.
        response = send_file(
            real,
            mimetype=kind,
            conditional=True,
            max_age=_CACHE_S,
            etag=f"{facts.st_mtime_ns:x}-{facts.st_size:x}",
            download_name=display(real.name),
        )
        # Pictures are as private as the page they are shown on.
        response.headers["Cache-Control"] = f"private, max-age={_CACHE_S}"
        return response

    def known_image(image_id: int) -> ImageRecord:
        if image_id >= 2**63:
            raise UnknownImageError(f"There is no image {image_id}.", id=image_id)
        return controller.catalogue.image(image_id)

    @routes.get("/api/image/<dataset_name>/<int:image_id>")
    def by_id(dataset_name: str, image_id: int) -> Response:
        dataset = controller.dataset(dataset_name)
        image = known_image(image_id)
        if image.dataset_id != dataset.id:
            raise UnknownImageError(
                f"Image {image_id} is not in dataset {dataset.name}.", id=image_id
            )
        return serve(image.folder, image.path)

    @routes.get("/api/image/<int:image_id>/thumbnail")
    def thumbnail(image_id: int) -> Response:
        image = known_image(image_id)
        data = controller.thumbnails.get(image)
        response = Response(data, mimetype="image/webp")
        response.set_etag(_version(image))
        # The version in the URL is of the content: under it nothing else can come.
        lasting = request.args.get("v") == _version(image)
        response.headers["Cache-Control"] = (
            f"private, max-age={_FOREVER_S}, immutable" if lasting else "private, no-cache"
        )
        response.make_conditional(request)
        return response

    @routes.get("/show_image/<dataset_name>/<path:path>")
    @routes.get("/datasets/<dataset_name>/<path:path>")
    def by_path(dataset_name: str, path: str) -> Response:
        dataset = controller.dataset(dataset_name)
        # Confined to this dataset's own folder first, then to the roots.
        folder = os.path.join(dataset.folder, "")
        inside = os.path.normpath(os.path.join(folder, path))
        if not inside.startswith(folder):
            controller.roots.resolve(inside)
            raise UnknownImageError(f"{display(path)} is not in dataset {dataset.name}.")
        return serve(dataset.folder, path)

    return routes
