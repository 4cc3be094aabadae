"""The largest students within the limits on costs."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.largest import largest_sizes

PYRAMID, HEAD = "student.pyramid_channels", "student.head_channels"
SPACE = {
    PYRAMID: {"type": "int", "low": 16, "high": 64, "step": 8},
    HEAD: {"type": "int", "low": 16, "high": 64, "step": 8},
    "training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
}


def study_of(max_params: int | None, **space: Any) -> StudyConfig:
    raw = {
        "name": "x",
        "base": {
            "teacher": None,
            "student": {"width_multiplier": 0.125},
            "data": {"image_height": 64, "image_width": 64},
        },
        "space": {**SPACE, **space},
        "baselines": {},
        "search": {"sampler": "front", "max_params": max_params},
    }
    return StudyConfig.model_validate(raw)


def num_params(study: StudyConfig, pyramid: int, head: int) -> int:
    return student_cost(trial_config(study.base, {PYRAMID: pyramid, HEAD: head})).num_params


def test_without_limits_all_numbers_are_at_their_upper_ends() -> None:
    assert list(largest_sizes(study_of(None))) == [{PYRAMID: 64, HEAD: 64}]


def test_with_a_limit_each_number_reaches_the_highest_value_within_it() -> None:
    free = study_of(None)
    # Exactly what 40 channels and the smallest head have: 48 channels have more.
    limit = num_params(free, 40, 16)
    equal, pyramid, head = largest_sizes(study_of(limit))
    assert pyramid == {PYRAMID: 40, HEAD: 16}
    # By trying all: a head for 16 channels, and a student with both at the same place of the grid.
    heads = [value for value in range(16, 65, 8) if num_params(free, 16, value) <= limit]
    both = [value for value in range(16, 65, 8) if num_params(free, value, value) <= limit]
    assert head == {PYRAMID: 16, HEAD: max(heads)}
    assert equal == {PYRAMID: max(both), HEAD: max(both)}


def test_combinations_beyond_the_limit_are_left_out() -> None:
    backbone = {"type": "categorical", "choices": ["resnet18", "resnet50"]}
    limit = num_params(study_of(None), 24, 24)
    found = list(largest_sizes(study_of(limit, **{"student.backbone": backbone})))
    assert {sizes["student.backbone"] for sizes in found} == {"resnet18"}
    assert list(largest_sizes(study_of(10))) == []


@pytest.mark.parametrize("limit", [None, 10**9])
def test_a_limit_that_excludes_nothing_changes_nothing(limit: int | None) -> None:
    assert list(largest_sizes(study_of(limit))) == [{PYRAMID: 64, HEAD: 64}]
