"""Duplicates by the command line: found, explained, decided about, moved and brought home."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from click.testing import CliRunner, Result
from PIL import Image
from tests.e2e.conftest import System
from tests.pictures import encoded, jpeg, picture

from futu.cli import cli


def duplicates(system: System, *arguments: str) -> Result:
    """In this process; what a user sees of an error is in ``stderr``."""
    return CliRunner().invoke(cli, ["--server", system.client.server, "duplicates", *arguments])


def test_duplicates_are_found_decided_about_moved_and_brought_home(system: System) -> None:
    folder = system.datasets / "twins"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(5000))
    (folder / "copy of a.jpg").write_bytes(jpeg(5000))
    (folder / "b.jpg").write_bytes(jpeg(5001))
    (folder / "b.png").write_bytes(encoded(Image.open(io.BytesIO(jpeg(5001))), "PNG"))
    (folder / "c.jpg").write_bytes(encoded(picture(5002), "JPEG"))
    assert duplicates(system, "twins").exit_code == 0  # nothing is indexed yet
    system.index("twins")

    found = duplicates(system, "twins")
    assert found.exit_code == 1
    assert "a.jpg" in found.stdout
    assert "b.png" in found.stdout
    assert "futu models pull" in found.stderr
    lines = [json.loads(line) for line in duplicates(system, "twins", "--json").stdout.splitlines()]
    assert [group["tier"] for group in lines] == ["exact", "pixels"]
    pixels = lines[1]
    assert pixels["images"][0]["fname"] == "b.png"
    table = csv.DictReader(io.StringIO(duplicates(system, "twins", "--csv").stdout))
    assert [(row["tier"], row["path"]) for row in table][2:] == [
        ("exact", "b.png"),
        ("pixels", "b.jpg"),
    ]

    name = f"{pixels['run']}-{pixels['number']}"
    assert "is dismissed" in duplicates(system, "--dismiss", name).stdout
    plan = system.folder / "twins.csv"
    planned = duplicates(system, "twins", "--plan", str(plan))
    assert planned.exit_code == 0, planned.output
    applied = duplicates(system, "--apply", str(plan))
    assert applied.exit_code == 0, applied.output
    names = {path.name for path in Path(folder).glob("*.*") if path.is_file()}
    assert names == {"a.jpg", "b.jpg", "b.png", "c.jpg"}
    nothing = duplicates(system, "twins")
    assert (nothing.exit_code, "0 groups" in nothing.stdout) == (0, True)
    assert "b.png" in duplicates(system, "twins", "--state", "dismissed").stdout
    assert duplicates(system, "--undo").exit_code == 0
    assert (folder / "copy of a.jpg").read_bytes() == jpeg(5000)


def test_errors_of_duplicates_have_an_exit_code_of_their_own(system: System) -> None:
    unknown = duplicates(system, "nobody")
    assert (unknown.exit_code, "nobody" in unknown.stderr) == (2, True)
    assert duplicates(system, "--preset", "strict", "--threshold", "90").exit_code == 2
    bad = duplicates(system, "--dismiss", "seventeen")
    assert (bad.exit_code, "3-17" in bad.stderr) == (2, True)
    assert "No run is under way" in duplicates(system, "--cancel").stdout
