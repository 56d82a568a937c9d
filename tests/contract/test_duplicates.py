"""Runs, groups and decisions in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.catalogues import MODEL, outcome

from futu.catalogue.duplicate_records import DuplicateRunRecord, FoundGroup, FoundMember
from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.schema import CANCELLED, DONE, ERROR, PENDING
from futu.catalogue.store import Catalogue
from futu.errors import NotFoundError


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    yield made
    made.close()


def content(number: int) -> bytes:
    return outcome(number).content_hash


def filled(catalogue: Catalogue, contents: list[int]) -> list[int]:
    """A dataset with a file of each of these contents; ids of the images."""
    dataset = catalogue.add_dataset("one", "/one")
    names = [f"{place}.jpg" for place in range(len(contents))]
    catalogue.write_files(
        dataset.id,
        [
            ScannedFile(name, 10 * (place + 1), 1, content(number), PENDING)
            for place, (name, number) in enumerate(zip(names, contents))
        ],
    )
    catalogue.record([outcome(number) for number in sorted(set(contents))], MODEL)
    known = catalogue.known_files(dataset.id, MODEL)
    return [known[name].id for name in names]


def member(image_id: int, number: int, tier: str = "near", similarity: float = 90.0) -> FoundMember:
    size = 10 * image_id
    return FoundMember(image_id, content(number), size, tier, similarity / 100, similarity)


def group(*members: FoundMember, state: str = "open") -> FoundGroup:
    return FoundGroup(members, state)


def run(catalogue: Catalogue, *groups: FoundGroup, datasets: tuple[int, ...] = (1,)) -> int:
    record = catalogue.start_duplicates(datasets, "normal", 75.0, MODEL)
    catalogue.write_groups(record.id, 1, groups)
    record.state, record.groups = DONE, len(groups)
    catalogue.save_duplicates(record)
    return record.id


def state(catalogue: Catalogue, run_id: int, number: int = 1) -> str:
    return catalogue.group(run_id, number).state


def test_groups_come_back_as_they_were_found(catalogue: Catalogue) -> None:
    one, two, three = filled(catalogue, [1, 1, 2])
    keeper, copy = member(one, 1, "exact", 100.0), member(two, 1, "exact", 100.0)
    run_id = run(catalogue, group(keeper, copy, member(three, 2)))
    (found,) = catalogue.groups(run_id)
    assert (found.tier, found.similarity, found.keeper_id) == ("near", 90.0, one)
    assert (found.images, found.hidden, found.freed_bytes) == (3, 0, 10 * (two + three))
    assert [m.image_id for m in found.members] == [one, two, three]
    assert [m.tier for m in found.members] == ["exact", "exact", "near"]
    assert all(m.unchanged for m in found.members)
    assert catalogue.group(run_id, 1) == found
    assert catalogue.count_groups(run_id) == {("open", "near"): (1, 2, 10 * (two + three))}


def test_groups_are_listed_in_pages_by_state_and_tier(catalogue: Catalogue) -> None:
    ids = filled(catalogue, list(range(40)))
    groups = [
        group(
            member(ids[2 * n], 2 * n),
            member(ids[2 * n + 1], 2 * n + 1, "exact" if n % 2 else "pixels"),
            state="dismissed" if n % 5 == 0 else "open",
        )
        for n in range(20)
    ]
    run_id = run(catalogue, *groups)
    pages: list[int] = []
    while page := catalogue.groups(run_id, limit=3, after=pages[-1] if pages else 0):
        pages += [found.number for found in page]
    assert pages == [n + 1 for n in range(20) if n % 5]
    offset = [found.number for found in catalogue.groups(run_id, offset=3, limit=4)]
    assert offset == pages[3:7]
    exact = catalogue.groups(run_id, states=("open", "dismissed"), tiers=("exact",), limit=100)
    assert [found.number for found in exact] == [n + 1 for n in range(20) if n % 2]
    assert not catalogue.groups(run_id, states=("resolved",))


def test_member_that_is_gone_or_changed_is_told(catalogue: Catalogue) -> None:
    one, two, three = filled(catalogue, [1, 2, 3])
    run_id = run(catalogue, group(member(one, 1), member(two, 2), member(three, 3), member(99, 4)))
    catalogue.mark_missing([two])
    dataset = catalogue.dataset("one")
    catalogue.write_files(dataset.id, [ScannedFile("2.jpg", 5, 5, content(7), PENDING)])
    catalogue.record([outcome(7)], MODEL)
    found = catalogue.group(run_id, 1)
    assert [m.unchanged for m in found.members] == [True, False, False, False]
    assert [m.image is None for m in found.members] == [False, False, False, True]


def test_member_of_a_reference_dataset_is_told(catalogue: Catalogue) -> None:
    one, two = filled(catalogue, [1, 2])
    dataset = catalogue.dataset("one")
    assert not dataset.reference
    catalogue.set_reference(dataset.id, reference=True)
    assert catalogue.dataset("one").reference
    assert catalogue.datasets()[0].reference
    run_id = run(catalogue, group(member(one, 1), member(two, 2)))
    assert all(m.reference for m in catalogue.group(run_id, 1).members)


def test_decision_is_kept_and_other_runs_follow_it(catalogue: Catalogue) -> None:
    one, two, three = filled(catalogue, [1, 2, 3])
    pair = group(member(one, 1), member(two, 2))
    first = run(catalogue, pair)
    second = run(catalogue, pair, group(member(one, 1), member(two, 2), member(three, 3)))
    catalogue.decide(first, 1, "dismissed")
    assert (state(catalogue, first), state(catalogue, second)) == ("dismissed", "dismissed")
    assert state(catalogue, second, 2) == "open"
    (verdict,) = catalogue.verdicts()
    assert verdict.state == "dismissed"
    assert verdict.members == ((one, content(1), True), (two, content(2), True))
    catalogue.decide(second, 1, "open")
    assert (state(catalogue, first), state(catalogue, second)) == ("open", "open")
    assert catalogue.verdicts() == []


def test_new_decision_takes_the_place_of_the_former(catalogue: Catalogue) -> None:
    one, two = filled(catalogue, [1, 2])
    run_id = run(catalogue, group(member(one, 1), member(two, 2)))
    catalogue.decide(run_id, 1, "dismissed")
    catalogue.decide(run_id, 1, "resolved")
    assert [verdict.state for verdict in catalogue.verdicts()] == ["resolved"]
    assert state(catalogue, run_id) == "resolved"


def test_dismissed_group_hides_nothing(catalogue: Catalogue) -> None:
    one, two, three = filled(catalogue, [1, 2, 3])
    hidden = FoundMember(two, content(2), 20, "near", 0.9, 90.0, hidden=True)
    run_id = run(catalogue, group(member(one, 1), hidden, member(three, 3)))
    found = catalogue.group(run_id, 1)
    assert (found.images, found.hidden) == (2, 1)
    catalogue.decide(run_id, 1, "dismissed")
    found = catalogue.group(run_id, 1)
    assert (found.images, found.hidden, found.freed_bytes) == (3, 0, 20 + 30)
    assert not any(m.hidden for m in found.members)


def test_decision_knows_which_images_are_gone(catalogue: Catalogue) -> None:
    one, two = filled(catalogue, [1, 2])
    run_id = run(catalogue, group(member(one, 1), member(two, 2)))
    catalogue.decide(run_id, 1, "dismissed")
    catalogue.mark_missing([two])
    (verdict,) = catalogue.verdicts()
    assert verdict.members == ((one, content(1), True), (two, content(2), False))


def test_run_follows_decisions_taken_while_it_went_on(catalogue: Catalogue) -> None:
    one, two = filled(catalogue, [1, 2])
    pair = group(member(one, 1), member(two, 2))
    first = run(catalogue, pair)
    before = catalogue.last_verdict()
    catalogue.decide(first, 1, "dismissed")
    record = catalogue.start_duplicates((1,), "normal", 75.0, MODEL)
    catalogue.write_groups(record.id, 1, [pair])
    assert state(catalogue, record.id) == "open"
    catalogue.follow_verdicts(before)
    assert state(catalogue, record.id) == "dismissed"


def test_interrupted_run_ends_when_another_begins(catalogue: Catalogue) -> None:
    left = catalogue.start_duplicates((2, 1), "", 90.0, MODEL)
    assert catalogue.interrupted_duplicates() == [left]
    other = catalogue.start_duplicates((3,), "strict", 85.0, MODEL)
    after = catalogue.start_duplicates((1, 2), "", 90.0, MODEL)
    assert [r.id for r in catalogue.interrupted_duplicates()] == [other.id, after.id]
    assert catalogue.duplicate_run(left.id).state == ERROR


def test_ended_run_stays_as_it_is(catalogue: Catalogue) -> None:
    record = catalogue.start_duplicates((1,), "normal", 75.0, MODEL)
    record.state, record.message = CANCELLED, "Enough."
    catalogue.save_duplicates(record)
    record.state, record.message = DONE, "Late."
    catalogue.save_duplicates(record)
    ended = catalogue.duplicate_run(record.id)
    assert (ended.state, ended.message) == (CANCELLED, "Enough.")


def test_two_last_runs_of_the_same_datasets_are_kept(catalogue: Catalogue) -> None:
    one, two = filled(catalogue, [1, 2])
    pair = group(member(one, 1), member(two, 2))
    other = run(catalogue, pair, datasets=(2,))
    runs = [run(catalogue, pair) for _ in range(4)]
    catalogue.forget_duplicates((1,))
    assert [r.id for r in catalogue.duplicate_runs()] == [runs[3], runs[2], other]
    last = catalogue.last_duplicates((1,))
    assert isinstance(last, DuplicateRunRecord)
    assert last.id == runs[3]
    for gone in runs[:2]:
        with pytest.raises(NotFoundError, match="the last two are kept"):
            catalogue.group(gone, 1)
    assert state(catalogue, runs[2]) == state(catalogue, other) == "open"


def test_contents_of_several_files_are_found_in_the_scope(catalogue: Catalogue) -> None:
    filled(catalogue, [1, 1, 2, 3, 3])
    other = catalogue.add_dataset("other", "/other")
    files = [ScannedFile(f"{n}.jpg", 1, 1, content(n), PENDING) for n in (2, 4)]
    catalogue.write_files(other.id, files)
    catalogue.record([outcome(2), outcome(4)], MODEL)
    one = catalogue.dataset("one").id
    assert sorted(catalogue.repeated_contents([one])) == sorted([content(1), content(3)])
    assert len(catalogue.repeated_contents([one, other.id])) == 3
    found = catalogue.ready_images([content(1), content(2), content(9)], [one])
    assert {digest: len(images) for digest, images in found.items()} == {
        content(1): 2,
        content(2): 1,
    }
    image = found[content(2)][0]
    assert (image.path, image.size, image.width, image.height) == ("2.jpg", 30, 3, 2)


def test_hashes_of_pixels_are_kept(catalogue: Catalogue) -> None:
    catalogue.keep_pixel_hashes({content(1): b"p" * 32, content(2): None})
    catalogue.keep_pixel_hashes({content(1): b"q" * 32})
    known = catalogue.pixel_hashes([content(1), content(2), content(3)])
    assert known == {content(1): b"p" * 32, content(2): None}


def test_what_is_found_is_no_change_of_what_can_be_searched(catalogue: Catalogue) -> None:
    one, two = filled(catalogue, [1, 2])
    before = catalogue.version()
    run_id = run(catalogue, group(member(one, 1), member(two, 2)))
    catalogue.decide(run_id, 1, "dismissed")
    catalogue.save_edits(run_id, 1, {1: "{}"})
    assert catalogue.group(run_id, 1).members[1].edit == "{}"
    assert catalogue.version() == before
    catalogue.record([Outcome(content(9), outcome(9).vectors, 3, 2)], MODEL)
    assert catalogue.version() > before
