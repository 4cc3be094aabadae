"""The converter of the INRIA Person data set, on made-up files as its distribution has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.inria.convert import convert

Corners = tuple[int, int, int, int]
SIZE = (90, 60)
_CORNERS = "(Xmin, Ymin) - (Xmax, Ymax)"


def _text(name: str, boxes: Sequence[Corners], first_pixel: int | None = 0, size: tuple[int, int] = SIZE) -> str:
    """A file as the distribution's, with its blank lines, comments and head centres."""
    folder = "Test" if name.startswith("Test") else "Train"
    people = " ".join(['"PASperson"'] * len(boxes))
    lines = [
        "# PASCAL Annotation Version 1.00",
        "",
        f'Image filename : "{folder}/pos/{Path(name).name}"',
        f"Image size (X x Y x C) : {size[0]} x {size[1]} x 3",
        'Database : "The INRIA Rhône-Alpes Annotated Person Database"',
        f"Objects with ground truth : {len(boxes)} {{ {people} }}",
        "",
        "# Note that there might be other objects in the image",
        "# for which ground truth data has not been provided.",
        "",
    ]
    if first_pixel is not None:
        lines += [f"# Top left pixel co-ordinates : ({first_pixel}, {first_pixel})", ""]
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        lines += [
            f'# Details for object {number} ("PASperson")',
            "# Center point -- not available in other PASCAL databases -- refers",
            "# to person head center",
            f'Original label for object {number} "PASperson" : "UprightPerson"',
            f'Center point on object {number} "PASperson" (X, Y) : ({(left + right) // 2}, {top})',
            f'Bounding box for object {number} "PASperson" {_CORNERS} : ({left}, {top}) - ({right}, {bottom})',
            "",
        ]
    return "\n".join(lines)


def _add(root: Path, split: str, name: str, boxes: Sequence[Corners], **options: Any) -> Path:
    """Write an image and its annotation file; returns the latter."""
    for folder in ("annotations", "pos"):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE).save(root / split / "pos" / name)
    path = root / split / "annotations" / f"{Path(name).stem}.txt"
    path.write_bytes(_text(f"{split}/{name}", boxes, **options).encode("latin-1"))
    return path


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """Two training, one validation and one test photograph; the numbers of crop001103 to 1150 are for validation."""
    root = tmp_path / "INRIAPerson"
    _add(root, "Train", "crop001102.png", [(10, 5, 29, 54)])
    _add(root, "Train", "crop001103.png", [(0, 0, 19, 39), (30, 10, 49, 59)])
    _add(root, "Train", "person_044.png", [(1, 2, 10, 20)])
    _add(root, "Test", "crop001501.png", [(5, 5, 24, 54)])
    return root


def _read(summary_paths: Sequence[Path]) -> dict[str, Annotations]:
    return {path.stem: read_annotations(path) for path in summary_paths}


def test_corners_count_from_the_stated_first_pixel(distribution: Path, tmp_path: Path) -> None:
    _add(distribution, "Train", "person_050.png", [(1, 1, 20, 40)], first_pixel=1)
    _add(distribution, "Train", "person_060.png", [(1, 1, 20, 40)], first_pixel=None)
    summary = convert(distribution, tmp_path / "out", progress=False)
    read = _read(summary.paths)
    # From (0, 0): columns 0..19 and rows 0..39 are 20 x 40 pixels; columns 30..49, rows 10..59 are 20 x 50.
    assert read["validation"].boxes_of(0).tolist() == [[0, 0, 20, 40], [30, 10, 20, 50]]
    by_name = {image.file_name: index for index, image in enumerate(read["train"].images)}
    # From (1, 1), also if nothing is stated: column 1 is the first.
    for name in ("person_050", "person_060"):
        assert read["train"].boxes_of(by_name[f"Train/pos/{name}.png"]).tolist() == [[0, 0, 20, 40]]
    (note,) = [note for note in summary.notes if note.kind == "corners_interpreted" and note.split == "train"]
    assert note.count == 3  # of the training files, without the two above


def test_scenes_for_validation_are_divided_from_the_official_training_photographs(
    distribution: Path, tmp_path: Path
) -> None:
    summary = convert(distribution, tmp_path / "out", progress=False)
    names = {split: [image.file_name for image in read.images] for split, read in _read(summary.paths).items()}
    assert names == {
        "train": ["Train/pos/crop001102.png", "Train/pos/person_044.png"],
        "validation": ["Train/pos/crop001103.png"],
        "test": ["Test/pos/crop001501.png"],
    }
    (note,) = [note for note in summary.notes if note.kind == "validation_sequences"]
    assert note.count == 1


def test_image_ids_are_unique_across_splits(distribution: Path, tmp_path: Path) -> None:
    ids = [
        image.image_id
        for read in _read(convert(distribution, tmp_path / "out", progress=False).paths).values()
        for image in read.images
    ]
    assert sorted(ids) == [1, 2, 3, 4]


def test_boxes_outside_their_image_are_dropped_or_clipped_and_counted(distribution: Path, tmp_path: Path) -> None:
    boxes = [(-5, 10, 14, 49), (90, 0, 99, 50), (20, 20, 19, 50)]
    _add(distribution, "Train", "person_101.png", boxes)
    summary = convert(distribution, tmp_path / "out", progress=False)
    # Columns -5..14 of 90: clipped to 0..14. Column 90 is the first beyond the image. 20..19 is empty.
    train = _read(summary.paths)["train"]
    assert train.boxes_of(2).tolist() == [[0, 10, 15, 40]]
    kinds = {note.kind: note.count for note in summary.notes if note.split == "train"}
    assert {kind: kinds[kind] for kind in ("boxes_clipped", "boxes_outside_image", "boxes_without_area")} == {
        "boxes_clipped": 1,
        "boxes_outside_image": 1,
        "boxes_without_area": 1,
    }


def test_photographs_without_people_are_left_out_or_read_without_boxes(distribution: Path, tmp_path: Path) -> None:
    for split, name in (("Train", "00001.png"), ("Train", "00002.jpg"), ("Test", "00003.png")):
        (distribution / split / "neg").mkdir(exist_ok=True)
        Image.new("RGB", (32, 16)).save(distribution / split / "neg" / name)
    without = convert(distribution, tmp_path / "without", progress=False)
    assert without.images == 4
    assert {note.split: note.count for note in without.notes if note.kind == "images_excluded"} == {
        "train": 2,
        "test": 1,
    }
    summary = convert(distribution, tmp_path / "with", with_negatives=True, progress=False)
    assert {split.name: (split.images, split.images_without_boxes) for split in summary.splits} == {
        "train": (4, 2),
        "validation": (1, 0),
        "test": (2, 1),
    }
    assert not [note for note in summary.notes if note.kind == "images_excluded"]


def test_photograph_without_annotation_file_is_left_out_and_counted(distribution: Path, tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(distribution / "Train" / "pos" / "person_300.png")
    summary = convert(distribution, tmp_path / "out", progress=False)
    (note,) = [note for note in summary.notes if note.kind == "images_excluded"]
    assert (note.count, note.examples) == (1, ("Train/pos/person_300.png",))
    assert summary.images == 4


def test_image_with_another_ending_is_found_and_counted(distribution: Path, tmp_path: Path) -> None:
    stated = distribution / "Train" / "pos" / "person_044.png"
    Image.open(stated).save(stated.with_suffix(".jpg"))
    stated.unlink()
    summary = convert(distribution, tmp_path / "out", progress=False)
    assert "Train/pos/person_044.jpg" in [image.file_name for image in _read(summary.paths)["train"].images]
    (note,) = [note for note in summary.notes if note.kind == "images_found_elsewhere"]
    assert note.count == 1


def test_missing_image_is_an_error_unless_skipped(distribution: Path, tmp_path: Path) -> None:
    (distribution / "Train" / "pos" / "person_044.png").unlink()
    with pytest.raises(AnnotationError, match=r"person_044\.png.*--skip-missing"):
        convert(distribution, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    summary = convert(distribution, tmp_path / "out", skip_missing=True, progress=False)
    assert summary.images == 3


def test_missing_part_is_noted(distribution: Path, tmp_path: Path) -> None:
    for path in (distribution / "Test" / "annotations").iterdir():
        path.unlink()
    summary = convert(distribution, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    (note,) = [note for note in summary.notes if note.kind == "splits_missing"]
    assert note.split == "test"


def test_files_that_the_list_names_and_that_are_missing_are_counted(distribution: Path, tmp_path: Path) -> None:
    listed = ["crop001102", "crop001103", "person_044", "person_777"]
    text = "".join(f"Train/annotations/{name}.txt\n" for name in listed)
    (distribution / "Train" / "annotations.lst").write_text(text)
    summary = convert(distribution, tmp_path / "out", progress=False)
    (note,) = [note for note in summary.notes if note.kind == "files_missing"]
    assert (note.count, note.examples, note.split) == (1, ("person_777.txt",), "train")


def test_training_photographs_without_those_for_validation_are_an_error(distribution: Path, tmp_path: Path) -> None:
    (distribution / "Train" / "annotations" / "crop001103.txt").unlink()
    with pytest.raises(AnnotationError, match=r"none of the 2 training photographs .*crop001103 to crop001150"):
        convert(distribution, tmp_path / "out", progress=False)


def test_problems_of_all_files_are_reported_together(distribution: Path, tmp_path: Path) -> None:
    broken = {
        "Train/annotations/crop001102.txt": ("(10, 5) - (29", "(10, 5) - (x", "line 18"),
        "Train/annotations/person_044.txt": ("truth : 1", "truth : 2", "line 6: 2 objects announced, 1 boxes found"),
        "Test/annotations/crop001501.txt": ("(0, 0)", "(7, 0)", "line 11"),
    }
    for name, (old, new, _) in broken.items():
        text = (distribution / name).read_text(encoding="latin-1")
        assert text.count(old) == 1
        (distribution / name).write_text(text.replace(old, new), encoding="latin-1")
    with pytest.raises(AnnotationError) as caught:
        convert(distribution, tmp_path / "out", progress=False)
    assert len(caught.value.problems) == len(broken)
    for name, (_, _, place) in broken.items():
        assert any(problem.startswith(name) and place in problem for problem in caught.value.problems)


def test_folder_without_the_data_set_names_the_one_below(distribution: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"'INRIAPerson' below it has; name that folder"):
        convert(distribution.parent, tmp_path / "out", progress=False)


def _own_format(root: Path, boxes: dict[str, Sequence[dict[str, object]]], ids: dict[str, int]) -> None:
    for split in ("train", "test"):
        names = [name for name in boxes if name.startswith(split)]
        images = [{"id": ids[name], "file_name": name, "height": SIZE[1], "width": SIZE[0]} for name in names]
        rows = [{"image_id": ids[name], "category_id": 1, **box} for name in names for box in boxes[name]]
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE).save(root / name)
        (root / f"{split}.json").write_text(json.dumps({"images": images, "annotations": rows}))


def test_own_format_is_divided_in_the_same_way(tmp_path: Path) -> None:
    ids = {"train/person_280.jpg": 7, "train/person_281.jpg": 8, "test/person_282.jpg": 7}
    box: dict[str, object] = {"bbox": [3, 4, 20, 40]}
    ignored: dict[str, object] = {"bbox": [50, 4, 20, 40], "ignore": 1}
    _own_format(tmp_path / "root", {name: [box, ignored] for name in ids}, ids)
    read = _read(convert(tmp_path / "root", tmp_path / "out", progress=False).paths)
    assert {split: [(image.image_id, image.file_name) for image in part.images] for split, part in read.items()} == {
        "train": [(7, "train/person_280.jpg")],
        "validation": [(8, "train/person_281.jpg")],
        "test": [(7, "test/person_282.jpg")],
    }
    for part in read.values():
        assert part.boxes_xywh.tolist() == [[3, 4, 20, 40], [50, 4, 20, 40]]
        assert part.ignore.tolist() == [False, True]


def test_own_format_is_not_overwritten(tmp_path: Path) -> None:
    ids = {"train/person_280.jpg": 1, "train/person_281.jpg": 2, "test/person_282.jpg": 3}
    _own_format(tmp_path, {name: [] for name in ids}, ids)
    before = (tmp_path / "train.json").read_bytes()
    with pytest.raises(AnnotationError, match=r"train\.json would be overwritten .*--out"):
        convert(tmp_path, tmp_path, progress=False)
    assert (tmp_path / "train.json").read_bytes() == before


def test_files_written_from_real_boxes_give_these_boxes(shared_data: Path, tmp_path: Path) -> None:
    """A distribution whose text files are written from official boxes, around black images of the same sizes."""
    if not (shared_data / "inria").is_dir():
        pytest.skip(f"no INRIA photographs at {shared_data / 'inria'}")
    root = tmp_path / "root"
    expected: dict[str, list[list[float]]] = {}
    for split, folder in (("train", "Train"), ("test", "Test")):
        annotations = read_annotations(shared_data / "inria" / f"{split}.json", check_images=False)
        for index in range(0, len(annotations.images), 60):
            image = annotations.images[index]
            of_image = (annotations.image_index == index) & ~annotations.ignore
            boxes = annotations.boxes_xywh[of_image].astype(int).tolist()
            corners = [(x + 1, y + 1, x + width, y + height) for x, y, width, height in boxes]
            path = _add(root, folder, Path(image.file_name).name, corners, first_pixel=1)
            size = (image.width, image.height)
            Image.new("L", size).save(root / folder / "pos" / Path(image.file_name).name)
            name = f"{folder}/{Path(image.file_name).name}"
            path.write_text(_text(name, corners, 1, size), encoding="latin-1")
            expected[f"{folder}/pos/{Path(name).name}"] = boxes
    read = _read(convert(root, tmp_path / "out", progress=False).paths)
    found = {
        image.file_name: part.boxes_of(index).tolist()
        for part in read.values()
        for index, image in enumerate(part.images)
    }
    assert found == expected
    assert sum(map(len, expected.values())) > 20
