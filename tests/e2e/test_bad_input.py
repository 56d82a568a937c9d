"""Whatever is sent or lies in a folder: the contract's error, and the rest goes on."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import System
from tests.pictures import dng, heic, jpeg, picture


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD_FILES = {
    "empty.jpg": (b"", "not_an_image"),
    "text.jpg": (b"this is a text", "not_an_image"),
    "cut.jpg": (jpeg(1)[:2000], "cannot_decode"),
    "huge.png": (huge_png(50_000), "too_large"),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "vector_image"),
}
GOOD_FILES = {
    "phone.HEIC": heic(picture(1102)),
    "camera.dng": dng(picture(1103)),
    "no extension": jpeg(1104),
    "really a jpeg.HEIC": jpeg(1105),
}


def test_bad_files_are_listed_with_reasons_and_the_rest_is_indexed(system: System) -> None:
    folder = system.datasets / "bad"
    folder.mkdir()
    for name, (data, _) in BAD_FILES.items():
        (folder / name).write_bytes(data)
    for n in range(20):
        (folder / f"{n:02}.jpg").write_bytes(jpeg(1000 + n))
    for name, data in GOOD_FILES.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(jpeg(1100))
    secret = system.folder / "outside.jpg"
    secret.write_bytes(jpeg(1101))
    (folder / "link.jpg").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    (folder / "notes.txt").write_text("not a picture and not listed")
    progress = system.index("bad")
    assert progress.status == "done"
    assert (progress.added, progress.failed, progress.total) == (25, 6, 31)
    reasons = {f.path: f.code for f in system.client.failures("bad")}
    assert reasons == {n: code for n, (_, code) in BAD_FILES.items()} | {
        "link.jpg": "outside_roots"
    }
    assert all(f.error for f in system.client.failures("bad"))
    page = system.http.get("/api/build_index/bad/failures?offset=1&limit=2").json()["failures"]
    assert [f["path"] for f in page] == [f.path for f in system.client.failures("bad")[1:3]]
    again = system.index("bad")
    assert (again.unchanged, again.failed, again.added) == (25, 6, 0)


def check(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert set(body) == {"error", "code", "details"}
    assert isinstance(body["error"], str)
    assert len(body["error"]) > 10
    return body


@pytest.fixture(scope="module")
def indexed(system: System) -> System:
    folder = system.datasets / "errors"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(1200))
    system.index("errors")
    return system


@pytest.mark.parametrize(("name", "status"), [("empty", 415), ("text", 415), ("cut", 422)])
def test_bad_query_pictures_get_their_status(indexed: System, name: str, status: int) -> None:
    data, code = BAD_FILES[f"{name}.jpg"]
    check(indexed.http.post("/api/search", files={"query_img": ("q.jpg", data)}), status, code)


def test_picture_of_too_many_pixels_is_refused_before_decoding(indexed: System) -> None:
    files = {"query_img": ("q.png", huge_png(50_000))}
    body = check(indexed.http.post("/api/search", files=files), 413, "too_large")
    assert body["details"]["limit"] == 200_000_000


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"top_k": "0"}, 400, "bad_field"),
        ({"top_k": "100000"}, 400, "bad_field"),
        ({"top_k": "many"}, 400, "bad_field"),
        ({"top_k": "nan"}, 400, "bad_field"),
        ({"offset": "-1"}, 400, "bad_field"),
        ({"min_similarity": "101"}, 400, "bad_field"),
        ({"mode": "magic"}, 400, "bad_field"),
        ({"dataset_names[]": "nobody"}, 404, "unknown_dataset"),
        ({"crop_x": "0", "crop_y": "0", "crop_w": "99999", "crop_h": "10"}, 400, "bad_field"),
        ({"crop_x": "-5", "crop_y": "0", "crop_w": "10", "crop_h": "10"}, 400, "bad_field"),
        ({"crop_x": "5", "crop_y": "5"}, 400, "bad_field"),
    ],
)
def test_wrong_search_fields_are_named(
    indexed: System, fields: dict[str, str], status: int, code: str
) -> None:
    files = {"query_img": ("q.jpg", jpeg(1200))}
    check(indexed.http.post("/api/search", data=fields, files=files), status, code)


def test_search_without_a_picture_says_which_field_is_missing(indexed: System) -> None:
    body = check(indexed.http.post("/api/search", data={"top_k": "3"}), 400, "bad_field")
    assert body["details"]["field"] == "query_img"


@pytest.mark.parametrize("body", ["[]", "null", '"x"', "{", ""])
@pytest.mark.parametrize(
    "path",
    [
        "/api/compute/feature_extraction",
        "/api/compute/batch_feature_extraction",
        "/api/get_dataset_id",
        "/api/build_index",
        "/api/datasets",
    ],
)
def test_json_that_is_no_object_is_refused(indexed: System, path: str, body: str) -> None:
    check(indexed.http.post(path, content=body), 400, "bad_field")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("{datasets}/errors/gone.jpg", 404, "missing_file"),
        ("{datasets}/errors", 400, "bad_field"),
        ("{datasets}/errors/../../secret.jpg", 403, "outside_roots"),
        ("/etc/passwd", 403, "outside_roots"),
        ("/etc/no-such-file", 403, "outside_roots"),
        ("../../../../etc/passwd", 403, "outside_roots"),
        ("a\0b", 400, "bad_field"),
    ],
)
def test_image_paths_are_confined_to_the_roots(
    indexed: System, path: str, status: int, code: str
) -> None:
    body = {"image_path": path.format(datasets=indexed.datasets)}
    check(indexed.http.post("/api/compute/feature_extraction", json=body), status, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"image_path": ""}, 400, "bad_field"),
        ({"image_path": 5}, 400, "bad_field"),
        ({}, 400, "bad_field"),
    ],
)
def test_feature_extraction_names_a_wrong_field(
    indexed: System, body: dict[str, Any], status: int, code: str
) -> None:
    check(indexed.http.post("/api/compute/feature_extraction", json=body), status, code)


@pytest.mark.parametrize("timeout", [0, -1, "soon", True, 1e9])
def test_batch_timeout_out_of_range_is_refused(indexed: System, timeout: object) -> None:
    body = {"image_paths": [str(indexed.datasets / "errors" / "a.jpg")], "timeout": timeout}
    check(indexed.http.post("/api/compute/batch_feature_extraction", json=body), 400, "bad_field")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/nothing", 404, "not_found"),
        ("/api/image/errors/999999", 404, "unknown_image"),
        ("/api/image/errors/99999999999999999999", 404, "unknown_image"),
        ("/api/image/nobody/1", 404, "unknown_dataset"),
        ("/show_image/errors/gone.jpg", 404, "missing_file"),
        ("/show_image/errors/..%2F..%2Fdata%2Fapi_token", 403, "outside_roots"),
        ("/datasets/errors/%2e%2e/%2e%2e/futu_backend.log", 403, "outside_roots"),
        ("/api/build_index/progress/nobody", 404, "unknown_dataset"),
        ("/api/build_index/errors/failures?limit=0", 400, "bad_field"),
        ("/api/search", 405, "bad_method"),
    ],
)
def test_bad_urls_have_the_error_body(indexed: System, path: str, status: int, code: str) -> None:
    check(indexed.http.get(path), status, code)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 105906178\r\n", 413),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n", 400),
    ],
)
def test_what_the_web_server_itself_refuses_has_the_error_body(
    indexed: System, request_text: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", indexed.port), timeout=10) as raw:
        raw.sendall(request_text.encode() + b"\r\n")
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}".encode()), head
    assert set(json.loads(body)) == {"error", "code", "details"}


def test_pictures_are_cached_and_served_in_ranges(indexed: System) -> None:
    url = indexed.client.search(indexed.datasets / "errors" / "a.jpg", datasets=["errors"])[
        0
    ].img_url
    whole = indexed.http.get(url)
    assert "max-age" in whole.headers["cache-control"]
    again = indexed.http.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = indexed.http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])


def test_search_with_nothing_indexed_anywhere_says_so(own_system: System) -> None:
    own_system.start()
    files = {"query_img": ("q.jpg", jpeg(1))}
    body = check(own_system.http.post("/api/search", files=files), 409, "not_indexed")
    assert "索引" in body["error"]
    assert own_system.client.datasets() == []


def test_link_out_of_the_root_is_not_served(indexed: System) -> None:
    link = indexed.datasets / "errors" / "escape.jpg"
    target = indexed.folder / "private.jpg"
    target.write_bytes(jpeg(1300))
    os.symlink(target, link)
    check(indexed.http.get("/show_image/errors/escape.jpg"), 403, "outside_roots")
    link.unlink()


def test_file_that_is_no_picture_is_not_served(indexed: System) -> None:
    (indexed.datasets / "errors" / "page.html").write_text("<script>alert(1)</script>")
    check(indexed.http.get("/show_image/errors/page.html"), 415, "not_an_image")


def test_folder_outside_the_roots_cannot_become_a_dataset(indexed: System, tmp_path: Path) -> None:
    body = {"folder": str(tmp_path)}
    check(indexed.http.post("/api/datasets", json=body), 403, "outside_roots")


def test_unknown_dataset_names_itself(indexed: System) -> None:
    body = {"dataset_names": ["nobody"]}
    check(indexed.http.post("/api/build_index", json=body), 404, "unknown_dataset")
    check(indexed.http.post("/api/get_dataset_id", json={"name": "nobody"}), 404, "unknown_dataset")
