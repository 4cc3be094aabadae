"""Whether the trials of a study share their teacher's pyramids, and what that takes."""

from __future__ import annotations

import torch

from hkd.config import TrialConfig
from hkd.runtime.device import autocast_dtype
from hkd.training.pyramid_cache.cache import plan_cache, planned_entry_bytes
from hkd.training.pyramid_cache.capacity import CacheRoom
from sweeps.settings.resources import TrialResources
from sweeps.settings.space import num_configurations, trial_config
from sweeps.settings.study import StudyConfig

FOLDER = "teacher_outputs"
"""Below ``data.cache_dir``, beside the images that a node keeps."""

_DETERMINE_BATCHES = ("training.seed", "training.batch_size", "training.precision", "data.augmentation.")
"""Settings that may be searched and give each of their values batches, or a teacher's pyramids, of its own."""
# Holds any one of the shipped studies (0.9 and 2.6 GB) and one at the default settings (4 GB, 8 in fp32), and fits the
# memory of a machine with 16 GB, so that entries are read from there and not from the disk. Nothing on GPUs: 16 images
# of 480 x 640 under 256 channels make 210 MB a step, some 20 ms or more to hand over, by estimate more than a fast GPU
# takes to compute them; a study on a slow one may state gigabytes.
_DEFAULT_GIGABYTES_ON_CPUS = 10.0


def find_room(study: StudyConfig, resources: TrialResources) -> CacheRoom | None:
    """Where each node keeps the teacher's pyramids; None where too few trials would use them, or it is turned off."""
    gigabytes = study.resources.teacher_cache_gigabytes
    if gigabytes is None:
        gigabytes = 0.0 if resources.num_gpus else _DEFAULT_GIGABYTES_ON_CPUS
    if not gigabytes or not is_shared(study):
        return None
    return CacheRoom(study.base.data.cache_dir / FOLDER, int(gigabytes * 1e9))


def is_shared(study: StudyConfig) -> bool:
    """Whether, on average, two trials or more learn from the teacher on the same batches."""
    if study.base.teacher is None:
        return False
    kinds = num_configurations({k: v for k, v in study.space.items() if k.startswith(_DETERMINE_BATCHES)})
    if kinds is None:  # of a continuous range no value comes twice
        return False
    available = num_configurations(study.space)
    trials = study.search.num_trials if available is None else min(study.search.num_trials, available)
    baselines = [trial_config(study.base, changes) for changes in study.baselines.values()]
    return trials + sum(baseline.is_distilled for baseline in baselines) >= 2 * kinds


def describe_cache(room: CacheRoom, base: TrialConfig, resources: TrialResources, num_images: int) -> str:
    """One line on what a trial at the study's base would keep, by this machine's processor and disk."""
    assert base.teacher is not None
    if resources.num_gpus:  # which this machine need not have
        dtype = None if base.training.precision == "fp32" else torch.bfloat16
    else:
        dtype = autocast_dtype(base.training.precision, torch.device("cpu"))
    plan = plan_cache(
        room,
        entry_bytes=planned_entry_bytes(base, base.teacher.pyramid_channels, dtype),
        steps_per_epoch=max(1, num_images // base.training.batch_size),
        total_epochs=base.training.total_epochs,
    )
    return f"Teacher's pyramids, for all trials of a node: {plan}; in {room.folder}"
