"""The command line against a running system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import System
from tests.e2e.faults import Cluster
from tests.pictures import jpeg

from futu import __version__

ROOT = Path(__file__).parents[2]


def futu(system: System | Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "futu", *arguments],
        cwd=system.folder,
        env=os.environ | {"FUTU_SERVER": system.client.server, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_index_then_search_print_neighbours(system: System) -> None:
    folder = system.datasets / "cli"
    folder.mkdir()
    for n in range(8):
        (folder / f"{n}.jpg").write_bytes(jpeg(3000 + n))
    (folder / "bad [red].jpg").write_bytes(b"bad")
    indexed = futu(system, "index", "cli")
    assert indexed.returncode == 0, indexed.stderr
    assert "9 images: 8 new" in indexed.stderr
    assert "bad [red].jpg" in indexed.stderr
    found = futu(system, "search", str(folder / "5.jpg"), "--dataset", "cli", "--top-k", "3")
    assert found.returncode == 0, found.stderr
    assert "5.jpg" in found.stdout.splitlines()[1]
    as_json = futu(system, "search", str(folder / "5.jpg"), "--dataset", "cli", "--json")
    first = json.loads(as_json.stdout)[0]
    assert first["fname"] == "5.jpg"
    known = futu(system, "search", "--id", str(first["id"]), "--mode", "auto", "--json")
    assert known.returncode == 0, known.stderr
    assert json.loads(known.stdout)[0] == first | {
        "generation": json.loads(known.stdout)[0]["generation"]
    }
    narrow = [
        "--at",
        "cli",
        "5.jpg",
        "--prefix",
        "6",
        "--min-size",
        "0.1kB",
        "--after",
        "2001-01-01",
    ]
    found = futu(system, "search", *narrow, "--unlike-id", "1", "--crop", "0%,0%,50%,50%")
    assert found.returncode == 0, found.stderr
    assert [line.split()[-1] for line in found.stdout.splitlines()] == ["image", "6.jpg"]
    second = futu(system, "search", "--at", "cli", "5.jpg", "--dataset", "cli", "--page", "2")
    assert second.stdout.count(".jpg") == 0


def test_check_prints_what_is_not_there_yet(system: System) -> None:
    folder = system.datasets / "checked"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(3200))
    assert futu(system, "index", "checked").returncode == 0
    card = system.folder / "card"
    (card / "sub").mkdir(parents=True)
    (card / "sub" / "old.jpg").write_bytes(jpeg(3200))
    (card / "new.jpg").write_bytes(jpeg(3201))
    both = futu(system, "check", str(card), "--dataset", "checked", "--show", "new")
    assert (both.returncode, both.stdout) == (1, f"{card}/new.jpg\n")
    assert "1 known, 1 new" in both.stderr
    assert "--questions similar,copy" in both.stderr
    new = futu(system, "check", str(card / "new.jpg"), "--dataset", "checked")
    assert (new.returncode, new.stdout) == (0, "")
    unknown = futu(system, "check", str(card), "--dataset", "nobody")
    assert (unknown.returncode, "nobody" in unknown.stderr) == (2, True)
    neither = futu(system, "check")
    assert (neither.returncode, "--from" in neither.stderr) == (2, True)


def test_index_takes_a_folder_below_a_root(system: System) -> None:
    nested = system.datasets / "outer" / "nested"
    nested.mkdir(parents=True)
    (nested / "a.jpg").write_bytes(jpeg(3100))
    done = futu(system, "index", str(nested), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] + json.loads(done.stdout)["reused"] == 1
    assert "nested" in futu(system, "datasets").stdout


def test_index_of_a_folder_outside_the_roots_tells_the_remedy(system: System) -> None:
    outside = system.folder / "elsewhere"
    outside.mkdir()
    done = futu(system, "index", str(outside))
    assert done.returncode == 1
    assert "--image-root" in done.stderr


def test_status_shows_the_parts(system: System) -> None:
    done = futu(system, "status")
    assert done.returncode == 0
    assert f"healthy: futu {__version__}" in done.stdout
    for part in ("redis", "catalogue", "index", "compute"):
        assert f"{part}: " in done.stdout


def test_bad_crop_and_unknown_dataset_are_one_sentence(system: System) -> None:
    picture = system.folder / "q.jpg"
    picture.write_bytes(jpeg(1))
    crop = futu(system, "search", str(picture), "--crop", "1,2")
    assert crop.returncode == 1
    assert "X,Y,W,H" in crop.stderr
    unknown = futu(system, "index", "nobody")
    assert unknown.returncode == 1
    assert "nobody" in unknown.stderr
    assert "Traceback" not in crop.stderr + unknown.stderr


def test_nothing_answering_says_what_to_start(system: System) -> None:
    done = futu(system, "--server", "http://127.0.0.1:9", "status")
    assert done.returncode == 1
    assert "./start.sh both" in done.stderr


def test_help_keeps_its_examples_line_by_line(system: System) -> None:
    shown = futu(system, "--help").stdout
    assert "\\b" not in shown
    assert "  futu index holiday            index the folder datasets/holiday\n" in shown
    run_py = subprocess.run(
        [sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "\\b" not in run_py
    assert "\n  ./start.sh both " in run_py


def test_doctor_finds_nothing_wrong_with_a_running_system(system: System) -> None:
    done = futu(system, "doctor", "--json", "--host", "127.0.0.1", "--port", str(system.port))
    found = json.loads(done.stdout)
    assert [each for each in found if each["level"] == "error"] == []
    assert done.returncode == 0
    said = {each["check"]: each["text"] for each in found}
    assert said["port"] == f"a controller listens on 127.0.0.1:{system.port}"
    assert said["controller"].endswith(f"is healthy, version {__version__}")
    assert said["compute"].endswith(f"version {__version__}")


def test_status_is_watched_until_it_is_interrupted(system: System) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "futu", "status", "--watch", "--json", "--interval", "0.1"],
        cwd=system.folder,
        env=os.environ | {"FUTU_SERVER": system.client.server, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=10) == 0
    watching.stdout.close()
    assert [look["status"] for look in looks] == ["healthy"] * 3
    assert looks[0]["time"] <= looks[2]["time"]
