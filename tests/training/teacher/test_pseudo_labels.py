"""Training on images that the teacher labelled."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from hkd.coco.annotations import Annotations, parse_annotations, without_boxes
from hkd.coco.detections import DetectedBoxes
from hkd.coco.writing import annotation_document
from hkd.config import TrialConfig
from hkd.data.prepare import PreparedData, prepare_data
from hkd.data.unlabelled import UnlabelledImages, UnlabelledImagesError
from hkd.evaluation.score_thresholds import ScoreThresholdError
from hkd.inference.store_detection import detect_store
from hkd.models.weight_formats.errors import CheckpointError
from hkd.training.fit import read_log
from hkd.training.progress import TrainingProgress
from hkd.training.pyramid_cache.cache import cache_key
from hkd.training.run import TrainingFolderError, train_into_folder
from hkd.training.state import load_state
from hkd.training.teacher import pseudo_labels
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels, read_labels
from hkd.training.trainer import Trainer
from tests.training.tiny import HEIGHT, NO_LEVELS, WIDTH, trial_config

# A teacher of six steps finds nobody: low scores make some of its detections labels.
SCORES = {"data__unlabelled_object_score": 0.2, "data__unlabelled_ignored_score": 0.02}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of noise, in two folders of different depth."""
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(3)
    for number in range(6):
        path = folder / ("b" if number % 2 else "a/deep") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def config(scenes_dir: Path, frames: Path) -> TrialConfig:
    return changed(scenes_dir, frames)


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare_data(config.data, progress=False)


@pytest.fixture(scope="module")
def teacher(config: TrialConfig, data: PreparedData) -> PreparedTeacher:
    return prepare_teacher(config, data, config.data.cache_dir)


@pytest.fixture(scope="module")
def labels(config: TrialConfig, data: PreparedData, teacher: PreparedTeacher) -> PseudoLabels:
    found = prepare_labels(config, data, teacher)
    assert found is not None
    return found


def changed(cache: Path, frames: Path, **changes: Any) -> TrialConfig:
    return trial_config(
        cache, **{"data__unlabelled_images": str(frames), "training__batch_size": 4, **SCORES, **changes}
    )


def silent() -> Console:
    return Console(file=io.StringIO(), width=500)


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


def without_footage(config: TrialConfig) -> TrialConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"unlabelled_images": None})})


def test_teacher_and_its_cache_do_not_depend_on_unlabelled_images(
    config: TrialConfig, data: PreparedData, teacher: PreparedTeacher, tmp_path: Path
) -> None:
    plain = without_footage(config)
    plain_data = prepare_data(plain.data, progress=False)
    assert prepare_teacher(plain, plain_data, config.data.cache_dir).path == teacher.path
    # Trained where the images are configured: the same bits.
    again = prepare_teacher(config, data, tmp_path)
    assert again.path.read_bytes() == prepare_teacher(plain, plain_data, tmp_path / "plain").path.read_bytes()


def test_labels_are_computed_once_and_after_damage(
    config: TrialConfig,
    data: PreparedData,
    teacher: PreparedTeacher,
    labels: PseudoLabels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def detect(*arguments: Any, **named: Any) -> DetectedBoxes:
        calls.append(1)
        return detect_store(*arguments, **named)

    monkeypatch.setattr(pseudo_labels, "detect_store", detect)
    cached = prepare_labels(config, data, teacher)
    assert cached is not None
    assert (cached.path, cached.summary, calls) == (labels.path, labels.summary, [])
    before = labels.path.read_bytes()
    labels.path.write_bytes(before[: len(before) // 2])
    moments: list[TrainingProgress] = []
    with pytest.warns(UserWarning, match="damaged.*computed again"):
        prepare_labels(config, data, teacher, moments.append)
    assert labels.path.read_bytes() == before
    assert calls == [1]
    assert (moments[-1].step, moments[-1].total_steps) == (6, 6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document["info"].pop("pseudo_labels"),
        lambda document: document["info"]["pseudo_labels"].update(num_people="many"),
        lambda document: document["info"]["pseudo_labels"].update(more=1),
        lambda document: document["info"]["pseudo_labels"]["thresholds"].pop("object_score"),
        lambda document: document["annotations"][0].update(bbox="none"),
        lambda document: document["images"].pop(),
    ],
)
def test_labels_that_hkd_did_not_write_are_computed_again(
    config: TrialConfig, data: PreparedData, teacher: PreparedTeacher, labels: PseudoLabels, spoil: Any
) -> None:
    before = labels.path.read_bytes()
    document = json.loads(before)
    spoil(document)
    labels.path.write_text(json.dumps(document))
    with pytest.warns(UserWarning, match="damaged.*computed again"):
        prepare_labels(config, data, teacher)
    assert labels.path.read_bytes() == before


def test_key_of_labels_covers_what_determines_them(
    config: TrialConfig,
    data: PreparedData,
    teacher: PreparedTeacher,
    labels: PseudoLabels,
    scenes_dir: Path,
    tmp_path: Path,
) -> None:
    assert data.unlabelled is not None
    images = data.unlabelled

    def key(
        *, of: PreparedData = data, by: PreparedTeacher = teacher, on: UnlabelledImages = images, **changes: Any
    ) -> str:
        return pseudo_labels._key(changed(scenes_dir, config.data.unlabelled_images or Path(), **changes), of, on, by)

    other_weights = tmp_path / "other.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(teacher.path).items()}, other_weights)
    records = [dataclasses.replace(record, file_name=f"x{record.file_name}") for record in images.annotations.images]
    renamed = without_boxes(records, images.annotations.image_root, images.annotations.path)
    other_validation = [
        dataclasses.replace(data, validation_annotations=data.train_annotations),
        dataclasses.replace(data, validation_store=data.train_store),
    ]
    assert labels.path.name == f"labels-{key()}.json"
    different: list[dict[str, Any]] = [
        {"data__unlabelled_object_score": 0.3},
        {"data__unlabelled_object_score": None},
        {"data__max_objects_per_image": 7},
        {"evaluation__nms_iou": 0.6},
        {"evaluation__score_threshold": 0.02},
        {"data__image_height": 128},
        {"data__image_width": 128},
        {"by": dataclasses.replace(teacher, path=other_weights)},
        {"by": dataclasses.replace(teacher, config=teacher.config.model_copy(update={"proposals_per_image": 7}))},
        # Other pixels, and other names.
        {"on": dataclasses.replace(images, store=data.train_store)},
        {"on": dataclasses.replace(images, annotations=renamed)},
        # The validation images determine the scores that are chosen on them.
        *({"data__unlabelled_ignored_score": None, "of": validation} for validation in (data, *other_validation)),
    ]
    same: list[dict[str, Any]] = [
        {"data__unlabelled_fraction": 0.25},
        {"evaluation__batch_size": 1},
        {"training__seed": 4},
        *({"of": validation} for validation in other_validation),
    ]
    assert len({key(), *(key(**changes) for changes in different)}) == 1 + len(different)
    assert {key(**changes) for changes in same} == {key()}


def test_teacher_that_finds_nobody_is_reported_before_training(
    scenes_dir: Path, frames: Path, data: PreparedData, teacher: PreparedTeacher, tmp_path: Path
) -> None:
    unset = changed(scenes_dir, frames, data__unlabelled_object_score=None)
    with pytest.raises(ScoreThresholdError, match=r"70 %.*10 people.*[Tt]rain.*longer.*data\.unlabelled_object_score"):
        train_into_folder(unset, tmp_path / "out", console=silent())
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_boxes_beyond_slots_of_an_image_are_left_out_and_counted(
    scenes_dir: Path, frames: Path, data: PreparedData, teacher: PreparedTeacher, labels: PseudoLabels
) -> None:
    fewer = changed(scenes_dir, frames, data__max_objects_per_image=3)
    found = prepare_labels(fewer, data, teacher)
    assert found is not None
    counts = np.bincount(labels.annotations.image_index, minlength=6)
    assert counts.max() > 3
    assert np.bincount(found.annotations.image_index, minlength=6).tolist() == np.minimum(counts, 3).tolist()
    assert found.summary.num_left_out == np.maximum(counts - 3, 0).sum()
    assert f"{found.summary.num_left_out} boxes left out" in str(found.summary)


def test_labels_of_other_images_are_refused(
    config: TrialConfig, data: PreparedData, labels: PseudoLabels, frames: Path, tmp_path: Path
) -> None:
    shutil.copytree(frames, tmp_path / "frames")
    (tmp_path / "frames" / "b" / "1.png").unlink()
    fewer = config.data.model_copy(update={"unlabelled_images": tmp_path / "frames"})
    images = prepare_data(fewer, progress=False).unlabelled
    assert images is not None
    with pytest.raises(UnlabelledImagesError, match=r"data\.unlabelled_images.*other images.*restore"):
        read_labels(labels.path, images)


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


def without_last_box(annotations: Annotations) -> Annotations:
    return parse_annotations(
        annotation_document(
            [{**dataclasses.asdict(image), "id": image.image_id} for image in annotations.images],
            annotations.coco_records()[:-1],
            ".",
        ),
        Path("other.json"),
        check_images=False,
    )


def test_key_of_pyramids_covers_unlabelled_images_and_labels(
    config: TrialConfig, data: PreparedData, teacher: PreparedTeacher, labels: PseudoLabels
) -> None:
    detector, cpu = load_teacher(teacher.path, teacher.config), torch.device("cpu")

    def key(some: TrialConfig, used: Annotations | None, images: UnlabelledImages | None = data.unlabelled) -> str:
        return cache_key(some, dataclasses.replace(data, unlabelled=images), detector, cpu, None, used)

    quarter = config.model_copy(update={"data": config.data.model_copy(update={"unlabelled_fraction": 0.25})})
    assert data.unlabelled is not None
    labelled = labels.annotations
    keys = {
        key(config, labelled),
        key(quarter, labelled),
        key(config, without_last_box(labelled)),
        key(config, labelled, dataclasses.replace(data.unlabelled, store=data.train_store)),
        key(without_footage(config), None),
    }
    assert len(keys) == 5
