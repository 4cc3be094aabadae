"""Counts and changes of a conversion, and their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hkd.coco.notes import Note
from hkd.text.escaping import printable

UNLABELLED = "no label"
"""Label in the summary of ignored boxes that have no class."""


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split."""

    name: str
    path: Path
    """The annotation file."""
    images: int
    images_without_boxes: int
    boxes: int
    ignored: int
    """Boxes that count neither for nor against a detector."""
    ignored_by_label: Mapping[str, int]
    """``ignored`` by the data set's class of the box, most frequent first."""


@dataclass(frozen=True)
class ConversionSummary:
    """Counts over all splits of a conversion; ``str()`` is the text that the command prints."""

    splits: tuple[SplitSummary, ...]

    images: int
    boxes: int
    ignored: int
    """Boxes that count neither for nor against a detector."""
    ignored_by_label: Mapping[str, int]
    """``ignored`` by the data set's class of the box, most frequent first."""
    notes: tuple[Note, ...]
    """What was changed, interpreted or left out, such as clipped or dropped boxes."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The annotation files, in the order of the splits."""
        return tuple(split.path for split in self.splits)

    @property
    def changes(self) -> tuple[str, ...]:
        """The notes as sentences."""
        return tuple(map(str, self.notes))

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for JSON: what ``hkd data --report`` writes."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "ignored": self.ignored,
            "ignored_by_label": dict(self.ignored_by_label),
            "splits": [asdict(split) | {"path": str(split.path)} for split in self.splits],
            "notes": [note.to_json() for note in self.notes],
        }

    def __str__(self) -> str:
        lines = [f"{self.images} images, {self.boxes} boxes, {self.ignored} of them ignored"]
        if self.ignored_by_label and set(self.ignored_by_label) != {UNLABELLED}:
            labels = {printable(label): count for label, count in self.ignored_by_label.items()}
            widest_label = max(map(len, labels))
            widest_count = len(str(max(self.ignored_by_label.values())))
            lines += [
                f"  ignored as {label:<{widest_label}}  {count:>{widest_count}}" for label, count in labels.items()
            ]
        return "\n".join([*lines, *map(printable, self.changes), *(printable(f"wrote {path}") for path in self.paths)])


def format_counts(counts: Counter[str], unit: str) -> str:
    """The five most frequent names with their counts, and the number of the others."""
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common(5))
    return f"{listed} and {len(counts) - 5} more {unit}" if len(counts) > 5 else listed
