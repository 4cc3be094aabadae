"""A detector's detections as annotations of images that have none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from hkd import metric_names as names
from hkd.coco.annotations import Annotations
from hkd.coco.boxes import BoolArray
from hkd.coco.detections import DetectedBoxes
from hkd.coco.notes import counted
from hkd.coco.parsing.values import is_finite
from hkd.coco.writing import annotation_document
from hkd.evaluation.score_thresholds import ScoreThresholds

INFO = "pseudo_labels"
"""Key under ``info`` of the summary."""


@dataclass(frozen=True)
class LabelSummary:
    """How many labels there are, and by which scores they were selected."""

    thresholds: ScoreThresholds
    num_images: int
    num_people: int
    num_ignored: int
    """Ignore regions."""
    num_empty_images: int
    """Images with neither."""
    num_left_out: int = 0
    """Of people and ignore regions, those of the lowest scores in images that have more than the allowed number."""

    def __str__(self) -> str:
        left_out = ""
        if self.num_left_out:
            left_out = f", {counted(self.num_left_out, 'box', 'boxes')} left out beyond data.max_objects_per_image"
        return (
            f"{counted(self.num_people, 'person', 'people')} and {counted(self.num_ignored, 'ignore region')} in"
            f" {counted(self.num_images, 'image')} ({self.num_empty_images:,} with neither){left_out};"
            f" {self.thresholds}"
        )

    def as_metrics(self) -> dict[str, float]:
        """The numbers by metric name; those without a value are left out."""
        thresholds = self.thresholds
        values = {
            names.LABELS_OBJECT_SCORE: thresholds.object_score,
            names.LABELS_IGNORED_SCORE: thresholds.ignored_score,
            names.LABELS_PRECISION: thresholds.object_precision,
            names.LABELS_RECALL: thresholds.object_recall,
            names.LABELS_IMAGES: float(self.num_images),
            names.LABELS_PEOPLE: float(self.num_people),
            names.LABELS_IGNORED: float(self.num_ignored),
            names.LABELS_EMPTY_IMAGES: float(self.num_empty_images),
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """The summary in a document of :func:`label_document`.

        Raises:
            ValueError: it has none.
        """
        try:
            raw = dict(document["info"][INFO])
            scores = dict(raw.pop("thresholds"))
            numbers = [*raw.values(), *(score for score in scores.values() if score is not None)]
            if not all(is_finite(number) for number in numbers):
                raise TypeError("an entry is no number")
            return cls(thresholds=ScoreThresholds(**scores), **raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"has no summary of pseudo-labels ({type(error).__name__}: {error})") from error


def label_document(
    images: Annotations,
    detections: DetectedBoxes,
    thresholds: ScoreThresholds,
    *,
    image_root: str,
    max_per_image: int | None = None,
) -> tuple[dict[str, Any], LabelSummary]:
    """Detections as a COCO document: people, ignore regions, or nothing, by their scores.

    Args:
        images: In ascending order of ids.
        detections: On these images. Each of the document's annotations has its ``score``.
        image_root: Folder of the images, as :func:`hkd.coco.writing.annotation_document` has it.
        max_per_image: Largest number of boxes of an image, ignore regions included; those of the highest scores are
            kept. None: all.
    """
    is_person = detections.scores >= thresholds.object_score
    is_label = is_person | (detections.scores >= thresholds.ignored_score)
    kept = is_label if max_per_image is None else is_label & _among_best(detections, max_per_image)
    image_ids = images.image_ids()
    annotations = [
        {"image_id": image_id, "bbox": box, "ignore": int(not person), "score": score}
        for image_id, box, person, score in zip(
            image_ids[detections.image_index[kept]].tolist(),
            detections.boxes_xywh[kept].tolist(),
            is_person[kept].tolist(),
            detections.scores[kept].tolist(),
            strict=True,
        )
    ]
    summary = LabelSummary(
        thresholds=thresholds,
        num_images=len(image_ids),
        num_people=int((kept & is_person).sum()),
        num_ignored=int((kept & ~is_person).sum()),
        num_empty_images=len(image_ids) - len(np.unique(detections.image_index[kept])),
        num_left_out=int((is_label & ~kept).sum()),
    )
    records = [
        {"id": image.image_id, "file_name": image.file_name, "height": image.height, "width": image.width}
        for image in images.images
    ]
    document = annotation_document(records, annotations, image_root)
    document["info"][INFO] = asdict(summary)
    return document, summary


def _among_best(detections: DetectedBoxes, count: int) -> BoolArray:
    """Whether each detection is among the ``count`` of highest scores in its image."""
    order = np.lexsort((-detections.scores, detections.image_index))
    sorted_images = detections.image_index[order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(sorted_images, sorted_images)
    return rank < count
