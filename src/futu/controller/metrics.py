"""Numbers for Prometheus: this controller's, and those that Redis and the catalogue have of all.

Requests and stages are counted as they happen; everything else is looked up when it is asked for,
so that it costs nothing meanwhile. What cannot be looked up is left out, and ``futu_up`` says so.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from futu import __version__
from futu.errors import FutuError
from futu.jobs.measures import STAGE_BOUNDS_S
from futu.jobs.message import ServerMeasures, StageTimes

if TYPE_CHECKING:
    from futu.controller.service import Controller

log = logging.getLogger(__name__)

_HTTP_BOUNDS_S = tuple(bound for bound in STAGE_BOUNDS_S if bound >= 0.001)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SERVER_COUNTS = {
    "images": "pictures of datasets that were done",
    "queries": "pictures of queries that were done",
    "failed_images": "pictures that could not be used",
    "reclaimed_jobs": "jobs taken over because they were given back or their holder was silent",
    "retried_jobs": "jobs given back to be tried again, for no fault of a picture",
    "apart_jobs": "jobs done in a process apart",
    "dead_letters": "pictures put aside because workers died over them",
    "lost_leases": "jobs whose result was dropped because another had taken them over",
}
_SERVER = ("server", "host")


class Metrics(Collector):
    """The numbers of a controller.

    Args:
        controller: started or not.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._name = f"controller-{socket.gethostname()}-{controller.settings.port}"
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "futu_http_requests", "HTTP requests answered", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "futu_http_request_seconds",
            "how long they took",
            ("method", "route"),
            buckets=_HTTP_BOUNDS_S,
            registry=self._registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is the template, None when there is no such route."""
        key = (method if method in _METHODS else "other", route or "none", status)
        children = self._children.get(key)
        if children is None:
            of_status = self._requests.labels(*map(str, key))
            children = self._children[key] = of_status, self._seconds.labels(*key[:2])
        children[0].inc()
        children[1].observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All numbers in a text format of Prometheus, and its content type.

        Args:
            accept: the header ``Accept`` of the request.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is would have to be looked up."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What is looked up now."""
        controller = self._controller
        yield InfoMetricFamily("futu", "this controller", {"version": __version__})
        yield _gauge("futu_leads", "whether this controller runs the builds", controller.leads)
        stages = [((self._name, socket.gethostname()), controller.measures.stages())]
        up = GaugeMetricFamily("futu_up", "whether a part can be used", labels=("part",))
        for part, look in (
            ("redis", self._queue),
            ("catalogue", self._catalogue),
            ("index", self._index),
        ):
            try:
                yield from look()
                up.add_metric([part], 1)
            except FutuError as error:
                log.debug("no metrics of the %s: %s", part, error)
                up.add_metric([part], 0)
        yield up
        yield from self._servers(stages)

    def _queue(self) -> Iterator[Metric]:
        depths = self._controller.jobs.depths()
        jobs = GaugeMetricFamily(
            "futu_queue_jobs", "jobs on a stream, waiting or leased", labels=("stream",)
        )
        leased = GaugeMetricFamily(
            "futu_queue_leased_jobs", "jobs in the hands of compute servers", labels=("stream",)
        )
        for stream, count in depths.jobs.items():
            jobs.add_metric([stream], count)
            leased.add_metric([stream], depths.leased[stream])
        yield from (jobs, leased)
        yield _gauge(
            "futu_uncollected_results", "results that wait for the collector", depths.uncollected
        )
        yield _gauge("futu_dead_letters", "pictures that are put aside", depths.dead)

    def _catalogue(self) -> Iterator[Metric]:
        catalogue = self._controller.catalogue
        images = GaugeMetricFamily(
            "futu_images", "files in the catalogue", labels=("dataset", "state")
        )
        for of, count in catalogue.state_counts().items():
            images.add_metric(of, count)
        builds = GaugeMetricFamily("futu_builds", "builds, as recorded", labels=("state",))
        for state, count in catalogue.build_counts().items():
            builds.add_metric([state], count)
        done = GaugeMetricFamily(
            "futu_build_done_images", "images done by a build under way", labels=("dataset",)
        )
        total = GaugeMetricFamily(
            "futu_build_total_images", "images of a build under way", labels=("dataset",)
        )
        for dataset, record in self._controller.ingest.under_way():
            done.add_metric([dataset], record.current)
            total.add_metric([dataset], record.total)
        yield from (images, builds, done, total)

    def _index(self) -> Iterator[Metric]:
        labels = ("question", "model", "kind")
        vectors = GaugeMetricFamily("futu_index_vectors", "vectors in an index", labels=labels)
        memory = GaugeMetricFamily("futu_index_memory_bytes", "memory it takes", labels=labels)
        recall = GaugeMetricFamily(
            "futu_index_recall",
            "recall@10, as last measured; exact ones have 1",
            labels=labels,
        )
        search = GaugeMetricFamily(
            "futu_index_search_seconds", "median of a search, as last measured", labels=labels
        )
        unsaved = GaugeMetricFamily(
            "futu_index_save_failed", "whether it could not be written", labels=labels
        )
        for model in self._controller.serving.in_use().values():
            live = self._controller.indexes.of_model.get(model.model_id)
            if live is None:
                continue  # it is to serve, and its index is not loaded yet
            this = (model.question, live.model_id, live.index.kind)
            count = live.known_count()
            if count is not None:
                vectors.add_metric(this, count)
            memory.add_metric(this, live.index.memory_bytes())
            unsaved.add_metric(this, bool(live.save_error))
            measured = live.keeper.measured
            if measured is not None and measured.queries:
                recall.add_metric(this, measured.recall)
                search.add_metric(this, measured.p50_ms / 1000)
            elif live.searched_exactly:
                recall.add_metric(this, 1)
        yield from (vectors, memory, recall, search, unsaved)

    def _servers(self, stages: list[tuple[tuple[str, str], list[StageTimes]]]) -> Iterator[Metric]:
        """What compute servers have measured, and the stages of all together."""
        try:
            # Those of schema 3 measure nothing.
            alive = len(self._controller.queue.servers.alive())
            servers = self._controller.queue.servers.measures()
        except FutuError:
            alive, servers = 0, []
        yield _gauge("futu_compute_servers", "compute servers that are alive", alive)
        facts = InfoMetricFamily("futu_compute", "a compute server", labels=_SERVER)
        workers = GaugeMetricFamily("futu_compute_workers", "its threads", labels=_SERVER)
        memory = GaugeMetricFamily("futu_compute_resident_bytes", "its memory", labels=_SERVER)
        begun = GaugeMetricFamily(
            "futu_compute_start_time_seconds", "since the epoch", labels=_SERVER
        )
        clock = GaugeMetricFamily(
            "futu_compute_clock_ahead_seconds", "of its clock before that of Redis", labels=_SERVER
        )
        cpu = CounterMetricFamily("futu_compute_cpu_seconds", "its processor time", labels=_SERVER)
        vectors = CounterMetricFamily(
            "futu_compute_vectors", "vectors computed by a model", labels=(*_SERVER, "model")
        )
        for server in servers:
            this = (server.server, server.host)
            facts.add_metric(this, {"version": server.version})
            workers.add_metric(this, server.workers)
            memory.add_metric(this, server.resident_bytes)
            begun.add_metric(this, server.started_at)
            cpu.add_metric(this, server.cpu_s)
            if server.clock_ahead_s is not None:
                clock.add_metric(this, server.clock_ahead_s)
            for model_id, count in server.vectors.items():
                vectors.add_metric((*this, model_id), count)
            # One of another version may count in other classes than ours.
            if tuple(server.bounds_s) == STAGE_BOUNDS_S:
                stages.append((this, server.stages))
        yield from (facts, workers, memory, begun, clock, cpu, vectors)
        yield from _server_counts(servers)
        yield _stage_seconds(stages)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _server_counts(servers: list[ServerMeasures]) -> Iterator[Metric]:
    for name, what in _SERVER_COUNTS.items():
        family = CounterMetricFamily(f"futu_compute_{name}", what, labels=_SERVER)
        for server in servers:
            family.add_metric((server.server, server.host), server.counts.get(name, 0))
        yield family


def _stage_seconds(stages: list[tuple[tuple[str, str], list[StageTimes]]]) -> Metric:
    family = HistogramMetricFamily(
        "futu_stage_seconds",
        "how long a stage takes: a job (queue_wait, answer), a picture (decode), a batch (model), "
        "some results (deliver, catalogue, index) or a search (catalogue, index)",
        labels=(*_SERVER, "lane", "stage"),
    )
    bounds = [*map(str, STAGE_BOUNDS_S), "+Inf"]
    for server, found in stages:
        for times in found:
            buckets = list(zip(bounds, accumulate(times.counts), strict=True))
            family.add_metric((*server, times.lane, times.stage), buckets, times.sum_s)
    return family
