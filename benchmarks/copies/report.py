"""What was found, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.copies.edits import LISTED, PICTURE_IN_PICTURE
from benchmarks.copies.measures import PRECISION, Ranking, Scores

from futu.models.similarity import MEANING, Scale

_JUDGED, _WANTED = "sscd-distilled", 0.97
_LISTED = [edit.name for edit in LISTED]
_ALL = "listed"
_POOLS = {
    "listed, without picture in picture": [n for n in _LISTED if n != PICTURE_IN_PICTURE],
    _ALL: _LISTED,
    "listed and further": None,
}

Rows = Mapping[str, Mapping[str, Ranking]]


def tables(found: Rows) -> None:
    """One table for each measure: edits and pools down, contenders across; then the verdict."""
    scores = {name: _scored(rankings) for name, rankings in found.items()}
    _table("recall@1", scores, lambda s: f"{s.recall_at_1:.3f}")
    _table("average precision (micro)", scores, lambda s: f"{s.average_precision:.3f}")
    _table(f"recall at precision {PRECISION}", scores, lambda s: f"{s.recall:.3f}")
    title = f"similarity at precision {PRECISION} (for hashes: share of equal bits x 2 - 1)"
    _table(title, scores, lambda s: "-" if s.threshold is None else f"{s.threshold:.3f}")
    print()
    for name in (name for name in scores if name.startswith(_JUDGED)):
        for pool in list(_POOLS)[:2]:
            reached = scores[name][pool].average_precision
            verdict = "met" if reached >= _WANTED else "MISSED"
            print(
                f"{name}, {pool}: average precision {reached:.3f}, wanted >= {_WANTED}: {verdict}"
            )


def meaning(name: str, rankings: Mapping[str, Ranking], scale: Scale) -> None:
    """What the similarities that people choose by bring, without picture in picture."""
    pool = Ranking.pooled([rankings[n] for n in _POOLS["listed, without picture in picture"] or ()])
    print(f"\n{name}: similarity, cosine / precision / recall / wrong in a million pairs")
    for similarity in MEANING:
        cosine = scale.cosine(similarity)
        found = int((pool.true >= cosine).sum())
        wrong = int((pool.others >= cosine).sum())
        print(
            f"  {similarity:g}  {cosine:.3f} / {found / max(1, found + wrong):.4f} / "
            f"{found / len(pool.true):.3f} / {1e6 * wrong / len(pool.others):.2f}"
        )


def ways(name: str, found: Rows) -> None:
    """What other ways to use the same vectors would bring."""
    print(f"\n{name}: average precision / recall at precision {PRECISION}")
    print(f"  {'':24}" + "".join(f"{pool:>36}" for pool in _POOLS))
    for way, rankings in found.items():
        scores = _scored(rankings)
        cells = (f"{scores[p].average_precision:.3f} / {scores[p].recall:.3f}" for p in _POOLS)
        print(f"  {way:24}" + "".join(f"{cell:>36}" for cell in cells))


def _scored(rankings: Mapping[str, Ranking]) -> dict[str, Scores]:
    scores = {edit: ranking.scores() for edit, ranking in rankings.items()}
    for pool, names in _POOLS.items():
        scores[pool] = Ranking.pooled([rankings[n] for n in names or rankings]).scores()
    return scores


def _table(
    title: str, scores: Mapping[str, Mapping[str, Scores]], cell: Callable[[Scores], str]
) -> None:
    print(f"\n{title}")
    print(f"  {'':36}" + "".join(f"{name:>20}" for name in scores))
    for row in next(iter(scores.values())):
        print(f"  {row:36}" + "".join(f"{cell(of[row]):>20}" for of in scores.values()))
