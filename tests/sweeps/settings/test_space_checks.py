"""Checks of the searched space against the trial's configuration."""

from __future__ import annotations

import pytest

from hkd.config import AugmentationConfig, DataConfig, TrialConfig
from sweeps.settings.space import Choices, FloatRange, IntegerRange, Parameter
from sweeps.settings.space_checks import space_problems

WIDTH = FloatRange(type="float", low=0.125, high=0.5, step=0.125)
CHANNELS = IntegerRange(type="int", low=32, high=96, step=32)
BACKBONE = Choices(type="categorical", choices=("resnet18", "resnet50"))
RATE = FloatRange(type="float", low=1e-4, high=1e-2, log=True)


@pytest.mark.parametrize(
    ("key", "parameter", "problems"),
    [
        ("student.width_multiplier", WIDTH, []),
        ("student.backbone", BACKBONE, []),
        ("data.augmentation.scale_max", FloatRange(type="float", low=1.0, high=2.0), []),
        (
            "student.width_multiplier",
            FloatRange(type="float", low=0.1, high=2.5),
            ["space.student.width_multiplier.low: found 0.1", "space.student.width_multiplier.high: found 2.5"],
        ),
        (
            "student.backbone",
            Choices(type="categorical", choices=("resnet18", "resnet101", "vgg")),
            ['space.student.backbone.choices: found "resnet101"', 'space.student.backbone.choices: found "vgg"'],
        ),
        # Both ends are multiples of 8, values between them are not.
        (
            "student.pyramid_channels",
            IntegerRange(type="int", low=32, high=64),
            ["space.student.pyramid_channels: contains 33, which is not allowed"],
        ),
        # As JSON numbers 1.0 and 8.0 are no integers.
        (
            "training.batch_size",
            FloatRange(type="float", low=1, high=8),
            ["space.training.batch_size.low: found 1.0", "space.training.batch_size.high: found 8.0"],
        ),
        ("student.wdth_multiplier", WIDTH, ["space.student.wdth_multiplier: unknown key; did you mean width_mul"]),
        ("student", WIDTH, ["space.student: cannot be searched as a whole; name its settings one by one"]),
        ("data.unlabelled_images", Choices(type="categorical", choices=("a", "b")),
         ["space.data.unlabelled_images: cannot be searched: the teacher labels one folder"]),
        ("data.image_height", CHANNELS, ["space.data.image_height: cannot be searched: it is part of the task"]),
        ("teacher.head_channels", CHANNELS, ["space.teacher.head_channels: cannot be searched"]),
        ("evaluation.nms_iou", RATE, ["space.evaluation.nms_iou: cannot be searched"]),
        ("training.device", Choices(type="categorical", choices=("cpu", "cuda")),
         ["space.training.device: cannot be searched: all trials have the same value"]),
        ("training.num_threads", IntegerRange(type="int", low=1, high=2), ["space.training.num_threads: cannot be"]),
    ],
)  # fmt: skip
def test_every_value_is_checked_against_configuration(key: str, parameter: Parameter, problems: list[str]) -> None:
    found = space_problems({key: parameter}, TrialConfig())
    assert len(found) == len(problems), found
    for problem, prefix in zip(found, problems, strict=True):
        assert problem.startswith(prefix)


def test_distillation_is_not_searched_without_teacher() -> None:
    (found,) = space_problems({"distillation.logits.weight": RATE}, TrialConfig(teacher=None))
    assert found.startswith("space.distillation.logits.weight: base.teacher is null")


def scales(low: tuple[float, float], high: tuple[float, float]) -> dict[str, Parameter]:
    return {
        "data.augmentation.scale_min": FloatRange(type="float", low=low[0], high=low[1]),
        "data.augmentation.scale_max": FloatRange(type="float", low=high[0], high=high[1]),
    }


def test_pairs_of_settings_are_tried_together() -> None:
    (found,) = space_problems(scales((0.5, 1.0), (0.75, 1.5)), TrialConfig())
    assert found == (
        "space: data.augmentation.scale_min = 1.0 together with data.augmentation.scale_max = 0.75: "
        "data.augmentation: scale_min (1.0) must not be above scale_max (0.75)"
    )
    assert space_problems(scales((0.5, 1.0), (1.0, 1.5)), TrialConfig()) == []


def test_setting_that_breaks_no_rule_is_not_reported() -> None:
    space = {"student.width_multiplier": WIDTH, **scales((0.5, 1.0), (0.75, 1.5))}
    found = space_problems(space, TrialConfig())
    assert len(found) == 1
    assert "width_multiplier" not in found[0]


def test_base_value_of_searched_setting_is_ignored() -> None:
    # Both ranges are above the base's scale_max of 1.3, which no trial has.
    assert TrialConfig().data.augmentation.scale_max == 1.3
    assert space_problems(scales((1.4, 1.5), (1.6, 2.0)), TrialConfig()) == []
    # Where scale_max is not searched, each trial has it.
    alone = space_problems({"data.augmentation.scale_min": FloatRange(type="float", low=1.4, high=1.5)}, TrialConfig())
    assert [problem.split(":")[1] for problem in alone] == [
        " data.augmentation.scale_min = 1.4",
        " data.augmentation.scale_min = 1.5",
    ]


def test_valid_combination_with_base_has_no_problem() -> None:
    base = TrialConfig(data=DataConfig(augmentation=AugmentationConfig(scale_min=2.0, scale_max=3.0)))
    space: dict[str, Parameter] = {"data.augmentation.scale_max": FloatRange(type="float", low=2.0, high=3.0)}
    assert space_problems(space, base) == []
