"""A stand-in for a GPU whose memory runs out."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hkd.config import DetectorConfig
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from tests.training.tiny import TEACHER_SHAPE

OUT_OF_MEMORY = partial(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 MiB")


def limited_teacher(
    limit: int, error: Callable[[], BaseException] = OUT_OF_MEMORY, *, shape: DetectorConfig | None = None
) -> Detector:
    """A teacher whose forward raises ``error`` for batches of more than ``limit`` images."""
    teacher = build_detector(shape or TEACHER_SHAPE)
    forward = teacher.forward_pyramid
    batches: list[weakref.ref[Tensor]] = []

    def forward_within_limit(images: Tensor, valid_sizes: Tensor) -> dict[str, Tensor]:
        # Earlier batches must be released: they would take memory from this one.
        sizes = {len(earlier) for reference in batches if (earlier := reference()) is not None}
        assert sizes <= {len(images)}, f"batches of {sizes} are still in memory"
        batches.append(weakref.ref(images))
        if len(images) > limit:
            raise error()
        return forward(images, valid_sizes)

    teacher.forward_pyramid = forward_within_limit  # type: ignore[method-assign]
    return teacher
