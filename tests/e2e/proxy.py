"""A TCP link that a test can cut, slow down and reset."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST
_CHUNK = 65536


class Proxy:
    """Forwards connections from a port of its own to another on this machine."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open = threading.Event()
        self._open.set()
        self._closed = threading.Event()
        self._delay_s = 0.0
        self._refusing = False
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def delay(self, seconds: float) -> None:
        """Hold every piece of data for so long; 0 ends it."""
        self._delay_s = seconds

    def cut(self) -> None:
        """Let nothing through, and say so to nobody."""
        self._open.clear()

    def refuse(self) -> None:
        """Reset what is connected and all that come."""
        self._refusing = True
        self.reset()

    def mend(self) -> None:
        """End all faults."""
        self._refusing = False
        self._delay_s = 0.0
        self._open.set()

    def reset(self) -> None:
        """Reset all connections there are."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _abort(end)

    def close(self) -> None:
        """End the proxy and all connections."""
        self._closed.set()
        self._open.set()
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _abort(near)
                continue
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                _abort(near)
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((near, far))
            threading.Thread(target=self._pump, args=(near, far), daemon=True).start()

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with contextlib.suppress(OSError, ValueError):
            while not self._closed.is_set():
                for end in select.select([near, far], [], [], 1.0)[0]:
                    data = end.recv(_CHUNK)
                    self._open.wait()
                    if self._delay_s:
                        self._closed.wait(self._delay_s)
                    if not data:
                        return self._end(near, far)
                    other[end].sendall(data)
        return self._end(near, far)

    def _end(self, near: socket.socket, far: socket.socket) -> None:
        with self._lock:
            self._pairs.discard((near, far))
        near.close()
        far.close()


def _abort(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # Wakes the thread that reads from it, which a bare close would not.
        end.shutdown(socket.SHUT_RDWR)
    end.close()
