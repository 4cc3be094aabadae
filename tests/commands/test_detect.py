from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.cli import main
from tests.export.exported import crowded_detector, export


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A detector by the suffix of its file."""
    folder = tmp_path_factory.mktemp("weights")
    exported = export(crowded_detector(), folder).path
    shutil.copy(exported, folder / "copy.ONNX")
    return {".safetensors": folder / "student.safetensors", ".onnx": exported, ".ONNX": folder / "copy.ONNX"}


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".ONNX"])
def test_broken_image_is_listed_at_the_end_and_the_others_are_done(
    suffix: str, weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "video" / "frames"
    frames.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(frames / f"{number}.png")
    broken = frames / "00-broken.png"
    broken.write_bytes((frames / "0.png").read_bytes()[:100])
    out = tmp_path / "drawn"
    command = ["detect", str(tmp_path / "video"), "--weights", str(weights[suffix]), "--out", str(out)]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert "1 of 3 images" in printed.err
    assert str(broken) in printed.err
    assert "Traceback" not in printed.err
    for name in ("0.png", "1.png"):
        assert f"{frames / name}: " in printed.out
        assert (out / "frames" / name).is_file()
    assert not (out / "frames" / broken.name).exists()


def test_progress_is_shown(weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    out = tmp_path / "out"
    assert main(["detect", str(tmp_path), "--weights", str(weights[".onnx"]), "--out", str(out / "x")]) == 2
    assert main(["detect", str(tmp_path), "--weights", str(weights[".onnx"]), "--json", str(out / "found.json")]) == 0
    assert "Detecting" in capsys.readouterr().err
