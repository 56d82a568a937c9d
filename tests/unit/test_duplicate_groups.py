"""From pairs to groups, and what people decided about them; without a catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from futu.catalogue.duplicate_records import FoundMember, VerdictRecord
from futu.catalogue.duplicate_schema import DISMISSED, OPEN, RESOLVED
from futu.controller.duplicates.decided import Decided
from futu.controller.duplicates.groups import Pairs, components, shown, stars
from futu.controller.duplicates.presets import rule_of
from futu.errors import InvalidRequestError

numbers = st.integers(1, 30)


def pairs(found: Sequence[tuple[int, int]]) -> Pairs:
    table = np.array(found, np.int64).reshape(-1, 2)
    return Pairs(table[:, 0], table[:, 1], np.linspace(0.5, 1, len(found), dtype=np.float32))


@given(st.lists(st.tuples(numbers, numbers), max_size=40))
def test_components_are_what_pairs_connect(found: list[tuple[int, int]]) -> None:
    parts = {n: {n} for pair in found for n in pair}
    for one, other in found:
        union = parts[one] | parts[other]
        parts.update((n, union) for n in union)
    wanted = sorted({tuple(sorted(part)) for part in parts.values()})
    assert sorted(tuple(part.tolist()) for part in components(pairs(found))) == wanted


def test_long_chain_is_one_component() -> None:
    order = np.random.default_rng(1).permutation(5001)
    chain = Pairs(order[:-1], order[1:], np.ones(5000, np.float32))
    assert [len(part) for part in components(chain)] == [5001]


@given(st.lists(st.tuples(numbers, numbers), max_size=40))
def test_joined_pairs_are_each_there_once(found: list[tuple[int, int]]) -> None:
    one = pairs(found)
    joined = Pairs.join([one, Pairs(one.right, one.left, one.cosines - 0.1)])
    best: dict[tuple[int, int], float] = {}
    for left, right, cosine in zip(one.left.tolist(), one.right.tolist(), one.cosines.tolist()):
        key = (min(left, right), max(left, right))
        if left != right:
            best[key] = max(best.get(key, 0), cosine)
    there = zip(joined.left.tolist(), joined.right.tolist())
    assert dict(zip(there, joined.cosines.tolist())) == best


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=25), st.sampled_from((0.05, 0.2, 0.5, 2.0)))
def test_every_member_is_near_its_keeper_and_nothing_is_lost(
    places: list[float], reach: float
) -> None:
    spots = np.array(places)

    def near(one: int, others: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        away = np.abs(spots[list(others)] - spots[one])
        return 1 - away, away <= reach

    groups = list(stars(range(len(places)), near))
    members = [n for group in groups for n, _ in group]
    assert sorted(members) == list(range(len(places)))
    for group in groups:
        keeper = group[0][0]
        assert all(abs(spots[n] - spots[keeper]) <= reach for n, _ in group)
        # A keeper comes before its members in the order, so that rules choose it.
        assert [n for n, _ in group] == sorted(n for n, _ in group)


def test_chain_is_split_where_its_ends_are_too_far_from_the_keeper() -> None:
    def near(one: int, others: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        away = np.abs(np.array(others) - one)
        return 1 - away / 10, away <= 1

    groups = [[n for n, _ in group] for group in stars([0, 1, 2, 3, 4], near)]
    assert groups == [[0, 1], [2, 3], [4]]


def test_no_two_that_are_shown_were_decided_about() -> None:
    decisions = {1: {10}, 2: {10}, 3: {11}, 4: {11}, 5: set[int]()}
    assert shown([1, 2, 3, 4, 5], decisions.__getitem__) == [True, False, True, False, True]


def member(image_id: int, content: bytes | None = None) -> FoundMember:
    digest = content or bytes([image_id]) * 32
    return FoundMember(image_id, digest, 100, "near", 0.9, 90.0)


def verdict(state: str, *members: FoundMember, there: bool = True, key: int = 1) -> VerdictRecord:
    return VerdictRecord(key, state, tuple((m.image_id, m.content_hash, there) for m in members))


def hidden(decided: Decided, *members: FoundMember) -> tuple[str, list[bool]]:
    group = decided.apply(members)
    assert [m.image_id for m in group.members] == [m.image_id for m in members]
    return group.state, [m.hidden for m in group.members]


def test_dismissed_group_stays_dismissed() -> None:
    decided = Decided([verdict(DISMISSED, member(1), member(2))])
    assert hidden(decided, member(1), member(2)) == (DISMISSED, [False, False])
    assert hidden(decided, member(2), member(1)) == (DISMISSED, [False, False])


def test_only_the_new_member_of_a_dismissed_group_is_shown_beside_the_keeper() -> None:
    decided = Decided([verdict(DISMISSED, member(1), member(2))])
    assert hidden(decided, member(1), member(2), member(3)) == (OPEN, [False, True, False])
    assert hidden(decided, member(3), member(1), member(2)) == (OPEN, [False, False, True])


def test_two_dismissed_groups_that_meet_are_open() -> None:
    decided = Decided(
        [
            verdict(DISMISSED, member(1), member(2), key=1),
            verdict(DISMISSED, member(3), member(4), key=2),
        ]
    )
    found = hidden(decided, member(1), member(2), member(3), member(4))
    assert found == (OPEN, [False, True, False, True])


def test_changed_file_is_a_new_member() -> None:
    decided = Decided([verdict(DISMISSED, member(1), member(2))])
    changed = member(2, b"new".ljust(32))
    assert hidden(decided, member(1), changed) == (OPEN, [False, False])


def test_renamed_file_is_known_by_its_content() -> None:
    gone = verdict(DISMISSED, member(2), there=False)
    both = VerdictRecord(1, DISMISSED, ((1, member(1).content_hash, True), *gone.members))
    renamed = member(7, member(2).content_hash)
    assert hidden(Decided([both]), member(1), renamed) == (DISMISSED, [False, False])
    third = member(8, member(2).content_hash)
    assert hidden(Decided([both]), member(1), renamed, third) == (OPEN, [False, True, False])


def test_further_copy_of_a_dismissed_content_is_new() -> None:
    one, two, three = (member(n, b"same".ljust(32)) for n in (1, 2, 3))
    decided = Decided([verdict(DISMISSED, one, two)])
    assert hidden(decided, one, two, three) == (OPEN, [False, True, False])


def test_resolved_group_is_so_until_a_member_joins() -> None:
    decided = Decided([verdict(RESOLVED, member(1), member(2))])
    assert hidden(decided, member(1), member(2)) == (RESOLVED, [False, False])
    assert hidden(decided, member(1), member(2), member(3)) == (OPEN, [False, False, False])


def test_threshold_is_the_cosine_that_a_copy_has() -> None:
    rule = rule_of("normal", 90)
    assert (rule.sure, rule.floor) == (0.9, 0.9)


@pytest.mark.parametrize(
    ("preset", "threshold", "said"),
    [
        ("normal", 49.9, "from 50 to 100"),
        ("normal", 100.1, "from 50 to 100"),
        ("mild", None, "stri"),
    ],
)
def test_unknown_rule_is_refused(preset: str, threshold: float | None, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        rule_of(preset, threshold)
