"""Files that belong to a picture: what editors keep in .xmp beside it.

``a.jpg.xmp`` belongs to ``a.jpg`` and goes where it goes. ``a.xmp`` belongs to all pictures named
``a``: it goes when none of them stays.
"""

from __future__ import annotations

import os
from collections.abc import Collection

SIDECAR = ".xmp"


def sidecars(path: str, leaving: Collection[str], listed: Collection[str]) -> list[str]:
    """The sidecar files that leave with a picture.

    Args:
        path: of the picture, absolute.
        leaving: paths of all pictures that leave.
        listed: names of the files in its folder.
    """
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    found = []
    for other in listed:
        base, extension = os.path.splitext(other)
        if extension.lower() != SIDECAR or other == name:
            continue
        if base == name:
            found.append(other)
        elif base == stem:
            sharing = [n for n in listed if n != other and _shares(n, stem)]
            if all(os.path.join(folder, n) in leaving for n in sharing):
                found.append(other)
    return [os.path.join(folder, other) for other in sorted(found)]


def _shares(name: str, stem: str) -> bool:
    base, extension = os.path.splitext(name)
    return base == stem and extension.lower() != SIDECAR
