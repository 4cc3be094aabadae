"""The detectors that a study would train. What ``--dry-run`` prints is in test_run.py."""

from __future__ import annotations

from pathlib import Path

from sweeps.plan import planned_detectors
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from tests.sweeps.tiny import tiny_trial


def study(**changes: object) -> StudyConfig:
    base = {**tiny_trial(Path("cache")), "teacher": None}
    return StudyConfig.model_validate({"name": "x", "base": base, **changes})


def test_smallest_and_largest_student_are_chosen_among_all_backbones() -> None:
    space = {
        "student.pyramid_channels": {"type": "int", "low": 8, "high": 16, "step": 8},
        "student.backbone": {"type": "categorical", "choices": ["resnet34", "resnet18"]},
    }
    smallest, largest = planned_detectors(study(space=space))
    assert (smallest.shape.backbone, smallest.shape.pyramid_channels) == ("resnet18", 8)
    assert (largest.shape.backbone, largest.shape.pyramid_channels) == ("resnet34", 16)
    assert smallest.cost.num_params < largest.cost.num_params


def test_largest_student_is_within_the_limits() -> None:
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 64, "step": 8}}
    _, whole = planned_detectors(study(space=space, baselines={}))
    assert whole.shape.pyramid_channels == 64
    middle = student_cost(trial_config(study().base, {"student.pyramid_channels": 24})).num_params
    limited = study(space=space, baselines={}, search={"sampler": "front", "max_params": middle + 1})
    assert planned_detectors(limited)[1].shape.pyramid_channels == 24


def test_students_of_one_shape_are_planned_as_baselines_only() -> None:
    space = {"training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-3}}
    planned = planned_detectors(study(space=space, baselines={"b": {"student.head_channels": 32}}))
    assert [(detector.title, detector.shape.head_channels) for detector in planned] == [("baseline-b", 32)]
