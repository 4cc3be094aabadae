"""INT8 on the images of the training, and on those that the user names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.cli import main
from hkd.coco.annotations import read_annotations
from hkd.config import DataConfig
from hkd.data.sources.synthetic import write_scenes
from hkd.export.quantisation import QuantisationError
from hkd.export.quantisation_images import read_given, read_of_training
from hkd.inference.deployed.onnx_file import read_onnx_file
from tests.export.finished_trial import INT8_WITHOUT_LIMIT, write_finished_trial
from tests.training.tiny import HEIGHT, WIDTH, trial_config


def test_trial_names_its_own_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_finished_trial(tmp_path, "demo", "t1")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--study", "demo", "--trial", "t1", "--out", "int8.onnx", *INT8_WITHOUT_LIMIT]) == 0
    metadata = read_onnx_file(tmp_path / "int8.onnx").metadata
    assert metadata.precision == "int8"
    assert {"int8_mr2_reasonable", "fp32_mr2_reasonable"} <= set(metadata.metrics)
    printed = capsys.readouterr().out
    # Five and three scenes: the configuration of the trial.
    assert "train.json, 5 images" in printed
    assert "validation.json, 3 images" in printed


def test_files_of_the_configuration_that_are_not_there_are_named_with_their_keys(tmp_path: Path) -> None:
    data = DataConfig(
        train_annotations=tmp_path / "train.json",
        validation_annotations=tmp_path / "val.json",
        image_root=tmp_path / "photos",
    )
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(QuantisationError) as caught:
        read_of_training(data)
    message = str(caught.value)
    for fact in ("train.json (data.train_annotations)", "photos (data.image_root)", "--calibration and --validation"):
        assert fact in message
    assert "val.json" not in message


def test_images_may_be_in_another_folder_than_the_annotations(tmp_path: Path) -> None:
    train, validation = write_scenes(
        tmp_path / "scenes", train_images=2, validation_images=1, height=HEIGHT, width=WIDTH, progress=False
    )
    moved = []
    for path in (train, validation):
        document = json.loads(path.read_text())
        document["info"].pop("image_root", None)
        moved.append(tmp_path / path.name)
        moved[-1].write_text(json.dumps(document))
    root = read_annotations(train).image_root
    found = read_given(moved[0], moved[1], root, people=[], ignored=[], max_megapixels=1.0)
    assert [len(annotations.images) for annotations in found] == [2, 1]
    assert {annotations.image_root for annotations in found} == {root}


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--weights", "a.safetensors", "--int8"], ["--calibration and --validation", "--trial", "--config"]),
        (["--weights", "a.safetensors", "--int8", "--calibration", "b.json"], ["--validation"]),
        (["--trial", "t", "--study", "s", "--int8", "--images", "photos"], ["--images", "--calibration"]),
        (["--weights", "a.safetensors", "--images", "photos", "--max-drop", "0"], ["--images, --max-drop", "--int8"]),
    ],
)
def test_options_of_images_that_contradict_are_refused(
    options: list[str], facts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *options, "--out", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    for fact in facts:
        assert fact in error
    assert not (tmp_path / "a.onnx").exists()


def test_configuration_of_weights_names_images_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_finished_trial(tmp_path, "demo", "t1")
    config = weights.with_name("config.yaml")
    monkeypatch.chdir(tmp_path)
    options = ["--weights", str(weights), "--config", str(config), "--out", "int8.onnx", *INT8_WITHOUT_LIMIT]
    assert main(["export", *options]) == 0
    assert str(trial_config(tmp_path / "cache").data.cache_dir) in capsys.readouterr().out
