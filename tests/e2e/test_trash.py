"""Duplicates go to the trash and come home by the command line."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from tests.e2e.conftest import System
from tests.e2e.test_cli import futu
from tests.pictures import jpeg

from futu.cli import cli
from futu.trash.plan import to_csv


def futu_here(system: System, *arguments: str) -> Result:
    """The same in this process; what a user sees of an error is ``result.exception``."""
    return CliRunner().invoke(cli, ["--server", system.client.server, "trash", *arguments])


def test_plan_is_edited_carried_out_listed_and_taken_back(system: System) -> None:
    folder = system.datasets / "trash"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(jpeg(4000))
    (folder / "b.jpg.xmp").write_bytes(b"edits")
    system.index("trash")

    def found() -> list[int]:
        return sorted(r.id for r in system.client.search(folder / "a.jpg", datasets=["trash"]))

    ids = found()
    plan = system.client.plan(groups=[ids])
    assert (plan.groups, plan.images, plan.sidecars) == (1, 2, 1)
    assert plan.freed_bytes == 2 * len(jpeg(4000)) + 5
    file = system.folder / "plan.csv"
    file.write_text(to_csv(plan.rows))
    applied = futu(system, "trash", "apply", str(file))
    assert applied.returncode == 0, applied.stderr
    name = applied.stdout.split()[-1]
    assert [path.name for path in folder.iterdir()] == ["a.jpg"]
    assert found() == [plan.rows[0].image_id]
    again = futu_here(system, "apply", str(file))
    assert "may be in the trash already" in str(again.exception)
    assert "applied" in futu_here(system, "list").output
    listed = json.loads(futu_here(system, "list", name, "--json").output)
    assert sorted(Path(f["path"]).name for f in listed) == ["b.jpg", "b.jpg.xmp", "c.jpg"]
    restored = futu_here(system, "restore", name, str(folder / "b.jpg"))
    assert "2 of 3 files are home" in restored.output
    (folder / "c.jpg").write_bytes(b"taken")
    undone = futu(system, "trash", "undo", name)
    assert undone.returncode == 1
    assert "c.jpg is taken by another file" in undone.stderr
    assert (folder / "c.jpg").read_bytes() == b"taken"
    (folder / "c.jpg").unlink()
    assert "3 of 3 files are home" in futu_here(system, "undo").output
    assert (folder / "c.jpg").read_bytes() == jpeg(4000)
    assert found() == ids
    assert "nothing in the trash" in str(futu_here(system, "undo").exception)


def test_file_that_is_no_plan_is_named(system: System) -> None:
    file = system.folder / "no plan.csv"
    file.write_bytes(b"\xff\xfe")
    assert "no plan.csv is not UTF-8" in str(futu_here(system, "apply", str(file)).exception)
