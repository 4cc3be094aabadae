"""Which files of a folder are images of the data set."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from hkd.image_files.listing import image_files, is_file, is_hidden


@pytest.mark.parametrize(
    "path",
    [
        ".ipynb_checkpoints/a-checkpoint.jpg",
        "train/._a.jpg",
        "Thumbs.db",
        "train/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/train/a.jpg",
        ".Trash-1000/files/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        ".a.jpg",
    ],
)
def test_hidden_paths(path: str) -> None:
    assert is_hidden(PurePath(path))


@pytest.mark.parametrize("path", ["a.jpg", "a.b.jpg", "train/0001.jpg", "./a.jpg", "../a.jpg", "thumbs/a.jpg"])
def test_other_paths_are_not_hidden(path: str) -> None:
    assert not is_hidden(PurePath(path))


def test_images_are_listed_in_order_without_hidden_ones(tmp_path: Path) -> None:
    # The folder's own place may be hidden.
    root = tmp_path / ".data"
    for name in ("b.JPG", "a.png", "sub/c.webp", "._a.png", "sub/@eaDir/c.png", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    found = image_files(root)
    assert [path.relative_to(root).as_posix() for path in found.kept] == ["a.png", "b.JPG", "sub/c.webp"]
    assert [path.relative_to(root).as_posix() for path in found.hidden] == ["._a.png", "sub/@eaDir/c.png"]


def test_names_that_no_file_can_have_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert is_file(tmp_path / "a.jpg")
    # Path.is_file raises for a name of more than 255 bytes.
    assert not any(map(is_file, (tmp_path, tmp_path / "b.jpg", tmp_path / ("a" * 5000), tmp_path / "a\0.jpg")))
