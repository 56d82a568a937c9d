"""What is there already: checking pictures, leakage between datasets, thresholds of a dataset."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from tests.integration.conftest import Site, Worker
from tests.pictures import jpeg
from werkzeug.test import create_environ

from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.images.folder import hash_bytes
from futu.jobs.connection import connect
from futu.jobs.message import ImageItem, ItemError, ItemResult, Job, JobResult
from futu.models.registry import spec

SIMILAR, COPY = spec("efficientnet-lite0"), spec("sscd-distilled")
TRAIN = {f"{n}.jpg": jpeg(500 + n, (40, 30)) for n in range(6)}
BAD = jpeg(903, (40, 30))
"""Its header is good, so only a compute server finds out."""


def edited(data: bytes, cosine: float = 1.0) -> bytes:
    """Other bytes, whose vector for copy has this cosine to that of the original."""
    return data + f"#copy:{cosine:.6f}".encode()


def copy_vector(data: bytes) -> np.ndarray[Any, Any]:
    original, _, cosine = data.partition(b"#copy:")
    random = np.random.default_rng(list(hash_bytes(original)))
    own, other = random.normal(size=(2, COPY.dimension))
    own /= np.linalg.norm(own)
    other -= (other @ own) * own
    share = float(cosine or b"1")
    return np.asarray(share * own + (1 - share**2) ** 0.5 * other / np.linalg.norm(other), "<f4")


def result(item: ImageItem, models: list[str]) -> ItemResult:
    data = item.data if item.data is not None else Path(item.path.decode()).read_bytes()  # type: ignore[union-attr]
    if data == BAD:
        return ItemResult(error=ItemError("cannot_decode", "It is broken."))
    plain = np.zeros(SIMILAR.dimension, "<f4")
    plain[hash_bytes(data)[0]] = 1
    vectors = {SIMILAR.model_id: plain.tobytes(), COPY.model_id: copy_vector(data).tobytes()}
    kept = {model: vector for model, vector in vectors.items() if model in models}
    return ItemResult(kept, None, hash_bytes(data), 40, 30)


class Served:
    """A controller with the datasets train, test and plain; the last has no copy vectors."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.site = Site(folder, redis_url)
        self.site.start()
        self.app = create_app(self.site.controller)
        self.http: FlaskClient = self.app.test_client()
        self.worker = Worker(
            self.site.controller.queue,
            lambda job: JobResult(job.job_id, "w", [result(i, job.model_ids) for i in job.items]),
            "w",
            [SIMILAR.model_id, COPY.model_id],
            ("query", "library", "inline"),
        )
        test = {
            "equal.jpg": TRAIN["0.jpg"],
            "near.jpg": edited(TRAIN["1.jpg"], 0.9),
            "far.jpg": edited(TRAIN["2.jpg"], 0.6),
            "below.jpg": edited(TRAIN["3.jpg"], COPY.scale.cosine(95) - 0.01),
            "new.jpg": jpeg(900, (40, 30)),
        }
        self.build("train", {**TRAIN, "again.jpg": TRAIN["0.jpg"]}, "similar", "copy")
        self.build("test", test, "similar", "copy")
        self.build("plain", {"p.jpg": jpeg(950, (40, 30))}, "similar")

    def build(self, name: str, contents: dict[str, bytes], *questions: str) -> None:
        dataset = self.site.fill(name, contents)
        body = {"dataset_names": [name], "questions": list(questions)}
        assert self.http.post("/api/build_index", json=body).status_code == 200
        self.site.await_state(dataset, DONE)

    def check(self, **fields: Any) -> Any:
        return self.http.post("/api/duplicates/check", json={"dataset_names": ["train"], **fields})

    def send(self, *files: bytes, **fields: Any) -> Any:
        images = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files)]
        form = {"dataset_names[]": ["train"], **fields, "images": images}
        return self.http.post("/api/duplicates/check", data=form)

    def lines(self, route: str, **fields: Any) -> list[dict[str, Any]]:
        answer = self.http.post(f"/api/duplicates/{route}", json=fields)
        assert answer.status_code == 200, answer.json
        return [json.loads(line) for line in answer.text.splitlines()]

    def asked(self) -> list[Job]:
        return [job for job in self.worker.done if not job.collect]

    def close(self) -> None:
        self.worker.stop()
        self.site.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, valkey: str) -> Iterator[Served]:
    client = connect(valkey)
    client.flushall()
    client.close()
    made = Served(tmp_path_factory.mktemp("known"), valkey)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def uncalibrated(served: Served) -> Iterator[None]:
    yield
    served.http.delete("/api/calibration/train")


def statuses(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json
    return [entry["status"] for entry in answer.json["results"]]


def test_equal_bytes_are_known_without_a_model(served: Served) -> None:
    before = len(served.asked())
    digest = hash_bytes(TRAIN["0.jpg"]).hex()
    answer = served.check(hashes=[digest, "ab" * 32])
    assert statuses(answer) == ["known", "new"]
    matches = answer.json["results"][0]["matches"]
    assert {m["path"] for m in matches} == {"0.jpg", "again.jpg"}
    assert {(m["tier"], m["similarity"], m["dataset"]) for m in matches} == {
        ("exact", 100.0, "train")
    }
    assert statuses(served.send(TRAIN["0.jpg"])) == ["known"]
    assert len(served.asked()) == before


def test_edited_copies_are_known_from_the_threshold_on(served: Served) -> None:
    normal = COPY.scale.cosine(95)
    above, below = (edited(TRAIN["3.jpg"], normal + change) for change in (0.01, -0.01))
    answer = served.send(above, below, jpeg(901, (40, 30)))
    assert statuses(answer) == ["known", "new", "new"]
    (match,) = answer.json["results"][0]["matches"]
    assert (match["path"], match["tier"]) == ("3.jpg", "near")
    assert 95 < match["similarity"] < 96
    assert match["cosine"] == pytest.approx(normal + 0.01, abs=1e-3)
    assert statuses(served.send(below, preset="loose")) == ["known"]
    assert statuses(served.send(above, threshold="99")) == ["new"]


def test_broken_picture_is_an_entry_and_others_are_checked(served: Served) -> None:
    near = edited(TRAIN["1.jpg"])
    answer = served.send(b"no picture", near, BAD)
    assert statuses(answer) == ["error", "known", "error"]
    first, _, last = answer.json["results"]
    assert (first["code"], last["code"]) == ("not_an_image", "cannot_decode")
    assert (answer.json["known"], answer.json["new"], answer.json["errors"]) == (1, 0, 2)


def test_nothing_is_stored(served: Served) -> None:
    controller = served.site.controller
    catalogue, copy = controller.catalogue, controller.models["copy"].model_id
    before = (catalogue.image_counts(), len(controller.indexes.of_model[copy].index))
    served.send(jpeg(902, (40, 30)), edited(TRAIN["1.jpg"]))
    after = (catalogue.image_counts(), len(controller.indexes.of_model[copy].index))
    assert after == before


def test_files_are_checked_by_path_inside_the_roots_only(served: Served) -> None:
    folder = served.site.settings.datasets_dir / "test"
    answer = served.check(paths=[str(folder / "near.jpg"), "/etc/passwd", str(folder / "none")])
    assert statuses(answer) == ["known", "error", "error"]
    codes = [entry.get("code") for entry in answer.json["results"]]
    assert codes == [None, "outside_roots", "missing_file"]


def test_folder_is_answered_line_by_line(served: Served) -> None:
    folder = str(served.site.settings.datasets_dir / "test")
    lines = served.lines("check", folder=folder, dataset_names=["train"])
    files = {line["name"]: line["status"] for line in lines if line["type"] == "file"}
    assert files == {
        "equal.jpg": "known",
        "near.jpg": "known",
        "far.jpg": "new",
        "new.jpg": "new",
        "below.jpg": "new",
    }
    assert [line["type"] for line in lines[-2:]] == ["progress", "end"]
    end = lines[-1]
    assert (end["checked"], end["known"], end["new"], end["errors"]) == (5, 2, 3, 0)


def test_dataset_without_copy_vectors_is_told_of(served: Served) -> None:
    answer = served.send(
        jpeg(950, (40, 30)), edited(jpeg(950, (40, 30))), **{"dataset_names[]": ["plain"]}
    )
    assert statuses(answer) == ["known", "new"]
    assert answer.json["results"][1]["compared"] == "bytes"
    assert answer.json["edited_copies"] is False
    for part in ("plain", "futu models pull sscd-distilled", "--questions similar,copy"):
        assert part in answer.json["note"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"threshold": 49}, "threshold"),
        ({"threshold": 101}, "threshold"),
        ({"preset": "sloppy"}, "preset"),
        ({"hashes": ["xyz"]}, "hashes"),
        ({"paths": [7]}, "paths"),
        ({"hashes": ["ab" * 32] * 1001}, "images"),
        ({}, "images"),
        ({"folder": "/etc"}, None),
        ({"dataset_names": ["nobody"], "hashes": ["ab" * 32]}, None),
    ],
)
def test_what_cannot_be_asked_is_refused(
    served: Served, fields: dict[str, Any], field: str | None
) -> None:
    answer = served.check(**fields)
    assert answer.status_code in (400, 403, 404)
    assert answer.json["details"].get("field") == field


def test_two_long_answers_at_once_and_a_place_is_free_when_one_ends(served: Served) -> None:
    def begin() -> Any:
        return served.http.post(
            "/api/duplicates/leakage", json={"dataset": "test", "against": ["train"]}
        )

    first, second = begin(), begin()
    refused = begin()
    assert (refused.status_code, refused.json["code"]) == (409, "busy")
    first.close()
    assert second.text
    assert begin().text
    assert begin().text


def test_long_answer_that_nobody_begins_to_read_leaves_its_place(served: Served) -> None:
    app: Any = served.app
    local = {"REMOTE_ADDR": "127.0.0.1"}
    body = {"dataset": "test", "against": ["train"]}
    said: list[str] = []
    for _ in range(3):
        environ = create_environ(
            "/api/duplicates/leakage", method="POST", json=body, environ_base=local
        )
        app(environ, lambda status, *_: said.append(status)).close()
    assert said == ["200 OK"] * 3


def test_leakage_finds_equal_and_edited_pictures(served: Served) -> None:
    lines = served.lines("leakage", dataset="test", against=["train"])
    leaks = {line["path"]: line["matches"] for line in lines if line["type"] == "leak"}
    assert set(leaks) == {"equal.jpg", "near.jpg"}
    assert {m["path"] for m in leaks["equal.jpg"]} == {"0.jpg", "again.jpg"}
    assert {m["tier"] for m in leaks["equal.jpg"]} == {"exact"}
    (near,) = leaks["near.jpg"]
    assert (near["path"], near["tier"]) == ("1.jpg", "near")
    assert near["similarity"] == pytest.approx(COPY.scale.similarity(0.9), abs=0.1)
    end = lines[-1]
    assert [end[k] for k in ("type", "images", "leaked", "exact", "near")] == ["end", 5, 2, 1, 1]
    loose = served.lines("leakage", dataset="test", against=["train"], threshold=80)
    assert loose[-1]["near"] == 3


def test_leakage_needs_two_datasets_and_an_index(served: Served) -> None:
    def ask(**fields: Any) -> Any:
        return served.http.post("/api/duplicates/leakage", json=fields)

    assert ask(dataset="test", against=["test"]).status_code == 400
    assert ask(against=["test"]).json["details"] == {"field": "dataset"}
    assert ask(dataset="nobody").status_code == 404
    served.site.fill("unbuilt", {"a.jpg": TRAIN["0.jpg"]})
    answer = ask(dataset="unbuilt", against=["train"])
    assert (answer.status_code, "索引" in answer.json["error"]) == (409, True)
    lines = served.lines("leakage", dataset="plain", against=["train"])
    assert "plain" in lines[-1]["note"]


FACTS = {"model_id": COPY.model_id, "presets": {"strict": 0.97, "normal": 0.95, "loose": 0.3}}


def test_calibration_decides_what_presets_mean_for_its_dataset(served: Served) -> None:
    near = edited(TRAIN["4.jpg"], 0.9)
    assert served.http.get("/api/calibration/train").status_code == 404
    kept: Any = served.http.put("/api/calibration/train", json=FACTS).json
    assert kept["presets"] == FACTS["presets"]
    assert kept["similarities"]["normal"] == COPY.scale.similarity(0.95)
    assert statuses(served.send(near)) == ["new"]
    assert statuses(served.send(edited(TRAIN["1.jpg"], 0.35), preset="loose")) == ["known"]
    assert statuses(served.send(near, threshold="95")) == ["known"]
    # Of several datasets all must have been measured.
    assert statuses(served.send(near, **{"dataset_names[]": ["train", "test"]})) == ["known"]
    rule = served.site.controller.calibrations.rule
    train = served.site.controller.dataset("train").id
    assert rule("normal", None, [train]).sure == 0.95
    assert rule("normal", None, []).sure == 0.75
    assert rule("normal", 95, [train]).sure == pytest.approx(COPY.scale.cosine(95))
    assert served.http.delete("/api/calibration/train").json == {"forgotten": True}
    assert served.http.delete("/api/calibration/train").json == {"forgotten": False}
    assert statuses(served.send(near)) == ["known"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model_id": "another-12345678"},
        {"presets": {"strict": 0.9, "normal": 0.8}},
        {"presets": {"strict": 0.7, "normal": 0.8, "loose": 0.6}},
        {"presets": {"strict": 1.2, "normal": 0.8, "loose": 0.6}},
        {"presets": {"strict": True, "normal": 0.8, "loose": 0.6}},
        {"presets": [0.9, 0.8, 0.7]},
    ],
)
def test_calibration_that_makes_no_sense_is_refused(
    served: Served, changes: dict[str, Any]
) -> None:
    answer: Any = served.http.put("/api/calibration/train", json=FACTS | changes)
    assert answer.status_code == 400
    assert answer.json["details"]["field"] in changes


def test_sample_has_each_content_once_and_is_the_same_for_a_seed(served: Served) -> None:
    def sample(**how: int) -> list[str]:
        answer: Any = served.http.get("/api/calibration/train/sample", query_string=how)
        assert answer.status_code == 200, answer.json
        return [image["path"] for image in answer.json["images"]]

    everything = sample(count=100)
    assert len(everything) == len(TRAIN)
    assert ("0.jpg" in everything) != ("again.jpg" in everything)
    assert sample(count=3) == sample(count=3)
    assert len({tuple(sample(count=3, seed=seed)) for seed in range(8)}) > 1
    assert served.http.get("/api/calibration/plain/sample").status_code == 409


def test_similarity_stands_for_the_same_in_each_mode(served: Served) -> None:
    upload = edited(TRAIN["4.jpg"], COPY.scale.cosine(97))
    form = {"query_img": (io.BytesIO(upload), "q.jpg"), "mode": "auto", "dataset_names[]": "train"}
    answer: Any = served.http.post("/api/search", data=form)
    first = answer.json["results"][0]
    assert (first["fname"], first["match"]) == ("4.jpg", "copy")
    assert first["similarity"] == pytest.approx(97, abs=0.1)
    for result in answer.json["results"][1:]:
        assert result["match"] == "similar"
        assert result["similarity"] == SIMILAR.scale.similarity(result["cosine"])


@pytest.mark.parametrize(("shown", "match"), [(95.3, "copy"), (94.7, None)])
def test_auto_calls_a_copy_what_has_the_similarity_of_the_same_picture(
    served: Served, shown: float, match: str | None
) -> None:
    upload = edited(TRAIN["5.jpg"], COPY.scale.cosine(shown))
    form = {"query_img": (io.BytesIO(upload), "q.jpg"), "mode": "auto", "dataset_names[]": "train"}
    answer: Any = served.http.post("/api/search", data=form)
    copies = [r["fname"] for r in answer.json["results"] if r["match"] == "copy"]
    assert copies == (["5.jpg"] if match else [])
