"""Checks of this machine: Python, disks, files, models, limits, memory, the port."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from futu import config
from futu.catalogue.engine import catalogue_url, file_of, open_engine
from futu.catalogue.migrate import check_revision
from futu.config import Settings
from futu.doctor import Check, Finding
from futu.errors import ModelError, SettingsError
from futu.models.registry import default_spec
from futu.models.spec import QUESTIONS
from futu.models.store import check_sha256, is_in_place, published_file
from futu.sources import misspelt

_LEAST_FREE_BYTES = 256 * 1024**2
_GOOD_FREE_BYTES = 2 * 1024**3
_LEAST_WATCHES = 65_536
_LEAST_INSTANCES = 128
_BASE_BYTES = 700 * 1024**2
"""Controller, Redis and a compute server with its models, without pictures in hand."""

_WORKER_BYTES = 60 * 1024**2
"""What a further worker of a compute server takes beside what it decodes."""

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_INOTIFY = Path("/proc/sys/fs/inotify")


def python(_: Settings) -> Iterator[Finding]:
    """Version and word size."""
    text = f"Python {platform.python_version()} at {sys.executable}, {platform.machine()}"
    if sys.maxsize < 2**32:
        yield Finding("python", "error", f"{text}, 32 bit", "Install a 64 bit Python.")
    else:
        yield Finding("python", "ok", text)


def settings(_: Settings) -> Iterator[Finding]:
    """Variables that are nearly settings."""
    found = list(misspelt(config.variables()))
    for sentence in found:
        yield Finding("settings", "warning", sentence, "Correct its name, or remove it.")
    if not found:
        file = config.settings_file()
        where = f"from {file.absolute()}" if file.is_file() else "without a file"
        yield Finding("settings", "ok", f"all valid, {where}; 'futu config' shows them")


def disk(settings: Settings) -> Iterator[Finding]:
    """Room where the catalogue, the index and the models are."""
    for what, folder in (("data", settings.data_dir), ("models", settings.models_dir)):
        there = _existing(folder)
        free = shutil.disk_usage(there).free
        text = f"{free / 1e9:.1f} GB are free for {what}, at {folder.absolute()}"
        remedy = f"Make room, or choose another folder with FUTU_{what.upper()}_DIR."
        if free < _LEAST_FREE_BYTES:
            yield Finding("disk", "error", text, remedy)
        elif free < _GOOD_FREE_BYTES:
            yield Finding("disk", "warning", text, remedy)
        else:
            yield Finding("disk", "ok", text)


def writable(settings: Settings) -> Iterator[Finding]:
    """The data directory and the log."""
    for what, folder, variable in (
        ("data directory", settings.data_dir, "FUTU_DATA_DIR"),
        ("log", settings.log_file.absolute().parent, "FUTU_LOG_FILE"),
    ):
        there = _existing(folder)
        try:
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            yield Finding(
                "writable",
                "error",
                f"The {what} {folder.absolute()} cannot be written ({error.strerror}).",
                f"Mend the permissions of {there}, make room, or choose another with {variable}.",
            )
        else:
            yield Finding("writable", "ok", f"the {what} {folder.absolute()}")


def catalogue(settings: Settings) -> Iterator[Finding]:
    """Whether it answers and is of this version."""
    engine = open_engine(catalogue_url(settings.database_url, settings.data_dir), pooled=False)
    try:
        file = file_of(engine)
        if file is not None and not file.exists():
            yield Finding("catalogue", "ok", f"{file} is made at the first start")
            return
        revision, newest = check_revision(engine)
        where = "the database" if file is None else str(file)
        if revision in (None, newest):
            yield Finding("catalogue", "ok", f"{where}, revision {newest}")
        else:
            yield Finding(
                "catalogue",
                "warning",
                f"{where} is of revision {revision} and is migrated to {newest} at the next start.",
                "Back it up before: futu backup FILE.",
            )
    finally:
        engine.dispose()


def models(settings: Settings) -> Iterator[Finding]:
    """The models of the questions: in place, and what they should be."""
    for question in QUESTIONS:
        needed = question == "similar" or question in settings.questions
        try:
            spec = default_spec(question, settings)
            if is_in_place(spec, settings.models_dir):
                file = published_file(spec, settings.models_dir)
                assert file is not None  # noqa: S101 - it is in place
                check_sha256(spec, file)
                yield Finding("models", "ok", f"{spec.name}, for {question}: its SHA-256 is right")
            else:
                yield Finding(
                    "models",
                    "error" if question == "similar" else "warning" if needed else "ok",
                    f"{spec.name}, for {question}, is not in place in {settings.models_dir}.",
                    f"futu models pull {spec.name}" if needed else "",
                )
        except (ModelError, SettingsError) as error:
            yield Finding("models", "error" if needed else "warning", error.message, "See there.")


def roots(settings: Settings) -> Iterator[Finding]:
    """The folders of pictures."""
    for root in settings.roots:
        folder = root.absolute()
        try:
            with os.scandir(folder) as entries:
                count = sum(entry.is_dir() for entry in entries)
        except FileNotFoundError:
            if root == settings.datasets_dir:
                yield Finding("roots", "ok", f"{folder} is made at the first start")
            else:
                yield Finding(
                    "roots",
                    "error",
                    f"{folder} is not there.",
                    "Mount its disk, or correct --image-root or FUTU_IMAGE_ROOTS.",
                )
        except OSError as error:
            yield Finding(
                "roots",
                "error",
                f"{folder} cannot be read ({error.strerror}).",
                f"Let the user {_user()} read and enter it.",
            )
        else:
            yield Finding("roots", "ok", f"{folder}, {count} folders in it")


def watching(settings: Settings) -> Iterator[Finding]:
    """What the system allows for ``futu index --watch``."""
    if settings.watch_mode == "polling" or not _INOTIFY.is_dir():
        return
    for name, least, most in (
        ("max_user_watches", _LEAST_WATCHES, 1_048_576),
        ("max_user_instances", _LEAST_INSTANCES, 1024),
    ):
        limit = int((_INOTIFY / name).read_text("ascii"))
        text = f"fs.inotify.{name} is {limit:,}"
        if limit < least:
            yield Finding(
                "watching",
                "warning",
                f"{text}; folders beyond it are looked at now and then instead.",
                f"sysctl fs.inotify.{name}={most}, or FUTU_WATCH_MODE=polling",
            )
        else:
            yield Finding("watching", "ok", text)


def memory(settings: Settings) -> Iterator[Finding]:
    """Whether the workers fit into it."""
    total = _memory_bytes()
    wanted = _BASE_BYTES + settings.decode_bytes + settings.compute_workers * _WORKER_BYTES
    text = (
        f"{total / 2**30:.1f} GB; {settings.compute_workers} workers may take "
        f"{wanted / 2**30:.1f} GB with everything else"
    )
    if total < wanted:
        yield Finding(
            "memory", "warning", f"{text}.", "Lower FUTU_DECODE_BYTES, or COMPUTE_WORKERS."
        )
    else:
        yield Finding("memory", "ok", text)
    processors = os.cpu_count() or 1
    if settings.compute_workers > processors:
        yield Finding(
            "memory",
            "warning",
            f"{settings.compute_workers} workers share {processors} processors; more of them than "
            "processors make nothing faster.",
            f"COMPUTE_WORKERS={processors}",
        )


def port(settings: Settings) -> Iterator[Finding]:
    """Whether the controller can listen, unless it does already (see ``network``)."""
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield from _used(settings, where)
        else:
            yield Finding(
                "port",
                "error",
                f"{where} cannot be listened on ({error.strerror}).",
                "Choose an address of this machine with --host, and a --port above 1023.",
            )
    else:
        yield Finding("port", "ok", f"{where} is free")


def _used(settings: Settings, where: str) -> Iterator[Finding]:
    from futu.doctor.network import speaks_futu

    if speaks_futu(settings):
        yield Finding("port", "ok", f"a controller listens on {where}")
    else:
        yield Finding(
            "port",
            "error",
            f"Another program listens on {where}.",
            "Stop it, or choose another port with --port or FUTU_PORT.",
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there; it may be a file by mistake."""
    there = folder.absolute()
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    return there


def _memory_bytes() -> int:
    """Of the machine, or what a container is allowed."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(_CGROUP_LIMIT.read_text("ascii")))
    except (OSError, ValueError):
        return total


def _user() -> str:
    try:
        return str(psutil.Process().username())
    except (psutil.Error, KeyError):
        return "Futu runs as"


CHECKS: dict[str, Check] = {
    "python": python,
    "settings": settings,
    "disk": disk,
    "writable": writable,
    "catalogue": catalogue,
    "models": models,
    "roots": roots,
    "watching": watching,
    "memory": memory,
    "port": port,
}
