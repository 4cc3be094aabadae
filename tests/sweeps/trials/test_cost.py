"""The cost of a trial's student."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.models.cost import config_cost
from sweeps.settings.space import trial_config
from sweeps.trials import cost as cost_module
from sweeps.trials.cost import student_cost
from tests.sweeps.tiny import tiny_trial


def test_cost_is_counted_once_per_student(monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(TrialConfig, tiny_trial(Path("cache")), source="tiny")
    expected = config_cost(config.student, 64, 96)
    assert student_cost(config) == expected
    monkeypatch.setattr(cost_module, "config_cost", lambda *_: pytest.fail("counted again"))
    assert student_cost(trial_config(config, {"training.learning_rate": 1e-4})) == expected
