"""What the doctor finds on a machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from futu import config, doctor
from futu.catalogue.engine import open_engine, sqlite_url
from futu.catalogue.store import Catalogue
from futu.config import Settings
from futu.doctor import Finding, machine
from futu.models.registry import spec
from futu.models.store import pulled_path

Make = Callable[..., Settings]


@pytest.fixture
def make(tmp_path: Path, models_dir: Path) -> Make:
    def made(**given: Any) -> Settings:
        places: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            "datasets_dir": tmp_path / "datasets",
            "log_file": tmp_path / "log",
        }
        return config.load(**{**places, **given})

    return made


def worst(findings: Iterator[Finding]) -> Finding:
    found = list(findings)
    assert found
    return max(found, key=lambda each: ("ok", "warning", "error").index(each.level))


def test_machine_without_anything_yet_has_no_errors(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    settings = make(host="127.0.0.1", port=free)
    found = [each for check in machine.CHECKS.values() for each in check(settings)]
    assert {each.check for each in found} == machine.CHECKS.keys()
    assert [each for each in found if each.level == "error"] == []
    assert list(tmp_path.iterdir()) == []


def test_data_directory_below_a_file_is_an_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = worst(machine.writable(make(data_dir=tmp_path / "file" / "data")))
    assert found.level == "error"
    assert "is a file" in found.text
    assert "FUTU_DATA_DIR" in found.remedy


def test_little_room_is_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LEAST_FREE_BYTES", 10**18)
    found = worst(machine.disk(make()))
    assert (found.level, "Make room" in found.remedy) == ("error", True)


def test_missing_root_is_an_error_and_missing_datasets_folder_is_not(
    make: Make, tmp_path: Path
) -> None:
    assert worst(machine.roots(make())).level == "ok"
    found = worst(machine.roots(make(image_roots=(tmp_path / "unmounted",))))
    assert (found.level, "Mount" in found.remedy) == ("error", True)


def test_model_that_is_not_in_place_is_an_error_only_where_it_is_asked_for(
    make: Make, tmp_path: Path
) -> None:
    empty = tmp_path / "models"
    assert worst(machine.models(make(models_dir=empty))).level == "ok"
    found = worst(machine.models(make(models_dir=empty, questions="similar,copy")))
    assert (found.level, found.remedy) == ("warning", "futu models pull sscd-distilled")
    found = worst(machine.models(make(models_dir=empty, similar_model="efficientnet-lite2")))
    assert (found.level, found.remedy) == ("error", "futu models pull efficientnet-lite2")
    found = worst(machine.models(make(similar_model="sscd")))
    assert (found.level, "FUTU_SIMILAR_MODEL" in found.text) == ("error", True)


def test_damaged_model_is_an_error(make: Make, tmp_path: Path) -> None:
    settings = make(models_dir=tmp_path, copy_model="sscd", questions="similar,copy")
    file = pulled_path(spec("sscd"), tmp_path)
    file.parent.mkdir()
    file.write_bytes(b"half a model")
    found = worst(machine.models(settings))
    assert (found.level, "has SHA-256" in found.text) == ("error", True)


def test_catalogue_of_a_newer_version_is_an_error(make: Make, tmp_path: Path) -> None:
    settings = make()
    assert worst(machine.catalogue(settings)).level == "ok"
    settings.data_dir.mkdir()
    url = sqlite_url(settings.data_dir / "catalogue.db")
    Catalogue(url).close()
    assert worst(machine.catalogue(settings)).level == "ok"
    engine = open_engine(url)
    with engine.connect() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        db.commit()
    engine.dispose()
    found = [
        each for each in doctor.examine(settings, "http://127.0.0.1:1") if each.check == "catalogue"
    ]
    assert [(each.level, "made by a newer Futu" in each.text) for each in found] == [
        ("error", True)
    ]


def test_port_of_another_program_is_an_error(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        other.close()
        assert worst(machine.port(make(host="127.0.0.1", port=port))).level == "ok"
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        held.settimeout(20)
        port = held.getsockname()[1]

        def hang_up() -> None:
            held.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        found = worst(machine.port(make(host="127.0.0.1", port=port)))
        thread.join()
    assert (found.level, "Another program" in found.text) == ("error", True)


def test_address_of_another_machine_is_an_error(make: Make) -> None:
    found = worst(machine.port(make(host="192.0.2.1", port=19198)))
    assert (found.level, "--host" in found.remedy) == ("error", True)


def test_too_many_workers_and_too_little_memory_are_said(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "share" in worst(machine.memory(make(compute_workers=256))).text
    limit = tmp_path / "memory.max"
    limit.write_text(str(600 * 2**20))
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", limit)
    found = next(machine.memory(make(compute_workers=1)))
    assert found.text.startswith("0.6 GB")
    assert (found.level, "FUTU_DECODE_BYTES" in found.remedy) == ("warning", True)
    limit.write_text("max\n")
    assert next(machine.memory(make(compute_workers=1, decode_bytes=2**24))).level == "ok"


def test_low_inotify_limit_is_said_unless_folders_are_polled(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_INOTIFY", tmp_path)
    (tmp_path / "max_user_watches").write_text("8192\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    watches, instances = machine.watching(make())
    assert (watches.level, "max_user_watches=1048576" in watches.remedy) == ("warning", True)
    assert instances.level == "ok"
    assert list(machine.watching(make(watch_mode="polling"))) == []


def test_check_that_fails_is_a_finding_and_the_others_go_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Settings) -> Iterator[Finding]:
        raise ZeroDivisionError

    monkeypatch.setitem(machine.CHECKS, "python", broken)
    found = list(doctor.examine(make(), "http://127.0.0.1:1"))
    assert (found[0].check, found[0].level) == ("python", "error")
    assert {each.check for each in found} > {"python", "disk", "controller"}
