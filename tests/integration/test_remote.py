"""Pictures by URL, from a real HTTP server."""

from __future__ import annotations

import http.server
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme
from tests.pictures import jpeg

from futu.controller.remote import IpAddress, RemotePictures
from futu.errors import (
    ForbiddenError,
    FutuError,
    ImageTooLargeError,
    InvalidRequestError,
    JobTimeoutError,
    UnreadableFileError,
)
from futu.images.decode import DecodeLimits

PICTURE = jpeg(1)
LIMITS = DecodeLimits(len(PICTURE), 10**6)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        if name.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.headers["X-To"] or self.path[4:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(404 if name == "/none" else 200)
        if name == "/packed":
            self.send_header("Content-Encoding", "gzip")
        if name == "/undeclared":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(2):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(PICTURE), PICTURE))
            self.wfile.write(b"0\r\n\r\n")
            return
        size = 2 * len(PICTURE) if name == "/large" else len(PICTURE)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if name == "/drips":
            stop: threading.Event = self.server.stop  # type: ignore[attr-defined]
            while not stop.wait(0.02):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    break
            self.close_connection = True
            return
        self.wfile.write(PICTURE[:100] if name == "/cut" else PICTURE)
        self.close_connection = True


@pytest.fixture(scope="module")
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.stop.set()  # type: ignore[attr-defined]
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def url(server: http.server.ThreadingHTTPServer) -> str:
    return f"http://localhost:{server.server_address[1]}"


def anywhere(_: IpAddress) -> bool:
    return True


def pictures(allowed: Callable[[IpAddress], bool] = anywhere) -> RemotePictures:
    return RemotePictures(LIMITS, 5, allowed)


def test_picture_is_fetched_also_after_redirects(url: str) -> None:
    assert pictures().fetch(f"{url}/a.jpg") == PICTURE
    assert pictures().fetch(f"{url}/to//to//a.jpg") == PICTURE


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/none", UnreadableFileError, "404"),
        ("/cut", UnreadableFileError, "cannot be fetched"),
        ("/packed", UnreadableFileError, "compressed"),
        ("/large", ImageTooLargeError, "the limit is"),
        ("/undeclared", ImageTooLargeError, "the limit is"),
        ("/to//to//to//to//to//a", UnreadableFileError, "more than 3"),
        ("/to/file:///etc/passwd", InvalidRequestError, "http://"),
    ],
)
def test_what_cannot_be_used_says_why(
    url: str, path: str, error: type[FutuError], words: str
) -> None:
    with pytest.raises(error, match=words):
        pictures().fetch(url + path)


def test_server_that_drips_is_given_up(url: str) -> None:
    with pytest.raises(JobTimeoutError, match=r"0\.3 s"):
        RemotePictures(LIMITS, 0.3, anywhere).fetch(f"{url}/drips")


@pytest.mark.parametrize(
    "wrong",
    ["ftp://example.org/a", "file:///etc/passwd", "a.jpg", "", "http://", "http://u:p@host/a"],
)
def test_what_is_no_url_of_the_web_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequestError, match="query_url"):
        pictures().fetch(wrong)


def test_addresses_of_this_network_are_refused(url: str) -> None:
    port = url.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"):
        with pytest.raises(ForbiddenError, match="no public address"):
            RemotePictures(LIMITS, 5).fetch(f"http://{host}:{port}/a.jpg")


def test_address_that_is_redirected_to_is_looked_at_too(url: str) -> None:
    port = url.rpartition(":")[2]
    looked: list[str] = []

    def only_the_first(address: IpAddress) -> bool:
        looked.append(str(address))
        return address != ipaddress.ip_address("127.0.0.2")

    with pytest.raises(ForbiddenError, match=r"127\.0\.0\.2"):
        pictures(only_the_first).fetch(f"{url}/to/http://127.0.0.2:{port}/a.jpg")
    assert looked[-1] == "127.0.0.2"


def test_nobody_there_and_unknown_names_say_so() -> None:
    for where in ("http://127.0.0.1:1/a", "http://nowhere.invalid/a"):
        with pytest.raises(UnreadableFileError, match="cannot be fetched"):
            pictures().fetch(where)


def test_certificate_is_checked_by_the_name(server: http.server.ThreadingHTTPServer) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    secure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    thread = threading.Thread(target=secure.serve_forever, args=(0.01,))
    thread.start()
    try:
        # Its authority is not one that this machine trusts.
        with pytest.raises(UnreadableFileError, match=r"(?i)certificate"):
            pictures().fetch(f"https://localhost:{secure.server_address[1]}/a.jpg")
    finally:
        secure.shutdown()
        thread.join()
        secure.server_close()
