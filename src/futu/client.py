"""A typed client of the controller's REST API. Errors come back as the classes of futu.errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from futu.client_answers import make
from futu.client_duplicates import DuplicateCalls
from futu.client_known import KnownCalls
from futu.client_models import ModelChange, Pruned, ServedModel, ServedModels
from futu.client_search import Result, SearchPage, SearchQuery
from futu.client_token import found_token
from futu.client_trash import TrashCalls
from futu.errors import ServerError, UnavailableError, from_code

__all__ = [
    "Client",
    "Dataset",
    "Failure",
    "ModelChange",
    "Progress",
    "Pruned",
    "Result",
    "SearchPage",
    "SearchQuery",
    "ServedModel",
    "ServedModels",
]

DEFAULT_SERVER = "http://127.0.0.1:19198"
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Dataset:
    """A dataset as the API lists it; ``models`` by question."""

    id: int
    name: str
    folder: str
    description: str = ""
    image_count: int = 0
    indexed: int = 0
    status: str = ""
    questions: tuple[str, ...] = ("similar",)
    reference: bool = False
    first_image_url: str | None = None
    models: dict[str, ServedModels] = field(default_factory=dict)
    watched: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a build is; ``progress`` in percent."""

    progress: int
    status: str
    current: int
    total: int
    message: str
    added: int = 0
    unchanged: int = 0
    reused: int = 0
    failed: int = 0
    quarantined: int = 0
    missing: int = 0
    state: str = ""
    dataset: str = ""
    build_id: int = 0
    started_at: str | None = None
    finished_at: str | None = None


@dataclass(frozen=True)
class Failure:
    """A file that could not be indexed."""

    path: str
    code: str
    error: str
    state: str = "failed"


def _dataset(facts: dict[str, Any]) -> Dataset:
    models = {question: _served(given) for question, given in facts.get("models", {}).items()}
    questions = tuple(facts.get("questions", ("similar",)))
    return make(Dataset, facts | {"questions": questions, "models": models})


def _served(facts: dict[str, Any]) -> ServedModels:
    roles = {role: facts.get(role) for role in ("serving", "coming", "former")}
    made = {role: make(ServedModel, given) for role, given in roles.items() if given is not None}
    return ServedModels(**made)


class Client(TrashCalls, DuplicateCalls, KnownCalls):
    """Talks to one controller.

    Args:
        server: its URL; FUTU_SERVER, or this machine's port 19198.
        token: FUTU_API_TOKEN, or what ``found_token`` finds.
    """

    def __init__(self, server: str | None = None, token: str | None = None) -> None:
        self.server = (server or os.environ.get("FUTU_SERVER") or DEFAULT_SERVER).rstrip("/")
        token = token or found_token(self.server)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # trust_env off: a proxy set for the web must not get pictures meant for this network.
        self._http = httpx.Client(
            base_url=self.server, headers=headers, timeout=_TIMEOUT_S, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"No Futu controller answers at {self.server} ({error}). Start one with "
                "./start.sh both, or name another with --server."
            ) from error

    def _bytes(self, path: str) -> bytes:
        response = self._send("GET", path)
        if response.is_error:
            self._read(response, path)
        return response.content

    def _call(self, method: str, path: str, **request: Any) -> Any:
        return self._read(self._send(method, path, **request), path)

    def _read(self, response: httpx.Response, path: str) -> Any:
        try:
            body = response.json()
        except ValueError as error:
            raise ServerError(
                f"{self.server} answered {response.status_code} without JSON; is it Futu?"
            ) from error
        if response.is_error and path != "/health":
            raise from_code(
                body.get("code", "server"), body.get("error", "unknown"), body.get("details")
            )
        return body

    def health(self) -> dict[str, Any]:
        """GET /health."""
        body: dict[str, Any] = self._call("GET", "/health")
        return body

    def metrics(self) -> str:
        """GET /metrics: numbers in the text format of Prometheus."""
        return self._bytes("/metrics").decode()

    def datasets(self) -> list[Dataset]:
        """GET /api/datasets."""
        return [_dataset(d) for d in self._call("GET", "/api/datasets")["datasets"]]

    def register(
        self, folder: Path, name: str | None = None, questions: Sequence[str] | None = None
    ) -> Dataset:
        """POST /api/datasets: make a dataset of a folder inside the image roots."""
        body: dict[str, Any] = {"folder": str(folder), "name": name}
        if questions is not None:
            body["questions"] = list(questions)
        return _dataset(self._call("POST", "/api/datasets", json=body))

    def dataset_id(self, name: str) -> int:
        """POST /api/get_dataset_id."""
        return int(self._call("POST", "/api/get_dataset_id", json={"name": name})["id"])

    def build_index(
        self,
        names: Sequence[str],
        *,
        questions: Sequence[str] | None = None,
        retry_failed: bool = False,
        confirm_missing: bool = False,
    ) -> None:
        """POST /api/build_index; ``questions`` are those the datasets answer from now on."""
        body: dict[str, Any] = {"dataset_names": list(names), "distributed": True}
        body["retry_failed"] = retry_failed
        body["confirm_missing"] = confirm_missing
        if questions is not None:
            body["questions"] = list(questions)
        self._call("POST", "/api/build_index", json=body)

    def cancel_build(self, name: str) -> bool:
        """DELETE /api/build_index/<dataset>; False when none was under way."""
        return bool(self._call("DELETE", f"/api/build_index/{quote(name, safe='')}")["cancelled"])

    def watch(self, name: str) -> dict[str, Any]:
        """POST /api/watch/<dataset>: index it whenever it changes; how it is watched."""
        body: dict[str, Any] = self._call("POST", f"/api/watch/{quote(name, safe='')}")
        return body

    def unwatch(self, name: str) -> bool:
        """DELETE /api/watch/<dataset>; False when it was not watched."""
        return bool(self._call("DELETE", f"/api/watch/{quote(name, safe='')}")["was_watched"])

    def watched(self) -> list[dict[str, Any]]:
        """GET /api/watch: which datasets are watched, and how."""
        found: list[dict[str, Any]] = self._call("GET", "/api/watch")["watched"]
        return found

    def verify(
        self, names: Sequence[str] | None, *, deep: bool = False, repair: bool = False
    ) -> None:
        """POST /api/verify: begin to compare disk, catalogue and index; None: of all datasets."""
        body = {"dataset_names": names and list(names), "deep": deep, "repair": repair}
        self._call("POST", "/api/verify", json=body)

    def verification(self, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """GET /api/verify: how far it is, and a page of the differences; ``limit`` 1-1000."""
        page = {"limit": limit, "offset": offset}
        body: dict[str, Any] = self._call("GET", "/api/verify", params=page)
        return body

    def cancel_verification(self) -> bool:
        """DELETE /api/verify; False when none was under way."""
        return bool(self._call("DELETE", "/api/verify")["cancelled"])

    def builds(self, limit: int = 20) -> list[Progress]:
        """GET /api/builds: newest first."""
        found = self._call("GET", "/api/builds", params={"limit": limit})["builds"]
        return [make(Progress, build) for build in found]

    def models(self) -> list[dict[str, Any]]:
        """GET /api/models: every model that has to do with a dataset, and which."""
        found: list[dict[str, Any]] = self._call("GET", "/api/models")["models"]
        return found

    def use_model(self, names: Sequence[str], model: str) -> list[ModelChange]:
        """POST /api/models/use: let a model serve datasets when its vectors are complete."""
        return self._change_models("use", {"dataset_names": list(names), "model": model})

    def use_former_model(self, names: Sequence[str], question: str) -> list[ModelChange]:
        """POST /api/models/back: drop a change under way, or return to the former model."""
        return self._change_models("back", {"dataset_names": list(names), "question": question})

    def _change_models(self, how: str, body: dict[str, Any]) -> list[ModelChange]:
        return [
            ModelChange(facts["dataset"], facts["question"], _served(facts), facts["message"])
            for facts in self._call("POST", f"/api/models/{how}", json=body)["datasets"]
        ]

    def prune_models(self, names: Sequence[str] | None = None) -> Pruned:
        """POST /api/models/prune: remove the vectors of former models, of all datasets or some."""
        body = {} if names is None else {"dataset_names": list(names)}
        facts = self._call("POST", "/api/models/prune", json=body)
        return Pruned(facts["vectors"], facts["bytes"], tuple(facts["model_ids"]))

    def jobs(self, limit: int = 20) -> dict[str, Any]:
        """GET /api/jobs: live, waiting and dead ones, and how many there are of each."""
        body: dict[str, Any] = self._call("GET", "/api/jobs", params={"limit": limit})
        return body

    def retry_jobs(self, ids: Sequence[str] | None = None) -> int:
        """POST /api/jobs/retry: pictures that were put aside are tried again; how many."""
        body = {} if ids is None else {"ids": list(ids)}
        return int(self._call("POST", "/api/jobs/retry", json=body)["retried"])

    def clear_stale_locks(self) -> int:
        """POST /api/jobs/clear_stale_locks; how many there were."""
        return int(self._call("POST", "/api/jobs/clear_stale_locks")["cleared"])

    def index_info(self) -> list[dict[str, Any]]:
        """GET /api/index: each question's index."""
        found: list[dict[str, Any]] = self._call("GET", "/api/index")["indexes"]
        return found

    def index_tune(
        self, recall: float, question: str = "similar", model: str | None = None
    ) -> list[str]:
        """POST /api/index/tune: build indexes anew, tuned to a recall@10; goes on meanwhile.

        Returns:
            The model_ids of the indexes: those of a question, or of one model.
        """
        which = {"question": question} if model is None else {"model": model}
        found: list[str] = self._call("POST", "/api/index/tune", json={"recall": recall, **which})[
            "model_ids"
        ]
        return found

    def progress(self, name: str) -> Progress:
        """GET /api/build_index/progress/<dataset>."""
        path = f"/api/build_index/progress/{quote(name, safe='')}"
        return make(Progress, self._call("GET", path))

    def failures(self, name: str, limit: int = 100) -> list[Failure]:
        """GET /api/build_index/<dataset>/failures."""
        path = f"/api/build_index/{quote(name, safe='')}/failures"
        found = self._call("GET", path, params={"limit": limit})
        return [make(Failure, f) for f in found["failures"]]

    def search(
        self,
        image: Path,
        *,
        datasets: Sequence[str] = (),
        mode: str = "similar",
        top_k: int = 10,
        crop: tuple[int, int, int, int] | None = None,
        min_similarity: float = 0.0,
    ) -> list[Result]:
        """POST /api/search with a picture from this machine."""
        query = SearchQuery(
            images=[image],
            datasets=datasets,
            mode=mode,
            top_k=top_k,
            crop=crop,
            min_similarity=min_similarity,
        )
        return self.search_page(query).results

    def search_page(self, query: SearchQuery) -> SearchPage:
        """POST /api/search: a page of results, and where the next one begins."""
        with contextlib.ExitStack() as stack:
            files = [
                (
                    field,
                    (
                        path.name.encode("utf-8", "replace").decode(),
                        stack.enter_context(path.open("rb")),
                    ),
                )
                for field, path in query.uploads()
            ]
            body = self._call("POST", "/api/search", data=query.form(), files=files or None)
        return make(SearchPage, body | {"results": [make(Result, r) for r in body["results"]]})

    def thumbnail(self, image_id: int) -> bytes:
        """GET /api/image/<id>/thumbnail: WebP."""
        return self._bytes(f"/api/image/{image_id}/thumbnail")

    def picture(self, image_url: str) -> bytes:
        """The file of an image, by the ``image_url`` or ``img_url`` of an answer."""
        return self._bytes(image_url)

    def feature(self, image_path: str, model: str = "similar") -> dict[str, Any]:
        """POST /api/compute/feature_extraction; ``model`` is a question or a model's name."""
        request = {"image_path": image_path, "model": model}
        body: dict[str, Any] = self._call("POST", "/api/compute/feature_extraction", json=request)
        return body

    def features(
        self, image_paths: Sequence[str], timeout_s: float = 60, model: str = "similar"
    ) -> list[dict[str, Any]]:
        """POST /api/compute/batch_feature_extraction."""
        request = {"image_paths": list(image_paths), "timeout": timeout_s, "model": model}
        body = self._call("POST", "/api/compute/batch_feature_extraction", json=request)
        results: list[dict[str, Any]] = body["results"]
        return results
