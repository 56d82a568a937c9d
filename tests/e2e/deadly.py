"""Futu with a decoder that kills its process on pictures that carry a mark.

What a damaged picture may do to a decoder in C cannot be had to order; everything around it is
the program itself. Run as a script, so that the processes it spawns have the same decoder.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from PIL import Image

from futu.cli import main
from futu.compute import pipeline
from futu.images.decode import decode

MARK = b"\xff\xd9 deadly"


def _deadly(data: bytes, *arguments: Any, **options: Any) -> Image.Image:
    if data.endswith(MARK):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(data, *arguments, **options)


vars(pipeline)["decode"] = _deadly

if __name__ == "__main__":
    main()
