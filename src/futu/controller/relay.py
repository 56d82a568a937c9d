"""What only the leader can answer, it answers, whichever controller was asked.

Builds are begun, watched and cancelled where they run. A controller that does not lead sends such a
request to the one that does, by way of Redis, and passes its answer on; nobody needs to know where
the others are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flask import Flask, Request, Response

from futu import tracing
from futu.controller.access import RELAYED
from futu.errors import ForbiddenError, FutuError, NotLeadingError, UnavailableError
from futu.jobs.connection import Backoff
from futu.jobs.lead import LeaderCalls
from futu.jobs.lead import Reply as LeaderReply
from futu.jobs.lead import Request as LeaderRequest

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_BLOCK_S = 0.5
_PAUSE_S = 0.05
_THREADS = 4
_PASSED_ON = ("Retry-After",)
_MARK = "futu_by_leader"
_LONGER_S = "futu_longer_s"

_View = TypeVar("_View", bound=Callable[..., Any])


def by_leader(view: _View) -> _View:
    """Mark a view that only the leader can answer; what it is asked and answers is small."""
    setattr(view, _MARK, True)
    return view


def by_leader_within(timeout_s: float) -> Callable[[_View], _View]:
    """As ``by_leader``, for what may take so long."""

    def mark(view: _View) -> _View:
        setattr(view, _LONGER_S, timeout_s)
        return by_leader(view)

    return mark


class Relay:
    """Sends requests to the leader; answers them while this controller leads.

    Args:
        calls: requests and replies in Redis.
        leads: whether this controller leads.

    Attributes:
        app: answers the requests.
    """

    def __init__(self, calls: LeaderCalls, leads: Callable[[], bool]) -> None:
        self._calls = calls
        self._leads = leads
        self.app: Flask | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def forward(self, request: Request, view: Callable[..., Any] | None) -> Response | None:
        """The leader's answer to a request for a view; None when it is to be answered here.

        Raises:
            NotLeadingError, RedisUnavailableError: the leader does not answer. What is only
                looked at is then answered from the catalogue.
            ForbiddenError: another controller sent a request that is not for the leader.
        """
        marked = getattr(view, _MARK, False)
        if RELAYED in request.environ:
            if not marked:
                raise ForbiddenError("Controllers answer this themselves; only builds are relayed.")
            if not self._leads():
                raise NotLeadingError(
                    "The lead has just passed to another controller; try again in a moment."
                )
            return None
        if not marked or self._leads():
            return None
        path = request.full_path if request.query_string else request.path
        asked = LeaderRequest(
            request.method,
            path,
            request.content_type or "",
            request.get_data(),
            tracing.request_id(),
        )
        try:
            reply = self._calls.ask(asked, getattr(view, _LONGER_S, _TIMEOUT_S))
        except UnavailableError:
            if request.method in ("GET", "HEAD"):
                return None
            raise
        return Response(
            reply.body, reply.status, reply.headers, content_type=reply.content_type or None
        )

    # --- the leader's side -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to answer."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more; what is being answered is finished."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _serve(self) -> None:
        backoff = Backoff(self._stop)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="relay") as pool:
            while not self._stop.is_set():
                if not self._leads():
                    self._stop.wait(_PAUSE_S)
                    continue
                try:
                    taken = self._calls.take(_BLOCK_S)
                    backoff.reset()
                except FutuError as error:
                    log.debug("no requests from other controllers: %s", error)
                    backoff.wait()
                    continue
                if taken is not None:
                    pool.submit(self._answer, *taken)

    def _answer(self, call: str, asked: LeaderRequest) -> None:
        try:
            if self._leads():
                self._calls.reply(call, self._dispatch(asked), _TIMEOUT_S)
            else:
                self._calls.put_back(call, asked, _TIMEOUT_S)
        except Exception:
            log.exception("a request of another controller was not answered")

    def _dispatch(self, asked: LeaderRequest) -> LeaderReply:
        app = self.app
        if app is None:
            raise NotLeadingError("This controller serves no HTTP.")
        # Who asks was let in by the controller that was asked.
        environ = {"REMOTE_ADDR": "127.0.0.1", RELAYED: True}
        with app.test_request_context(
            asked.path,
            method=asked.method,
            data=asked.body,
            content_type=asked.content_type or None,
            headers={tracing.HEADER: asked.request_id} if asked.request_id else None,
            environ_overrides=environ,
        ):
            response = app.full_dispatch_request()
            return LeaderReply(
                response.status_code,
                response.content_type or "",
                response.get_data(),
                {name: response.headers[name] for name in _PASSED_ON if name in response.headers},
            )
