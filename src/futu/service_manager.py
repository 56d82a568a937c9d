"""service_manager.py: start, stop, restart, status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from futu.config import Settings
from futu.data_dir import TOKEN_FILE
from futu.launch import guarded, server_options, settings_of
from futu.services.manager import SERVICES, Manager
from futu.services.probes import ServiceStatus, look

_EXIT_NOT_FINE = 1
_EXIT_NOTHING_RUNS = 3

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def manage() -> None:
    """Run Redis, compute server and controller apart from the shell.

    \b
    python service_manager.py start all          Redis, compute server, controller
    python service_manager.py start compute --workers 8
    python service_manager.py status             exit code 1 when something should run and does not
    python service_manager.py stop all

    They go on when the shell ends; another shell finds them by their pid files in the folder
    "services" of the data directory, which also has what each writes to its console. The options
    are those of run.py; give stop and status the same --data-dir as start.
    """  # noqa: D301 - click wants the character itself


def _which(command: _F) -> _F:
    return click.argument("service", type=click.Choice([*SERVICES, "all"]), default="all")(
        server_options(command)
    )


def _manager(given: dict[str, Any]) -> tuple[Manager, Settings]:
    settings, _ = settings_of(given)
    return Manager(settings, click.echo), settings


def _names(service: str) -> tuple[str, ...]:
    return SERVICES if service == "all" else (service,)


@manage.command()
@_which
def start(service: str, **given: Any) -> None:
    """Start a service, or all (the default), and wait until it answers.

    \b
    redis         the bundled Valkey, or an installed one, at REDIS_PORT with REDIS_PASSWORD
    compute       a compute server
    controller    REST API, page, catalogue, index
    all           the three; a Redis that is there already, or elsewhere, is used
    """  # noqa: D301
    manager, _ = _manager(given)
    manager.start(_names(service), service == "all")


@manage.command()
@_which
def stop(service: str, **given: Any) -> None:
    """Stop a service, or all: controller, compute server, Redis; each is asked, then killed."""
    manager, _ = _manager(given)
    manager.stop(_names(service))


@manage.command()
@_which
def restart(service: str, **given: Any) -> None:
    """Stop and start a service, or all."""
    manager, _ = _manager(given)
    manager.stop(_names(service))
    manager.start(_names(service), service == "all")


@manage.command()
@_which
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(service: str, as_json: bool, **given: Any) -> None:
    """Show pid, uptime, health, version and memory.

    Exit code 0: all that was started runs and is healthy; 1: something is not; 3: nothing was
    started.
    """
    manager, settings = _manager(given)
    token = settings.api_token or _kept_token(settings)
    found = [look(name, manager.records.read(name), token) for name in _names(service)]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1))
    else:
        _print(found)
    if all(each.state == "stopped" for each in found):
        sys.exit(_EXIT_NOTHING_RUNS)
    if not all(each.fine for each in found):
        sys.exit(_EXIT_NOT_FINE)


def _kept_token(settings: Settings) -> str:
    try:
        return (settings.data_dir / TOKEN_FILE).read_text("ascii").strip()
    except OSError:
        return ""


def _print(found: list[ServiceStatus]) -> None:
    table = Table("service", "state", "pid", "uptime", "memory", "version", "health", box=None)
    for each in found:
        table.add_row(
            each.name,
            each.state,
            "" if each.pid is None else str(each.pid),
            "" if each.uptime_s is None else _duration(each.uptime_s),
            "" if each.memory_bytes is None else f"{each.memory_bytes / 2**20:.0f} MB",
            each.version,
            each.health.partition(":")[0],
        )
    Console().print(table)
    for each in found:
        if not each.fine:
            click.echo(f"{each.name}: {each.health}")


def _duration(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def service_manager_py() -> None:
    """The program service_manager.py."""
    guarded(lambda: manage(prog_name="service_manager.py"))
