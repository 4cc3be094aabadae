"""What a reader or a converter left out, changed or interpreted, countable by programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

NoteKind = Literal[
    "boxes_without_area",
    "boxes_outside_image",
    "boxes_clipped",
    "boxes_of_other_categories",
    "boxes_of_other_shapes",
    "boxes_of_unknown_classes",
    "boxes_from_polygons",
    "boxes_in_other_units",
    "boxes_repeated",
    "boxes_of_ignored_categories",
    "detections_of_other_categories",
    "detections_of_category_1",
    "detections_of_other_images",
    "detections_without_area",
    "detections_matched_by_name",
    "detections_in_other_units",
    "detections_repeated",
    "duplicate_boxes",
    "heights_of_images",
    "visible_parts_adjusted",
    "image_ids_ambiguous",
    "images_repeated",
    "images_turned_upright",
    "images_without_labels",
    "images_missing",
    "images_excluded",
    "images_found_elsewhere",
    "images_in_both_splits",
    "files_hidden",
    "files_not_listed",
    "files_missing",
    "files_without_annotations",
    "annotations_not_read",
    "categories_not_found",
    "scores_as_text",
    "files_replaced",
    "sequences_repeated",
    "validation_sequences",
    "labels_beside_images",
    "corners_interpreted",
    "sizes_swapped",
    "splits_missing",
    "split_at_random",
    "other",
]
"""Kinds of :class:`Note`; ``hkd data --report`` writes them, so that a kind keeps its name."""


@dataclass(frozen=True)
class Note:
    """One kind of thing that was left out, changed or interpreted, and how often."""

    kind: NoteKind
    count: int
    """How many boxes, images, detections or files, as the kind says."""
    sentence: str
    """For people; it has the count and an example."""
    examples: tuple[str, ...] = ()
    """The first few, as ``file, line`` or ``image, box``."""
    split: str | None = None
    """Split of a data set; None: the whole set, or a single file."""

    def __str__(self) -> str:
        return self.sentence if self.split is None else f"{self.split}: {self.sentence}"

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: ``1 image``, ``1,200 images``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


EXAMPLES_KEPT = 5
"""How many examples a note keeps."""


def counted_note(kind: NoteKind, found: Sequence[str], sentence: str, split: str | None = None) -> list[Note]:
    """A list of one note on the things ``found``, or of none.

    Args:
        kind: of the note.
        found: each thing, described.
        sentence: with ``{count}`` and ``{first}`` for the number of things and the first one.
        split: see :attr:`Note.split`.
    """
    if not found:
        return []
    text = sentence.replace("{count}", f"{len(found):,}").replace("{first}", found[0])
    return [Note(kind, len(found), text, tuple(found[:EXAMPLES_KEPT]), split)]
