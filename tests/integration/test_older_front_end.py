"""Duplicates as the older front end asks for them. See ``finding``."""

from __future__ import annotations

from pathlib import Path

from tests.integration.finding import Desk


def test_older_front_end_gets_its_groups(desk: Desk) -> None:
    dataset = desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.9 x", "3.jpg": b"z 1"})
    asked = {"index_id": dataset.id, "threshold": 85, "deduplicate": False}
    found = desk.call("POST", "/api/repeated_search", asked)
    assert (found["total_groups"], found["total_duplicates"]) == (1, 1)
    (ids,) = found["groups"]
    runs = len(desk.call("GET", "/api/duplicates")["runs"])
    detailed = desk.call("POST", "/api/get_duplicate_groups_with_images", asked | {"index_id": "a"})
    # Nothing has changed, so nothing is looked for again.
    assert len(desk.call("GET", "/api/duplicates")["runs"]) == runs
    assert (detailed["total_groups"], detailed["total_duplicates"]) == (1, 1)
    (group,) = detailed["groups"]
    assert group["image_ids"] == ids
    assert group["images"][0] == {
        "id": ids[0],
        "filename": "1.jpg",
        "dataset_id": dataset.id,
        "dataset_name": "a",
        "image_path": f"{dataset.folder}/1.jpg",
        "image_url": group["images"][0]["image_url"],
    }
    one = desk.call("GET", f"/api/get_image_by_id/{ids[1]}")
    assert one == group["images"][1]
    both = desk.call("POST", "/api/get_images_by_ids", {"image_ids": [ids[1], 10**6, ids[0]]})
    assert both == {"images": [group["images"][1], group["images"][0]]}
    assert desk.call("POST", "/api/repeated_search", asked | {"threshold": 99.5})["groups"] == []
    desk.fill("a", {"4.jpg": b"boat 0.9 y"})
    assert len(desk.call("POST", "/api/repeated_search", asked)["groups"][0]) == 3


def test_deduplicate_moves_all_but_the_keepers_to_the_trash(desk: Desk) -> None:
    dataset = desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.9 x", "3.jpg": b"z 1"})
    asked = {"index_id": "a", "threshold": 85, "deduplicate": True}
    found = desk.call("POST", "/api/repeated_search", asked)
    assert found["operation"]["images"] == 1
    assert sorted(path.name for path in Path(dataset.folder).glob("*.jpg")) == ["1.jpg", "3.jpg"]
    again = desk.call("POST", "/api/repeated_search", asked)
    assert (again["groups"], again["operation"]) == ([], None)
    operation = found["operation"]["id"]
    desk.call("POST", f"/api/operations/{operation}/undo", {})
    assert (Path(dataset.folder) / "2.jpg").read_bytes() == b"boat 0.9 x"
