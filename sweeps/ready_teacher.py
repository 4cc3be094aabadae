"""The teacher of a study: found or trained, seen by all nodes, and evaluated on the test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hkd.data.prepare import PreparedData
from hkd.data.unlabelled import UnlabelledImages
from hkd.findings import weak_teacher
from hkd.training.teacher.prepare import PreparedTeacher, find_teacher, teacher_folder
from hkd.training.teacher.pseudo_labels import PseudoLabels, find_labels, read_labels
from sweeps.console import messages
from sweeps.console.display import Display, TeacherBoard
from sweeps.execution.cluster.node_checks import check_nodes, shared_files
from sweeps.execution.cluster.waiting import Waiting
from sweeps.execution.teacher.evaluation import teacher_on_test_images
from sweeps.execution.teacher.shared import SharedTeacher
from sweeps.execution.teacher.task import Prepared, prepare_on_cluster
from sweeps.folder import StudyFolder
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import with_latency
from sweeps.trials.node_files import SharedFiles
from sweeps.trials.records.teacher import TeacherRecord, read_teacher, teacher_record
from sweeps.trials.worker import WorkerSettings


@dataclass(frozen=True)
class ReadyTeacher:
    """The teacher of a study, and its labels of the unlabelled images, if there are any."""

    teacher: PreparedTeacher
    labels: PseudoLabels | None = None
    test_images: str | None = None
    """Hash of the annotations of the test images on which the teacher was evaluated."""

    def tested(self, metrics: Mapping[str, float], test_images: str) -> ReadyTeacher:
        """The teacher with its metrics on test images."""
        teacher = replace(self.teacher, metrics={**self.teacher.metrics, **metrics})
        return replace(self, teacher=teacher, test_images=test_images)

    @property
    def record(self) -> TeacherRecord:
        """The record of the study's folder."""
        return replace(teacher_record(self.teacher, self.labels), test_images=self.test_images)


def ready_teacher(
    study: StudyConfig,
    folder: StudyFolder,
    data: PreparedData,
    cluster: Cluster,
    resources: TrialResources,
    display: Display,
    test_images: str | None,
) -> ReadyTeacher | None:
    """Find or train the teacher of a study, which nodes can read, and evaluate it on the test images; None without one.

    Args:
        test_images: Hash of their annotations; None without these.

    Raises:
        StudyError: a node of the cluster does not see the files of the study.
    """
    given = None if study.base.teacher is None else study.base.teacher.trained_weights
    _check_nodes(study, folder, cluster, display, teacher=given)
    shared = None if cluster.address is None else shared_files(study, folder, None, teacher=given, labels=None)
    ready = prepare_teacher(study, data, cluster, resources, display, shared)
    teacher_file, labels_file = files_of(ready)
    _check_nodes(study, folder, cluster, display, teacher=teacher_file, labels=labels_file)
    if ready is None or test_images is None or not study.confirm_seeds:
        return ready
    known = read_teacher(folder.teacher_file)
    metrics = teacher_on_test_images(study, ready.teacher.path, test_images, resources, display, known=known)
    return ready.tested(metrics, test_images)


def prepare_teacher(
    study: StudyConfig,
    data: PreparedData,
    cluster: Cluster,
    resources: TrialResources,
    display: Display,
    seen_by_nodes: SharedFiles | None = None,
) -> ReadyTeacher | None:
    """Find the teacher and its labels in the cache, or make them on a worker; None for a study without one.

    Args:
        seen_by_nodes: What the worker's node must see as the driver does; None on a cluster of one machine.
    """
    base, images = study.base, data.unlabelled
    if base.teacher is None:
        return None
    # Looked up here first: a worker that only finds the teacher in the cache takes ten seconds to start.
    storage = study.object_storage
    shared = None
    if storage is not None:
        shared = SharedTeacher(storage, teacher_folder(base, data, study.storage_folder))
        shared.fetch(is_to_be_trained=False)
    teacher = find_teacher(base, data, study.storage_folder)
    labels = None if teacher is None else find_labels(base, data, teacher)
    if teacher is None:
        checkpoint = base.teacher.trained_weights
        display.print_line("Teacher: training" if checkpoint is None else f"Teacher: evaluating {checkpoint}")
    if images is not None and labels is None:
        display.print_line(f"Unlabelled images: the teacher labels {len(images.annotations.images)} once it is ready")
    if teacher is None or (images is not None and labels is None):
        prepared = _make_teacher(study, images, cluster, resources, display, seen_by_nodes)
        teacher = prepared.teacher
        if shared is not None:
            shared.fetch(is_to_be_trained=False)
        if images is not None and prepared.labels is not None:
            labels = read_labels(prepared.labels, images.annotations.image_root)
    if shared is not None:
        shared.upload()  # what this machine has of an earlier study, and the bucket not
    teacher = replace(teacher, cost=with_latency(teacher.cost, base, base.teacher))
    display.print_line(messages.describe_teacher(teacher_record(teacher), study.objectives))
    metric = study.main_miss_rate
    weak = weak_teacher(metric, teacher.metrics[metric]) if metric in teacher.metrics else None
    if weak is not None:
        display.print_line(f"Warning: {weak.text}")
    if labels is not None:
        display.print_line(f"Labels of unlabelled images: {labels.summary}; {labels.path}")
    return ReadyTeacher(teacher, labels)


def _check_nodes(
    study: StudyConfig,
    folder: StudyFolder,
    cluster: Cluster,
    display: Display,
    *,
    teacher: Path | None,
    labels: Path | None = None,
) -> None:
    if cluster.address is not None:
        check_nodes(study, folder, teacher=teacher, labels=labels, print_line=display.print_line)


def files_of(ready: ReadyTeacher | None) -> tuple[Path | None, Path | None]:
    """Weights of the teacher, and its labels."""
    if ready is None:
        return None, None
    return ready.teacher.path, None if ready.labels is None else ready.labels.path


def _make_teacher(
    study: StudyConfig,
    images: UnlabelledImages | None,
    cluster: Cluster,
    resources: TrialResources,
    display: Display,
    shared: SharedFiles | None,
) -> Prepared:
    # Nothing else runs meanwhile: on a single machine, the teacher uses all CPUs.
    num_cpus = cluster.num_cpus if cluster.address is None else resources.num_cpus
    num_gpus = float(resources.num_gpus > 0)
    return prepare_on_cluster(
        study.base,
        study.storage_folder,
        WorkerSettings(
            max(resources.num_threads, int(num_cpus)), num_gpus > 0, Path.cwd(), study.object_storage, shared
        ),
        unlabelled=None if images is None else images.annotations.images,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        on_progress=TeacherBoard(display, study.objectives).update,
        waiting=None if cluster.address is None else Waiting("Teacher", num_cpus, num_gpus, display.print_line),
    )
