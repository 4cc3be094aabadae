"""The trainer: seeded, resumable bit for bit, equal to plain training at weight 0, and stopped by bad numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hkd.data.prepare import PreparedData
from hkd.distillation import cells
from hkd.models.components import proposals, regions, sampling
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import load_detector
from hkd.training.fit import fit
from hkd.training.state import load_state
from hkd.training.step.epoch_record import NonFiniteLossError
from hkd.training.trainer import Trainer
from tests.training.tiny import NO_LEVELS, TRAINING, trial_config

MakeTrainer = Callable[..., Trainer]


def losses_of(epoch: dict[str, float]) -> dict[str, float]:
    """What an epoch measured, without times."""
    return {name: value for name, value in epoch.items() if name not in {"seconds", "images_per_second"}}


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    expected = other.state_dict()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {"training__optimizer": "adamw", "training__ema_decay": 0.9},
        {"training__optimizer": "sgd", "training__precision": "fp32"},
        {"student__init_from": "teacher", "training__ema_decay": 0.9},
    ],
)
def test_resumed_training_equals_uninterrupted_one_bit_for_bit(
    make: MakeTrainer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    uninterrupted = make(**changes)
    expected = [losses_of(uninterrupted.train_epoch()) for _ in range(3)]
    interrupted = make(**changes)
    measured = [losses_of(interrupted.train_epoch())]
    interrupted.evaluate(interrupted.detect())  # must not change the training
    interrupted.save(tmp_path / "state.pt")
    resumed = make(**changes)
    resumed.load(tmp_path / "state.pt")
    assert resumed.epoch == 1
    measured += [losses_of(resumed.train_epoch()) for _ in range(2)]
    assert measured == expected
    assert expected[0] != expected[1]
    assert_same_weights(resumed.student, uninterrupted.student)
    assert_same_weights(resumed.deployed, uninterrupted.deployed)


def test_training_depends_only_on_its_seed(make: MakeTrainer) -> None:
    before = torch.get_rng_state()
    first = losses_of(make(training__seed=5).train_epoch())
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers were drawn"
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = losses_of(make(training__seed=5).train_epoch())
    assert again == first
    assert losses_of(make(training__seed=6).train_epoch()) != first


def test_weight_zero_equals_plain_training_bit_for_bit(make: MakeTrainer, scenes_dir: Path, data: PreparedData) -> None:
    plain = Trainer(trial_config(scenes_dir, teacher=None), data)
    weightless = make(distillation=NO_LEVELS.model_dump())
    for _ in range(2):
        assert losses_of(weightless.train_epoch()) == losses_of(plain.train_epoch())
    assert_same_weights(weightless.student, plain.student)
    distilled = make()
    distilled.train_epoch()
    # First weights and batches are the same: the difference is due to the objective.
    assert not torch.equal(distilled.student.backbone.body.conv1.weight, plain.student.backbone.body.conv1.weight)


def test_teacher_is_required_unless_all_weights_are_zero(scenes_dir: Path, data: PreparedData) -> None:
    Trainer(trial_config(scenes_dir, distillation=NO_LEVELS.model_dump()), data)
    with pytest.raises(ValueError, match="got no teacher.*load_teacher"):
        Trainer(trial_config(scenes_dir), data)


def test_teacher_is_unchanged_and_used_in_eval_mode(make: MakeTrainer, teacher: Detector, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    expected = make().train_epoch()["loss_total"]
    teacher.train()
    trainer = make()
    teacher.train()  # a caller may do so between epochs
    assert trainer.train_epoch()["loss_total"] == expected
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    trainer.save(tmp_path / "state.pt")
    student_and_adapters = load_state(tmp_path / "state.pt")["modules"]
    assert [len(tensors) for tensors in student_and_adapters] == [
        len(trainer.student.state_dict()),
        # Five pyramid levels, regions and embedding: 7 weights, and none has a bias under pearson.
        7,
    ]


def test_callers_teacher_stays_on_its_device(scenes_dir: Path, data: PreparedData, teacher: Detector) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, teacher, device="meta")
    assert trainer._teacher is not None
    moved = [*trainer._teacher.parameters(), *trainer._teacher.buffers()]
    assert {tensor.device.type for tensor in moved} == {"meta"}
    assert {tensor.device.type for tensor in (*teacher.parameters(), *teacher.buffers())} == {"cpu"}


def test_epoch_measures_losses_gradient_ratios_rate_and_speed(make: MakeTrainer) -> None:
    calls: list[tuple[int, int, dict[str, float]]] = []
    trainer = make()
    epoch = trainer.train_epoch(lambda step, steps, parts: calls.append((step, steps, dict(parts))))
    levels = ("pyramid", "region", "embedding", "logits", "box_deltas")
    detection = ("rpn_objectness", "rpn_box", "roi_classification", "roi_box")
    numbers = {*detection, *(f"distill_{level}" for level in levels), "loss_total", "gradient_norm"}
    ratios = {f"gradient_ratio_{level}" for level in levels}
    assert set(epoch) == numbers | ratios | {"learning_rate", "seconds", "images_per_second"}
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]
    for name in numbers:
        mean = (calls[0][2][name] + calls[1][2][name]) / 2
        assert epoch[name] == pytest.approx(mean, rel=1e-6), name
    # 5 images in batches of 2 make 2 steps; warm-up is round(0.1 * 6) = 1 step, so that the peak is at step 0 and the
    # cosine spans steps 0..5: step 1 is at a fifth, 0.01 + 0.99 * (1 + cos(pi / 5)) / 2 = 0.905463 of 1e-3.
    assert epoch["learning_rate"] == pytest.approx(0.905463e-3, rel=1e-5)
    trainer.train_epoch()
    # Step 5, the last: 0.01 of 1e-3.
    assert trainer.train_epoch()["learning_rate"] == pytest.approx(1e-5)
    assert epoch["images_per_second"] == pytest.approx(4 / epoch["seconds"])


def test_gradients_are_clipped_to_configured_norm(make: MakeTrainer) -> None:
    # Five images in a batch of four make one step, taken at the peak rate. From rest and without decay SGD moves the
    # weights by the rate times the clipped gradient, whose norm is the configured one: 0.5 * 0.01.
    trainer = make(
        teacher=None,
        training={
            **TRAINING,
            "total_epochs": 1,
            "batch_size": 4,
            "optimizer": "sgd",
            "learning_rate": 0.5,
            "weight_decay": 0.0,
            "gradient_clip_norm": 0.01,
        },
    )
    before = [parameter.detach().double().clone() for parameter in trainer.student.parameters()]
    epoch = trainer.train_epoch()
    assert epoch["gradient_norm"] > 0.1, "the logged norm is that before clipping"
    pairs = zip(trainer.student.parameters(), before, strict=True)
    moved = torch.stack([(parameter.detach().double() - old).square().sum() for parameter, old in pairs]).sum().sqrt()
    assert moved.item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_training_learns(make: MakeTrainer) -> None:
    # Before training, binary cross-entropy is log 2 = 0.69, and uncorrelated features have 1 - r = 1.
    trainer = make(training__total_epochs=10, training__learning_rate=5e-3, training__precision="fp32")
    epochs = [trainer.train_epoch() for _ in range(10)]
    assert epochs[0]["rpn_objectness"] == pytest.approx(0.69, abs=0.02)
    assert epochs[-1]["rpn_objectness"] < 0.5
    assert epochs[-1]["distill_region"] < 0.8


@pytest.mark.parametrize("steps_between_syncs", [1, 20])
def test_non_finite_losses_stop_training_and_are_named(
    make: MakeTrainer, tmp_path: Path, steps_between_syncs: int
) -> None:
    trainer = make()
    trainer._steps_between_syncs = steps_between_syncs
    trainer.train_epoch()

    def poison(step: int, *_: Any) -> None:
        if step == 1:
            with torch.no_grad():
                trainer.student.roi_heads.box_predictor.bbox_pred.bias.fill_(float("nan"))

    with pytest.raises(NonFiniteLossError, match=r"epoch 2, step 2 of 2: roi_box = nan, .*loss_total = nan") as caught:
        trainer.train_epoch(poison)
    assert "roi_classification" not in str(caught.value)
    with pytest.raises(AssertionError, match="only between epochs"):
        trainer.save(tmp_path / "state.pt")


@pytest.mark.parametrize("steps_between_syncs", [1, 20])
def test_diverging_training_ends_with_its_step_and_a_remedy(make: MakeTrainer, steps_between_syncs: int) -> None:
    # Plain SGD with the largest learning rate: weights overflow within a few steps, and boxes of NaN reach the pooling.
    trainer = make(
        training__optimizer="sgd",
        training__learning_rate=1e4,
        training__gradient_clip_norm=None,
        training__warmup_fraction=0.0,
        training__total_epochs=20,
    )
    trainer._steps_between_syncs = steps_between_syncs
    with pytest.raises(NonFiniteLossError, match=r"epoch \d+.*Lower training.learning_rate"):
        list(fit(trainer))


def test_weights_made_infinite_by_the_last_step_are_not_saved(make: MakeTrainer, tmp_path: Path) -> None:
    trainer = make()

    def poison(step: int, steps: int, _: Any) -> None:
        if step == steps:  # after it no loss is computed
            with torch.no_grad():
                trainer.student.roi_heads.box_predictor.bbox_pred.bias.fill_(float("inf"))

    with pytest.raises(NonFiniteLossError, match="epoch 1: its last step made weights infinite"):
        trainer.train_epoch(poison)
    with pytest.raises(AssertionError, match="only between epochs"):
        trainer.save(tmp_path / "state.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"modules": []},
        {"modules": [{"a": torch.zeros(1)}]},
        {"modules": None},
        {"optimizer": {}},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"epoch": "two"},
        {"epoch": -1},
        {"epoch": 10**9},
        {"settings": [1]},
    ],
    ids=str,
)
def test_damaged_state_is_rejected(make: MakeTrainer, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "state.pt"
    trainer = make()
    trainer.save(path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(CheckpointError, match=r"state.pt: is a damaged training state"):
        make().load(path)


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts device-to-host synchronizations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket._qualified_op_name
        if name in {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero"}:
            self.count += 1
        return function(*args, **(kwargs or {}))


def test_number_of_synchronizations_does_not_grow_with_steps(
    make: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The traced step (step/test_loss.py) shows it for the losses; this, for backward, clipping, optimiser, average and
    # log.
    original = Tensor.tolist

    def host_reads(batch_size: int) -> int:
        trainer = make(training__batch_size=batch_size, training__ema_decay=0.9)
        trainer._steps_between_syncs = 20  # as on a GPU
        reads = HostReads()

        def tolist(tensor: Tensor) -> Any:
            reads.count += 1  # the dispatcher does not see tolist of a CPU tensor
            return original(tensor)

        with reads, monkeypatch.context() as patch:
            patch.setattr(Tensor, "tolist", tolist)
            for user in (cells, proposals, regions, sampling):  # on a CPU they read values, without synchronization
                patch.setattr(user, "is_host_readable", lambda _: False)
            trainer.train_epoch()
        return reads.count

    # One epoch each: 2 steps and 5. Five gradient ratios, the means, one synchronization of the record and the check
    # of the weights.
    assert host_reads(2) == host_reads(1) == 8


def test_moving_average_is_deployed(make: MakeTrainer, tmp_path: Path) -> None:
    trainer = make(training__ema_decay=0.9)
    trainer.train_epoch()
    weight = trainer.student.backbone.body.conv1.weight
    assert not torch.equal(trainer.deployed.backbone.body.conv1.weight, weight)
    trainer.export_student(tmp_path / "student.safetensors", {"ap": 0.5})
    saved, metadata = load_detector(tmp_path / "student.safetensors")
    assert_same_weights(saved, trainer.deployed)
    assert (metadata.image_height, metadata.image_width, metadata.metrics) == (64, 96, {"ap": 0.5})
    assert trainer.cost.num_params == sum(parameter.numel() for parameter in saved.parameters())


def test_student_is_initialised_from_file(make: MakeTrainer, tmp_path: Path) -> None:
    source = make(training__seed=3)
    source.export_student(tmp_path / "student.safetensors")
    trainer = make(training__ema_decay=0.9)
    trainer.start_from(tmp_path / "student.safetensors")
    assert_same_weights(trainer.student, source.student)
    assert_same_weights(trainer.deployed, source.student)


def test_state_with_other_settings_is_refused_naming_them(make: MakeTrainer, tmp_path: Path) -> None:
    make().save(tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"training.learning_rate was 0.001 and is 0.01"):
        make(training__learning_rate=0.01).load(tmp_path / "state.pt")
    # Settings that do not change the result may differ.
    make(training__num_threads=1, training__evaluate_every_epochs=2).load(tmp_path / "state.pt")


def test_validation_images_are_evaluated(make: MakeTrainer) -> None:
    trainer = make()
    trainer.train_epoch()
    detections = trainer.detect()
    result = trainer.evaluate(detections)
    assert result.num_images == 3
    assert result.num_detections == len(detections.scores) > 0
    assert {"mr2_all", "ap", "ap50"} <= set(result.as_metrics())


def test_evaluation_is_due_by_schedule_and_after_last_epoch(make: MakeTrainer) -> None:
    trainer = make(training__evaluate_every_epochs=2)
    due = []
    for _ in range(trainer.total_epochs):
        trainer.train_epoch()
        due.append(trainer.is_evaluation_due)
    assert due == [False, True, True]
