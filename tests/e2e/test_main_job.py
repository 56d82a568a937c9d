"""Folders in, neighbours out."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.e2e.conftest import System
from tests.pictures import jpeg

from futu.errors import NotIndexedError


def make_dataset(system: System, name: str, count: int, first_seed: int = 0) -> Path:
    folder = system.datasets / name
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(first_seed + n))
    return folder


def test_every_picture_of_a_folder_is_its_own_nearest_neighbour(system: System) -> None:
    folder = make_dataset(system, "own", 40)
    progress = system.index("own")
    assert (progress.status, progress.progress, progress.total) == ("done", 100, 40)
    assert (progress.added, progress.failed) == (40, 0)
    for n in (0, 7, 39):
        first = system.client.search(folder / f"{n:03}.jpg", datasets=["own"], top_k=3)[0]
        assert first.fname == f"{n:03}.jpg"
        assert first.similarity > 99
        picture = system.http.get(first.img_url)
        assert picture.content == (folder / f"{n:03}.jpg").read_bytes()
        assert picture.headers["content-type"] == "image/jpeg"


def test_indexing_again_calls_no_model_and_changes_nothing(system: System) -> None:
    make_dataset(system, "again", 20, 100)
    system.index("again")
    before = system.images_done()
    progress = system.index("again")
    assert (progress.unchanged, progress.added, progress.total) == (20, 0, 20)
    assert system.images_done() == before


def test_renamed_and_copied_files_reuse_their_vectors(system: System) -> None:
    folder = make_dataset(system, "renamed", 10, 200)
    system.index("renamed")
    before = system.images_done()
    (folder / "000.jpg").rename(folder / "new name.jpg")
    shutil.copyfile(folder / "001.jpg", folder / "copy.jpg")
    progress = system.index("renamed")
    assert (progress.reused, progress.missing, progress.added) == (2, 1, 0)
    assert system.images_done() == before
    names = {r.fname for r in system.client.search(folder / "001.jpg", datasets=["renamed"])[:2]}
    assert names == {"001.jpg", "copy.jpg"}


def test_deleted_files_leave_the_results_and_return_without_the_model(system: System) -> None:
    folder = make_dataset(system, "deleted", 5, 300)
    system.index("deleted")
    kept = (folder / "002.jpg").read_bytes()
    (folder / "002.jpg").unlink()
    assert system.index("deleted").missing == 1
    query = folder.parent.parent / "query.jpg"
    query.write_bytes(kept)
    assert "002.jpg" not in {r.fname for r in system.client.search(query, datasets=["deleted"])}
    before = system.images_done()
    (folder / "002.jpg").write_bytes(kept)
    assert system.index("deleted").reused == 1
    assert system.images_done() == before
    assert system.client.search(query, datasets=["deleted"])[0].fname == "002.jpg"


def test_changed_file_is_searched_as_it_is_now(system: System) -> None:
    folder = make_dataset(system, "changed", 3, 400)
    system.index("changed")
    (folder / "001.jpg").write_bytes(jpeg(499))
    assert system.index("changed").added == 1
    query = folder.parent.parent / "changed-query.jpg"
    query.write_bytes(jpeg(499))
    best = system.client.search(query, datasets=["changed"])[0]
    assert (best.fname, best.similarity > 99) == ("001.jpg", True)


def test_crop_searches_with_the_part_the_user_saw(system: System) -> None:
    folder = system.datasets / "crop"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.jpg").write_bytes(jpeg(500 + n, (240, 240)))
    system.index("crop")
    sheet = Image.new("RGB", (480, 240))
    for place, n in enumerate((1, 4)):
        with Image.open(folder / f"{n}.jpg") as part:
            sheet.paste(part, (240 * place, 0))
    # Stored turned by 90 degrees and marked so: what the user sees is the sheet above.
    exif = Image.Exif()
    exif[0x0112] = 6
    path = folder.parent.parent / "sheet.png"
    sheet.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    for crop, wanted in (((0, 0, 240, 240), "1.jpg"), ((240, 0, 240, 240), "4.jpg")):
        best = system.client.search(path, datasets=["crop"], crop=crop)[0]
        assert (best.fname, best.similarity > 98) == (wanted, True)


def test_names_in_chinese_and_names_that_are_not_utf8_are_found_and_served(system: System) -> None:
    folder = system.datasets / "浮图 #1"
    folder.mkdir()
    (folder / "图片 一.jpg").write_bytes(jpeg(600))
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.jpg"))).write_bytes(jpeg(601))
    progress = system.index("浮图 #1")
    assert (progress.added, progress.failed) == (2, 0)
    results = system.client.search(folder / "图片 一.jpg", datasets=["浮图 #1"])
    assert [r.fname for r in results] == ["图片 一.jpg", "\ufffd\ufffd.jpg"]
    assert [system.http.get(r.img_url).content for r in results] == [jpeg(600), jpeg(601)]
    assert system.http.get("/show_image/浮图 %231/图片 一.jpg").content == jpeg(600)
    assert system.http.get("/datasets/浮图 %231/图片 一.jpg").content == jpeg(600)


def test_dataset_is_listed_before_and_after_indexing(system: System) -> None:
    make_dataset(system, "listed", 4, 700)
    before = next(d for d in system.client.datasets() if d.name == "listed")
    assert (before.image_count, before.indexed, before.status) == (4, 0, "pending")
    assert before.first_image_url
    assert system.http.get(before.first_image_url).content == jpeg(700)
    with pytest.raises(NotIndexedError, match="索引"):
        system.client.search(system.datasets / "listed" / "000.jpg", datasets=["listed"])
    system.index("listed")
    after = next(d for d in system.client.datasets() if d.name == "listed")
    assert (after.image_count, after.indexed, after.status) == (4, 4, "done")
    assert system.client.dataset_id("listed") == after.id


def test_search_spans_datasets_pages_and_respects_min_similarity(system: System) -> None:
    make_dataset(system, "left", 3, 800)
    make_dataset(system, "right", 3, 810)
    system.index("left")
    system.index("right")
    query = system.datasets / "left" / "000.jpg"
    both = system.client.search(query, datasets=["left", "right"], top_k=6)
    assert {r.dataset for r in both} == {"left", "right"}
    assert [r.cosine for r in both] == sorted((r.cosine for r in both), reverse=True)
    fields = {"dataset_names": ["left", "right"], "top_k": "3", "offset": "3"}
    page = system.http.post(
        "/api/search", data=fields, files={"query_img": io.BytesIO(query.read_bytes())}
    ).json()["results"]
    assert [r["id"] for r in page] == [r.id for r in both[3:]]
    close = system.client.search(query, datasets=["left", "right"], min_similarity=99)
    assert [r.fname for r in close] == ["000.jpg"]


def test_feature_extraction_answers_alone_and_in_batches(system: System) -> None:
    folder = make_dataset(system, "features", 2, 900)
    (folder / "broken.jpg").write_bytes(b"no picture")
    one = system.client.feature(str(folder / "000.jpg"))
    assert one["dimension"] == len(one["feature"]) == 1280
    assert sum(x * x for x in one["feature"]) == pytest.approx(1, abs=1e-4)
    paths = [str(folder / n) for n in ("001.jpg", "broken.jpg", "gone.jpg", "000.jpg")]
    many = system.client.features([*paths, "/etc/passwd"])
    assert [m["image_path"] for m in many] == [*paths, "/etc/passwd"]
    assert [m["success"] for m in many] == [True, False, False, True, False]
    codes = [m.get("code") for m in many]
    assert codes == [None, "not_an_image", "missing_file", None, "outside_roots"]
    assert many[3]["feature"] == pytest.approx(one["feature"], abs=1e-4)
    assert many[0]["model_id"] == one["model_id"]
