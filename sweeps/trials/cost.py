"""What the student of a trial costs; known before it is trained."""

from __future__ import annotations

from hkd.config import TrialConfig
from hkd.models.cost import Cost, config_cost


def student_cost(config: TrialConfig) -> Cost:
    """Parameters and operations of a trial's student at the size of its images."""
    return config_cost(config.student, config.data.image_height, config.data.image_width)
