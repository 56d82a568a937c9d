"""Running a mode: the options of run.py, and a process that serves until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from futu import config, logs, production
from futu.errors import FutuError, SettingsError
from futu.jobs.connection import refuse_wrong_password
from futu.services import processes
from futu.sources import misspelt

_EXIT_SETTINGS = 2

_F = TypeVar("_F", bound=Callable[..., Any])


def server_options(command: _F) -> _F:
    """The options of run.py; each is also a setting."""
    existing = click.Path(path_type=Path)
    options = [
        click.option("--host", help="Address to listen on.  [default: 0.0.0.0]"),
        click.option("--port", type=int, help="Port to listen on.  [default: 19198]"),
        click.option(
            "--debug", is_flag=True, default=None, help="Debug mode; never in production."
        ),
        click.option(
            "--workers", "compute_workers", type=int, help="Worker threads.  [default: 2]"
        ),
        click.option(
            "--config",
            "config_",
            type=click.Choice(["development", "production"]),
            help="Environment.  [default: development]",
        ),
        click.option(
            "--log-level",
            type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
            help="[default: INFO]",
        ),
        click.option(
            "--data-dir", type=existing, help="Catalogue, index, models.  [default: data]"
        ),
        click.option(
            "--datasets-dir",
            type=existing,
            help="Each sub-folder is a dataset.  [default: datasets]",
        ),
        click.option(
            "--image-root",
            "image_roots",
            type=existing,
            multiple=True,
            help="A further folder from which pictures may be read; repeatable.",
        ),
        click.option(
            "--settings", "settings_file", type=existing, help="TOML file.  [default: futu.toml]"
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def settings_of(given: dict[str, Any]) -> tuple[config.Settings, dict[str, Any]]:
    """The settings in force, and which of them the command line gave.

    Args:
        given: what click made of ``server_options``.
    """
    file = given.pop("settings_file")
    if file is not None:
        os.environ[config.SETTINGS_FILE_VARIABLE] = str(file)
    given["config"] = given.pop("config_")
    given["image_roots"] = given["image_roots"] or None
    given = {name: value for name, value in given.items() if value is not None}
    return config.load(**given), given


def launch(mode: str, given: dict[str, Any]) -> None:
    """Run one mode until SIGINT or SIGTERM."""
    settings, _ = settings_of(given)
    production.check(settings, mode)
    level = "DEBUG" if settings.debug else settings.log_level
    role = "supervisor" if mode == "both" else mode
    # The console of a service is a file that nobody rotates; what is logged has its own.
    service = processes.STOP_FILE_VARIABLE in os.environ
    try:
        logs.configure(role, level, settings.log_file, not service, settings.log_format)
    except OSError as error:
        raise SettingsError(
            f"The log file {settings.log_file.absolute()} cannot be written ({error.strerror}). "
            "Choose another with FUTU_LOG_FILE, mend its permissions, or make room."
        ) from error
    for sentence in misspelt(config.variables()):
        logging.getLogger(__name__).warning("%s", sentence)
    if mode != "both" or settings.redis_configured:
        refuse_wrong_password(settings.redis_address)

    # Each mode loads only what it runs: a compute server has no web server, and the other way.
    from futu.services import supervisor

    if mode == "both":
        both = supervisor.Supervisor(settings)
        _on_signals(both.stop)
        sys.exit(both.run())
    if mode == "controller":
        from futu.controller.server import ControllerServer

        controller = ControllerServer(settings)
        _on_signals(controller.stop)
        supervisor.stop_with_parent(controller.stop)
        processes.stop_with_file(controller.stop)
        controller.run()
    else:
        from futu.compute.server import ComputeServer

        compute = ComputeServer(settings)
        _on_signals(compute.stop)
        supervisor.stop_with_parent(compute.stop)
        processes.stop_with_file(compute.stop)
        compute.run()
        if compute.abandoned:
            # The interpreter would wait for threads that never end.
            logging.shutdown()
            os._exit(1)


def _on_signals(stop: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop())


def guarded(command: Callable[[], Any]) -> None:
    """One sentence instead of a traceback for what users can mend."""
    try:
        command()
    except FutuError as error:
        for line in error.message.splitlines():
            click.echo(f"futu: {line}", err=True)
        sys.exit(_EXIT_SETTINGS if error.code == "settings" else 1)
    except OSError as error:
        click.echo(f"futu: {error}", err=True)
        sys.exit(1)
