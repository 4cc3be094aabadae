"""Whether the trials of a study share a cache of their teacher's pyramids, and its size."""

from __future__ import annotations

import torch

from hkd.config import TrialConfig
from hkd.runtime.device import autocast_dtype
from hkd.training.pyramid_cache.cache import plan_cache, planned_entry_bytes
from hkd.training.pyramid_cache.capacity import CacheBudget
from sweeps.settings.resources import TrialResources
from sweeps.settings.space import num_configurations, trial_config
from sweeps.settings.study import StudyConfig

FOLDER = "teacher_outputs"
"""In ``data.cache_dir``, beside a node's decoded images."""

_DETERMINE_BATCHES = ("training.seed", "training.batch_size", "training.precision", "data.augmentation.")
"""Searchable settings that change the batches or the teacher's pyramids."""
# Enough for each shipped study (0.9 and 2.6 GB) and for one at the default settings (4 GB, 8 in fp32), and fits the
# page cache of a machine with 16 GB, so that entries are read from memory. No cache on GPUs: the pyramids of 16 images
# of 480 x 640 with 256 channels are 210 MB per step, whose transfer of 20 ms or more is estimated to take longer than
# their computation on a fast GPU. A study on a slow GPU may set gigabytes.
_DEFAULT_GIGABYTES_ON_CPUS = 10.0


def configured_cache(study: StudyConfig, resources: TrialResources) -> CacheBudget | None:
    """Folder and capacity of each node's cache; None where it is turned off or too few trials would read from it."""
    gigabytes = study.resources.teacher_cache_gigabytes
    if gigabytes is None:
        gigabytes = 0.0 if resources.num_gpus else _DEFAULT_GIGABYTES_ON_CPUS
    if not gigabytes or not is_shared(study):
        return None
    return CacheBudget(study.base.data.cache_dir / FOLDER, int(gigabytes * 1e9))


def is_shared(study: StudyConfig) -> bool:
    """Whether, on average, two or more distilled trials train on the same batches."""
    if study.base.teacher is None:
        return False
    kinds = num_configurations({k: v for k, v in study.space.items() if k.startswith(_DETERMINE_BATCHES)})
    if kinds is None:  # no value of a continuous range repeats
        return False
    available = num_configurations(study.space)
    trials = study.search.num_trials if available is None else min(study.search.num_trials, available)
    baselines = [trial_config(study.base, changes) for changes in study.baselines.values()]
    return trials + sum(baseline.is_distilled for baseline in baselines) >= 2 * kinds


def describe_cache(cache: CacheBudget, base: TrialConfig, resources: TrialResources, num_images: int) -> str:
    """One line on the cache of a trial at the study's base, by the precision and the disk of this machine."""
    assert base.teacher is not None
    if resources.num_gpus:  # of other machines, perhaps
        dtype = None if base.training.precision == "fp32" else torch.bfloat16
    else:
        dtype = autocast_dtype(base.training.precision, torch.device("cpu"))
    plan = plan_cache(
        cache,
        entry_bytes=planned_entry_bytes(base, base.teacher.pyramid_channels, dtype),
        steps_per_epoch=max(1, num_images // base.training.batch_size),
        total_epochs=base.training.total_epochs,
    )
    return f"Teacher's pyramids, for all trials of a node: {plan}; in {cache.folder}"
