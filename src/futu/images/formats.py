"""What a file is by its first bytes, and which names the walk over a folder takes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import filetype

from futu.errors import UnsupportedImageError, VectorImageError

# fmt: off
RAW_EXTENSIONS = frozenset([
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf",
    ".srw", ".x3f",
])
"""Camera raw files (lower case)."""

EXTENSIONS = RAW_EXTENSIONS | frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp",
    ".tif", ".tiff", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif",
])
"""What counts as a picture when a folder is walked (lower case). The content decides later."""
# fmt: on

HEAD_BYTES = 4096
"""As much of a file as ``sniff`` looks at."""

NOT_BY_CONTENT = frozenset(["", "SVG", "DIB"])
"""Not enough for a file without an extension: a DIB begins with a mere number."""

READS = "JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF, HEIC, camera raw"

_SIGNATURES = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF8"),
    ("RAW", b"FUJIFILMCCD-RAW"),  # RAF
    ("RAW", b"IIRO"),  # ORF
    ("RAW", b"IIRS"),
    ("RAW", b"MMOR"),
    ("RAW", b"IIU\0"),  # RW2, RWL
    ("RAW", b"\0MRM"),  # MRW
    ("RAW", b"FOVb"),  # X3F
    ("RAW", b"II\x1a\0\0\0HEAPCCDR"),  # CRW
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),
    ("TIFF", b"MM\0+"),
)
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_AVIF_BRANDS = frozenset(b"avif avis".split())
_DIB_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)

_SUB_IFDS, _PHOTOMETRIC, _DNG_VERSION = 0x014A, 0x0106, 0xC612
_CFA, _LINEAR_RAW = 32803, 34892
_MOST_IFDS = 16


def sniff(data: bytes) -> str:
    """The format a file's first bytes tell.

    Args:
        data: the file; its first ``HEAD_BYTES`` are enough, but a camera raw file that is
            built as a TIFF is told from a TIFF only when all is there.

    Returns:
        ``JPEG``, ``PNG``, ``GIF``, ``BMP``, ``DIB``, ``WEBP``, ``TIFF``, ``AVIF``, ``HEIF``,
        ``RAW``, ``SVG``, or an empty string for what is none of these.
    """
    for kind, signature in _SIGNATURES:
        if data.startswith(signature):
            return "RAW" if kind == "TIFF" and _is_raw_tiff(data) else kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _DIB_HEADER_SIZES:
        return "BMP"
    if len(data) > 16 and int.from_bytes(data[:4], "little") in _DIB_HEADER_SIZES:
        return "DIB"
    text = data[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<") and b"<svg" in text:
        return "SVG"
    return ""


def refuse(data: bytes, name: str) -> UnsupportedImageError:
    """The error for a file that is in no format we read; says what it is, if that is known."""
    if sniff(data) == "SVG":
        return VectorImageError(
            f"{name} is an SVG, a drawing made of shapes; export it as PNG to index it.", file=name
        )
    kind = filetype.guess(data[:HEAD_BYTES])
    what = f"is {kind.mime}, which is" if kind is not None else "is"
    remedy = " Export it as PNG." if kind is not None and kind.mime.startswith("image/") else ""
    return UnsupportedImageError(
        f"{name} {what} not a picture in a format Futu reads ({READS}).{remedy}", file=name
    )


def _by_brand(data: bytes) -> str:
    """An ISO base media file: its major brand, and for the general ones the compatible."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] == b"crx ":
        return "RAW"  # CR3
    if not _AVIF_BRANDS.isdisjoint(brands):
        return "AVIF"
    return "" if _HEIF_BRANDS.isdisjoint(brands) else "HEIF"


def _is_raw_tiff(data: bytes) -> bool:
    """Whether a TIFF holds the samples of a sensor in any of its directories.

    NEF, ARW, DNG, PEF, SRW and others begin as any TIFF does, often with a small preview in
    the first directory. Tags: TIFF/EP (ISO 12234-2) and the DNG specification.
    """
    if data[8:10] == b"CR":
        return True  # CR2
    try:
        return any(
            tag == _DNG_VERSION or (tag == _PHOTOMETRIC and value in (_CFA, _LINEAR_RAW))
            for tag, value in _tags(data)
        )
    except (struct.error, OverflowError):
        return False


def _tags(data: bytes) -> Iterator[tuple[int, int]]:
    """The tags of the first directory and of its sub-directories, each with its first value."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] in (b"+\0", b"\0+"):
        return  # BigTIFF: no camera writes it
    waiting = [struct.unpack_from(order + "I", data, 4)[0]]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_IFDS:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        (count,) = struct.unpack_from(order + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
            form = "H" if kind == 3 else "I"
            (value,) = struct.unpack_from(order + form, data, entry + 8)
            if tag == _SUB_IFDS:
                number = min(number, _MOST_IFDS)
                where = entry + 8 if number == 1 else value
                waiting.extend(struct.unpack_from(f"{order}{number}I", data, where))
            yield tag, value
