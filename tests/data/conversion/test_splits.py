from __future__ import annotations

import pytest

from hkd.data.conversion.splits import Split, choose_splits, drop_unusable_boxes


def test_empty_and_outside_boxes_are_dropped() -> None:
    boxes = [
        [0, 0, 1, 1],
        [5, 5, 0, 9],
        [5, 5, 9, -1],
        [5, 5, 1e-300, 9],  # 5 + 1e-300 is 5
        [40, 0, 5, 5],  # starts where the image ends
        [-5, 0, 5, 5],  # ends where the image starts
        [0, 30, 5, 5],
        [-5, 0, 5.5, 5],
    ]
    image = {"id": 1, "file_name": "train.png", "height": 30, "width": 40}
    split = Split("train", [image], [{"image_id": 1, "bbox": box} for box in boxes])
    kept, notes = drop_unusable_boxes(split)
    assert [annotation["bbox"] for annotation in kept.annotations] == [[0, 0, 1, 1], [-5, 0, 5.5, 5]]
    assert [str(note) for note in notes] == [
        "train: dropped 3 of 8 boxes, without area (first: image 'train.png', bbox [5, 5, 0, 9])",
        "train: dropped 3 of 8 boxes, completely outside their image (first: image 'train.png', bbox [40, 0, 5, 5])",
    ]
    assert [(note.kind, note.count, note.split) for note in notes] == [
        ("boxes_without_area", 3, "train"),
        ("boxes_outside_image", 3, "train"),
    ]
    assert drop_unusable_boxes(kept) == (kept, [])


@pytest.mark.parametrize("name", ["", "..", ".a", "a/b", "/a", "a\\b", "a\nb", "a\x9bb", "\udcff", "x" * 101])
def test_splits_that_name_no_file_are_problems(name: str) -> None:
    problems: list[str] = []
    assert choose_splits({name: 1, "a-b_c.2 (é)": 2, "x" * 100: 3}, [], problems) == {"a-b_c.2 (é)": 2, "x" * 100: 3}
    assert len(problems) == 1
    assert "rename" in problems[0]
