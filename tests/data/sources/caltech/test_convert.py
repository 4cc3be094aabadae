"""The Caltech converter."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.caltech.convert import convert
from tests.data.sources.caltech_writers import compressed_seq, encoded, video_object, write_vbb

_PERSON = video_object(1, [100, 50, 20, 60])
_HALF_SEEN = video_object(1, [200, 50, 20, 60], occluded=1, visible=[200, 50, 20, 30])
_HIDDEN = video_object(1, [300, 50, 20, 60], occluded=1)
_CROWD = video_object(2, [400, 50, 80, 60])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos of six frames with people in the third: set05/V001, and set06/V000."""
    root = tmp_path / "caltech"
    frames = [[], [], [_PERSON, _HALF_SEEN, _HIDDEN, _CROWD], [], [], []]
    write_vbb(root / "annotations" / "set06" / "V000.vbb", ["person", "people"], frames)
    write_vbb(root / "annotations" / "set05" / "V001.vbb", ["person"], [[_PERSON]] * 6)
    return root


def _frame(number: int) -> bytes:
    return encoded(np.full((480, 640, 3), 10 * number, dtype=np.uint8), "JPEG")


def _document(path: Path) -> Any:
    return json.loads(path.read_text())


def _names(path: Path) -> list[str]:
    return [image["file_name"] for image in _document(path)["images"]]


def test_annotations_are_converted_without_images(root: Path, tmp_path: Path) -> None:
    summary = convert(root, tmp_path / "out", every=3, annotations_only=True, progress=False)
    assert summary.paths == (tmp_path / "out" / "train.json", tmp_path / "out" / "test.json")
    # Two frames of each video; 2 boxes and 4 boxes, of which the crowd's is ignored.
    assert (summary.images, summary.boxes, summary.ignored) == (4, 6, 1)
    assert summary.ignored_by_label == {"people": 1}
    assert _names(summary.paths[0]) == ["set05_V001_I00002.jpg", "set05_V001_I00005.jpg"]
    test = _document(summary.paths[1])
    assert test["images"] == [
        {"id": 1, "file_name": "set06_V000_I00002.jpg", "height": 480, "width": 640},
        {"id": 2, "file_name": "set06_V000_I00005.jpg", "height": 480, "width": 640},
    ]
    common = {"image_id": 1, "category_id": 1, "iscrowd": 0, "height": 60}
    person = {**common, "ignore": 0, "label": "person"}
    nothing = [0, 0, 0, 0]
    assert test["annotations"] == [
        {**person, "id": 1, "bbox": [100, 50, 20, 60], "vis_bbox": nothing, "vis_ratio": 1, "occluded": 0},
        # 20 x 30 of 20 x 60 pixels are seen.
        {**person, "id": 2, "bbox": [200, 50, 20, 60], "vis_bbox": [200, 50, 20, 30], "vis_ratio": 0.5, "occluded": 1},
        {**person, "id": 3, "bbox": [300, 50, 20, 60], "vis_bbox": nothing, "vis_ratio": 1, "occluded": 1},
        {
            **common,
            "id": 4,
            "bbox": [400, 50, 80, 60],
            "vis_bbox": nothing,
            "vis_ratio": 1,
            "occluded": 0,
            "ignore": 1,
            "label": "people",
        },
    ]


def test_visible_part_counts_only_if_occluded(root: Path, tmp_path: Path) -> None:
    seen = video_object(1, [1, 2, 10, 20], occluded=0, visible=[1, 2, 10, 10])
    beyond = video_object(1, [1, 2, 10, 20], occluded=1, visible=[1, 2, 10, 30])
    write_vbb(root / "annotations" / "set06" / "V000.vbb", ["person"], [[seen, beyond]])
    convert(root, tmp_path / "out", every=1, annotations_only=True, progress=False)
    assert [found["vis_ratio"] for found in _document(tmp_path / "out" / "test.json")["annotations"]] == [1, 1]


def test_extracted_frames_stay_where_they_are(root: Path, tmp_path: Path) -> None:
    for name in ("set05_V001_I00002", "set05_V001_I00005", "set06_V000_I00002", "set06_V000_I00005"):
        path = root / "images" / name[:5] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_frame(1))
    summary = convert(root, tmp_path / "out", every=3, progress=False)
    assert not (tmp_path / "out" / "images").exists()
    read = read_annotations(summary.paths[1])
    assert read.image_root.resolve() == root
    assert [image.file_name for image in read.images] == [
        "images/set06/set06_V000_I00002.jpg",
        "images/set06/set06_V000_I00005.jpg",
    ]


def test_frames_are_collected_from_video_and_folders(root: Path, tmp_path: Path) -> None:
    frames = [_frame(number) for number in range(6)]
    (root / "set06").mkdir()
    (root / "set06" / "V000.seq").write_bytes(compressed_seq(frames, (640, 480)))
    folder = root / "set05" / "V001"
    folder.mkdir(parents=True)
    for number in (2, 5):
        (folder / f"I{number:05d}.jpg").write_bytes(_frame(20 + number))
    for _ in range(2):  # the first output, inside root, does not change the second
        convert(root, root / "converted", every=3, progress=False)
    images = root / "converted" / "images"
    made = {path.name: path.read_bytes() for path in images.iterdir()}
    assert made == {
        "set05_V001_I00002.jpg": _frame(22),
        "set05_V001_I00005.jpg": _frame(25),
        "set06_V000_I00002.jpg": frames[2],
        "set06_V000_I00005.jpg": frames[5],
    }
    assert len(read_annotations(root / "converted" / "test.json").images) == 2


def test_output_folder_differs_from_root(root: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be --out as well as --root; write to another folder"):
        convert(root, root, every=3, annotations_only=True, progress=False)
    assert convert(root, root / "annotations", every=3, annotations_only=True, progress=False).images == 4


@pytest.mark.parametrize("shown", [False, True])
def test_progress_bar_can_be_disabled(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shown: bool
) -> None:
    for name in ("set05/V001", "set06/V000"):
        (root / "annotations" / f"{name}.seq").write_bytes(compressed_seq([_frame(1)] * 6, (640, 480)))
    convert(root, tmp_path / "out", every=3, progress=shown)
    assert ("Checking images of test" in capsys.readouterr().err) == shown


def test_png_video_yields_png_files(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "annotations" / "set05")
    frame = encoded(np.zeros((480, 640, 3), dtype=np.uint8), "PNG")
    (root / "annotations" / "set06" / "V000.seq").write_bytes(compressed_seq([frame] * 6, (640, 480), image_format=2))
    convert(root, tmp_path / "out", every=3, progress=False)
    assert _names(tmp_path / "out" / "test.json") == ["set06_V000_I00002.png", "set06_V000_I00005.png"]
    assert not (tmp_path / "out" / "train.json").exists()


def test_frames_that_are_all_missing_are_reported_by_video(root: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", every=3, progress=False)
    first, second = caught.value.problems
    assert first == (
        "set05/V001: 2 of 2 frames are missing (first: set05_V001_I00002), and there is no set05/V001.seq; add the"
        " video or its frames, or convert the annotations only (--annotations-only)"
    )
    assert second.startswith("set06/V000: 2 of 2 frames are missing")


def test_missing_frames_are_left_out_and_ids_remain(root: Path, tmp_path: Path) -> None:
    frame = root / "set06_V000_I00005.jpg"
    frame.write_bytes(_frame(1))
    with pytest.raises(AnnotationError, match=r"test: 1 of its 2 .*'set06_V000_I00002'.*--skip-missing"):
        convert(root, tmp_path / "out", every=3, progress=False)
    summary = convert(root, tmp_path / "out", every=3, skip_missing=True, progress=False)
    assert [path.name for path in summary.paths] == ["test.json"]
    # The second of the test set's two sampled frames: its id is 2 although the first is missing.
    assert [image["id"] for image in _document(summary.paths[0])["images"]] == [2]
    assert [(note.kind, note.count, note.split) for note in summary.notes] == [
        ("images_missing", 1, "test"),
        ("splits_missing", 1, "train"),
    ]


def test_too_short_video_is_reported(root: Path, tmp_path: Path) -> None:
    (root / "set06").mkdir()
    frames = [_frame(1)] * 5
    (root / "set06" / "V000.seq").write_bytes(compressed_seq(frames, (640, 480)))
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", every=3, progress=False)
    (short,) = caught.value.problems
    assert short == (
        f"{root / 'set06' / 'V000.seq'}: it holds 5 frames, but 1 annotated ones come after them (first: frame 5,"
        " counted from 0); perhaps the file is incomplete: copy it again"
    )
    assert not (tmp_path / "out").exists()


def test_truncated_video_with_all_sampled_frames_is_noted(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "annotations" / "set05")
    path = root / "annotations" / "set06" / "V000.seq"
    path.write_bytes(compressed_seq([_frame(1)] * 6, (640, 480), announced=9))
    summary = convert(root, tmp_path / "out", every=3, progress=False)
    assert summary.changes == (f"{path} announces 9 frames and holds 6",)


def test_damaged_frames_leave_no_annotations(root: Path, tmp_path: Path) -> None:
    frames = [_frame(1)[:-2]] * 6
    for name in ("set05/V001", "set06/V000"):
        (root / "annotations" / f"{name}.seq").write_bytes(compressed_seq(frames, (640, 480)))
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", every=3, progress=False)
    assert len(caught.value.problems) == 4
    assert not (tmp_path / "out").exists()


def test_frames_of_other_size_are_rejected(root: Path, tmp_path: Path) -> None:
    small = encoded(np.zeros((48, 64, 3), dtype=np.uint8), "JPEG")
    for name in ("set05/V001", "set06/V000"):
        (root / "annotations" / f"{name}.seq").write_bytes(compressed_seq([small] * 6, (64, 48)))
    with pytest.raises(AnnotationError, match="is 64 x 48 pixels .* but annotated as 640 x 480"):
        convert(root, tmp_path / "out", every=3, progress=False)
    assert not (tmp_path / "out" / "test.json").exists()


def test_invisible_boxes_are_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    outside = video_object(1, [640, 50, 20, 60])
    write_vbb(root / "annotations" / "set06" / "V000.vbb", ["person"], [[outside, _PERSON]])
    summary = convert(root, tmp_path / "out", every=1, annotations_only=True, progress=False)
    assert len(_document(tmp_path / "out" / "test.json")["annotations"]) == 1
    (sentence,) = summary.changes
    assert sentence.startswith("test: dropped 1 of 2 boxes, completely outside their image")


def test_two_files_of_one_video_are_rejected(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "annotations", root / "again")
    with pytest.raises(AnnotationError, match="are the same video or frame; .* narrower folder") as caught:
        convert(root, tmp_path / "out", annotations_only=True, progress=False)
    assert len(caught.value.problems) == 2


def test_links_to_folders_are_followed_once(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "annotations").symlink_to(root / "annotations")
    (tmp_path / "linked" / "itself").symlink_to(tmp_path / "linked")
    summary = convert(tmp_path / "linked", tmp_path / "out", every=3, annotations_only=True, progress=False)
    assert summary.images == 4


def test_damaged_annotations_are_reported_together(root: Path, tmp_path: Path) -> None:
    for path in root.glob("annotations/*/*.vbb"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AnnotationError) as caught:
        convert(root, tmp_path / "out", annotations_only=True, progress=False)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        str(root / "annotations" / "set05" / "V001.vbb"),
        str(root / "annotations" / "set06" / "V000.vbb"),
    ]
    assert not (tmp_path / "out").exists()


def test_root_without_annotations_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="found no annotation of one in 30 frames; .* setNN/VNNN.vbb"):
        convert(tmp_path / "nowhere", tmp_path / "out", progress=False)
    with pytest.raises(AnnotationError, match=r"setNN_VNNN_INNNNN.txt or new_annotations\*.json"):
        convert(tmp_path, tmp_path / "out", annotations="new", progress=False)
    with pytest.raises(ValueError, match="every is 0; it must be at least 1"):
        convert(tmp_path, tmp_path / "out", every=0)


def test_original_annotations_are_preferred_to_texts(root: Path, tmp_path: Path) -> None:
    (root / "set06_V000_I00029.txt").write_text("% bbGt version=3\n")
    assert convert(root, tmp_path / "out", every=3, annotations_only=True, progress=False).boxes == 6


@pytest.mark.parametrize("name", ["set06/V000/images/I00002.png", "images/SET06/V000/I00002.JPG"])
def test_frames_of_extraction_scripts_are_found(root: Path, tmp_path: Path, name: str) -> None:
    shutil.rmtree(root / "annotations" / "set05")
    frames = [[], [], [_PERSON]]
    write_vbb(root / "annotations" / "set06" / "V000.vbb", ["person"], frames)
    (root / name).parent.mkdir(parents=True)
    kind = "PNG" if name.endswith("png") else "JPEG"
    (root / name).write_bytes(encoded(np.zeros((480, 640, 3), dtype=np.uint8), kind))
    summary = convert(root, tmp_path / "out", every=3, progress=False)
    assert [image.image_id for image in read_annotations(summary.paths[0]).images] == [1]
    assert _names(summary.paths[0]) == [f"set06_V000_I00002.{name[-3:].lower()}"]


def test_upper_case_annotations_are_found_and_hidden_ones_left_out(root: Path, tmp_path: Path) -> None:
    (root / "annotations" / "set06" / "V000.vbb").rename(root / "annotations" / "set06" / "v000.VBB")
    (root / "annotations" / "set05" / "._V001.vbb").write_bytes(b"\0\5\x16\7")
    shutil.copytree(root / "annotations", root / "__MACOSX" / "annotations")
    summary = convert(root, tmp_path / "out", every=3, annotations_only=True, progress=False)
    (note,) = summary.notes
    assert (summary.images, note.kind, note.count) == (4, "files_hidden", 4)


def _benchmarks_count(
    annotations: list[dict[str, Any]], height: tuple[float, float], visibility: tuple[float, float]
) -> int:
    """Boxes that count in an experiment of Dollar's dbEval: filterGt of dbEval.m, written out."""
    counted = 0
    for found in annotations:
        x, y, box_width, box_height = found["bbox"]
        visible = found["vis_bbox"][2] * found["vis_bbox"][3] / (box_width * box_height)
        counted += (
            found["label"] == "person"
            and height[0] <= box_height < height[1]
            and visibility[0] <= (visible if any(found["vis_bbox"]) else math.inf) <= visibility[1]
            and min(x, y) >= 5
            and x + box_width <= 635
            and y + box_height <= 475
        )
    return counted


def test_real_test_set_is_converted(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "caltech" / "annotations"
    if not folder.is_dir():
        pytest.skip(f"no Caltech annotations at {folder}")
    summary = convert(folder, tmp_path, annotations_only=True, progress=False)
    document = _document(tmp_path / "test.json")
    assert len(document["images"]) == 4024
    labels = Counter(found["label"] for found in document["annotations"])
    assert labels == {"person": 4401, "people": 484, "person?": 166, "person-fa": 91}
    assert summary.ignored == 484 + 166 + 91
    # The reference evaluation's counts, from the README of the data.
    unoccluded = math.inf, math.inf
    for height, visibility, count in (
        ((50, math.inf), (0.65, math.inf), 1014),
        ((20, math.inf), (0.2, math.inf), 3292),
        ((100, math.inf), unoccluded, 176),
        ((80, math.inf), unoccluded, 314),
        ((30, 80), unoccluded, 1542),
        ((50, math.inf), unoccluded, 911),
        ((50, math.inf), (0.65, 1), 102),
        ((50, math.inf), (0.2, 0.65), 273),
    ):
        assert _benchmarks_count(document["annotations"], height, visibility) == count
    # AcfCaltechPlus.txt numbers its images by set, video and frame: ours must have the same order.
    names = _names(tmp_path / "test.json")
    assert names == sorted(names)
    assert (names[0], names[-1][:5]) == ("set06_V000_I00029.jpg", "set10")


def test_real_frames_are_used_in_place(shared_data: Path, tmp_path: Path) -> None:
    caltech = shared_data / "caltech"
    if not (caltech / "frames" / "set07_V004").is_dir():
        pytest.skip(f"no frames in {caltech}")
    (tmp_path / "set07").mkdir()
    (tmp_path / "set07" / "V004.vbb").symlink_to(caltech / "annotations" / "set07" / "V004.vbb")
    (tmp_path / "frames").symlink_to(caltech / "frames")
    summary = convert(tmp_path, tmp_path / "out", progress=False)
    # 1,977 frames: the 30th, 60th ... 1,950th.
    assert (summary.images, summary.boxes, summary.ignored) == (65, 77, 5)
    assert read_annotations(tmp_path / "out" / "test.json").images[-1].file_name.endswith("set07_V004_I01949.jpg")
    with Image.open(tmp_path / "frames" / "set07_V004" / "set07_V004_I00029.jpg") as image:
        assert image.size == (640, 480)
