from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hkd.cli import main
from hkd.inference.deployed.onnx_file import read_onnx_file
from hkd.models.weights import save_detector
from tests.export.exported import crowded_detector
from tests.training.tiny import HEIGHT, STUDENT, WIDTH


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
    assert "proposals_per_image 5000" in error
    assert "2000" in error
    assert not (tmp_path / "a.onnx").exists()
