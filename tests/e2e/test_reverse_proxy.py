"""The controller behind nginx that ends TLS, as docs/security.md describes it."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from tests.conftest import until
from tests.e2e.conftest import System, free_port
from tests.pictures import jpeg

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
TOKEN = "an-admin-token-for-nginx"


def documented_server() -> str:
    """The server block that the page tells operators to use."""
    (block,) = re.findall(r"^    server \{\n.*?^    \}\n", DOCUMENT.read_text(), re.M | re.S)
    return str(block)


@pytest.fixture
def nginx() -> str:
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is not installed; .ci/run installs it.")
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return path


@pytest.fixture
def public(own_system: System, nginx: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """A controller in production behind nginx, asked over TLS by its public name."""
    port = free_port()
    own_system.environment = {
        "FUTU_CONFIG": "production",
        "FUTU_API_TOKEN": TOKEN,
        "FUTU_TRUSTED_PROXIES": "127.0.0.1",
        "REDIS_URL": f"unix://{tmp_path}/nobody.sock",
    }
    authority = trustme.CA()
    certificate = authority.issue_cert("futu.example", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server = documented_server()
    for documented, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/futu/cert.pem", str(tmp_path / "cert.pem")),
        ("/etc/ssl/futu/key.pem", str(tmp_path / "key.pem")),
        ("127.0.0.1:19198", f"127.0.0.1:{own_system.port}"),
    ):
        assert documented in server
        server = server.replace(documented, here)
    paths = " ".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    as_root = "user root; " if os.geteuid() == 0 else ""  # who else cannot enter our folder
    (tmp_path / "nginx.conf").write_text(
        f"{as_root}daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{server} }}\n"
    )
    proxy = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    # From an address that is not the proxy's: a chain of trusted addresses is believed.
    transport = httpx.HTTPTransport(verify=trusted, local_address="127.0.0.2")
    http = httpx.Client(base_url=f"https://localhost:{port}", transport=transport, timeout=30)
    try:
        own_system.start("serve", wanted="unavailable")

        def answers() -> bool:
            assert proxy.poll() is None
            try:
                return http.get("/health/live").status_code == 200
            except httpx.ConnectError:
                return False

        until(answers)
        yield http
    finally:
        http.close()
        proxy.terminate()
        proxy.wait()


def test_controller_behind_nginx_that_ends_tls(public: httpx.Client) -> None:
    assert public.get("/api/datasets").status_code == 401
    assert public.get("/").headers["location"] == "/login"
    origin = {"Origin": str(public.base_url).rstrip("/")}
    signed_in = public.post("/login", data={"token": TOKEN}, headers=origin)
    assert signed_in.status_code == 303
    cookie = signed_in.headers["set-cookie"]
    for part in ("Secure", "HttpOnly", "SameSite=Strict"):
        assert part in cookie
    assert public.get("/api/datasets").status_code == 200
    assert "max-age" in public.get("/health").headers["strict-transport-security"]
    foreign = {"Origin": "https://evil.example"}
    assert public.post("/api/jobs/retry", json={}, headers=foreign).status_code == 403
    # A picture of some size comes through, and what it meets is Futu's own answer.
    files = {"query_img": ("q.jpg", jpeg(1, (1600, 1200)))}
    assert public.post("/api/search", files=files, headers=origin).json()["code"] == "not_indexed"
    # Who guesses is counted by his own address, which he cannot choose.
    public.cookies.clear()
    guess = {"Authorization": "Bearer wrong"}
    codes = [
        public.get("/api/datasets", headers={**guess, "X-Forwarded-For": f"10.0.0.{n}"}).status_code
        for n in range(11)
    ]
    assert codes == [401] * 10 + [429]
