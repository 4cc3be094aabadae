from __future__ import annotations

import numpy as np
import pytest

from hkd.proposal.split import plan_split, sequence_of


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("set00_V000_I00029.jpg", "set00_V000"),
        ("frames/set07/V004/I00539.jpg", "frames/set07/V004"),
        ("aachen_000000_000019.png", "aachen_000000"),
        ("train/aachen/aachen_000173_000019_leftImg8bit.png", "train/aachen/aachen_000173"),
        ("walk/frame_0001.jpg", "walk"),
        ("walk_frame12.png", "walk"),
        ("frame000012.PNG", ""),
        ("mall_mp4-12_jpg.rf.0f3c9a.jpg", "mall_mp4"),
        ("mall.mp4_frame_7.jpg", "mall.mp4"),
    ],
)
def test_frames_name_their_video(name: str, sequence: str) -> None:
    assert sequence_of(name) == sequence


@pytest.mark.parametrize("name", ["crop001001.jpg", "FudanPed00001.png", "IMG_1234.jpg", "street.jpg", "000001.jpg"])
def test_numbered_photographs_are_no_frames(name: str) -> None:
    assert sequence_of(name) is None


def _people(count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(count, dtype=np.bool_)


def test_photographs_are_split_by_image_with_people_in_proportion() -> None:
    has_people = np.arange(50) < 40
    split = plan_split([f"{number:02d}_street.jpg" for number in range(50)], has_people, 0.2, seed=0)
    assert split is not None
    # 0.2 of the 40 with people and 0.2 of the 10 without.
    assert (split.is_validation[:40].sum(), split.is_validation[40:].sum()) == (8, 2)
    assert "by image (seed 0)" in split.rule


def test_same_seed_gives_the_same_split() -> None:
    names = [f"IMG_{number}.jpg" for number in range(50)]
    first, again, other = (plan_split(names, _people(50), 0.2, seed) for seed in (3, 3, 4))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.is_validation.tolist() == again.is_validation.tolist() != other.is_validation.tolist()


@pytest.mark.parametrize("name", ["crop{:06d}.jpg", "photos/IMG_{}.png", "IMG_{}_jpg.rf.{:x}9ab.jpg"])
def test_photographs_with_neighbouring_numbers_are_on_one_side(name: str) -> None:
    # 0.2 of 500 are 100 photographs: five blocks of 20, the longest. Unpadded numbers: 1000 is after 999.
    names = [name.format(number, number) for number in range(900, 1400)]
    order = np.random.default_rng(0).permutation(500)
    split = plan_split([names[index] for index in order], _people(500), 0.2, seed=0)
    assert split is not None
    by_block = split.is_validation[np.argsort(order)].reshape(25, 20)
    assert (by_block.all(axis=1) | ~by_block.any(axis=1)).all()
    assert by_block.all(axis=1).sum() == 5
    assert "5 of 25 blocks" in split.rule


def test_blocks_are_shorter_where_images_are_few_and_end_with_their_series() -> None:
    # 0.2 of 60 are 12 images: five blocks of two. Of the 33 and 27 images of a series, one is left over.
    names = [f"{series}_{number}.jpg" for series, count in (("day", 33), ("night", 27)) for number in range(count)]
    split = plan_split(names, _people(60), 0.2, seed=0)
    assert split is not None
    assert "of 31 blocks" in split.rule
    pairs = [*zip(range(0, 32, 2), range(1, 32, 2), strict=True), *zip(range(33, 59, 2), range(34, 60, 2), strict=True)]
    assert all(split.is_validation[first] == split.is_validation[second] for first, second in pairs)


def test_people_of_one_block_are_split_by_image() -> None:
    # All four images with people are of one block of 20.
    has_people = np.arange(500) < 4
    split = plan_split([f"IMG_{number}.jpg" for number in range(500)], has_people, 0.2, seed=0)
    assert split is not None
    assert split.is_validation[:4].sum() == 1
    assert "by image" in split.rule


@pytest.mark.parametrize("name", ["{:04d}_street.jpg", "street_{0}/{0}.jpg", "{:x}e.jpg"])
def test_names_without_running_numbers_are_split_by_image(name: str) -> None:
    split = plan_split([name.format(number) for number in range(500)], _people(500), 0.2, seed=0)
    assert split is not None
    assert "by image" in split.rule


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_one_video_are_on_one_side(seed: int) -> None:
    names = [f"set00_V{video:03d}_I{frame:05d}.jpg" for video in range(10) for frame in range(8)]
    split = plan_split(names, _people(80), 0.2, seed)
    assert split is not None
    by_video = split.is_validation.reshape(10, 8)
    assert (by_video.all(axis=1) | ~by_video.any(axis=1)).all()
    assert by_video.all(axis=1).sum() == 2  # 16 of 80 frames
    assert "2 of 10 videos" in split.rule


def test_folders_of_numbered_frames_are_videos() -> None:
    names = [f"MOT17-{video:02d}/img1/{frame:06d}.jpg" for video in (2, 4, 5) for frame in range(10)]
    split = plan_split(names, _people(30), 0.3, seed=0)
    assert split is not None
    assert split.is_validation.reshape(3, 10).all(axis=1).sum() == 1
    assert "1 of 3 videos" in split.rule


def test_augmented_copies_of_an_image_are_on_one_side() -> None:
    names = [f"train/IMG_{number}_jpg.rf.{copy}9ab.jpg" for number in range(10) for copy in range(3)]
    split = plan_split(names, _people(30), 0.2, seed=0)
    assert split is not None
    by_original = split.is_validation.reshape(10, 3)
    assert by_original.all(axis=1).sum() == 2  # 6 of 30 images
    assert by_original.any(axis=1).sum() == 2
    assert "2 of 10 original images" in split.rule


def test_single_exports_of_images_are_no_copies() -> None:
    split = plan_split([f"IMG_{number}_jpg.rf.{number}9ab.jpg" for number in range(10)], _people(10), 0.2, seed=0)
    assert split is not None
    assert "by image" in split.rule


def test_folders_of_photographs_are_no_videos() -> None:
    names = [f"{folder}/IMG_{number:04d}.jpg" for folder in ("paris", "rome") for number in range(10)]
    split = plan_split(names, _people(20), 0.2, seed=0)
    assert split is not None
    assert "by image" in split.rule


def test_folders_of_splits_are_no_videos() -> None:
    names = [f"{folder}/{number:06d}.jpg" for folder in ("train", "val") for number in range(10)]
    split = plan_split(names, _people(20), 0.2, seed=0)
    assert split is not None
    assert "by image" in split.rule


def test_single_video_ends_with_the_validation_images() -> None:
    # Unpadded numbers: 10 is after 9.
    names = [f"frame{number}.jpg" for number in range(20)]
    split = plan_split(names, _people(20), 0.2, seed=0)
    assert split is not None
    assert np.flatnonzero(split.is_validation).tolist() == [16, 17, 18, 19]
    assert "last frames" in split.rule


def test_video_with_people_is_on_each_side() -> None:
    # Only two of five videos have people: every seed must separate these two.
    names = [f"set00_V{video:03d}_I{frame:05d}.jpg" for video in range(5) for frame in range(4)]
    has_people = np.repeat([True, False, True, False, False], 4)
    for seed in range(5):
        split = plan_split(names, has_people, 0.2, seed)
        assert split is not None
        assert has_people[split.is_validation].any()
        assert has_people[~split.is_validation].any()


def test_both_sides_get_an_image_with_people() -> None:
    split = plan_split(["a.jpg", "b.jpg", "c.jpg"], np.array([True, False, True]), 0.01, seed=0)
    assert split is not None
    assert (split.is_validation & np.array([True, False, True])).sum() == 1


def test_one_image_with_people_cannot_be_split() -> None:
    assert plan_split(["a.jpg", "b.jpg"], np.array([True, False]), 0.5, seed=0) is None
