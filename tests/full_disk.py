"""A disk without space."""

from __future__ import annotations

import errno
from pathlib import Path


def fill_disk(file: Path, *, left: int) -> None:
    """Fill the disk of a file with it, but for some bytes.

    Others may write meanwhile. So the disk is filled to the last byte, and then some are freed.
    """
    with file.open("wb", buffering=0) as rest:
        try:
            while True:
                rest.write(bytes(2**16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        rest.truncate(rest.tell() - left)
