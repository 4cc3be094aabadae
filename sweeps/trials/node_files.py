"""Checks on a node that it sees the files of a study as the driver does: by their content."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from hkd.buckets import StorageError
from hkd.coco.parsing.errors import InputError
from hkd.config import DataConfig
from hkd.data.locations import copies_of
from sweeps.folder import StudyError
from sweeps.storage.objects import ObjectStorage

_SAMPLED_BYTES = 2**20


class NodeError(StudyError):
    """The node of a worker does not see the files of the study."""


@dataclass(frozen=True)
class SharedFiles:
    """What every node must see as the driver does."""

    working_directory: Path
    files: Mapping[Path, tuple[str, str]]
    """Path -> the setting that names it, and its fingerprint on the driver's machine."""
    folders: Mapping[Path, str]
    """Path -> the setting that names it."""
    storage: ObjectStorage | None = None
    """In which every node must be able to write and read."""
    data: DataConfig | None = None
    """Whose data sets in buckets every node must be able to list, in their versions."""


def check_this_node(shared: SharedFiles) -> None:
    """Compare the files that a worker's node sees with those of the driver; once per process.

    Buckets are left out: a trial waits for one that is away, and names it in its errors.

    Raises:
        NodeError: naming the node, and what it does not see.
    """
    global _checked  # noqa: PLW0603
    if shared == _checked:
        return
    problems = problems_here(replace(shared, storage=None, data=None))
    if problems:
        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise NodeError(
            f"node {socket.gethostname()} ({address}) does not see the files of the study: "
            f"{'; '.join(problems)}. Mount the same folders on every node (the shared folder of the cluster), or stop "
            "this node"
        )
    _checked = shared


_checked: SharedFiles | None = None
"""What this process has compared."""


def problems_here(shared: SharedFiles) -> list[str]:
    """What this machine does not see as the driver does; runs on a node."""
    problems = []
    if not shared.working_directory.is_dir():
        return [f"there is no folder {shared.working_directory}, in which this command was started"]
    os.chdir(shared.working_directory)
    if shared.storage is not None:
        try:
            shared.storage.check()
        except StorageError as error:
            problems.append(str(error))
    if shared.data is not None:
        try:
            copies_of(shared.data)
        except InputError as error:
            problems += error.located_problems
    for path, setting in shared.folders.items():
        if not path.is_dir():
            problems.append(f"there is no folder {path} ({setting})")
    for path, (setting, expected) in shared.files.items():
        try:
            found = fingerprint(path)
        except OSError as error:
            problems.append(f"{path} ({setting}): {error.strerror}")
        else:
            if found != expected:
                problems.append(f"{path} ({setting}): has another content than on the driver's machine")
    return problems


def fingerprint(path: Path) -> str:
    """Size and a hash of both ends of a file: enough to notice another file of this name, and fast for gigabytes."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256()
        for start in (0, max(0, size - _SAMPLED_BYTES)):
            file.seek(start)
            digest.update(file.read(_SAMPLED_BYTES))
    return f"{size}-{digest.hexdigest()}"
