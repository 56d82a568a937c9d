"""Do I have this already? futu check."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from futu.cli.duplicates import errors_are_two
from futu.client import Client
from futu.client_known import CheckedPicture, CheckSummary, Far, LeakedPicture
from futu.errors import FutuError, InvalidRequestError
from futu.images.folder import ImageRoots, display, hash_file
from futu.images.walk import walk

_KNOWN, _ERRORS = 1, 2
_HASHES, _FILES, _BYTES = 256, 16, 8 * 1024 * 1024
_UPLOADS = 3
_COLUMNS = (
    "name",
    "status",
    "tier",
    "similarity",
    "cosine",
    "id",
    "dataset",
    "path",
    "compared",
    "error",
)


@dataclass
class _Shown:
    """Writes what comes, in the form that was asked for."""

    form: str
    which: str
    console: Console
    known: int = 0
    new: int = 0
    errors: int = 0
    _writer: Any = field(default=None)

    def show(self, one: CheckedPicture) -> None:
        """Count a picture and print it, if such ones are wanted."""
        if one.status == "error":
            self.errors += 1
            problem = f"{display(one.name)}: {one.error}"
            self.console.print(problem, markup=False, soft_wrap=True, highlight=False)
        elif one.status == "new":
            self.new += 1
        else:
            self.known += 1
        if self.which not in ("all", one.status) and one.status != "error":
            return
        if self.form == "json":
            click.echo(json.dumps(asdict(one), ensure_ascii=False))
        elif self.form == "csv":
            self._csv(one)
        elif one.status == "new":
            click.echo(display(one.name) if self.which == "new" else f"new    {display(one.name)}")
        elif one.status == "known":
            best = one.matches[0]
            where = f"{best.dataset}: {best.path}"
            more = f" and {len(one.matches) - 1} more" if len(one.matches) > 1 else ""
            how = f"known  {best.tier:5} {best.similarity:6.2f}"
            click.echo(f"{how}  {display(one.name)}  =  {where}{more}")

    def _csv(self, one: CheckedPicture) -> None:
        if self._writer is None:
            self._writer = csv.writer(sys.stdout, lineterminator="\n")
            self._writer.writerow(_COLUMNS)
        about = [display(one.name), one.status]
        after = [one.compared, one.error]
        for match in one.matches:
            facts = [match.tier, match.similarity, match.cosine, match.id, match.dataset]
            self._writer.writerow([*about, *facts, match.path, *after])
        if not one.matches:
            self._writer.writerow([*about, *[""] * 6, *after])

    def end(self, note: str, what: str) -> None:
        """The counts, and the exit code."""
        if note:
            self.console.print(note, markup=False, soft_wrap=True, highlight=False)
        errors = f", {self.errors} not checked" if self.errors else ""
        self.console.print(f"{self.known} known, {self.new} new{errors}{what}.", highlight=False)
        if self.errors:
            sys.exit(_ERRORS)
        if self.known:
            sys.exit(_KNOWN)


@click.command()
@click.argument(
    "files", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[FILE]..."
)
@click.option("--dataset", "datasets", multiple=True, help="Look in this one only; repeatable.")
@click.option(
    "--from",
    "source",
    metavar="DATASET",
    help="Look for the pictures of this indexed dataset instead of files.",
)
@click.option(
    "--preset",
    type=click.Choice(["strict", "normal", "loose"]),
    help="How alike copies are: 99, 95, 90, or what futu calibrate found.  [default: normal]",
)
@click.option("--threshold", type=click.FloatRange(50, 100), help="The same as a similarity.")
@click.option(
    "--show",
    type=click.Choice(["known", "new", "all"]),
    default="known",
    show_default=True,
    help="Which to print; new: nothing but their names.",
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.pass_obj
@errors_are_two
def check(
    server: str | None,
    files: tuple[Path, ...],
    datasets: tuple[str, ...],
    source: str | None,
    preset: str | None,
    threshold: float | None,
    show: str,
    form: str | None,
) -> None:
    """Do I have this already? Look for FILEs, and all pictures in folders, among what is indexed.

    Nothing is stored, and files with known bytes are not even sent. Edited copies are found where
    the index has vectors for copy.

    \b
    futu check new.jpg                              is it there?
    futu check /media/card --show new > new.txt     what of the card is not there yet?
    futu check --from test --dataset train --csv    which test pictures leak from training?

    \b
    Exit code:
      0   all are new
      1   some are known
      2   some could not be checked, or another error
    """  # noqa: D301 - click wants the character itself
    if bool(files) == bool(source):
        raise InvalidRequestError("Name files or folders to look for, or a dataset with --from.")
    console = Console(stderr=True)
    shown = _Shown(form or "text", show, console)
    asked: dict[str, Any] = {"threshold": threshold, "preset": preset}
    bars = (
        TextColumn("check"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    with Client(server) as client, Progress(*bars, console=console, transient=True) as bar:
        task = bar.add_task("", total=0)
        note, what = "", ""
        if source is not None:
            for step in client.leakage(source, datasets, **asked):
                if isinstance(step, Far):
                    bar.update(task, completed=step.done, total=step.total)
                elif isinstance(step, LeakedPicture):
                    name = f"{step.dataset}: {step.path}"
                    shown.show(CheckedPicture(name, "known", "vectors", None, step.matches))
                else:
                    shown.new = step.images - step.leaked
                    note, what = step.note, f" ({step.exact} equal, {step.near} edited)"
        else:
            found = _found(files)
            bar.update(task, total=len(found))
            for one in _checked(client, found, {**asked, "datasets": datasets}):
                if isinstance(one, CheckSummary):
                    note = one.note
                else:
                    shown.show(one)
                    bar.advance(task)
    shown.end(note, what)


def _found(given: Iterable[Path]) -> list[Path | CheckedPicture]:
    """All files; what cannot be entered is an entry that says so."""
    found: list[Path | CheckedPicture] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        for file in walk(path, ImageRoots([path])):
            whole = path / file.path
            found.append(whole if file.error is None else _failed(whole, file.error))
    return found


def _checked(
    client: Client, found: Sequence[Path | CheckedPicture], asked: dict[str, Any]
) -> Iterator[CheckedPicture | CheckSummary]:
    """What is known of files: by their hashes first, and then by sending what is left."""
    last: CheckSummary | None = None

    def sent(paths: list[Path]) -> list[CheckedPicture]:
        try:
            answer, _ = client.check(paths, **asked)
        except (FutuError, OSError) as error:
            return [_failed(path, error) for path in paths]
        return [replace(one, name=str(path)) for path, one in zip(paths, answer)]

    with ThreadPoolExecutor(_UPLOADS) as pool:
        for start in range(0, len(found), _HASHES):
            hashed: list[tuple[Path, str]] = []
            for digest in pool.map(_hashed, found[start : start + _HASHES]):
                if isinstance(digest, CheckedPicture):
                    yield digest
                else:
                    hashed.append(digest)
            if not hashed:
                continue
            known, last = client.check(hashes=[digest for _, digest in hashed], **asked)
            left: list[Path] = []
            for (path, _), one in zip(hashed, known):
                if one.status == "new" and last.edited_copies:
                    left.append(path)
                else:
                    yield replace(one, name=str(path))
            for answer in pool.map(sent, _pieces(left)):
                yield from answer
    if last is not None:
        yield last


def _pieces(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """As many files as are sent at once."""
    piece: list[Path] = []
    held = 0
    for path in paths:
        size = os.path.getsize(path) if path.exists() else 0
        if piece and (len(piece) >= _FILES or held + size > _BYTES):
            yield piece
            piece, held = [], 0
        piece.append(path)
        held += size
    if piece:
        yield piece


def _hashed(path: Path | CheckedPicture) -> tuple[Path, str] | CheckedPicture:
    """A file with its content hash, or why it has none."""
    if isinstance(path, CheckedPicture):
        return path
    try:
        return path, hash_file(path).hex()
    except FutuError as error:
        return _failed(path, error)


def _failed(path: Path, error: FutuError | OSError) -> CheckedPicture:
    message = error.message if isinstance(error, FutuError) else str(error)
    code = error.code if isinstance(error, FutuError) else "unreadable"
    return CheckedPicture(str(path), "error", "nothing", None, error=message, code=code)
