from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hkd.cli import main
from hkd.config_files.yaml_format import dump_yaml
from hkd.inference.deployed.onnx_file import read_onnx_file
from hkd.models.weights import save_detector
from tests.export.exported import crowded_detector
from tests.training.tiny import HEIGHT, STUDENT, WIDTH, trial_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "student.safetensors"
    save_detector(path, crowded_detector(), STUDENT, image_height=HEIGHT, image_width=WIDTH)
    return path


def test_options_are_fixed_in_the_file(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "student.onnx"
    options = ["--batch", "2", "--max-detections", "7", "--score-threshold", "0.2", "--nms-iou", "0.4"]
    assert main(["export", "--weights", str(weights), "--out", str(out), *options]) == 0
    assert str(out) in capsys.readouterr().out
    metadata = read_onnx_file(out).metadata
    assert (metadata.batch, metadata.max_detections) == (2, 7)
    assert (metadata.score_threshold, metadata.nms_iou) == (0.2, 0.4)


def test_metric_that_is_no_number_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "student.safetensors"
    metrics = {"mr2_reasonable": float("nan")}
    save_detector(path, crowded_detector(), STUDENT, image_height=HEIGHT, image_width=WIDTH, metrics=metrics)
    assert main(["export", "--weights", str(path), "--out", str(tmp_path / "a.onnx")]) == 2
    assert f"{path}: its metrics mr2_reasonable" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


def test_graph_that_could_not_be_read_is_not_written(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hkd.inference.deployed.onnx_file.MOST_NUMBERS", 1000)
    assert main(["export", "--weights", str(weights), "--out", str(tmp_path / "a.onnx")]) == 2
    assert "--batch" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


def test_mistakes_are_one_message_and_write_nothing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dict = tmp_path / "student.pth"
    torch.save({}, state_dict)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:500])
    out = tmp_path / "student.onnx"
    for given, target, fact in (
        (tmp_path / "absent.safetensors", out, "no such file"),
        (state_dict, out, "--config"),
        (cut, out, "not a readable"),
        (weights, tmp_path / "student.bin", ".onnx"),
        (weights, weights, "would be overwritten"),
    ):
        before = weights.read_bytes()
        assert main(["export", "--weights", str(given), "--out", str(target)]) == 2
        error = capsys.readouterr().err
        assert fact in error
        assert "Traceback" not in error
        assert weights.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.safetensors", "student.pth"]


@pytest.mark.parametrize("option", [["--batch", "0"], ["--max-detections", "100000"], ["--nms-iou", "1"]])
def test_numbers_beyond_reason_are_refused(weights: Path, tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["export", "--weights", str(weights), "--out", str(tmp_path / "a.onnx"), *option])
    assert exit_.value.code == 2


def test_too_many_proposals_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = STUDENT.model_copy(update={"proposals_per_image": 5000})
    path = tmp_path / "student.safetensors"
    save_detector(path, crowded_detector(config), config, image_height=HEIGHT, image_width=WIDTH)
    assert main(["export", "--weights", str(path), "--out", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    for fact in ("proposals_per_image 5000", "2000", f"--weights {path}", "student.proposals_per_image", "--config"):
        assert fact in error
    # It is the number of detections, which are not too many.
    assert "--max-detections" not in error
    assert not (tmp_path / "a.onnx").exists()


def test_input_of_more_pixels_than_a_reader_accepts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "student.safetensors"
    save_detector(path, crowded_detector(), STUDENT, image_height=16384, image_width=16384)
    assert main(["export", "--weights", str(path), "--out", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    for fact in (str(path), "image_height 16384", "16,777,216 pixels", "data.image_height"):
        assert fact in error
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize(("side", "fact"), [(100, "image_height"), (0, "image_height")])
def test_input_sides_are_multiples_of_32(
    side: int, fact: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "student.safetensors"
    metadata = changed_metadata(weights, path, image_height=side)
    assert metadata["image_height"] == side
    assert main(["export", "--weights", str(path), "--out", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    assert fact in error
    assert str(path) in error
    assert "Traceback" not in error
    # The same by a configuration.
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{image_height: {side}}}\n")
    options = ["--weights", str(weights), "--config", str(config)]
    assert main(["export", *options, "--out", str(tmp_path / "a.onnx")]) == 2
    assert "data.image_height" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


def test_unknown_backbone_is_refused(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "student.safetensors"
    architecture = STUDENT.model_dump(mode="json") | {"backbone": "vgg16"}
    changed_metadata(weights, path, config=architecture)
    assert main(["export", "--weights", str(path), "--out", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    for fact in (str(path), "backbone", "vgg16", "resnet18"):
        assert fact in error
    assert "Traceback" not in error
    assert not (tmp_path / "a.onnx").exists()


def changed_metadata(weights: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Write weights with other metadata, which are returned."""
    with safe_open(weights, framework="pt") as file:
        ((key, value),) = file.metadata().items()
    metadata: dict[str, Any] = json.loads(value) | changes
    save_file(load_file(weights), out, metadata={key: json.dumps(metadata)})
    return metadata


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        ({}, {"mr2_reasonable": 0.25}),
        ({"data__image_height": 2 * HEIGHT}, {}),
        ({"student__proposals_per_image": 7}, {}),
    ],
    ids=["same", "other size", "fewer proposals"],
)
def test_metrics_are_stated_where_the_configuration_is_that_of_the_weights(
    changes: dict[str, int], metrics: dict[str, float], tmp_path: Path
) -> None:
    path, config = tmp_path / "student.safetensors", tmp_path / "config.yaml"
    stated = {"mr2_reasonable": 0.25}
    save_detector(path, crowded_detector(), STUDENT, image_height=HEIGHT, image_width=WIDTH, metrics=stated)
    config.write_text(dump_yaml(trial_config(tmp_path / "cache", **changes)))
    out = tmp_path / "a.onnx"
    assert main(["export", "--weights", str(path), "--config", str(config), "--out", str(out)]) == 0
    assert read_onnx_file(out).metadata.metrics == metrics
