"""Which image is kept, what goes with it, and plans in files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from futu.catalogue.records import ImageRecord
from futu.controller.keeping import RULES, by_keeping, order_of, why
from futu.errors import InvalidRequestError
from futu.trash.plan import PlanRow, from_text, to_csv
from futu.trash.sidecars import sidecars

IMAGE = ImageRecord(1, 1, "d", "/d", "abc.jpg", 1000, 50, 30, 20, "ready")
BETTER = {
    "resolution": {"width": 31},
    "size": {"size": 1001},
    "oldest": {"mtime_ns": 49},
    "path": {"path": "a.jpg"},
}
ROW = PlanRow("7/1", "move", 3, '/d/ö, "a";\n.jpg', "ab" * 32, "copy of 2", "d", 5, 6, 7, "t", "/x")


def better(number: int, rule: str) -> ImageRecord:
    return replace(IMAGE, id=number, **BETTER[rule])  # type: ignore[arg-type]


def test_each_rule_decides_before_those_that_follow_it() -> None:
    images = [IMAGE, *(better(n, rule) for n, rule in enumerate(RULES[::-1], 2))]
    assert [image.id for image in by_keeping(images)] == [5, 4, 3, 2, 1]
    order = order_of(["path", "oldest"])
    assert order == ("path", "oldest", "resolution", "size")
    assert [image.id for image in by_keeping(images, order=order)] == [2, 3, 5, 4, 1]


@pytest.mark.parametrize("rule", RULES)
def test_reason_names_the_rule_that_decided(rule: str) -> None:
    words = why(better(2, rule), IMAGE)
    assert words in ("largest resolution", "largest file", "oldest", "shortest path")
    assert why(IMAGE, replace(IMAGE, id=2)) == "first"


def test_reference_dataset_comes_before_all_rules_and_the_id_after_them() -> None:
    best = replace(better(3, "resolution"), dataset_id=9)
    assert by_keeping([best, replace(IMAGE, id=2), IMAGE], {1})[0] == IMAGE


@pytest.mark.parametrize("names", [["newest"], ["path", "path"]])
def test_unknown_or_repeated_rule_is_refused(names: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="resolution, size, oldest, path"):
        order_of(names)


def test_sidecar_goes_with_its_picture_and_a_shared_one_with_the_last() -> None:
    listed = ["a.jpg", "a.jpg.xmp", "a.nef", "a.XMP", "b.jpg", "b.xmp", "c.xmp", "b.jpg.txt"]
    one = {"/d/a.jpg"}
    assert sidecars("/d/a.jpg", one, listed) == ["/d/a.jpg.xmp"]
    both = {"/d/a.jpg", "/d/a.nef"}
    assert sidecars("/d/a.jpg", both, listed) == ["/d/a.XMP", "/d/a.jpg.xmp"]
    assert sidecars("/d/a.nef", both, listed) == ["/d/a.XMP"]
    assert sidecars("/d/b.jpg", {"/d/b.jpg"}, listed) == ["/d/b.xmp"]


def test_plan_is_the_same_after_a_file() -> None:
    assert from_text(to_csv([ROW])) == [ROW]
    assert from_text(json.dumps({"rows": [asdict(ROW)]})) == [ROW]
    assert from_text(json.dumps([asdict(ROW)])) == [ROW]
    assert from_text("\ufeff" + to_csv([replace(ROW, path="a")]).replace(",", ";")) == [
        replace(ROW, path="a")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks group, action"),
        ("group,action\n1,keep\n", "lacks image_id, path, content_hash"),
        ("{", "not valid JSON"),
        ("[]", "no rows"),
        ('{"rows": 1}', "no rows"),
        ("[[]]", "Row 1 of the plan is not an object"),
    ],
)
def test_file_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        from_text(text)
