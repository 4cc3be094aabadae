"""Which images of a folder in YOLO's layout are for training, validation and test."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hkd.coco.annotations import read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.sources.yolo.convert import convert
from tests.data.sources.yolo.street import configure, problem_of, write_image


@pytest.mark.parametrize(
    "train",
    [
        "images/train",
        "images/train/",
        "../images/train",
        ["images/train"],
        "train.txt",
        ["images/train/night", "a.txt"],
    ],
)
def test_split_is_folder_or_list_of_images_or_several(root: Path, tmp_path: Path, train: str | list[str]) -> None:
    (root / "train.txt").write_text("./images/train/a.jpg\n\nimages/train/night/b.png\n")
    (root / "a.txt").write_text("images/train/a.jpg\n")
    configure(root, train=train)
    summary = convert(root, tmp_path / "out", progress=False)
    assert [image.file_name for image in read_annotations(summary.paths[0]).images] == [
        "images/train/a.jpg",
        "images/train/night/b.png",
    ]


def test_exported_layout_has_images_below_the_split(tmp_path: Path) -> None:
    root = tmp_path / "export"
    write_image(root / "train/images/a.jpg", "2 0.617 0.359 0.114 0.174")
    write_image(root / "valid/images/b.jpg", "2 0.5 0.5 0.2 0.2")
    config = {"train": "../train/images", "val": "../valid/images", "nc": 3, "names": ["head", "helmet", "person"]}
    (root / "data.yaml").write_text(yaml.safe_dump(config))
    assert convert(root, tmp_path / "out", progress=False).boxes == 2


def test_test_split_without_labels_is_left_out_and_named(root: Path, tmp_path: Path) -> None:
    write_image(root / "images/test/d.jpg", None)
    configure(root, test="images/test")
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
    (note,) = [note for note in summary.notes if note.kind == "splits_missing"]
    assert (note.split, "labels/test/d.txt" in note.sentence) == ("test", True)


def test_split_without_any_label_file_is_refused(root: Path) -> None:
    (root / "labels/val/c.txt").unlink()
    sentence = problem_of(root)
    assert "none of its 1 images has a label file" in sentence
    assert "labels/val/c.txt" in sentence
    assert "--split" in sentence


@pytest.mark.parametrize("entry", ["../valid/images", "images/empty", "gone.txt", "lost.txt"])
def test_validation_split_that_was_not_exported_is_left_out_and_named(root: Path, tmp_path: Path, entry: str) -> None:
    (root / "images/empty").mkdir()
    (root / "lost.txt").write_text("images/x.jpg\n")
    configure(root, val=entry)
    summary = convert(root, tmp_path / "out", progress=False)
    assert [path.name for path in summary.paths] == ["train.json"]
    (note,) = [note for note in summary.notes if note.kind == "splits_missing"]
    assert note.split == "validation"
    assert entry in note.sentence
    # Chosen, it is an error.
    with pytest.raises(AnnotationError, match="validation|lost.txt"):
        convert(root, tmp_path / "out2", chosen_splits=["validation"], progress=False)


def test_paths_of_another_machine_are_found_by_their_ends(root: Path, tmp_path: Path) -> None:
    (root / "train.txt").write_text("/home/me/street/images/train/a.jpg\nC:\\street\\images\\train\\night\\b.png\n")
    configure(root, path="/content/drive/street", train="/content/drive/street/train.txt")
    summary = convert(root, tmp_path / "out", progress=False)
    assert summary.images == 3
    (note,) = [note for note in summary.notes if note.kind == "images_found_elsewhere" and note.split == "train"]
    assert note.count == 3


def test_end_of_a_path_that_fits_two_lines_is_not_used(root: Path) -> None:
    (root / "train.txt").write_text("/day/images/train/a.jpg\n/night/images/train/a.jpg\n")
    configure(root, train="train.txt")
    assert "train.txt: 1 of 2 lines name no image" in problem_of(root)


def test_chosen_splits_alone_are_read(root: Path, tmp_path: Path) -> None:
    (root / "labels/val/c.txt").write_text("no label")
    summary = convert(root, tmp_path / "out", chosen_splits=["train"], progress=False)
    assert [path.name for path in summary.paths] == ["train.json"]
    with pytest.raises(AnnotationError, match=r"there is no split val \(--split\); there are: train, validation"):
        convert(root, tmp_path / "out2", chosen_splits=["val"], progress=False)


def test_only_split_is_divided_at_random(tmp_path: Path) -> None:
    root = tmp_path / "street"
    for number in range(6):
        write_image(root / f"images/{number}.jpg", "0 0.5 0.5 0.1 0.1")
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images", "names": ["person"]}))
    names: list[set[str]] = []
    for seed in (3, 3, 4):
        out = tmp_path / f"out{len(names)}"
        summary = convert(root, out, validation_images=2, seed=seed, progress=False)
        train, validation = ({image.file_name for image in read_annotations(path).images} for path in summary.paths)
        assert (len(train), len(validation), len(train & validation)) == (4, 2, 0)
        assert [path.name for path in summary.paths] == ["train.json", "validation.json"]
        names.append(validation)
    assert names[0] == names[1]
    assert names[0] != names[2]


def test_images_in_two_splits_are_reported(root: Path, tmp_path: Path) -> None:
    configure(root, val="images/train")
    summary = convert(root, tmp_path / "out", progress=False)
    (note,) = [note for note in summary.notes if note.kind == "images_in_both_splits"]
    assert note.count == 2
