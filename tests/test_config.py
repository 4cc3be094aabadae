from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
from pydantic import ValidationError
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from hkd.config import (
    AugmentationConfig,
    DataConfig,
    DistillationConfig,
    FeatureStageConfig,
    LogitStageConfig,
    Section,
    SyntheticConfig,
    TeacherConfig,
    TrainingConfig,
    TrialConfig,
)
from hkd.config_files.parsing import apply_overrides, flatten, parse_config
from hkd.config_files.problems import ConfigError
from hkd.data.sources.synthetic import FIRST_VALIDATION_INDEX
from hkd.models.build import build_detector


def all_sections(kind: type[Section] = Section) -> Iterator[type[Section]]:
    for below in kind.__subclasses__():
        yield below
        yield from all_sections(below)


@pytest.mark.parametrize("section", list(all_sections()), ids=lambda section: section.__name__)
def test_every_section_is_strict_and_frozen(section: type[Section]) -> None:
    assert section.model_config.get("extra") == "forbid"
    assert section.model_config.get("frozen") is True
    assert section.model_config.get("allow_inf_nan") is False


def test_defaults_are_valid() -> None:
    # pydantic does not validate defaults, so pass them as input.
    assert parse_config(TrialConfig, TrialConfig().model_dump(mode="json"), source="defaults") == TrialConfig()


def test_default_teacher_is_larger_than_default_student() -> None:
    config = TrialConfig()
    assert config.teacher is not None
    assert config.teacher.width_multiplier > config.student.width_multiplier
    assert config.teacher.pyramid_channels > config.student.pyramid_channels
    assert config.teacher.head_channels > config.student.head_channels


def test_default_losses_and_weights() -> None:
    flat = flatten(TrialConfig())
    assert {name: value for name, value in flat.items() if name.endswith(("weight", ".loss"))} == {
        "distillation.pyramid.loss": "pearson",
        "distillation.pyramid.weight": 1.0,
        "distillation.region.loss": "pearson",
        "distillation.region.weight": 1.0,
        "distillation.embedding.loss": "pearson",
        "distillation.embedding.weight": 0.0,
        "distillation.logits.loss": "kl",
        "distillation.logits.weight": 1.0,
        "distillation.logits.box_deltas_weight": 0.0,
    }


@pytest.mark.parametrize("stage", ["pyramid", "region", "embedding", "logits", "box_deltas"])
def test_any_positive_weight_makes_distillation_active(stage: str) -> None:
    off = {"pyramid": {"weight": 0}, "region": {"weight": 0}, "embedding": {"weight": 0}, "logits": {"weight": 0}}
    assert not DistillationConfig.model_validate(off).is_active
    on = {"logits": {"weight": 0, "box_deltas_weight": 0.1}} if stage == "box_deltas" else {stage: {"weight": 0.1}}
    assert DistillationConfig.model_validate(off | on).is_active


def test_reversed_scale_range_is_rejected() -> None:
    assert AugmentationConfig(scale_min=1.2, scale_max=1.2).scale_max == 1.2
    with pytest.raises(ValidationError, match=r"scale_min \(1.3\) must not be above scale_max \(1.2\)"):
        AugmentationConfig(scale_min=1.3, scale_max=1.2)


@pytest.mark.parametrize("named", ["train_annotations", "validation_annotations"])
def test_annotations_of_one_split_alone_are_rejected(named: str) -> None:
    with pytest.raises(ValidationError, match=r"train_annotations.*validation_annotations"):
        DataConfig.model_validate({named: "boxes.json"})


def test_teacher_with_two_origins_is_rejected() -> None:
    assert TeacherConfig(init_from=Path("a.safetensors")).init_from == Path("a.safetensors")
    with pytest.raises(ValidationError, match="found checkpoint, init_from_synthetic"):
        TeacherConfig(checkpoint=Path("a.safetensors"), init_from_synthetic=TrainingConfig())


def test_torchvision_sets_every_setting_of_its_detector() -> None:
    config = TeacherConfig(torchvision=Path("a.pth"), proposals_per_image=300)
    with torch.device("meta"):
        reference = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
        ours = build_detector(config, num_classes=91)
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items() if "num_batches" not in name}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    generator, rpn = reference.rpn.anchor_generator, reference.rpn
    assert tuple((size,) for size in config.anchor_sizes) == generator.sizes
    assert {config.anchor_aspect_ratios} == set(generator.aspect_ratios)
    assert config.canonical_region_size == reference.roi_heads.box_roi_pool.canonical_scale
    assert config.pre_nms_proposals_per_level == rpn.pre_nms_top_n()
    assert config.proposal_nms_iou == rpn.nms_thresh
    assert config.norm == "frozen_batch"
    # A number of proposals does not change what the weights mean.
    assert (config.proposals_per_image, rpn.post_nms_top_n()) == (300, 1000)
    assert config.trained_weights == Path("a.pth")
    # As written to config.yaml and read again.
    assert TeacherConfig.model_validate(config.model_dump(mode="json")) == config


def test_settings_that_contradict_torchvision_are_refused_together() -> None:
    with pytest.raises(ValidationError) as caught:
        TeacherConfig(torchvision=Path("a.pth"), backbone="resnet18", anchor_sizes=(1, 2, 3, 4, 5), norm="frozen_batch")
    message = str(caught.value)
    assert "torchvision is set" in message
    assert "backbone is resnet18 instead of resnet50" in message
    assert "anchor_sizes is [1.0, 2.0, 3.0, 4.0, 5.0] instead of [32.0, 64.0, 128.0, 256.0, 512.0]" in message
    assert "norm is" not in message


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (DataConfig, "image_height", 100),  # not a multiple of 32
        (SyntheticConfig, "train_images", FIRST_VALIDATION_INDEX + 1),  # more than can be drawn
        (SyntheticConfig, "validation_images", FIRST_VALIDATION_INDEX + 1),
        (FeatureStageConfig, "weight", -0.1),
        (FeatureStageConfig, "weight", float("inf")),
        (LogitStageConfig, "temperature", 0.0),
        (TrainingConfig, "learning_rate", 0.0),
        (TrainingConfig, "positive_anchor_fraction", 1.0),
        (TrainingConfig, "ema_decay", 1.0),
        (TeacherConfig, "width_multiplier", 2.1),
        (TeacherConfig, "anchor_aspect_ratios", ()),
    ],
)
def test_values_outside_limits_are_rejected(kind: type[Section], field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        kind.model_validate({field: value})


def unbounded_numbers(model: type[Section]) -> Iterator[str]:
    """Dotted names of the integers and numbers in a schema that have no upper limit."""
    schema = model.model_json_schema()

    def visit(place: object, name: str, seen: frozenset[str]) -> Iterator[str]:
        if isinstance(place, list):
            for part in place:
                yield from visit(part, name, seen)
        if not isinstance(place, dict):
            return
        reference = place.get("$ref", "").rpartition("/")[2]
        if reference and reference not in seen:
            yield from visit(schema["$defs"][reference], name, seen | {reference})
        if place.get("type") in ("integer", "number") and not {"maximum", "exclusiveMaximum"} & place.keys():
            yield name
        for key, below in place.get("properties", {}).items():
            yield from visit(below, f"{name}.{key}", seen)
        for below in ("anyOf", "oneOf", "items", "prefixItems"):
            yield from visit(place.get(below), name, seen)

    yield from visit(schema, "", frozenset())


def test_every_number_has_an_upper_limit() -> None:
    assert list(unbounded_numbers(TrialConfig)) == []
    # The check finds a number without a limit.
    assert list(unbounded_numbers(pydantic.create_model("Free", __base__=Section, count=(int, 1)))) == [".count"]


@pytest.mark.parametrize("number", [10**9, 10**30, 1e30])
def test_numbers_beyond_any_training_are_rejected_by_name(number: float) -> None:
    names = [name for name, value in flatten(TrialConfig()).items() if type(value) in (int, float)]
    assert len(names) > 50
    raw: dict[str, Any] = apply_overrides({}, dict.fromkeys(names, number))
    with pytest.raises(ConfigError) as caught:
        parse_config(TrialConfig, raw, source="test")
    # Seeds are identifiers: up to 2^31 are allowed.
    expected = {name for name in names if not (name.endswith("seed") and number == 10**9)}
    assert {problem.split(":")[0] for problem in caught.value.problems} == expected
    assert [problem for problem in caught.value.problems if "allowed: " not in problem] == []


@pytest.mark.parametrize(
    ("student", "facts"),
    [
        ({"pyramid_channels": 256}, ["student.pyramid_channels 256", "teacher.pyramid_channels 128"]),
        ({"width_multiplier": 1.5, "head_channels": 512}, ["width_multiplier 1.5", "head_channels 512"]),
    ],
)
def test_weights_are_not_selected_from_smaller_teacher(student: dict[str, object], facts: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate({"student": {"init_from": "teacher", **student}})
    assert [fact for fact in facts if fact not in str(caught.value)] == []
    assert TrialConfig.model_validate({"student": student}).student.init_from is None


def test_weights_are_not_selected_without_teacher() -> None:
    with pytest.raises(ValidationError, match=r"student\.init_from is teacher, but teacher is null"):
        TrialConfig.model_validate({"student": {"init_from": "teacher"}, "teacher": None})


def test_unlabelled_images_need_a_teacher_and_both_kinds_in_each_batch() -> None:
    def trial(fraction: float = 0.5, batch_size: int = 8, **changes: object) -> TrialConfig:
        data = {"unlabelled_images": "footage", "unlabelled_fraction": fraction}
        return TrialConfig.model_validate({"data": data, "training": {"batch_size": batch_size}, **changes})

    alone = {name: {"weight": 0} for name in ("pyramid", "region", "embedding", "logits")}
    assert trial(distillation=alone).uses_teacher
    assert not trial(distillation=alone).is_distilled
    assert not TrialConfig.model_validate({"distillation": alone}).uses_teacher
    for changes, facts in (
        ({"teacher": None}, r"data\.unlabelled_images is set, but teacher is null"),
        ({"batch_size": 1}, r"unlabelled_fraction 0\.5 of training\.batch_size 1 leaves no unlabelled image"),
        ({"fraction": 0.05}, r"unlabelled_fraction 0\.05 of training\.batch_size 8 leaves no unlabelled image"),
        ({"fraction": 0.95}, r"unlabelled_fraction 0\.95 of training\.batch_size 8 leaves no labelled image"),
        ({"fraction": 1.0}, "less than 1"),
    ):
        with pytest.raises(ValidationError, match=facts):
            trial(**changes)
    # Without such images, the fraction does not matter.
    TrialConfig.model_validate({"data": {"unlabelled_fraction": 0.01}, "teacher": None})


def test_scores_of_unlabelled_images_are_in_order() -> None:
    with pytest.raises(ValidationError, match=r"unlabelled_ignored_score \(0\.8\).*unlabelled_object_score \(0\.7\)"):
        DataConfig(unlabelled_object_score=0.7, unlabelled_ignored_score=0.8)
    assert DataConfig(unlabelled_object_score=0.7, unlabelled_ignored_score=0.7).unlabelled_images is None


def test_backbone_of_another_family_needs_a_file() -> None:
    student: dict[str, object] = {"init_from": "teacher", "head_channels": 512}
    raw = {"student": student, "teacher": {"backbone": "resnet50"}}
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate(raw)
    # Both mistakes in one message, each with its remedy.
    for fact in (
        "student.backbone resnet18",
        "teacher.backbone resnet50",
        "student.backbone_from",
        "head_channels 512",
    ):
        assert fact in str(caught.value)
    del student["head_channels"]
    student["backbone_from"] = "resnet18.pth"
    assert TrialConfig.model_validate(raw).uses_teacher
    # A backbone that is not selected may be wider than the teacher's, of the same family or not.
    student["width_multiplier"] = 1.5
    for backbone in ("resnet34", "resnet50"):
        assert TrialConfig.model_validate({"student": student, "teacher": {"backbone": backbone}}).uses_teacher
    # ResNet-18 and 34 are of one family.
    equal = {"student": {"init_from": "teacher"}, "teacher": {"backbone": "resnet34"}}
    assert TrialConfig.model_validate(equal).uses_teacher


def test_two_files_for_the_backbone_are_refused() -> None:
    student = {"init_from": "detector.pth", "backbone_from": "resnet18.pth"}
    with pytest.raises(ValidationError, match=r"init_from \(detector\.pth\) and backbone_from \(resnet18\.pth\)"):
        TrialConfig.model_validate({"student": student})
    assert not TrialConfig.model_validate({"student": {"backbone_from": "resnet18.pth"}, "teacher": None}).uses_teacher
