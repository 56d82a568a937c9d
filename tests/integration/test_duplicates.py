"""Searches for duplicates by a controller, over HTTP.

The compute server is played: a file that says ``boat 0.9 x`` has a vector for ``copy`` with the
cosine 0.9 to that of every ``boat 1``, and one that says ``boat = x`` the pixels of ``boat 1``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.integration.finding import BOTH, Desk
from tests.pictures import encoded, picture, png

from futu.controller.duplicates import finder
from futu.images.folder import hash_bytes
from futu.models.registry import spec

SCALE = spec("sscd-distilled").scale


def test_copies_of_all_tiers_are_found_across_datasets(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"car 1", "3.jpg": b"hat 1"})
    desk.fill(
        "b", {"1.jpg": b"boat 0.9 x", "2.jpg": b"car 1", "3.jpg": b"hat = y", "4.jpg": b"z 1"}
    )
    run = desk.find()
    assert (run["images"], run["groups"], run["duplicates"]) == (7, 3, 3)
    assert run["counts"]["open"] == {"near": 1, "exact": 1, "pixels": 1}
    assert run["message"] == ""
    assert desk.names(run) == [
        ["a/1.jpg", "b/1.jpg"],
        ["a/2.jpg", "b/2.jpg"],
        ["b/3.jpg", "a/3.jpg"],
    ]
    near, exact, pixels = desk.groups(run)
    assert [group["tier"] for group in (near, exact, pixels)] == ["near", "exact", "pixels"]
    keeper, copy = near["images"]
    assert (keeper["keeper"], keeper["similarity"]) == (True, 100)
    assert (copy["keeper"], copy["similarity"]) == (
        False,
        pytest.approx(SCALE.similarity(0.9), abs=0.1),
    )
    assert copy["cosine"] == pytest.approx(0.9, abs=0.002)
    assert near["freed_bytes"] == len(b"boat 0.9 x")
    assert exact["similarity"] == pixels["similarity"] == 100
    assert desk.names(run, "?tier=exact,pixels&offset=1") == desk.names(run)[2:]
    # Pixels are hashed once.
    hashed = len(desk.hashed)
    assert hashed > 0
    assert desk.names(desk.find()) == desk.names(run)
    assert len(desk.hashed) == hashed


def test_scope_and_threshold_are_kept_to(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.8 x"})
    desk.fill("b", {"1.jpg": b"boat 0.95 y"})
    assert desk.names(desk.find(dataset_names=["a"])) == [["a/1.jpg", "a/2.jpg"]]
    assert desk.find(dataset_names=["a"], preset="strict")["groups"] == 0
    assert desk.find(dataset_names=["a"], threshold=SCALE.similarity(0.81))["groups"] == 0
    assert desk.find(dataset_names=["a"], threshold=SCALE.similarity(0.79))["groups"] == 1
    assert desk.names(desk.find(preset="strict")) == [["a/1.jpg", "b/1.jpg"]]


def test_members_are_near_their_keeper_and_not_only_each_other(desk: Desk) -> None:
    # At 0.9 to the boat each, in other directions: 0.81 to each other.
    desk.fill(
        "a", {"0.jpg": b"boat 0.9 longest of all", "1.jpg": b"boat 1", "2.jpg": b"boat 0.9 x"}
    )
    (found,) = desk.names(desk.find(threshold=SCALE.similarity(0.85)))
    assert found == ["a/0.jpg", "a/1.jpg"]
    (found,) = desk.names(desk.find(threshold=SCALE.similarity(0.79)))
    assert sorted(found) == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]


def test_large_components_are_parted_by_what_the_index_found(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = {"0.jpg": b"boat 0.9 longest of all", "1.jpg": b"boat 1", "2.jpg": b"boat 0.9 x"}
    desk.fill("a", {**chain, "3.jpg": b"car 1", "4.jpg": b"car 0.9 x", "5.jpg": b"car 0.9 x"})
    wanted = desk.names(desk.find(threshold=SCALE.similarity(0.85)))
    assert [len(names) for names in wanted] == [2, 3]
    monkeypatch.setattr(finder, "LARGE", 1)
    assert desk.names(desk.find(threshold=SCALE.similarity(0.85))) == wanted


def test_without_copy_vectors_equal_files_and_pixels_are_found_and_the_remedy_said(
    desk: Desk,
) -> None:
    contents = {"1.jpg": b"boat 1", "2.jpg": b"boat 1", "3.jpg": b"car 1", "4.jpg": b"car = x"}
    desk.fill("a", {**contents, "5.jpg": b"car 0.99 y"}, ("similar",))
    run = desk.find()
    assert desk.names(run) == [["a/1.jpg", "a/2.jpg"], ["a/4.jpg", "a/3.jpg"]]
    assert "futu models pull sscd-distilled" in run["message"]


def test_images_without_copy_vectors_are_said(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat 0.9 x"})
    desk.fill("b", {"1.jpg": b"boat 0.9 y"}, ("similar",))
    run = desk.find()
    assert run["groups"] == 1
    assert "1 images have no copy vectors" in run["message"]


def test_images_of_another_copy_model_are_compared_by_their_bytes_and_that_is_said(
    desk: Desk,
) -> None:
    desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.9 x", "3.jpg": b"car 1"})
    other = spec("sscd")
    desk.rest()
    desk.dimensions[other.model_id] = other.dimension
    desk.work()
    dataset = desk.site.fill(
        "b", {"1.jpg": b"hat 1 longest", "2.jpg": b"hat 0.9 x", "3.jpg": b"car 1"}
    )
    desk.site.controller.catalogue.set_questions(dataset.id, BOTH)
    desk.call("POST", "/api/models/use", {"dataset_names": ["b"], "model": "sscd"})
    desk.fill("b", {})
    run = desk.find()
    assert desk.names(run) == [["a/1.jpg", "a/2.jpg"], ["a/3.jpg", "b/3.jpg"]]
    assert "2 images have no copy vectors" in run["message"]
    assert "futu models use NAME sscd-distilled" in run["message"]
    run = desk.find(dataset_names=["b"])
    assert run["model_id"] == other.model_id
    assert desk.names(run) == [["b/1.jpg", "b/2.jpg"]]


def test_without_compute_server_pixels_are_left_out_and_that_is_said(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat = x"})
    desk.rest()
    run = desk.find()
    assert [group["tier"] for group in desk.groups(run)] == ["near"]
    assert "Pixels were not compared: No compute server" in run["message"]


def test_dismissed_group_stays_so_and_only_a_new_member_is_shown(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.9 x"})
    (group,) = desk.groups(desk.find())
    assert desk.decide(group, "dismissed")["state"] == "dismissed"
    run = desk.find()
    assert (run["groups"], run["duplicates"]) == (1, 0)
    assert desk.groups(run) == []
    assert desk.names(run, "?state=dismissed") == [["a/1.jpg", "a/2.jpg"]]
    desk.fill("a", {"3.jpg": b"boat 0.9 y"})
    run = desk.find()
    assert desk.names(run) == [["a/1.jpg", "a/3.jpg"]]
    (group,) = desk.groups(run)
    assert (group["image_count"], group["hidden_count"]) == (2, 1)
    assert desk.decide(group, "open")["hidden_count"] == 0
    assert len(desk.names(desk.find())[0]) == 3


def test_renamed_file_of_a_dismissed_group_is_no_new_member(desk: Desk) -> None:
    dataset = desk.fill("a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.9 x"})
    (group,) = desk.groups(desk.find())
    desk.decide(group, "dismissed")
    folder = Path(dataset.folder)
    (folder / "2.jpg").rename(folder / "renamed.jpg")
    desk.fill("a", {})
    run = desk.find()
    assert desk.groups(run) == []
    assert desk.names(run, "?state=all") == [["a/1.jpg", "a/renamed.jpg"]]


def test_resolved_group_stays_so(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat 1"})
    (group,) = desk.groups(desk.find())
    desk.decide(group, "resolved")
    run = desk.find()
    assert run["counts"]["resolved"] == {"exact": 1}
    assert desk.groups(run) == []


def test_keeper_is_of_the_reference_dataset(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1 longest"})
    desk.fill("b", {"1.jpg": b"boat 0.9 x"})
    assert desk.names(desk.find()) == [["a/1.jpg", "b/1.jpg"]]
    assert desk.call("PATCH", "/api/datasets/b", {"reference": True})["reference"] is True
    run = desk.find()
    assert desk.names(run) == [["b/1.jpg", "a/1.jpg"]]
    assert [image["reference"] for image in desk.groups(run)[0]["images"]] == [True, False]
    listed = desk.call("GET", "/api/datasets")["datasets"]
    assert {d["name"]: d["reference"] for d in listed} == {"a": False, "b": True}


def test_member_that_is_gone_is_told_and_others_stay(desk: Desk) -> None:
    dataset = desk.fill(
        "a", {"1.jpg": b"boat 1 longest", "2.jpg": b"boat 0.9 x", "3.jpg": b"boat 0.9 y"}
    )
    run = desk.find()
    (Path(dataset.folder) / "2.jpg").unlink()
    desk.fill("a", {})
    (group,) = desk.groups(run)
    assert {i["fname"]: i["present"] for i in group["images"]} == {
        "1.jpg": True,
        "2.jpg": False,
        "3.jpg": True,
    }
    assert len(desk.names(desk.find())[0]) == 2


def test_what_was_done_to_a_copy_is_told_when_its_group_is_opened(desk: Desk) -> None:
    mirrored = picture(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    contents = {"1.png": png(1), "2.jpg": encoded(mirrored, "JPEG", quality=30), "3.png": png(2)}
    desk.said = {hash_bytes(data): b"boat 0.9 " + name.encode() for name, data in contents.items()}
    desk.said[hash_bytes(contents["1.png"])] = b"boat 1"
    desk.fill("a", contents)
    (group,) = desk.groups(desk.find())
    assert [image["edit"] for image in group["images"]] == [None, None, None]
    opened = desk.call("GET", f"/api/duplicates/{group['run']}/groups/{group['number']}")
    edits = {image["fname"]: image["edit"] for image in opened["images"][1:]}
    assert edits["3.png"] == {}
    assert [edit for name, edit in edits.items() if name != "3.png"] == [{"mirrored": True}]
    # It is kept.
    assert desk.groups({"id": group["run"]})[0]["images"] == opened["images"]


def test_order_of_datasets_in_a_request_makes_no_other_run(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1"})
    desk.fill("b", {"1.jpg": b"boat 1"})
    desk.find(dataset_names=["a", "b", "a"])
    runs = desk.call("GET", "/api/duplicates")["runs"]
    assert runs[0]["datasets"] == ["a", "b"]
    for _ in range(3):
        desk.find(dataset_names=["b", "a"])
    assert len(desk.call("GET", "/api/duplicates")["runs"]) == 2
