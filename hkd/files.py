"""Atomic writing of files: a reader finds the previous content or all of the new one, never a part of it.

A file is written under a temporary name in the folder of its destination and renamed to it. Files get the permissions
of any other new file; a symbolic link at the destination is replaced, not followed. Devices and pipes, such as
/dev/stdout, are written directly: a renamed file would take their place.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path


@contextmanager
def replace_atomically(path: Path, *, partial: Path | None = None, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to, which is renamed to ``path`` at the end and removed on an error.

    Creates the folder if it does not exist.

    Args:
        path: Destination.
        partial: Temporary path in the same folder, for a caller that holds a lock: it overwrites what a killed process
            left. By default a random name, so that processes and threads can write the same file at once.
        durable: Flush to the disk (fsync) before renaming. Without it the file survives a killed process; after a power
            failure it may be empty, which is acceptable where it can be computed again.
    """
    if _is_device_or_pipe(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial or path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield partial
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file, text in UTF-8; see :func:`replace_atomically`."""
    with replace_atomically(path, durable=durable) as partial:
        partial.write_bytes(_encoded(content))


def write_all_atomically(contents: Mapping[Path, str | bytes]) -> None:
    """Write several files; an error while writing one of them leaves all destinations unchanged."""
    for path in contents:
        if path.is_dir():  # renaming would fail only after other files were replaced
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with ExitStack() as stack:
        # A stack closes in reverse order: the first file is renamed first.
        for path, content in reversed(list(contents.items())):
            stack.enter_context(replace_atomically(path)).write_bytes(_encoded(content))


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """Write a dataclass or plain value as JSON with sorted keys, on one line if ``indent`` is None.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot express.
    """
    plain = asdict(content) if is_dataclass(content) and not isinstance(content, type) else content
    write_atomically(path, json.dumps(plain, indent=indent, sort_keys=True, allow_nan=False) + "\n")


def _is_device_or_pipe(path: Path) -> bool:
    if not path.exists() or path.is_dir():
        return False
    # /dev/stdout is a link, to a regular file where the output is redirected to one.
    return not path.is_file() or path.absolute().parent == Path("/dev")


def _encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8")
