"""Folders that cannot be used: one sentence with the remedy, and nothing damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.privileges import without_override

from futu import config
from futu.controller.service import Controller
from futu.errors import SettingsError
from futu.services.manager import Manager

FULL = """
mount -t tmpfs -o size=64k none data
head -c 1000000 /dev/zero > data/fill 2>/dev/null
"$@"
code=$?
ls data
exit $code
"""


def on_full_disk(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder whose folder data is a disk without room."""
    (folder / "data").mkdir()
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the kernel does not let us make mount namespaces: {error}")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL, "sh", *command],
        cwd=folder,
        env=os.environ | {"FUTU_LOG_FILE": "data/futu.log", "REDIS_URL": f"unix://{folder}/no"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_controller_on_a_full_disk_says_so_and_leaves_no_half_a_token(tmp_path: Path) -> None:
    done = on_full_disk(tmp_path, [sys.executable, "-m", "futu", "serve", "--host", "127.0.0.1"])
    assert done.returncode == 2, done.stderr
    assert "data/api_token cannot be written (No space left on device). Make room" in done.stderr
    assert done.stderr.count("futu.log cannot be written (No space left on device)") <= 1
    assert "Traceback" not in done.stderr
    assert "api_token" not in done.stdout.split()


def test_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    settings = config.load(data_dir=folder, redis_url=f"unix://{tmp_path}/no")
    wanted = rf"The data directory {folder} cannot be written \(Permission denied\)"
    with without_override():
        with pytest.raises(SettingsError, match=wanted):
            Controller(settings)
        with pytest.raises(SettingsError, match=wanted):
            Manager(settings, lambda _: None).start(["controller"], False)
    assert list(folder.iterdir()) == []
