"""First weights of a student: from files, or selected from the teacher and fitted to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18

from hkd.data.prepare import PreparedData
from hkd.models.detector import Detector
from hkd.training.first_weights import EXPLAINED, EXPLAINED_BEFORE, check_first_weights
from hkd.training.trainer import Trainer
from tests.training.tiny import NO_LEVELS, TEACHER_SHAPE, build, trial_config

MakeTrainer = Callable[..., Trainer]


def test_first_weights_are_selected_from_teacher(make: MakeTrainer, teacher: Detector) -> None:
    trainer = make(student__init_from="teacher", training__ema_decay=0.9)
    # The teacher's pyramid has 16 channels, the student's 8; no norm follows, so that weights are doubled.
    name = "rpn.head.conv.0.0.weight"
    expected = 2 * teacher.state_dict()[name][::2, ::2]
    for detector in (trainer.student, trainer.deployed):
        assert torch.equal(detector.state_dict()[name], expected)
    assert not torch.equal(make().student.state_dict()[name], expected)


def test_selected_weights_are_fitted_before_the_first_step(make: MakeTrainer) -> None:
    # A learning rate of 1e-12 leaves what the first step starts from.
    still = {"student__init_from": "teacher", "training__learning_rate": 1e-12, "training__weight_decay": 0.0}
    fitted = make(**still, training__ema_decay=0.5)
    selected = make(**still, student__reconstruction_images=0)
    name = "roi_heads.box_predictor.bbox_pred.weight"
    first = selected.student.state_dict()[name].clone()
    assert torch.equal(fitted.student.state_dict()[name], first)
    measured = fitted.train_epoch()
    # The bodies are equal, which is more than half of the layers.
    assert 0.999 < measured[EXPLAINED_BEFORE] <= measured[EXPLAINED] <= 1.0
    assert not torch.allclose(fitted.student.state_dict()[name], first, atol=1e-3)
    for one, average in zip(fitted.student.parameters(), fitted.deployed.parameters(), strict=True):
        torch.testing.assert_close(one, average, atol=1e-6, rtol=1e-6)
    assert EXPLAINED not in fitted.train_epoch()
    assert EXPLAINED not in selected.train_epoch()
    torch.testing.assert_close(selected.student.state_dict()[name], first, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"anchor_sizes": (8.0, 16.0, 32.0, 64.0, 128.0)},
        {"anchor_aspect_ratios": (1.0,)},
        {"anchor_aspect_ratios": (1.0, 2.44)},
    ],
)
def test_outputs_of_other_anchors_are_neither_selected_nor_fitted(make: MakeTrainer, changes: dict[str, Any]) -> None:
    student = {f"student__{name}": value for name, value in changes.items()}
    # A learning rate of 1e-12 leaves what the first step starts from.
    still = {"training__learning_rate": 1e-12, "training__weight_decay": 0.0}
    trainer = make(student__init_from="teacher", **student, **still)
    # The seed determines the initial values.
    initial = make(**student).student.state_dict()
    (note,) = trainer.first_weights
    assert "random: the RPN's outputs, as anchors differ" in note
    before = {name: tensor.clone() for name, tensor in trainer.student.state_dict().items()}
    trainer.train_epoch()
    for name, tensor in trainer.student.state_dict().items():
        if name.startswith(("rpn.head.cls_logits.", "rpn.head.bbox_pred.")):
            torch.testing.assert_close(tensor, initial[name], atol=1e-6, rtol=0)
    name = "rpn.head.conv.0.0.weight"
    assert not torch.equal(before[name], initial[name])
    assert not torch.allclose(trainer.student.state_dict()[name], before[name], atol=1e-3)
    assert "random" not in "".join(make(student__init_from="teacher").first_weights)


def test_fit_of_selected_weights_does_not_change_the_teacher(make: MakeTrainer, teacher: Detector) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    make(student__init_from="teacher").train_epoch()
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in teacher.modules())


def test_first_weights_are_selected_without_distillation(
    scenes_dir: Path, data: PreparedData, teacher: Detector
) -> None:
    config = trial_config(scenes_dir, distillation=NO_LEVELS.model_dump(), student__init_from="teacher")
    assert config.uses_teacher
    assert not config.is_distilled
    name = "backbone.fpn.layer_blocks.0.0.bias"
    assert torch.equal(Trainer(config, data, teacher).student.state_dict()[name], teacher.state_dict()[name][::2])
    with pytest.raises(ValueError, match="there is no teacher"):
        Trainer(config, data)


def test_backbone_is_read_from_its_own_file_and_the_rest_selected_from_teacher(
    scenes_dir: Path, data: PreparedData, tmp_path: Path
) -> None:
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "a.pth")
    bottlenecks = build(TEACHER_SHAPE.model_copy(update={"backbone": "resnet50"}), 1)
    changes = {"teacher__backbone": "resnet50", "student__backbone_from": str(tmp_path / "a.pth")}
    selected = Trainer(trial_config(scenes_dir, student__init_from="teacher", **changes), data, bottlenecks)
    alone = Trainer(trial_config(scenes_dir, **changes), data, bottlenecks)
    untouched = Trainer(trial_config(scenes_dir, teacher__backbone="resnet50"), data, bottlenecks)
    for trainer in (selected, alone):
        # A backbone of an eighth of the width: one channel in eight.
        found = trainer.student.state_dict()["backbone.body.layer1.0.bn1.weight"]
        assert torch.equal(found, classifier.layer1[0].bn1.weight[::8])
    # 8 of 16 channels, without a norm behind them.
    name = "backbone.fpn.layer_blocks.0.0.weight"
    assert torch.equal(selected.student.state_dict()[name], 2 * bottlenecks.state_dict()[name][::2, ::2])
    assert torch.equal(alone.student.state_dict()[name], untouched.student.state_dict()[name])
    # What reads the teacher's backbone means nothing on another one.
    name = "backbone.fpn.inner_blocks.3.0.weight"
    assert torch.equal(selected.student.state_dict()[name], untouched.student.state_dict()[name])
    notes = " ".join(selected.first_weights)
    for fact in ("RPN and heads selected from the teacher", "backbone: ", str(tmp_path / "a.pth")):
        assert fact in notes
    assert check_first_weights(selected.config) == selected.first_weights
    assert check_first_weights(alone.config) == alone.first_weights
    assert untouched.first_weights == ("first weights of the student: random",)
    assert check_first_weights(untouched.config) == ()


def test_convolutions_that_read_the_backbone_stay_random_beside_its_file_in_one_family(
    make: MakeTrainer, teacher: Detector, tmp_path: Path
) -> None:
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "a.pth")
    trainer = make(student__init_from="teacher", student__backbone_from=str(tmp_path / "a.pth"))
    name = "backbone.fpn.inner_blocks.0.0.weight"
    assert torch.equal(trainer.student.state_dict()[name], make().student.state_dict()[name])


def test_first_weights_are_read_from_file(make: MakeTrainer, teacher: Detector, tmp_path: Path) -> None:
    torch.save(teacher.state_dict(), tmp_path / "larger.pth")
    trainer = make(student__init_from=str(tmp_path / "larger.pth"))
    name = "backbone.fpn.layer_blocks.0.0.bias"
    assert torch.equal(trainer.student.state_dict()[name], teacher.state_dict()[name][::2])
