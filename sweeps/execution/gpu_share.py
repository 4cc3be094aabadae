"""How many trials share a GPU (``resources.gpus_per_trial: auto``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from hkd.config import TrialConfig
from hkd.runtime.device import resolve_device
from hkd.runtime.process import configure_process
from hkd.training.first_weights import FirstWeightsMemoryError, needs_reconstruction
from hkd.training.memory import BatchTooLargeError, MemoryNeed, measure_need
from sweeps.console.display import Display
from sweeps.execution.cluster.connection import trial_resources
from sweeps.execution.gpu_fraction import GpuShare, gpu_share
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.space import Parameter, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.largest import largest_sizes
from sweeps.trials.worker import WorkerSettings, build_trainer

# Categorical settings that change the memory of a trial, the largest first.
_HEAVIEST_FIRST: Mapping[str, Sequence[object]] = {
    "student.backbone": ("resnet50", "resnet34", "resnet18"),
    "student.norm": ("batch", "frozen_batch"),
    "student.init_from": ("teacher",),
    "training.optimizer": ("adamw", "sgd"),
    "training.precision": ("fp32", "auto", "bf16"),
}


def share_gpus(
    study: StudyConfig,
    cluster: Cluster,
    resources: TrialResources,
    teacher_file: Path | None,
    display: Display,
    *,
    labels_file: Path | None = None,
) -> TrialResources:
    """The resources of a trial, with ``gpus_per_trial: auto`` replaced by the measured share of a GPU.

    Args:
        resources: With a whole GPU for each trial.
        teacher_file: Weights of the study's teacher; None without one.
        labels_file: The teacher's labels of the unlabelled images; None without any.
    """
    if study.resources.gpus_per_trial != "auto" or not resources.num_gpus:
        return resources
    config = heaviest_trial(study)
    display.print_line("Memory: measuring the largest student on a GPU, in two steps and an evaluation")
    worker = WorkerSettings(resources.num_threads, True, Path.cwd(), study.object_storage)
    try:
        need = measure_on_cluster(config, teacher_file, worker, num_cpus=resources.num_cpus, labels_file=labels_file)
    except (BatchTooLargeError, FirstWeightsMemoryError) as error:
        # Smaller students may fit; those that do not fail with this message.
        found = GpuShare(1.0, f"Memory: the largest student will fail: {error}")
    else:
        found = gpu_share(need)
    display.print_line(found.reason)
    return trial_resources(study.resources, cluster, measured_gpu_share=found.share)


def heaviest_trial(study: StudyConfig) -> TrialConfig:
    """The trial of a study that needs the most memory: all searched numbers at their upper ends, or a baseline.

    Students that exceed the limits on costs, which are not proposed, do not count. Memory grows with each number of a
    student's shape, with the batch and with the sampled regions of an image; a distillation weight above 0 adds the
    teacher, and so does the fit of first weights.
    """
    values = {key: _heaviest(key, parameter) for key, parameter in study.space.items()}
    sizes = list(largest_sizes(study)) if study.search.limits else []
    candidates = [trial_config(study.base, {**values, **each}) for each in sizes or [{}]]
    candidates += [trial_config(study.base, changes) for changes in study.baselines.values()]

    def weight(config: TrialConfig) -> tuple[float, bool, bool]:
        # Activations need much more memory than weights, and grow with the operations of an image.
        return (
            student_cost(config).flops * config.training.batch_size,
            config.is_distilled,
            needs_reconstruction(config),
        )

    return max(candidates, key=weight)


def measure_on_cluster(
    config: TrialConfig,
    teacher_file: Path | None,
    worker: WorkerSettings,
    *,
    num_cpus: float,
    num_gpus: float = 1.0,
    labels_file: Path | None = None,
) -> MemoryNeed:
    """The memory that a trial needs, measured on a worker that reserves a whole GPU.

    Raises:
        BatchTooLargeError: the batch does not fit.
        FirstWeightsMemoryError: the fit of first weights does not.
        ValueError: (one of hkd's) the trial cannot be built.
    """
    # One call per worker: the GPU's memory is freed with the process.
    remote: Any = ray.remote(max_calls=1)(_measure)
    task = remote.options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        need = ray.get(task.remote(config, teacher_file, worker, labels_file))
    except ray.exceptions.RayTaskError as error:
        # Without Ray's traceback of the worker.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    assert isinstance(need, MemoryNeed)
    return need


def _heaviest(key: str, parameter: Parameter) -> object:
    """The value of a searched setting that needs the most memory."""
    if parameter.type != "categorical":
        return parameter.high
    choices = list(parameter.choices)
    for choice in _HEAVIEST_FIRST.get(key, ()):
        if choice in choices:
            return choice
    numbers = [choice for choice in choices if isinstance(choice, int | float)]
    return max(numbers) if numbers else choices[-1]


def _measure(
    config: TrialConfig, teacher_file: Path | None, worker: WorkerSettings, labels_file: Path | None = None
) -> MemoryNeed:
    """Runs on the worker."""
    worker.apply()
    configure_process(resolve_device(config.training.device), config.training.num_threads)
    return measure_need(build_trainer(config, worker.fetched(teacher_file), labels_file=worker.fetched(labels_file)))
