from __future__ import annotations

import json
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
        "train: left out 1 boxes of other classes: 1 car",
        f"wrote {tmp_path / 'out' / 'train.json'}",
        "one split was written; --validation-images N divides it into train.json and validation.json",
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


def _yolo_with_a_car(root: Path) -> Path:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (2000, 1000)).save(root / "images" / "a.png")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("{train: images, names: [person, car]}")
    return root


def test_report_has_counts_of_splits_and_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out, report = _yolo_with_a_car(tmp_path / "street"), tmp_path / "out", tmp_path / "report.json"
    arguments = ["data", "yolo", "--root", str(root), "--out", str(out), "--report", str(report)]
    for _ in range(2):  # a report may be replaced by a report
        assert cli.main(arguments) == 0
    written = json.loads(report.read_text())
    assert (written["data_set"], written["root"], written["images"], written["boxes"]) == ("yolo", str(root), 1, 1)
    (split,) = written["splits"]
    assert (split["name"], split["images"], split["images_without_boxes"], split["boxes"]) == ("train", 1, 0, 1)
    (note,) = written["notes"]
    assert (note["kind"], note["count"], note["split"]) == ("boxes_of_other_categories", 1, "train")
    assert f"train: {note['sentence']}" in capsys.readouterr().out


def test_report_never_replaces_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _yolo_with_a_car(tmp_path / "street")
    for other in (root / "data.yaml", tmp_path):
        before = other.read_bytes() if other.is_file() else None
        with pytest.raises(SystemExit):
            cli.main(["data", "yolo", "--root", str(root), "--out", str(tmp_path / "o"), "--report", str(other)])
        assert "--report" in capsys.readouterr().err
        assert before is None or other.read_bytes() == before


def test_report_may_be_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = _yolo_with_a_car(tmp_path / "street")
    arguments = ["data", "yolo", "--root", str(root), "--out", str(tmp_path / "o"), "--report", "/dev/stdout"]
    assert cli.main(arguments) == 0
    assert '"data_set": "yolo"' in capfd.readouterr().out


@pytest.mark.parametrize(("limit", "status"), [("2", 0), ("1.999", 2)])
def test_limit_of_megapixels_applies(limit: str, status: int, tmp_path: Path) -> None:
    root = _yolo_with_a_car(tmp_path / "street")  # 2 megapixels
    arguments = ["data", "yolo", "--root", str(root), "--out", str(tmp_path / "out"), "--max-megapixels", limit]
    assert cli.main(arguments) == status
