"""A controller killed during a change of models leaves one model serving, whole."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import until
from tests.integration.conftest import KilledError, Site
from tests.integration.switching import (
    NEW,
    OLD,
    PICTURES,
    assert_served,
    indexed,
    models,
    names,
    search,
    switch,
    switched,
)
from tests.pictures import jpeg

from futu.catalogue.schema import DONE

LATER = {"later.jpg": jpeg(90, (40, 30))}


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    """Started, with small jobs, so that a dataset has several."""
    made = Site(tmp_path, redis_url, batch_size=2)
    made.start()
    yield made
    made.close()


def restarted(site: Site) -> None:
    """Another controller takes the place of the one that was killed; no compute server runs."""
    site.next_controller()
    site.start()


@pytest.mark.parametrize("writes", range(9))
def test_killed_during_the_change_leaves_old_or_new_and_goes_on(site: Site, writes: int) -> None:
    dataset = indexed(site)
    site.serve_models("both", OLD, NEW)
    site.kill_after(writes)
    with contextlib.suppress(KilledError):
        switch(site, dataset, NEW)
    while site.writes_left >= 0 and site.state(dataset) != DONE:
        threading.Event().wait(0.005)
    restarted(site)
    served = names(models(site, dataset))
    assert served in (
        (OLD.name, None, None),
        (OLD.name, NEW.name, None),
        (NEW.name, None, OLD.name),
    )
    # What was answered before the kill may complete the change at any moment.
    for path, data in PICTURES.items():
        found = search(site, data, [dataset])
        assert found.model_ids in ((OLD.model_id,), (NEW.model_id,))
        assert {n.model_id for n in found.neighbours} == set(found.model_ids)
        assert {n.image.path for n in found.neighbours} == set(PICTURES)
        assert (found.neighbours[0].image.path, found.neighbours[0].similarity) == (path, 100)
    asked = writes >= 1
    assert asked == (served != (OLD.name, None, None))
    site.serve_models("both", OLD, NEW)
    site.controller.ingest.sweep()
    site.await_state(dataset, DONE)
    serving = NEW if asked else OLD
    # The build that was begun before the sweep may be the one that is done.
    until(lambda: names(models(site, dataset))[0] == serving.name)
    assert_served(site, dataset, serving)


@pytest.mark.parametrize("writes", range(4))
def test_killed_on_the_way_back_leaves_old_or_new_and_loses_no_picture(
    site: Site, writes: int
) -> None:
    dataset = indexed(site)
    site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    site.fill("one", LATER)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    site.rest()
    site.kill_after(writes)
    with contextlib.suppress(KilledError):
        site.controller.switch.back(dataset, "similar")
    restarted(site)
    if writes == 0:
        assert_served(site, dataset, NEW, PICTURES | LATER)
    else:
        assert_served(site, dataset, OLD, PICTURES)
    site.serve_models("both", OLD, NEW)
    site.controller.ingest.sweep()
    site.await_state(dataset, DONE)
    assert_served(site, dataset, OLD if writes else NEW, PICTURES | LATER)


@pytest.mark.parametrize("writes", range(4))
def test_killed_while_it_prunes_is_completed_by_the_next(site: Site, writes: int) -> None:
    dataset = indexed(site)
    site.serve_models("both", OLD, NEW)
    switched(site, dataset, NEW)
    site.await_state(dataset, DONE)
    site.kill_after(writes)
    with contextlib.suppress(KilledError):
        site.controller.switch.prune([dataset])
    restarted(site)
    assert_served(site, dataset, NEW)
    site.controller.switch.prune([dataset])
    assert_served(site, dataset, NEW)
    assert site.controller.catalogue.searchable_vector_ids(OLD.model_id).size == 0
    assert names(models(site, dataset)) == (NEW.name, None, None)
