"""A controller whose compute servers do not keep up: 429 when full, 504 when late, no key left."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.contract.conftest import answer
from tests.integration.conftest import vector_of
from tests.integration.played import register, work
from tests.pictures import jpeg

from futu import config
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.jobs.message import ItemResult, JobResult

PICTURE = jpeg(1)
PADDED = PICTURE + bytes(700_000)


@pytest.fixture
def controller(tmp_path: Path, redis_url: str) -> Iterator[Controller]:
    """With a dataset that has one searchable image, and a compute server that does nothing."""
    settings = config.load(
        data_dir=tmp_path / "data",
        datasets_dir=tmp_path / "datasets",
        redis_url=redis_url,
        queue_bytes=1024 * 1024,
        feature_timeout=0.4,
        batch_feature_timeout=0.3,
    )
    made = Controller(settings)
    folder = tmp_path / "datasets" / "one"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(PICTURE)
    made.start()
    dataset = made.dataset("one")
    made.ingest.start(dataset)
    work(made, dataset)
    register(made)
    yield made
    made.stop()


@pytest.fixture
def http(controller: Controller) -> FlaskClient:
    return create_app(controller).test_client()


def feature(http: FlaskClient, path: Path, **fields: Any) -> Any:
    body = {"image_path": str(path), **fields}
    return http.post("/api/compute/feature_extraction", json=body)


def search(http: FlaskClient) -> Any:
    return http.post("/api/search", data={"query_img": (io.BytesIO(PICTURE), "q.jpg")})


def test_late_answer_is_504_and_leaves_nothing_behind(
    http: FlaskClient, controller: Controller
) -> None:
    path = controller.settings.datasets_dir / "one" / "a.jpg"
    found = feature(http, path)
    assert (found.status_code, found.json["code"]) == (504, "timeout")
    assert "0.4 s" in found.json["error"]
    assert set(controller.queue.depth().values()) == {0}


def test_timeout_of_the_request_is_honoured_and_a_late_worker_is_refused(
    http: FlaskClient, controller: Controller
) -> None:
    path = controller.settings.datasets_dir / "one" / "a.jpg"
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(feature(http, path, timeout=0.2)))
    caller.start()
    (lease,) = controller.queue.lease("query", "slow", block_s=5)
    caller.join()
    assert answers[0].status_code == 504
    assert "0.2 s" in answers[0].json["error"]
    assert not controller.queue.deliver(lease, answer(lease.job))
    assert not controller.queue.locks.is_locked(lease.job.job_id)
    assert list(controller.queue.redis.scan_iter("result:*")) == []


def test_batch_that_is_late_says_so_for_each_path(
    http: FlaskClient, controller: Controller
) -> None:
    path = str(controller.settings.datasets_dir / "one" / "a.jpg")
    body = {"image_paths": [path, path + "x"], "timeout": 0.2}
    found: Any = http.post("/api/compute/batch_feature_extraction", json=body).json
    assert [entry["code"] for entry in found["results"]] == ["timeout", "missing_file"]


def test_full_queue_is_429_with_the_time_to_try_again(
    http: FlaskClient, controller: Controller
) -> None:
    path = controller.settings.datasets_dir / "one" / "large.jpg"
    path.write_bytes(PADDED)
    first: list[Any] = []
    caller = threading.Thread(target=lambda: first.append(feature(http, path, timeout=5)))
    caller.start()
    (lease,) = controller.queue.lease("query", "slow", block_s=5)
    found = feature(http, path)
    assert (found.status_code, found.json["code"]) == (429, "queue_full")
    assert int(found.headers["Retry-After"]) >= 1
    model = controller.models["similar"]
    vectors = {model.model_id: vector_of(b"large", model.dimension)}
    good = JobResult(lease.job.job_id, "slow", [ItemResult(vectors)])
    assert controller.queue.deliver(lease, good)
    caller.join()
    assert first[0].status_code == 200


def test_search_that_is_late_is_504_and_leaves_nothing_behind(
    http: FlaskClient, controller: Controller
) -> None:
    found = search(http)
    assert (found.status_code, found.json["code"]) == (504, "timeout")
    assert "0.4 s" in found.json["error"]
    assert set(controller.queue.depth().values()) == {0}


def test_batch_without_a_timeout_has_the_one_of_the_settings(
    http: FlaskClient, controller: Controller
) -> None:
    path = str(controller.settings.datasets_dir / "one" / "a.jpg")
    found = http.post("/api/compute/batch_feature_extraction", json={"image_paths": [path]})
    body: Any = found.json
    (entry,) = body["results"]
    assert entry["code"] == "timeout"
    assert 0.2 < entry["details"]["timeout_s"] <= 0.3


def test_without_compute_server_searches_and_features_are_503_at_once(
    http: FlaskClient, controller: Controller
) -> None:
    controller.queue.servers.unregister("s")
    path = str(controller.settings.datasets_dir / "one" / "a.jpg")
    batch = {"image_paths": [path], "timeout": 60}
    answers: list[Any] = [
        feature(http, Path(path), timeout=60),
        http.post("/api/compute/batch_feature_extraction", json=batch),
        search(http),
    ]
    for found in answers:
        assert (found.status_code, found.json["code"]) == (503, "no_compute_server")
    assert set(controller.queue.depth().values()) == {0}
