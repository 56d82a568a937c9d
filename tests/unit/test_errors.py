"""The error tree and its drawing."""

from __future__ import annotations

import re

import pytest

from futu import errors
from futu.errors import FutuError, from_code
from futu.jobs.message import ImageItem, ItemError, Job, decode, encode


def family(root: type[FutuError]) -> list[type[FutuError]]:
    return [root, *(c for child in root.__subclasses__() for c in family(child))]


def test_drawing_shows_every_error_with_status_and_code() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"(\w+Error) +(\d{3} \w+)$", errors.__doc__, re.MULTILINE))
    for cls in family(FutuError):
        if cls.__name__ in drawn:
            assert drawn[cls.__name__] == f"{cls.status} {cls.code}"
        else:
            assert cls.__name__ in errors.__doc__


@pytest.mark.parametrize("cls", family(FutuError), ids=lambda c: c.__name__)
def test_error_crosses_the_wire_as_itself(cls: type[FutuError]) -> None:
    sent = ItemError.of(cls("what to do", file="a.jpg"))
    back = decode(encode(sent), ItemError).rebuild()
    assert type(back) is cls
    assert (back.message, back.details) == ("what to do", {"file": "a.jpg"})


def test_unknown_code_is_a_server_error() -> None:
    assert isinstance(from_code("from the future", "x"), errors.ServerError)


def test_message_of_a_newer_version_is_understood() -> None:
    import msgspec

    job = {
        "job_id": "1",
        "stream": "query",
        "model_ids": ["m"],
        "items": [{"path": b"/a", "later": 1}],
        "schema_version": 9,
        "later": {"x": 1},
    }
    found = decode(msgspec.msgpack.encode(job), Job)
    assert found.items == [ImageItem(path=b"/a")]
    assert not found.collect


def test_bytes_that_are_no_message_say_what_to_check() -> None:
    with pytest.raises(errors.JobFailedError, match="same version"):
        decode(b"\xc1", Job)
