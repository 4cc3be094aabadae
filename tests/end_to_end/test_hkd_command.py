"""The installed `hkd` command as a user runs it: scenes, an interrupted distillation, evaluation, detection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

HKD = Path(sys.executable).parent / "hkd"
TIMEOUT_S = 240

TRIAL = """\
data:
  train_annotations: scenes/train.json
  validation_annotations: scenes/validation.json
  image_height: 64
  image_width: 96
  cache_dir: cache
teacher:
  width_multiplier: 0.25
  pyramid_channels: 16
  head_channels: 32
  pre_nms_proposals_per_level: 16
  proposals_per_image: 8
  training: {total_epochs: 1, batch_size: 4, device: cpu}
student:
  width_multiplier: 0.125
  pyramid_channels: 8
  head_channels: 16
  pre_nms_proposals_per_level: 16
  proposals_per_image: 8
training: {total_epochs: 20, batch_size: 4, device: cpu, num_threads: 1, learning_rate: 1e-3}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "trial.yaml").write_text(TRIAL)
    made = hkd(folder, "data synthetic --out scenes --train-images 8 --validation-images 4 --height 96 --width 128")
    assert made.returncode == 0, made.stderr
    return folder


def hkd(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HKD, *arguments.split()], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    done = hkd(folder, "train trial.yaml --out complete")
    assert done.returncode == 0, done.stderr
    assert "teacher: MR^-2 (reasonable)" in done.stderr
    assert "epoch 20/20: loss" in done.stderr
    assert "results: complete" in done.stdout
    return folder / "complete"


def test_resumed_distillation_is_bit_identical(folder: Path, trained: Path) -> None:
    command = [str(HKD), "train", "trial.yaml", "--out", "interrupted"]
    # In a background job of a shell SIGINT is ignored, and child processes inherit that.
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, previous_handler)
        until = time.monotonic() + TIMEOUT_S
        while not (folder / "interrupted" / "training_state.pt").is_file() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1].startswith("hkd train: interrupted.")
    assert "--resume" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert 1 <= len(json.loads((folder / "interrupted" / "epochs.json").read_text())) < 20
    assert not (folder / "interrupted" / "student.safetensors").exists()

    rejected = hkd(folder, "train trial.yaml --out interrupted")
    assert rejected.returncode == 2
    assert "already holds a training" in rejected.stderr
    assert "--resume" in rejected.stderr

    resumed = hkd(folder, "train trial.yaml --out interrupted --resume")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("student.safetensors", "detections.json", "metrics.json"):
        assert (folder / "interrupted" / name).read_bytes() == (trained / name).read_bytes(), name
    # Each epoch has its losses, and the gradient ratio of every distillation stage.
    epochs = json.loads((folder / "interrupted" / "epochs.json").read_text())
    assert len(epochs) == 20
    assert {"distill_pyramid", "distill_region", "distill_logits", "gradient_ratio_pyramid"} <= set(epochs[0])


def test_results_can_be_evaluated_and_used(folder: Path, trained: Path) -> None:
    evaluated = hkd(
        folder,
        "evaluate --ground-truth scenes/validation.json --detections complete/detections.json --json evaluated.json",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads((trained / "metrics.json").read_text())
    (detector,) = json.loads((folder / "evaluated.json").read_text())["detectors"]
    assert detector["result"]["ap"] == pytest.approx(metrics["ap"], abs=1e-12)

    drawn = hkd(
        folder,
        "detect scenes/images/validation_000000.png --weights complete/student.safetensors --out drawn "
        "--score-threshold 0.01",
    )
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(folder / "drawn" / "validation_000000.png") as picture:
        assert picture.size == (128, 96)


def test_detect_command_equals_detections_of_training(folder: Path, trained: Path) -> None:
    images = " ".join(f"scenes/images/validation_{i:06}.png" for i in range(4))
    found = hkd(
        folder,
        f"detect {images} --weights complete/student.safetensors --json new.json --annotations scenes/validation.json",
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == "4 images -> new.json (image ids: scenes/validation.json)\n"
    compared = hkd(
        folder,
        "evaluate --ground-truth scenes/validation.json --detections trained=complete/detections.json new.json "
        "--resamples 50 --plot curve.png --json compared.json --subset all",
    )
    assert compared.returncode == 0, compared.stderr
    of_training, of_command = json.loads((folder / "compared.json").read_text())["detectors"]
    assert of_command["result"]["num_detections"] == of_training["result"]["num_detections"] > 0
    assert of_command["result"]["ap"] == pytest.approx(of_training["result"]["ap"], abs=1e-6)
    with Image.open(folder / "curve.png") as picture:
        assert picture.format == "PNG"
