from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hkd import cli


def test_preview_of_each_split_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = "--height 64 --width 96 --train-images 3 --validation-images 2"
    assert cli.main(["data", "synthetic", "--out", str(tmp_path), *size.split(), "--preview", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"wrote {tmp_path / 'train.json'}",
        f"wrote {tmp_path / 'validation.json'}",
        f"wrote {tmp_path / 'preview_train.png'}",
        f"wrote {tmp_path / 'preview_validation.png'}",
    ]
    for name in ("preview_train.png", "preview_validation.png"):
        with Image.open(tmp_path / name) as sheet:
            assert sheet.width > 2 * 640  # two tiles side by side


@pytest.mark.parametrize("number", ["0", "101", "1000000000"])
def test_number_of_preview_images_is_bounded(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["data", "synthetic", "--out", "nowhere", "--preview", number])
    assert f'--preview: found "{number}"; allowed: integer from 1 to 100' in capsys.readouterr().err


def test_person_option_selects_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "street"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(root / "images" / "a.png")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("{train: images, names: [walker, child, car]}")
    arguments = ["--root", str(root), "--out", str(tmp_path / "out"), "--person", "walker", "--person", "child"]
    assert cli.main(["data", "yolo", *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 images, 2 boxes, 0 of them ignored",
        "train: dropped 1 boxes of other classes: 1 car",
        f"wrote {tmp_path / 'out' / 'train.json'}",
    ]


def test_caltech_options_select_frames_and_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "caltech"
    root.mkdir()
    for frame in (2, 5, 6):
        text = "% bbGt version=3\nperson 10 20 30 60 0 0 0 0 0 0 0\n"
        (root / f"set06_V000_I{frame:05d}.txt").write_text(text)
    options = ["--annotations", "new", "--every", "3", "--annotations-only"]
    assert cli.main(["data", "caltech", "--root", str(root), "--out", str(tmp_path / "out"), *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 images, 2 boxes, 0 of them ignored",
        "dropped 1 annotated frames: not one in 3, or of sets beyond 10",
        f"wrote {tmp_path / 'out' / 'test.json'}",
    ]
