"""The teacher as trainings run it, prepared once for all trainings of a process."""

from __future__ import annotations

from functools import cached_property

import torch

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
