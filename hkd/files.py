"""Atomic writing of files: a reader finds the previous content or all of the new one, never a part of it.

A file is written under a temporary name in the folder of its destination and renamed to it. The temporary file is
always a new one with a random name: a file or symbolic link that another user put there is neither written nor
followed. Files get the permissions of any other new file; a symbolic link at the destination is replaced, not followed.
Devices and pipes, such as /dev/stdout, are written directly: a renamed file would take their place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

from hkd.bounded_files import read_bounded

_STANDARD_OUTPUT = tuple(map(Path, ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))
MAX_RECORD_BYTES = 64 * 2**20
"""Of the small files that accompany a cache; a larger one was not written by hkd."""


@contextmanager
def replace_atomically(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the path of an empty file to write to, which is renamed to ``path`` at the end and removed on an error.

    For libraries that write to a path; :func:`open_replacement` is safer where the caller can write to a file object.
    Creates the folder if it does not exist.

    Args:
        path: Destination.
        durable: Flush to the disk (fsync) before renaming. Without it the file survives a killed process; after a power
            failure it may be empty, which is acceptable where it can be computed again.
    """
    if is_device_or_pipe(path):
        yield path
        return
    with open_replacement(path, durable=durable) as file:
        yield Path(file.name)


@contextmanager
def open_replacement(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new binary file, which is renamed to ``path`` at the end and removed on an error.

    Whatever is at ``path`` is replaced, devices and pipes too. Arguments as for :func:`replace_atomically`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_path(path)
    # Exclusive creation (O_EXCL) fails if the name exists, as a file or as a symbolic link.
    with partial.open("xb") as file:
        try:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, with a random name; at the end it is removed unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_path(path)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_leftover(entry: Path, path: Path) -> bool:
    """Whether the name of ``entry`` is a temporary one of ``path``."""
    return re.fullmatch(rf"\.{re.escape(path.name)}\.\d+-[0-9a-f]+", entry.name) is not None


def remove_leftovers(path: Path, *, min_age_seconds: float = 0.0) -> None:
    """Remove the temporary files and folders that killed processes left while they wrote ``path``.

    Entries of other users remain; symbolic links are removed, not followed. Errors are not raised: leftovers only use
    disk space.

    Args:
        min_age_seconds: Younger ones remain; 0 for a caller that holds a lock that every writer of ``path`` holds.
    """
    with suppress(OSError):
        for entry in list(path.parent.iterdir()):
            if is_leftover(entry, path):
                with suppress(OSError):
                    _remove_own(entry, min_age_seconds)


def remove_irregular(path: Path) -> None:
    """Remove what is in place of a file: a symbolic link, which is not followed, a folder, a pipe or a device.

    For files of a cache: :func:`write_atomically` would write into a pipe or device.
    """
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if S_ISDIR(mode):
            shutil.rmtree(path)
        elif not S_ISREG(mode):
            path.unlink()


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file, text in UTF-8; see :func:`replace_atomically`."""
    with _open_output(path, durable=durable) as file:
        file.write(_encoded(content))


def write_all_atomically(contents: Mapping[Path, str | bytes]) -> None:
    """Write several files; an error while writing one of them leaves all destinations unchanged."""
    for path in contents:
        if path.is_dir():  # renaming would fail only after other files were replaced
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with ExitStack() as stack:
        # A stack closes in reverse order: the first file is renamed first.
        for path, content in reversed(list(contents.items())):
            file = stack.enter_context(_open_output(path))
            file.write(_encoded(content))
            file.flush()  # a full disk is found here, before the first file is renamed


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, each with a line break."""
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """Write a dataclass or plain value as JSON with sorted keys, on one line if ``indent`` is None.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot express.
    """
    plain = asdict(content) if is_dataclass(content) and not isinstance(content, type) else content
    write_atomically(path, json.dumps(plain, indent=indent, sort_keys=True, allow_nan=False) + "\n")


def read_record(path: Path) -> Any:
    """The content of a small JSON file that hkd wrote.

    Raises:
        OSError: it cannot be read, is a device or pipe, or is larger than ``MAX_RECORD_BYTES``.
        ValueError: it is not JSON.
    """
    if not path.is_file():  # a pipe would block
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        return json.loads(read_bounded(path, MAX_RECORD_BYTES))
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None


@contextmanager
def _open_output(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    with _open_device(path) if is_device_or_pipe(path) else open_replacement(path, durable=durable) as file:
        yield file


def _open_device(path: Path) -> BinaryIO:
    if path.absolute() in _STANDARD_OUTPUT:
        # Opened again, a redirected output would be truncated, and what is printed would be written over it.
        sys.stdout.flush()
        return os.fdopen(os.dup(1), "wb")
    return path.open("wb")


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(8)}")


def _remove_own(entry: Path, min_age_seconds: float) -> None:
    state = entry.lstat()
    if state.st_uid != os.geteuid() or time.time() - state.st_mtime < min_age_seconds:
        return
    if S_ISDIR(state.st_mode):
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def is_device_or_pipe(path: Path) -> bool:
    """Whether a path is written directly: it is neither absent nor a file or folder, or it is in /dev."""
    if not path.exists() or path.is_dir():
        return False
    # /dev/stdout is a link, to a regular file where the output is redirected to one.
    return not path.is_file() or path.absolute().parent == Path("/dev")


def _encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8")
