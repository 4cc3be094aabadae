"""Checks, before the first trial, that every node of a cluster sees the files of a study: by their content."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig
from sweeps.trials.node_files import SharedFiles, fingerprint, problems_here

SECONDS_TO_ANSWER = 120.0
"""A node starts a worker process first."""
MAX_PROBLEMS_SHOWN = 12


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
        shared = shared_files(study, folder, marker, teacher=teacher, labels=labels)
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


def shared_files(
    study: StudyConfig, folder: StudyFolder, marker: Path | None, *, teacher: Path | None, labels: Path | None
) -> SharedFiles:
    """What every node must see as this process does.

    Args:
        marker: A file in ``storage_path``; None if there is none yet.
        teacher: Weights of the study's teacher; None without one.
        labels: The teacher's labels of the unlabelled images; None without any.
    """
    storage, data, student = folder.storage, study.base.data, study.base.student
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
        ("storage_path", folder.path if storage is None else None),
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
