"""futu search: what is refused before anyone is asked."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from futu.cli import cli
from futu.cli.search import _parse_crop, _size
from futu.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--id"),
        (["--id", "1", "--page", "2", "--offset", "3"], "not both"),
        (["--id", "1", "--crop", "1,2"], "X,Y,W,H"),
        (["--id", "1", "--crop", "1%,2%,3,4"], "10%,10%,50%,50%"),
    ],
)
def test_wrong_options_are_one_sentence(options: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["search", *options])
    assert isinstance(done.exception, InvalidRequestError)
    assert words in done.exception.message


@pytest.mark.parametrize("size", ["big", "-1", "5TB", "1e3", ""])
def test_what_is_no_size_is_refused_with_an_example(size: str) -> None:
    done = CliRunner().invoke(cli, ["search", "--id", "1", "--min-size", size])
    assert done.exit_code == 2
    assert "2MB" in done.output


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500", 500),
        ("500B", 500),
        ("1.5kB", 1500),
        ("2MB", 2_000_000),
        ("1 GiB", 2**30),
        ("3k", 3000),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert _size(text) == size


def test_crop_is_in_pixels_or_in_percent() -> None:
    assert _parse_crop("10, 20,30,40") == ((10, 20, 30, 40), "pixels")
    assert _parse_crop("10%,0%,12.5%,100%") == ((0.1, 0, 0.125, 1), "fractions")
