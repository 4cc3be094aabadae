"""A contact sheet of several detectors on the same annotated images: the body of ``hkd draw``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.boxes import BoolArray, FloatArray, IntArray
from hkd.coco.categories import CategoryNames
from hkd.coco.detections import DetectedBoxes
from hkd.coco.parsing.errors import AnnotationError, collected_problems
from hkd.config import EvaluationConfig
from hkd.data.conversion.preview import choose_images
from hkd.data.store import ImageStore, open_store
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.matching import FALSE_POSITIVE, LEFT_OUT, TRUE_POSITIVE, Matches, match
from hkd.evaluation.preparation import PreparedTruth, prepare_ground_truth
from hkd.evaluation.protocols import Protocol
from hkd.files import replace_atomically
from hkd.image_files.contact_sheet import (
    GREEN,
    ORANGE,
    YELLOW,
    arrange,
    captioned,
    draw_box,
    draw_label,
    drawable,
    read_scaled,
)
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError
from hkd.inference.store_detection import detect_store
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import DetectorMetadata, load_detector
from hkd.runtime.device import autocast_dtype, place, resolve_device

_TILE = 360, 300
_CAPTION_HEIGHT = 44
_SHEET_ASPECT_RATIO = 1.5
_PERSON, _IGNORED, _LEFT_OUT = "#ffffff", YELLOW, "#a0a0a0"
_COLOURS: Final = {TRUE_POSITIVE: GREEN, FALSE_POSITIVE: ORANGE, LEFT_OUT: _LEFT_OUT}
_LEGEND = (
    (_PERSON, "person"),
    (_IGNORED, "does not count"),
    (GREEN, "found"),
    (ORANGE, "false"),
    (_LEFT_OUT, "on what does not count"),
)


@dataclass(frozen=True)
class NamedDetector:
    """The weights of one detector."""

    name: str
    weights: Path
    """As hkd saves them, with their architecture."""


@dataclass(frozen=True, eq=False)
class DrawingInputs:
    """What is drawn, read and checked."""

    annotations: Annotations
    protocol: Protocol
    """Its first subset decides what counts."""
    detectors: tuple[tuple[str, Detector, DetectorMetadata], ...]
    """Names, detectors and their input sizes."""


@dataclass(frozen=True, eq=False)
class _Shown:
    """The detections of one detector down to a score."""

    name: str
    lowest_score: float | None
    """None if no detection is shown."""
    boxes: DetectedBoxes
    outcomes: IntArray
    """(D,) outcome of each detection."""
    num_people: IntArray
    """(I,) people that count."""

    def counts(self, position: int) -> str:
        """How many people were found in one image, and how many detections are false."""
        of_image = self.outcomes[self.boxes.image_index == position]
        found, wrong = (int((of_image == outcome).sum()) for outcome in (TRUE_POSITIVE, FALSE_POSITIVE))
        return f"found {found} of {self.num_people[position]}, false: {wrong}"

    def __str__(self) -> str:
        """What is shown of this detector."""
        scores = "shows no detections" if self.lowest_score is None else f"scores from {self.lowest_score:.2f}"
        found = int((self.outcomes == TRUE_POSITIVE).sum())
        return f"{self.name}: {scores}, finds {found:,} of {self.num_people.sum():,} people"


def read_drawing_inputs(
    annotations: Path,
    detectors: Sequence[NamedDetector],
    protocol_name: str,
    *,
    image_root: Path | None = None,
    named: CategoryNames | None = None,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> DrawingInputs:
    """Read and check everything before anything is computed.

    Args:
        annotations: COCO-style JSON of all images; their files must exist.
        detectors: At least one.
        protocol_name: A built-in protocol, or the path of a YAML file.
        image_root: Folder of the images, in place of the one that the file names.
        named: The categories that the user names.
        max_megapixels: Largest number of pixels of an image, in millions.

    Raises:
        AnnotationError: listing the problems of all files.
    """
    assert detectors
    with collected_problems() as collect:
        read = collect(lambda: read_annotations(annotations, image_root, named=named, max_megapixels=max_megapixels))
        protocol = collect(lambda: load_protocol(protocol_name))
        loaded = [collect(partial(_load, detector)) for detector in detectors]
    # Otherwise the problems were raised.
    assert read is not None
    assert protocol is not None
    return DrawingInputs(read, protocol, tuple(one for one in loaded if one is not None))


def _load(named: NamedDetector) -> tuple[str, Detector, DetectorMetadata]:
    try:
        detector, metadata = load_detector(named.weights)
    except CheckpointError as error:
        raise AnnotationError([str(error)]) from error
    return named.name, detector, metadata


def draw_side_by_side(
    inputs: DrawingInputs,
    path: Path,
    *,
    count: int,
    false_positives_per_image: float,
    max_megapixels: float,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Write a PNG of up to ``count`` images, each once per detector, with people, detections and scores in per cent.

    Every detector is shown down to the score at which it makes so many false positives per image, over all images:
    scores of two detectors mean different things. Images are chosen as for previews: those with people that count
    first, evenly spaced.

    Args:
        inputs: Of :func:`read_drawing_inputs`.
        path: PNG file; its folder is created if missing.
        count: At least 1.
        false_positives_per_image: At least 0.
        max_megapixels: Largest number of pixels of an image, in millions.
        on_step: Called with a description of the next step.

    Returns:
        A sentence on each detector.

    Raises:
        AnnotationError: listing the images that do not open.
    """
    annotations, truth = inputs.annotations, inputs.annotations.ground_truth()
    shown = []
    with TemporaryDirectory(prefix="hkd-draw-") as folder:
        for name, detector, metadata in inputs.detectors:
            on_step(f"{name}: detecting in {len(annotations.images):,} images")
            size = metadata.image_height, metadata.image_width
            store = open_store(annotations, *size, Path(folder), progress=False, max_megapixels=max_megapixels)
            boxes = _detect(detector, store, annotations)
            matches = match(truth, boxes, inputs.protocol)
            shown.append(_best(name, boxes, matches, false_positives_per_image * len(annotations.images)))
    on_step("drawing")
    sheet = _sheet(
        annotations,
        prepare_ground_truth(truth, inputs.protocol),
        shown,
        count,
        f"{false_positives_per_image:g} false per image",
        max_megapixels,
    )
    with replace_atomically(path) as partial:
        sheet.save(partial, format="PNG")
    return tuple(map(str, shown))


def _detect(detector: Detector, store: ImageStore, annotations: Annotations) -> DetectedBoxes:
    device = resolve_device("auto")
    dtype = autocast_dtype("auto", device)
    fused = fuse_for_inference(place(detector, device), dtype or torch.float32)
    return detect_store(fused, store, annotations, EvaluationConfig(), device=device, autocast_dtype=dtype)


def _best(name: str, boxes: DetectedBoxes, matches: Matches, allowed: float) -> _Shown:
    """The best detections of a detector, of which at most so many are false positives."""
    kept = _until(matches.outcomes[0] == FALSE_POSITIVE, allowed)
    order = matches.order[:kept]
    return _Shown(
        name,
        float(boxes.scores[order[-1]]) if kept else None,
        DetectedBoxes(boxes.image_index[order], boxes.boxes_xywh[order], boxes.scores[order]),
        matches.outcomes[0][:kept].astype(np.int64),
        matches.counted_per_image[0],
    )


def _until(is_false_positive: BoolArray, allowed: float) -> int:
    """Number of the best detections of which at most so many are false positives."""
    beyond = np.flatnonzero(np.cumsum(is_false_positive) > allowed)
    return int(beyond[0]) if beyond.size else len(is_false_positive)


def _sheet(
    annotations: Annotations,
    truth: PreparedTruth,
    shown: Sequence[_Shown],
    count: int,
    limit: str,
    max_megapixels: float,
) -> Image.Image:
    ids = np.sort(annotations.image_ids())
    tiles = []
    problems: list[str] = []
    chosen = choose_images(annotations, count)
    for index in chosen:
        image = annotations.images[index]
        file = annotations.image_root / image.file_name
        try:
            picture, scale = read_scaled(file, (image.width, image.height), _TILE, max_megapixels)
        except (OSError, ImageFileError) as error:
            problems.append(f"image {image.image_id} '{file}' cannot be drawn: it {error}")
            continue
        position = int(np.searchsorted(ids, image.image_id))
        is_of_image = truth.image_index == position
        people = truth.boxes_xywh[is_of_image], truth.counting[0, is_of_image]
        for each in shown:
            drawn = _draw(picture.copy(), scale, people, each, position)
            captions = [f"{drawable(each.name, 24)}: {each.counts(position)}", drawable(image.file_name, 44)]
            tiles.append(captioned(drawn, _TILE, captions, _CAPTION_HEIGHT))
    if problems:
        raise AnnotationError(problems, str(annotations.path))
    names = " | ".join(drawable(each.name, 24) for each in shown)
    title = f"{names}  {len(chosen)} of {len(annotations.images)} images, {limit}"
    return arrange(tiles, title, _LEGEND, columns=len(shown) * _images_in_row(len(chosen), len(shown)))


def _images_in_row(num_images: int, num_detectors: int) -> int:
    width, height = _TILE[0] * num_detectors, _TILE[1] + _CAPTION_HEIGHT
    return min(num_images, max(1, round(math.sqrt(_SHEET_ASPECT_RATIO * num_images * height / width))))


def _draw(
    picture: Image.Image,
    scale: float,
    people: tuple[FloatArray, BoolArray],
    shown: _Shown,
    position: int,
) -> Image.Image:
    """Draw people (boxes, and which of them count), then detections over them, better scores over lower ones."""
    draw = ImageDraw.Draw(picture)
    for box, counts in sorted(zip(people[0].tolist(), people[1].tolist(), strict=True), key=lambda one: one[1]):
        draw_box(draw, box, scale, _PERSON if counts else _IGNORED, _TILE, line=1)
    of_image = np.flatnonzero(shown.boxes.image_index == position)[::-1]
    boxes = shown.boxes.boxes_xywh.tolist()
    for row in of_image.tolist():
        draw_box(draw, boxes[row], scale, _COLOURS[int(shown.outcomes[row])], _TILE)
    for row in of_image.tolist():
        label = f"{100 * shown.boxes.scores[row]:.0f}"
        draw_label(draw, boxes[row], scale, label, _COLOURS[int(shown.outcomes[row])], picture.width)
    return picture
