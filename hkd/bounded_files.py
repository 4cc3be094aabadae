"""Reading of a file into memory: at most so many bytes, within so much time.

Every file that a user names is read here, whatever it is: a device without an end, a pipe that nobody writes to.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import Final

LARGEST_FILE_BYTES: Final = 4 << 30
"""Larger files are not read; tens of millions of detections, or ten times COCO's training annotations, fit."""
LARGEST_STREAM_BYTES: Final = 1 << 30
"""The limit for pipes and devices, which do not state their size."""
SECONDS_TO_OPEN: Final = 10.0
"""Time in which another process must open a named pipe for writing."""
SECONDS_TO_END: Final = 600.0
"""Time after which a pipe must be at its end; a shell's ``<(zcat large.json.gz)`` is far faster."""
_CHUNK_BYTES: Final = 1 << 20


def read_bounded(path: Path, largest_bytes: int | None = None) -> bytes:
    """All bytes of a file, pipe or device.

    Args:
        path: of the file.
        largest_bytes: the limit; by default :data:`LARGEST_FILE_BYTES`. At most :data:`LARGEST_STREAM_BYTES` for pipes
            and devices.

    Raises:
        OSError: it cannot be read, holds more bytes than allowed (``EFBIG``), or is a pipe that nobody writes to or
            that does not end in time (``ETIMEDOUT``).
    """
    limit = LARGEST_FILE_BYTES if largest_bytes is None else largest_bytes
    # O_NONBLOCK: opening a named pipe would wait for its writer without a limit. Regular files ignore it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISREG(state.st_mode):
            return _read_regular(descriptor, state.st_size, path, limit)
        return _read_stream(descriptor, path, min(limit, LARGEST_STREAM_BYTES))
    finally:
        os.close(descriptor)


def _read_regular(descriptor: int, stated_bytes: int, path: Path, limit: int) -> bytes:
    if stated_bytes > limit:
        raise _too_large(path, limit)
    # One byte more, so that the first chunk usually is the whole file and the second is empty.
    chunk_bytes = max(_CHUNK_BYTES, stated_bytes + 1)
    chunks: list[bytes] = []
    # Counted, because a file that grows, or one of the kernel's, yields more than its stated size.
    num_bytes = 0
    while chunk := os.read(descriptor, min(chunk_bytes, limit + 1 - num_bytes)):
        chunks.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > limit:
            raise _too_large(path, limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _read_stream(descriptor: int, path: Path, limit: int) -> bytes:
    """All bytes of a pipe or device that was opened without blocking."""
    content = bytearray()
    start = time.monotonic()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    is_open = False
    while True:
        seconds = (SECONDS_TO_END if is_open else SECONDS_TO_OPEN) - (time.monotonic() - start)
        # Reading a named pipe that no process has opened for writing returns no bytes, like its end: wait first.
        is_ready = bool(poll.poll(1000 * max(0.0, seconds)))
        try:
            chunk = os.read(descriptor, min(_CHUNK_BYTES, limit + 1 - len(content)))
        except BlockingIOError:
            # Another process has opened it, and has not written yet.
            if is_open and seconds <= 0:
                raise _timed_out(path, f"it has no end after {SECONDS_TO_END:.0f} s; write it to a file") from None
            is_open = True
            continue
        if not chunk and not is_ready:
            raise _timed_out(path, f"it is a pipe to which nothing was written for {SECONDS_TO_OPEN:.0f} s")
        if not chunk:
            return bytes(content)
        is_open = True
        content += chunk
        if len(content) > limit:
            raise _too_large(path, limit)
        if seconds <= 0:
            raise _timed_out(path, f"it has no end after {SECONDS_TO_END:.0f} s; write it to a file")


def _too_large(path: Path, limit: int) -> OSError:
    allowed = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
    return OSError(errno.EFBIG, f"it is larger than {allowed}", str(path))


def _timed_out(path: Path, reason: str) -> OSError:
    return OSError(errno.ETIMEDOUT, reason, str(path))
