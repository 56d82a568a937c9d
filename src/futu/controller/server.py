"""The controller as a process: the application under waitress, started and stopped in order."""

from __future__ import annotations

import logging
import threading

from waitress.server import create_server

from futu.config import Settings
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.errors import SettingsError

log = logging.getLogger(__name__)


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
        try:
            server = create_server(
                app,
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
