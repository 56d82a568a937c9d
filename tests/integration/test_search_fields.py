"""POST /api/search: what can be searched with, and in what."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.conftest import until
from tests.integration.conftest import Site, Worker
from tests.pictures import jpeg

from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.controller.remote import RemotePictures
from futu.images.folder import hash_bytes
from futu.images.info import Box
from futu.jobs.message import ImageItem
from futu.models.spec import Question

BOTH: tuple[Question, ...] = ("similar", "copy")
ONE = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(4)}
TWO = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(2, 7)}
STRANGER = jpeg(99, (80, 60))


class Served:
    """A controller with two datasets that share two pictures; the second has no copy vectors."""

    def __init__(self, site: Site, worker: Worker, http: FlaskClient) -> None:
        self.site = site
        self.worker = worker
        self.http = http

    def ask(self, **fields: Any) -> Any:
        body = json.dumps(fields)
        return self.http.post("/api/search", data=body, content_type="application/json")

    def send(self, data: bytes = STRANGER, **fields: Any) -> Any:
        upload = {"query_img": (io.BytesIO(data), "q.jpg")}
        return self.http.post("/api/search", data={**upload, **fields})

    def found(self, answer: Any) -> list[tuple[str, str]]:
        assert answer.status_code == 200, answer.json
        return [(r["dataset"], r["fname"]) for r in answer.json["results"]]

    def cropped(self, crop: Box) -> ImageItem | None:
        """The picture that came to the compute server with a crop."""
        items = [item for job in self.worker.done for item in job.items]
        return next((item for item in items if item.crop == crop), None)

    def asked(self, data: bytes) -> int:
        """How often a compute server was asked for a picture's vector."""
        return sum(item.data == data for job in self.worker.done for item in job.items)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, valkey: str) -> Iterator[Served]:
    site = Site(tmp_path_factory.mktemp("fields"), valkey)
    site.start()
    worker = site.serve("both", *BOTH)
    http = create_app(site.controller).test_client()
    for name, contents, questions in (("one", ONE, list(BOTH)), ("two", TWO, ["similar"])):
        site.fill(name, contents)
        for n, path in enumerate(contents):
            os.utime(site.settings.datasets_dir / name / path, (1e9 + 86400 * n, 1e9 + 86400 * n))
        body = {"dataset_names": [name], "questions": questions}
        assert http.post("/api/build_index", json=body).status_code == 200
        site.await_state(site.controller.dataset(name), DONE)
    yield Served(site, worker, http)
    site.close()


def test_indexed_image_is_searched_with_without_a_model(served: Served) -> None:
    first = served.ask(query_dataset="one", query_path="1.jpg").json["results"][0]
    assert (first["dataset"], first["fname"], first["similarity"] > 99.9) == ("one", "1.jpg", True)
    digest = hash_bytes(ONE["1.jpg"]).hex()
    for fields in ({"image_id": first["id"]}, {"content_hash": digest}):
        again = served.ask(**fields).json["results"][0]
        assert again["id"] == first["id"]
        form: Any = served.http.post("/api/search", data=fields)
        assert form.json["results"][0]["id"] == first["id"]
    # A picture that is cropped is one of another test.
    items = [item for job in served.worker.done for item in job.items if item.crop is None]
    assert ONE["1.jpg"] not in [item.data for item in items]


def test_result_says_what_is_known_of_an_image(served: Served) -> None:
    answer = served.ask(query_dataset="two", query_path="5.jpg", dataset_names=["two"])
    result = answer.json["results"][0]
    dataset = served.site.controller.dataset("two")
    assert result["cosine"] == pytest.approx(1, abs=1e-3)
    assert {
        "fname": "5.jpg",
        "path": "5.jpg",
        "dataset": "two",
        "dataset_id": dataset.id,
        "size": len(TWO["5.jpg"]),
        "width": 30,
        "height": 20,
        "match": "similar",
        "model_id": served.site.model_id,
        "generation": answer.json["generation"],
        "modified_at": "2001-09-12T01:46:40+00:00",
        "img_url": f"/api/image/two/{result['id']}",
    }.items() <= result.items()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"dataset_names": ["one"]}, {("one", n) for n in ONE}),
        ({"dataset_names": ["one", "two"]}, {("one", n) for n in ONE} | {("two", n) for n in TWO}),
        ({"path_prefix": "2"}, {("one", "2.jpg"), ("two", "2.jpg")}),
        ({"dataset_names": ["two"], "path_prefix": "6."}, {("two", "6.jpg")}),
        (
            {"after": "2001-09-11T00:00+00:00", "before": "2001-09-12T00:00Z"},
            {("one", "2.jpg"), ("two", "4.jpg")},
        ),
        ({"after": "2030-01-01"}, set()),
        ({"max_width": 29}, set()),
        ({"min_height": 20, "dataset_names": ["one"]}, {("one", n) for n in ONE}),
        (
            {"min_size": len(ONE["0.jpg"]), "max_size": len(ONE["0.jpg"]), "path_prefix": "0"},
            {("one", "0.jpg")},
        ),
        ({"min_similarity": 99.5}, {("one", "3.jpg"), ("two", "3.jpg")}),
    ],
)
def test_only_images_within_the_bounds_are_found(
    served: Served, fields: dict[str, Any], wanted: set[tuple[str, str]]
) -> None:
    query = {"query_dataset": "one", "query_path": "3.jpg", "top_k": 100}
    assert set(served.found(served.ask(**query, **fields))) == wanted
    form = {"dataset_names[]" if n == "dataset_names" else n: v for n, v in fields.items()}
    assert set(served.found(served.http.post("/api/search", data={**query, **form}))) == wanted


def test_pages_of_an_uploaded_picture_ask_for_its_vector_once(served: Served) -> None:
    data = jpeg(98, (80, 60))
    pages = [served.send(data, top_k=4, page=page) for page in (1, 2, 3)]
    whole = served.found(served.send(data, top_k=9))
    assert until(lambda: served.asked(data) >= 2)
    assert served.asked(data) == 2
    assert [n for page in pages for n in served.found(page)] == whole
    assert [page.json["next_offset"] for page in pages] == [4, 8, None]
    assert [r["idx"] for r in pages[1].json["results"]] == [4, 5, 6, 7]
    assert len({page.json["generation"] for page in pages}) == 1


def test_several_pictures_and_unwanted_ones_are_searched_with(served: Served) -> None:
    one, two, other = (
        served.ask(query_dataset=name, query_path=path).json["results"][0]["id"]
        for name, path in (("one", "0.jpg"), ("one", "1.jpg"), ("two", "6.jpg"))
    )
    both = served.ask(image_id=[one, two])
    assert {r["id"] for r in both.json["results"][:2]} == {one, two}
    less = served.ask(image_id=[one, two], negative_id=two, negative_weight=0.9)
    assert less.json["results"][0]["id"] == one
    assert two not in [r["id"] for r in less.json["results"][:2]]
    upload = {
        "query_img": [(io.BytesIO(TWO["6.jpg"]), "a.jpg"), (io.BytesIO(ONE["0.jpg"]), "b.jpg")],
        "negative_img": (io.BytesIO(ONE["0.jpg"]), "c.jpg"),
        "negative_hash": hash_bytes(ONE["1.jpg"]).hex(),
    }
    mixed: Any = served.http.post("/api/search", data=upload)
    assert mixed.json["results"][0]["id"] == other
    cancelled = served.ask(image_id=one, negative_id=one, negative_weight=1)
    assert (cancelled.status_code, cancelled.json["code"]) == (400, "bad_field")


def test_crop_in_fractions_or_of_an_indexed_image_is_made_by_the_compute_server(
    served: Served,
) -> None:
    fractions: dict[str, Any] = {"crop_x": 0.25, "crop_y": 0.5, "crop_w": 0.5, "crop_h": 0.5}
    served.found(served.send(**fractions, crop_unit="fractions"))
    assert until(lambda: served.cropped((20, 30, 40, 30))).data == STRANGER
    place = {"query_dataset": "one", "query_path": "1.jpg"}
    served.found(served.ask(**place, crop_x=1, crop_y=2, crop_w=3, crop_h=4))
    assert until(lambda: served.cropped((1, 2, 3, 4))).data == ONE["1.jpg"]


def test_auto_gives_copies_first_and_no_image_twice(served: Served) -> None:
    for answer in (
        served.send(ONE["2.jpg"], mode="auto", top_k=100),
        served.ask(content_hash=hash_bytes(ONE["2.jpg"]).hex(), mode="auto", top_k=100),
    ):
        found = served.found(answer)
        assert len(found) == len(set(found)) == len(ONE) + len(TWO)
        results = answer.json["results"]
        # Dataset two has no copy vectors, but its equal file shares those of one.
        assert {r["fname"] for r in results if r["match"] == "copy"} == {"2.jpg"}
        assert [r["match"] for r in results] == ["copy"] * 2 + ["similar"] * 7
        assert results[0]["model_id"] != results[2]["model_id"]
        assert answer.json["mode"] == "auto"
    pages = [served.send(ONE["2.jpg"], mode="auto", top_k=2, offset=o) for o in range(0, 10, 2)]
    assert [n for page in pages for n in served.found(page)] == found
    assert pages[-1].json["next_offset"] is None


def test_auto_without_copy_vectors_gives_look_alikes(served: Served) -> None:
    fields = {"content_hash": hash_bytes(TWO["6.jpg"]).hex(), "dataset_names": "two"}
    answer = served.ask(**fields, mode="auto")
    assert {r["match"] for r in answer.json["results"]} == {"similar"}
    copy = served.ask(content_hash=hash_bytes(TWO["6.jpg"]).hex(), mode="copy")
    assert (copy.status_code, copy.json["code"]) == (409, "not_indexed")
    assert "索引" in copy.json["error"]


@pytest.mark.parametrize(
    ("fields", "status", "code", "field"),
    [
        ({}, 400, "bad_field", "query_img"),
        ({"image_id": 0}, 400, "bad_field", "image_id"),
        ({"image_id": "x"}, 400, "bad_field", "image_id"),
        ({"image_id": 10**30}, 400, "bad_field", "image_id"),
        ({"image_id": [1] * 17}, 400, "bad_field", "query_img"),
        ({"image_id": 99999}, 404, "unknown_image", None),
        ({"content_hash": "abc"}, 400, "bad_field", "content_hash"),
        ({"content_hash": 7}, 400, "bad_field", "content_hash"),
        ({"content_hash": "g" * 64}, 400, "bad_field", "content_hash"),
        ({"content_hash": "a" * 64}, 404, "unknown_image", None),
        ({"query_path": "1.jpg"}, 400, "bad_field", "query_dataset"),
        ({"query_dataset": "one"}, 400, "bad_field", "query_path"),
        ({"query_dataset": "one", "query_path": "9.jpg"}, 404, "unknown_image", None),
        ({"query_dataset": "nobody", "query_path": "1.jpg"}, 404, "unknown_dataset", None),
        ({"query_dataset": "one", "query_path": "\ud800"}, 400, "bad_field", "query_path"),
        ({"image_id": 1, "dataset_names": [3]}, 400, "bad_field", "dataset_names"),
        ({"image_id": 1, "dataset_names": ["nobody"]}, 404, "unknown_dataset", None),
        ({"image_id": 1, "after": "yesterday"}, 400, "bad_field", "after"),
        ({"image_id": 1, "before": 5}, 400, "bad_field", "before"),
        ({"image_id": 1, "min_size": -1}, 400, "bad_field", "min_size"),
        ({"image_id": 1, "max_width": "wide"}, 400, "bad_field", "max_width"),
        ({"image_id": 1, "page": 2, "offset": 3}, 400, "bad_field", "page"),
        ({"image_id": 1, "page": 0}, 400, "bad_field", "page"),
        ({"image_id": 1, "mode": "best"}, 400, "bad_field", "mode"),
        ({"image_id": 1, "mode": 3}, 400, "bad_field", "mode"),
        ({"image_id": 1, "negative_weight": 2}, 400, "bad_field", "negative_weight"),
        ({"image_id": 1, "negative_id": 99999}, 404, "unknown_image", None),
        ({"image_id": 1, "crop_w": 5, "crop_unit": "feet"}, 400, "bad_field", "crop_unit"),
        (
            {"image_id": 1, "crop_x": 0.6, "crop_w": 0.5, "crop_h": 1, "crop_unit": "fractions"},
            400,
            "bad_field",
            "crop_w",
        ),
        ({"image_id": 1, "crop_x": 30, "crop_w": 30, "crop_h": 9}, 400, "bad_field", None),
        ({"query_url": "http://example.org/a.jpg"}, 403, "forbidden", None),
    ],
)
def test_wrong_fields_are_named(
    served: Served, fields: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    answer = served.ask(**fields)
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.json
    assert len(answer.json["error"]) > 20
    if field is not None:
        assert answer.json["details"]["field"] == field


@pytest.mark.parametrize("body", ["[]", "7", "{"])
def test_json_that_is_no_object_is_refused(served: Served, body: str) -> None:
    answer: Any = served.http.post("/api/search", data=body, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_field")


def test_url_is_searched_with_when_the_settings_allow_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = served.site.controller
    allowed = controller.settings.model_copy(update={"search_by_url": True})
    monkeypatch.setattr(controller, "settings", allowed)
    refused = served.ask(query_url="http://127.0.0.1:9/a.jpg")
    assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    asked: list[str] = []

    def fetch(_: RemotePictures, url: str) -> bytes:
        asked.append(url)
        return TWO["6.jpg"]

    monkeypatch.setattr(RemotePictures, "fetch", fetch)
    answer = served.ask(query_url="https://example.org/a.jpg")
    assert served.found(answer)[0] == ("two", "6.jpg")
    assert asked == ["https://example.org/a.jpg"]


def test_thumbnail_is_cached_for_ever_under_the_url_of_its_content(
    served: Served, tmp_path: Path
) -> None:
    result = served.ask(query_dataset="one", query_path="1.jpg").json["results"][0]
    answer = served.http.get(result["thumbnail_url"])
    assert (answer.status_code, answer.mimetype) == (200, "image/webp")
    assert answer.data[:4] == b"RIFF"
    assert "immutable" in answer.headers["Cache-Control"]
    tag = {"If-None-Match": answer.headers["ETag"]}
    assert served.http.get(result["thumbnail_url"], headers=tag).status_code == 304
    plain = served.http.get(f"/api/image/{result['id']}/thumbnail")
    assert (plain.data, plain.headers["Cache-Control"]) == (answer.data, "private, no-cache")
    for unknown in (99999, 10**30):
        gone: Any = served.http.get(f"/api/image/{unknown}/thumbnail")
        assert (gone.status_code, gone.json["code"]) == (404, "unknown_image")
