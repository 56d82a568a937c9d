"""Messages between versions: recorded ones of schema 3, and ours as schema 3 reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit import schema3

from futu.errors import OtherVersionError, from_code
from futu.jobs import message
from futu.jobs.message import (
    DeadLetter,
    ImageItem,
    ItemError,
    ItemResult,
    Job,
    JobResult,
    ServerInfo,
    decode,
    encode,
)

RECORDED = Path(__file__).parents[1] / "data" / "schema3"
JOB_ID = "0123456789abcdef0123456789abcdef"


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.msgpack").read_bytes()


def test_recorded_job_is_read() -> None:
    job = decode(recorded("job"), Job)
    assert (job.schema_version, job.request_id, job.collect) == (3, "", True)
    assert (job.job_id, job.stream) == (JOB_ID, "library")
    assert job.model_ids == ["efficientnet-lite0-224", "sscd"]
    assert job.items[0].path == b"/pictures/caf\xe9.jpg"
    assert job.items[1].crop == (1, 2, 30, 40)
    assert job.contents() == [bytes(range(32)), bytes(range(32, 64))]


def test_recorded_result_is_read() -> None:
    result = decode(recorded("result"), JobResult)
    good, bad = result.items
    assert (result.job_id, good.width, good.height) == (JOB_ID, 640, 480)
    assert len(good.vectors["efficientnet-lite0-224"]) == 16
    assert bad.error == ItemError("cannot_decode", "b.jpg is broken.", {"file": "b.jpg"})


def test_recorded_registration_and_dead_letter_are_read() -> None:
    server = decode(recorded("server"), ServerInfo)
    assert (server.images_done, server.by_path, server.schema_version) == (7, False, 3)
    assert server.fits
    letter = decode(recorded("letter"), DeadLetter)
    assert (letter.job.job_id, letter.reason) == (JOB_ID, "it died")


def test_schema_3_reads_what_we_write() -> None:
    items = [ImageItem(path=b"/a.jpg", content_hash=b"h" * 32, name="a.jpg")]
    job = Job(JOB_ID, "library", ["m"], items, collect=True, request_id="r")
    result = JobResult(JOB_ID, "s", [ItemResult({"m": b"v"}, None, b"h" * 32, 4, 3)])
    server = ServerInfo("s", "host", 1, ["m"], 2, 0.5, schema_version=message.SCHEMA_VERSION)
    pairs: list[tuple[Any, Any]] = [
        (job, schema3.Job),
        (result, schema3.JobResult),
        (server, schema3.ServerInfo),
    ]
    for ours, kind in pairs:
        theirs = msgspec.to_builtins(msgspec.msgpack.decode(encode(ours), type=kind))
        mine = msgspec.to_builtins(ours)
        assert theirs == {name: mine[name] for name in theirs}


@pytest.mark.parametrize(
    ("written", "oldest_reader", "said"),
    [
        (message.OLDEST_READABLE - 1, 1, "an older Futu .* Upgrade that one"),
        (message.SCHEMA_VERSION + 1, message.SCHEMA_VERSION + 1, "a newer Futu .* Upgrade this"),
    ],
)
def test_message_of_a_schema_too_far_away_is_refused_by_name(
    written: int, oldest_reader: int, said: str
) -> None:
    job = Job(JOB_ID, "query", [], [], schema_version=written, oldest_reader=oldest_reader)
    result = JobResult(JOB_ID, "s", [], schema_version=written, oldest_reader=oldest_reader)
    for sent in (job, result):
        with pytest.raises(OtherVersionError, match=said):
            decode(encode(sent), type(sent))


def test_message_of_the_next_schema_that_we_can_read_is_read() -> None:
    job = Job(JOB_ID, "query", [], [], schema_version=message.SCHEMA_VERSION + 1)
    data = msgspec.msgpack.encode({**msgspec.to_builtins(job), "something_new": {"a": [1]}})
    assert decode(data, Job) == job


@pytest.mark.parametrize(
    ("schema_version", "oldest_readable", "fits"),
    [
        (message.SCHEMA_VERSION, message.OLDEST_READABLE, True),
        (message.OLDEST_READER - 1, 1, False),
        (message.SCHEMA_VERSION + 2, message.SCHEMA_VERSION, True),
        (message.SCHEMA_VERSION + 2, message.SCHEMA_VERSION + 1, False),
    ],
)
def test_server_fits_when_both_understand_each_other(
    schema_version: int, oldest_readable: int, fits: bool
) -> None:
    server = ServerInfo("s", "host", 1, [], 1, 0.0)
    server.schema_version, server.oldest_readable = schema_version, oldest_readable
    assert server.fits is fits


def test_refusal_crosses_processes_with_its_class() -> None:
    assert isinstance(from_code("other_version", "no"), OtherVersionError)
