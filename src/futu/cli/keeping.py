"""Keeping what was computed: futu export, import, backup, restore. They need no controller."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

from futu import config
from futu.config import Settings
from futu.data_dir import take_data_dir
from futu.errors import ArchiveError, BackupError, InvalidRequestError, SettingsError
from futu.images.folder import ImageRoots, display
from futu.models import registry

if TYPE_CHECKING:
    from futu.catalogue.store import Catalogue

# Compute servers start by the same program, and need no database: it is imported when used.

_F = TypeVar("_F", bound=Callable[..., Any])
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


def _place(command: _F) -> _F:
    """Which catalogue: options and settings as a controller has them."""
    folder = click.Path(path_type=Path, file_okay=False)
    for option in (
        click.option(
            "--settings",
            "settings_file",
            type=click.Path(path_type=Path),
            help="TOML file.  [default: futu.toml]",
        ),
        click.option("--data-dir", type=folder, help="Of the controller.  [default: data]"),
    ):
        command = option(command)
    return command


def _settings(data_dir: Path | None, settings_file: Path | None) -> Settings:
    if settings_file is not None:
        os.environ[config.SETTINGS_FILE_VARIABLE] = str(settings_file)
    return config.load(data_dir=data_dir)


def _url(settings: Settings, *, must_exist: bool = True) -> str:
    from futu.catalogue.engine import catalogue_url, parse_url

    url = catalogue_url(settings.database_url, settings.data_dir)
    parsed = parse_url(url)
    if (
        must_exist
        and parsed.get_backend_name() == "sqlite"
        and not os.path.exists(str(parsed.database))
    ):
        raise SettingsError(f"There is no catalogue {parsed.database}; give its --data-dir.")
    return url


@contextlib.contextmanager
def _opened(settings: Settings, *, must_exist: bool) -> Iterator[Catalogue]:
    from futu.catalogue.engine import PROGRAM
    from futu.catalogue.store import Catalogue

    catalogue = Catalogue(_url(settings, must_exist=must_exist), f"{PROGRAM} command")
    try:
        yield catalogue
    finally:
        catalogue.close()


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@click.command("export")
@click.argument("names", nargs=-1, metavar="[DATASET]...")
@_file
@click.option("--all", "everything", is_flag=True, help="All datasets.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@_place
def export(
    names: tuple[str, ...],
    file: Path,
    everything: bool,
    force: bool,
    data_dir: Path | None,
    settings_file: Path | None,
) -> None:
    """Write DATASETs, with all their feature vectors, to FILE.

    FILE is a ZIP of JSON Lines and npy: for another catalogue (futu import), and for programs of
    your own. The pictures are not in it. A controller may run meanwhile.
    """
    from futu.catalogue.transfer import export_datasets

    if everything == bool(names):
        raise click.UsageError("Name the datasets, or give --all.")
    if file.exists() and not force:
        raise ArchiveError(f"{file} is there already; choose another name, or give --force.")
    with _opened(_settings(data_dir, settings_file), must_exist=True) as catalogue:
        chosen = catalogue.datasets() if everything else [catalogue.dataset(n) for n in names]
        if not chosen:
            raise ArchiveError("There are no datasets to export.")
        with _bar("exporting") as progress:
            found = export_datasets(catalogue, chosen, file, progress)
    click.echo(
        f"{found.datasets} datasets, {found.images} images, {found.vectors} vectors in {file}"
    )


@click.command("import")
@_file
@click.option(
    "--folder",
    "folders",
    multiple=True,
    metavar="DATASET=FOLDER",
    help="Where a dataset's pictures are here; repeatable.",
)
@_place
def import_(
    file: Path, folders: tuple[str, ...], data_dir: Path | None, settings_file: Path | None
) -> None:
    """Take in the datasets of FILE, which futu export has written.

    What is here already stays as it is, so it may be repeated. A dataset that is not here yet needs
    its folder: as --folder says, or of its name in the datasets folder, or where it was. Then
    'futu index DATASET' looks at the files; what was imported needs no model again.
    """
    from futu.catalogue.transfer import import_archive

    settings = _settings(data_dir, settings_file)
    given = dict(_pair(folder) for folder in folders)
    roots = ImageRoots([path.absolute() for path in settings.roots])

    def folder_of(name: str, was: str) -> str:
        candidates = [settings.datasets_dir.absolute() / name, Path(was)]
        if name in given:
            candidates = [Path(given[name]).absolute()]
        for candidate in candidates:
            if candidate.is_dir():
                return str(roots.resolve(candidate))
        raise ArchiveError(
            f"The folder of {name}, {display(str(candidates[-1]))}, is not here; say where its "
            f"pictures are: --folder {name}=FOLDER"
        )

    specs = [registry.spec(name) for name in registry.names()]
    dimensions = {spec.model_id: spec.dimension for spec in specs}
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with _opened(settings, must_exist=False) as catalogue, _bar("importing") as progress:
        found = import_archive(catalogue, file, folder_of, dimensions, progress)
    click.echo(
        f"{found.datasets} datasets; {found.new_images} of {found.images} images and "
        f"{found.new_vectors} of {found.vectors} vectors are new here"
    )


def _pair(text: str) -> tuple[str, str]:
    name, between, folder = text.partition("=")
    if not (name and between and folder):
        raise InvalidRequestError(f"--folder {text!r}: give DATASET=FOLDER.")
    return name, folder


@click.command()
@_file
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@_place
def backup(file: Path, force: bool, data_dir: Path | None, settings_file: Path | None) -> None:
    """Copy the catalogue to FILE, and its SHA-256 to FILE.sha256.

    A controller may run meanwhile. The catalogue is all that cannot be made again, besides your
    pictures. PostgreSQL needs its programs pg_dump and pg_restore.
    """
    from futu.catalogue.backup import back_up

    url = _url(_settings(data_dir, settings_file))
    with _bar("copying") as progress:
        made = back_up(url, file, progress, force=force)
    counts = ", ".join(f"{number} {table}" for table, number in made.counts.items())
    click.echo(f"{made.path}: {counts}; {made.size} bytes, read again and found whole")


@click.command()
@_file
@click.option("--force", is_flag=True, help="Replace a catalogue that is not empty.")
@_place
def restore(file: Path, force: bool, data_dir: Path | None, settings_file: Path | None) -> None:
    """Let the backup FILE take the place of the catalogue. Stop the controller first.

    The replaced catalogue is kept beside; where is said. The index is made anew at the next start.
    """
    from futu.catalogue.backup import restore as restore_backup

    settings = _settings(data_dir, settings_file)
    url = _url(settings, must_exist=False)
    try:
        lock = take_data_dir(settings.data_dir)
    except SettingsError as error:
        raise BackupError(f"Nothing was restored. {error.message}") from error
    with lock, _bar("checking") as progress:
        aside = restore_backup(url, file, settings.data_dir, progress, force=force)
    click.echo(f"{file} is the catalogue now.")
    if aside is not None:
        click.echo(f"The replaced one is {aside}; delete it when you are sure.")
