"""The command line: futu (or python -m futu), and run.py's controller | compute | both."""

from __future__ import annotations

from typing import Any

import click

from futu import __version__
from futu.cli import (
    builds,
    calibrate,
    check,
    doctor,
    duplicates,
    index,
    keeping,
    models,
    search,
    settings,
    status,
    trash,
    verify,
)
from futu.launch import guarded, launch, server_options

_MODES = ("controller", "compute", "both")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--server", help="The controller's URL.  [default: FUTU_SERVER, http://127.0.0.1:19198]"
)
@click.pass_context
def cli(context: click.Context, server: str | None) -> None:
    """Futu (浮图): which of my pictures look like this one?

    \b
    First search:
      futu both                     start everything on this machine
      futu index holiday            index the folder datasets/holiday
      futu search photo.jpg         its neighbours
    """  # noqa: D301 - click wants the character itself
    context.obj = server


@cli.command()
@server_options
def serve(**given: Any) -> None:
    """Run the controller: REST API, catalogue, index."""
    launch("controller", given)


@cli.command()
@server_options
def compute(**given: Any) -> None:
    """Run a compute server."""
    launch("compute", given)


@cli.command()
@server_options
def both(**given: Any) -> None:
    """Run controller and compute server, and Redis when none is configured."""
    launch("both", given)


for _command in (
    builds.index,
    builds.builds,
    builds.jobs,
    search.search,
    duplicates.duplicates,
    check.check,
    calibrate.calibrate,
    verify.verify,
    status.datasets,
    status.status,
    doctor.doctor,
    settings.config,
    settings.token,
    models.models,
    index.index_info,
    index.index_tune,
    keeping.export,
    keeping.import_,
    keeping.backup,
    keeping.restore,
    trash.trash,
):
    cli.add_command(_command)


def main() -> None:
    """The program futu."""
    guarded(lambda: cli(prog_name="futu"))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mode", type=click.Choice(_MODES), default="both")
@server_options
def run(mode: str, **given: Any) -> None:
    """Start Futu: the controller, a compute server, or both (the default).

    \b
    ./start.sh both                         all on this machine, with its own Redis
    ./start.sh controller --port 19198      REST API, catalogue, index
    ./start.sh compute --workers 4          feature extraction; any number, any machine

    The Redis that controller and compute servers share is set by REDIS_HOST, REDIS_PORT,
    REDIS_DB and REDIS_PASSWORD, or REDIS_URL.
    """  # noqa: D301 - click wants the character itself
    launch(mode, given)


def run_py() -> None:
    """The program run.py."""
    guarded(lambda: run(prog_name="run.py"))
