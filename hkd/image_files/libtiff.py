"""Errors of the TIFF library, which prints them on the process's stderr and then returns the pixels it has."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_ERROR = re.compile(
    # Names of its modules and functions. Pillow turns its warnings off.
    rb"(?P<error>_?TIFF\w*|JPEG\w*|LZW\w*|ZIP\w*|Zip\w*|Deflate\w*|Fax\w*|PackBits\w*|DumpMode\w*|LogL\w*|LERC\w*|LZMA\w*"
    rb"|ZSTD\w*|WebP\w*|WEBP\w*|Pixar\w*|Thunder\w*|NeXT\w*|JBIG\w*|Old\w*|OJPEG\w*|tempfile\.tif|\S*\.tiff?): .*"
)
_one_at_a_time = threading.Lock()


@contextmanager
def damage_reported_by_libtiff() -> Iterator[None]:
    """Raise what the library prints within the block instead of showing it; other output is shown after the block.

    Raises:
        OSError: with the first message, as Pillow raises for formats that it decodes itself.
    """
    errors: list[str] = []
    with _one_at_a_time, tempfile.TemporaryFile() as caught:
        stderr = os.dup(_STDERR)
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if _ERROR.match(line):
                    errors.append(line.decode("utf-8", "replace").strip().removesuffix("."))
                else:
                    with suppress(OSError):
                        os.write(_STDERR, line)
    if errors:
        raise OSError(errors[0])
