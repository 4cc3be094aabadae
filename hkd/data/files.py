"""Reading files that came from elsewhere: never more of them than what they hold can be."""

from __future__ import annotations

import errno
from pathlib import Path

LARGEST_ANNOTATION_BYTES = 1 << 30
"""The largest file of annotations known, COCO's of its training images, is of half as many."""


def read_bounded(path: Path, largest_bytes: int = LARGEST_ANNOTATION_BYTES) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: it cannot be read, or holds more bytes than allowed (``EFBIG``); ``strerror`` says so.
    """
    with path.open("rb") as file:
        # Counted, because a device, a pipe or a growing file states another size than it yields.
        content = file.read(largest_bytes + 1)
    if len(content) > largest_bytes:
        allowed = f"{largest_bytes >> 20} MiB" if largest_bytes >= 1 << 20 else f"{largest_bytes} bytes"
        raise OSError(errno.EFBIG, f"it is larger than {allowed}, which no such file is", str(path))
    return content
