"""The comparison as a command, with the smallest networks on a few generated pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.photographs.__main__ import main
from hkd.coco.writing import write_annotations
from hkd.models.weights import read_metadata
from tests.training.tiny import HEIGHT, STUDENT, TRAINING, WIDTH

SCHEDULE = {**TRAINING, "total_epochs": 1}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study on four photographs, one of which is for test."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        images = [{"id": i, "file_name": f"{split}{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(count)]
        for image in images:
            Image.new("RGB", (WIDTH, HEIGHT), "#808080").save(str(image["file_name"]))
        people = [{"image_id": image["id"], "bbox": [10, 2, 20, 60]} for image in images]
        write_annotations(Path(f"{split}.json"), images, people, ".")
    architecture = STUDENT.model_dump(mode="json")
    base = {
        "data": {
            "train_annotations": "train.json",
            "validation_annotations": "validation.json",
            "image_height": HEIGHT,
            "image_width": WIDTH,
            "synthetic": {"train_images": 2, "validation_images": 1, "height": HEIGHT, "width": WIDTH},
        },
        "teacher": {**architecture, "training": SCHEDULE, "init_from_synthetic": SCHEDULE},
        "student": architecture,
        "training": SCHEDULE,
    }
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"name": "tiny", "base": base}))  # JSON is YAML
    return path


@pytest.mark.thorough
def test_rows_are_trained_evaluated_and_resumed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", str(study), "--test", "test.json", "--out", "out", "--workers", "1", "--resamples", "10"]
    command += ["--seeds", "3", "--rows", "teacher", "pretrained", "both"]
    assert main(command) == 0
    tables = capsys.readouterr().out
    assert "| 1 validation photographs |" in tables
    assert "| 1 test photographs |" in tables
    results = json.loads(Path("out/results.json").read_text())
    assert results["test"]["both"]["seeds"] == [3]
    assert results["test"]["both"]["differences"].keys() == {"teacher", "pretrained"}
    weights = [*Path("out").glob("*/student.safetensors"), *Path("out").glob("*/teacher.safetensors")]
    assert sorted(path.parent.name for path in weights) == ["both-3", "pretrained-3", "teacher-3"]
    # The teacher and its pretraining, which is also the student's: they have one architecture here.
    assert len(list(Path("data/cache/teachers").glob("*/teacher.safetensors"))) == 2
    assert {read_metadata(path).image_width for path in weights} == {WIDTH}
    written = {path: path.stat().st_mtime_ns for path in Path("out").glob("*/*_detections.json")}
    assert len(written) == 2 * len(weights)
    assert main(command) == 0
    assert capsys.readouterr().out == tables
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.parametrize(
    ("overrides", "facts"),
    [
        (["training.total_epoch=2"], ["training.total_epoch"]),
        (["teacher=null", "student.init_from=null"], ["teacher"]),
        (["teacher.init_from_synthetic=null"], ["pretrained", "teacher.init_from_synthetic", "--rows"]),
        (["data.train_annotations=null", "data.validation_annotations=null"], ["annotation"]),
        (["data.validation_annotations=missing.json"], ["missing.json"]),
    ],
)
def test_mistakes_are_reported_before_any_training(
    study: Path, overrides: list[str], facts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", str(study), "--out", "out", "--workers", "1", "--rows", "pretrained"]
    for override in overrides:
        command += ["--set", override]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert [fact for fact in facts if fact not in message] == []
    assert not Path("out").exists()
