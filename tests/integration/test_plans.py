"""Plans carried out and undone by a controller, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import until
from tests.integration.conftest import Site

from futu.catalogue.duplicate_records import FoundGroup, FoundMember
from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.images.folder import hash_bytes
from futu.trash.disk import Disk
from futu.trash.plan import PlanRow, from_text, to_csv

COPIES = {"a.jpg": b"same", "copy of a.jpg": b"same", "sub.jpg": b"same", "other.jpg": b"other"}


class Desk:
    """A site with an indexed dataset, and its API."""

    def __init__(self, site: Site, contents: dict[str, bytes] = COPIES) -> None:
        self.site = site
        self.dataset = self.fill("one", contents)
        site.start()
        site.work()
        self.index(self.dataset)
        self.folder = Path(self.dataset.folder)

    def fill(self, name: str, contents: dict[str, bytes]) -> DatasetRecord:
        """Files that are equally old."""
        dataset = self.site.fill(name, contents)
        for path in contents:
            os.utime(os.path.join(dataset.folder, path), ns=(10**9, 10**9))
        return dataset

    @property
    def client(self) -> FlaskClient:
        return create_app(self.site.controller).test_client()

    def index(self, dataset: DatasetRecord) -> None:
        self.site.controller.ingest.start(dataset)
        self.site.await_state(dataset, DONE)

    def id(self, path: str, dataset: DatasetRecord | None = None) -> int:
        of = dataset or self.dataset
        images = self.site.controller.catalogue.all_images(of.id)
        return next(image.id for image in images if image.path == path)

    def post(self, path: str, body: object, status: int = 200) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.get_json()

    def plan(self, *paths: str, **more: object) -> list[dict[str, Any]]:
        body = {"groups": [[self.id(path) for path in paths]], **more}
        rows: list[dict[str, Any]] = self.post("/api/duplicates/plan", body)["rows"]
        return rows

    def apply(self, rows: list[dict[str, Any]], status: int = 200) -> Any:
        answer = self.post("/api/duplicates/apply", {"rows": rows}, status)
        return answer["operation"] if status == 200 else answer["error"]

    def undo(self, operation: str, **body: object) -> Any:
        return self.post(f"/api/operations/{operation}/undo", body)["operation"]

    def states(self) -> dict[str, tuple[str, str | None]]:
        return self.site.files(self.dataset)

    def names(self) -> set[str]:
        return {name for name in os.listdir(self.folder) if not name.startswith(".")}

    def found(self) -> set[str]:
        """Paths of all images that a search may find."""
        catalogue = self.site.controller.catalogue
        ids = catalogue.searchable_vector_ids(self.site.model_id)
        images = catalogue.images_of_vectors(ids.tolist(), [self.dataset.id])
        return {image.path for of_vector in images.values() for image in of_vector}


@pytest.fixture
def desk(site: Site) -> Desk:
    return Desk(site)


def test_plan_moves_copies_out_of_all_results_and_undo_brings_them_back_without_a_job(
    desk: Desk,
) -> None:
    rows = desk.plan("a.jpg", "copy of a.jpg", "sub.jpg")
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("keep", "shortest path"),
        ("move", f"copy of {desk.id('a.jpg')}"),
        ("move", f"copy of {desk.id('a.jpg')}"),
    ]
    assert desk.names() == set(COPIES)
    done = desk.apply(rows)
    assert (done["state"], done["images"], done["left"], done["bytes"]) == ("applied", 2, 2, 8)
    assert desk.names() == desk.found() == {"a.jpg", "other.jpg"}
    assert desk.states()["sub.jpg"] == ("missing", "trashed")
    desk.index(desk.dataset)
    assert desk.states()["sub.jpg"] == ("missing", "trashed")
    files = desk.client.get(f"/api/operations/{done['id']}").get_json()["files"]
    assert [Path(f["trash_path"]).read_bytes() for f in files] == [b"same"] * 2
    desk.site.rest()
    worker = desk.site.work()
    assert desk.undo(done["id"])["state"] == "undone"
    assert desk.names() == desk.found() == set(COPIES)
    desk.index(desk.dataset)
    assert worker.done == []
    assert {state for state, _ in desk.states().values()} == {"ready"}
    listed = desk.client.get("/api/operations").get_json()["operations"]
    assert [(o["id"], o["state"], o["left"]) for o in listed] == [(done["id"], "undone", 0)]


def test_some_images_of_an_operation_come_home_with_their_sidecars(desk: Desk) -> None:
    (desk.folder / "sub.jpg.xmp").write_bytes(b"edits")
    (desk.folder / "a.xmp").write_bytes(b"of the keeper")
    done = desk.apply(desk.plan("a.jpg", "copy of a.jpg", "sub.jpg"))
    assert (done["images"], done["files"]) == (2, 3)
    assert desk.names() == {"a.jpg", "a.xmp", "other.jpg"}
    undone = desk.undo(done["id"], image_ids=[desk.id("sub.jpg")])
    assert (undone["state"], undone["left"]) == ("applied", 1)
    assert desk.names() == {"a.jpg", "a.xmp", "other.jpg", "sub.jpg", "sub.jpg.xmp"}
    assert desk.found() == {"a.jpg", "other.jpg", "sub.jpg"}


def test_same_plan_twice_is_refused_and_moves_nothing(desk: Desk) -> None:
    rows = desk.plan("a.jpg", "sub.jpg")
    desk.apply(rows)
    assert "sub.jpg is not there any more" in desk.apply(rows, 409)
    assert desk.names() == {"a.jpg", "copy of a.jpg", "other.jpg"}


def _edit(rows: list[dict[str, Any]], which: int, **facts: object) -> list[dict[str, Any]]:
    return [row | facts if n == which else row for n, row in enumerate(rows)]


EDITS: list[tuple[int, dict[str, object], int, str]] = [
    (0, {"action": "move"}, 409, "would move all images of group 1"),
    (0, {"action": "burn"}, 400, "Row 1 of the plan has the action 'burn'"),
    (1, {"image_id": 999}, 409, "Row 2 names image 999"),
    (1, {"image_id": "1.2E+05"}, 400, "Row 2 of the plan has the image_id"),
    (1, {"path": "/etc/passwd"}, 409, "as /etc/passwd, but that image is"),
    (1, {"content_hash": "ab" * 32}, 409, "sub.jpg has changed since the plan"),
    (1, {"content_hash": "xy"}, 400, "Row 2 of the plan has a content_hash"),
    (1, {"group": ""}, 400, "Row 2 of the plan has no group"),
    (1, {"group": "2"}, 409, "would move all images of group 2"),
    (1, {"action": "keep"}, 409, "The plan moves nothing"),
]


def test_edited_plan_is_refused_with_its_row_named(desk: Desk) -> None:
    rows = desk.plan("a.jpg", "sub.jpg")
    for which, facts, status, message in EDITS:
        assert message in desk.apply(_edit(rows, which, **facts), status)
    assert "Rows 2 and 3" in desk.apply([*rows, rows[1]], 409)
    assert desk.names() == set(COPIES)
    assert desk.client.get("/api/operations").get_json()["operations"] == []


@pytest.mark.parametrize("path", ["a.jpg", "sub.jpg"], ids=["kept", "moved"])
def test_content_that_changed_with_the_same_size_and_time_is_refused(desk: Desk, path: str) -> None:
    rows = desk.plan("a.jpg", "copy of a.jpg", "sub.jpg")
    before = os.stat(desk.folder / path)
    (desk.folder / path).write_bytes(b"SAME")
    os.utime(desk.folder / path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert f"{path} has changed since the plan was made" in desk.apply(rows, 409)
    assert desk.names() == set(COPIES)
    assert desk.found() == set(COPIES)


def test_vanished_keeper_is_refused_and_left_out_of_the_next_plan(desk: Desk) -> None:
    rows = desk.plan("a.jpg", "sub.jpg")
    os.unlink(desk.folder / "a.jpg")
    assert "There is no file" in desk.apply(rows, 409)
    body = {"groups": [[desk.id("a.jpg"), desk.id("sub.jpg")]]}
    made = desk.post("/api/duplicates/plan", body)
    assert made["rows"] == []
    assert "a.jpg is left out" in made["skipped"][0]
    assert "sub.jpg" in desk.names()


def test_reference_dataset_is_kept_whatever_the_rules_say(desk: Desk) -> None:
    reference = desk.fill("reference", {"a much longer name.jpg": b"same", "z.jpg": b"same"})
    desk.index(reference)
    catalogue = desk.site.controller.catalogue
    catalogue.set_reference(reference.id, reference=True)
    kept = [desk.id(path, reference) for path in ("a much longer name.jpg", "z.jpg")]
    body = {"groups": [[desk.id("a.jpg"), *kept]]}
    rows = desk.post("/api/duplicates/plan", body)["rows"]
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("keep", "reference"),
        ("keep", "reference"),
        ("move", f"copy of {kept[1]}"),
    ]
    assert "reference dataset" in desk.apply(_edit(rows, 1, action="move"), 409)
    desk.apply(rows)
    assert "a.jpg" not in desk.names()
    assert len(os.listdir(reference.folder)) == 2


def test_file_below_a_reference_folder_is_kept_though_another_dataset_has_it_too(
    tmp_path: Path, redis_url: str
) -> None:
    site = Site(tmp_path, redis_url, image_roots=(tmp_path / "pictures",))
    inner = tmp_path / "pictures" / "inner"
    inner.mkdir(parents=True)
    for path in (inner / "a.jpg", tmp_path / "pictures" / "b.jpg"):
        path.write_bytes(b"same")
        os.utime(path, ns=(1, 1))
    try:
        site.start()
        site.work()
        outer = site.controller.register(str(tmp_path / "pictures"), "outer")
        reference = site.controller.register(str(inner), "inner")
        site.controller.catalogue.set_reference(reference.id, reference=True)
        site.controller.ingest.start(outer)
        site.await_state(outer, DONE)
        images = list(site.controller.catalogue.all_images(outer.id))
        plan = site.controller.operations.plan(
            site.controller.operations.groups([[image.id for image in images]])
        )
        assert [(row.action, os.path.basename(row.path)) for row in plan.rows] == [
            ("keep", "a.jpg"),
            ("move", "b.jpg"),
        ]
        # A file of two datasets leaves and comes back in both.
        site.controller.catalogue.set_reference(reference.id, reference=False)
        site.controller.ingest.start(reference)
        site.await_state(reference, DONE)
        ids = [image.id for image in images]
        plan = site.controller.operations.plan(site.controller.operations.groups([ids[::-1]]))
        assert [row.action for row in plan.rows] == ["keep", "move"]
        done = site.controller.operations.apply(plan.rows, 10)
        assert site.files(reference)["a.jpg"] == ("missing", "trashed")
        site.controller.operations.undo(done.operation, None, 10)
        assert site.files(reference)["a.jpg"] == ("ready", None)
    finally:
        site.close()


def test_links_are_never_moved_nor_left_without_what_they_lead_to(desk: Desk) -> None:
    os.symlink("sub.jpg", desk.folder / "link.jpg")
    desk.index(desk.dataset)
    rows = desk.plan("link.jpg", "sub.jpg", "copy of a.jpg", "a.jpg")
    actions = {os.path.basename(row["path"]): row["action"] for row in rows}
    assert actions == {
        "a.jpg": "keep",
        "copy of a.jpg": "move",
        "link.jpg": "keep",
        "sub.jpg": "keep",
    }
    wished = [row | {"action": "move"} if "sub" in row["path"] else row for row in rows]
    assert "are one file" in desk.apply(wished, 409)
    wished = [row | {"action": "move"} if "link" in row["path"] else row for row in rows]
    assert "link.jpg is a link" in desk.apply(wished, 409)


def test_order_of_rules_is_the_requests_then_the_settings(desk: Desk) -> None:
    os.utime(desk.folder / "sub.jpg", ns=(1, 1))
    desk.index(desk.dataset)
    paths = ("a.jpg", "copy of a.jpg", "sub.jpg")
    assert "sub.jpg" in desk.plan(*paths)[0]["path"]
    assert desk.plan(*paths)[0]["reason"] == "oldest"
    assert desk.plan(*paths, keep=["path"])[0]["path"].endswith("/a.jpg")
    body = {"groups": [[1, 2]], "keep": ["newest"]}
    assert "resolution, size, oldest, path" in desk.post("/api/duplicates/plan", body, 400)["error"]


def test_plan_comes_as_csv_and_goes_through_a_spreadsheet(desk: Desk) -> None:
    body = {"groups": [[desk.id("a.jpg"), desk.id("sub.jpg")]], "format": "csv"}
    answer = desk.client.post("/api/duplicates/plan", json=body)
    assert answer.content_type.startswith("text/csv")
    rows = from_text(answer.text)
    assert to_csv(rows) == answer.text
    edited = "\ufeff" + answer.text.replace(",", ";").replace("keep", "KEEP")
    applied = [
        {name: getattr(row, name) for name in PlanRow.__dataclass_fields__}
        for row in from_text(edited)
    ]
    assert desk.apply(applied)["state"] == "applied"


def test_groups_of_a_run_are_planned_resolved_and_open_again(desk: Desk) -> None:
    catalogue = desk.site.controller.catalogue
    run = catalogue.start_duplicates([desk.dataset.id], "normal", 90.0, "")
    members = tuple(
        FoundMember(desk.id(path), hash_bytes(b"same"), 4, "exact", 1.0, 100.0)
        for path in ("a.jpg", "copy of a.jpg", "sub.jpg")
    )
    catalogue.write_groups(run.id, 1, [FoundGroup(members, "open")])
    rows = desk.post("/api/duplicates/plan", {"run_id": run.id})["rows"]
    assert [row["group"] for row in rows] == [f"{run.id}/1"] * 3
    stranger = next(
        row | {"group": f"{run.id}/1", "action": "move"}
        for row in desk.plan("other.jpg", "a.jpg")
        if "other" in row["path"]
    )
    assert "of which it is no member" in desk.apply([*rows, stranger], 409)
    done = desk.post("/api/duplicates/apply", {"run_id": run.id})["operation"]
    assert catalogue.group(run.id, 1).state == "resolved"
    assert desk.post("/api/duplicates/plan", {"run_id": run.id})["rows"] == []
    desk.undo(done["id"])
    assert catalogue.group(run.id, 1).state == "open"
    assert "There is no run 99" in desk.post("/api/duplicates/plan", {"run_id": 99}, 404)["error"]


def test_second_operation_is_refused_while_one_is_under_way_and_a_stop_takes_it_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = desk.plan("a.jpg", "copy of a.jpg", "sub.jpg")
    operations = desk.site.controller.operations
    rename = Disk.rename
    asked: list[str] = []

    def slow(disk: Disk, source: str, target: str) -> None:
        rename(disk, source, target)
        if not asked:
            asked.append(desk.post("/api/duplicates/apply", {"rows": rows}, 409)["code"])
            (listed,) = desk.client.get("/api/operations").get_json()["operations"]
            asked.append(listed["state"])
            operations._stop.set()

    monkeypatch.setattr(Disk, "rename", slow)
    answer = desk.post("/api/duplicates/apply", {"rows": rows}, 503)
    assert asked == ["busy", "moving"]
    assert "Everything is where it was" in answer["error"]
    assert desk.names() == desk.found() == set(COPIES)


def test_operation_that_takes_long_is_answered_while_it_goes_on(desk: Desk) -> None:
    rows = desk.plan("a.jpg", "sub.jpg")
    answer = desk.client.post("/api/duplicates/apply", json={"rows": rows, "wait": 0})
    name = answer.get_json()["operation"]["id"]

    def ended() -> Any:
        facts = desk.client.get(f"/api/operations/{name}").get_json()["operation"]
        return facts if "current" not in facts else None

    assert until(ended)["state"] == "applied"
    answer = desk.client.post(f"/api/operations/{name}/undo", json={"wait": 0})
    assert until(ended)["state"] == "undone"


def test_controller_that_was_killed_half_way_has_everything_back_at_its_next_start(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = desk.plan("a.jpg", "copy of a.jpg", "sub.jpg")
    catalogue = desk.site.controller.catalogue
    mark = catalogue.mark_trashed

    class KilledError(BaseException):
        pass

    def killed(ids: list[int], operation: str) -> None:
        mark(ids, operation)
        raise KilledError

    monkeypatch.setattr(type(catalogue), "mark_trashed", lambda _, i, o: killed(i, o))
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    answer = desk.post("/api/duplicates/apply", {"rows": rows})
    assert answer["operation"]["state"] == "interrupted"
    assert desk.names() == desk.found() == {"a.jpg", "other.jpg"}
    desk.site.next_controller()
    desk.site.start()
    assert desk.names() == desk.found() == set(COPIES)
    (operation,) = desk.site.controller.operations.outcomes.operations()
    assert operation["state"] == "rolled_back"


def test_wrong_field_is_named(desk: Desk) -> None:
    wrong: list[tuple[str, object]] = [
        ("/api/duplicates/plan", {}),
        ("/api/duplicates/plan", {"groups": [[]]}),
        ("/api/duplicates/plan", {"groups": [["a"]]}),
        ("/api/duplicates/plan", {"run_id": "x"}),
        ("/api/duplicates/plan", {"groups": [[1]], "format": "xml"}),
        ("/api/duplicates/apply", {"rows": []}),
        ("/api/duplicates/apply", {"rows": [1]}),
        ("/api/duplicates/apply", {"groups": [[1]], "wait": 60}),
        ("/api/operations/x/undo", {"image_ids": []}),
    ]
    for path, body in wrong:
        assert desk.post(path, body, 400)["code"] == "bad_field"


def test_unknown_operation_is_said(desk: Desk) -> None:
    for answer in (
        desk.client.get("/api/operations/20000101-000000-abcdef"),
        desk.client.post("/api/operations/20000101-000000-abcdef/undo"),
    ):
        assert answer.status_code == 404
        assert answer.get_json()["code"] == "unknown_operation"


def test_trash_outlives_the_data_directory(desk: Desk, tmp_path: Path) -> None:
    done = desk.apply(desk.plan("a.jpg", "copy of a.jpg", "sub.jpg"))
    desk.site.rest()
    desk.site.controller.stop()
    desk.site.settings = desk.site.settings.model_copy(update={"data_dir": tmp_path / "new"})
    desk.site.controller = Controller(desk.site.settings)
    desk.site.start()
    desk.site.work()
    (listed,) = desk.client.get("/api/operations").get_json()["operations"]
    assert (listed["id"], listed["state"]) == (done["id"], "applied")
    # Its ids mean other images there, which are gone though they had the same content.
    other = desk.fill("another", {f"{n}.jpg": b"same" for n in range(9)})
    desk.index(other)
    for n in range(9):
        os.unlink(os.path.join(other.folder, f"{n}.jpg"))
    desk.index(other)
    assert desk.undo(done["id"])["state"] == "undone"
    assert desk.names() == set(COPIES)
    assert {state for state, _ in desk.site.files(other).values()} == {"missing"}
