"""The faults of the link are real ones, or the fault runs would prove nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from tests.e2e.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that sends everything back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except ConnectionResetError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    made = Proxy(int(listener.getsockname()[1]))
    yield made
    made.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    accepting.join()


def connect(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    return connection


def test_link_is_reset_and_takes_new_connections(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    connect(proxy).close()


def test_link_refuses_until_it_is_mended(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.mend()
    connect(proxy).close()


def test_link_that_was_cut_passes_nothing_and_later_all(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.cut()
        connection.sendall(b"late")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(10)
        proxy.mend()
        assert connection.recv(100) == b"late"
