"""Numbers that people choose, and the rules that they stand for."""

from __future__ import annotations

from futu.controller.duplicates.neighbourhood import Rule
from futu.errors import InvalidRequestError

PRESETS = {
    "strict": Rule(0.85),
    "normal": Rule(0.75, least=0.45, margin=0.25),
    "loose": Rule(0.75, least=0.45, margin=0.16),
}
"""Chosen by ``benchmarks.duplicates``: of its pairs in one group 0.99 are right."""

NORMAL = "normal"
LEAST, MOST = 50.0, 100.0
"""Thresholds that may be asked for; below, pictures are alike and not copies."""


def rule_of(preset: str, threshold: float | None = None) -> Rule:
    """The rule of a preset, or of a threshold, 0-100, when there is one.

    Raises:
        InvalidRequestError: there is no such preset, or the threshold is out of range.
    """
    check(preset, threshold)
    return PRESETS[preset] if threshold is None else Rule(threshold / 100)


def check(preset: str, threshold: float | None) -> None:
    """Look at what was chosen: a threshold, or without one a preset.

    Raises:
        InvalidRequestError: see ``rule_of``.
    """
    if threshold is None:
        if preset not in PRESETS:
            raise InvalidRequestError(
                f"The preset is {preset[:40]!r}; it must be one of {', '.join(PRESETS)}.",
                field="preset",
            )
    elif not LEAST <= threshold <= MOST:
        raise InvalidRequestError(
            f"The threshold is {threshold:g}; it must be from {LEAST:g} to {MOST:g}, the "
            "similarity that a copy has at least.",
            field="threshold",
            low=LEAST,
            high=MOST,
        )
