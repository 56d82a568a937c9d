"""What cosines are shown as, and thresholds that are measured."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.pictures import picture
from tests.unit.test_model_sidecar import write

from futu.errors import ModelError
from futu.images.edits import COMMON, Edit, edited
from futu.images.likeness import plainly_same, shrunk
from futu.models import registry
from futu.models.calibration import Curve
from futu.models.similarity import MEANING, PRESETS, Scale

SCALES = [registry.spec(name).scale for name in registry.names()]


@given(st.sampled_from(SCALES), st.floats(0, 1), st.floats(0, 1))
def test_higher_cosine_is_never_shown_as_less(scale: Scale, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= scale.similarity(low) <= scale.similarity(high) <= 100


@given(st.sampled_from(SCALES), st.floats(0, 100))
def test_cosine_of_a_similarity_is_shown_as_it(scale: Scale, similarity: float) -> None:
    assert scale.similarity(scale.cosine(similarity)) == pytest.approx(similarity, abs=0.006)


@pytest.mark.parametrize("scale", SCALES)
def test_ends_are_kept_and_beyond_them_nothing_is_extrapolated(scale: Scale) -> None:
    assert [scale.similarity(c) for c in (-1, 0, 1, 1.0001)] == [0, 0, 100, 100]
    assert {shown for _, shown in scale.points} >= set(MEANING) >= set(PRESETS.values())


def test_scale_is_no_part_of_what_decides_vectors() -> None:
    spec = registry.spec("sscd-distilled")
    assert replace(spec, similarity=Scale.points).model_id == spec.model_id
    assert replace(spec, input_size=224).model_id != spec.model_id
    # Vectors that were stored before there were scales stay what they are.
    assert spec.model_id == "sscd-distilled-2a008338"


def test_description_of_a_model_may_have_a_scale(tmp_path: Path) -> None:
    write(tmp_path)
    assert registry.spec("mine", tmp_path).scale.similarity(0.5) == 50
    write(tmp_path, similarity=[[0, 0], [0.5, 95], [1, 100]])
    assert registry.spec("mine", tmp_path).scale.similarity(0.5) == 95


@pytest.mark.parametrize(
    "points", [[[0, 0]], [[0, 0], [0.5, 95], [0.4, 96], [1, 100]], [[0, 0], [1, 99]], [[0, 5]] * 2]
)
def test_scale_that_does_not_rise_to_the_end_is_refused(
    tmp_path: Path, points: list[list[float]]
) -> None:
    write(tmp_path, similarity=points)
    with pytest.raises(ModelError, match=r"mine\.json: similarity must"):
        registry.spec("mine", tmp_path)


def test_threshold_finds_most_at_a_precision() -> None:
    curve = Curve([0.9] * 60 + [0.8] * 30 + [0.6] * 10, [0.7] * 5 + [0.3])
    strict = curve.threshold(0.98)
    assert strict is not None
    assert (strict.cosine, strict.recall, strict.precision, strict.wrong) == (0.8, 0.9, 1.0, 0)
    loose = curve.threshold(0.94)
    assert loose is not None
    assert (loose.cosine, loose.recall, loose.wrong) == (0.6, 1.0, 5)
    assert loose.precision == pytest.approx(100 / 105)


def test_sample_too_small_for_a_precision_has_no_threshold_for_it() -> None:
    assert Curve([0.9] * 998, []).threshold(0.999) is None
    assert Curve([0.9] * 999, []).threshold(0.999) is not None
    assert Curve([], []).threshold(0.5) is None
    chosen, unknown = Curve([0.9] * 200, []).presets(
        {"strict": 0.85, "normal": 0.75, "loose": 0.65}, 0.5
    )
    # Looser ones are never above stricter ones.
    assert chosen == {"strict": 0.85, "normal": 0.85, "loose": 0.85}
    assert unknown == ["strict"]


def test_copy_whose_original_was_not_found_counts_as_missed_at_any_threshold() -> None:
    curve = Curve([0.9] * 30 + [-1.0] * 10, [])
    found = curve.threshold(0.9)
    assert found is not None
    assert (found.cosine, found.recall) == (0.9, 0.75)


def test_threshold_is_not_below_the_least_allowed() -> None:
    chosen, _ = Curve([0.2] * 2000, []).presets({}, 0.4)
    assert set(chosen.values()) == {0.4}


def test_copies_are_plainly_the_same_and_other_pictures_are_not() -> None:
    original = picture(1)
    mine = shrunk(np.asarray(original))
    by_name = {edit.name: edit for edit in COMMON}
    for name in ("mirrored", "upside down", "rotated by 90", "JPEG of quality 30", "grey"):
        copy = Image.open(io.BytesIO(edited(by_name[name], original, original, "1")))
        assert plainly_same(mine, shrunk(np.asarray(copy))), name
    for seed in range(2, 30):
        assert not plainly_same(mine, shrunk(np.asarray(picture(seed))))
    blank = shrunk(np.zeros((40, 40, 3), np.uint8))
    assert not plainly_same(blank, mine)


@pytest.mark.parametrize("edit", COMMON, ids=lambda edit: edit.name)
def test_edit_changes_the_picture_and_is_the_same_for_the_same_seed(edit: Edit) -> None:
    original = picture(3)
    first = edited(edit, original, original, "1")
    assert first == edited(edit, original, original, "1")
    with Image.open(io.BytesIO(first)) as image:
        assert image.size != original.size or image.convert("RGB").tobytes() != original.tobytes()
