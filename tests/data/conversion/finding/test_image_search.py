from __future__ import annotations

from pathlib import Path

import pytest

from hkd.data.conversion.finding.image_search import locate_images


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _located(root: Path, *names: str, search: bool = True, split: str = "all") -> list[str | None]:
    return locate_images(root, root / "result.json", split, names, search_names=search).paths


@pytest.mark.parametrize(
    ("stated", "file"),
    [
        ("b.jpg", "images/b.jpg"),
        ("images\\b.jpg", "images/b.jpg"),
        ("./images/b.jpg", "images/b.jpg"),
        ("../images/b.jpg", "images/b.jpg"),
        ("a%20b.jpg", "images/a b.jpg"),
        ("100%.jpg", "images/100%.jpg"),
        # Label Studio: issues 7294 and 4903, and 139 of its converter.
        ("..\\..\\label-studio\\label-studio\\media\\upload\\4\\cb0618f6-b.png", "images/cb0618f6-b.png"),
        ("/data/upload/1/cb0618f6-b.png", "images/cb0618f6-b.png"),
        ("images\\1/cb0618f6-b.png", "images/cb0618f6-b.png"),
        ("/data/local-files/?d=street%20one/b.jpg", "street one/b.jpg"),
        ("s3://bucket/street/b.jpg", "street/b.jpg"),
        ("https://host.org/street/b%20c.jpg?signature=1", "street/b c.jpg"),
        ("Z\u00fcrich/b.jpg", "Zu\u0308rich/b.jpg"),  # macOS decomposes accented letters
        ("C:\\Users\\me\\B.JPG", "photos/b.jpg"),
        ("cb0618f6-b.jpg", "photos/b.jpg"),  # exported without images, which are named as before the upload
    ],
)
def test_images_are_found_however_they_are_stated(tmp_path: Path, stated: str, file: str) -> None:
    _touch(tmp_path, file)
    assert _located(tmp_path, stated) == [file]


@pytest.mark.parametrize("folder", ["all", "images/all", "all/images", "all/data", "images", "data", "data/all", "."])
def test_images_are_found_in_each_folder(tmp_path: Path, folder: str) -> None:
    _touch(tmp_path, f"{folder}/a.jpg", f"{folder}/b.jpg")
    prefix = "" if folder == "." else f"{folder}/"
    assert _located(tmp_path, "a.jpg", "b.jpg", search=False) == [f"{prefix}a.jpg", f"{prefix}b.jpg"]


def test_folder_with_most_images_is_used_whichever_is_missing(tmp_path: Path) -> None:
    _touch(tmp_path, "all/b.jpg", "images/b.jpg", "images/c.jpg")
    assert _located(tmp_path, "a.jpg", "b.jpg", "c.jpg") == [None, "images/b.jpg", "images/c.jpg"]


def test_images_of_other_folders_are_found_beside_those_of_one_folder(tmp_path: Path) -> None:
    # X-AnyLabeling, issue 700: some images are stated relative to another folder.
    _touch(tmp_path, "10.jpg", "12.jpg", "more/13.jpg")
    assert _located(tmp_path, "10.jpg", "..\\label\\12.jpg", "x/13.jpg") == ["10.jpg", "12.jpg", "more/13.jpg"]


def test_unclear_names_are_not_found(tmp_path: Path) -> None:
    _touch(tmp_path, "day/a.jpg", "night/a.jpg", "day/b.jpg")
    # a.jpg is in two folders, of which only the second statement names one; b.jpg is stated twice.
    assert _located(tmp_path, "x/a.jpg", "x/night/a.jpg", "x/b.jpg", "y/b.jpg") == [None, "night/a.jpg", None, None]


def test_names_are_searched_only_where_no_other_split_could_own_the_files(tmp_path: Path) -> None:
    _touch(tmp_path, "val2017/a.jpg")
    assert _located(tmp_path, "a.jpg", search=False, split="train2017") == [None]


def test_nothing_outside_the_folder_and_nothing_hidden_is_found(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _touch(tmp_path, "secret/a.jpg", "set/.cache/a.jpg", "set/._a.jpg", "set/readme.txt")
    assert _located(root, "../secret/a.jpg", str(tmp_path / "secret/a.jpg"), "a\0.jpg", "a" * 300) == [None] * 4
