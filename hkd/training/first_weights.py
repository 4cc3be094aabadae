"""The first weights of a student: random, from files, or selected from its teacher and fitted to its outputs."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hkd.config import SELECTED_FROM_TEACHER, TrialConfig, have_equal_anchors
from hkd.data.loader import BatchLoader
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.reconstruction import LayerFit, reconstruct
from hkd.models.weight_selection import (
    ANCHOR_OUTPUTS,
    BACKBONE_PARTS,
    SelectedWeights,
    has_frozen_norms,
    select_weights,
)
from hkd.models.weights import load_backbone, load_first_weights
from hkd.runtime.device import place
from hkd.runtime.out_of_memory import allocation_failure, describe_device

EXPLAINED_BEFORE = "first_weights_explained_before"
EXPLAINED = "first_weights_explained"
"""Share of the variance of the teacher's outputs, of images on which they were not fitted, that the student's selected
layers explain before they are fitted, and after; medians over the layers."""

_MOST_PIXELS = 64 * 256 * 320
"""Of all images on which selected weights are fitted: their feature maps are in memory at once."""

_SUBJECT = "first weights of the student"


class FirstWeightsMemoryError(ValueError):
    """The fit of first weights to the teacher's outputs does not fit the device's memory."""


def set_first_weights(student: Detector, config: TrialConfig, teacher: Detector | None) -> tuple[str, ...]:
    """Replace random weights by those that ``init_from`` and ``backbone_from`` of ``config.student`` name.

    Returns:
        What is read or selected from where, a sentence each.

    Raises:
        CheckpointError: a file is unreadable, or the source has fewer channels than the student.
        ValueError: they are to be selected from the teacher, and ``teacher`` is None.
    """
    notes: tuple[str, ...] = ()
    if config.student.init_from == SELECTED_FROM_TEACHER:
        if teacher is None:
            raise ValueError("student.init_from is teacher, but there is no teacher; pass load_teacher(...)")
        selected = _of_teacher(student, teacher, config)
        student.load_state_dict(selected.tensors, strict=False)
        notes = (_described(config),)
    notes += _set_from_files(student, config)
    return notes or (f"{_SUBJECT}: random",)


def needs_reconstruction(config: TrialConfig) -> bool:
    """Whether :func:`reconstruct_first_weights` is to be called before the first step."""
    return config.student.init_from == SELECTED_FROM_TEACHER and config.student.reconstruction_images > 0


def reconstruct_first_weights(
    student: Detector, teacher: Detector, loader: BatchLoader, config: TrialConfig, sampling: Mapping[str, Any]
) -> dict[str, float]:
    """Fit the student's selected weights to the teacher's outputs on the first training images, in fp32.

    Args:
        teacher: From :func:`hkd.training.teacher.prepare.load_teacher`, on any device.
        sampling: See :func:`hkd.models.reconstruction.reconstruct`.

    Returns:
        :data:`EXPLAINED_BEFORE` and :data:`EXPLAINED`.

    Raises:
        FirstWeightsMemoryError: the images, or the teacher, do not fit the memory of the student's device.
    """
    device = next(student.parameters()).device
    pixels = config.data.image_height * config.data.image_width
    num_images = min(config.student.reconstruction_images, max(1, _MOST_PIXELS // pixels))
    if config.training.batch_size > num_images:
        loader = loader.with_batch_size(num_images)
    num_batches = math.ceil(num_images / config.training.batch_size)
    fits: list[LayerFit] = []

    def fit() -> None:
        on_device = teacher
        if next(teacher.parameters()).device != device:
            on_device = place(copy.deepcopy(teacher), device)
        fits.extend(
            reconstruct(
                student,
                on_device,
                list(islice(loader.epoch(0), num_batches)),
                sampling=sampling,
                with_body=config.student.backbone_from is None,
                with_anchor_outputs=_has_teachers_anchors(config),
                seed=config.training.seed,
            )
        )

    reason = allocation_failure(fit)
    if reason is not None:
        raise FirstWeightsMemoryError(
            f"the fit of first weights on {num_images} of student.reconstruction_images"
            f" {config.student.reconstruction_images} at {config.data.image_height} x {config.data.image_width} does"
            f" not fit {describe_device(device)}; set student.reconstruction_images below {num_images} (0: the selected"
            f" weights are used as they are), or choose smaller images (data.image_height, data.image_width) ({reason})"
        )
    return {
        EXPLAINED_BEFORE: statistics.median(fit.before for fit in fits),
        EXPLAINED: statistics.median(fit.after for fit in fits),
    }


def check_first_weights(config: TrialConfig) -> tuple[str, ...]:
    """Check that ``init_from`` and ``backbone_from`` of ``config.student`` can be used; only named files are read.

    Returns:
        As :func:`set_first_weights`; empty for random weights.

    Raises:
        CheckpointError: as :func:`set_first_weights`.
    """
    notes: tuple[str, ...] = ()
    if config.student.init_from == SELECTED_FROM_TEACHER:
        assert config.teacher is not None, "checked by TrialConfig"
        with torch.device("meta"):
            _of_teacher(build_detector(config.student), build_detector(config.teacher), config)
        notes = (_described(config),)
    if isinstance(config.student.init_from, Path) or config.student.backbone_from is not None:
        with torch.random.fork_rng(devices=[]):
            notes += _set_from_files(build_detector(config.student), config)
    return notes


def _set_from_files(student: Detector, config: TrialConfig) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    path, backbone = config.student.init_from, config.student.backbone_from
    if isinstance(path, Path):
        found = load_first_weights(student, path)
        notes += (f"{_SUBJECT}: {path}", *(f"{path}: {note}" for note in found))
    if backbone is not None:
        found = load_backbone(student, backbone)
        notes += (f"{_SUBJECT}'s backbone: {backbone}", *(f"{backbone}: {note}" for note in found))
    return notes


def _of_teacher(student: Detector, teacher: Detector, config: TrialConfig) -> SelectedWeights:
    target: Mapping[str, Tensor] = student.state_dict()
    if config.student.backbone_from is not None:
        # The pyramid's convolutions that read the teacher's backbone mean nothing on another one.
        target = {name: tensor for name, tensor in target.items() if not name.startswith(BACKBONE_PARTS)}
    if not _has_teachers_anchors(config):
        # Scores and deltas are those of boxes relative to the anchors.
        target = {name: tensor for name, tensor in target.items() if not name.startswith(ANCHOR_OUTPUTS)}
    return select_weights(teacher.state_dict(), target, norm_is_frozen=has_frozen_norms(student), name="the teacher")


def _described(config: TrialConfig) -> str:
    fitted = ""
    if needs_reconstruction(config):
        fitted = f", and fitted to its outputs on up to {config.student.reconstruction_images} training images"
    has_anchors, random = _has_teachers_anchors(config), []
    parts = "all layers" if has_anchors else "all other layers"
    if config.student.backbone_from is not None:
        parts = "pyramid, RPN and heads"
        # The pyramid's convolutions that read another backbone have nothing to be selected from, but can be fitted.
        random = [] if fitted else ["the pyramid's convolutions that read the backbone"]
    if not has_anchors:
        random.append("the RPN's outputs, as anchors differ")
    left = f"; random: {', and '.join(random)}" if random else ""
    return f"{_SUBJECT}: {parts} selected from the teacher{fitted}{left}"


def _has_teachers_anchors(config: TrialConfig) -> bool:
    assert config.teacher is not None, "checked by TrialConfig"
    return have_equal_anchors(config.student, config.teacher)
