"""A controller that finds duplicates among files that say what they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.integration.conftest import Site, Worker, seen

from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import DONE
from futu.controller.app import create_app
from futu.images.folder import hash_bytes
from futu.index.base import Floats
from futu.jobs.message import ImageItem, ItemResult, Job, JobResult, Stream
from futu.models.spec import Question

BOTH: tuple[Question, ...] = ("similar", "copy")


def unit(seed: bytes, dimension: int) -> Floats:
    vector = np.random.default_rng(list(hash_bytes(seed))).normal(size=dimension)
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def vector(data: bytes, dimension: int) -> bytes:
    name, cosine, *_ = [*data.split(), b"1"]
    near = 1.0 if cosine == b"=" else float(cosine)
    base, other = unit(name, dimension), unit(data, dimension)
    away = other - (other @ base) * base
    away /= np.linalg.norm(away)
    return np.asarray(near * base + np.sqrt(1 - near**2) * away, "<f4").tobytes()


class Desk:
    """A site with its API, and a compute server that reads what files say.

    Attributes:
        hashed: names of the files whose pixels were hashed.
        said: content hash -> what a file says, if not what is in it.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        models = site.controller.models
        self.dimensions = {m.model_id: m.dimension for m in models.values()}
        self.workers: list[Worker] = []
        self.hashed: list[str] = []
        self.said: dict[bytes, bytes] = {}
        site.start()

    def work(self) -> None:
        streams: tuple[Stream, ...] = ("query", "library", "inline")
        queue = self.site.controller.queue
        self.workers.append(Worker(queue, self.answer, "w", list(self.dimensions), streams))

    def rest(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.workers.clear()

    def answer(self, job: Job) -> JobResult:
        return JobResult(job.job_id, "w", [self.item(item, job) for item in job.items])

    def item(self, item: ImageItem, job: Job) -> ItemResult:
        data = (
            item.data if item.data is not None else Path(os.fsdecode(item.path or b"")).read_bytes()
        )
        data = self.said.get(hash_bytes(data), data)
        result = ItemResult(content_hash=seen(item), width=320, height=240)
        if job.pixels:
            self.hashed.append(item.name)
            name, cosine, *_ = [*data.split(), b"1"]
            result.pixel_hash = hash_bytes(name if cosine in (b"=", b"1") else data)
        result.vectors = {m: vector(data, self.dimensions[m]) for m in job.model_ids}
        return result

    def fill(
        self, name: str, contents: dict[str, bytes], questions: tuple[Question, ...] = BOTH
    ) -> DatasetRecord:
        """A dataset that is indexed."""
        dataset = self.site.fill(name, contents)
        controller = self.site.controller
        controller.ingest.start(dataset, questions=questions)
        progress = self.site.await_state(dataset, DONE)
        assert progress["failed"] == 0
        return dataset

    def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        client = create_app(self.site.controller).test_client()
        answer = client.open(path, method=method, json=body)
        assert answer.status_code == status, answer.text
        return answer.get_json()

    def begin(self, **body: object) -> int:
        return int(self.call("POST", "/api/duplicates", body, 202)["id"])

    def ended(self, run_id: int) -> Any:
        def look() -> Any:
            run = self.call("GET", f"/api/duplicates/{run_id}")
            return run if run["state"] != "running" else None

        return until(look)

    def find(self, **body: object) -> Any:
        """A run that is done."""
        run = self.ended(self.begin(**body))
        assert run["state"] == "done", run
        return run

    def groups(self, run: Any, query: str = "") -> Any:
        return self.call("GET", f"/api/duplicates/{run['id']}/groups{query}")["groups"]

    def names(self, run: Any, query: str = "") -> list[list[str]]:
        """Of each group the images shown, the keeper first."""
        return [
            [f"{i['dataset']}/{i['fname']}" for i in group["images"] if not i["hidden"]]
            for group in self.groups(run, query)
        ]

    def decide(self, group: Any, state: str) -> Any:
        path = f"/api/duplicates/{group['run']}/groups/{group['number']}"
        return self.call("PATCH", path, {"state": state})


def hold(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let runs wait where they begin: set once one is there, and to be set to let it go on."""
    go_on, reached = threading.Event(), threading.Event()
    catalogue = desk.site.controller.catalogue
    look = catalogue.repeated_contents

    def waiting(ids: Any) -> Any:
        reached.set()
        assert go_on.wait(20)
        return look(ids)

    monkeypatch.setattr(catalogue, "repeated_contents", waiting)
    return reached, go_on
