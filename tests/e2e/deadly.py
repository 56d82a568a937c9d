"""Futu with a decoder that kills its process on pictures that carry a mark.

What a damaged picture may do to a decoder in C cannot be had to order; everything around it is
the program itself. Run as a script, so that the processes it spawns have the same decoder.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from futu.cli import main
from futu.compute import pipeline
from futu.images.decode import Picture

MARK = b"\xff\xd9 deadly"


class Deadly(Picture):
    """A picture that may not be survived."""

    def __init__(self, data: bytes, *arguments: Any) -> None:
        if data.endswith(MARK):
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(data, *arguments)


vars(pipeline)["Picture"] = Deadly

if __name__ == "__main__":
    main()
