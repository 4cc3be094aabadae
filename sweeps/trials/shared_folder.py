"""The folder that all nodes share, as the node of a worker sees it."""

from __future__ import annotations

import socket
from pathlib import Path

from hkd.buckets import StorageAwayError, patiently


def wait_until_seen(file: Path) -> None:
    """Wait while this node does not see a file that the study keeps in the shared folder: its mount is lost.

    Raises:
        StorageAwayError: it was away for ten minutes, as long as a bucket may be.
    """
    patiently(lambda: _require(file))


def check_seen(file: Path) -> None:
    """Check, after an error, that this node sees the file.

    Raises:
        StorageAwayError: it does not.
    """
    try:
        _require(file)
    except OSError as error:
        raise StorageAwayError(str(error)) from error


def _require(file: Path) -> None:
    try:
        file.stat()
    except OSError as error:
        # Without its number, so that it counts as an error of the storage.
        raise OSError(
            f"node {socket.gethostname()} does not see {file} ({error.strerror}); mount the folder of the study there"
        ) from error
