"""What a training adds for distillation: the objective, and the teacher, fused once for all trainings of a process."""

from __future__ import annotations

from functools import cached_property

import torch

from hkd.config import SELECTED_FROM_TEACHER, TrialConfig
from hkd.distillation.objective import DistillationObjective, build_objective
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.runtime.device import place
from hkd.training.pyramid_cache.key import state_hash


class FusedTeacher:
    """A teacher that is fused for inference, on the device of the trainings that share it.

    Args:
        teacher: It is not changed.
        autocast_dtype: Of the trainings; None for fp32.
    """

    def __init__(self, teacher: Detector, autocast_dtype: torch.dtype | None, device: torch.device) -> None:
        self.autocast_dtype = autocast_dtype
        # Fused before it is moved: the copy moves, the caller's teacher stays on its device.
        self.detector = place(fuse_for_inference(teacher, autocast_dtype or torch.float32), device)

    @cached_property
    def weights_hash(self) -> str:
        """Part of the key of the cache of its pyramids."""
        return state_hash(self.detector.state_dict())


def prepare_distillation(
    config: TrialConfig,
    teacher: Detector | None,
    fused: FusedTeacher | None,
    autocast_dtype: torch.dtype | None,
    device: torch.device,
) -> tuple[DistillationObjective | None, FusedTeacher | None]:
    """The objective, on the device, and the fused teacher of a training; None and None if it is not distilled.

    Args:
        teacher: Required where the training is distilled.
        fused: ``teacher``, fused for this precision and device; None fuses it.

    Raises:
        ValueError: there is no teacher, but a teacher is configured and the distillation has weights.
    """
    if config.teacher is None or not config.is_distilled:
        return None, None
    if teacher is None:
        raise ValueError(
            "the distillation has weights and a teacher is configured, but Trainer got no teacher; "
            "pass load_teacher(...), or set teacher to null or all weights under distillation to 0"
        )
    objective = build_objective(
        config.distillation,
        config.student,
        config.teacher,
        config.training.seed,
        is_selected=config.student.init_from == SELECTED_FROM_TEACHER,
    )
    if fused is None:
        fused = FusedTeacher(teacher, autocast_dtype, device)
    assert fused.autocast_dtype == autocast_dtype, "the teacher is fused for another precision"
    return place(objective, device), fused
