"""Our job queue against Celery, dramatiq and taskiq, on one Valkey: python -m benchmarks.jobs."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import IO, TypeVar

from benchmarks.peers.bench import GIVE_UP_S, Bench, Contender, peers_python, valkey, versions
from benchmarks.peers.produce import SLOW_JOBS, SLOW_S

_OURS = "futu"
_PEERS = ("celery", "dramatiq", "taskiq")
_MEASURES = ("round-trip", "rate", "memory", "recovery")
_IDEAL_S = SLOW_S * SLOW_JOBS / 2
_GRACE_S = 8.0

T = TypeVar("T")


class Comparison:
    """The measures, over all contenders, each printed as soon as it is known."""

    def __init__(self, bench: Bench, contenders: list[Contender], log: IO[bytes]) -> None:
        self._bench = bench
        self._contenders = contenders
        self._log = log

    def round_trip(self, count: int, repeats: int) -> None:
        trips = self._in_turn(lambda contender: self._bench.round_trips(contender, count), repeats)
        p50 = {name: median(median(times) for times in found) for name, found in trips.items()}
        p99 = {
            name: quantiles([t for times in found for t in times], n=100)[98]
            for name, found in trips.items()
        }
        title = f"Round trip, 50 kB there, 2 kB back, {repeats} x {count}, ms"
        wanted = "p50 <= 1.0 ms and at least 4 times as fast as the fastest other"
        table(f"{title}: p50", p50, lambda ours, ratio: ours <= 1.0 and ratio >= 4, wanted)
        table(f"{title}: p99", p99)

    def rate(self, count: int, repeats: int) -> None:
        runs = self._in_turn(lambda contender: self._bench.rate(contender, count), repeats)
        rates = {name: median(found) for name, found in runs.items()}
        wanted = ">= 3,000/s and at least 3 times the fastest other"
        table(
            f"{repeats} x {count:,} no-op jobs with results, one process of two threads, jobs/s",
            rates,
            lambda ours, ratio: ours >= 3000 and ratio >= 3,
            wanted,
            more_is_better=True,
        )

    def memory(self, count: int) -> None:
        more = self._of_each(lambda contender: self._bench.memory(contender, count))
        print(f"\nRedis used_memory after {count:,} jobs with results, MB more than before")
        lines({name: f"{found:.2f}" for name, found in more.items()})
        if _OURS in more:
            print(f"  wanted: ours within 1 MB; {verdict(abs(more[_OURS]) <= 1)}")

    def recovery(self) -> None:
        took = self._of_each(self._bench.recovery)
        print("\nkill -9 of the only worker, two 5 s jobs in hand, four waiting; a new worker at")
        print("once; s from the kill until all six are done")
        late = f"not within {GIVE_UP_S:.0f}"
        lines({name: late if s is None else f"{s:.1f}" for name, s in took.items()})
        print(f"  ideal: {_IDEAL_S:.0f} s, what a healthy worker of two threads needs for six such")
        print("  jobs (our lease of 5 s runs out while the four are done)")
        if _OURS in took:
            ours = took[_OURS]
            good = ours is not None and ours <= _IDEAL_S + _GRACE_S
            print(f"  wanted: ours <= {_IDEAL_S:.0f} + {_GRACE_S:.0f} s; {verdict(good)}")

    def _in_turn(self, measure: Callable[[Contender], T], repeats: int) -> dict[str, list[T]]:
        """A measure of each contender several times, in turn, so that all have the same noise."""
        found: dict[str, list[T]] = {}
        for _ in range(repeats):
            for name, figure in self._of_each(measure).items():
                found.setdefault(name, []).append(figure)
        return found

    def _of_each(self, measure: Callable[[Contender], T]) -> dict[str, T]:
        """A measure of each contender; one that fails is named and left out."""
        found = {}
        for contender in self._contenders:
            began_at = self._log.seek(0, 2)
            try:
                found[contender.name] = measure(contender)
            except Exception as error:  # one contender's failure is not to cost the others' figures
                self._log.seek(began_at)
                said = self._log.read().decode("utf-8", "replace")[-2000:]
                print(f"\n{contender.name} failed: {error}\n{said}", file=sys.stderr)
        return found


def table(
    title: str,
    figures: Mapping[str, float],
    good: Callable[[float, float], bool] | None = None,
    wanted: str = "",
    *,
    more_is_better: bool = False,
) -> None:
    """Print a measure with our ratio to the best of the others."""
    print(f"\n{title}")
    lines({name: f"{figure:,.2f}" for name, figure in figures.items()})
    others = {name: figure for name, figure in figures.items() if name != _OURS}
    if _OURS not in figures or not others:
        return
    ours = figures[_OURS]
    best = (max if more_is_better else min)(others, key=others.__getitem__)
    ratio = ours / others[best] if more_is_better else others[best] / ours
    print(f"  ours against {best}, the best other: {ratio:.2f} times as good")
    if good is not None:
        print(f"  wanted: {wanted}; {verdict(good(ours, ratio))}")


def lines(cells: Mapping[str, str]) -> None:
    """Print one line for each contender."""
    for name, cell in cells.items():
        print(f"  {name:10} {cell:>14}", flush=True)


def verdict(good: bool) -> str:
    """In a word."""
    return "met" if good else "MISSED"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT unwind the stack once, so that what was started is stopped."""
    numbers = (signal.SIGTERM, signal.SIGINT)

    def unwind(*_: object) -> None:
        # A second one is not to interrupt the clearing up.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        sys.exit("terminated")

    for number in numbers:
        signal.signal(number, unwind)
    yield


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="round trips, each time")
    parser.add_argument("--jobs", type=int, default=10_000, help="no-op jobs, each time")
    parser.add_argument("--repeats", type=int, default=3, help="times, in turn; medians count")
    parser.add_argument("--safe", action="store_true", help="the others' jobs survive a kill")
    parser.add_argument("--only", action="append", choices=_MEASURES, help="repeatable")
    parser.add_argument("--skip-recovery", action="store_true")
    parser.add_argument("--peers", default=",".join(_PEERS), help="which others; '' for none")
    default = Path(tempfile.gettempdir()) / "futu-benchmark-peers"
    parser.add_argument("--peers-env", type=Path, default=default, help="their environment")
    found = parser.parse_args()
    found.peers = [name for name in found.peers.split(",") if name]
    if unknown := set(found.peers) - set(_PEERS):
        parser.error(f"--peers: {', '.join(sorted(unknown))}: not one of {', '.join(_PEERS)}")
    return found


def compare(chosen: argparse.Namespace) -> None:
    """Do the measures chosen."""
    measures = set(chosen.only or _MEASURES) - ({"recovery"} if chosen.skip_recovery else set())
    python = peers_python(chosen.peers_env) if chosen.peers else ""
    contenders = [Contender(_OURS, sys.executable)]
    contenders += [Contender(name, python) for name in chosen.peers]
    with tempfile.TemporaryFile() as log, valkey() as url:
        bench = Bench(url, log, safe=chosen.safe)
        ours, others = versions()
        print(
            f"Python {platform.python_version()}, {bench.server()}, load {os.getloadavg()[0]:.1f}"
        )
        print(f"ours: {ours}\npeers: {others}", flush=True)
        comparison = Comparison(bench, contenders, log)
        if "round-trip" in measures:
            comparison.round_trip(chosen.rounds, chosen.repeats)
        if "rate" in measures:
            comparison.rate(chosen.jobs, chosen.repeats)
        if "memory" in measures:
            comparison.memory(chosen.jobs)
        if "recovery" in measures:
            comparison.recovery()
        print(f"\nload afterwards {os.getloadavg()[0]:.1f}")
        bench.close()


def main() -> None:
    with ended_by_signals():
        compare(options())


if __name__ == "__main__":
    main()
