from __future__ import annotations

from pathlib import Path

from hkd.data.conversion.finding.missing_images import leave_out_missing_images
from hkd.data.conversion.splits import Split


def _split(name: str, *file_names: str) -> Split:
    images = [{"id": 10 + i, "file_name": file_name, "height": 1, "width": 1} for i, file_name in enumerate(file_names)]
    boxes = [{"image_id": image["id"], "bbox": [0, 0, 1, 1]} for image in images]
    return Split(name, images, boxes)


def test_images_without_file_are_left_out_with_their_boxes(tmp_path: Path) -> None:
    (tmp_path / "b.png").touch()
    (tmp_path / "folder.png").mkdir()
    split = _split("train", "a.png", "b.png", "folder.png", "x" * 300, "a\0")
    problems: list[str] = []
    (kept, *others), (partial, gone) = leave_out_missing_images(
        [split, _split("val", "c.png")], tmp_path, True, problems
    )
    assert ([image["id"] for image in kept.images], kept.annotations) == ([11], [split.annotations[1]])
    assert (others, problems) == ([], [])
    assert (partial.kind, partial.count, partial.split) == ("images_missing", 4, "train")
    assert "left out 4 of 5 images" in partial.sentence
    assert "a.png" in partial.sentence
    assert (gone.kind, gone.count, gone.split) == ("splits_missing", 1, "val")


def test_complete_splits_do_not_change(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    split = _split("train", "a.png")
    assert leave_out_missing_images([split], tmp_path, False, []) == ([split], [])


def test_no_image_at_all_is_a_problem(tmp_path: Path) -> None:
    problems: list[str] = []
    leave_out_missing_images([_split("train", "a.png", "b.png")], tmp_path, False, problems)
    assert problems == [f"none of the 2 annotated images is in '{tmp_path}' (first: a.png); put them there"]


def test_names_that_leave_the_folder_remain_for_the_checks(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    split = _split("train", "a.png", "../a.png")
    assert leave_out_missing_images([split], tmp_path, False, []) == ([split], [])


def test_some_missing_images_are_a_problem_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    problems: list[str] = []
    leave_out_missing_images([_split("train", "a.png", *(f"{i}.png" for i in range(5)))], tmp_path, False, problems)
    (problem,) = problems
    for fact in ("train: 5 of its 6 images", "'0.png', '1.png', '2.png' and 2 more", "--skip-missing"):
        assert fact in problem
