"""Where model files are, and that they are what they should be.

    <models directory>/NAME.onnx     a model of the user's own, described by NAME.toml or NAME.json
                       pulled/       files fetched by 'futu models pull', with their notices
                       built/        graphs made from published weights

Pulled files are never changed. An installed package that carries a model is used where it is.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import tempfile
from pathlib import Path

from futu.errors import ModelError
from futu.models.registry import PACKAGES, Package
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)


def pulled_path(spec: ModelSpec, models_dir: Path) -> Path:
    """Where 'pull' puts a model's file."""
    if spec.name not in PACKAGES:
        return models_dir / f"{spec.name}.onnx"
    suffix = Path(PACKAGES[spec.name].file).suffix
    return models_dir / "pulled" / f"{spec.name}-{spec.sha256[:12]}{suffix}"


def published_file(spec: ModelSpec, models_dir: Path) -> Path | None:
    """The file the model was published as: pulled, or an installed package's; None: neither."""
    package = PACKAGES.get(spec.name)
    candidates = [pulled_path(spec, models_dir)]
    if package is not None:
        candidates += _installed(package)
    return next((path for path in candidates if path.is_file()), None)


def is_in_place(spec: ModelSpec, models_dir: Path) -> bool:
    """Whether the model's file is there; its content is not looked at."""
    return published_file(spec, models_dir) is not None


def model_file(spec: ModelSpec, models_dir: Path) -> Path:
    """The model's ONNX file, its SHA-256 checked; built first where weights were published.

    Safe against several processes doing it at once: each writes its own file and renames it.

    Raises:
        ModelError: not in place, or not the published file; the message has the remedy.
    """
    file = published_file(spec, models_dir)
    package = PACKAGES.get(spec.name)
    if file is None:
        raise ModelError(_missing(spec, models_dir), model=spec.name)
    if package is None or package.scaling is None:
        check_sha256(spec, file)
        return file
    return _built(spec, package, file, models_dir)


def check_sha256(spec: ModelSpec, file: Path, found: str | None = None) -> None:
    """Compare a file with the SHA-256 of its description.

    Raises:
        ModelError: it is another file, or damaged.
    """
    digest = found or sha256_of(file)
    if digest == spec.sha256:
        return
    if spec.name in PACKAGES:
        remedy = f"Get it again: futu models pull {spec.name}."
    else:
        remedy = "Copy the file again, or, if it is the right one, correct sha256."
    raise ModelError(
        f"{file} has SHA-256 {digest}, but {spec.name} is described with {spec.sha256}: it is "
        f"damaged or another file. {remedy}",
        file=str(file),
        found=digest,
        wanted=spec.sha256,
    )


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, hex.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error}).", file=str(file)) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)  # a models directory may serve several users
    os.replace(file.name, path)


@functools.cache
def _installed(package: Package) -> list[Path]:
    """The package's file, when it is installed; found without running the package."""
    found = importlib.util.find_spec(package.module)
    places = found.submodule_search_locations if found is not None else None
    return [Path(place) / package.file for place in places or ()]


def _missing(spec: ModelSpec, models_dir: Path) -> str:
    if spec.name in PACKAGES:
        return f"The model {spec.name} is not in place. Run: futu models pull {spec.name}"
    return (
        f"{models_dir / spec.name}.onnx is not there, but its description is. Copy it there, or "
        f"run: futu models pull {spec.name} --from FILE_OR_URL"
    )


def _built(spec: ModelSpec, package: Package, weights: Path, models_dir: Path) -> Path:
    path = models_dir / "built" / f"{spec.model_id}.onnx"
    digest_path = path.with_suffix(".onnx.sha256")
    try:
        if sha256_of(path) == digest_path.read_text("ascii").strip():
            return path
        log.warning("%s does not match its SHA-256; building it again", path)
    except (FileNotFoundError, ModelError):
        pass
    check_sha256(spec, weights)
    # Here, not at the top: onnx is loaded only when there is something to build.
    from futu.models import efficientnet_lite, legacy_pth

    assert package.scaling is not None  # noqa: S101 - the caller has looked
    graph = efficientnet_lite.build_onnx(
        legacy_pth.read_legacy_pth(weights.read_bytes()),
        spec,
        efficientnet_lite.scaled(*package.scaling),
    )
    try:
        write_atomically(path, graph)
        write_atomically(digest_path, (hashlib.sha256(graph).hexdigest() + "\n").encode())
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written ({error}). Set FUTU_MODELS_DIR to a folder that can."
        ) from error
    log.info("built the graph of %s: %s", spec.model_id, path)
    return path
