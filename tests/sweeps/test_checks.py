"""Checks of a study's data and machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.writing import annotation_document
from hkd.config import DataConfig, SyntheticConfig, TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.data.prepare import prepare_data
from hkd.data.sources.synthetic import STYLES, write_scenes
from hkd.data.unlabelled import UnlabelledImagesError
from hkd.models.weight_formats.errors import CheckpointError
from sweeps.checks import check_device, check_files, check_first_weights_of_trials, check_limits, check_objectives
from sweeps.folder import StudyError
from sweeps.settings.resources import TrialResources
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from tests.sweeps.tiny import tiny_trial

WITHOUT_GPU = TrialResources(1.0, 0.0, 1, 2)
WITH_GPU = TrialResources(1.0, 0.25, 1, 2)


def test_objective_without_value_on_validation_images_is_rejected(tmp_path: Path) -> None:
    raw = tiny_trial(tmp_path)
    # So small that no pedestrian is 50 pixels high, as "reasonable" ones are.
    raw["data"]["synthetic"] |= {"height": 64, "width": 96}
    base = parse_config(TrialConfig, raw, source="tiny")
    data = prepare_data(base.data, progress=False)
    assert data.validation_annotations.heights.max() < 50
    with pytest.raises(StudyError) as caught:
        check_objectives(StudyConfig(name="x", base=base), data.validation_annotations)
    assert "objectives: mr2_reasonable " in str(caught.value)
    assert "allowed: one or more of mr2_all, with any of num_params, flops, gmacs" in str(caught.value)
    others = StudyConfig(name="x", base=base, objectives=("mr2_all", "num_params"))
    check_objectives(others, data.validation_annotations)


def write_annotations_of(folder: Path, name: str, boxes: list[list[float]]) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (96, 64)).save(folder / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}]
    document = annotation_document(images, [{"image_id": 1, "bbox": box} for box in boxes], str(folder))
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder / name


def test_validation_images_without_pedestrians_are_rejected(tmp_path: Path) -> None:
    annotations = read_annotations(write_annotations_of(tmp_path, "none.json", []))
    with pytest.raises(StudyError, match=r"no pedestrian of that subset.*base\.data\.validation_annotations"):
        check_objectives(StudyConfig(name="x"), annotations)


def test_objective_without_subset_of_the_protocol_is_refused(tmp_path: Path) -> None:
    annotations = read_annotations(write_annotations_of(tmp_path, "one.json", [[1, 1, 24, 60]]))
    for protocol, objective, subsets in (
        ("acf", "mr2_all", "reasonable"),
        ("caltech", "mr2_heavy", "reasonable, all,"),
    ):
        study = StudyConfig.model_validate(
            {"name": "x", "objectives": [objective, "flops"], "base": {"evaluation": {"protocol": protocol}}}
        )
        with pytest.raises(StudyError) as caught:
            check_objectives(study, annotations)
        # The images do have a pedestrian.
        assert "pedestrian" not in str(caught.value)
        assert f"objectives: {objective} " in str(caught.value)
        assert f"the protocol {protocol} has no such subset, only {subsets}" in str(caught.value)
        assert "base.evaluation.protocol" in str(caught.value)


def test_mistakes_of_both_sets_are_reported_together(tmp_path: Path) -> None:
    wrong = [write_annotations_of(tmp_path, name, [[0, 0, -9, 9]]) for name in ("train.json", "validation.json")]
    base = TrialConfig(data=DataConfig(train_annotations=wrong[0], validation_annotations=wrong[1]))
    with pytest.raises(AnnotationError) as caught:
        check_files(base, check_images=False, print_line=print)
    for path in wrong:
        assert f"{path}: " in str(caught.value)


def test_files_of_first_weights_are_checked_for_every_choice_and_the_largest_student(tmp_path: Path) -> None:
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "a.pth")
    lines: list[str] = []

    def study(**space: Any) -> StudyConfig:
        baselines = {"undistilled": {"distillation.pyramid.weight": 0.0}}
        return StudyConfig.model_validate(
            {"name": "x", "base": tiny_trial(tmp_path), "space": space, "baselines": baselines}
        )

    files = {"type": "categorical", "choices": [None, str(tmp_path / "a.pth")]}
    widths = {"type": "float", "low": 0.25, "high": 1.0}
    fitting = study(**{"student.backbone_from": files, "student.width_multiplier": widths})
    check_first_weights_of_trials(fitting, print_line=lines.append)
    assert lines == [f"first weights of the student's backbone: {tmp_path / 'a.pth'}"]
    too_wide = study(**{"student.backbone_from": files, "student.width_multiplier": {**widths, "high": 1.5}})
    with pytest.raises(CheckpointError, match=r"a\.pth: .*fewer channels"):
        check_first_weights_of_trials(too_wide, print_line=lines.append)
    files["choices"] = ["absent.pth", "missing.pth"]
    with pytest.raises(CheckpointError, match=r"absent\.pth.*missing\.pth"):
        check_first_weights_of_trials(study(**{"student.init_from": files}), print_line=lines.append)


def test_limits_below_the_smallest_student_are_refused(tmp_path: Path) -> None:
    space = {
        "student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8},
        "student.backbone": {"type": "categorical", "choices": ["resnet34", "resnet18"]},
    }

    def study(**search: int) -> StudyConfig:
        raw = {"name": "x", "base": tiny_trial(tmp_path), "space": space, "search": {"sampler": "front", **search}}
        return StudyConfig.model_validate(raw)

    base = study().base
    smallest = student_cost(trial_config(base, {"student.pyramid_channels": 8, "student.backbone": "resnet18"}))
    check_limits(study())
    check_limits(study(max_params=smallest.num_params, max_flops=smallest.flops))
    for limits in ({"max_params": smallest.num_params - 1}, {"max_params": 10**9, "max_flops": smallest.flops - 1}):
        with pytest.raises(StudyError) as caught:
            check_limits(study(**limits))
        nearest = smallest.flops if "max_flops" in limits else smallest.num_params
        for fact in (*limits, f"{nearest:,}", f"{nearest - 1:,}"):
            assert fact in str(caught.value)
        assert ("max_flops" in str(caught.value)) == ("max_flops" in limits), "only limits that are set are named"


def test_limits_are_compared_with_all_combinations_of_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 125 combinations, the last is the smallest; 64 were compared before.
    space = {
        f"student.{name}": {"type": "categorical", "choices": choices}
        for name, choices in {
            "width_multiplier": [1.0, 0.75, 0.5, 0.25, 0.125],
            "pyramid_channels": [64, 48, 32, 16, 8],
            "head_channels": [80, 64, 48, 32, 16],
        }.items()
    }
    base = parse_config(TrialConfig, tiny_trial(tmp_path), source="tiny")
    values = {"width_multiplier": 0.125, "pyramid_channels": 8, "head_channels": 16}
    smallest = student_cost(trial_config(base, {f"student.{name}": value for name, value in values.items()})).num_params

    def study(max_params: int) -> StudyConfig:
        search = {"sampler": "front", "max_params": max_params}
        return StudyConfig.model_validate({"name": "x", "base": tiny_trial(tmp_path), "space": space, "search": search})

    check_limits(study(smallest))
    with pytest.raises(StudyError) as caught:
        check_limits(study(smallest - 1))
    assert "no student of the space" in str(caught.value)
    monkeypatch.setattr("sweeps.checks.MOST_COMBINATIONS", 5)
    with pytest.raises(StudyError) as caught:
        check_limits(study(smallest))
    # Only what was checked is stated.
    assert "no student of the space" not in str(caught.value)
    assert "first 5 of 125 combinations" in str(caught.value)


def test_images_are_opened_where_requested(tmp_path: Path) -> None:
    path = write_annotations_of(tmp_path, "one.json", [[1, 1, 20, 55]])
    base = TrialConfig(data=DataConfig(train_annotations=path, validation_annotations=path), teacher=None)
    annotations = check_files(base, check_images=True, print_line=print).validation
    assert annotations is not None
    assert len(annotations.images) == 1
    (tmp_path / "a.png").write_bytes(b"no image")
    check_files(base, check_images=False, print_line=print)
    with pytest.raises(AnnotationError, match="does not open as an image"):
        check_files(base, check_images=True, print_line=print)


def test_unlabelled_images_are_checked_where_requested(tmp_path: Path) -> None:
    paths = [write_annotations_of(tmp_path / name, f"{name}.json", [[1, 1, 20, 55]]) for name in ("train", "val")]
    Image.new("RGB", (96, 64), "red").save(tmp_path / "train" / "a.png")
    footage = tmp_path / "footage"
    footage.mkdir()
    for number in range(2):
        Image.new("RGB", (96, 64), (0, 0, number + 1)).save(footage / f"{number}.png")
    (footage / "a.png").write_bytes((tmp_path / "train" / "a.png").read_bytes())
    data = DataConfig(train_annotations=paths[0], validation_annotations=paths[1], unlabelled_images=footage)
    printed: list[str] = []
    check_files(TrialConfig(data=data), check_images=True, print_line=printed.append)
    (line,) = printed
    assert line.startswith(f"{footage}: 1 training image left out")
    (footage / "val.png").write_bytes((tmp_path / "val" / "a.png").read_bytes())
    check_files(TrialConfig(data=data), check_images=False, print_line=printed.append)
    with pytest.raises(UnlabelledImagesError, match=r"val\.png' is.*a\.png"):
        check_files(TrialConfig(data=data), check_images=True, print_line=printed.append)
    scenes = DataConfig(unlabelled_images=tmp_path / "nowhere")
    with pytest.raises(UnlabelledImagesError, match="nowhere' .No such file"):
        check_files(TrialConfig(data=scenes), check_images=True, print_line=printed.append)


def test_unlabelled_images_are_compared_with_generated_validation_scenes(tmp_path: Path) -> None:
    scenes = SyntheticConfig(train_images=2, validation_images=3, height=64, width=96, seed=5, style="hard")
    written = {"train_images": 2, "validation_images": 3, "height": 64, "width": 96, "seed": 5}
    write_scenes(tmp_path / "scenes", **written, style=STYLES["hard"], progress=False)
    footage = tmp_path / "footage"
    footage.mkdir()
    base = TrialConfig(data=DataConfig(synthetic=scenes, unlabelled_images=footage, cache_dir=tmp_path / "cache"))
    # A training scene, and a validation scene of which a pixel differs.
    shutil.copy(tmp_path / "scenes/images/train_000001.png", footage)
    with Image.open(tmp_path / "scenes/images/validation_000002.png") as picture:
        picture.save(footage / "frame.bmp")
        other = picture.convert("RGB")
    other.putpixel((50, 30), (255, 0, 255))
    other.save(footage / "other.png")
    with pytest.raises(UnlabelledImagesError) as caught:
        check_files(base, check_images=True, print_line=print)
    message = str(caught.value)
    assert "data.unlabelled_images: 1 image with the pixels" in message
    assert "frame.bmp' is 'validation_000002.png'" in message
    assert not (tmp_path / "cache").exists()
    (footage / "frame.bmp").unlink()
    check_files(base, check_images=True, print_line=print)


@pytest.mark.parametrize(
    ("base", "setting"),
    [
        ({"training": {"device": "cuda"}}, "base.training.device"),
        ({"teacher": {"training": {"device": "cuda"}}}, "base.teacher.training.device"),
    ],
)
def test_device_cuda_needs_gpu_per_trial(base: dict[str, Any], setting: str) -> None:
    study = StudyConfig.model_validate({"name": "x", "base": base})
    with pytest.raises(StudyError, match=f"{setting} is cuda.*resources.gpus_per_trial"):
        check_device(study, WITHOUT_GPU)
    check_device(study, WITH_GPU)
    check_device(StudyConfig(name="x"), WITHOUT_GPU)
