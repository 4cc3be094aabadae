"""The Caltech converter on annotations of single frames: texts, and the new annotations as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.caltech.convert import convert


def _document(path: Path) -> Any:
    return json.loads(path.read_text())


def _names(path: Path) -> list[str]:
    return [image["file_name"] for image in _document(path)["images"]]


_TEXT = "% bbGt version=3\nperson 10 20 30 60 1 10 20 30 15 0 0\nperson 100 20 30 60 0 0 0 0 0 1 0\n"


def test_new_annotations_are_read_from_text(tmp_path: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    (root / "set05_V000_I00029.txt").write_text("% bbGt version=3\n")
    (root / "set06_V000_I00029.jpg.txt").write_text(_TEXT)
    (root / "set06_V000_I00031.jpg.txt").write_text(_TEXT)
    summary = convert(root, tmp_path / "out", annotations="new", annotations_only=True, progress=False)
    assert summary.changes == ("dropped 1 annotated frames: not one in 30, or of sets beyond 10",)
    assert _names(summary.paths[0]) == ["set05_V000_I00029.jpg"]
    found = _document(summary.paths[1])["annotations"]
    # 30 x 15 of 30 x 60 pixels; the second is flagged to be ignored.
    assert [(one["vis_ratio"], one["ignore"], one["label"]) for one in found] == [
        (0.25, 0, "person"),
        (1, 1, "person"),
    ]


@pytest.mark.parametrize("annotations", ["original", "new"])
@pytest.mark.parametrize(
    "name", ["annotations/set06/V000/I00029.txt", "set06/V000/annotations/I00029.txt", "SET06/v000/i00029.TXT"]
)
def test_texts_in_folders_of_videos_are_read(tmp_path: Path, name: str, annotations: Any) -> None:
    root = tmp_path / "extracted"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_bytes(b"\xef\xbb\xbf" + _TEXT.encode())
    # Detections of a frame are text as well, and no annotations.
    (root / "res" / "set06" / "V000").mkdir(parents=True)
    (root / "res" / "set06" / "V000" / "I00029.txt").write_text("100,100,41,100,0.9\n")
    summary = convert(root, tmp_path / "out", annotations=annotations, annotations_only=True, progress=False)
    assert _names(summary.paths[0]) == ["set06_V000_I00029.jpg"]
    # As in the test above: 30 x 15 of 30 x 60 pixels.
    assert [one["vis_ratio"] for one in _document(summary.paths[0])["annotations"]] == [0.25, 1]
    assert [note.kind for note in summary.notes] == (["other"] if annotations == "original" else [])


def test_folder_of_detections_is_named_as_such(tmp_path: Path) -> None:
    root = tmp_path / "res"
    (root / "set06" / "V000").mkdir(parents=True)
    (root / "set06" / "V000" / "I00029.txt").write_text("100,100,41,100,0.9\n")
    with pytest.raises(AnnotationError, match="1 texts of frames .*I00029.txt.*hkd evaluate --detections"):
        convert(root, tmp_path / "out", annotations_only=True, progress=False)


def test_new_annotations_are_read_from_json(tmp_path: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    boxes = [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": False, "bbox": [1, 2, 3, 4], "height": 480, "width": 640},
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": True, "bbox": [5, 6, 7, 8], "height": 480, "width": 640},
    ]
    document = {
        "images": [{"id": 1, "file_name": "set06_V000_I00029.jpg", "height": 480, "width": 640}],
        "categories": [{"id": 1, "name": "pedestrain"}],
        "annotations": boxes,
    }
    (root / "new_annotations_test.json").write_text(json.dumps(document))
    summary = convert(root, tmp_path / "out", annotations="new", annotations_only=True, progress=False)
    (sentence,) = summary.changes
    assert sentence.startswith(f"{root / 'new_annotations_test.json'}: ")
    assert "occlusions" in sentence
    assert "all 2 boxes" in sentence
    found = _document(tmp_path / "out" / "test.json")["annotations"]
    # Fields that the file does not have are dropped: zeros would mean completely visible.
    assert [set(one) & {"vis_bbox", "occluded"} for one in found] == [set(), set()]
    assert [one["vis_ratio"] for one in found] == [1, 1]
    # The height is the box's, not that of the image, which the file gives.
    assert [(one["bbox"], one["height"], one["ignore"], one["label"]) for one in found] == [
        ([1, 2, 3, 4], 4, 0, "person"),
        ([5, 6, 7, 8], 8, 1, "ignore"),
    ]
    document["images"][0]["file_name"] = "set06_V000_I000291.jpg"
    (root / "new_annotations_test.json").write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="'set06_V000_I000291.jpg' does not name a frame"):
        convert(root, tmp_path / "out", annotations="new", annotations_only=True, progress=False)
    document["images"][0]["file_name"] = "set06_V000_I00029.jpg"
    (root / "new_annotations_test.json").write_text(json.dumps(document))
    (root / "set06_V000_I00029.txt").write_text(_TEXT)
    with pytest.raises(AnnotationError, match="set06_V000_I00029 is annotated twice"):
        convert(root, tmp_path / "out", annotations="new", annotations_only=True, progress=False)


def test_real_new_annotations_are_converted(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "caltech" / "new_annotations_test.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    (tmp_path / "new").mkdir()
    shutil.copy(path, tmp_path / "new")
    summary = convert(tmp_path / "new", tmp_path / "out", annotations="new", annotations_only=True, progress=False)
    theirs = _document(path)
    assert (summary.images, summary.boxes, summary.ignored) == (4024, 7596, 4058)
    assert _names(tmp_path / "out" / "test.json") == [image["file_name"] for image in theirs["images"]]
    ours = _document(tmp_path / "out" / "test.json")["annotations"]
    assert [one["bbox"] for one in ours] == [one["bbox"] for one in theirs["annotations"]]
