"""The controller as a process: the application under waitress, started and stopped in order."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from futu.config import Settings
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.errors import SettingsError

log = logging.getLogger(__name__)


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
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask ``run`` to end. Safe in a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            SettingsError: the port is in use, or the data directory cannot be used.
        """
        settings = self._settings
        controller = Controller(settings)
        app = create_app(controller)
        sockets: dict[int, Any] = {}
        try:
            server = create_server(
                app,
                map=sockets,
                host=settings.host,
                port=settings.port,
                threads=settings.http_threads,
                ident="futu",
                clear_untrusted_proxy_headers=False,
            )
        except OSError as error:
            controller.stop()
            raise SettingsError(
                f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). Stop the "
                "program that uses the port, or choose another with --port."
            ) from error
        for listener in sockets.values():
            listener.channel_class = _Channel
        controller.start()
        threading.Thread(target=server.run, name="http", daemon=True).start()
        shown = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
        log.info("ready: http://%s:%d", shown, settings.port)
        self._stopped.wait()
        log.info("stopping")
        server.close()
        server.task_dispatcher.shutdown(timeout=1)
        controller.stop()
        log.info("controller stopped")
