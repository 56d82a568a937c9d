"""What may be wrong on a machine, and what to do about it: the checks behind ``futu doctor``.

A check changes nothing that it does not put back, waits a few seconds at most, and looks at
everything even when it finds something: who is new to Futu may have several things wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from futu.config import Settings
from futu.errors import FutuError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        check: its name.
        level: ``error``: Futu does not work so; ``warning``: it may not, or not well.
        text: what is there.
        remedy: what to do; empty when all is well.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings, server: str | None = None) -> Iterator[Finding]:
    """Look at everything.

    Args:
        settings: those in force on this machine.
        server: the controller's URL; None: as for every command.
    """
    from futu.doctor import machine, network

    for name, check in machine.CHECKS.items():
        yield from _safely(name, lambda check=check: check(settings))  # type: ignore[misc]
    yield from _safely("redis", lambda: network.redis(settings))
    yield from _safely("controller", lambda: network.controller(settings, server))


def _safely(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except FutuError as error:
        yield Finding(name, "error", error.message, "Do what the sentence says.")
    except Exception as error:
        # A doctor must not die of what it finds; the others checks are still to come.
        yield Finding(
            name, "error", f"The check itself failed: {error!r}.", "Report it, with this sentence."
        )
