"""Evaluates a study's teacher on the test images, with which its confirmed students are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray

from hkd.config import TrialConfig
from hkd.data.test_images import open_test_images
from hkd.inference.store_detection import evaluate_on
from hkd.metric_names import TEST_PREFIX
from hkd.runtime.device import autocast_dtype, resolve_device
from hkd.runtime.process import configure_process
from hkd.training.teacher.prepare import load_teacher
from sweeps.console.display import Display
from sweeps.console.metric_format import phrases
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.trials.records.teacher import TeacherRecord
from sweeps.trials.worker import WorkerSettings


def teacher_on_test_images(
    study: StudyConfig,
    teacher: Path,
    test_images: str,
    resources: TrialResources,
    display: Display,
    *,
    known: TeacherRecord | None,
) -> dict[str, float]:
    """Metrics of the teacher on the test images, with the prefix ``test_``.

    Args:
        teacher: Its weights.
        test_images: Hash of the annotations of the test images.
        known: Record of an earlier session, whose result is used if teacher and images are the same.
    """
    if known is not None and (known.path, known.test_images) == (teacher, test_images):
        metrics = known.on_test_images
    else:
        metrics = _evaluate_on_cluster(
            study.base,
            teacher,
            WorkerSettings(resources.num_threads, resources.num_gpus > 0, Path.cwd(), study.object_storage),
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus,
        )
    values = {name.removeprefix(TEST_PREFIX): value for name, value in metrics.items()}
    display.print_line(f"Teacher on the test images: {phrases(study.objectives, values)}")
    return metrics


def _evaluate_on_cluster(
    config: TrialConfig, teacher: Path, worker: WorkerSettings, *, num_cpus: float, num_gpus: float
) -> dict[str, float]:
    """Metrics on the test images, measured on a worker."""
    task: Any = ray.remote(_evaluate_on_test_images).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        metrics: dict[str, float] = ray.get(task.remote(config, teacher, worker))
    except ray.exceptions.RayTaskError as error:
        # Without Ray's traceback of the worker.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    return metrics


def _evaluate_on_test_images(config: TrialConfig, path: Path, worker: WorkerSettings) -> dict[str, float]:
    """Runs on the worker."""
    worker.apply()
    device = resolve_device(config.training.device)
    configure_process(device, config.training.num_threads)
    test = open_test_images(config.data, progress=False)
    assert test is not None, "the study has test images"
    assert config.teacher is not None, "the study has a teacher"
    result = evaluate_on(
        load_teacher(worker.fetched(path) or path, config.teacher, device),
        test.store,
        test.annotations,
        config.evaluation,
        device=device,
        autocast_dtype=autocast_dtype(config.teacher.training.precision, device),
    )
    return {f"{TEST_PREFIX}{name}": value for name, value in result.as_metrics().items()}
