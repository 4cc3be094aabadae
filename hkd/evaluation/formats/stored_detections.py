"""The detections of one evaluation with their outcomes, as a small ``.safetensors`` file.

With the outcomes and the number of people per image, miss rates can be resampled without ground truth and images. The
ranking ends where every subset has :data:`STORED_FPPI` times as many false positives per image as the protocol reads
at. Detections beyond change no MR^-2, nor that of a resample unless it draws the images with false positives far more
rarely than the others.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hkd.bounded_files import read_bounded
from hkd.coco.boxes import FloatArray, IntArray
from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth
from hkd.evaluation.matching import FALSE_POSITIVE, LEFT_OUT, TRUE_POSITIVE, Matches, match
from hkd.evaluation.protocols import Protocol

STORED_FPPI: Final = 3
"""See above."""
FORMAT: Final = "hkd.stored_detections.1"
LARGEST_BYTES: Final = 256 << 20
LARGEST_NUMBER_OF_IMAGES: Final = 100_000
"""Of a file that is read: bounds the time of resampling."""
_HEADER = "header"
_KINDS: Final = {
    _HEADER: ("uint8", 1),
    "image_ids": ("int64", 1),
    "image_index": ("int32", 1),
    "boxes_xywh": ("float32", 2),
    "scores": ("float32", 1),
    "outcomes": ("int8", 2),
    "counted_per_image": ("int32", 2),
}
"""Of each array: type and number of dimensions."""


class StoredDetectionsError(ValueError):
    """A file of stored detections that cannot be used."""


@dataclass(frozen=True, eq=False)
class StoredDetections:
    """D detections, best score first, on I images, with their outcomes in the S subsets of a protocol."""

    protocol: str
    """Its name."""
    subsets: tuple[str, ...]
    """(S,) names."""
    fppi_points: tuple[float, ...]
    miss_rate_floor: float
    num_detections: int
    """Detections before the ranking was cut."""
    image_ids: IntArray
    """(I,) ascending: of the ground truth."""
    image_index: IntArray
    """(D,) position of each detection's image in ``image_ids``."""
    boxes_xywh: FloatArray
    """(D, 4) pixels of the original image, rounded to float32."""
    scores: FloatArray
    """(D,) rounded to float32."""
    outcomes: npt.NDArray[np.int8]
    """(S, D) of :mod:`hkd.evaluation.matching`."""
    counted_per_image: IntArray
    """(S, I) number of ground-truth boxes that count."""

    def matches(self, subset: str) -> Matches:
        """The outcomes in one subset, for :func:`hkd.evaluation.bootstrap.resample_outcomes`."""
        row = [self.subsets.index(subset)]
        return Matches(self.outcomes[row], np.arange(len(self.scores)), self.image_index, self.counted_per_image[row])

    def has_same_truth(self, other: StoredDetections, subset: str) -> bool:
        """Whether both were evaluated on the same images and people, so that they can be compared in a subset."""
        return (
            self.fppi_points == other.fppi_points
            and self.miss_rate_floor == other.miss_rate_floor
            and np.array_equal(self.image_ids, other.image_ids)
            and np.array_equal(
                self.counted_per_image[self.subsets.index(subset)], other.counted_per_image[other.subsets.index(subset)]
            )
        )


def stored_detections(truth: GroundTruth, boxes: DetectedBoxes, protocol: Protocol) -> StoredDetections:
    """Match detections with ground truth, and keep what resampling needs."""
    matches = match(truth, boxes, protocol)
    limit = STORED_FPPI * max(protocol.fppi_points) * len(truth.image_ids)
    false_positives = np.cumsum(matches.outcomes == FALSE_POSITIVE, axis=1)
    kept = int(np.searchsorted(false_positives.min(axis=0), limit, side="right"))
    order = matches.order[:kept]
    return StoredDetections(
        protocol=protocol.name,
        subsets=tuple(subset.name for subset in protocol.subsets),
        fppi_points=tuple(map(float, protocol.fppi_points)),
        miss_rate_floor=float(protocol.miss_rate_floor),
        num_detections=len(boxes.scores),
        image_ids=truth.image_ids,
        image_index=matches.image_index[:kept],
        boxes_xywh=boxes.boxes_xywh[order],
        scores=boxes.scores[order],
        outcomes=matches.outcomes[:, :kept],
        counted_per_image=matches.counted_per_image,
    )


def encode_detections(stored: StoredDetections) -> bytes:
    """The content of a file that :func:`read_stored_detections` reads."""
    header = {
        "format": FORMAT,
        "protocol": stored.protocol,
        "subsets": stored.subsets,
        "fppi_points": stored.fppi_points,
        "miss_rate_floor": stored.miss_rate_floor,
        "num_detections": stored.num_detections,
    }
    arrays = {name: getattr(stored, name) for name in _KINDS if name != _HEADER}
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    return save({name: np.ascontiguousarray(arrays[name], dtype=dtype) for name, (dtype, _) in _KINDS.items()})


def read_stored_detections(path: Path) -> StoredDetections:
    """Read a file of :func:`encode_detections`, which may be damaged or foreign; nothing is unpickled.

    Raises:
        StoredDetectionsError: naming the file and what is wrong.
    """
    try:
        arrays = load(read_bounded(path, LARGEST_BYTES))
        return _parse(arrays)
    except StoredDetectionsError as error:
        raise StoredDetectionsError(f"{path}: {error}") from None
    # KeyError and AttributeError: types that numpy does not have.
    except (SafetensorError, OSError, KeyError, AttributeError, ValueError, TypeError, RecursionError) as error:
        raise StoredDetectionsError(f"{path}: not readable as stored detections ({str(error)[:200]})") from error


def _parse(arrays: dict[str, npt.NDArray[Any]]) -> StoredDetections:
    wrong = [
        name
        for name, (dtype, dimensions) in _KINDS.items()
        if name not in arrays or arrays[name].dtype.name != dtype or arrays[name].ndim != dimensions
    ]
    if wrong:
        raise StoredDetectionsError(f"arrays are missing or of another type: {', '.join(wrong)}")
    header = json.loads(arrays[_HEADER].tobytes())
    if header.get("format") != FORMAT:
        raise StoredDetectionsError(f"its format is not {FORMAT}, which this version of hkd reads")
    stored = StoredDetections(
        protocol=str(header["protocol"]),
        subsets=tuple(map(str, header["subsets"])),
        fppi_points=tuple(map(float, header["fppi_points"])),
        miss_rate_floor=float(header["miss_rate_floor"]),
        num_detections=int(header["num_detections"]),
        image_ids=arrays["image_ids"],
        image_index=arrays["image_index"].astype(np.int64),
        boxes_xywh=arrays["boxes_xywh"].astype(np.float64),
        scores=arrays["scores"].astype(np.float64),
        outcomes=arrays["outcomes"],
        counted_per_image=arrays["counted_per_image"].astype(np.int64),
    )
    problem = _problem(stored)
    if problem is not None:
        raise StoredDetectionsError(problem)
    return stored


def _problem(stored: StoredDetections) -> str | None:
    num_images, num_detections, num_subsets = len(stored.image_ids), len(stored.scores), len(stored.subsets)
    if not 0 < num_images <= LARGEST_NUMBER_OF_IMAGES:
        return f"it is of {num_images} images; allowed are 1 to {LARGEST_NUMBER_OF_IMAGES}"
    found = (stored.image_index.shape, stored.boxes_xywh.shape, stored.outcomes.shape, stored.counted_per_image.shape)
    if found != ((num_detections,), (num_detections, 4), (num_subsets, num_detections), (num_subsets, num_images)):
        return f"its arrays do not fit each other: {found}"
    points = stored.fppi_points
    if not 0 < len(points) <= 1000 or not all(0 < each < math.inf for each in points) or list(points) != sorted(points):
        return "fppi_points are not positive and ascending"
    if not 0 <= stored.miss_rate_floor <= 1:
        return f"miss_rate_floor is {stored.miss_rate_floor}, outside [0, 1]"
    if not ((stored.image_index >= 0) & (stored.image_index < num_images)).all():
        return "detections are on unknown images"
    if not (np.isfinite(stored.boxes_xywh).all() and np.isfinite(stored.scores).all()):
        return "boxes or scores are not finite"
    if not np.isin(stored.outcomes, (TRUE_POSITIVE, FALSE_POSITIVE, LEFT_OUT)).all():
        return "outcomes are not -1, 0 or 1"
    found_people = (stored.outcomes == TRUE_POSITIVE).sum(axis=1)
    if (stored.counted_per_image < 0).any() or (found_people > stored.counted_per_image.sum(axis=1)).any():
        return "more people are detected than there are"
    return None
