"""The teacher: trained once and cached, resumed after an interruption, refused where its weights do not fit."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18

from hkd.config import StudentConfig
from hkd.data.prepare import PreparedData, prepare_data
from hkd.evaluation.bootstrap import resample_outcomes
from hkd.evaluation.formats.stored_detections import read_stored_detections
from hkd.models.build import build_detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import read_weights, save_detector
from hkd.own_folders import SharedFolderError
from hkd.training.progress import TrainingProgress
from hkd.training.teacher import prepare as teacher_module
from hkd.training.teacher.files import check_teacher_files
from hkd.training.teacher.prepare import TeacherError, _key, find_teacher, load_teacher, prepare_teacher
from hkd.training.trainer import Trainer
from tests.process_configuration import TrainerBuiltError, record_configuration
from tests.training.tiny import STUDENT, TEACHER_SHAPE, TRAINING, build, trial_config

ONE_EPOCH = {**TRAINING, "total_epochs": 1}
NEGLIGIBLE_RATE = {**ONE_EPOCH, "learning_rate": 1e-12, "weight_decay": 0.0}


@pytest.fixture
def epochs_trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of each epoch that any trainer trained."""
    trained: list[int] = []
    original = Trainer.train_epoch

    def train_epoch(self: Trainer, *args: Any) -> dict[str, float]:
        measured = original(self, *args)
        trained.append(self.epoch)
        return measured

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    return trained


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "trained.safetensors"
    save_detector(path, build(TEACHER_SHAPE, 7), TEACHER_SHAPE, image_height=64, image_width=96)
    return path


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def entries(cache_dir: Path) -> list[str]:
    return sorted(path.name for path in (cache_dir / "teachers").iterdir())


def test_teacher_is_trained_once(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int]
) -> None:
    config = trial_config(scenes_dir)
    moments: list[TrainingProgress] = []
    assert find_teacher(config, data, tmp_path) is None
    assert not any(tmp_path.iterdir())
    first = prepare_teacher(config, data, tmp_path, moments.append)
    assert epochs_trained == [1, 2, 3]
    assert [(moment.step, moment.epoch) for moment in moments] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
    assert {(moment.total_steps, moment.total_epochs) for moment in moments} == {(6, 3)}
    again = prepare_teacher(config, data, tmp_path)
    assert again == first == find_teacher(config, data, tmp_path)
    assert epochs_trained == [1, 2, 3]
    assert len(first.epochs) == 3
    # As they are logged to MLflow: without the usage of the process that trained it.
    assert not {"peak_memory_bytes", "utilisation"} & first.epochs[0].keys()
    assert {"loss_total", "learning_rate", "seconds", "images_per_second", "ap"} <= first.epochs[0].keys()
    assert {"mr2_all", "ap", "ap50"} <= set(first.metrics)
    assert first.cost.num_params == sum(p.numel() for p in build(TEACHER_SHAPE, 0).parameters())
    assert sorted(path.name for path in first.path.parent.iterdir() if path.name != "lock") == [
        "teacher.json",
        "teacher.safetensors",
        "validation_detections.safetensors",
    ]
    assert first.detections is not None
    stored = read_stored_detections(first.detections)
    outcomes = resample_outcomes(stored.matches("all"), ("all",), stored.fppi_points, stored.miss_rate_floor)
    assert outcomes.values[0] == pytest.approx(first.metrics["mr2_all"], rel=1e-12)
    # It equals a student of this architecture that is trained without a teacher.
    student = StudentConfig.model_validate(TEACHER_SHAPE.model_dump())
    alone = Trainer(config.model_copy(update={"student": student, "teacher": None}), data)
    for _ in range(3):
        alone.train_epoch()
    assert_same_weights(read_weights(first.path).tensors, alone.student.state_dict())
    assert alone.evaluate(alone.detect()).as_metrics() == first.metrics


def test_interrupted_training_resumes_from_last_epoch(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int]
) -> None:
    config = trial_config(scenes_dir)

    def kill_in_third_epoch(moment: TrainingProgress) -> None:
        if moment.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_teacher(config, data, tmp_path / "killed", kill_in_third_epoch)
    resumed = prepare_teacher(config, data, tmp_path / "killed")
    assert epochs_trained == [1, 2, 3]
    straight = prepare_teacher(config, data, tmp_path / "straight")
    assert_same_weights(read_weights(resumed.path).tensors, read_weights(straight.path).tensors)
    assert resumed.metrics == straight.metrics
    assert [epoch["loss_total"] for epoch in resumed.epochs] == [epoch["loss_total"] for epoch in straight.epochs]


def test_interrupted_training_resumes_for_other_students_and_moved_images(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int]
) -> None:
    def kill_in_second_epoch(moment: TrainingProgress) -> None:
        if moment.epoch == 2:
            raise KeyboardInterrupt

    changes = {"teacher__training": {**TRAINING, "total_epochs": 2}}
    with pytest.raises(KeyboardInterrupt):
        prepare_teacher(trial_config(scenes_dir, **changes), data, tmp_path, kill_in_second_epoch)
    other = trial_config(scenes_dir, distillation__pyramid__weight=3.0, data__image_root="moved", **changes)
    prepare_teacher(other, data, tmp_path)
    assert epochs_trained == [1, 2]
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("content", ["[]", "{", '{"metrics": 1}', "[" * 100_000], ids=len)
def test_damaged_summary_leads_to_another_training(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int], content: str
) -> None:
    config = trial_config(scenes_dir, teacher__training=ONE_EPOCH)
    first = prepare_teacher(config, data, tmp_path)
    (first.path.parent / "teacher.json").write_text(content, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"teacher.json: damaged"):
        assert prepare_teacher(config, data, tmp_path).metrics == first.metrics
    assert epochs_trained == [1, 1]


def test_cache_that_all_can_write_to_is_not_read(scenes_dir: Path, data: PreparedData, tmp_path: Path) -> None:
    config = trial_config(scenes_dir, teacher__training=ONE_EPOCH)
    folder = prepare_teacher(config, data, tmp_path / "cache").path.parent
    for path in (tmp_path / "cache", folder.parent, folder):
        path.chmod(0o777)
        with pytest.raises(SharedFolderError, match=f"{path}: .*storage_path"):
            find_teacher(config, data, tmp_path / "cache")
        path.chmod(0o755)


def test_concurrent_calls_share_one_training(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int]
) -> None:
    config = trial_config(scenes_dir, teacher__training=ONE_EPOCH)
    start = threading.Barrier(2)

    def prepare() -> Path:
        start.wait()
        return prepare_teacher(config, data, tmp_path).path

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(prepare) for _ in range(2))
        assert first.result() == second.result()
    assert epochs_trained == [1]


def test_key_depends_only_on_what_determines_teacher(scenes_dir: Path, data: PreparedData, checkpoint: Path) -> None:
    def key(**changes: Any) -> str:
        return _key(trial_config(scenes_dir, **changes), data)

    # Students, threads and paths do not change a teacher.
    assert key() == key(
        teacher__training={**TRAINING, "num_threads": 1, "device": "cpu", "evaluate_every_epochs": 5},
        student__head_channels=32,
        distillation__pyramid__weight=3.0,
        training__seed=9,
        data__cache_dir="elsewhere",
        evaluation__batch_size=1,
    )
    # A teacher from a checkpoint is not trained.
    assert key(teacher__checkpoint=str(checkpoint)) == key(
        teacher__checkpoint=str(checkpoint), teacher__training=ONE_EPOCH
    )
    different = [
        key(),
        key(teacher__training={**TRAINING, "seed": 1}),
        key(teacher__head_channels=16),
        key(teacher__init_from=str(checkpoint)),
        key(teacher__checkpoint=str(checkpoint)),
        key(teacher__checkpoint=str(checkpoint), teacher__person_class=3),
        key(teacher__init_from_synthetic=TRAINING),
        key(data__augmentation__flip_probability=0.0),
        key(evaluation__nms_iou=0.4),
        _key(trial_config(scenes_dir), replace(data, train_store=replace(data.train_store, checksum="other pictures"))),
        _key(trial_config(scenes_dir), replace(data, train_annotations=data.validation_annotations)),
    ]
    assert len(set(different)) == len(different)


def test_key_with_pretraining_depends_on_code_that_draws_scenes(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_scenes = trial_config(scenes_dir, teacher__init_from_synthetic=TRAINING)
    plain = trial_config(scenes_dir)
    before = _key(from_scenes, data), _key(plain, data)
    assert _key(trial_config(scenes_dir, teacher__init_from_synthetic=TRAINING), data) == before[0]
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: read_text(path, **how) + ("# changed" if path.name == "style.py" else "")
    )
    assert _key(from_scenes, data) != before[0]
    # Without pretraining the key contains the pixels' hash instead.
    assert _key(plain, data) == before[1]


def test_checkpoint_is_evaluated_and_imported_unchanged(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, checkpoint: Path, epochs_trained: list[int]
) -> None:
    config = trial_config(scenes_dir, teacher__checkpoint=str(checkpoint))
    prepared = prepare_teacher(config, data, tmp_path)
    assert epochs_trained == []
    assert prepared.epochs == ()
    assert "ap" in prepared.metrics
    assert_same_weights(read_weights(prepared.path).tensors, read_weights(checkpoint).tensors)
    # Another file at the same path is another teacher.
    save_detector(checkpoint, build(TEACHER_SHAPE, 8), TEACHER_SHAPE, image_height=64, image_width=96)
    assert prepare_teacher(config, data, tmp_path).path != prepared.path


@pytest.mark.parametrize("origin", ["checkpoint", "init_from"])
def test_weights_of_another_architecture_are_refused_before_any_training(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int], origin: str
) -> None:
    save_detector(tmp_path / "small.safetensors", build(STUDENT, 0), STUDENT, image_height=64, image_width=96)
    config = trial_config(scenes_dir, **{f"teacher__{origin}": str(tmp_path / "small.safetensors")})
    with pytest.raises(CheckpointError, match="another architecture"):
        prepare_teacher(config, data, tmp_path / "cache")
    assert epochs_trained == []
    assert not (tmp_path / "cache").exists()


def test_what_was_read_from_a_foreign_file_is_returned_and_recorded(
    scenes_dir: Path, data: PreparedData, tmp_path: Path
) -> None:
    average = {f"module.{name}": tensor for name, tensor in build(TEACHER_SHAPE, 8).state_dict().items()}
    coco = build_detector(TEACHER_SHAPE, num_classes=91).state_dict()
    path = tmp_path / "trained.pth"
    torch.save({"model": coco, "model_ema": average}, path)
    config = trial_config(scenes_dir, teacher__checkpoint=str(path))
    notes = check_teacher_files(config)
    assert [note.startswith(f"{path}: ") for note in notes] == [True, True]
    assert '"model_ema"' in notes[0]
    assert "91 classes" in notes[1]
    prepared = prepare_teacher(config, data, tmp_path / "cache")
    assert json.loads((prepared.path.parent / "teacher.json").read_text())["weights"] == list(notes)
    # All rows are kept, and counted: 89 more than two classes have.
    kept = load_teacher(prepared.path, prepared.config).state_dict()["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(kept, coco["roi_heads.box_predictor.cls_score.weight"])
    two_classes = sum(parameter.numel() for parameter in build(TEACHER_SHAPE, 0).parameters())
    assert prepared.cost.num_params == two_classes + 89 * (TEACHER_SHAPE.head_channels + 1)


def test_training_starts_from_a_classifier(scenes_dir: Path, data: PreparedData, tmp_path: Path) -> None:
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "resnet18.pth")
    config = trial_config(
        scenes_dir,
        teacher__init_from=str(tmp_path / "resnet18.pth"),
        teacher__width_multiplier=1.0,
        teacher__training={**NEGLIGIBLE_RATE, "ema_decay": 0.9},
    )
    (note,) = check_teacher_files(config)
    assert "random: backbone.fpn" in note
    trained = read_weights(prepare_teacher(config, data, tmp_path / "cache").path).tensors
    torch.testing.assert_close(
        trained["backbone.body.layer3.0.conv1.weight"], classifier.layer3[0].conv1.weight.detach(), rtol=0, atol=1e-9
    )


def test_training_starts_from_configured_weights(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, checkpoint: Path
) -> None:
    config = trial_config(scenes_dir, teacher__init_from=str(checkpoint), teacher__training=NEGLIGIBLE_RATE)
    trained = read_weights(prepare_teacher(config, data, tmp_path / "cache").path).tensors
    for name, given in read_weights(checkpoint).tensors.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(trained[name], given, rtol=0, atol=1e-9, msg=name)


def test_training_starts_from_pretraining_on_generated_scenes(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, epochs_trained: list[int]
) -> None:
    # The "real" images are the three generated ones for validation.
    path = str(data.validation_annotations.path)
    own = {"data__train_annotations": path, "data__validation_annotations": path}
    config = trial_config(
        scenes_dir,
        teacher__init_from_synthetic={**TRAINING, "total_epochs": 2},
        teacher__training=NEGLIGIBLE_RATE,
        **own,
    )
    titles: list[str] = []
    own_data = prepare_data(config.data, progress=False)
    prepared = prepare_teacher(config, own_data, tmp_path, lambda moment: titles.append(moment.title))
    assert epochs_trained == [1, 2, 1]
    assert titles == ["teacher on generated scenes"] * 4 + ["teacher"]
    assert len(entries(tmp_path)) == 2
    # The pretraining has its own entry: that of a teacher trained on generated scenes with that schedule.
    pretrained = prepare_teacher(
        trial_config(scenes_dir, teacher__training={**TRAINING, "total_epochs": 2}), data, tmp_path
    )
    assert epochs_trained == [1, 2, 1]
    trained, first = read_weights(prepared.path).tensors, read_weights(pretrained.path).tensors
    for name in first:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(trained[name], first[name], rtol=0, atol=1e-9, msg=name)


def test_loaded_teacher_is_frozen_and_draws_no_random_numbers(scenes_dir: Path, checkpoint: Path) -> None:
    config = trial_config(scenes_dir).teacher
    assert config is not None
    before = torch.get_rng_state()
    teacher = load_teacher(checkpoint, config)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert_same_weights(teacher.state_dict(), read_weights(checkpoint).tensors)


def test_configuration_without_teacher_is_refused(scenes_dir: Path, data: PreparedData, tmp_path: Path) -> None:
    config = trial_config(scenes_dir, teacher=None)
    check_teacher_files(config)
    with pytest.raises(TeacherError, match="teacher is null"):
        prepare_teacher(config, data, tmp_path)


def test_process_is_configured_for_training_of_teacher(
    scenes_dir: Path, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = record_configuration(monkeypatch, teacher_module)
    config = trial_config(
        scenes_dir, teacher__training__device="cpu", teacher__training__num_threads=3, training__num_threads=2
    )
    with pytest.raises(TrainerBuiltError):
        prepare_teacher(config, data, tmp_path)
    assert configured == [("cpu", 3)]
