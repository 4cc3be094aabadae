"""The searched space: Optuna's distributions, configurations of trials, and its size."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hkd.config import TrialConfig
from hkd.config_files.problems import ConfigError
from sweeps.settings.space import (
    Choices,
    FloatRange,
    IntegerRange,
    Parameter,
    distributions,
    ends,
    extreme_sizes,
    num_configurations,
    num_proposals,
    trial_config,
)

WIDTH = FloatRange(type="float", low=0.125, high=0.5, step=0.125)
CHANNELS = IntegerRange(type="int", low=32, high=96, step=32)
BACKBONE = Choices(type="categorical", choices=("resnet18", "resnet50"))
RATE = FloatRange(type="float", low=1e-4, high=1e-2, log=True)


def test_distributions_equal_ranges() -> None:
    space: dict[str, Parameter] = {
        "student.width_multiplier": WIDTH,
        "student.pyramid_channels": CHANNELS,
        "student.backbone": BACKBONE,
        "training.learning_rate": RATE,
        "training.batch_size": IntegerRange(type="int", low=1, high=64, log=True),
    }
    assert distributions(space) == {
        "student.width_multiplier": FloatDistribution(0.125, 0.5, step=0.125),
        "student.pyramid_channels": IntDistribution(32, 96, step=32),
        "student.backbone": CategoricalDistribution(("resnet18", "resnet50")),
        "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "training.batch_size": IntDistribution(1, 64, log=True),
    }


def test_trial_config_changes_named_settings_only() -> None:
    config = trial_config(TrialConfig(), {"student.width_multiplier": 0.25, "distillation.logits.temperature": 3})
    assert config.student == TrialConfig().student.model_copy(update={"width_multiplier": 0.25})
    assert config.distillation.logits.temperature == 3.0
    assert config.model_copy(update={"student": TrialConfig().student, "distillation": TrialConfig().distillation}) == (
        TrialConfig()
    )
    with pytest.raises(ConfigError, match=r"student\.width: unknown key"):
        trial_config(TrialConfig(), {"student.width": 1})


def test_ends_and_number_of_configurations() -> None:
    assert ends(WIDTH) == (0.125, 0.5)
    assert ends(BACKBONE) == ("resnet18", "resnet50")
    # 4 widths (0.125, 0.25, 0.375, 0.5), 3 numbers of channels (32, 64, 96), 2 backbones.
    space: dict[str, Parameter] = {"a": WIDTH, "b": CHANNELS, "c": BACKBONE}
    assert num_configurations(space) == 4 * 3 * 2
    assert num_configurations({**space, "d": RATE}) is None
    assert [num_proposals(space, wanted) for wanted in (3, 24, 50)] == [3, 24, 24]
    assert num_proposals({**space, "d": RATE}, 50) == 50


def test_extreme_sizes_combine_ends_with_every_choice() -> None:
    space: dict[str, Parameter] = {
        "student.width_multiplier": WIDTH,
        "student.backbone": BACKBONE,
        "training.learning_rate": RATE,
    }
    width, backbone = "student.width_multiplier", "student.backbone"
    assert list(extreme_sizes(space)) == [
        ({width: 0.125, backbone: "resnet18"}, {width: 0.5, backbone: "resnet18"}),
        ({width: 0.125, backbone: "resnet50"}, {width: 0.5, backbone: "resnet50"}),
    ]
