"""What must hold before a study is begun, beyond its configuration: the files, the data and the machine it names."""

from __future__ import annotations

from hkd.config import TrialConfig
from hkd.data.annotations import read_annotations
from hkd.data.prepare import PreparedData
from hkd.evaluation.evaluator import evaluate
from hkd.evaluation.protocol_files import load_protocol
from hkd.training.teacher import check_teacher_files
from sweeps.cluster import TrialResources
from sweeps.folder import StudyError
from sweeps.study_config import StudyConfig


def check_files(base: TrialConfig) -> None:
    """Look at the files that a trial names, images aside.

    Raises:
        AnnotationError: the annotations are missing or wrong.
        CheckpointError: the teacher's weights are missing or of another architecture.
    """
    for path in (base.data.train_annotations, base.data.validation_annotations):
        if path is not None:
            read_annotations(path, base.data.image_root, check_images=False)
    check_teacher_files(base)


def check_objectives(study: StudyConfig, data: PreparedData) -> None:
    """A miss rate of a subset that has no pedestrians would have no value, in any trial.

    Raises:
        StudyError: naming the objectives without a value.
    """
    ground_truth = data.validation_annotations.raw()
    available = evaluate(ground_truth, [], load_protocol(study.base.evaluation.protocol)).as_metrics()
    missing = [name for name in study.objectives if name.startswith("mr2_") and name not in available]
    if missing:
        there = ", ".join(name for name in available if name.startswith("mr2_"))
        raise StudyError(
            f"objectives: {', '.join(missing)} has no value on the validation images, which have no pedestrian of that "
            f"subset; allowed: {there}, num_params, flops, gmacs"
        )


def check_device(study: StudyConfig, resources: TrialResources) -> None:
    """A training that insists on a GPU must be given one.

    Raises:
        StudyError: naming the setting.
    """
    teacher = study.base.teacher
    devices = {"base.training.device": study.base.training.device}
    if teacher is not None and teacher.checkpoint is None:
        devices["base.teacher.training.device"] = teacher.training.device
    for name, device in devices.items():
        if device == "cuda" and not resources.num_gpus:
            raise StudyError(
                f"{name} is cuda, but trials are given no GPU (resources.gpus_per_trial is "
                f"{study.resources.gpus_per_trial}, and the cluster may have none); set {name} to auto, or give "
                "trials a GPU or a fraction of one"
            )
