"""Counts and changes of a conversion, and their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hkd.terminal_text import printable

UNLABELLED = "no label"
"""Label in the summary of ignored boxes that have no class."""


@dataclass(frozen=True)
class ConversionSummary:
    """Counts over all splits of a conversion; ``str()`` is the text that the command prints."""

    images: int
    boxes: int
    ignored: int
    """Boxes that count neither for nor against a detector."""
    ignored_by_label: Mapping[str, int]
    """``ignored`` by the data set's class of the box, most frequent first."""
    changes: tuple[str, ...]
    """Changes to the data, such as clipped or dropped boxes, one sentence each."""
    paths: tuple[Path, ...]
    """The annotation files, in the order of the splits."""

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
