"""A split into training and validation images that keeps together what is nearly the same.

That is frames of a video, augmented copies of an image, and photographs taken one after another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from hkd.coco.boxes import BoolArray

_FRAME_NAMES = (
    # Caltech: set00_V000_I00029, and the same as folders.
    re.compile(r"(?P<sequence>.*set\d+[_/]V\d+)[_/]I?\d+"),
    # Cityscapes and its followers: aachen_000000_000019_leftImg8bit.
    re.compile(r"(?P<sequence>.*_\d{6})_\d{6}(?:_[A-Za-z]\w*)?"),
    # Frames that a labelling tool extracted: walk_mp4-12_jpg.rf.0f3c..., walk.mp4_000012.
    re.compile(r"(?P<sequence>.*[._](?:mp4|avi|mov|mkv))[-_]\D{0,8}\d+.*", re.IGNORECASE),
    re.compile(r"(?P<sequence>.*?)(?:frame|frm)[-_ ]*\d+(?:_jpe?g.*|_png.*)?", re.IGNORECASE),
)
_NUMBER_IN_FOLDER = re.compile(r"(?P<folder>.+)/(?:I|im|img)?\d+", re.IGNORECASE)
# Roboflow's augmented copies of one image: street_jpg.rf.0f3c..., street_jpg.rf.91ab...
_COPY = re.compile(r"(?P<original>.+)\.rf\.[0-9A-Za-z]+")
# IMG_1234, crop001001, 000001, and exports of Roboflow: IMG_1234_jpg.rf.0f3c...
_NUMBERED = re.compile(r"(?P<series>.*?)(?P<number>[0-9]{1,18})(?:_(?:jpe?g|png)\.rf\.[0-9A-Za-z]+)?", re.DOTALL)
_SPLIT_FOLDERS = re.compile(r"(train|training|val|valid|validation|test|testing|images?|jpe?gimages)\d*", re.IGNORECASE)
_MOST_NAMES = 0.9
"""Fraction of the names that must have the form of frames, or end with a number."""
_LONGEST_BLOCK = 20
"""Photographs with neighbouring numbers that stay together ..."""
_FEWEST_BLOCKS = 5
"""... and at least so many such blocks for validation, so that it shows several scenes."""
_MOST_BLOCKS = 0.75
"""Blocks per image, above which the numbers mean nothing: nearly every image has its own series."""
_ATTEMPTS = 100


@dataclass(frozen=True, eq=False)
class PlannedSplit:
    """A split of I images."""

    is_validation: BoolArray
    """(I,)."""
    rule: str
    """How the images were assigned, for the user."""


def plan_split(file_names: Sequence[str], has_people: BoolArray, fraction: float, seed: int) -> PlannedSplit | None:
    """Assign a fraction of the images to validation, at random; the same seed gives the same split.

    Frames of one video (images with names of :func:`sequence_of`) stay together. If all are of one video, its last
    frames are for validation. Augmented copies of one image stay together, too, and blocks of photographs with
    neighbouring numbers, because they often show one scene. Other images are assigned one by one, those with and
    without people in the same proportion.

    Returns:
        None if there is no split with people on both sides.
    """
    if has_people.sum() < 2:
        return None
    if videos := _videos(file_names):
        groups, what, alike = videos, "videos", "neighbouring frames are nearly the same"
    elif copies := _copies(file_names):
        groups, what, alike = copies, "original images", "augmented copies are nearly the same"
    else:
        groups = _blocks(file_names, fraction) or []
        what, alike = "blocks of photographs with neighbouring numbers", "these often show the same scene"
    if videos is not None and len(set(videos)) == 1:
        is_validation = _last_frames(file_names, fraction)
        rule = "the last frames of the one video, so that few neighbouring frames are on both sides"
    elif groups and (chosen := _random_groups(groups, has_people, fraction, seed)) is not None:
        is_validation = chosen
        num_validation = len({group for group, is_in in zip(groups, chosen, strict=True) if is_in})
        rule = f"{num_validation} of {len(set(groups))} {what} at random (seed {seed}), because {alike}"
    elif videos or copies:
        return None
    else:
        is_validation = _random_images(has_people, fraction, seed)
        rule = f"at random by image (seed {seed}); the names show neither videos nor scenes to divide"
    if not has_people[is_validation].any() or not has_people[~is_validation].any():
        return None
    return PlannedSplit(is_validation, rule)


def sequence_of(file_name: str) -> str | None:
    """The video of a frame, from its file's name: ``set00_V000`` of ``set00_V000_I00029.jpg``; None if it has none."""
    path = PurePosixPath(file_name)
    name = path.with_suffix("").as_posix()
    for pattern in _FRAME_NAMES:
        if match := pattern.fullmatch(name):
            return match["sequence"].rstrip("-_./ ")
    return None


def _videos(file_names: Sequence[str]) -> list[str] | None:
    """The video of each image; None if the images are no frames. An image of no video is a video of its own."""
    found = [sequence_of(name) for name in file_names]
    if sum(sequence is not None for sequence in found) >= _MOST_NAMES * len(found):
        return [name if sequence is None else sequence for name, sequence in zip(file_names, found, strict=True)]
    folders = [_numbered_folder(name) for name in file_names]
    known = [folder for folder in folders if folder is not None]
    if len(known) == len(folders) and 2 <= len(set(known)) <= len(known) / 2:
        return known
    return None


def _numbered_folder(file_name: str) -> str | None:
    """The folder of an image whose name is a number, as MOT's ``MOT17-02/img1/000001.jpg``; None if there is none."""
    path = PurePosixPath(file_name)
    match = _NUMBER_IN_FOLDER.fullmatch(path.with_suffix("").as_posix())
    if match is None or (_SPLIT_FOLDERS.fullmatch(path.parent.name) and path.parent.parent == PurePosixPath(".")):
        return None
    return match["folder"]


def _copies(file_names: Sequence[str]) -> list[str] | None:
    """The original of each image; None if there are no augmented copies."""
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in file_names]
    originals = [match["original"] if (match := _COPY.fullmatch(stem)) else stem for stem in stems]
    return originals if len(set(originals)) < len(set(stems)) else None


def _blocks(file_names: Sequence[str], fraction: float) -> list[str] | None:
    """The block of each photograph, of neighbouring numbers; None if the names have none, or the images are few."""
    longest = min(_LONGEST_BLOCK, round(fraction * len(file_names)) // _FEWEST_BLOCKS)
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in file_names]
    matches = [_NUMBERED.fullmatch(stem) for stem in stems]
    if longest < 2 or sum(match is not None for match in matches) < _MOST_NAMES * len(stems):
        return None
    keys = [
        (match["series"], int(match["number"])) if match else (stem, 0)
        for stem, match in zip(stems, matches, strict=True)
    ]
    blocks = list(file_names)
    series, first, length = None, "", 0
    for index in sorted(range(len(keys)), key=lambda index: (keys[index], file_names[index])):
        if keys[index][0] != series or length == longest:
            series, first, length = keys[index][0], file_names[index], 0
        blocks[index] = first
        length += 1
    return blocks if len(set(blocks)) <= _MOST_BLOCKS * len(blocks) else None


def _random_images(has_people: BoolArray, fraction: float, seed: int) -> BoolArray:
    rng = np.random.default_rng(seed)
    is_validation = np.zeros(len(has_people), dtype=np.bool_)
    for group in (np.flatnonzero(has_people), np.flatnonzero(~has_people)):
        count = round(fraction * len(group))
        if has_people[group].any():
            count = min(max(count, 1), len(group) - 1)
        is_validation[rng.permutation(group)[:count]] = True
    return is_validation


def _last_frames(file_names: Sequence[str], fraction: float) -> BoolArray:
    numbers = [[int(digits) for digits in re.findall(r"\d+", name)] for name in file_names]
    order = sorted(range(len(file_names)), key=lambda index: (numbers[index], file_names[index]))
    count = min(max(round(fraction * len(order)), 1), len(order) - 1)
    is_validation = np.zeros(len(order), dtype=np.bool_)
    is_validation[order[-count:]] = True
    return is_validation


def _random_groups(groups: Sequence[str], has_people: BoolArray, fraction: float, seed: int) -> BoolArray | None:
    """Whole groups until the fraction is reached as nearly as they allow; None if none has people on both sides."""
    names, index = np.unique(np.array(groups), return_inverse=True)
    lengths = np.bincount(index)
    wanted = fraction * len(groups)
    rng = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        chosen = np.zeros(len(names), dtype=np.bool_)
        total = 0
        for group in rng.permutation(len(names)).tolist():
            if abs(total + lengths[group] - wanted) < abs(total - wanted):
                chosen[group] = True
                total += int(lengths[group])
        if not chosen.any():
            chosen[lengths.argmin()] = True
        is_validation: BoolArray = chosen[index]
        if has_people[is_validation].any() and has_people[~is_validation].any():
            return is_validation
    return None
