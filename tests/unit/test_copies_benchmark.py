"""The copy benchmark: its measures against the definition, and its edits."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from benchmarks.copies.edits import EDITS, Edit, edited
from benchmarks.copies.measures import PRECISION, Ranking, Similarities
from PIL import Image

Indices = npt.NDArray[np.intp]

TRUTH = np.array([0, 1, 2, 0])


def by_definition(
    similarities: Similarities, truth: Indices, same: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Average precision and recall at PRECISION, by walking down the list of all pairs."""
    pairs = [
        (-float(similarities[query, picture]), picture == original)
        for query, original in enumerate(truth)
        for picture in range(similarities.shape[1])
        if not same[original, picture]
    ]
    pairs.sort()  # the most similar first; among equals False, the wrong ones, first
    found, precisions, recall = 0, [], 0.0
    for rank, (_, right) in enumerate(pairs, 1):
        if right:
            found += 1
            precisions.append(found / rank)
            if found / rank >= PRECISION:
                recall = found / len(truth)
    return sum(precisions) / len(truth), recall


@pytest.mark.parametrize("number", range(20))
def test_measures_are_those_of_the_definition_with_ties_and_same_pictures(number: int) -> None:
    random = np.random.default_rng(number)
    similarities = (random.integers(0, 12, (4, 5)) / 12).astype(np.float32)
    similarities[np.arange(4), TRUTH] += 0.5
    same = np.zeros((5, 5), bool)
    same[0, 4] = same[4, 0] = True
    scores = Ranking(similarities, TRUTH, same).scores()
    wanted, recall = by_definition(similarities, TRUTH, same)
    assert scores.average_precision == pytest.approx(wanted)
    assert scores.recall == pytest.approx(recall)


def test_a_tie_with_a_wrong_picture_is_no_hit() -> None:
    similarities = np.array([[0.9, 0.9], [0.1, 0.2]], np.float32)
    assert Ranking(similarities, np.array([0, 1])).scores().recall_at_1 == 0.5


def test_pooled_queries_are_ranked_together() -> None:
    sure = Ranking(np.array([[0.9, 0.8]], np.float32), np.array([0]))
    unsure = Ranking(np.array([[0.5, 0.4]], np.float32), np.array([0]))
    pooled = Ranking.pooled([sure, unsure]).scores()
    assert (sure.scores().average_precision, unsure.scores().average_precision) == (1, 1)
    assert pooled.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert pooled.recall == 0.5
    assert pooled.threshold == pytest.approx(0.9)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_gives_the_same_picture_for_the_same_seed_and_not_the_original(edit: Edit) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((120, 160), Image.Resampling.BICUBIC)
    host = Image.new("RGB", (200, 150), "olive")
    first = edited(edit, picture, host, "1")
    assert first == edited(edit, picture, host, "1")
    with Image.open(io.BytesIO(first)) as result:
        assert result.mode == "RGB"
        if result.size == picture.size:
            assert not np.array_equal(np.asarray(result), np.asarray(picture))
