"""INT8 on the images of the training, and on those that the user names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hkd.cli import main
from hkd.coco.annotations import read_annotations
from hkd.config import DataConfig
from hkd.config_files.parsing import load_config
from hkd.data.copies import image_paths
from hkd.data.sources.synthetic import write_scenes
from hkd.export.quantisation import QuantisationError
from hkd.export.quantisation_images import compare_with_training, read_given, read_of_training
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
    used = metadata.int8_images
    assert used is not None
    assert used.compared_with_training
    train, validation = read_of_training(trial_data(tmp_path))
    assert (used.calibration.annotations, used.calibration.content_hash) == ("train.json", train.content_hash())
    assert (used.validation.annotations, used.validation.content_hash) == (
        "validation.json",
        validation.content_hash(),
    )
    assert (used.calibration.num_images, used.num_calibrated, used.validation.num_images) == (5, 5, 3)
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


def trial_data(folder: Path) -> DataConfig:
    """Data of :func:`write_finished_trial`."""
    return load_config(next(folder.glob("runs/*/*/*/config.yaml"))).data


@pytest.fixture
def other_images(tmp_path: Path) -> Path:
    """Annotations of two scenes of another seed."""
    train, _ = write_scenes(
        tmp_path / "other", train_images=2, validation_images=1, height=HEIGHT, width=WIDTH, seed=9, progress=False
    )
    return train


@pytest.mark.parametrize(
    ("calibration", "validation", "facts"),
    [
        # Of the trial: 5 training images, 3 validation images.
        ("other", "validation", ["--calibration", "2 images of 2", "train_000000.png"]),
        (
            "validation",
            "train",
            ["--calibration", "3 images of 3", "--validation", "5 images of 5", "validation_000000.png"],
        ),
        ("empty", "validation", ["empty.json", "images"]),
    ],
)
def test_given_images_that_do_not_fit_the_training_are_refused(
    calibration: str,
    validation: str,
    facts: list[str],
    other_images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_finished_trial(tmp_path, "demo", "t1")
    monkeypatch.chdir(tmp_path)
    of_training = read_of_training(trial_data(tmp_path))
    (tmp_path / "empty.json").write_text('{"images": [], "annotations": []}')
    files = {"other": other_images, "empty": tmp_path / "empty.json"}
    files |= {name: each.path for name, each in zip(("train", "validation"), of_training, strict=True) if each.path}
    images = ["--calibration", str(files[calibration]), "--validation", str(files[validation])]
    command = ["export", "--study", "demo", "--trial", "t1", "--out", "int8.onnx", *INT8_WITHOUT_LIMIT]
    assert main([*command, *images]) == 2
    error = capsys.readouterr().err
    for fact in facts:
        assert fact in error
    assert not Path("int8.onnx").exists()


def test_images_are_compared_with_annotation_files_of_the_training(other_images: Path, tmp_path: Path) -> None:
    files = write_scenes(
        tmp_path / "scenes", train_images=2, validation_images=1, height=HEIGHT, width=WIDTH, progress=False
    )
    train, validation, other = map(read_annotations, (*files, other_images))
    data = DataConfig(train_annotations=files[0], validation_annotations=files[1])
    assert compare_with_training(train, validation, data) is None
    # Other validation images than the training's are no training images.
    assert compare_with_training(train, other, data) is None
    with pytest.raises(QuantisationError, match=r"2 images of 2.*train\.json"):
        compare_with_training(other, validation, data)
    with pytest.raises(QuantisationError, match="--validation"):
        compare_with_training(train, train, data)


def test_comparison_with_an_unknown_training_is_reported_as_not_done(other_images: Path, tmp_path: Path) -> None:
    images = read_annotations(other_images)
    assert "--trial" in (compare_with_training(images, images, None) or "")
    moved = DataConfig(train_annotations=tmp_path / "gone.json", validation_annotations=other_images)
    assert "gone.json (data.train_annotations)" in (compare_with_training(images, images, moved) or "")
    # Its annotation file is there, one of its images is not.
    data = DataConfig(train_annotations=other_images, validation_annotations=other_images)
    first, *_ = image_paths(images)
    first.unlink()
    assert str(first) in (compare_with_training(images, images, data) or "")


def test_unlabelled_images_are_training_images(other_images: Path, tmp_path: Path) -> None:
    files = write_scenes(
        tmp_path / "scenes", train_images=2, validation_images=1, height=HEIGHT, width=WIDTH, progress=False
    )
    train, validation, other = map(read_annotations, (*files, other_images))
    data = DataConfig(train_annotations=files[0], validation_annotations=files[1])
    frames = tmp_path / "frames"
    data = data.model_copy(update={"unlabelled_images": frames})
    assert "frames (data.unlabelled_images)" in (compare_with_training(train, validation, data) or "")
    frames.mkdir()
    for path in image_paths(other):
        shutil.copy(path, frames)
    assert compare_with_training(other, validation, data) is None
    with pytest.raises(QuantisationError, match=r"--validation .*2 images of 2.*frames"):
        compare_with_training(train, other, data)


def test_weights_alone_cannot_be_compared(
    other_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_finished_trial(tmp_path, "demo", "t1")
    train, validation = write_scenes(
        tmp_path / "scenes", train_images=2, validation_images=1, height=3 * HEIGHT, width=3 * WIDTH, progress=False
    )
    out = tmp_path / "int8.onnx"
    images = ["--calibration", str(train), "--validation", str(validation)]
    assert main(["export", "--weights", str(weights), "--out", str(out), *INT8_WITHOUT_LIMIT, *images]) == 0
    printed = capsys.readouterr().out
    assert "Not compared" in printed
    assert "--config" in printed
    used = read_onnx_file(out).metadata.int8_images
    assert used is not None
    assert not used.compared_with_training


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
