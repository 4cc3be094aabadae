from __future__ import annotations

from pathlib import Path

from hkd.coco.images import ImageRecord
from hkd.proposal.image_search import ImageSearch, search_images


def _search(root: Path, names: list[str], files: list[str]) -> ImageSearch:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    images = [ImageRecord(number, name, 10, 20) for number, name in enumerate(names)]
    return search_images(images, root, lambda: files)


def _never() -> list[str]:
    raise AssertionError("the folder was listed")


def test_images_at_their_path_are_found_without_listing_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    images = [ImageRecord(1, "a.png", 10, 20)]
    assert search_images(images, tmp_path, _never) == ImageSearch(tuple(images), 0, (), ())


def test_image_below_the_folder_keeps_the_path_it_states(tmp_path: Path) -> None:
    found = _search(tmp_path, ["city/a.png"], ["left/city/a.png", "right/town/a.png"])
    assert [image.file_name for image in found.images] == ["left/city/a.png"]
    assert (found.num_moved, found.missing, found.ambiguous) == (1, (), ())


def test_stated_folders_that_do_not_exist_are_not_needed(tmp_path: Path) -> None:
    found = _search(tmp_path, ["home/me/photos/a.png", "C/me\\photos\\b.png"], ["a.png", "x/b.png"])
    assert [image.file_name for image in found.images] == ["a.png", "x/b.png"]
    assert found.num_moved == 2


def test_image_that_fits_two_files_equally_well_is_ambiguous(tmp_path: Path) -> None:
    found = _search(tmp_path, ["a.png"], ["x/a.png", "y/a.png"])
    assert found.ambiguous == (("a.png", ("x/a.png", "y/a.png")),)
    assert found.images == ()


def test_file_that_fits_two_images_is_used_for_neither(tmp_path: Path) -> None:
    found = _search(tmp_path, ["x/a.png", "y/a.png", "z/b.png"], ["a.png", "b.png"])
    assert [name for name, _ in found.ambiguous] == ["x/a.png", "y/a.png"]
    assert [image.file_name for image in found.images] == ["b.png"]
    assert found.num_moved == 1


def test_missing_images_are_listed(tmp_path: Path) -> None:
    found = _search(tmp_path, ["a.png", "b.png", "n" * 300 + ".png"], ["b.png"])
    assert found.missing == ("a.png", "n" * 300 + ".png")
    assert [image.file_name for image in found.images] == ["b.png"]
