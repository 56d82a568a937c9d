"""Log lines: for people and for programs, and the ids in them."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from futu import logs, tracing

log = logging.getLogger("futu.test")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    for handler in before:
        root.removeHandler(handler)
    yield tmp_path / "test.log"
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(file: Path, form: Literal["text", "json"]) -> list[str]:
    logs.configure("compute", "INFO", file, console=False, form=form)
    log.info("nothing in particular")
    with tracing.about("r1", "j1"):
        log.info("job %s: caf\u00e9", "j1")
        log.warning("something else")
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("it failed")
    return file.read_text("utf-8").splitlines()


def test_text_lines_end_with_the_ids_they_do_not_have_yet(file: Path) -> None:
    plain, of_job, other, failed, *traceback = lines(file, "text")
    assert re.fullmatch(r"\S+ \S+ INFO +\d+ compute futu\.test: nothing in particular", plain)
    assert of_job.endswith("futu.test: job j1: caf\u00e9 (request r1)")
    assert other.endswith("something else (job j1) (request r1)")
    assert failed.endswith("it failed (job j1) (request r1)")
    assert traceback[-1] == "ValueError: no"


def test_json_lines_are_objects_with_the_ids(file: Path) -> None:
    plain, of_job, other, failed = map(json.loads, lines(file, "json"))
    assert plain.keys() == {*("timestamp", "level", "pid", "thread", "role", "logger", "message")}
    assert (plain["level"], plain["role"], plain["logger"]) == ("INFO", "compute", "futu.test")
    assert plain["timestamp"].endswith("+00:00")
    assert (of_job["message"], of_job["job_id"], of_job["request_id"]) == (
        "job j1: caf\u00e9",
        "j1",
        "r1",
    )
    assert other["level"] == "WARNING"
    assert failed["exc_info"].endswith("ValueError: no")


def test_ids_are_of_one_thread_and_end_with_their_block() -> None:
    seen: list[str] = []
    with tracing.about("outer"):
        with tracing.about("inner", "job"):
            thread = threading.Thread(target=lambda: seen.append(tracing.request_id()))
            thread.start()
            thread.join()
            assert (tracing.request_id(), tracing.job_id()) == ("inner", "job")
        assert (tracing.request_id(), tracing.job_id()) == ("outer", "")
    assert tracing.request_id() == ""
    assert seen == [""]


@pytest.mark.parametrize("offered", [None, "", "a b", "x" * 65, "a\nb", "caf\u00e9", '"'])
def test_id_that_could_not_stand_in_a_log_is_replaced(offered: str | None) -> None:
    with tracing.about(""):
        made = tracing.begin_request(offered)
        assert re.fullmatch("[0-9a-f]{16}", made)
        assert tracing.request_id() == made


def test_usable_id_is_kept() -> None:
    with tracing.about(""):
        assert tracing.begin_request("0af7651916cd43dd-b7:ad_6b.71/x") == (
            "0af7651916cd43dd-b7:ad_6b.71/x"
        )
