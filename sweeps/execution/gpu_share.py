"""How many trials share a GPU: ``resources.gpus_per_trial: auto``, and what trials turned out to use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from hkd import metric_names as names
from hkd.config import TrialConfig
from hkd.models.cost import config_cost
from hkd.runtime.device import resolve_device
from hkd.runtime.memory import format_bytes
from hkd.runtime.process import configure_process
from hkd.training.memory import BatchTooLargeError, MemoryNeed, measure_need
from sweeps.console.display import Display
from sweeps.execution.cluster import trial_resources
from sweeps.settings.resources import Cluster, TrialResources
from sweeps.settings.space import Parameter, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.ledger import LedgerTrial
from sweeps.trials.worker import WorkPlace, build_trainer

HEADROOM = 0.15
"""Left free beside the measured peak: for fragments, and for kernels that are chosen otherwise where others compute."""
MAX_TRIALS_PER_GPU = 16
"""However small they are: each is a process with memory of its own on the host."""
SHARE_DIGITS = 4
"""Decimals of a GPU that Ray tells apart."""

# Of choices without an order, what takes the most memory first; the others take the same either way.
_HEAVIEST_FIRST: Mapping[str, Sequence[object]] = {
    "student.backbone": ("resnet50", "resnet34", "resnet18"),
    "student.norm": ("batch", "frozen_batch"),
    "training.optimizer": ("adamw", "sgd"),
    "training.precision": ("fp32", "auto", "bf16"),
}


@dataclass(frozen=True)
class GpuShare:
    """The part of a GPU that one trial is given, and why."""

    share: float
    reason: str
    """A sentence for who reads the study's progress."""


@dataclass(frozen=True)
class StudyUsage:
    """What the trials of a study took, as far as they told."""

    peak_bytes: float
    """The largest of all trials' peaks."""
    utilisation: float | None
    """Mean over trials."""
    max_concurrent: int
    """Trials that ran at the same time."""


def share_gpus(
    study: StudyConfig, cluster: Cluster, resources: TrialResources, teacher_file: Path | None, display: Display
) -> TrialResources:
    """What a trial is given, once ``gpus_per_trial: auto`` is measured; all else, and without GPUs all, as it is.

    Args:
        resources: With a whole GPU for each trial.
        teacher_file: Weights of the study's teacher, which is ready; None where the study has none.
    """
    if study.resources.gpus_per_trial != "auto" or not resources.num_gpus:
        return resources
    config = heaviest_trial(study)
    display.say("Memory: measuring what the largest student takes of a GPU, in two steps and an evaluation")
    place = WorkPlace(resources.num_threads, True, Path.cwd())
    try:
        need = measure_on_cluster(config, teacher_file, place, num_cpus=resources.num_cpus)
    except BatchTooLargeError as error:
        # Smaller students may fit, and the others fail one by one with this message.
        found = GpuShare(1.0, f"Memory: the largest student will fail, for {error}")
    else:
        found = gpu_share(need)
    display.say(found.reason)
    return trial_resources(study.resources, cluster, measured_gpu_share=found.share)


def heaviest_trial(study: StudyConfig) -> TrialConfig:
    """The trial of a study that takes the most memory: all searched numbers at their upper ends, or a baseline.

    Memory grows with every number of a student's shape, with the batch and with the samples of an image; a weight
    above 0 brings the teacher in.
    """
    values = {key: _heaviest(key, parameter) for key, parameter in study.space.items()}
    candidates = [trial_config(study.base, values)]
    candidates += [trial_config(study.base, changes) for changes in study.baselines.values()]

    def weight(config: TrialConfig) -> tuple[float, bool]:
        # Activations dwarf weights, and go with the operations of an image.
        flops = config_cost(config.student, config.data.image_height, config.data.image_width).flops
        return flops * config.training.batch_size, config.is_distilled

    return max(candidates, key=weight)


def gpu_share(need: MemoryNeed) -> GpuShare:
    """The part of a GPU for a trial that needs so much: one over the number of such trials that fit, with headroom.

    Rounded down to what Ray tells apart, so that this number of trials fills a GPU and one more does not fit.
    """
    if need.device_type != "cuda":
        return GpuShare(1.0, "Memory: trials do not compute on the GPU they are given; each is given a whole one")
    wanted = (1 + HEADROOM) * need.peak_bytes
    fitting = max(1, min(MAX_TRIALS_PER_GPU, math.floor(need.device_bytes / wanted)))
    share = math.floor(10**SHARE_DIGITS / fitting) / 10**SHARE_DIGITS
    shared_by = "one trial has a GPU to itself" if fitting == 1 else f"{fitting} trials share a GPU"
    return GpuShare(
        share,
        f"Memory: the largest student takes {format_bytes(need.peak_bytes)} of a GPU's "
        f"{format_bytes(need.device_bytes)}; "
        f"with {100 * HEADROOM:.0f} % to spare, {shared_by}",
    )


def measure_on_cluster(
    config: TrialConfig, teacher_file: Path | None, place: WorkPlace, *, num_cpus: float, num_gpus: float = 1.0
) -> MemoryNeed:
    """What a trial takes, measured on a worker that has a GPU to itself.

    Raises:
        BatchTooLargeError: its batch does not fit.
        ValueError: (one of hkd's) the trial cannot be built.
    """
    # One call a worker: with its process the GPU's memory is given back.
    remote: Any = ray.remote(max_calls=1)(_measure)
    task = remote.options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2)
    try:
        need = ray.get(task.remote(config, teacher_file, place))
    except ray.exceptions.RayTaskError as error:
        # What went wrong on the worker, without the story of how it came here.
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    assert isinstance(need, MemoryNeed)
    return need


def summarise_usage(trials: Sequence[LedgerTrial], max_concurrent: int) -> StudyUsage | None:
    """What trials took by what they reported; None where none has."""
    peaks = [trial.metrics[names.PEAK_MEMORY_BYTES] for trial in trials if names.PEAK_MEMORY_BYTES in trial.metrics]
    utilisations = [trial.metrics[names.UTILISATION] for trial in trials if names.UTILISATION in trial.metrics]
    if not peaks:
        return None
    mean = sum(utilisations) / len(utilisations) if utilisations else None
    return StudyUsage(max(peaks), mean, max_concurrent)


def describe_usage(usage: StudyUsage, *, num_threads: int, is_on_gpu: bool) -> str:
    """One line on what a trial took, and how many ran at a time."""
    memory = format_bytes(usage.peak_bytes)
    share = "" if usage.utilisation is None else f"{100 * usage.utilisation:.0f} %"
    at_a_time = f"{usage.max_concurrent} ran at a time"
    if is_on_gpu:
        busy = share and f"; the GPUs computed {share} of the time"
        return f"A trial used at most {memory} of GPU memory{busy}; {at_a_time}"
    threads = f"{num_threads} CPU thread{'s' if num_threads > 1 else ''}"
    busy = share and f" and {share} of its {threads}"
    return f"A trial used at most {memory} of memory{busy}; {at_a_time}"


def _heaviest(key: str, parameter: Parameter) -> object:
    """The value of a searched setting that takes the most memory."""
    if parameter.type != "categorical":
        return parameter.high
    choices = list(parameter.choices)
    for choice in _HEAVIEST_FIRST.get(key, ()):
        if choice in choices:
            return choice
    numbers = [choice for choice in choices if isinstance(choice, int | float)]
    return max(numbers) if numbers else choices[-1]


def _measure(config: TrialConfig, teacher_file: Path | None, place: WorkPlace) -> MemoryNeed:
    """Runs on the worker."""
    place.enter()
    configure_process(resolve_device(config.training.device), config.training.num_threads)
    return measure_need(build_trainer(config, teacher_file))
