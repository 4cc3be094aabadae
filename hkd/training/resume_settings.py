"""Settings of a training that must be the same when it is resumed."""

from __future__ import annotations

from typing import Any

from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten

FREE_TRAINING_SETTINGS = ("device", "num_threads", "evaluate_every_epochs")
"""Fields of :class:`hkd.config.TrainingConfig` that do not change the result: they may differ on resume."""
FREE_SETTINGS = frozenset(f"training.{name}" for name in FREE_TRAINING_SETTINGS)
"""The same by dotted name."""

_SECTIONS = ("student.", "distillation.", "training.", "data.augmentation.", "data.image_height", "data.image_width")


def settings_to_resume(config: TrialConfig, steps_per_epoch: int) -> dict[str, Any]:
    """Settings that must be the same when a state is loaded, by dotted name."""
    is_mixed = config.data.unlabelled_images is not None
    sections = (*_SECTIONS, *(["data.unlabelled_fraction"] if is_mixed else []))
    return {
        name: value
        for name, value in flatten(config).items()
        if name.startswith(sections) and name not in FREE_SETTINGS
    } | {"steps_per_epoch": steps_per_epoch}
