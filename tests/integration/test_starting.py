"""A controller starts: what was saved is searched while it is brought level."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import until
from tests.integration.conftest import Site
from tests.integration.switching import OLD, PICTURES, assert_served, indexed
from tests.pictures import jpeg

from futu.catalogue.schema import DONE
from futu.catalogue.store import Catalogue
from futu.controller import used_indexes

LATER = {"later.jpg": jpeg(90, (40, 30))}


def test_saved_index_is_searched_until_it_is_level(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, redis_url)
    site.start()
    dataset = indexed(site)
    site.next_controller()
    # Something was written that the saved index has not.
    site.fill("one", LATER)
    site.controller.catalogue.mark_missing([])
    level = threading.Event()
    asked = Catalogue.searchable_vector_ids

    def after_a_while(*given: Any, **named: Any) -> Any:
        level.wait()
        return asked(*given, **named)

    monkeypatch.setattr(Catalogue, "searchable_vector_ids", after_a_while)
    monkeypatch.setattr(used_indexes, "_LEVEL_AT_ONCE_S", 0.01)
    site.start()
    assert_served(site, dataset, OLD)
    version = site.live.version
    level.set()
    until(lambda: site.live.version > version)
    site.work()
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    assert_served(site, dataset, OLD, PICTURES | LATER)
    site.close()
