"""Where a folder in COCO's layout has its annotation files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hkd.data.conversion.splits import WHOLE_SET
from hkd.image_files.listing import is_hidden

_PREFIX = re.compile(r"^(instances|person_keypoints)_")
_OTHER_TASKS = ("captions_", "stuff_", "panoptic_", "image_info_")
_UNNAMED = frozenset({"result", "labels", "_annotations.coco", "annotations", "coco"})
PATTERNS = (
    "annotations/instances_*.json",
    "annotations/person_keypoints_*.json",
    "annotations/*.json",
    "*/_annotations.coco.json",
    "*/labels.json",
    "*/annotations.json",
    "*.json",
)
"""Of annotation files; those of the first that fits are read."""


@dataclass(frozen=True)
class AnnotationFile:
    """One annotation file."""

    split: str
    path: Path


def find_annotation_files(root: Path) -> list[AnnotationFile]:
    """The annotation files of the first layout that the folder has; one per split.

    The layouts are COCO's ``annotations/instances_SPLIT.json`` (also CVAT's ``instances_default.json``), its
    ``annotations/person_keypoints_SPLIT.json``, other files in ``annotations``, Roboflow's
    ``SPLIT/_annotations.coco.json``, FiftyOne's ``SPLIT/labels.json``, and files in the folder itself, such as Label
    Studio's ``result.json``.
    """
    for pattern in PATTERNS:
        files = [
            path
            for path in sorted(root.glob(pattern))
            if not is_hidden(path.relative_to(root))
            and not path.name.startswith(_OTHER_TASKS)
            and path.suffix == ".json"
        ]
        if files:
            return [AnnotationFile(_split_name(path, root), path) for path in files]
    return []


def hidden_files(root: Path) -> list[str]:
    """Hidden files, relative to the root, that would be annotation files by their place and ending."""
    found = {path.relative_to(root) for pattern in PATTERNS for path in root.glob(pattern)}
    return sorted(path.as_posix() for path in found if is_hidden(path))


def _split_name(path: Path, root: Path) -> str:
    name = _PREFIX.sub("", path.stem)
    if name not in _UNNAMED:
        return name
    return WHOLE_SET if path.parent in (root, root / "annotations") else path.parent.name
