"""Training on images that the teacher labelled."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from hkd.config import TrialConfig
from hkd.data.prepare import PreparedData
from hkd.evaluation.score_thresholds import ScoreThresholdError
from hkd.models.weight_formats.errors import CheckpointError
from hkd.training.fit import read_log
from hkd.training.run import TrainingFolderError, train_into_folder
from hkd.training.state import load_state
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels
from hkd.training.trainer import Trainer
from tests.training.teacher.pseudo_labels.footage import changed, silent, without_footage, without_last_box
from tests.training.tiny import HEIGHT, NO_LEVELS, WIDTH


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def weights(folder: Path) -> bytes:
    return (folder / "student.safetensors").read_bytes()


def losses(folder: Path) -> list[float]:
    return [epoch["loss_total"] for epoch in read_log(folder)]


def test_training_reports_labels_and_resumes_bit_for_bit(
    config: TrialConfig, labels: PseudoLabels, tmp_path: Path
) -> None:
    console = silent()
    train_into_folder(config, tmp_path / "whole", console=console)
    summary = labels.summary
    assert f"{summary.num_people:,} people and {summary.num_ignored:,} ignore regions in 6 images" in printed(console)
    assert "0.2" in printed(console)
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert metrics["pseudo_labels_object_score"] == 0.2
    assert metrics["pseudo_labels_images"] == 6

    class Interrupted(Console):
        def print(self, *objects: Any, **kwargs: Any) -> None:
            if objects and str(objects[0]).startswith("epoch 2/"):
                raise KeyboardInterrupt
            super().print(*objects, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        train_into_folder(config, tmp_path / "resumed", console=Interrupted(file=io.StringIO()))
    state = load_state(tmp_path / "resumed" / "training_state.pt")
    assert state["epoch"] == 2
    # Five training scenes and six unlabelled ones make two batches of four.
    assert state["settings"]["steps_per_epoch"] == 2
    train_into_folder(config, tmp_path / "resumed", resume=True, console=silent())
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_images_and_labels_change_the_training(
    config: TrialConfig, data: PreparedData, teacher: PreparedTeacher, labels: PseudoLabels
) -> None:
    detector = load_teacher(teacher.path, teacher.config)
    mixed = Trainer(config, data, detector, pseudo_labels=labels.annotations).train_epoch()
    alone = Trainer(without_footage(config), data, detector).train_epoch()
    assert mixed["loss_total"] != alone["loss_total"]
    unsure = config.model_copy(update={"data": config.data.model_copy(update={"unlabelled_object_score": 1.0})})
    fewer = prepare_labels(unsure, data, teacher)
    assert fewer is not None
    assert fewer.summary.num_people == 0 < labels.summary.num_people
    relabelled = Trainer(unsure, data, detector, pseudo_labels=fewer.annotations).train_epoch()
    assert relabelled["loss_total"] != mixed["loss_total"]


def test_teacher_that_finds_nobody_is_reported_before_training(
    scenes_dir: Path, frames: Path, data: PreparedData, teacher: PreparedTeacher, tmp_path: Path
) -> None:
    unset = changed(scenes_dir, frames, data__unlabelled_object_score=None)
    with pytest.raises(ScoreThresholdError, match=r"70 %.*10 people.*[Tt]rain.*longer.*data\.unlabelled_object_score"):
        train_into_folder(unset, tmp_path / "out", console=silent())
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_resume_with_other_images_is_refused(config: TrialConfig, frames: Path, tmp_path: Path) -> None:
    shutil.copytree(frames, tmp_path / "frames")
    moved = config.model_copy(
        update={"data": config.data.model_copy(update={"unlabelled_images": tmp_path / "frames"})}
    )
    train_into_folder(moved, tmp_path / "out", console=silent())
    shutil.copy(tmp_path / "frames/b/1.png", tmp_path / "frames/b/3.png")
    with pytest.raises(TrainingFolderError, match="unlabelled images"):
        train_into_folder(moved, tmp_path / "out", resume=True, console=silent())


def test_labels_beside_images_and_of_validation_images_never_reach_training(
    config: TrialConfig, frames: Path, tmp_path: Path
) -> None:
    """Poisoned annotations: of the unlabelled images, in and beside their folder, and of the validation images."""
    plain, poisoned = tmp_path / "plain", tmp_path / "poisoned"
    for folder in (plain, poisoned):
        shutil.copytree(frames, folder / "frames")
    (split,) = config.data.cache_dir.glob("scenes-*/validation.json")
    train = split.with_name("train.json")
    truth = json.loads(split.read_text())
    for annotation in truth["annotations"]:
        annotation |= {"bbox": [0, 0, 5, 5], "height": 5, "ignore": 0}
    truth["info"]["image_root"] = str((split.parent / truth["info"]["image_root"]).resolve())
    (poisoned / "validation.json").write_text(json.dumps(truth))
    everywhere = {
        "images": [{"id": 1, "file_name": "b/1.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, WIDTH, HEIGHT]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    for name in ("frames.json", "frames/annotations.json", "frames/b/train.json", "frames/b/instances_default.json"):
        (poisoned / name).write_text(json.dumps(everywhere))
    for name in ("frames/b/1.txt", "frames/b/classes.txt"):
        (poisoned / name).write_text("0 0.5 0.5 1 1\n")

    def trained(folder: Path, validation: Path) -> Path:
        update = {
            "train_annotations": train,
            "validation_annotations": validation,
            "unlabelled_images": folder / "frames",
            "cache_dir": folder / "cache",
        }
        with_files = config.model_copy(update={"data": config.data.model_copy(update=update)})
        train_into_folder(with_files, folder / "out", console=silent())
        return folder / "out"

    one, other = trained(plain, split), trained(poisoned, poisoned / "validation.json")
    # The poison is read where it belongs.
    read = [json.loads((out / "origin.json").read_text())["validation annotations"] for out in (one, other)]
    assert read[0] != read[1]
    assert losses(one) == losses(other)
    states = [load_state(out / "training_state.pt")["modules"] for out in (one, other)]
    for expected, found in zip(*states, strict=True):
        for name, tensor in expected.items():
            assert torch.equal(tensor, found[name]), name


def test_undistilled_training_uses_labels_alone(
    scenes_dir: Path, frames: Path, data: PreparedData, teacher: PreparedTeacher, labels: PseudoLabels
) -> None:
    alone = changed(scenes_dir, frames, distillation=NO_LEVELS.model_dump())
    assert alone.uses_teacher
    assert not alone.is_distilled
    epoch = Trainer(alone, data, pseudo_labels=labels.annotations).train_epoch()
    assert not any(name.startswith("distill") for name in epoch)
    with pytest.raises(ValueError, match=r"unlabelled_images.*prepare_labels"):
        Trainer(alone, data)


def test_trainer_state_states_share_of_unlabelled_images_only_where_there_are_some(
    config: TrialConfig, data: PreparedData, teacher: PreparedTeacher, labels: PseudoLabels, tmp_path: Path
) -> None:
    detector = load_teacher(teacher.path, teacher.config)
    for name, some in (("plain", without_footage(config)), ("mixed", config)):
        used = None if name == "plain" else labels.annotations
        Trainer(some, data, detector, pseudo_labels=used).save(tmp_path / name)
    saved = {name: load_state(tmp_path / name)["settings"] for name in ("plain", "mixed")}
    assert not any("unlabelled" in key for key in saved["plain"])
    assert saved["mixed"]["data.unlabelled_fraction"] == 0.5
    # As where the folder of a study changes between two sessions.
    relabelled = without_last_box(labels.annotations)
    with pytest.raises(CheckpointError, match="labels of the unlabelled images was"):
        Trainer(config, data, detector, pseudo_labels=relabelled).load(tmp_path / "mixed")
