"""GET /metrics: what an operator's Prometheus finds."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.conftest import Site
from tests.pictures import jpeg

from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.jobs.measures import STAGE_BOUNDS_S, Measures
from futu.jobs.message import Job, ServerInfo, ServerMeasures, new_job_id
from futu.jobs.streams import JobQueue
from futu.models.registry import spec

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


class Scrape:
    """The samples of one answer."""

    def __init__(self, text: str) -> None:
        self.families = {f.name: f for f in text_string_to_metric_families(text)}
        self.samples = [s for family in self.families.values() for s in family.samples]

    def value(self, name: str, **labels: str) -> float:
        found = [
            s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()
        ]
        assert found, (name, labels)
        return math.fsum(found)


def scrape(http: FlaskClient) -> Scrape:
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return Scrape(answer.text)


@pytest.fixture
def http(site: Site) -> FlaskClient:
    return create_app(site.controller).test_client()


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    made = JobQueue(redis_url, lease_s=5)
    yield made
    made.close()


def test_builds_images_and_stages_are_counted(site: Site, http: FlaskClient) -> None:
    site.start()
    dataset = site.fill("one", {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(3)})
    site.work()
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    found = scrape(http)
    assert found.value("futu_images", dataset="one", state="ready") == 3
    assert found.value("futu_builds", state=DONE) == 1
    assert found.value("futu_index_vectors", question="similar") == 3
    assert found.value("futu_index_recall", question="similar") == 1
    assert found.value("futu_up", part="redis") == 1
    assert found.value("futu_leads") == 1
    for stage in ("catalogue", "index"):
        of = {"lane": "library", "stage": stage}
        assert found.value("futu_stage_seconds_count", **of) >= 1
        assert found.value("futu_stage_seconds_sum", **of) > 0
    assert found.value("process_resident_memory_bytes") > 0


def test_queue_depth_and_leases_are_shown(site: Site, http: FlaskClient, queue: JobQueue) -> None:
    for _ in range(3):
        queue.enqueue(Job(new_job_id(), "library", ["m"], []))
    queue.lease("library", "somebody")
    found = scrape(http)
    assert found.value("futu_queue_jobs", stream="library") == 3
    assert found.value("futu_queue_leased_jobs", stream="library") == 1
    assert found.value("futu_queue_jobs", stream="query") == 0


def test_numbers_of_compute_servers_come_with_their_registration(
    http: FlaskClient, queue: JobQueue
) -> None:
    measures = Measures()
    measures.count("reclaimed_jobs", 2)
    measures.count_vectors("lite0", 64)
    measures.observe("library", "decode", 0.02)
    measures.observe("library", "decode", 3600.0)
    for name in ("a", "b"):
        queue.servers.register(
            ServerInfo(name, "host", 1, ["lite0"], 2, time.time()),
            ServerMeasures(
                name,
                "host",
                time.time(),
                version="9.9",
                counts={**measures.counts(), "images": 64},
                vectors=measures.vectors(),
                stages=measures.stages(),
                bounds_s=list(STAGE_BOUNDS_S),
                clock_ahead_s=0.25,
            ),
        )
    found = scrape(http)
    assert found.value("futu_compute_servers") == 2
    assert found.value("futu_compute_images_total", server="a") == 64
    assert found.value("futu_compute_vectors_total", model="lite0") == 128
    assert found.value("futu_compute_reclaimed_jobs_total", server="b") == 2
    assert found.value("futu_compute_dead_letters_total", server="b") == 0
    assert found.value("futu_compute_clock_ahead_seconds", server="a") == 0.25
    assert found.value("futu_compute_info", server="a", version="9.9") == 1
    decode: dict[str, Any] = {"server": "a", "lane": "library", "stage": "decode"}
    assert found.value("futu_stage_seconds_bucket", le="0.01", **decode) == 0
    assert found.value("futu_stage_seconds_bucket", le="0.025", **decode) == 1
    assert found.value("futu_stage_seconds_bucket", le="30.0", **decode) == 1
    assert found.value("futu_stage_seconds_bucket", le="+Inf", **decode) == 2
    queue.servers.unregister("a")
    assert scrape(http).value("futu_compute_servers") == 1


def test_stages_counted_in_other_classes_are_left_out(http: FlaskClient, queue: JobQueue) -> None:
    measures = Measures()
    measures.observe("query", "decode", 1.0)
    other = ServerMeasures("a", "host", 0.0, stages=measures.stages(), bounds_s=[1.0, 2.0])
    queue.servers.register(ServerInfo("a", "host", 1, [], 2, 0.0), other)
    assert not [
        s for s in scrape(http).samples if s.name.startswith("futu_stage") and "server" in s.labels
    ]


def test_requests_are_counted_by_route_and_not_by_path(http: FlaskClient) -> None:
    for path in ("/show_image/x/a.jpg", "/show_image/y/b.jpg", "/nothing/1", "/nothing/2"):
        assert http.get(path).status_code == 404
    http.open("/api/datasets", method="BREW")
    found = scrape(http)
    shown = {"route": "/show_image/<dataset_name>/<path:path>", "method": "GET"}
    assert found.value("futu_http_requests_total", status="404", **shown) == 2
    assert found.value("futu_http_request_seconds_count", **shown) == 2
    assert found.value("futu_http_requests_total", route="none", method="GET") == 2
    assert found.value("futu_http_requests_total", method="other", status="405") == 1


def test_metrics_without_redis_say_so_and_have_the_rest(tmp_path: Path, site: Site) -> None:
    away = Site(tmp_path / "away", f"unix://{tmp_path}/nobody.sock")
    try:
        found = scrape(create_app(away.controller).test_client())
        assert found.value("futu_up", part="redis") == 0
        assert found.value("futu_up", part="catalogue") == 1
        assert found.value("futu_compute_servers") == 0
        assert not found.families["futu_images"].samples
    finally:
        away.close()


def test_metrics_need_the_token_from_elsewhere(site: Site, http: FlaskClient) -> None:
    assert http.get("/metrics", environ_overrides=ELSEWHERE).status_code == 401
    headers = {"Authorization": f"Bearer {site.controller.token}"}
    answer = http.get("/metrics", environ_overrides=ELSEWHERE, headers=headers)
    assert answer.status_code == 200


def test_openmetrics_is_spoken_when_asked_for(http: FlaskClient) -> None:
    answer = http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_every_metric_of_the_dashboard_exists_with_the_labels_it_uses(
    site: Site, http: FlaskClient, queue: JobQueue
) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "futu.json").read_text("utf-8"))
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    assert len(expressions) > 30
    register_with_every_measure(queue)
    site.start()
    dataset = site.fill("one", {"a.jpg": jpeg(1, (40, 30))})
    site.controller.ingest.start(dataset)
    lease = site.lease()
    found = scrape(http)
    site.deliver(lease)
    site.await_state(dataset, DONE)
    samples = [*found.samples, *scrape(http).samples]
    labels: dict[str, set[str]] = {}
    for sample in samples:
        labels.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    # Measured only of an index too large for a test.
    labels["futu_index_search_seconds"] = labels["futu_index_recall"]
    assert "futu_index_search_seconds" in found.families
    for expression in expressions:
        names = re.findall(r"\b(?:futu|process)_\w+", expression)
        assert names, expression
        used = {
            label.strip()
            for group in re.findall(r"by \(([^)]*)\)", expression)
            for label in group.split(",")
        } | set(re.findall(r"(\w+)=~?\"", expression))
        for name in names:
            assert name in labels, f"{name} in {expression}"
            assert used <= labels[name], f"{used - labels[name]} of {name} in {expression}"
    stages = {(s.labels["lane"], s.labels["stage"]) for s in samples if "stage" in s.labels}
    for expression in expressions:
        for stage, lane in re.findall(r'stage="(\w+)", lane="(\w+)"', expression):
            assert (lane, stage) in stages | CONTROLLER_STAGES, expression


CONTROLLER_STAGES = {("query", "answer"), ("query", "index"), ("query", "catalogue")}


def register_with_every_measure(queue: JobQueue) -> None:
    """A compute server that has measured all that one measures."""
    measures = Measures()
    for lane in ("library", "query"):
        for stage in ("queue_wait", "decode", "model", "deliver"):
            measures.observe(lane, stage, 0.01)
    measures.count_vectors("lite0", 1)
    queue.servers.register(
        ServerInfo("full", "host", 1, ["lite0", spec().model_id], 2, time.time()),
        ServerMeasures(
            *("full", "host", time.time()),
            vectors=measures.vectors(),
            stages=measures.stages(),
            bounds_s=list(STAGE_BOUNDS_S),
            clock_ahead_s=0.0,
        ),
    )
