"""Several controllers on one catalogue: one leads, and whoever led before writes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import until
from tests.integration.conftest import Site, vector_of
from tests.pictures import jpeg

from futu.catalogue.records import Outcome
from futu.catalogue.schema import DONE, READY
from futu.catalogue.session import Term
from futu.catalogue.store import Catalogue
from futu.controller import relay
from futu.controller.app import create_app
from futu.errors import NotLeadingError
from futu.jobs.lead import LEADER_KEY, LeaderCalls, Request

A, B = (jpeg(seed, (40, 30)) for seed in (1, 2))
LEASE_S = 1.0


class Pair:
    """Two controllers with data directories of their own, on one PostgreSQL and one Valkey."""

    def __init__(self, folder: Path, redis_url: str, database_url: str) -> None:
        self.sites = [
            Site(
                folder,
                redis_url,
                data_dir=folder / name,
                database_url=database_url,
                lease_s=LEASE_S,
                batch_size=1,
            )
            for name in ("first", "second")
        ]
        self._wakes: list[Callable[[], None]] = []
        self.apps = [create_app(site.controller) for site in self.sites]
        for site in self.sites:
            site.start()

    def leader(self) -> int | None:
        leading = [number for number, site in enumerate(self.sites) if site.controller.leads]
        return leading[0] if len(leading) == 1 else None

    def suspend(self, number: int) -> Callable[[], None]:
        """Let a controller look at the lock no more; returns what lets it again."""
        leadership = self.sites[number].controller.leadership
        awake = threading.Event()
        beat = leadership._beat

        def beating() -> object:
            awake.wait()
            return beat()

        leadership._beat = beating  # type: ignore[method-assign,assignment]
        self._wakes.append(awake.set)
        return awake.set

    def close(self) -> None:
        for wake in self._wakes:
            wake()
        for site in self.sites:
            site.close()


@pytest.fixture
def pair(tmp_path: Path, redis_url: str, postgresql: Callable[[], str]) -> Iterator[Pair]:
    made = Pair(tmp_path, redis_url, postgresql())
    yield made
    made.close()


def outcome(content: bytes, catalogue: Catalogue, model_id: str, dimension: int) -> Outcome:
    vector = np.frombuffer(vector_of(content, dimension), "<f4")
    return Outcome(content, {model_id: vector}, 40, 30)


def test_one_of_two_controllers_leads_and_the_other_takes_over_when_it_stops(pair: Pair) -> None:
    assert pair.leader() == 0
    pair.sites[0].controller.leadership.stop()
    until(lambda: pair.leader() == 1)


def test_suspended_leader_is_replaced_and_its_writes_are_refused_when_it_wakes(pair: Pair) -> None:
    first, second = (site.controller for site in pair.sites)
    dataset = pair.sites[0].fill("one", {"a.jpg": A})
    ingest, collector = first.ingest, first.collector
    wake = pair.suspend(0)
    until(lambda: second.leads)
    until(lambda: second.relay._thread is not None)
    model = first.models["similar"]
    before = second.catalogue.last_vector_id()
    late = outcome(b"h" * 32, first.catalogue, model.model_id, model.dimension)
    with pytest.raises(NotLeadingError):
        collector._store([late])
    with pytest.raises(NotLeadingError):
        ingest.start(dataset)
    assert second.catalogue.last_vector_id() == before
    assert second.catalogue.last_build(dataset.id) is None
    wake()
    until(lambda: not first.leads)
    assert pair.leader() == 1
    # Its own tasks are over: what it is asked for goes to the leader.
    until(lambda: first.ingest is not ingest)
    pair.sites[1].work()
    answer = (
        pair.apps[0]
        .test_client()
        .post(
            "/api/build_index",
            json={"dataset_names": ["one"]},
            environ_base={"REMOTE_ADDR": "127.0.0.1"},
        )
    )
    assert answer.status_code == 200
    assert pair.sites[1].await_state(dataset, DONE)["added"] == 1


def test_lead_is_kept_when_redis_forgets_the_lock(pair: Pair) -> None:
    first = pair.sites[0].controller
    second = pair.sites[1].controller.leadership
    second.stop()
    term = first.leadership._term
    first.queue.redis.delete(LEADER_KEY)
    until(lambda: first.leadership.holder() is not None)
    assert first.leadership._term == term


def test_follower_answers_from_what_the_leader_has_written(pair: Pair) -> None:
    first, second = (site.controller for site in pair.sites)
    dataset = pair.sites[0].fill("one", {"a.jpg": A, "b.jpg": B})
    pair.sites[0].work()
    first.ingest.start(dataset)
    pair.sites[0].await_state(dataset, DONE)
    until(lambda: len(second.indexes["similar"].index) == 2)
    ids = first.catalogue.searchable_vector_ids(pair.sites[0].model_id)
    ((_, vectors),) = first.catalogue.vectors(ids.tolist()[:1])
    found = [
        [
            neighbour.image.path
            for neighbour in controller.search.neighbours(
                vectors[0].astype(np.float32), [dataset], k=2
            )
        ]
        for controller in (first, second)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_leader_is_asked_only_for_what_is_its_own(pair: Pair) -> None:
    calls = LeaderCalls(pair.sites[1].controller.queue)
    assert calls.ask(Request("GET", "/api/builds"), 10).status == 200
    assert calls.ask(Request("GET", "/api/datasets"), 10).status == 403


def test_what_is_only_looked_at_comes_from_the_catalogue_when_nobody_leads(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pair.sites[0].fill("one", {"a.jpg": A})
    pair.sites[0].work()
    pair.sites[0].controller.ingest.start(dataset)
    pair.sites[0].await_state(dataset, DONE)
    monkeypatch.setattr(relay, "_TIMEOUT_S", 0.1)
    pair.suspend(1)
    pair.sites[0].controller.leadership.stop()
    client, local = pair.apps[1].test_client(), {"REMOTE_ADDR": "127.0.0.1"}
    progress = client.get("/api/build_index/progress/one", environ_base=local)
    assert progress.json is not None
    assert progress.json["added"] == 1
    begun = client.post("/api/build_index", json={"dataset_names": ["one"]}, environ_base=local)
    assert (begun.status_code, begun.json and begun.json["code"]) == (503, "not_leading")


def test_follower_finds_what_a_build_under_way_has_added(pair: Pair) -> None:
    first, second = (site.controller for site in pair.sites)
    dataset = pair.sites[0].fill("one", {"a.jpg": A, "b.jpg": B})
    first.ingest.start(dataset)
    one, other = pair.sites[0].lease(), pair.sites[0].lease()
    pair.sites[0].deliver(one)
    until(lambda: len(second.indexes["similar"].index) == 1)
    assert pair.sites[0].state(dataset) == "building"
    pair.sites[0].deliver(other)
    pair.sites[0].await_state(dataset, DONE)


def test_builds_are_watched_and_cancelled_through_either_controller(pair: Pair) -> None:
    dataset = pair.sites[0].fill("one", {"a.jpg": A})
    clients = [app.test_client() for app in pair.apps]
    local = {"REMOTE_ADDR": "127.0.0.1"}

    def ask(number: int, method: str, path: str, **body: object) -> dict[str, object]:
        response = clients[number].open(path, method=method, environ_base=local, **body)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        found: dict[str, object] = response.json  # type: ignore[assignment]
        return found

    ask(1, "POST", "/api/build_index", json={"dataset_names": ["one"]})
    lease = pair.sites[0].lease()
    progress = [ask(n, "GET", "/api/build_index/progress/one") for n in (0, 1)]
    assert progress[0] == progress[1]
    assert (progress[1]["state"], progress[1]["total"]) == ("building", 1)
    assert [ask(n, "GET", "/api/builds")["builds"] for n in (0, 1)][1] != []
    assert ask(1, "DELETE", "/api/build_index/one")["cancelled"] is True
    assert pair.sites[0].state(dataset) == "cancelled"
    until(lambda: not pair.sites[0].controller.queue.depth()["library"])
    assert not pair.sites[0].controller.queue.deliver(lease, pair.sites[0].good(lease.job))


def test_watching_and_verifying_are_the_leaders_and_pass_with_the_lead(pair: Pair) -> None:
    first, second = (site.controller for site in pair.sites)
    asked = [app.test_client() for app in pair.apps]
    dataset = pair.sites[0].fill("one", {"a.jpg": A})
    pair.sites[1].work()
    assert asked[1].post("/api/watch/one").status_code == 200
    assert second.watcher.state(dataset.id).how == "off"
    until(lambda: first.watcher.state(dataset.id).how == "events")
    pair.sites[1].await_state(dataset, DONE)
    assert asked[1].post("/api/verify", json={}).status_code == 200
    until(lambda: (asked[1].get("/api/verify").json or {})["state"] == "done")
    assert (asked[0].get("/api/verify").json or {})["left"] == 0
    first.leadership.stop()
    until(lambda: second.watcher.state(dataset.id).how == "events")
    assert first.watcher.state(dataset.id).how == "off"
    pair.sites[1].fill("one", {"b.jpg": B})
    until(lambda: pair.sites[1].files(dataset).get("b.jpg") == (READY, None))


def test_plan_is_carried_out_by_the_leader_and_undone_by_the_next(pair: Pair) -> None:
    first, second = pair.sites
    dataset = first.fill("one", {"a.jpg": A, "b.jpg": A})
    first.work()
    first.controller.ingest.start(dataset)
    first.await_state(dataset, DONE)
    ids = [image.id for image in first.controller.catalogue.all_images(dataset.id)]

    def post(number: int, path: str, body: object) -> dict[str, object]:
        local = {"REMOTE_ADDR": "127.0.0.1"}
        answer = pair.apps[number].test_client().post(path, json=body, environ_base=local)
        assert answer.status_code == 200, answer.text
        operation: dict[str, object] = answer.get_json()["operation"]
        return operation

    done = post(1, "/api/duplicates/apply", {"groups": [ids]})
    assert (done["state"], done["images"]) == ("applied", 1)
    assert second.controller.catalogue.image_counts() == {dataset.id: 1}
    first.controller.leadership.stop()
    until(lambda: second.controller.leads)
    undone = post(1, f"/api/operations/{done['id']}/undo", {})
    assert (undone["state"], undone["left"]) == ("undone", 0)
    assert first.controller.catalogue.image_counts() == {dataset.id: 2}
    with pytest.raises(NotLeadingError):
        first.controller.catalogue.under(Term(1)).mark_trashed(ids, "late")
