from __future__ import annotations

from pathlib import Path

import pytest

from hkd.data.sources.coco_folder.layout import find_annotation_files


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["annotations/instances_val2017.json", "annotations/captions_val2017.json"], {"val2017"}),
        (["annotations/person_keypoints_val2017.json"], {"val2017"}),
        (["annotations/instances_default.json"], {"default"}),
        (["annotations/street.json", "annotations/._street.json"], {"street"}),
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], {"train", "valid"}),
        (["train/labels.json", "test/labels.json"], {"train", "test"}),
        (["result.json"], {"all"}),
        (["labels.json"], {"all"}),
        (["_annotations.coco.json"], {"all"}),
        (["train.json", "val.json"], {"train", "val"}),
        (["instances_train.json"], {"train"}),
        (["annotations/captions_val2017.json"], set()),
        (["readme.txt"], set()),
    ],
)
def test_annotation_files_of_each_layout_are_found(tmp_path: Path, files: list[str], expected: set[str]) -> None:
    _touch(tmp_path, *files)
    assert {file.split for file in find_annotation_files(tmp_path)} == expected
