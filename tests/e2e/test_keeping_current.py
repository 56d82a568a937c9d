"""A watched folder and a verified catalogue, by the command line and real processes."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from tests.conftest import until
from tests.e2e.conftest import System
from tests.e2e.test_cli import futu
from tests.pictures import jpeg

from futu.cli import cli


def asked(system: System, *arguments: str) -> Result:
    """The command line in this process, against the system's controller."""
    return CliRunner().invoke(cli, ["--server", system.client.server, *arguments])


def found(system: System, name: str, picture: bytes) -> list[str]:
    """The files of a dataset that a search finds, best first."""
    query = system.folder / "query.jpg"
    query.write_bytes(picture)
    return [r.fname for r in system.client.search(query, datasets=[name])]


def test_watched_folder_is_searchable_as_it_changes(system: System) -> None:
    folder = system.datasets / "watched"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.jpg").write_bytes(jpeg(7000 + n))
    begun = futu(system, "index", "watched", "--watch")
    assert begun.returncode == 0, begun.stderr
    assert "watched is watched (events)" in begun.stderr
    whole = jpeg(7100)
    new = folder / "new.jpg"
    # As it is while it is being copied.
    new.write_bytes(whole[: len(whole) // 3])
    until(lambda: system.client.failures("watched"))
    with new.open("ab") as file:
        file.write(whole[len(whole) // 3 :])
    until(lambda: found(system, "watched", whole)[0] == "new.jpg")
    new.unlink()
    assert "new.jpg" not in found(system, "watched", whole)
    until(lambda: system.client.progress("watched").total == 3)
    assert "no longer watched" in asked(system, "index", "watched", "--unwatch").stderr
    assert asked(system, "index", "watched", "--watch", "--unwatch").exit_code == 2


def test_verify_tells_by_its_exit_code_whether_all_agree(system: System) -> None:
    folder = system.datasets / "verified"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.jpg").write_bytes(jpeg(7200 + n))
    assert system.index("verified").added == 3
    agree = asked(system, "verify", "verified")
    assert (agree.exit_code, agree.stdout) == (0, "")
    assert "agree" in agree.stderr
    (folder / "0.jpg").unlink()
    (folder / "3.jpg").write_bytes(jpeg(7203))
    differ = futu(system, "verify", "verified")
    assert differ.returncode == 1
    assert differ.stdout.count("verified: ") == 2
    assert "--repair" in differ.stderr
    as_json = asked(system, "verify", "verified", "--deep", "--repair", "--json")
    assert as_json.exit_code == 0
    facts = json.loads(as_json.stdout)
    assert facts["mended"] == {"file_missing": 1, "not_in_catalogue": 1}
    assert asked(system, "verify", "no such dataset").exit_code == 2


def test_files_gone_by_the_score_are_kept_until_confirmed(system: System) -> None:
    folder = system.datasets / "mounted"
    folder.mkdir()
    for n in range(12):
        (folder / f"{n}.jpg").write_bytes(jpeg(7300 + n))
    assert system.index("mounted").added == 12
    away = Path(f"{system.folder}/away")
    folder.rename(away)
    folder.mkdir()
    held = asked(system, "index", "mounted")
    assert held.exit_code == 1
    assert "futu index mounted --confirm-missing" in held.stderr
    assert len(found(system, "mounted", jpeg(7300))) == 10
    assert asked(system, "index", "mounted", "--confirm-missing").exit_code == 0
    assert system.client.progress("mounted").missing == 12
