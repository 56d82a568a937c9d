"""Watching: datasets that are indexed again whenever something in their folder changes.

One thread for each. It is told of changes by the operating system where that is possible, and
otherwise looks every so often. It decides only *that* something has changed: the build that it
begins finds out what, so an event too many, or one that came double, does no harm.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import watchfiles
from watchfiles import Change

from futu.catalogue.records import DatasetRecord
from futu.catalogue.store import Catalogue
from futu.errors import FutuError
from futu.images.folder import ImageRoots, display, has_picture_name
from futu.images.mounts import is_silent

log = logging.getLogger(__name__)

Mode = Literal["auto", "events", "polling"]
_How = Literal["off", "starting", "events", "polling", "waiting"]

_QUIET_MS = 1000
"""A change is acted upon when nothing has followed it for so long: copying takes a while."""
_LONGEST_S = 30.0
"""...or when changes have been coming for so long."""
_STEP_MS = 200
_RETRY_S = 5.0
_UNREADABLE_NAME = "Unable to decode path"
_LOOK_ANYWAY_S = 3600.0
"""What was not announced, a disk mounted below the folder for instance, is found after so long."""


@dataclass(frozen=True)
class WatchState:
    """How a dataset is watched.

    Attributes:
        how: ``events``: the system tells of changes; ``polling``: the folder is looked at every
            so often; ``waiting``: it is not there; ``starting``; ``off``.
        message: why it is not ``events``, and what to do about it.
    """

    how: _How
    message: str = ""


_OFF = WatchState("off")


class Watcher:
    """Watches datasets; which ones is remembered in the catalogue.

    Args:
        catalogue: where it is remembered.
        roots: where pictures may be read.
        build: begins a build of a dataset; False when one is under way already.
        mode: ``events`` and ``polling`` allow nothing else; ``auto`` polls where events do not
            come: on network file systems, and beyond the system's limits.
        poll_s: seconds between two looks of a poll.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        roots: ImageRoots,
        build: Callable[[DatasetRecord], bool],
        *,
        mode: Mode,
        poll_s: float,
    ) -> None:
        self._catalogue = catalogue
        self._roots = roots
        self._build = build
        self._mode = mode
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._watches: dict[int, _Watch] = {}

    def start(self) -> None:
        """Go on watching what was watched before."""
        for dataset in self._catalogue.datasets():
            if dataset.watched:
                self._begin(dataset)

    def stop(self) -> None:
        """End all watching, until the next start."""
        with self._lock:
            watches = list(self._watches.values())
            self._watches.clear()
        for watch in watches:
            watch.ask_to_stop()
        for watch in watches:
            watch.join()

    def watch(self, dataset: DatasetRecord) -> None:
        """Watch a dataset from now on; it is indexed at once."""
        self._catalogue.set_watched(dataset.id, True)
        self._begin(dataset)

    def unwatch(self, dataset: DatasetRecord) -> bool:
        """Watch a dataset no longer; False when it was not watched."""
        self._catalogue.set_watched(dataset.id, False)
        with self._lock:
            watch = self._watches.pop(dataset.id, None)
        if watch is None:
            return False
        watch.ask_to_stop()
        watch.join()
        return True

    def state(self, dataset_id: int) -> WatchState:
        """How a dataset is watched."""
        watch = self._watches.get(dataset_id)
        return _OFF if watch is None else watch.state

    def _begin(self, dataset: DatasetRecord) -> None:
        with self._lock:
            if dataset.id not in self._watches:
                watch = _Watch(dataset, self._roots, self._build, self._mode, self._poll_s)
                self._watches[dataset.id] = watch
                watch.start()


class _FolderLeftError(Exception):
    """The folder is not the one whose changes are announced: its disk was taken away."""


class _Watch(threading.Thread):
    """The watch over one dataset."""

    def __init__(
        self,
        dataset: DatasetRecord,
        roots: ImageRoots,
        build: Callable[[DatasetRecord], bool],
        mode: Mode,
        poll_s: float,
    ) -> None:
        super().__init__(name=f"watch-{dataset.id}", daemon=True)
        self._dataset = dataset
        self._roots = roots
        self._build = build
        self._mode = mode
        self._poll_s = poll_s
        # Not named _stop: Thread has one.
        self._ended = threading.Event()
        self._told = mode != "polling"
        self._polled = mode != "events"
        self._trouble = ""
        self.state = WatchState("starting")

    def ask_to_stop(self) -> None:
        self._ended.set()

    def run(self) -> None:
        while not self._ended.is_set():
            pause_s = _RETRY_S
            try:
                folder = self._roots.resolve(self._dataset.folder)
                if self._told and self._polled and is_silent(folder):
                    self._give_up_events(
                        "It is on a network file system, whose changes are not announced here."
                    )
                self._follow(folder)
            except (FutuError, FileNotFoundError, _FolderLeftError) as error:
                self._say("waiting", f"{error} It is watched again when it is back.")
            except Exception as error:
                pause_s = self._cope(error)
            self._ended.wait(pause_s)

    def _follow(self, folder: Path) -> None:
        """Begin a build whenever something has changed, until told to stop.

        Raises:
            _FolderLeftError: the folder has become another one.
            Exception: whatever the announcing of changes fails with.
        """
        before = _identity(folder)
        # What has changed before the watch stood is found by a build too.
        dirty_since: float | None = time.monotonic()
        looked_at = time.monotonic()
        for changes in self._ticks(folder):
            if self._ended.is_set():
                return
            self._say("events" if self._told else "polling", self._trouble)
            now = time.monotonic()
            if any(_matters(str(folder), change, path) for change, path in changes):
                dirty_since = now if dirty_since is None else dirty_since
                if now - dirty_since < _LONGEST_S:
                    continue
            elif _identity(folder) != before:
                raise _FolderLeftError(f"The folder {display(folder)} has gone.")
            if dirty_since is None and now - looked_at > _LOOK_ANYWAY_S:
                dirty_since = now
            # A build that is under way may have passed what has changed: then again, in a second.
            if dirty_since is not None and self._build(self._dataset):
                dirty_since, looked_at = None, now

    def _ticks(self, folder: Path) -> Iterator[Collection[tuple[Change, str]]]:
        """Changes as they come; none when a second has passed without."""
        if self._told or self._polled:
            return watchfiles.watch(
                folder,
                # All: were they filtered there, nothing would tell that time passes.
                watch_filter=None,
                debounce=_QUIET_MS,
                step=_STEP_MS,
                stop_event=self._ended,
                rust_timeout=_QUIET_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
                force_polling=None if self._told else True,
                poll_delay_ms=int(self._poll_s * 1000),
                ignore_permission_denied=True,
            )
        return self._alarm(str(folder))

    def _alarm(self, folder: str) -> Iterator[Collection[tuple[Change, str]]]:
        """Says every so often that something may have changed."""
        yield ()
        while not self._ended.wait(self._poll_s):
            yield ((Change.modified, folder),)
            yield ()

    def _cope(self, error: Exception) -> float:
        """Go on after the announcing of changes has failed; how long to wait before, seconds."""
        if _UNREADABLE_NAME in str(error):
            # The event of a name that is not UTF-8; what has changed is found by the next build.
            log.debug("watching %s: %s", self._dataset.name, error)
            return _QUIET_MS / 1000
        log.warning("watching %s: %r", self._dataset.name, error)
        reason = _reason(error)
        if self._told and self._polled:
            self._give_up_events(reason)
            return 0.0
        if self._polled:
            # Then a build every so often, which finds out whether there is anything to do.
            self._polled = False
            self._say_trouble(reason)
            return 0.0
        self._say("waiting", f"{reason} It is tried again.")
        return _RETRY_S

    def _give_up_events(self, reason: str) -> None:
        self._told = False
        self._say_trouble(reason)

    def _say_trouble(self, reason: str) -> None:
        self._trouble = f"{reason} The folder is looked at every {self._poll_s:g} s instead."
        log.warning("watching %s: %s", self._dataset.name, self._trouble)

    def _say(self, how: _How, message: str = "") -> None:
        if self.state != (state := WatchState(how, message)):
            self.state = state
            log.info("watching %s: %s %s", self._dataset.name, how, message)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _matters(folder: str, change: Change, path: str) -> bool:
    """Whether a change may concern a picture; of what is gone nobody knows what it was."""
    relative = os.path.relpath(path, folder)
    if any(part.startswith(".") and part != "." for part in relative.split(os.sep)):
        return False
    if change == Change.deleted or has_picture_name(path) or os.path.isdir(path):
        return True
    return not os.path.splitext(path)[1]


def _reason(error: Exception) -> str:
    """Why there are no events, and the remedy."""
    text = str(error)
    if "watch limit" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return (
            "The system's limit of watched folders is reached; raise it with "
            "sysctl fs.inotify.max_user_watches=1048576, then watch it again."
        )
    if "Too many open files" in text:
        return (
            "The system's limit of programs that watch, or of open files, is reached; raise it "
            "with sysctl fs.inotify.max_user_instances=1024, then watch it again."
        )
    return f"Its changes are not announced ({text})."
