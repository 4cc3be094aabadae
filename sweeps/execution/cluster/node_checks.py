"""Checks, before the first trial, that every node of a cluster sees the files of a study: by their content."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.buckets import StorageError
from hkd.coco.parsing.errors import InputError
from hkd.config import DataConfig
from hkd.data.locations import copies_of
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig
from sweeps.storage.objects import ObjectStorage

SECONDS_TO_ANSWER = 120.0
"""A node starts a worker process first."""
_SAMPLED_BYTES = 2**20
MAX_PROBLEMS_SHOWN = 12


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


def check_nodes(
    study: StudyConfig,
    folder: StudyFolder,
    *,
    teacher: Path | None,
    labels: Path | None,
    print_line: Callable[[str], None],
) -> None:
    """Let every node of the cluster compare the study's files with those of the driver.

    Args:
        teacher: Weights of the study's teacher; None without one.
        labels: The teacher's labels of the unlabelled images; None without any.
        print_line: Called with a sentence on each node that did not answer, which a lost one does not, either.

    Raises:
        StudyError: naming each node, and what it does not see.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    marker = folder.path.parent / f".node-check-{secrets.token_hex(8)}"
    marker.write_text(secrets.token_hex(16), encoding="ascii")
    try:
        shared = _shared_files(study, folder.storage, marker, teacher, labels)
        task: Any = ray.remote(problems_here)
        nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        tasks = {
            task.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(shared): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            for node in nodes
        }
        done, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=SECONDS_TO_ANSWER)
        answers = {name: _answer(each) if each in done else None for each, name in tasks.items()}
        for each in tasks:
            if each not in done:
                ray.cancel(each)
    finally:
        marker.unlink(missing_ok=True)
    for name, answer in answers.items():
        if answer is None:
            print_line(f"Warning: node {name} did not check whether it sees the files of the study: it does not answer")
    problems = [f"node {name}: {problem}" for name, answer in answers.items() for problem in answer or ()]
    if problems:
        shown = problems[:MAX_PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise StudyError(
            "nodes of the cluster do not see the files of the study:",
            *(f"  {problem}" for problem in shown),
            "Mount the same folders on every node (the shared folder of the cluster), or stop these nodes.",
        )


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


def _shared_files(
    study: StudyConfig, storage: ObjectStorage | None, marker: Path, teacher: Path | None, labels: Path | None
) -> SharedFiles:
    data, student = study.base.data, study.base.student
    named: Sequence[tuple[str, Path | str | None]] = (
        ("storage_path", marker),
        ("the teacher, in storage_path or base.teacher.trained_weights", teacher),
        ("labels of the unlabelled images, in storage_path", labels),
        ("base.data.train_annotations", data.train_annotations),
        ("base.data.validation_annotations", data.validation_annotations),
        ("base.data.test_annotations", data.test_annotations),
        ("base.student.init_from", student.init_from if isinstance(student.init_from, Path) else None),
        ("base.student.backbone_from", student.backbone_from),
    )
    folders: Sequence[tuple[str, Path | str | None]] = (
        ("base.data.image_root", data.image_root if data.train_annotations is not None else None),
        ("base.data.unlabelled_images", data.unlabelled_images),
    )
    return SharedFiles(
        Path.cwd(),
        {
            path: (setting, fingerprint(path))
            for setting, path in named
            if isinstance(path, Path) and not (storage is not None and storage.holds(path))  # each node fetches these
        },
        {path: setting for setting, path in folders if isinstance(path, Path)},
        storage,
        data,
    )


def _answer(task: Any) -> list[str] | None:
    """What a node does not see; None if it was lost."""
    import ray

    try:
        answer: list[str] = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return [f"the check failed: {str(error).strip().splitlines()[-1]}"]
    except ray.exceptions.RayError:
        return None
    return answer
