"""Which frames are for training and which for testing: KAIST's lists, such as ``imageSets/train-all-02.txt``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_input
from hkd.coco.parsing.values import shown
from hkd.data.sources.caltech.files import FrameKey, frame_of_path

FIRST_TEST_SET, LAST_SET = 6, 11
TRAIN_STEP: Final = 2
"""``train-all-02`` has every second frame of sets 00 to 05: 1, 3, 5, ..."""
TEST_STEP: Final = 20
"""``test-all-20`` has every 20th frame of sets 06 to 11: 19, 39, 59, ..."""


def is_train_frame(key: FrameKey) -> bool:
    """Whether a frame is in ``train-all-02``."""
    return key[0] < FIRST_TEST_SET and (key[2] + 1) % TRAIN_STEP == 0


def is_test_frame(key: FrameKey) -> bool:
    """Whether a frame is in ``test-all-20``."""
    return FIRST_TEST_SET <= key[0] <= LAST_SET and (key[2] + 1) % TEST_STEP == 0


def read_frame_list(path: Path) -> list[FrameKey]:
    """The frames of a list, sorted by set, video and frame.

    Lines are ``set00/V000/I00001`` or ``set00_V000_I00001``, also with folders and an ending.

    Raises:
        AnnotationError: the file cannot be read, has another content, or names no frame.
    """
    try:
        lines = read_input(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AnnotationError(["it is not UTF-8 text; name a list of frames"], str(path)) from error
    keys = [(number, frame_of_name(line.strip())) for number, line in enumerate(lines, 1) if line.strip()]
    problems = [
        f"line {number}: found {shown(lines[number - 1][:80])}; it must be a frame, as set00/V000/I00001"
        for number, key in keys
        if key is None
    ]
    problems += _repeated((number, key) for number, key in keys if key is not None)
    if not keys:
        problems.append("it names no frame; each line must be one, as set00/V000/I00001")
    if problems:
        raise AnnotationError(problems, str(path))
    return sorted(key for _, key in keys if key is not None)


def frame_of_name(name: str) -> FrameKey | None:
    """Frame of a name as in lists of frames; ``None`` for others."""
    path = PurePosixPath(name.replace("\\", "/"))
    is_image = path.suffix.lower() in (".jpg", ".jpeg", ".png", ".xml", ".txt")
    return frame_of_path(Path(path if is_image else f"{path}.jpg"), ("visible", "lwir"))


def _repeated(keys: Iterable[tuple[int, FrameKey]]) -> list[str]:
    first: dict[FrameKey, int] = {}
    problems = []
    for number, key in keys:
        if key in first:
            problems.append(f"line {number}: the frame is in line {first[key]} already; remove one of the two")
        first.setdefault(key, number)
    return problems
