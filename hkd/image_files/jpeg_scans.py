"""Number of scans of a JPEG file: each is a pass over all pixels, although it may have a few bytes only."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hkd.image_files.headers import ImageFileError

MOST_SCANS: Final = 100
"""Progressive files usually have 10; decoding 100 megapixels with so many takes some seconds."""

_SCAN, _END = 0xDA, 0xD9
_SCAN_MARKER: Final = re.compile(rb"\xff\xda")
# In compressed data 0xFF is followed by 0x00 or a restart marker.
_NEXT_MARKER: Final = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


def require_few_scans(path: Path) -> None:
    """Refuse a JPEG file of more than :data:`MOST_SCANS` scans.

    Raises:
        ImageFileError: it has more.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # The two bytes also occur by chance, in thumbnails, and in videos behind the image: most files have few.
        if _exceeds_limit(_SCAN_MARKER.finditer(content)) and _exceeds_limit(_scans(content)):
            raise ImageFileError(f"has more than {MOST_SCANS} scans of its pixels; save it again as JPEG or PNG")


def _exceeds_limit(scans: Iterator[object]) -> bool:
    return any(number == MOST_SCANS for number, _ in enumerate(scans))


def _scans(content: mmap.mmap) -> Iterator[int]:
    """Positions of the scans of the first image."""
    position = 2  # behind the marker that starts the file
    while (marker := _NEXT_MARKER.search(content, position)) is not None:
        kind, position = marker[1][0], marker.end()
        if kind == _END:
            return
        if kind == _SCAN:
            yield marker.start()
        if kind not in (0x01, 0xD8):  # all others start a segment with its length
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
