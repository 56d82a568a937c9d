"""The lead: terms in each database, the lock and the calls in each Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import redis

from futu.catalogue.facts import Term
from futu.catalogue.records import ModelRecord, Outcome
from futu.catalogue.store import Catalogue
from futu.errors import CatalogueUnavailableError, NotLeadingError
from futu.jobs.lead import LEADER_KEY, REQUESTS_KEY, LeaderCalls, LeaderLock, Reply, Request
from futu.jobs.streams import JobQueue

MODEL = "m"


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    yield made
    made.close()


def outcome(number: int) -> Outcome:
    return Outcome(bytes([number]) * 32, {MODEL: np.ones(4, np.float32)}, 40, 30)


def test_writes_of_an_earlier_term_are_refused_and_change_nothing(catalogue: Catalogue) -> None:
    refused = threading.Event()
    term = replace(catalogue.begin_term(), refused=refused.set)
    earlier = catalogue.under(term)
    earlier.record([outcome(1)], MODEL)
    later = catalogue.under(catalogue.begin_term())
    with pytest.raises(NotLeadingError):
        earlier.record([outcome(2)], MODEL)
    assert refused.is_set()
    assert later.record([outcome(3)], MODEL)[MODEL].keys() == {bytes([3]) * 32}
    assert catalogue.vector_ids([bytes([n]) * 32 for n in (1, 2, 3)], MODEL).keys() == {
        bytes([1]) * 32,
        bytes([3]) * 32,
    }
    assert catalogue.record([outcome(4)], MODEL)


def test_next_term_begins_after_what_the_last_one_is_writing(catalogue: Catalogue) -> None:
    term = catalogue.begin_term()
    writing, began = threading.Event(), threading.Event()
    order: list[str] = []

    def next_leader() -> None:
        writing.wait()
        began.set()
        catalogue.begin_term()
        order.append("next term")

    thread = threading.Thread(target=next_leader)
    thread.start()
    with catalogue.under(term).write():
        writing.set()
        began.wait()
        order.append("written")
    thread.join()
    assert order == ["written", "next term"]


def test_leader_suspended_in_a_transaction_keeps_the_next_one_waiting_no_longer_than_its_lease(
    postgresql: Callable[[], str],
) -> None:
    url = postgresql()
    suspended, next_one = Catalogue(url), Catalogue(url)
    view = suspended.under(suspended.begin_term(most_s=0.2))
    later: list[Term] = []

    def suspended_write() -> None:
        with view.write() as db:
            later.append(next_one.begin_term())
            db.exec_driver_sql("DELETE FROM facts")

    with pytest.raises(CatalogueUnavailableError):
        suspended_write()
    assert next_one.leads(later[0])
    suspended.close()
    next_one.close()


def test_new_vectors_are_those_with_higher_ids(catalogue: Catalogue) -> None:
    catalogue.record([outcome(1), outcome(2)], MODEL)
    seen = catalogue.last_vector_id()
    assert catalogue.new_vectors(seen) == {}
    ids = catalogue.record([outcome(2), outcome(3)], MODEL)[MODEL]
    assert catalogue.new_vectors(seen)[MODEL].tolist() == [ids[bytes([3]) * 32]]


def test_writes_of_another_controller_are_noticed(postgresql: Callable[[], str]) -> None:
    url = postgresql()
    ours, theirs = Catalogue(url), Catalogue(url)
    writes, model_changes = ours.writes()
    theirs.record([outcome(1)], MODEL)
    assert ours.writes() == (writes + 1, model_changes)
    theirs.serve_by_default(
        theirs.add_dataset("a", "/a").id, [ModelRecord(MODEL, "m", "similar", 8)]
    )
    assert ours.writes() == (writes + 3, model_changes + 1)
    ours.close()
    theirs.close()


def test_one_controller_has_the_lock_until_it_is_silent(queue: JobQueue, raw: redis.Redis) -> None:
    first, second = (LeaderLock(queue, 30) for _ in range(2))
    assert first.take()
    assert not second.take()
    assert first.keep()
    assert second.holder() == first.name
    ttl_ms = int(raw.pttl(LEADER_KEY))
    assert 0 < ttl_ms < 30_000
    raw.delete(LEADER_KEY)
    assert not first.keep()
    assert second.take()
    assert not first.keep()
    first.release()
    assert second.keep()
    second.release()
    assert first.take()


def test_leader_answers_what_it_is_asked_and_nothing_is_left(
    queue: JobQueue, raw: redis.Redis
) -> None:
    calls = LeaderCalls(queue)
    asked = Request("POST", "/api/x?y=1", "application/json", b"{}")
    answer = Reply(202, "text/plain", b"yes", {"Retry-After": "1"})
    seen: list[Request] = []

    def lead() -> None:
        while (taken := calls.take(1.0)) is None:
            pass
        seen.append(taken[1])
        calls.reply(taken[0], answer, 5)

    thread = threading.Thread(target=lead)
    thread.start()
    assert calls.ask(asked, 10) == answer
    thread.join()
    assert seen == [asked]
    assert list(raw.scan_iter("futu:leader*")) == []


def test_request_that_is_put_back_is_the_next_to_be_taken(
    queue: JobQueue, raw: redis.Redis
) -> None:
    calls, asked = LeaderCalls(queue), Request("GET", "/1")
    raw.lpush(REQUESTS_KEY, "later")
    calls.put_back("call", asked, 5)
    assert calls.take(0.01) == ("call", asked)


def test_request_that_no_leader_takes_is_not_done_later(queue: JobQueue, raw: redis.Redis) -> None:
    calls = LeaderCalls(queue)
    with pytest.raises(NotLeadingError):
        calls.ask(Request("GET", "/"), 0.05)
    assert calls.take(0.01) is None
    assert list(raw.scan_iter("futu:leader*")) == []
