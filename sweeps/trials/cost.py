"""What the student of a trial costs; known before it is trained."""

from __future__ import annotations

from functools import cache

from hkd.config import DetectorConfig, TrialConfig
from hkd.models.cost import Cost, config_cost


def student_cost(config: TrialConfig) -> Cost:
    """Parameters and operations of a trial's student at the size of its images."""
    return _cost(config.student, config.data.image_height, config.data.image_width)


# The driver asks at every start of a trial, and counting takes a forward pass.
@cache
def _cost(student: DetectorConfig, image_height: int, image_width: int) -> Cost:
    return config_cost(student, image_height, image_width)
