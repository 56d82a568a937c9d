"""The alternative: one Flask view under waitress on the same index, all rows in lists.

python -m benchmarks.search_load.bare FOLDER PORT IMAGES
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import waitress
from benchmarks.search_load import site
from flask import Flask, Response, jsonify, request

from futu.catalogue.engine import sqlite_url
from futu.catalogue.store import Catalogue
from futu.index.live import LiveIndex
from futu.models.registry import default_spec

_THREADS = 16


def main() -> None:
    folder, port, images = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    settings = site.settings(folder)
    spec = default_spec("similar", settings)
    catalogue = Catalogue(sqlite_url(settings.data_dir / "catalogue.db"))
    file = settings.data_dir / "index" / f"{spec.model_id}.faiss"
    live = LiveIndex(file, catalogue.identity, spec.model_id, spec.dimension)
    live.load()
    rows: dict[int, dict[str, object]] = {}
    for first in range(1, images + 1, 1000):
        for vector_id, found in catalogue.images_of_vectors(
            range(first, first + 1000), range(1, site.DATASETS + 1)
        ).items():
            image = found[0]
            rows[vector_id] = {
                "id": image.id,
                "fname": image.path,
                "dataset": image.dataset,
                "img_url": f"/api/image/{image.dataset}/{image.id}",
                "width": image.width,
                "height": image.height,
                "model_id": spec.model_id,
            }
    table = np.zeros((images + 1, spec.dimension), np.float16)
    for ids, vectors in catalogue.vectors(range(1, images + 1)):
        table[ids] = vectors
    app = Flask("bare")

    @app.post("/api/search")
    def search() -> Response:
        vector = table[request.get_json()["image_id"]].astype(np.float32)
        ids, cosines = live.index.search(vector, 10)
        results = [
            {**rows[key], "cosine": cosine, "similarity": 100 * cosine}
            for key, cosine in zip(ids.tolist(), cosines.tolist())
        ]
        return jsonify({"results": results})

    waitress.serve(app, host="127.0.0.1", port=port, threads=_THREADS)


if __name__ == "__main__":
    main()
