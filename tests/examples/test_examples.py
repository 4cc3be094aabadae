"""Every file in examples/ loads, validates and runs, on a tiny COCO folder at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.cli import main
from hkd.config import DetectorConfig
from hkd.config_files.parsing import flatten, load_config
from sweeps.run import main as run_main
from sweeps.settings.study import load_study
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
TRAININGS = ("teacher", "student_alone", "student_distilled")
STUDIES = ("own_data_study",)

TINY_DATA = ("data.image_height=64", "data.image_width=64")
TINY_DETECTOR = (
    "backbone=resnet18",
    "width_multiplier=0.125",
    "pyramid_channels=8",
    "head_channels=16",
    "pre_nms_proposals_per_level=8",
    "proposals_per_image=8",
)
TINY_TRAINING = (
    "training.total_epochs=1",
    "training.batch_size=2",
    "training.device=cpu",
    "training.sampled_anchors_per_image=16",
    "training.sampled_regions_per_image=8",
)


def _write_coco_folder(folder: Path) -> None:
    """Four images per split, each with one person: a dark rectangle on a bright ground."""
    for split in ("train", "validation"):
        images, annotations = [], []
        for number in range(1, 5):
            pixels = np.full((128, 128, 3), 200, dtype=np.uint8)
            x, y, width, height = 20 * number, 30, 30, 73
            pixels[y : y + height, x : x + width] = 40
            name = f"{split}_{number}.png"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)
            images.append({"id": number, "file_name": name, "height": 128, "width": 128})
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, width, height], "iscrowd": 0}
            )
        document = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        (folder / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the data that the examples name."""
    _write_coco_folder(tmp_path / "data" / "own")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _train(name: str, *detectors: str) -> int:
    changes = [
        *TINY_DATA,
        *TINY_TRAINING,
        *(f"{detector}.{change}" for detector in detectors for change in TINY_DETECTOR),
    ]
    return main(["train", str(EXAMPLES / f"{name}.yaml"), *(f"--set={change}" for change in changes)])


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {*TRAININGS, *STUDIES}


@pytest.mark.parametrize("name", TRAININGS)
def test_training_example_is_valid(name: str) -> None:
    config = load_config(EXAMPLES / f"{name}.yaml")
    assert config.is_distilled == (name == "student_distilled")


def test_students_differ_only_in_what_the_teacher_gives() -> None:
    alone, distilled = (flatten(load_config(EXAMPLES / f"{name}.yaml")) for name in TRAININGS[1:])
    different = {key for key in alone.keys() | distilled.keys() if alone.get(key) != distilled.get(key)}
    assert {key for key in different if key.partition(".")[0] not in ("teacher", "distillation")} == {
        "student.init_from"
    }


def test_distilled_example_expects_detector_of_teacher_example() -> None:
    trained, expected = load_config(EXAMPLES / "teacher.yaml"), load_config(EXAMPLES / "student_distilled.yaml").teacher
    assert expected is not None
    assert str(expected.checkpoint) == "runs/train/teacher/student.safetensors"
    architecture = set(DetectorConfig.model_fields)
    assert trained.student.model_dump(include=architecture) == expected.model_dump(include=architecture)


@pytest.mark.parametrize("name", STUDIES)
def test_study_example_passes_dry_run(name: str, working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_study(EXAMPLES / f"{name}.yaml").base.is_distilled
    tiny = [f"base.{change}" for change in TINY_DATA]
    arguments = ["--config", str(EXAMPLES / f"{name}.yaml"), "--dry-run", *(f"--set={change}" for change in tiny)]
    assert run_main(arguments) == 0
    assert "own-data" in capsys.readouterr().out
    assert not (working_folder / "runs").exists()


@pytest.mark.thorough
def test_training_examples_run_one_after_another(working_folder: Path) -> None:
    assert _train("teacher", "student") == 0
    assert _train("student_alone", "student") == 0
    assert _train("student_distilled", "student", "teacher") == 0
    for name in TRAININGS:
        folder = working_folder / "runs" / "train" / name
        assert {"student.safetensors", "metrics.json", "detections.json"} <= {path.name for path in folder.iterdir()}
        (epoch,) = json.loads((folder / "epochs.json").read_text(encoding="utf-8"))
        assert ("distill_pyramid" in epoch) == (name == "student_distilled")
