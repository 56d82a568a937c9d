"""Images that go to the trash and come home, in either database."""

from __future__ import annotations

from tests.catalogues import MODEL, digest, outcome, scanned

from futu.catalogue.duplicate_records import FoundGroup, FoundMember
from futu.catalogue.store import Catalogue


def test_image_in_the_trash_leaves_results_and_comes_back_as_what_it_was(
    database_url: str,
) -> None:
    catalogue = Catalogue(database_url)
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, scanned(range(4)))
    catalogue.record([outcome(n) for n in range(3)], MODEL)
    places = {(dataset.id, f"a/{n}.jpg") for n in range(5)}
    found = catalogue.images_at(list(places))
    ids = [found[dataset.id, f"a/{n}.jpg"] for n in range(4)]
    assert len(found) == 4
    before = catalogue.changes
    catalogue.mark_trashed(ids, "op")
    assert catalogue.changes > before
    assert len(catalogue.searchable_vector_ids(MODEL)) == 0
    failures = catalogue.failures(dataset.id, states=("missing",))
    assert {(f.code, "futu trash undo op" in f.error) for f in failures} == {("trashed", True)}
    # One was seen since with another content, one has no vector.
    catalogue.write_files(dataset.id, scanned(range(9, 10)))
    contents = {ids[0]: digest(0), ids[1]: digest(77), ids[3]: digest(3), 999: digest(0)}
    assert catalogue.bring_back(contents, MODEL) == [dataset.id]
    images = catalogue.images_by_id([*ids, 999])
    assert [images[i].state for i in ids] == ["ready", "missing", "missing", "pending"]
    assert catalogue.bring_back(contents, MODEL) == [dataset.id]
    assert catalogue.image_counts() == {dataset.id: 1}
    catalogue.close()


def test_groups_are_resolved_and_open_again_and_dismissed_ones_stay(database_url: str) -> None:
    catalogue = Catalogue(database_url)
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, scanned(range(6)))
    run = catalogue.start_duplicates([dataset.id], "normal", 90.0, "")
    ids = sorted(i.id for i in catalogue.all_images(dataset.id))
    groups = [
        FoundGroup(
            tuple(FoundMember(i, digest(i), 1, "exact", 1.0, 100.0) for i in ids[n : n + 2]), state
        )
        for n, state in ((0, "open"), (2, "dismissed"), (4, "open"))
    ]
    catalogue.write_groups(run.id, 1, groups)
    numbers = [(run.id, 1), (run.id, 2), (run.id + 1, 1)]
    assert catalogue.members_of(numbers) == {
        (run.id, 1): {i: digest(i) for i in ids[:2]},
        (run.id, 2): {i: digest(i) for i in ids[2:4]},
    }

    def states() -> list[str]:
        return [catalogue.group(run.id, number).state for number in (1, 2, 3)]

    catalogue.settle_groups(numbers, resolved=True)
    assert states() == ["resolved", "dismissed", "open"]
    catalogue.settle_groups(numbers, resolved=False)
    assert states() == ["open", "dismissed", "open"]
    catalogue.close()
