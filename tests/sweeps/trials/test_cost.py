"""The cost of a trial's student."""

from __future__ import annotations

from pathlib import Path

from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.models.cost import config_cost
from sweeps.settings.space import trial_config
from sweeps.trials.cost import student_cost
from tests.sweeps.tiny import tiny_trial


def test_cost_is_that_of_student_at_size_of_images() -> None:
    base = parse_config(TrialConfig, tiny_trial(Path("cache")), source="tiny")
    config = trial_config(base, {"student.pyramid_channels": 24, "data.image_height": 128})
    assert student_cost(config) == config_cost(config.student, 128, 96)
    assert student_cost(config) != student_cost(base)
