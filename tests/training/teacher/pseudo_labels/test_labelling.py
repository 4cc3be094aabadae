"""Labels by the teacher: computed once for all that determines them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hkd.coco.annotations import Annotations, without_boxes
from hkd.coco.detections import DetectedBoxes
from hkd.config import TrialConfig
from hkd.data.prepare import PreparedData, prepare_data
from hkd.data.unlabelled import UnlabelledImages
from hkd.inference.store_detection import detect_store
from hkd.training.progress import TrainingProgress
from hkd.training.pyramid_cache.key import cache_key
from hkd.training.teacher import pseudo_labels
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels
from tests.training.teacher.pseudo_labels.footage import changed, without_footage, without_last_box


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
        return pseudo_labels._key(changed(scenes_dir, Path(config.data.unlabelled_images or ""), **changes), of, on, by)

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
