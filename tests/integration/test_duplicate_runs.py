"""Runs that look for duplicates, from state to state; and what is refused. See ``finding``."""

from __future__ import annotations

import pytest
from tests.integration.finding import Desk, hold


def test_run_under_way_is_shared_and_can_be_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat 1"})
    _, go_on = hold(desk, monkeypatch)
    run_id = desk.begin()
    assert desk.begin() == run_id
    assert desk.begin(dataset_names=["a"]) == run_id
    error = desk.call("POST", "/api/duplicates", {"threshold": 90}, 409)
    assert (error["code"], error["details"]) == ("busy", {"run": run_id})
    progress = desk.call("GET", f"/api/duplicates/{run_id}")
    assert (progress["state"], progress["total"], progress["stage"]) == ("running", 2, "files")
    assert desk.call("GET", f"/api/duplicates/{run_id}/groups")["groups"] == []
    assert desk.call("DELETE", f"/api/duplicates/{run_id}") == {"cancelled": True}
    assert desk.call("DELETE", f"/api/duplicates/{run_id}") == {"cancelled": False}
    go_on.set()
    after = desk.find()
    assert after["groups"] == 1
    assert desk.call("GET", f"/api/duplicates/{run_id}")["state"] == "cancelled"
    assert desk.call("GET", f"/api/duplicates/{run_id}/groups?state=all")["groups"] == []
    listed = desk.call("GET", "/api/duplicates")["runs"]
    assert [(run["id"], run["state"]) for run in listed] == [
        (after["id"], "done"),
        (run_id, "cancelled"),
    ]


def test_run_of_a_killed_controller_begins_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat 1"})
    reached, go_on = hold(desk, monkeypatch)
    run_id = desk.begin(threshold=88)
    assert reached.wait(20)
    desk.rest()
    desk.site.kill_after(0)
    go_on.set()
    desk.site.next_controller()
    desk.site.start()
    newest = desk.call("GET", "/api/duplicates")["runs"][0]
    assert newest["id"] > run_id
    run = desk.ended(newest["id"])
    assert (run["state"], run["threshold"], run["groups"]) == ("done", 88, 1)
    assert desk.call("GET", f"/api/duplicates/{run_id}")["state"] == "error"


def test_failed_run_says_why_and_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat 1"})
    good = desk.find()
    catalogue = desk.site.controller.catalogue

    def broken(before: int) -> int:
        raise RuntimeError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "follow_verdicts", broken)
        run = desk.ended(desk.begin())
    assert run["state"] == "error"
    assert "no more" in run["message"]
    assert catalogue.groups(run["id"]) == []
    assert len(desk.groups(good)) == 1


_BAD: list[tuple[str, str, object, int, str]] = [
        ("POST", "/api/duplicates", {"preset": "mild"}, 400, "strict, normal, loose"),
        ("POST", "/api/duplicates", {"preset": 3}, 400, "preset"),
        ("POST", "/api/duplicates", {"threshold": 101}, 400, "from 50 to 100"),
        ("POST", "/api/duplicates", {"threshold": "much"}, 400, "threshold"),
        ("POST", "/api/duplicates", {"dataset_names": []}, 400, "dataset_names"),
        ("POST", "/api/duplicates", {"dataset_names": ["nobody"]}, 404, "nobody"),
        ("POST", "/api/duplicates", [1], 400, "JSON object"),
        ("GET", "/api/duplicates/99", None, 404, "no run 99"),
        ("GET", f"/api/duplicates/{10**30}", None, 404, "no run"),
        ("DELETE", "/api/duplicates/99", None, 404, "no run 99"),
        ("GET", "/api/duplicates/99/groups", None, 404, "no run 99"),
        ("GET", "/api/duplicates/1/groups?state=closed", None, 400, "open, resolved, dismissed"),
        ("GET", "/api/duplicates/1/groups?tier=", None, 400, "exact, pixels, near"),
        ("GET", "/api/duplicates/1/groups?limit=0", None, 400, "limit"),
        ("GET", "/api/duplicates/1/groups?after=-1", None, 400, "after"),
        ("GET", f"/api/duplicates/1/groups/{10**30}", None, 404, "no group"),
        ("PATCH", "/api/duplicates/1/groups/1", {"state": "closed"}, 400, "open, resolved"),
        ("PATCH", "/api/duplicates/1/groups/9", {"state": "open"}, 404, "no group 9"),
        ("PATCH", "/api/datasets/a", {}, 400, "reference"),
        ("PATCH", "/api/datasets/a", {"reference": "yes"}, 400, "true or false"),
        ("PATCH", "/api/datasets/nobody", {"reference": True}, 404, "nobody"),
        ("POST", "/api/repeated_search", {"index_id": "a", "threshold": 79}, 400, "from 80 to 100"),
        ("POST", "/api/repeated_search", {"index_id": "nobody"}, 404, "nobody"),
        ("POST", "/api/repeated_search", {"threshold": 90}, 400, "index_id"),
        ("POST", "/api/repeated_search", {"index_id": "a", "deduplicate": 1}, 400, "deduplicate"),
        ("POST", "/api/get_images_by_ids", {"image_ids": ["1"]}, 400, "image_ids"),
        ("POST", "/api/get_images_by_ids", {"image_ids": [2**63]}, 400, "image_ids"),
        ("GET", "/api/get_image_by_id/77", None, 404, "no image 77"),
        ("GET", f"/api/get_image_by_id/{2**63}", None, 404, "no image")
]  # fmt: skip


def test_bad_requests_are_refused_with_their_reason(desk: Desk) -> None:
    desk.fill("a", {"1.jpg": b"boat 1", "2.jpg": b"boat 1"})
    desk.find()
    for method, path, body, status, said in _BAD:
        error = desk.call(method, path, body, status)
        assert said in error["error"], (method, path, body)
        assert set(error) == {"error", "code", "details"}
    assert len(desk.call("GET", "/api/duplicates")["runs"]) == 1
