"""What is there already, and what thresholds suit a dataset: as ``futu.client`` answers it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from futu.client_answers import make
from futu.errors import UnavailableError, from_code

_STREAM_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class KnownMatch:
    """An image that is the same picture.

    Attributes:
        tier: ``exact`` (equal bytes) or ``near`` (an edited copy).
        similarity: 0-100.
    """

    id: int
    path: str
    dataset: str
    tier: str
    similarity: float
    cosine: float
    image_url: str = ""
    thumbnail_url: str = ""
    width: int = 0
    height: int = 0
    size: int = 0


@dataclass(frozen=True)
class CheckedPicture:
    """Whether a picture is there already.

    Attributes:
        status: ``known``, ``new`` or ``error``.
        compared: ``bytes``, ``vectors`` (edited copies were looked for too) or ``nothing``.
    """

    name: str
    status: str
    compared: str
    content_hash: str | None
    matches: tuple[KnownMatch, ...] = ()
    error: str = ""
    code: str = ""


@dataclass(frozen=True)
class LeakedPicture:
    """An image of a dataset that is in another one too."""

    id: int
    path: str
    dataset: str
    matches: tuple[KnownMatch, ...]
    image_url: str = ""


@dataclass(frozen=True)
class CheckSummary:
    """What all came to.

    Attributes:
        threshold: similarity from which a picture is known, 0-100.
        note: what was not looked for, and what to run.
        edited_copies: whether a dataset has vectors by which they are found.
    """

    threshold: float
    model_id: str
    note: str = ""
    edited_copies: bool = True
    checked: int = 0
    known: int = 0
    new: int = 0
    errors: int = 0
    images: int = 0
    leaked: int = 0
    exact: int = 0
    near: int = 0


@dataclass(frozen=True)
class Far:
    """How far a long answer is; ``total`` 0: nobody knows."""

    done: int
    total: int = 0


class KnownCalls:
    """The calls; see ``futu.client.Client``."""

    server: str
    _http: httpx.Client

    def _call(self, method: str, path: str, **request: Any) -> Any:
        raise NotImplementedError

    def check(
        self,
        files: Sequence[Path] = (),
        *,
        paths: Sequence[str] = (),
        hashes: Sequence[str] = (),
        datasets: Sequence[str] = (),
        threshold: float | None = None,
        preset: str | None = None,
    ) -> tuple[list[CheckedPicture], CheckSummary]:
        """POST /api/duplicates/check: whether pictures are there already; nothing is stored.

        Args:
            files: of this machine; at most 1000 in all.
            paths: of the controller's machine, inside its image roots.
            hashes: SHA-256 in hex; only equal bytes are found.
            datasets: where to look; none means all.
            threshold: similarity from which a picture is known, 50-100.
            preset: ``strict``, ``normal`` or ``loose`` instead.
        """
        asked: dict[str, Any] = {"threshold": threshold, "preset": preset}
        asked = {name: value for name, value in asked.items() if value is not None}
        path = "/api/duplicates/check"
        if files:
            form = asked | {"dataset_names[]": list(datasets), "paths[]": list(paths)}
            form["hashes[]"] = list(hashes)
            with contextlib.ExitStack() as stack:
                parts = [
                    ("images", (_shown(file), stack.enter_context(file.open("rb"))))
                    for file in files
                ]
                body = self._call("POST", path, data=form, files=parts)
        else:
            lists = {"dataset_names": datasets, "paths": paths, "hashes": hashes}
            sent = asked | {name: list(value) for name, value in lists.items()}
            body = self._call("POST", path, json=sent)
        return [_checked(entry) for entry in body["results"]], make(CheckSummary, body)

    def check_folder(
        self,
        folder: str,
        *,
        datasets: Sequence[str] = (),
        threshold: float | None = None,
        preset: str | None = None,
    ) -> Iterator[CheckedPicture | Far | CheckSummary]:
        """The same for all pictures below a folder of the controller's machine, as they come.

        The last one is a ``CheckSummary``.
        """
        body = {
            "folder": folder,
            "dataset_names": list(datasets),
            "threshold": threshold,
            "preset": preset,
        }
        for line in self._lines("/api/duplicates/check", body):
            if line["type"] == "file":
                yield _checked(line)
            elif line["type"] == "progress":
                yield Far(line["checked"])
            else:
                yield make(CheckSummary, line)

    def leakage(
        self,
        dataset: str,
        against: Sequence[str] = (),
        *,
        threshold: float | None = None,
        preset: str | None = None,
    ) -> Iterator[LeakedPicture | Far | CheckSummary]:
        """POST /api/duplicates/leakage: pictures of a dataset that are in others too, as they come.

        The last one is a ``CheckSummary``.

        Args:
            dataset: whose pictures are looked for.
            against: where; none means all others.
            threshold: as for ``check``.
            preset: the same.
        """
        body = {
            "dataset": dataset,
            "against": list(against),
            "threshold": threshold,
            "preset": preset,
        }
        for line in self._lines("/api/duplicates/leakage", body):
            if line["type"] == "leak":
                yield make(LeakedPicture, line | {"matches": _matches(line)})
            elif line["type"] == "progress":
                yield Far(line["done"], line["total"])
            else:
                yield make(CheckSummary, line)

    def calibration(self, name: str) -> dict[str, Any]:
        """GET /api/calibration/<dataset>: what was measured with its pictures."""
        body: dict[str, Any] = self._call("GET", f"/api/calibration/{quote(name, safe='')}")
        return body

    def keep_calibration(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """PUT /api/calibration/<dataset>; ``facts`` has ``model_id`` and ``presets``."""
        path = f"/api/calibration/{quote(name, safe='')}"
        body: dict[str, Any] = self._call("PUT", path, json=dict(facts))
        return body

    def forget_calibration(self, name: str) -> bool:
        """DELETE /api/calibration/<dataset>; False when there was none."""
        path = f"/api/calibration/{quote(name, safe='')}"
        return bool(self._call("DELETE", path)["forgotten"])

    def calibration_sample(self, name: str, count: int, seed: int = 1) -> dict[str, Any]:
        """GET /api/calibration/<dataset>/sample: images chosen by chance, each content once."""
        path = f"/api/calibration/{quote(name, safe='')}/sample"
        body: dict[str, Any] = self._call("GET", path, params={"count": count, "seed": seed})
        return body

    def _lines(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The JSON objects of a long answer, as they come.

        Raises:
            FutuError: what went wrong, also half way; an answer that breaks off is an error.
        """
        sent = {name: value for name, value in body.items() if value is not None}
        ended = False
        try:
            with self._http.stream("POST", path, json=sent, timeout=_STREAM_TIMEOUT_S) as response:
                if response.is_error:
                    response.read()
                    _raise(response.json())
                for text in response.iter_lines():
                    line: dict[str, Any] = json.loads(text)
                    if line["type"] == "error":
                        _raise(line)
                    ended = line["type"] == "end"
                    yield line
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"The answer of {self.server} broke off ({error}).") from error
        if not ended:
            raise UnavailableError(f"The answer of {self.server} broke off; see its log.")


def _raise(body: Mapping[str, Any]) -> None:
    raise from_code(body.get("code", "server"), body.get("error", "unknown"), body.get("details"))


def _shown(file: Path) -> str:
    return str(file).encode("utf-8", "replace").decode()


def _checked(entry: Mapping[str, Any]) -> CheckedPicture:
    return make(CheckedPicture, {**entry, "matches": _matches(entry)})


def _matches(entry: Mapping[str, Any]) -> tuple[KnownMatch, ...]:
    return tuple(make(KnownMatch, match) for match in entry["matches"])
