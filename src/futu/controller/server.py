"""The controller as a process: the application under waitress, started and stopped in order."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from futu.config import Settings
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.errors import SettingsError

log = logging.getLogger(__name__)

_LOOP_S = 1.0
_DRAIN_S = 1.0

_HTTP_CODES = {413: "too_large"}


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """What waitress refuses before the application sees it has the API's error body too."""

    def execute(self) -> None:
        error = self.request.error
        facts = {
            "error": f"{error.reason}: {error.body}. Send a request as the API describes it.",
            "code": _HTTP_CODES.get(error.code, "bad_request"),
            "details": {},
        }
        body = json.dumps(facts).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _JsonErrorTask


class ControllerServer:
    """Listens from ``run`` until ``stop``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._server: Any = None

    def stop(self) -> None:
        """Ask ``run`` to end. Safe in a signal handler."""
        self._stopping.set()
        if self._server is not None:
            self._server.pull_trigger()

    def run(self) -> None:
        """Serve until ``stop``; requests under way are answered first.

        Raises:
            SettingsError: the port is in use, or the data directory cannot be used.
        """
        settings = self._settings
        controller = Controller(settings)
        sockets: dict[int, Any] = {}
        # Listens before the index is loaded, so that a port in use is known at once.
        dispatcher = self._listen(controller, sockets)
        controller.start()
        shown = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
        log.info("ready: http://%s:%d", shown, settings.port)
        while not self._stopping.is_set():
            wasyncore.loop(timeout=_LOOP_S, map=sockets, count=1)
        log.info("stopping")
        _drain(sockets)
        dispatcher.shutdown(timeout=0)
        controller.stop()
        log.info("controller stopped")

    def _listen(self, controller: Controller, sockets: dict[int, Any]) -> ThreadedTaskDispatcher:
        settings = self._settings
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(settings.http_threads)
        app = create_app(controller)
        try:
            create_server(
                app,
                map=sockets,
                _dispatcher=dispatcher,
                host=settings.host,
                port=settings.port,
                ident="futu",
                clear_untrusted_proxy_headers=False,
                # Refused by its announced length; without it waitress would take 1 GB into a file.
                max_request_body_size=app.config["MAX_CONTENT_LENGTH"] + 1,
            )
        except OSError as error:
            controller.stop()
            raise SettingsError(
                f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). Stop the "
                "program that uses the port, or choose another with --port."
            ) from error
        for listener in _listeners(sockets):
            listener.channel_class = _Channel
            self._server = listener
        return dispatcher


def _listeners(sockets: dict[int, Any]) -> list[BaseWSGIServer]:
    return [s for s in sockets.values() if isinstance(s, BaseWSGIServer)]


def _drain(sockets: dict[int, Any]) -> None:
    """Accept no more; let the requests under way be answered, for as long as ``_DRAIN_S``.

    The pipes by which threads wake this loop stay open: a thread that is late may still use
    its own, and they end with the process.
    """
    for listener in _listeners(sockets):
        wasyncore.dispatcher.close(listener)
    deadline = time.monotonic() + _DRAIN_S
    while time.monotonic() < deadline and any(
        channel.requests or channel.total_outbufs_len
        for channel in sockets.values()
        if isinstance(channel, HTTPChannel)
    ):
        wasyncore.loop(timeout=0.05, map=sockets, count=1)
