"""Models of datasets when several controllers share them: asked for anywhere, followed by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import until
from tests.integration.switching import (
    NEW,
    OLD,
    PICTURES,
    assert_served,
    in_memory,
    indexed,
    models,
    names,
)
from tests.integration.test_leading import Pair

from futu.catalogue.schema import DONE
from futu.controller.routes.models import models_of
from futu.controller.serving import record_of
from futu.errors import NotLeadingError
from futu.jobs.message import ServerInfo


@pytest.fixture
def pair(tmp_path: Path, redis_url: str, postgresql: Callable[[], str]) -> Iterator[Pair]:
    made = Pair(tmp_path, redis_url, postgresql())
    yield made
    made.close()


def asked(pair: Pair, number: int, action: str, **body: object) -> dict[str, object]:
    """Ask one of the controllers for a change of models."""
    client = pair.apps[number].test_client()
    local = {"REMOTE_ADDR": "127.0.0.1"}
    body = {"dataset_names": ["one"], **body}
    response = client.post(f"/api/models/{action}", json=body, environ_base=local)
    assert response.status_code == 200, response.text
    found: dict[str, object] = response.json  # type: ignore[assignment]
    return found


def test_models_are_changed_through_a_follower_and_followed_by_it(pair: Pair) -> None:
    leader, follower = pair.sites
    dataset = indexed(leader)
    until(lambda: in_memory(follower) == {OLD.model_id: len(PICTURES)})
    there = ServerInfo("new", "h", 1, [NEW.model_id], 1, 0.0)
    leader.controller.queue.servers.register(there)
    asked(pair, 1, "use", model=NEW.name)
    # What is coming is in memory everywhere before it serves.
    until(lambda: in_memory(follower) == {OLD.model_id: len(PICTURES), NEW.model_id: 0})
    progress = follower.controller.ingest.progress(dataset)
    coming = models_of(follower.controller, dataset, len(PICTURES), progress)["similar"]["coming"]
    assert coming["building"] is True
    assert_served(follower, dataset, OLD)
    leader.serve_models("new", NEW)
    leader.await_state(dataset, DONE)
    until(lambda: names(models(follower, dataset)) == (NEW.name, None, OLD.name))
    until(lambda: in_memory(follower) == {NEW.model_id: len(PICTURES)})
    for site in pair.sites:
        assert_served(site, dataset, NEW)

    asked(pair, 1, "back", question="similar")
    until(lambda: in_memory(follower) == {OLD.model_id: len(PICTURES)})
    for site in pair.sites:
        assert_served(site, dataset, OLD)

    assert asked(pair, 1, "prune")["model_ids"] == [NEW.model_id]
    files = [site.folder / name for site, name in zip(pair.sites, ("first", "second"))]
    until(lambda: not [f for folder in files for f in folder.glob(f"index/{NEW.model_id}*")])


def test_former_leader_changes_no_model_any_more(pair: Pair) -> None:
    first, second = (site.controller for site in pair.sites)
    dataset = indexed(pair.sites[0])
    switch = first.switch
    pair.suspend(0)
    until(lambda: second.leads)
    with pytest.raises(NotLeadingError):
        switch.use(dataset, record_of(NEW))
    assert second.catalogue.served()[dataset.id]["similar"].coming is None
