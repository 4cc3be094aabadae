"""Checks of the files of a teacher, before anything is learned from it."""

from __future__ import annotations

from pathlib import Path

import torch

from hkd.config import DataConfig, TeacherConfig, TrialConfig
from hkd.models.build import build_detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import DETECTOR_SUFFIX, load_first_weights, load_weights, read_metadata

# Settings that change what a detector's weights mean, and that no tensor's shape shows.
_SHAPELESS_SETTINGS = ("anchor_sizes", "anchor_aspect_ratios", "canonical_region_size")
_TORCHVISION_SHORTER_SIDE = 800
_SMALL_FOR_TORCHVISION = 600


def check_teacher_files(config: TrialConfig) -> tuple[str, ...]:
    """Check that the weights named for the teacher match its configured architecture.

    Returns:
        What was read from where, left out or changed in a foreign file, a sentence each.

    Raises:
        CheckpointError: as :func:`hkd.training.teacher.prepare.prepare_teacher`.
    """
    teacher = config.teacher
    if teacher is None:
        return ()
    source = teacher.trained_weights or teacher.init_from
    if source is None:
        return ()
    with torch.random.fork_rng(devices=[]):
        detector = build_detector(teacher)
    load = load_weights if teacher.trained_weights is not None else load_first_weights
    notes = load(detector, source, person_class=teacher.person_class)
    if teacher.checkpoint is not None:
        _check_shapeless_settings(teacher.checkpoint, teacher)
    if teacher.torchvision is not None:
        notes += _advice_on_size(config.data)
    return tuple(f"{source}: {note}" for note in notes)


def _check_shapeless_settings(path: Path, teacher: TeacherConfig) -> None:
    """Check that the settings with which the checkpoint's weights were trained are configured."""
    if path.suffix != DETECTOR_SUFFIX:
        unset = [f"teacher.{name}" for name in _SHAPELESS_SETTINGS if name not in teacher.model_fields_set]
        if unset:
            raise CheckpointError(
                f"{path}: states no anchors, and neither does the configuration: set {', '.join(unset)} to what the "
                "weights were trained with. For torchvision's fasterrcnn_resnet50_fpn, set teacher.torchvision to this "
                "file instead of teacher.checkpoint, which sets all of them"
            )
        return
    saved = read_metadata(path).config
    different = [
        f"teacher.{name} is {getattr(teacher, name)} and was {getattr(saved, name)}"
        for name in _SHAPELESS_SETTINGS
        if getattr(teacher, name) != getattr(saved, name)
    ]
    if different:
        raise CheckpointError(
            f"{path}: was trained with other settings than the teacher is configured with: {'; '.join(different)}. "
            "Set them to what the checkpoint was trained with, or use it as teacher.init_from, to train it further."
        )


def _advice_on_size(data: DataConfig) -> tuple[str, ...]:
    shorter = min(data.image_height, data.image_width)
    if shorter >= _SMALL_FOR_TORCHVISION:
        return ()
    advice = (
        f"torchvision trained it on images of {_TORCHVISION_SHORTER_SIDE} pixels on the shorter side, and "
        f"data.image_height and data.image_width are {data.image_height} and {data.image_width}, so it may miss small "
        "people; larger images (multiples of 32) cost time in proportion to their area"
    )
    return (advice,)
