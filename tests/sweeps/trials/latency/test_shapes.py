"""The detectors whose latency is measured."""

from __future__ import annotations

from typing import Any

from hkd.config import DetectorConfig
from sweeps.settings.study import StudyConfig
from sweeps.trials.latency.shapes import detectors_to_measure

WIDTH = {"type": "float", "low": 0.125, "high": 1.0}
PYRAMID = {"type": "int", "low": 16, "high": 64, "step": 16}
BACKBONE = {"type": "categorical", "choices": ["resnet18", "resnet50"]}


def study_of(space: dict[str, Any], **base: Any) -> StudyConfig:
    data = {"image_height": 64, "image_width": 96}
    raw = {"data": data, "evaluation": {"latency": {"num_students": 12}}, **base}
    return StudyConfig.model_validate({"name": "x", "base": raw, "space": space, "baselines": {"default-weights": {}}})


def test_students_cover_the_space_beside_baselines_and_teacher() -> None:
    teacher = {"width_multiplier": 1.5, "pyramid_channels": 128}
    space = {"student.width_multiplier": WIDTH, "student.pyramid_channels": PYRAMID, "student.backbone": BACKBONE}
    study = study_of(space, teacher=teacher)
    found = detectors_to_measure(study)
    # 12 students, the baseline (base.student as it is) and the teacher.
    assert len(found) == 14
    sizes = {(each.backbone, each.width_multiplier, each.pyramid_channels) for each in found}
    for backbone in ("resnet18", "resnet50"):
        assert {(backbone, 0.125, 16), (backbone, 1.0, 64)} <= sizes
    student = study.base.student
    assert (student.backbone, student.width_multiplier, student.pyramid_channels) in sizes
    assert ("resnet18", 1.5, 128) in sizes
    # Fields of a trained student or teacher, such as init_from, are none of the architecture's.
    assert {type(each) for each in found} == {DetectorConfig}
    assert detectors_to_measure(study) == found


def test_small_space_is_measured_completely() -> None:
    study = study_of({"student.pyramid_channels": PYRAMID, "training.learning_rate": WIDTH}, teacher=None)
    # The baseline has 64 channels, too.
    assert sorted(each.pyramid_channels for each in detectors_to_measure(study)) == [16, 32, 48, 64]


def test_space_without_sizes_has_one_student() -> None:
    assert len(detectors_to_measure(study_of({"training.learning_rate": WIDTH}, teacher=None))) == 1
