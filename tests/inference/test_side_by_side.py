"""``hkd draw``: which detections are shown, their colours, and mistakes of the user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd import cli
from hkd.coco.detections import DetectedBoxes
from hkd.coco.writing import annotation_document
from hkd.image_files import contact_sheet
from hkd.inference import side_by_side
from hkd.inference.side_by_side import NamedDetector, draw_side_by_side, read_drawing_inputs

SIZE = (360, 300)
"""Of the images and of a tile, so that nothing is scaled."""
PERSON = [40, 60, 60, 150]
IGNORED = [150, 60, 60, 150]
NOWHERE = [260, 60, 60, 150]


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Four grey images with a person and an ignored one each, whose ids are not in the order of the file."""
    ids = (7, 3, 5, 1)
    for image_id in ids:
        Image.new("RGB", SIZE, "#808080").save(tmp_path / f"{image_id}.png")
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZE[1], "width": SIZE[0]} for i in ids]
    boxes: list[dict[str, Any]] = [
        {"image_id": i, "bbox": box, "ignore": ignore} for i in ids for box, ignore in ((PERSON, 0), (IGNORED, 1))
    ]
    path = tmp_path / "test.json"
    path.write_text(json.dumps(annotation_document(images, boxes, ".")))
    return path


def _detections(*rows: tuple[int, list[int], float]) -> DetectedBoxes:
    """Of (position of the image by ascending id, box, score)."""
    return DetectedBoxes(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[2] for row in rows]),
    )


def _replay(monkeypatch: pytest.MonkeyPatch, *detections: DetectedBoxes) -> None:
    """Let the detectors, in the order given, find these."""
    replayed: Iterator[DetectedBoxes] = iter(detections)
    monkeypatch.setattr(side_by_side, "detect_store", lambda *_, **__: next(replayed))


def _draw(annotated: Path, weights: Path, names: tuple[str, ...], *, count: int = 4, fppi: float = 0.25) -> Any:
    inputs = read_drawing_inputs(annotated, [NamedDetector(name, weights) for name in names], "citypersons")
    path = annotated.parent / "sheet.png"
    sentences = draw_side_by_side(inputs, path, count=count, false_positives_per_image=fppi, max_megapixels=1.0)
    return path, sentences


def _colour(path: Path, tile: tuple[int, int], x: int, y: int) -> str:
    """Colour of a pixel of the picture in a tile (column, row) of a sheet of more than one column."""
    margin = contact_sheet.MARGIN
    with Image.open(path) as sheet:
        header = sheet.height - sheet.height // (SIZE[1] + 44 + margin) * (SIZE[1] + 44 + margin)
        left = margin + tile[0] * (SIZE[0] + margin) + x
        pixel = sheet.getpixel((left, header + tile[1] * (SIZE[1] + 44 + margin) + y))
    assert isinstance(pixel, tuple)
    return "#{:02x}{:02x}{:02x}".format(*pixel)


def test_boxes_have_the_colours_of_their_outcomes(
    annotated: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _detections((3, PERSON, 0.9), (3, NOWHERE, 0.8), (3, IGNORED, 0.7))
    _replay(monkeypatch, found, _detections())
    path, _ = _draw(annotated, weights, ("teacher", "student"), fppi=1)
    # The image of id 7, the first of the file, has position 3: its tiles are the first two. Left edges of the boxes.
    assert _colour(path, (0, 0), 40, 130) == contact_sheet.GREEN
    assert _colour(path, (0, 0), 260, 130) == contact_sheet.ORANGE
    assert _colour(path, (0, 0), 150, 130) == "#a0a0a0"
    # The second detector finds nobody: the person is white, the ignored one yellow.
    assert _colour(path, (1, 0), 40, 130) == "#ffffff"
    assert _colour(path, (1, 0), 150, 130) == contact_sheet.YELLOW
    assert _colour(path, (1, 0), 260, 130) == "#808080"


def test_detections_are_shown_until_the_number_of_false_positives(
    annotated: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _detections(
        (0, PERSON, 0.9), (0, NOWHERE, 0.8), (1, IGNORED, 0.75), (1, PERSON, 0.7), (1, NOWHERE, 0.6), (2, PERSON, 0.5)
    )
    _replay(monkeypatch, found, _detections((0, NOWHERE, 0.9)))
    # 0.25 false positives on four images are one: the second, of score 0.6, and all after it are not shown.
    _, (first, second) = _draw(annotated, weights, ("teacher", "student"), fppi=0.25)
    assert first == "teacher: scores from 0.70, finds 2 of 4 people"
    assert second == "student: scores from 0.90, finds 0 of 4 people"
    _replay(monkeypatch, found)
    _, (none_false,) = _draw(annotated, weights, ("teacher",), fppi=0)
    assert none_false == "teacher: scores from 0.90, finds 1 of 4 people"


def test_detector_without_detections_is_drawn(annotated: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _replay(monkeypatch, _detections())
    path, (sentence,) = _draw(annotated, weights, ("student",), count=1)
    assert sentence == "student: shows no detections, finds 0 of 4 people"
    with Image.open(path) as sheet:
        assert sheet.width == SIZE[0] + 2 * contact_sheet.MARGIN


def test_tiles_of_an_image_are_in_one_row(annotated: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _replay(monkeypatch, *[_detections()] * 3)
    path, _ = _draw(annotated, weights, ("a", "b", "c"))
    with Image.open(path) as sheet:
        columns = (sheet.width - contact_sheet.MARGIN) // (SIZE[0] + contact_sheet.MARGIN)
    assert columns % 3 == 0


def test_real_detectors_are_drawn(annotated: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = annotated.parent / "new" / "sheet.png"
    arguments = ["draw", "--annotations", annotated, "--weights", f"a={weights}", weights, "--out", out]
    assert cli.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed[:2]] == ["a", "student"]
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"


def test_mistakes_in_all_files_are_reported_together(
    annotated: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "3.png").unlink()
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    command = ["draw", "--annotations", annotated, "--out", tmp_path / "sheet.png", "--protocol", "nosuch"]
    detectors = ["--weights", f"a={tmp_path / 'bad.safetensors'}", f"b={tmp_path / 'missing.safetensors'}", weights]
    assert cli.main([str(argument) for argument in (*command, *detectors)]) == 2
    message = capsys.readouterr().err
    assert [fact for fact in ("3.png", "bad.safetensors", "missing.safetensors", "nosuch") if fact not in message] == []
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--weights", "a.safetensors", "b/a.safetensors", "--out", "s.png"], ['"a"', "NAME=PATH"]),
        (["--weights", "=a.safetensors", "--out", "s.png"], ["--weights", "empty"]),
        (["--weights", "a.safetensors", "--out", "s.jpg"], ["s.jpg", ".png"]),
        (["--weights", "a.safetensors", "--out", "test.json"], ["test.json", "would be overwritten"]),
        (["--weights", "a.safetensors", "--out", "s.png", "--fppi", "-1"], ["-1", "from 0"]),
        (["--weights", "a.safetensors", "--out", "s.png", "--count", "1000"], ["1000", "100"]),
        (["--weights", *(f"{n}={n}.safetensors" for n in range(11)), "--out", "s.png"], ["11", "10"]),
    ],
)
def test_wrong_arguments_are_reported_before_anything_is_read(
    arguments: list[str],
    facts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test.json").write_text("{}")
    try:
        code = cli.main(["draw", "--annotations", "test.json", *arguments])
    except SystemExit as exit_of_argparse:
        code = int(exit_of_argparse.code or 0)
    assert code == 2
    message = capsys.readouterr().err
    assert [fact for fact in facts if fact not in message] == []
    assert [path.name for path in tmp_path.iterdir()] == ["test.json"]
