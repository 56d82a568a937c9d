"""Every error Futu raises on purpose, in one tree.

    FutuError                      500 internal
    |-- InvalidRequestError        400 bad_field
    |-- UnauthorisedError          401 no_token
    |-- ForbiddenError             403 forbidden
    |   |-- OutsideRootsError      403 outside_roots
    |   `-- ReadOnlyTokenError     403 read_only
    |-- NotFoundError              404 not_found
    |   |-- UnknownDatasetError    404 unknown_dataset
    |   |-- UnknownImageError      404 unknown_image
    |   |-- UnknownOperationError  404 unknown_operation
    |   `-- MissingFileError       404 missing_file
    |-- NotIndexedError            409 not_indexed
    |-- BusyError                  409 busy
    |-- PlanRefusedError           409 plan_refused
    |-- BusyError                  409 busy
    |-- ImageError                 (a picture that cannot be used)
    |   |-- ImageTooLargeError     413 too_large
    |   |-- UnsupportedImageError  415 not_an_image
    |   |   |-- VectorImageError   415 vector_image
    |   |   `-- NoDecoderError     415 no_decoder
    |   |-- UndecodableImageError  422 cannot_decode
    |   |-- UnreadableFileError    422 unreadable
    |   |-- ChangedFileError       422 changed
    |   `-- QuarantinedError       422 quarantined
    |-- QueueFullError             429 queue_full
    |-- TooManyAttemptsError       429 too_many_attempts
    |-- UnavailableError           503 unavailable
    |   |-- RedisUnavailableError  503 redis_unavailable
    |   |-- CatalogueUnavailableError  503 catalogue_unavailable
    |   |-- NoComputeServerError   503 no_compute_server
    |   |-- NoModelError           503 no_model
    |   |-- IndexUnavailableError  503 index_unavailable
    |   `-- NotLeadingError        503 not_leading
    |-- JobTimeoutError            504 timeout
    |-- JobFailedError             500 job_failed
    |   `-- OtherVersionError      500 other_version
    |-- ModelError                 500 model
    |-- IndexDamagedError          500 index_damaged
    |-- TrashError                 500 trash
    |   `-- PlaceTakenError        500 place_taken
    |-- ArchiveError               (command line only: exports)
    |-- BackupError                (command line only: backups)
    |-- SettingsError              (start-up only)
    |-- ServiceError               (command line only: services)
    `-- ServerError                (client side: an answer that is none of the above)

Each carries the HTTP status and the stable code word of the API's error body, so that a
picture refused by a compute server reaches the HTTP caller with the same status it would
have had in the controller. Messages say what to do.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FutuError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: one sentence that says what is wrong and what to do.
        details: JSON-serialisable facts (the file, the limit, the value).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidRequestError(FutuError):
    """A field of the request is missing, of the wrong type or out of range."""

    status = 400
    code = "bad_field"


class UnauthorisedError(FutuError):
    """The request needs a token and carries no valid one."""

    status = 401
    code = "no_token"


class ForbiddenError(FutuError):
    """The request is understood and refused."""

    status = 403
    code = "forbidden"


class OutsideRootsError(ForbiddenError):
    """A path, after symlinks are resolved, lies outside the configured image roots."""

    code = "outside_roots"


class ReadOnlyTokenError(ForbiddenError):
    """The token allows looking and searching, and the request would change something."""

    code = "read_only"


class NotFoundError(FutuError):
    """No such route or thing."""

    status = 404
    code = "not_found"


class UnknownDatasetError(NotFoundError):
    """No dataset has that name or id."""

    code = "unknown_dataset"


class UnknownImageError(NotFoundError):
    """The catalogue has no such image."""

    code = "unknown_image"


class UnknownOperationError(NotFoundError):
    """No trash that can be reached has such an operation."""

    code = "unknown_operation"


class MissingFileError(NotFoundError):
    """A path inside the roots at which there is no file."""

    code = "missing_file"


class NotIndexedError(FutuError):
    """The dataset is known but nothing in it can be searched yet."""

    status = 409
    code = "not_indexed"


class PlanRefusedError(FutuError):
    """A plan that must not be carried out as it is; nothing was moved."""

    status = 409
    code = "plan_refused"


class BusyError(FutuError):
    """What was asked for is under way, and goes one at a time."""

    status = 409
    code = "busy"


class ImageError(FutuError):
    """The picture cannot be used."""

    status = 422
    code = "image"


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than the limits allow."""

    status = 413
    code = "too_large"


class UnsupportedImageError(ImageError):
    """The bytes are not a picture in a format we read."""

    status = 415
    code = "not_an_image"


class VectorImageError(UnsupportedImageError):
    """A drawing made of shapes (SVG), which has no pixels of its own."""

    code = "vector_image"


class NoDecoderError(UnsupportedImageError):
    """A picture whose decoder is an extra that is not installed."""

    code = "no_decoder"


class UndecodableImageError(ImageError):
    """The bytes begin like a picture but cannot be decoded."""

    code = "cannot_decode"


class UnreadableFileError(ImageError):
    """The operating system does not let us read the file."""

    code = "unreadable"


class ChangedFileError(ImageError):
    """The file was changed between the scan and the decoding."""

    code = "changed"


class QuarantinedError(ImageError):
    """Workers have died over the picture; it is not tried again by itself."""

    code = "quarantined"


class QueueFullError(FutuError):
    """The job stream is at its bound."""

    status = 429
    code = "queue_full"
    retry_after_s = 1


class TooManyAttemptsError(FutuError):
    """Too many wrong tokens came from one address; ``retry_after_s`` says when one counts again."""

    status = 429
    code = "too_many_attempts"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = int(details.get("retry_after_s", 60))


class UnavailableError(FutuError):
    """Something this request needs is not there at the moment."""

    status = 503
    code = "unavailable"


class RedisUnavailableError(UnavailableError):
    """Redis does not answer."""

    code = "redis_unavailable"


class CatalogueUnavailableError(UnavailableError):
    """The catalogue's database does not answer or cannot write."""

    code = "catalogue_unavailable"


class NoComputeServerError(UnavailableError):
    """No compute server is registered."""

    code = "no_compute_server"


class NoModelError(UnavailableError):
    """The compute server that was asked, or any that is alive, lacks the model."""

    code = "no_model"


class IndexUnavailableError(UnavailableError):
    """The server that keeps the index does not answer."""

    code = "index_unavailable"


class NotLeadingError(UnavailableError):
    """Only the controller that leads can do it, and this one does not, or does not answer."""

    code = "not_leading"


class JobTimeoutError(FutuError):
    """No answer from a compute server in time."""

    status = 504
    code = "timeout"


class JobFailedError(FutuError):
    """A compute server could not do a job, for no fault of the picture."""

    code = "job_failed"


class OtherVersionError(JobFailedError):
    """A message of a version of Futu that this one does not understand."""

    code = "other_version"


class ModelError(FutuError):
    """A model file is missing, damaged or not what it claims to be."""

    code = "model"


class IndexDamagedError(FutuError):
    """An index file cannot be used; it is rebuilt from the catalogue."""

    code = "index_damaged"


class TrashError(FutuError):
    """A file could not be moved to the trash or home."""

    code = "trash"


class PlaceTakenError(TrashError):
    """Another file is where a file from the trash belongs."""

    code = "place_taken"


class ArchiveError(FutuError):
    """A file that was exported cannot be used."""

    code = "archive"


class BackupError(FutuError):
    """A backup cannot be made, is not one, or must not be restored."""

    code = "backup"


class SettingsError(FutuError):
    """A setting has a wrong value or name."""

    code = "settings"


class ServiceError(FutuError):
    """A service does not start, or not in time."""

    code = "service"


class ServerError(FutuError):
    """The controller answered something the client does not know."""

    code = "server"


def _tree(root: type[FutuError]) -> dict[str, type[FutuError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        for code, cls in _tree(child).items():
            found.setdefault(code, cls)
    return found


def from_code(code: str, message: str, details: dict[str, Any] | None = None) -> FutuError:
    """Rebuild an error that crossed a process boundary as (code, message, details)."""
    cls = _tree(FutuError).get(code, ServerError)
    return cls(message, **(details or {}))
