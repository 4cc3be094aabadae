"""Settings of a training that must be the same when it is resumed."""

from __future__ import annotations

from typing import Any

from hkd.coco.annotations import Annotations
from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten
from hkd.data.prepare import PreparedData

FREE_TRAINING_SETTINGS = ("device", "num_threads", "evaluate_every_epochs")
"""Fields of :class:`hkd.config.TrainingConfig` that do not change the result: they may differ on resume."""
FREE_SETTINGS = frozenset(f"training.{name}" for name in FREE_TRAINING_SETTINGS)
"""The same by dotted name."""

_SECTIONS: tuple[str, ...] = (
    "student.",
    "distillation.",
    "training.",
    "data.augmentation.",
    "data.image_height",
    "data.image_width",
)


def settings_to_resume(
    config: TrialConfig, data: PreparedData, pseudo_labels: Annotations | None, steps_per_epoch: int
) -> dict[str, Any]:
    """Settings that must be the same when a state is loaded, by dotted name.

    Of unlabelled images the content counts, and not where they are.
    """
    sections, content = _SECTIONS, dict[str, Any]()
    if config.data.unlabelled_images is not None:
        assert data.unlabelled is not None
        assert pseudo_labels is not None
        sections = (*sections, "data.unlabelled_fraction")
        content["content of the unlabelled images"] = data.unlabelled.store.checksum
        content["labels of the unlabelled images"] = pseudo_labels.content_hash()
    chosen = {
        name: value
        for name, value in flatten(config).items()
        if name.startswith(sections) and name not in FREE_SETTINGS
    }
    return {**chosen, **content, "steps_per_epoch": steps_per_epoch}
